module attributes {ropegen.name = "vit-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "image"} : () -> tensor<1x224x224x3xbf16>
  %1 = "ropegen.input"() {label = "patch_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %2 = "ropegen.input"() {label = "patch_bias", role = "parameter"} : () -> tensor<768xbf16>
  %3 = "ropegen.input"() {label = "class_token", role = "parameter"} : () -> tensor<1x768xbf16>
  %4 = "ropegen.input"() {label = "position_embedding", role = "parameter"} : () -> tensor<197x768xbf16>
  %5 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<768xbf16>
  %6 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<768xbf16>
  %7 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %8 = "ropegen.input"() {label = "q_bias", role = "parameter"} : () -> tensor<768xbf16>
  %9 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %10 = "ropegen.input"() {label = "k_bias", role = "parameter"} : () -> tensor<768xbf16>
  %11 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %12 = "ropegen.input"() {label = "v_bias", role = "parameter"} : () -> tensor<768xbf16>
  %13 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %14 = "ropegen.input"() {label = "o_bias", role = "parameter"} : () -> tensor<768xbf16>
  %15 = "ropegen.patchify"(%0) {height = 16 : i64, width = 16 : i64} : (tensor<1x224x224x3xbf16>) -> tensor<1x196x768xbf16>
  %16 = "ropegen.project"(%15, %1, %2) {given = ["bias"]} : (tensor<1x196x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x196x768xbf16>
  %17 = "ropegen.join_rows"(%3, %16) : (tensor<1x768xbf16>, tensor<1x196x768xbf16>) -> tensor<1x197x768xbf16>
  %18 = "ropegen.positions"() {length = 197 : i64} : () -> tensor<197xi32>
  %19 = "ropegen.embed"(%18, %4) : (tensor<197xi32>, tensor<197x768xbf16>) -> tensor<197x768xbf16>
  %20 = "ropegen.add"(%17, %19) : (tensor<1x197x768xbf16>, tensor<197x768xbf16>) -> tensor<1x197x768xbf16>
  %21 = "ropegen.norm"(%20, %5, %6) {epsilon = 9.9999999999999998E-13 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x197x768xbf16>, tensor<768xbf16>, tensor<768xbf16>) -> tensor<1x197x768xbf16>
  %22 = "ropegen.project"(%21, %7, %8) {given = ["bias"]} : (tensor<1x197x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x197x768xbf16>
  %23 = "ropegen.split_heads"(%22) {heads = 12 : i64, width = 64 : i64} : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
  %24 = "ropegen.project"(%21, %9, %10) {given = ["bias"]} : (tensor<1x197x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x197x768xbf16>
  %25 = "ropegen.split_heads"(%24) {heads = 12 : i64, width = 64 : i64} : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
  %26 = "ropegen.project"(%21, %11, %12) {given = ["bias"]} : (tensor<1x197x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x197x768xbf16>
  %27 = "ropegen.split_heads"(%26) {heads = 12 : i64, width = 64 : i64} : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
  %28 = "ropegen.attend"(%23, %25, %27) {scale = 1.250000e-01 : f64} : (tensor<1x197x12x64xbf16>, tensor<1x197x12x64xbf16>, tensor<1x197x12x64xbf16>) -> tensor<1x197x12x64xbf16>
  %29 = "ropegen.merge_heads"(%28) : (tensor<1x197x12x64xbf16>) -> tensor<1x197x768xbf16>
  %30 = "ropegen.project"(%29, %13, %14) {given = ["bias"]} : (tensor<1x197x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x197x768xbf16>
  "ropegen.output"(%30) {label = "out"} : (tensor<1x197x768xbf16>) -> ()
}
