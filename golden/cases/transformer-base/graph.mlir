module attributes {ropegen.name = "transformer-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x512xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<37000x512xbf16>
  %2 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %3 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %4 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %5 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %6 = "ropegen.embed"(%0, %1) : (tensor<1x512xi32>, tensor<37000x512xbf16>) -> tensor<1x512x512xbf16>
  %7 = "ropegen.scale"(%6) {factor = 22.627416997969522 : f64} : (tensor<1x512x512xbf16>) -> tensor<1x512x512xbf16>
  %8 = "ropegen.positions"() {length = 512 : i64} : () -> tensor<512xi32>
  %9 = "ropegen.sinusoid"(%8) {dtype = "bf16", pairing = "interleaved", width = 512 : i64} : (tensor<512xi32>) -> tensor<512x512xbf16>
  %10 = "ropegen.add"(%7, %9) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  %11 = "ropegen.project"(%10, %2) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  %12 = "ropegen.split_heads"(%11) {heads = 8 : i64, width = 64 : i64} : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
  %13 = "ropegen.project"(%10, %3) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  %14 = "ropegen.split_heads"(%13) {heads = 8 : i64, width = 64 : i64} : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
  %15 = "ropegen.project"(%10, %4) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  %16 = "ropegen.split_heads"(%15) {heads = 8 : i64, width = 64 : i64} : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
  %17 = "ropegen.attend"(%12, %14, %16) {scale = 1.250000e-01 : f64} : (tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>) -> tensor<1x512x8x64xbf16>
  %18 = "ropegen.merge_heads"(%17) : (tensor<1x512x8x64xbf16>) -> tensor<1x512x512xbf16>
  %19 = "ropegen.project"(%18, %5) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  "ropegen.output"(%19) {label = "out"} : (tensor<1x512x512xbf16>) -> ()
}
