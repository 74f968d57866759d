module attributes {ropegen.name = "gemma2-layer1-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x8192xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<256000x3584xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<3584xbf16>
  %3 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<3584x4096xbf16>
  %4 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<3584x2048xbf16>
  %5 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<3584x2048xbf16>
  %6 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x3584xbf16>
  %7 = "ropegen.embed"(%0, %1) : (tensor<1x8192xi32>, tensor<256000x3584xbf16>) -> tensor<1x8192x3584xbf16>
  %8 = "ropegen.scale"(%7) {factor = 5.975000e+01 : f64} : (tensor<1x8192x3584xbf16>) -> tensor<1x8192x3584xbf16>
  %9 = "ropegen.norm"(%8, %2) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms", weight_offset = 1.000000e+00 : f64} : (tensor<1x8192x3584xbf16>, tensor<3584xbf16>) -> tensor<1x8192x3584xbf16>
  %10 = "ropegen.project"(%9, %3) : (tensor<1x8192x3584xbf16>, tensor<3584x4096xbf16>) -> tensor<1x8192x4096xbf16>
  %11 = "ropegen.split_heads"(%10) {heads = 16 : i64, width = 256 : i64} : (tensor<1x8192x4096xbf16>) -> tensor<1x8192x16x256xbf16>
  %12 = "ropegen.positions"() {length = 8192 : i64} : () -> tensor<8192xi32>
  %13 = "ropegen.angles"(%12) {dim = 256 : i64, head_width = 256 : i64, scaling = {kind = "none"}, theta = 1.000000e+04 : f64} : (tensor<8192xi32>) -> tensor<8192x256xf32>
  %14 = "ropegen.rotate"(%11, %13) {pairing = "half"} : (tensor<1x8192x16x256xbf16>, tensor<8192x256xf32>) -> tensor<1x8192x16x256xbf16>
  %15 = "ropegen.project"(%9, %4) : (tensor<1x8192x3584xbf16>, tensor<3584x2048xbf16>) -> tensor<1x8192x2048xbf16>
  %16 = "ropegen.split_heads"(%15) {heads = 8 : i64, width = 256 : i64} : (tensor<1x8192x2048xbf16>) -> tensor<1x8192x8x256xbf16>
  %17 = "ropegen.rotate"(%16, %13) {pairing = "half"} : (tensor<1x8192x8x256xbf16>, tensor<8192x256xf32>) -> tensor<1x8192x8x256xbf16>
  %18 = "ropegen.project"(%9, %5) : (tensor<1x8192x3584xbf16>, tensor<3584x2048xbf16>) -> tensor<1x8192x2048xbf16>
  %19 = "ropegen.split_heads"(%18) {heads = 8 : i64, width = 256 : i64} : (tensor<1x8192x2048xbf16>) -> tensor<1x8192x8x256xbf16>
  %20 = "ropegen.attend"(%14, %17, %19, %12, %12) {given = ["q_positions", "kv_positions"], scale = 6.250000e-02 : f64, softcap = 5.000000e+01 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x8192x16x256xbf16>, tensor<1x8192x8x256xbf16>, tensor<1x8192x8x256xbf16>, tensor<8192xi32>, tensor<8192xi32>) -> tensor<1x8192x16x256xbf16>
  %21 = "ropegen.merge_heads"(%20) : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x4096xbf16>
  %22 = "ropegen.project"(%21, %6) : (tensor<1x8192x4096xbf16>, tensor<4096x3584xbf16>) -> tensor<1x8192x3584xbf16>
  "ropegen.output"(%22) {label = "out"} : (tensor<1x8192x3584xbf16>) -> ()
}
