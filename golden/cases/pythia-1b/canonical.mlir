module attributes {ropegen.name = "gpt_neox-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<50304x2048xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<2048xbf16>
  %3 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<2048xbf16>
  %4 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<2048x2048xbf16>
  %5 = "ropegen.input"() {label = "q_bias", role = "parameter"} : () -> tensor<2048xbf16>
  %6 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<2048x2048xbf16>
  %7 = "ropegen.input"() {label = "k_bias", role = "parameter"} : () -> tensor<2048xbf16>
  %8 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<2048x2048xbf16>
  %9 = "ropegen.input"() {label = "v_bias", role = "parameter"} : () -> tensor<2048xbf16>
  %10 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<2048x2048xbf16>
  %11 = "ropegen.input"() {label = "o_bias", role = "parameter"} : () -> tensor<2048xbf16>
  %12 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<50304x2048xbf16>) -> tensor<1x2048x2048xbf16>
  %13 = "ropegen.norm"(%12, %2, %3) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x2048x2048xbf16>, tensor<2048xbf16>, tensor<2048xbf16>) -> tensor<1x2048x2048xbf16>
  %14 = "ropegen.pack"(%4, %6, %8) : (tensor<2048x2048xbf16>, tensor<2048x2048xbf16>, tensor<2048x2048xbf16>) -> tensor<2048x6144xbf16>
  %15 = "ropegen.pack"(%5, %7, %9) : (tensor<2048xbf16>, tensor<2048xbf16>, tensor<2048xbf16>) -> tensor<6144xbf16>
  %16 = "ropegen.project"(%13, %14, %15) {given = ["bias"]} : (tensor<1x2048x2048xbf16>, tensor<2048x6144xbf16>, tensor<6144xbf16>) -> tensor<1x2048x6144xbf16>
  %17 = "ropegen.split_heads"(%16) {heads = 8 : i64, width = 256 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x256xbf16>
  %18 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %19 = "ropegen.angles"(%18) {dim = 64 : i64, head_width = 256 : i64, scaling = {kind = "none"}, theta = 1.000000e+04 : f64} : (tensor<2048xi32>) -> tensor<2048x64xf32>
  %20 = "ropegen.rotate"(%17, %19) {pairing = "half"} : (tensor<1x2048x8x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x8x256xbf16>
  %21 = "ropegen.split_heads"(%16) {heads = 8 : i64, start = 2048 : i64, width = 256 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x256xbf16>
  %22 = "ropegen.rotate"(%21, %19) {pairing = "half"} : (tensor<1x2048x8x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x8x256xbf16>
  %23 = "ropegen.split_heads"(%16) {heads = 8 : i64, start = 4096 : i64, width = 256 : i64} : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x8x256xbf16>
  %24 = "ropegen.attend"(%20, %22, %23, %18, %18) {given = ["q_positions", "kv_positions"], scale = 6.250000e-02 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x8x256xbf16>, tensor<1x2048x8x256xbf16>, tensor<1x2048x8x256xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x8x256xbf16>
  %25 = "ropegen.merge_heads"(%24) : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x2048xbf16>
  %26 = "ropegen.project"(%25, %10, %11) {given = ["bias"]} : (tensor<1x2048x2048xbf16>, tensor<2048x2048xbf16>, tensor<2048xbf16>) -> tensor<1x2048x2048xbf16>
  "ropegen.output"(%26) {label = "out"} : (tensor<1x2048x2048xbf16>) -> ()
}
