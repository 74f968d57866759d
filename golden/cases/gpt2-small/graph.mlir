module attributes {ropegen.name = "gpt2-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x1024xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<50257x768xbf16>
  %2 = "ropegen.input"() {label = "position_embedding", role = "parameter"} : () -> tensor<1024x768xbf16>
  %3 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<768xbf16>
  %4 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<768xbf16>
  %5 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %6 = "ropegen.input"() {label = "q_bias", role = "parameter"} : () -> tensor<768xbf16>
  %7 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %8 = "ropegen.input"() {label = "k_bias", role = "parameter"} : () -> tensor<768xbf16>
  %9 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %10 = "ropegen.input"() {label = "v_bias", role = "parameter"} : () -> tensor<768xbf16>
  %11 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %12 = "ropegen.input"() {label = "o_bias", role = "parameter"} : () -> tensor<768xbf16>
  %13 = "ropegen.embed"(%0, %1) : (tensor<1x1024xi32>, tensor<50257x768xbf16>) -> tensor<1x1024x768xbf16>
  %14 = "ropegen.positions"() {length = 1024 : i64} : () -> tensor<1024xi32>
  %15 = "ropegen.embed"(%14, %2) : (tensor<1024xi32>, tensor<1024x768xbf16>) -> tensor<1024x768xbf16>
  %16 = "ropegen.add"(%13, %15) : (tensor<1x1024x768xbf16>, tensor<1024x768xbf16>) -> tensor<1x1024x768xbf16>
  %17 = "ropegen.norm"(%16, %3, %4) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x1024x768xbf16>, tensor<768xbf16>, tensor<768xbf16>) -> tensor<1x1024x768xbf16>
  %18 = "ropegen.project"(%17, %5, %6) {given = ["bias"]} : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x1024x768xbf16>
  %19 = "ropegen.split_heads"(%18) {heads = 12 : i64, width = 64 : i64} : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
  %20 = "ropegen.project"(%17, %7, %8) {given = ["bias"]} : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x1024x768xbf16>
  %21 = "ropegen.split_heads"(%20) {heads = 12 : i64, width = 64 : i64} : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
  %22 = "ropegen.project"(%17, %9, %10) {given = ["bias"]} : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x1024x768xbf16>
  %23 = "ropegen.split_heads"(%22) {heads = 12 : i64, width = 64 : i64} : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
  %24 = "ropegen.attend"(%19, %21, %23, %14, %14) {given = ["q_positions", "kv_positions"], scale = 1.250000e-01 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x1024x12x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1024xi32>, tensor<1024xi32>) -> tensor<1x1024x12x64xbf16>
  %25 = "ropegen.merge_heads"(%24) : (tensor<1x1024x12x64xbf16>) -> tensor<1x1024x768xbf16>
  %26 = "ropegen.project"(%25, %11, %12) {given = ["bias"]} : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x1024x768xbf16>
  "ropegen.output"(%26) {label = "out"} : (tensor<1x1024x768xbf16>) -> ()
}
