module attributes {ropegen.name = "gptj-layer0-prefill", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<1x2048xi32>
  %1 = "ropegen.input"() {label = "embedding", role = "parameter"} : () -> tensor<50400x4096xbf16>
  %2 = "ropegen.input"() {label = "input_norm", role = "parameter"} : () -> tensor<4096xbf16>
  %3 = "ropegen.input"() {label = "input_norm_bias", role = "parameter"} : () -> tensor<4096xbf16>
  %4 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %5 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %6 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %7 = "ropegen.input"() {label = "o_weight", role = "parameter"} : () -> tensor<4096x4096xbf16>
  %8 = "ropegen.embed"(%0, %1) : (tensor<1x2048xi32>, tensor<50400x4096xbf16>) -> tensor<1x2048x4096xbf16>
  %9 = "ropegen.norm"(%8, %2, %3) {epsilon = 1.000000e-05 : f64, given = ["weight", "bias"], kind = "layer"} : (tensor<1x2048x4096xbf16>, tensor<4096xbf16>, tensor<4096xbf16>) -> tensor<1x2048x4096xbf16>
  %10 = "ropegen.reorder_pairs"(%4) {dim = 64 : i64, to = "half", width = 256 : i64} : (tensor<4096x4096xbf16>) -> tensor<4096x4096xbf16>
  %11 = "ropegen.reorder_pairs"(%5) {dim = 64 : i64, to = "half", width = 256 : i64} : (tensor<4096x4096xbf16>) -> tensor<4096x4096xbf16>
  %12 = "ropegen.pack"(%10, %11, %6) : (tensor<4096x4096xbf16>, tensor<4096x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<4096x12288xbf16>
  %13 = "ropegen.project"(%9, %12) : (tensor<1x2048x4096xbf16>, tensor<4096x12288xbf16>) -> tensor<1x2048x12288xbf16>
  %14 = "ropegen.split_heads"(%13) {heads = 16 : i64, width = 256 : i64} : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x16x256xbf16>
  %15 = "ropegen.positions"() {length = 2048 : i64} : () -> tensor<2048xi32>
  %16 = "ropegen.angles"(%15) {dim = 64 : i64, head_width = 256 : i64, scaling = {kind = "none"}, theta = 1.000000e+04 : f64} : (tensor<2048xi32>) -> tensor<2048x64xf32>
  %17 = "ropegen.rotate"(%14, %16) {pairing = "half"} : (tensor<1x2048x16x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x16x256xbf16>
  %18 = "ropegen.split_heads"(%13) {heads = 16 : i64, start = 4096 : i64, width = 256 : i64} : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x16x256xbf16>
  %19 = "ropegen.rotate"(%18, %16) {pairing = "half"} : (tensor<1x2048x16x256xbf16>, tensor<2048x64xf32>) -> tensor<1x2048x16x256xbf16>
  %20 = "ropegen.split_heads"(%13) {heads = 16 : i64, start = 8192 : i64, width = 256 : i64} : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x16x256xbf16>
  %21 = "ropegen.attend"(%17, %19, %20, %15, %15) {given = ["q_positions", "kv_positions"], scale = 6.250000e-02 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x2048x16x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<2048xi32>, tensor<2048xi32>) -> tensor<1x2048x16x256xbf16>
  %22 = "ropegen.merge_heads"(%21) : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x4096xbf16>
  %23 = "ropegen.project"(%22, %7) : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xbf16>
  "ropegen.output"(%23) {label = "out"} : (tensor<1x2048x4096xbf16>) -> ()
}
