module attributes {ropegen.name = "front-end", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "ids"} : () -> tensor<2x3xi32>
  %1 = "ropegen.input"() {label = "table", role = "parameter"} : () -> tensor<11x16xf32>
  %2 = "ropegen.input"() {label = "norm", role = "parameter"} : () -> tensor<16xf32>
  %3 = "ropegen.input"() {label = "q_weight", role = "parameter"} : () -> tensor<16x32xf32>
  %4 = "ropegen.input"() {label = "k_weight", role = "parameter"} : () -> tensor<16x16xf32>
  %5 = "ropegen.input"() {label = "v_weight", role = "parameter"} : () -> tensor<16x16xf32>
  %6 = "ropegen.input"() {label = "positions"} : () -> tensor<2x3xi32>
  %7 = "ropegen.input"() {label = "lengths"} : () -> tensor<2xi32>
  %8 = "ropegen.input"() {label = "k_cache", role = "state"} : () -> tensor<2x9x2x8xf32>
  %9 = "ropegen.input"() {label = "v_cache", role = "state"} : () -> tensor<2x9x2x8xf32>
  %10 = "ropegen.input"() {label = "sinks", role = "parameter"} : () -> tensor<4xf32>
  %11 = "ropegen.embed"(%0, %1) {mode = "fill"} : (tensor<2x3xi32>, tensor<11x16xf32>) -> tensor<2x3x16xf32>
  %12 = "ropegen.norm"(%11, %2) {epsilon = 9.9999999999999995E-7 : f64, given = ["weight"], kind = "rms"} : (tensor<2x3x16xf32>, tensor<16xf32>) -> tensor<2x3x16xf32>
  %13 = "ropegen.project"(%12, %3) : (tensor<2x3x16xf32>, tensor<16x32xf32>) -> tensor<2x3x32xf32>
  %14 = "ropegen.split_heads"(%13) {heads = 4 : i64, width = 8 : i64} : (tensor<2x3x32xf32>) -> tensor<2x3x4x8xf32>
  %15 = "ropegen.angles"(%6) {dim = 4 : i64, head_width = 8 : i64, scaling = {factor = 8.000000e+00 : f64, high = 4.000000e+00 : f64, kind = "llama3", low = 1.000000e+00 : f64, original = 64 : i64}, theta = 5.000000e+05 : f64} : (tensor<2x3xi32>) -> tensor<2x3x4xf32>
  %16 = "ropegen.rotate"(%14, %15) {pairing = "half"} : (tensor<2x3x4x8xf32>, tensor<2x3x4xf32>) -> tensor<2x3x4x8xf32>
  %17 = "ropegen.project"(%12, %4) : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
  %18 = "ropegen.split_heads"(%17) {heads = 2 : i64, width = 8 : i64} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
  %19 = "ropegen.rotate"(%18, %15) {pairing = "half"} : (tensor<2x3x2x8xf32>, tensor<2x3x4xf32>) -> tensor<2x3x2x8xf32>
  %20 = "ropegen.append_cache"(%8, %19, %7) : (tensor<2x9x2x8xf32>, tensor<2x3x2x8xf32>, tensor<2xi32>) -> tensor<2x9x2x8xf32>
  %21 = "ropegen.project"(%12, %5) : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
  %22 = "ropegen.split_heads"(%21) {heads = 2 : i64, width = 8 : i64} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
  %23 = "ropegen.append_cache"(%9, %22, %7) : (tensor<2x9x2x8xf32>, tensor<2x3x2x8xf32>, tensor<2xi32>) -> tensor<2x9x2x8xf32>
  %24 = "ropegen.positions"() {length = 9 : i64} : () -> tensor<9xi32>
  %25 = "ropegen.attend"(%16, %20, %23, %6, %24, %10) {given = ["q_positions", "kv_positions", "sinks"], scale = 0.35355339059327373 : f64, softcap = 2.000000e+01 : f64, visible = "(kv_pos <= q_pos) & (q_pos - kv_pos < 6)"} : (tensor<2x3x4x8xf32>, tensor<2x9x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x3xi32>, tensor<9xi32>, tensor<4xf32>) -> tensor<2x3x4x8xf32>
  %26 = "ropegen.merge_heads"(%25) : (tensor<2x3x4x8xf32>) -> tensor<2x3x32xf32>
  %27 = "ropegen.split_heads"(%12) {heads = 2 : i64, width = 8 : i64} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
  %28 = "ropegen.positions"() {length = 3 : i64} : () -> tensor<3xi32>
  %29 = "ropegen.angles"(%28) {dim = 8 : i64, head_width = 8 : i64, scaling = {kind = "none"}, theta = 1.000000e+02 : f64} : (tensor<3xi32>) -> tensor<3x8xf32>
  %30 = "ropegen.rotate"(%27, %29) {pairing = "interleaved"} : (tensor<2x3x2x8xf32>, tensor<3x8xf32>) -> tensor<2x3x2x8xf32>
  "ropegen.output"(%26) {label = "out"} : (tensor<2x3x32xf32>) -> ()
  "ropegen.output"(%20) {label = "k_cache_out"} : (tensor<2x9x2x8xf32>) -> ()
  "ropegen.output"(%23) {label = "v_cache_out"} : (tensor<2x9x2x8xf32>) -> ()
  "ropegen.output"(%30) {label = "turned"} : (tensor<2x3x2x8xf32>) -> ()
}
