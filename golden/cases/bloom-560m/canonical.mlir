module attributes {ropegen.name = "bloom-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<250880x1024xbf16>
  %2 = "ropegen.input"() {label = "embedding_norm", role = "parameter"} : () -> tensor<1024xbf16>
  %3 = "ropegen.input"() {label = "embedding_norm_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %4 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<1024xbf16>
  %5 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %6 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<1024x1024xbf16>
  %7 = "ropegen.input"() {label = "q_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %8 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<1024x1024xbf16>
  %9 = "ropegen.input"() {label = "k_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %10 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<1024x1024xbf16>
  %11 = "ropegen.input"() {label = "v_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %12 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<1024x1024xbf16>
  %13 = "ropegen.input"() {label = "o_bias", role = "parameter"} : () -> tensor<1024xbf16>
  %14 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<250880x1024xbf16>) -> tensor<1x2048x1024xbf16>
  %15 = "ropegen.norm"(%14, %2, %3) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x2048x1024xbf16>, tensor<1024xbf16>, tensor<1024xbf16>) -> tensor<1x2048x1024xbf16>
  %16 = "ropegen.norm"(%15, %4, %5) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x2048x1024xbf16>, tensor<1024xbf16>, tensor<1024xbf16>) -> tensor<1x2048x1024xbf16>
  %17 = "ropegen.pack"(%6, %8, %10) : (tensor<1024x1024xbf16>, tensor<1024x1024xbf16>, tensor<1024x1024xbf16>) -> tensor<1024x3072xbf16>
  %18 = "ropegen.pack"(%7, %9, %11) : (tensor<1024xbf16>, tensor<1024xbf16>, tensor<1024xbf16>) -> tensor<3072xbf16>
  %19 = "ropegen.project"(%16, %17, %18) {given = ["bias"]} : (tensor<1x2048x1024xbf16>, tensor<1024x3072xbf16>, tensor<3072xbf16>) -> tensor<1x2048x3072xbf16>
  %20 = "ropegen.split_heads"(%19) {heads = 16 : i64, width = 64 : i64} : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x16x64xbf16>
  %21 = "ropegen.split_heads"(%19) {heads = 16 : i64, start = 1024 : i64, width = 64 : i64} : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x16x64xbf16>
  %22 = "ropegen.split_heads"(%19) {heads = 16 : i64, start = 2048 : i64, width = 64 : i64} : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x16x64xbf16>
  %23 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %24 = "ropegen.attend"(%20, %21, %22, %23, %23) {given = ["q_positions", "kv_positions"], scale = 1.250000e-01 : f64, score = "score - [0.7071067811865476, 0.5, 0.3535533905932738, 0.25, 0.1767766952966369, 0.125, 0.08838834764831845, 0.0625, 0.04419417382415922, 0.03125, 0.02209708691207961, 0.015625, 0.011048543456039806, 0.0078125, 0.005524271728019903, 0.00390625][head] * abs(q_pos - kv_pos)", visible = "kv_pos <= q_pos"} : (tensor<1x2048x16x64xbf16>, tensor<1x2048x16x64xbf16>, tensor<1x2048x16x64xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x16x64xbf16>
  %25 = "ropegen.merge_heads"(%24) : (tensor<1x2048x16x64xbf16>) -> tensor<1x2048x1024xbf16>
  %26 = "ropegen.project"(%25, %12, %13) {given = ["bias"]} : (tensor<1x2048x1024xbf16>, tensor<1024x1024xbf16>, tensor<1024xbf16>) -> tensor<1x2048x1024xbf16>
  "ropegen.output"(%26) {label = "out"} : (tensor<1x2048x1024xbf16>) -> ()
}
