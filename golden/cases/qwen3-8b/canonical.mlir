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
  %11 = "ropegen.pack"(%3, %4, %5) : (tensor<4096x4096xbf16>, tensor<4096x1024xbf16>, tensor<4096x1024xbf16>) -> tensor<4096x6144xbf16>
  %12 = "ropegen.project"(%10, %11) : (tensor<1x2048x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x2048x6144xbf16>
  %13 = "ropegen.split_heads"(%12) {heads = 32 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x32x128xbf16>
  %14 = "ropegen.norm"(%13, %6) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x32x128xbf16>, tensor<128xbf16>) -> tensor<1x2048x32x128xbf16>
  %15 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %16 = "ropegen.angles"(%15) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 1.000000e+06 : f64} : (tensor<2048xi32>) -> tensor<2048x128xf32>
  %17 = "ropegen.rotate"(%14, %16) {pairing = "half"} : (tensor<1x2048x32x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x32x128xbf16>
  %18 = "ropegen.split_heads"(%12) {heads = 8 : i64, start = 4096 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x128xbf16>
  %19 = "ropegen.norm"(%18, %7) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x8x128xbf16>, tensor<128xbf16>) -> tensor<1x2048x8x128xbf16>
  %20 = "ropegen.rotate"(%19, %16) {pairing = "half"} : (tensor<1x2048x8x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x8x128xbf16>
  %21 = "ropegen.split_heads"(%12) {heads = 8 : i64, start = 5120 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x128xbf16>
  %22 = "ropegen.attend"(%17, %20, %21, %15, %15) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x32x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x32x128xbf16>
  %23 = "ropegen.merge_heads"(%22) : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
  %24 = "ropegen.project"(%23, %8) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%24) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
