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
  %9 = "ropegen.pack"(%3, %4, %5) : (tensor<4096x4096xbf16>, tensor<4096x1024xbf16>, tensor<4096x1024xbf16>) -> tensor<4096x6144xbf16>
  %10 = "ropegen.project"(%8, %9) : (tensor<1x2048x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x2048x6144xbf16>
  %11 = "ropegen.split_heads"(%10) {heads = 32 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x32x128xbf16>
  %12 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %13 = "ropegen.angles"(%12) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 5.000000e+05 : f64} : (tensor<2048xi32>) -> tensor<2048x128xf32>
  %14 = "ropegen.rotate"(%11, %13) {pairing = "half"} : (tensor<1x2048x32x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x32x128xbf16>
  %15 = "ropegen.split_heads"(%10) {heads = 8 : i64, start = 4096 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x128xbf16>
  %16 = "ropegen.rotate"(%15, %13) {pairing = "half"} : (tensor<1x2048x8x128xbf16>, tensor<2048x128xf32>) -> tensor<1x2048x8x128xbf16>
  %17 = "ropegen.split_heads"(%10) {heads = 8 : i64, start = 5120 : i64, width = 128 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x128xbf16>
  %18 = "ropegen.attend"(%14, %16, %17, %12, %12) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x32x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x32x128xbf16>
  %19 = "ropegen.merge_heads"(%18) : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
  %20 = "ropegen.project"(%19, %6) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%20) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
