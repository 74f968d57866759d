module attributes {ropegen.name = "llama-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<128256x4096xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<4096xbf16>
  %3 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %4 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %5 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %6 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %7 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<128256x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %8 = "ropegen.norm"(%7, %2) {epsilon = 1.000000e-05 : f64, given = ["weight"], kind = "rms"} : (tensor<1x2048x4096xbf16>, tensor<4096xbf16>) -> tensor<1x2048x4096xbf16>
  %9 = "ropegen.project"(%8, %3) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %10 = "ropegen.split_heads"(%9) {heads = 32 : i64, width = 128 : i64} : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x32x128xbf16>
  %11 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %12 = "ropegen.angles"(%11) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 5.000000e+05 : f64} : (tensor<2048xi32>) -> tensor<2048x128xf32>
  %13 = "ropegen.rotate"(%10, %12) {pairing = "half"} : (tensor<1x2048x32x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x32x128xbf16>
  %14 = "ropegen.project"(%8, %4) : (tensor<1x2048x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x2048x1024xbf16>
  %15 = "ropegen.split_heads"(%14) {heads = 8 : i64, width = 128 : i64} : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
  %16 = "ropegen.rotate"(%15, %12) {pairing = "half"} : (tensor<1x2048x8x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x8x128xbf16>
  %17 = "ropegen.project"(%8, %5) : (tensor<1x2048x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x2048x1024xbf16>
  %18 = "ropegen.split_heads"(%17) {heads = 8 : i64, width = 128 : i64} : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
  %19 = "ropegen.attend"(%13, %16, %18, %11, %11) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x32x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x32x128xbf16>
  %20 = "ropegen.merge_heads"(%19) : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
  %21 = "ropegen.project"(%20, %6) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%21) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
