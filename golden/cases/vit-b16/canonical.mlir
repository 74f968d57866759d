module attributes {ropegen.name = "vit-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "image"} : () -> tensor<1x224x224x3xbf16>
  %1 = "ropegen.input"() {label = "patch_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %2 = "ropegen.input"() {label = "patch_bias", role = "parameter"} : () -> tensor<768xbf16>
  %3 = "ropegen.input"() {label = "position_embedding", role = "parameter"} : () -> tensor<196x768xbf16>
  %4 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<768xbf16>
  %5 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<768xbf16>
  %6 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %7 = "ropegen.input"() {label = "q_bias", role = "parameter"} : () -> tensor<768xbf16>
  %8 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %9 = "ropegen.input"() {label = "k_bias", role = "parameter"} : () -> tensor<768xbf16>
  %10 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %11 = "ropegen.input"() {label = "v_bias", role = "parameter"} : () -> tensor<768xbf16>
  %12 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<768x768xbf16>
  %13 = "ropegen.input"() {label = "o_bias", role = "parameter"} : () -> tensor<768xbf16>
  %14 = "ropegen.positions"() {length = 196 : i64} : () -> tensor<196xi32>
  %15 = "ropegen.embed"(%14, %3) : (tensor<196xi32>, tensor<196x768xbf16>) -> tensor<196x768xbf16>
  %16 = "ropegen.patchify"(%0) {height = 16 : i64, width = 16 : i64} : (tensor<1x224x224x3xbf16>) -> tensor<1x196x768xbf16>
  %17 = "ropegen.project"(%16, %1, %2) {given = ["bias"]} : (tensor<1x196x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x196x768xbf16>
  %18 = "ropegen.add"(%15, %17) : (tensor<196x768xbf16>, tensor<1x196x768xbf16>) -> tensor<1x196x768xbf16>
  %19 = "ropegen.norm"(%18, %4, %5) {epsilon = 9.9999999999999998E-13 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x196x768xbf16>, tensor<768xbf16>, tensor<768xbf16>) -> tensor<1x196x768xbf16>
  %20 = "ropegen.pack"(%6, %8, %10) : (tensor<768x768xbf16>, tensor<768x768xbf16>, tensor<768x768xbf16>) -> tensor<768x2304xbf16>
  %21 = "ropegen.pack"(%7, %9, %11) : (tensor<768xbf16>, tensor<768xbf16>, tensor<768xbf16>) -> tensor<2304xbf16>
  %22 = "ropegen.project"(%19, %20, %21) {given = ["bias"]} : (tensor<1x196x768xbf16>, tensor<768x2304xbf16>, tensor<2304xbf16>) -> tensor<1x196x2304xbf16>
  %23 = "ropegen.split_heads"(%22) {heads = 12 : i64, width = 64 : i64} : (tensor<1x196x2304xbf16>) -> tensor<1x196x12x64xbf16>
  %24 = "ropegen.split_heads"(%22) {heads = 12 : i64, start = 768 : i64, width = 64 : i64} : (tensor<1x196x2304xbf16>) -> tensor<1x196x12x64xbf16>
  %25 = "ropegen.split_heads"(%22) {heads = 12 : i64, start = 1536 : i64, width = 64 : i64} : (tensor<1x196x2304xbf16>) -> tensor<1x196x12x64xbf16>
  %26 = "ropegen.attend"(%23, %24, %25) {scale = 1.250000e-01 : f64} : (tensor<1x196x12x64xbf16>, tensor<1x196x12x64xbf16>, tensor<1x196x12x64xbf16>) -> tensor<1x196x12x64xbf16>
  %27 = "ropegen.merge_heads"(%26) : (tensor<1x196x12x64xbf16>) -> tensor<1x196x768xbf16>
  %28 = "ropegen.project"(%27, %12, %13) {given = ["bias"]} : (tensor<1x196x768xbf16>, tensor<768x768xbf16>, tensor<768xbf16>) -> tensor<1x196x768xbf16>
  "ropegen.output"(%28) {label = "out"} : (tensor<1x196x768xbf16>) -> ()
}
