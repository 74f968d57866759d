module attributes {ropegen.name = "transformer-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x512xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<37000x512xbf16>
  %2 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %3 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %4 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %5 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<512x512xbf16>
  %6 = "ropegen.positions"() {length = 512 : i64} : () -> tensor<512xi32>
  %7 = "ropegen.sinusoid"(%6) {dtype = "bf16", pairing = "interleaved", width = 512 : i64} : (tensor<512xi32>) -> tensor<512x512xbf16>
  %8 = "ropegen.embed"(%0, %1) : (tensor<1x512xi32>, tensor<37000x512xbf16>) -> tensor<1x512x512xbf16>
  %9 = "ropegen.scale"(%8) {factor = 22.627416997969522 : f64} : (tensor<1x512x512xbf16>) -> tensor<1x512x512xbf16>
  %10 = "ropegen.add"(%7, %9) : (tensor<512x512xbf16>, tensor<1x512x512xbf16>) -> tensor<1x512x512xbf16>
  %11 = "ropegen.pack"(%2, %3, %4) : (tensor<512x512xbf16>, tensor<512x512xbf16>, tensor<512x512xbf16>) -> tensor<512x1536xbf16>
  %12 = "ropegen.project"(%10, %11) : (tensor<1x512x512xbf16>, tensor<512x1536xbf16>) -> tensor<1x512x1536xbf16>
  %13 = "ropegen.split_heads"(%12) {heads = 8 : i64, width = 64 : i64} : (tensor<1x512x1536xbf16>) -> tensor<1x512x8x64xbf16>
  %14 = "ropegen.split_heads"(%12) {heads = 8 : i64, start = 512 : i64, width = 64 : i64} : (tensor<1x512x1536xbf16>) -> tensor<1x512x8x64xbf16>
  %15 = "ropegen.split_heads"(%12) {heads = 8 : i64, start = 1024 : i64, width = 64 : i64} : (tensor<1x512x1536xbf16>) -> tensor<1x512x8x64xbf16>
  %16 = "ropegen.attend"(%13, %14, %15) {scale = 1.250000e-01 : f64} : (tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>) -> tensor<1x512x8x64xbf16>
  %17 = "ropegen.merge_heads"(%16) : (tensor<1x512x8x64xbf16>) -> tensor<1x512x512xbf16>
  %18 = "ropegen.project"(%17, %5) : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
  "ropegen.output"(%18) {label = "out"} : (tensor<1x512x512xbf16>) -> ()
}
