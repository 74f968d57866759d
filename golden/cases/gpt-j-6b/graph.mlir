module attributes {ropegen.name = "gptj-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<50400x4096xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<4096xbf16>
  %3 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<4096xbf16>
  %4 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %5 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %6 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %7 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %8 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<50400x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %9 = "ropegen.norm"(%8, %2, %3) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x2048x4096xbf16>, tensor<4096xbf16>, tensor<4096xbf16>) -> tensor<1x2048x4096xbf16>
  %10 = "ropegen.project"(%9, %4) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %11 = "ropegen.split_heads"(%10) {heads = 16 : i64, width = 256 : i64} : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
  %12 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %13 = "ropegen.angles"(%12) {dim = 64 : i64, head_width = 256 : i64, scaling = {kind = "none"}, theta = 1.000000e+04 : f64} : (tensor<2048xi32>) -> tensor<2048x64xf32>
  %14 = "ropegen.rotate"(%11, %13) {pairing = "interleaved"} : (tensor<1x2048x16x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x16x256xbf16>
  %15 = "ropegen.project"(%9, %5) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %16 = "ropegen.split_heads"(%15) {heads = 16 : i64, width = 256 : i64} : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
  %17 = "ropegen.rotate"(%16, %13) {pairing = "interleaved"} : (tensor<1x2048x16x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x16x256xbf16>
  %18 = "ropegen.project"(%9, %6) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %19 = "ropegen.split_heads"(%18) {heads = 16 : i64, width = 256 : i64} : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
  %20 = "ropegen.attend"(%14, %17, %19, %12, %12) {given = ["q_positions", "kv_positions"], scale = 6.250000e-02 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x16x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x16x256xbf16>
  %21 = "ropegen.merge_heads"(%20) : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x4096xbf16>
  %22 = "ropegen.project"(%21, %7) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%22) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
