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
  %13 = "ropegen.pack"(%3, %4, %5) : (tensor<4096x4096xbf16>, tensor<4096x1024xbf16>, tensor<4096x1024xbf16>) -> tensor<4096x6144xbf16>
  %14 = "ropegen.project"(%12, %13) : (tensor<1x1x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x1x6144xbf16>
  %15 = "ropegen.split_heads"(%14) {heads = 32 : i64, width = 128 : i64} : (tensor<1x1x6144xbf16>) -> tensor<1x1x32x128xbf16>
  %16 = "ropegen.angles"(%6) {dim = 128 : i64, head_width = 128 : i64, scaling = {kind = "none"}, theta = 5.000000e+05 : f64} : (tensor<1x1xi32>) -> tensor<1x1x128xf32>
  %17 = "ropegen.rotate"(%15, %16) {pairing = "half"} : (tensor<1x1x32x128xbf16>, tensor<1x1x128xf32>) -> tensor<1x1x32x128xbf16>
  %18 = "ropegen.split_heads"(%14) {heads = 8 : i64, start = 4096 : i64, width = 128 : i64} : (tensor<1x1x6144xbf16>) -> tensor<1x1x8x128xbf16>
  %19 = "ropegen.rotate"(%18, %16) {pairing = "half"} : (tensor<1x1x8x128xbf16>, tensor<1x1x128xf32>) -> tensor<1x1x8x128xbf16>
  %20 = "ropegen.append_cache"(%8, %19, %7) : (tensor<1x8192x8x128xbf16>, tensor<1x1x8x128xbf16>, tensor<1xi32>) -> tensor<1x8192x8x128xbf16>
  %21 = "ropegen.split_heads"(%14) {heads = 8 : i64, start = 5120 : i64, width = 128 : i64} : (tensor<1x1x6144xbf16>) -> tensor<1x1x8x128xbf16>
  %22 = "ropegen.append_cache"(%9, %21, %7) : (tensor<1x8192x8x128xbf16>, tensor<1x1x8x128xbf16>, tensor<1xi32>) -> tensor<1x8192x8x128xbf16>
  %23 = "ropegen.positions"() {length = 8192 : i64} : () -> tensor<8192xi32>
  %24 = "ropegen.attend"(%17, %20, %22, %6, %23) {given = ["q_positions", "kv_positions"], scale = 0.088388347648318433 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x1x32x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1xi32>, tensor<8192xi32>) -> tensor<1x1x32x128xbf16>
  %25 = "ropegen.merge_heads"(%24) : (tensor<1x1x32x128xbf16>) -> tensor<1x1x4096xbf16>
  %26 = "ropegen.project"(%25, %10) : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xbf16>
  "ropegen.output"(%26) {label = "out"} : (tensor<1x1x4096xbf16>) -> ()
  "ropegen.output"(%20) {label = "k_cache"} : (tensor<1x8192x8x128xbf16>) -> ()
  "ropegen.output"(%22) {label = "v_cache"} : (tensor<1x8192x8x128xbf16>) -> ()
}
