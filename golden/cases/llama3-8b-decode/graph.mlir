module attributes {ropegen.name = "llama-layer0-decode", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x1xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<128256x4096xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<4096xbf16>
  %3 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %4 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %5 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<4096x1024xbf16>
  %6 = "ropegen.input"() {label = "positions"} : () -> tensor<1x1xi32>
  %7 = "ropegen.input"() {label = "lengths"} : () -> tensor<1xi32>
  %8 = "ropegen.input"() {label = "k_cache", role = "state"} : () -> tensor<1x8192x8x128xbf16>
  %9 = "ropegen.input"() {label = "v_cache", role = "state"} : () -> tensor<1x8192x8x128xbf16>
  %10 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %11 = "ropegen.embed"(%0, %1) : (tensor<1x1xi32>, tensor<128256x4096xbf16>) -> tensor<1x1x4096xbf16>
  %12 = "ropegen.norm"(%11, %2) {epsilon = 1.000000e-05 : f64, given = ["weight"], kind = "rms"} : (tensor<1x1x4096xbf16>, tensor<4096xbf16>) -> tensor<1x1x4096xbf16>
  %13 = "ropegen.project"(%12, %3) : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xbf16>
  %14 = "ropegen.split_heads"(%13) {heads = 32 : i64, width = 128 : i64} : (tensor<1x1x4096xbf16>) -> tensor<1x1x32x128xbf16>
  %15 = "ropegen.angles"(%6) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 5.000000e+05 : f64} : (tensor<1x1xi32>) -> tensor<1x1x128xf32>
  %16 = "ropegen.rotate"(%14, %15) {pairing = "half"} : (tensor<1x1x32x128xbf16>, tensor<1x1x128xf32>) -> tensor<1x1x32x128xbf16>
  %17 = "ropegen.project"(%12, %4) : (tensor<1x1x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x1x1024xbf16>
  %18 = "ropegen.split_heads"(%17) {heads = 8 : i64, width = 128 : i64} : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
  %19 = "ropegen.rotate"(%18, %15) {pairing = "half"} : (tensor<1x1x8x128xbf16>, tensor<1x1x128xf32>) -> tensor<1x1x8x128xbf16>
  %20 = "ropegen.append_cache"(%8, %19, %7) : (tensor<1x8192x8x128xbf16>, tensor<1x1x8x128xbf16>, tensor<1xi32>) -> tensor<1x8192x8x128xbf16>
  %21 = "ropegen.project"(%12, %5) : (tensor<1x1x4096xbf16>, tensor<4096x1024xbf16>) -> tensor<1x1x1024xbf16>
  %22 = "ropegen.split_heads"(%21) {heads = 8 : i64, width = 128 : i64} : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
  %23 = "ropegen.append_cache"(%9, %22, %7) : (tensor<1x8192x8x128xbf16>, tensor<1x1x8x128xbf16>, tensor<1xi32>) -> tensor<1x8192x8x128xbf16>
  %24 = "ropegen.positions"() {length = 8192 : i64} : () -> tensor<8192xi32>
  %25 = "ropegen.attend"(%16, %20, %23, %6, %24) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x1x32x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1xi32>, tensor<8192xi32>) -> tensor<1x1x32x128xbf16>
  %26 = "ropegen.merge_heads"(%25) : (tensor<1x1x32x128xbf16>) -> tensor<1x1x4096xbf16>
  %27 = "ropegen.project"(%26, %10) : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xbf16>
  "ropegen.output"(%27) {label = "out"} : (tensor<1x1x4096xbf16>) -> ()
  "ropegen.output"(%20) {label = "k_cache"} : (tensor<1x8192x8x128xbf16>) -> ()
  "ropegen.output"(%23) {label = "v_cache"} : (tensor<1x8192x8x128xbf16>) -> ()
}
