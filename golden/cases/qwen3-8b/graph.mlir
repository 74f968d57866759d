module attributes {ropegen.name = "qwen3-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<151936x4096xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<4096xbf16>
  %3 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %4 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %5 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %6 = "ropegen.input"() {label = "q_norm", role = "parameter"} : () -> tensor<128xbf16>
  %7 = "ropegen.input"() {label = "k_norm", role = "parameter"} : () -> tensor<128xbf16>
  %8 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %9 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<151936x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %10 = "ropegen.norm"(%9, %2) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x4096xbf16>, tensor<4096xbf16>) -> tensor<1x2048x4096xbf16>
  %11 = "ropegen.project"(%10, %3) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %12 = "ropegen.split_heads"(%11) {heads = 32 : i64, width = 128 : i64} : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x32x128xbf16>
  %13 = "ropegen.norm"(%12, %6) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x32x128xbf16>, tensor<128xbf16>) -> tensor<1x2048x32x128xbf16>
  %14 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %15 = "ropegen.angles"(%14) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 1.000000e+06 : f64} : (tensor<2048xi32>) -> tensor<2048x128xf32>
  %16 = "ropegen.rotate"(%13, %15) {pairing = "half"} : (tensor<1x2048x32x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x32x128xbf16>
  %17 = "ropegen.project"(%10, %4) : (tensor<1x2048x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x2048x1024xbf16>
  %18 = "ropegen.split_heads"(%17) {heads = 8 : i64, width = 128 : i64} : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
  %19 = "ropegen.norm"(%18, %7) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x8x128xbf16>, tensor<128xbf16>) -> tensor<1x2048x8x128xbf16>
  %20 = "ropegen.rotate"(%19, %15) {pairing = "half"} : (tensor<1x2048x8x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x8x128xbf16>
  %21 = "ropegen.project"(%10, %5) : (tensor<1x2048x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x2048x1024xbf16>
  %22 = "ropegen.split_heads"(%21) {heads = 8 : i64, width = 128 : i64} : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
  %23 = "ropegen.attend"(%16, %20, %22, %14, %14) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x32x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x32x128xbf16>
  %24 = "ropegen.merge_heads"(%23) : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
  %25 = "ropegen.project"(%24, %8) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%25) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
