// front-end: (ids, table, norm, q_weight, k_weight, v_weight, positions, lengths, k_cache, v_cache, sinks) -> (out, k_cache_out, v_cache_out, turned)
module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<2x3xi32>, %arg1: tensor<11x16xf32>, %arg2: tensor<16xf32>, %arg3: tensor<16x32xf32>, %arg4: tensor<16x16xf32>, %arg5: tensor<16x16xf32>, %arg6: tensor<2x3xi32>, %arg7: tensor<2xi32>, %arg8: tensor<2x9x2x8xf32>, %arg9: tensor<2x9x2x8xf32>, %arg10: tensor<4xf32>) -> (tensor<2x3x32xf32> {jax.result_info = "result[0]"}, tensor<2x9x2x8xf32> {jax.result_info = "result[1]"}, tensor<2x9x2x8xf32> {jax.result_info = "result[2]"}, tensor<2x3x2x8xf32> {jax.result_info = "result[3]"}) {
    %0 = stablehlo.composite "ropegen.embed" %arg0, %arg1 {composite_attributes = {mode = "fill"}, decomposition = @ropegen.embed, version = 1 : i32} : (tensor<2x3xi32>, tensor<11x16xf32>) -> tensor<2x3x16xf32>
    %1 = stablehlo.composite "ropegen.norm" %0, %arg2 {composite_attributes = {epsilon = 9.9999999999999995E-7 : f64, given = "weight", kind = "rms", weight_offset = 0.000000e+00 : f64}, decomposition = @ropegen.norm, version = 1 : i32} : (tensor<2x3x16xf32>, tensor<16xf32>) -> tensor<2x3x16xf32>
    %2 = stablehlo.composite "ropegen.project" %1, %arg3 {composite_attributes = {given = ""}, decomposition = @ropegen.project, version = 1 : i32} : (tensor<2x3x16xf32>, tensor<16x32xf32>) -> tensor<2x3x32xf32>
    %3 = stablehlo.composite "ropegen.split_heads" %2 {composite_attributes = {heads = 4 : i64, start = 0 : i64, width = 8 : i64}, decomposition = @ropegen.split_heads, version = 1 : i32} : (tensor<2x3x32xf32>) -> tensor<2x3x4x8xf32>
    %4 = stablehlo.composite "ropegen.angles" %arg6 {composite_attributes = {dim = 4 : i64, head_width = 8 : i64, interleaved_sections = false, inverse = false, precision = "exact", scaling.factor = 8.000000e+00 : f64, scaling.high = 4.000000e+00 : f64, scaling.kind = "llama3", scaling.low = 1.000000e+00 : f64, scaling.original = 64 : i64, sections = "", theta = 5.000000e+05 : f64}, decomposition = @ropegen.angles, version = 1 : i32} : (tensor<2x3xi32>) -> tensor<2x3x4xf32>
    %5 = stablehlo.composite "ropegen.rotate" %3, %4 {composite_attributes = {interleaved = 0 : i64, pairing = "half", rotary_embedding_dim = 4 : i64}, decomposition = @ropegen.rotate, version = 1 : i32} : (tensor<2x3x4x8xf32>, tensor<2x3x4xf32>) -> tensor<2x3x4x8xf32>
    %6 = stablehlo.composite "ropegen.project" %1, %arg4 {composite_attributes = {given = ""}, decomposition = @ropegen.project_3, version = 1 : i32} : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
    %7 = stablehlo.composite "ropegen.split_heads" %6 {composite_attributes = {heads = 2 : i64, start = 0 : i64, width = 8 : i64}, decomposition = @ropegen.split_heads_4, version = 1 : i32} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    %8 = stablehlo.composite "ropegen.rotate" %7, %4 {composite_attributes = {interleaved = 0 : i64, pairing = "half", rotary_embedding_dim = 4 : i64}, decomposition = @ropegen.rotate_5, version = 1 : i32} : (tensor<2x3x2x8xf32>, tensor<2x3x4xf32>) -> tensor<2x3x2x8xf32>
    %9 = stablehlo.composite "ropegen.append_cache" %arg8, %8, %arg7 {decomposition = @ropegen.append_cache, version = 1 : i32} : (tensor<2x9x2x8xf32>, tensor<2x3x2x8xf32>, tensor<2xi32>) -> tensor<2x9x2x8xf32>
    %10 = stablehlo.composite "ropegen.project" %1, %arg5 {composite_attributes = {given = ""}, decomposition = @ropegen.project_6, version = 1 : i32} : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
    %11 = stablehlo.composite "ropegen.split_heads" %10 {composite_attributes = {heads = 2 : i64, start = 0 : i64, width = 8 : i64}, decomposition = @ropegen.split_heads_7, version = 1 : i32} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    %12 = stablehlo.composite "ropegen.append_cache" %arg9, %11, %arg7 {decomposition = @ropegen.append_cache_8, version = 1 : i32} : (tensor<2x9x2x8xf32>, tensor<2x3x2x8xf32>, tensor<2xi32>) -> tensor<2x9x2x8xf32>
    %13 = stablehlo.composite "ropegen.positions"  {composite_attributes = {length = 9 : i64, start = 0 : i64}, decomposition = @ropegen.positions, version = 1 : i32} : () -> tensor<9xi32>
    %14 = stablehlo.composite "ropegen.attend" %5, %9, %12, %arg6, %13, %arg10 {composite_attributes = {given = "q_positions, kv_positions, sinks", is_causal = 0 : i64, kv_num_heads = 2 : i64, masked_row = "zero", q_num_heads = 4 : i64, returns = "output", scale = 0.35355339059327373 : f64, score = "score", softcap = 2.000000e+01 : f64, visible = "(kv_pos <= q_pos) & (q_pos - kv_pos < 6)"}, decomposition = @ropegen.attend, version = 1 : i32} : (tensor<2x3x4x8xf32>, tensor<2x9x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x3xi32>, tensor<9xi32>, tensor<4xf32>) -> tensor<2x3x4x8xf32>
    %15 = stablehlo.composite "ropegen.merge_heads" %14 {decomposition = @ropegen.merge_heads, version = 1 : i32} : (tensor<2x3x4x8xf32>) -> tensor<2x3x32xf32>
    %16 = stablehlo.composite "ropegen.split_heads" %1 {composite_attributes = {heads = 2 : i64, start = 0 : i64, width = 8 : i64}, decomposition = @ropegen.split_heads_14, version = 1 : i32} : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    %17 = stablehlo.composite "ropegen.positions"  {composite_attributes = {length = 3 : i64, start = 0 : i64}, decomposition = @ropegen.positions_15, version = 1 : i32} : () -> tensor<3xi32>
    %18 = stablehlo.composite "ropegen.angles" %17 {composite_attributes = {dim = 8 : i64, head_width = 8 : i64, interleaved_sections = false, inverse = false, precision = "exact", scaling.kind = "none", sections = "", theta = 1.000000e+02 : f64}, decomposition = @ropegen.angles_16, version = 1 : i32} : (tensor<3xi32>) -> tensor<3x8xf32>
    %19 = stablehlo.composite "ropegen.rotate" %16, %18 {composite_attributes = {interleaved = 1 : i64, pairing = "interleaved", rotary_embedding_dim = 8 : i64}, decomposition = @ropegen.rotate_17, version = 1 : i32} : (tensor<2x3x2x8xf32>, tensor<3x8xf32>) -> tensor<2x3x2x8xf32>
    return %15, %9, %12, %19 : tensor<2x3x32xf32>, tensor<2x9x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x3x2x8xf32>
  }
  func.func private @ropegen.embed(%arg0: tensor<2x3xi32>, %arg1: tensor<11x16xf32>) -> tensor<2x3x16xf32> {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %1 = stablehlo.compare LT, %arg0, %0, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_0 = stablehlo.constant dense<11> : tensor<i32>
    %2 = call @_where(%1, %c_0, %arg0) : (tensor<2x3xi1>, tensor<i32>, tensor<2x3xi32>) -> tensor<2x3xi32>
    %3 = call @_take(%arg1, %2) : (tensor<11x16xf32>, tensor<2x3xi32>) -> tensor<2x3x16xf32>
    return %3 : tensor<2x3x16xf32>
  }
  func.func private @_where(%arg0: tensor<2x3xi1>, %arg1: tensor<i32>, %arg2: tensor<2x3xi32>) -> tensor<2x3xi32> {
    %0 = stablehlo.convert %arg1 : tensor<i32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<2x3xi1>, tensor<2x3xi32>
    return %2 : tensor<2x3xi32>
  }
  func.func private @_take(%arg0: tensor<11x16xf32>, %arg1: tensor<2x3xi32>) -> tensor<2x3x16xf32> {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %1 = stablehlo.compare LT, %arg1, %0, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_0 = stablehlo.constant dense<11> : tensor<i32>
    %2 = stablehlo.broadcast_in_dim %c_0, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %3 = stablehlo.add %arg1, %2 : tensor<2x3xi32>
    %4 = call @_where_0(%1, %3, %arg1) : (tensor<2x3xi1>, tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
    %5 = stablehlo.broadcast_in_dim %4, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %c_1 = stablehlo.constant dense<10> : tensor<1xi32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %6 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i32>) -> tensor<2x3x1xi32>
    %7 = stablehlo.compare GE, %5, %6, SIGNED : (tensor<2x3x1xi32>, tensor<2x3x1xi32>) -> tensor<2x3x1xi1>
    %8 = stablehlo.broadcast_in_dim %c_1, dims = [2] : (tensor<1xi32>) -> tensor<1x1x1xi32>
    %9 = stablehlo.broadcast_in_dim %8, dims = [0, 1, 2] : (tensor<1x1x1xi32>) -> tensor<2x3x1xi32>
    %10 = stablehlo.compare LE, %5, %9, SIGNED : (tensor<2x3x1xi32>, tensor<2x3x1xi32>) -> tensor<2x3x1xi1>
    %11 = stablehlo.and %7, %10 : tensor<2x3x1xi1>
    %c_3 = stablehlo.constant dense<true> : tensor<i1>
    %12 = stablehlo.reduce(%11 init: %c_3) applies stablehlo.and across dimensions = [2] : (tensor<2x3x1xi1>, tensor<i1>) -> tensor<2x3xi1>
    %13 = "stablehlo.gather"(%arg0, %5) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 16>}> : (tensor<11x16xf32>, tensor<2x3x1xi32>) -> tensor<2x3x16xf32>
    %14 = stablehlo.broadcast_in_dim %12, dims = [0, 1] : (tensor<2x3xi1>) -> tensor<2x3x16xi1>
    %cst = stablehlo.constant dense<0x7FC00000> : tensor<f32>
    %15 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x3x16xf32>
    %16 = stablehlo.select %14, %13, %15 : tensor<2x3x16xi1>, tensor<2x3x16xf32>
    return %16 : tensor<2x3x16xf32>
  }
  func.func private @_where_0(%arg0: tensor<2x3xi1>, %arg1: tensor<2x3xi32>, %arg2: tensor<2x3xi32>) -> tensor<2x3xi32> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<2x3xi1>, tensor<2x3xi32>
    return %0 : tensor<2x3xi32>
  }
  func.func private @ropegen.norm(%arg0: tensor<2x3x16xf32>, %arg1: tensor<16xf32>) -> tensor<2x3x16xf32> {
    %0 = chlo.square %arg0 : tensor<2x3x16xf32> -> tensor<2x3x16xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %1 = stablehlo.reduce(%0 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<2x3x16xf32>, tensor<f32>) -> tensor<2x3xf32>
    %2 = stablehlo.broadcast_in_dim %1, dims = [0, 1] : (tensor<2x3xf32>) -> tensor<2x3x1xf32>
    %cst_0 = stablehlo.constant dense<1.600000e+01> : tensor<f32>
    %3 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<2x3x1xf32>
    %4 = stablehlo.divide %2, %3 : tensor<2x3x1xf32>
    %cst_1 = stablehlo.constant dense<9.99999997E-7> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<2x3x1xf32>
    %6 = stablehlo.add %4, %5 : tensor<2x3x1xf32>
    %7 = stablehlo.rsqrt %6 : tensor<2x3x1xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0, 1, 2] : (tensor<2x3x1xf32>) -> tensor<2x3x16xf32>
    %9 = stablehlo.multiply %arg0, %8 : tensor<2x3x16xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<16xf32>
    %11 = stablehlo.add %arg1, %10 : tensor<16xf32>
    %12 = stablehlo.broadcast_in_dim %11, dims = [2] : (tensor<16xf32>) -> tensor<1x1x16xf32>
    %13 = stablehlo.broadcast_in_dim %12, dims = [0, 1, 2] : (tensor<1x1x16xf32>) -> tensor<2x3x16xf32>
    %14 = stablehlo.multiply %9, %13 : tensor<2x3x16xf32>
    return %14 : tensor<2x3x16xf32>
  }
  func.func private @ropegen.project(%arg0: tensor<2x3x16xf32>, %arg1: tensor<16x32xf32>) -> tensor<2x3x32xf32> {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x3x16xf32>, tensor<16x32xf32>) -> tensor<2x3x32xf32>
    return %0 : tensor<2x3x32xf32>
  }
  func.func private @ropegen.split_heads(%arg0: tensor<2x3x32xf32>) -> tensor<2x3x4x8xf32> {
    %0 = stablehlo.slice %arg0 [0:2, 0:3, 0:32] : (tensor<2x3x32xf32>) -> tensor<2x3x32xf32>
    %1 = stablehlo.reshape %0 : (tensor<2x3x32xf32>) -> tensor<2x3x4x8xf32>
    return %1 : tensor<2x3x4x8xf32>
  }
  func.func private @ropegen.angles(%arg0: tensor<2x3xi32>) -> tensor<2x3x4xf32> {
    %c = stablehlo.constant dense<[683565275, 120838]> : tensor<2xui32>
    %c_0 = stablehlo.constant dense<[1354, 21596]> : tensor<2xui32>
    %c_1 = stablehlo.constant dense<[37777, 26898]> : tensor<2xui32>
    %c_2 = stablehlo.constant dense<[2475754826, 1762808924]> : tensor<2xui32>
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %1 = stablehlo.convert %0 : (tensor<2x3x1xi32>) -> tensor<2x3x1xui32>
    %2 = stablehlo.broadcast_in_dim %c, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %3 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %4 = stablehlo.broadcast_in_dim %2, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %5 = stablehlo.multiply %3, %4 : tensor<2x3x2xui32>
    %c_3 = stablehlo.constant dense<65535> : tensor<ui32>
    %6 = stablehlo.broadcast_in_dim %c_3, dims = [] : (tensor<ui32>) -> tensor<2x3x1xui32>
    %7 = stablehlo.and %1, %6 : tensor<2x3x1xui32>
    %c_4 = stablehlo.constant dense<16> : tensor<ui32>
    %8 = stablehlo.broadcast_in_dim %c_4, dims = [] : (tensor<ui32>) -> tensor<2x3x1xui32>
    %9 = stablehlo.shift_right_logical %1, %8 : tensor<2x3x1xui32>
    %10 = stablehlo.broadcast_in_dim %c_0, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %11 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %12 = stablehlo.broadcast_in_dim %10, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %13 = stablehlo.multiply %11, %12 : tensor<2x3x2xui32>
    %14 = stablehlo.broadcast_in_dim %c_0, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %15 = stablehlo.broadcast_in_dim %7, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %16 = stablehlo.broadcast_in_dim %14, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %17 = stablehlo.multiply %15, %16 : tensor<2x3x2xui32>
    %c_5 = stablehlo.constant dense<16> : tensor<ui32>
    %18 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %19 = stablehlo.shift_right_logical %17, %18 : tensor<2x3x2xui32>
    %20 = stablehlo.add %13, %19 : tensor<2x3x2xui32>
    %21 = stablehlo.broadcast_in_dim %c_1, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %22 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %23 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %24 = stablehlo.multiply %22, %23 : tensor<2x3x2xui32>
    %c_6 = stablehlo.constant dense<16> : tensor<ui32>
    %25 = stablehlo.broadcast_in_dim %c_6, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %26 = stablehlo.shift_right_logical %20, %25 : tensor<2x3x2xui32>
    %27 = stablehlo.add %24, %26 : tensor<2x3x2xui32>
    %28 = stablehlo.broadcast_in_dim %c_1, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %29 = stablehlo.broadcast_in_dim %7, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %30 = stablehlo.broadcast_in_dim %28, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %31 = stablehlo.multiply %29, %30 : tensor<2x3x2xui32>
    %c_7 = stablehlo.constant dense<65535> : tensor<ui32>
    %32 = stablehlo.broadcast_in_dim %c_7, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %33 = stablehlo.and %20, %32 : tensor<2x3x2xui32>
    %34 = stablehlo.add %31, %33 : tensor<2x3x2xui32>
    %c_8 = stablehlo.constant dense<16> : tensor<ui32>
    %35 = stablehlo.broadcast_in_dim %c_8, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %36 = stablehlo.shift_right_logical %34, %35 : tensor<2x3x2xui32>
    %37 = stablehlo.add %27, %36 : tensor<2x3x2xui32>
    %38 = stablehlo.add %5, %37 : tensor<2x3x2xui32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %39 = stablehlo.broadcast_in_dim %c_9, dims = [] : (tensor<i32>) -> tensor<2x3x1xi32>
    %40 = stablehlo.compare LT, %0, %39, SIGNED : (tensor<2x3x1xi32>, tensor<2x3x1xi32>) -> tensor<2x3x1xi1>
    %41 = stablehlo.broadcast_in_dim %c_2, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %43 = stablehlo.subtract %38, %42 : tensor<2x3x2xui32>
    %44 = call @_where_1(%40, %43, %38) : (tensor<2x3x1xi1>, tensor<2x3x2xui32>, tensor<2x3x2xui32>) -> tensor<2x3x2xui32>
    %45 = stablehlo.broadcast_in_dim %c_2, dims = [2] : (tensor<2xui32>) -> tensor<1x1x2xui32>
    %46 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2] : (tensor<2x3x1xui32>) -> tensor<2x3x2xui32>
    %47 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2] : (tensor<1x1x2xui32>) -> tensor<2x3x2xui32>
    %48 = stablehlo.multiply %46, %47 : tensor<2x3x2xui32>
    %49 = stablehlo.convert %48 : (tensor<2x3x2xui32>) -> tensor<2x3x2xf32>
    %cst = stablehlo.constant dense<2.32830644E-10> : tensor<f32>
    %50 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %51 = stablehlo.multiply %49, %50 : tensor<2x3x2xf32>
    %c_10 = stablehlo.constant dense<536870912> : tensor<ui32>
    %52 = stablehlo.broadcast_in_dim %c_10, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %53 = stablehlo.add %44, %52 : tensor<2x3x2xui32>
    %c_11 = stablehlo.constant dense<30> : tensor<ui32>
    %54 = stablehlo.broadcast_in_dim %c_11, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %55 = stablehlo.shift_right_logical %53, %54 : tensor<2x3x2xui32>
    %c_12 = stablehlo.constant dense<30> : tensor<ui32>
    %56 = stablehlo.broadcast_in_dim %c_12, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %57 = stablehlo.shift_left %55, %56 : tensor<2x3x2xui32>
    %58 = stablehlo.subtract %44, %57 : tensor<2x3x2xui32>
    %59 = stablehlo.convert %58 : (tensor<2x3x2xui32>) -> tensor<2x3x2xi32>
    %c_13 = stablehlo.constant dense<15> : tensor<i32>
    %60 = stablehlo.broadcast_in_dim %c_13, dims = [] : (tensor<i32>) -> tensor<2x3x2xi32>
    %61 = stablehlo.shift_right_arithmetic %59, %60 : tensor<2x3x2xi32>
    %62 = stablehlo.convert %61 : (tensor<2x3x2xi32>) -> tensor<2x3x2xf32>
    %cst_14 = stablehlo.constant dense<3.276800e+04> : tensor<f32>
    %63 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %64 = stablehlo.multiply %62, %63 : tensor<2x3x2xf32>
    %c_15 = stablehlo.constant dense<32767> : tensor<i32>
    %65 = stablehlo.broadcast_in_dim %c_15, dims = [] : (tensor<i32>) -> tensor<2x3x2xi32>
    %66 = stablehlo.and %59, %65 : tensor<2x3x2xi32>
    %67 = stablehlo.convert %66 : (tensor<2x3x2xi32>) -> tensor<2x3x2xf32>
    %cst_16 = stablehlo.constant dense<1.46246748E-9> : tensor<f32>
    %68 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %69 = stablehlo.multiply %64, %68 : tensor<2x3x2xf32>
    %cst_17 = stablehlo.constant dense<4.50598814E-13> : tensor<f32>
    %70 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %71 = stablehlo.multiply %64, %70 : tensor<2x3x2xf32>
    %72 = stablehlo.add %67, %51 : tensor<2x3x2xf32>
    %cst_18 = stablehlo.constant dense<1.46291812E-9> : tensor<f32>
    %73 = stablehlo.broadcast_in_dim %cst_18, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %74 = stablehlo.multiply %72, %73 : tensor<2x3x2xf32>
    %75 = stablehlo.add %71, %74 : tensor<2x3x2xf32>
    %76 = stablehlo.add %69, %75 : tensor<2x3x2xf32>
    %77 = stablehlo.subtract %69, %76 : tensor<2x3x2xf32>
    %78 = stablehlo.add %77, %75 : tensor<2x3x2xf32>
    %79 = stablehlo.cosine %76 : tensor<2x3x2xf32>
    %80 = stablehlo.sine %76 : tensor<2x3x2xf32>
    %81 = stablehlo.multiply %78, %80 : tensor<2x3x2xf32>
    %82 = stablehlo.subtract %79, %81 : tensor<2x3x2xf32>
    %83 = stablehlo.multiply %78, %79 : tensor<2x3x2xf32>
    %84 = stablehlo.add %80, %83 : tensor<2x3x2xf32>
    %c_19 = stablehlo.constant dense<1> : tensor<ui32>
    %85 = stablehlo.broadcast_in_dim %c_19, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %86 = stablehlo.and %55, %85 : tensor<2x3x2xui32>
    %c_20 = stablehlo.constant dense<1> : tensor<ui32>
    %87 = stablehlo.broadcast_in_dim %c_20, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %88 = stablehlo.compare EQ, %86, %87, UNSIGNED : (tensor<2x3x2xui32>, tensor<2x3x2xui32>) -> tensor<2x3x2xi1>
    %c_21 = stablehlo.constant dense<1> : tensor<ui32>
    %89 = stablehlo.broadcast_in_dim %c_21, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %90 = stablehlo.add %55, %89 : tensor<2x3x2xui32>
    %c_22 = stablehlo.constant dense<2> : tensor<ui32>
    %91 = stablehlo.broadcast_in_dim %c_22, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %92 = stablehlo.and %90, %91 : tensor<2x3x2xui32>
    %c_23 = stablehlo.constant dense<2> : tensor<ui32>
    %93 = stablehlo.broadcast_in_dim %c_23, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %94 = stablehlo.compare EQ, %92, %93, UNSIGNED : (tensor<2x3x2xui32>, tensor<2x3x2xui32>) -> tensor<2x3x2xi1>
    %c_24 = stablehlo.constant dense<2> : tensor<ui32>
    %95 = stablehlo.broadcast_in_dim %c_24, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %96 = stablehlo.and %55, %95 : tensor<2x3x2xui32>
    %c_25 = stablehlo.constant dense<2> : tensor<ui32>
    %97 = stablehlo.broadcast_in_dim %c_25, dims = [] : (tensor<ui32>) -> tensor<2x3x2xui32>
    %98 = stablehlo.compare EQ, %96, %97, UNSIGNED : (tensor<2x3x2xui32>, tensor<2x3x2xui32>) -> tensor<2x3x2xi1>
    %99 = call @_where_2(%88, %84, %82) : (tensor<2x3x2xi1>, tensor<2x3x2xf32>, tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
    %100 = call @_where_2(%88, %82, %84) : (tensor<2x3x2xi1>, tensor<2x3x2xf32>, tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
    %101 = stablehlo.negate %99 : tensor<2x3x2xf32>
    %102 = call @_where_2(%94, %101, %99) : (tensor<2x3x2xi1>, tensor<2x3x2xf32>, tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
    %103 = stablehlo.negate %100 : tensor<2x3x2xf32>
    %104 = call @_where_2(%98, %103, %100) : (tensor<2x3x2xi1>, tensor<2x3x2xf32>, tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
    %cst_26 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %105 = stablehlo.broadcast_in_dim %cst_26, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %106 = stablehlo.multiply %102, %105 : tensor<2x3x2xf32>
    %cst_27 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %107 = stablehlo.broadcast_in_dim %cst_27, dims = [] : (tensor<f32>) -> tensor<2x3x2xf32>
    %108 = stablehlo.multiply %104, %107 : tensor<2x3x2xf32>
    %109 = stablehlo.concatenate %106, %108, dim = 2 : (tensor<2x3x2xf32>, tensor<2x3x2xf32>) -> tensor<2x3x4xf32>
    return %109 : tensor<2x3x4xf32>
  }
  func.func private @_where_1(%arg0: tensor<2x3x1xi1>, %arg1: tensor<2x3x2xui32>, %arg2: tensor<2x3x2xui32>) -> tensor<2x3x2xui32> {
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1, 2] : (tensor<2x3x1xi1>) -> tensor<2x3x2xi1>
    %1 = stablehlo.select %0, %arg1, %arg2 : tensor<2x3x2xi1>, tensor<2x3x2xui32>
    return %1 : tensor<2x3x2xui32>
  }
  func.func private @_where_2(%arg0: tensor<2x3x2xi1>, %arg1: tensor<2x3x2xf32>, %arg2: tensor<2x3x2xf32>) -> tensor<2x3x2xf32> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<2x3x2xi1>, tensor<2x3x2xf32>
    return %0 : tensor<2x3x2xf32>
  }
  func.func private @ropegen.rotate(%arg0: tensor<2x3x4x8xf32>, %arg1: tensor<2x3x4xf32>) -> tensor<2x3x4x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1, 3] : (tensor<2x3x4xf32>) -> tensor<2x3x1x4xf32>
    %1 = stablehlo.slice %0 [0:2, 0:3, 0:1, 0:2] : (tensor<2x3x1x4xf32>) -> tensor<2x3x1x2xf32>
    %2 = stablehlo.slice %0 [0:2, 0:3, 0:1, 2:4] : (tensor<2x3x1x4xf32>) -> tensor<2x3x1x2xf32>
    %3 = stablehlo.slice %arg0 [0:2, 0:3, 0:4, 0:2] : (tensor<2x3x4x8xf32>) -> tensor<2x3x4x2xf32>
    %4 = stablehlo.slice %arg0 [0:2, 0:3, 0:4, 2:4] : (tensor<2x3x4x8xf32>) -> tensor<2x3x4x2xf32>
    %5 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x4x2xf32>
    %6 = stablehlo.multiply %3, %5 : tensor<2x3x4x2xf32>
    %7 = stablehlo.broadcast_in_dim %2, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x4x2xf32>
    %8 = stablehlo.multiply %4, %7 : tensor<2x3x4x2xf32>
    %9 = stablehlo.subtract %6, %8 : tensor<2x3x4x2xf32>
    %10 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x4x2xf32>
    %11 = stablehlo.multiply %4, %10 : tensor<2x3x4x2xf32>
    %12 = stablehlo.broadcast_in_dim %2, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x4x2xf32>
    %13 = stablehlo.multiply %3, %12 : tensor<2x3x4x2xf32>
    %14 = stablehlo.add %11, %13 : tensor<2x3x4x2xf32>
    %15 = stablehlo.slice %arg0 [0:2, 0:3, 0:4, 4:8] : (tensor<2x3x4x8xf32>) -> tensor<2x3x4x4xf32>
    %16 = stablehlo.concatenate %9, %14, %15, dim = 3 : (tensor<2x3x4x2xf32>, tensor<2x3x4x2xf32>, tensor<2x3x4x4xf32>) -> tensor<2x3x4x8xf32>
    return %16 : tensor<2x3x4x8xf32>
  }
  func.func private @ropegen.project_3(%arg0: tensor<2x3x16xf32>, %arg1: tensor<16x16xf32>) -> tensor<2x3x16xf32> {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
    return %0 : tensor<2x3x16xf32>
  }
  func.func private @ropegen.split_heads_4(%arg0: tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32> {
    %0 = stablehlo.slice %arg0 [0:2, 0:3, 0:16] : (tensor<2x3x16xf32>) -> tensor<2x3x16xf32>
    %1 = stablehlo.reshape %0 : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    return %1 : tensor<2x3x2x8xf32>
  }
  func.func private @ropegen.rotate_5(%arg0: tensor<2x3x2x8xf32>, %arg1: tensor<2x3x4xf32>) -> tensor<2x3x2x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1, 3] : (tensor<2x3x4xf32>) -> tensor<2x3x1x4xf32>
    %1 = stablehlo.slice %0 [0:2, 0:3, 0:1, 0:2] : (tensor<2x3x1x4xf32>) -> tensor<2x3x1x2xf32>
    %2 = stablehlo.slice %0 [0:2, 0:3, 0:1, 2:4] : (tensor<2x3x1x4xf32>) -> tensor<2x3x1x2xf32>
    %3 = stablehlo.slice %arg0 [0:2, 0:3, 0:2, 0:2] : (tensor<2x3x2x8xf32>) -> tensor<2x3x2x2xf32>
    %4 = stablehlo.slice %arg0 [0:2, 0:3, 0:2, 2:4] : (tensor<2x3x2x8xf32>) -> tensor<2x3x2x2xf32>
    %5 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x2x2xf32>
    %6 = stablehlo.multiply %3, %5 : tensor<2x3x2x2xf32>
    %7 = stablehlo.broadcast_in_dim %2, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x2x2xf32>
    %8 = stablehlo.multiply %4, %7 : tensor<2x3x2x2xf32>
    %9 = stablehlo.subtract %6, %8 : tensor<2x3x2x2xf32>
    %10 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x2x2xf32>
    %11 = stablehlo.multiply %4, %10 : tensor<2x3x2x2xf32>
    %12 = stablehlo.broadcast_in_dim %2, dims = [0, 1, 2, 3] : (tensor<2x3x1x2xf32>) -> tensor<2x3x2x2xf32>
    %13 = stablehlo.multiply %3, %12 : tensor<2x3x2x2xf32>
    %14 = stablehlo.add %11, %13 : tensor<2x3x2x2xf32>
    %15 = stablehlo.slice %arg0 [0:2, 0:3, 0:2, 4:8] : (tensor<2x3x2x8xf32>) -> tensor<2x3x2x4xf32>
    %16 = stablehlo.concatenate %9, %14, %15, dim = 3 : (tensor<2x3x2x2xf32>, tensor<2x3x2x2xf32>, tensor<2x3x2x4xf32>) -> tensor<2x3x2x8xf32>
    return %16 : tensor<2x3x2x8xf32>
  }
  func.func private @ropegen.append_cache(%arg0: tensor<2x9x2x8xf32>, %arg1: tensor<2x3x2x8xf32>, %arg2: tensor<2xi32>) -> tensor<2x9x2x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [0] : (tensor<2xi32>) -> tensor<2x1xi32>
    %1 = stablehlo.iota dim = 0 : tensor<3xi32>
    %2 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<3xi32>) -> tensor<1x3xi32>
    %3 = stablehlo.broadcast_in_dim %0, dims = [0, 1] : (tensor<2x1xi32>) -> tensor<2x3xi32>
    %4 = stablehlo.broadcast_in_dim %2, dims = [0, 1] : (tensor<1x3xi32>) -> tensor<2x3xi32>
    %5 = stablehlo.add %3, %4 : tensor<2x3xi32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %6 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %7 = stablehlo.compare LT, %5, %6, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_0 = stablehlo.constant dense<9> : tensor<i32>
    %8 = call @_where(%7, %c_0, %5) : (tensor<2x3xi1>, tensor<i32>, tensor<2x3xi32>) -> tensor<2x3xi32>
    %9 = stablehlo.iota dim = 0 : tensor<2xi32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0] : (tensor<2xi32>) -> tensor<2x1xi32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %11 = stablehlo.broadcast_in_dim %c_1, dims = [] : (tensor<i32>) -> tensor<2x1xi32>
    %12 = stablehlo.compare LT, %10, %11, SIGNED : (tensor<2x1xi32>, tensor<2x1xi32>) -> tensor<2x1xi1>
    %c_2 = stablehlo.constant dense<2> : tensor<i32>
    %13 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i32>) -> tensor<2x1xi32>
    %14 = stablehlo.add %10, %13 : tensor<2x1xi32>
    %15 = stablehlo.select %12, %14, %10 : tensor<2x1xi1>, tensor<2x1xi32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %16 = stablehlo.broadcast_in_dim %c_3, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %17 = stablehlo.compare LT, %8, %16, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_4 = stablehlo.constant dense<9> : tensor<i32>
    %18 = stablehlo.broadcast_in_dim %c_4, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %19 = stablehlo.add %8, %18 : tensor<2x3xi32>
    %20 = stablehlo.select %17, %19, %8 : tensor<2x3xi1>, tensor<2x3xi32>
    %21 = stablehlo.broadcast_in_dim %15, dims = [0, 1] : (tensor<2x1xi32>) -> tensor<2x3xi32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %23 = stablehlo.broadcast_in_dim %20, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %24 = stablehlo.concatenate %22, %23, dim = 2 : (tensor<2x3x1xi32>, tensor<2x3x1xi32>) -> tensor<2x3x2xi32>
    %25 = "stablehlo.scatter"(%arg0, %24, %arg1) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg3: tensor<f32>, %arg4: tensor<f32>):
      stablehlo.return %arg4 : tensor<f32>
    }) : (tensor<2x9x2x8xf32>, tensor<2x3x2xi32>, tensor<2x3x2x8xf32>) -> tensor<2x9x2x8xf32>
    return %25 : tensor<2x9x2x8xf32>
  }
  func.func private @ropegen.project_6(%arg0: tensor<2x3x16xf32>, %arg1: tensor<16x16xf32>) -> tensor<2x3x16xf32> {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x3x16xf32>, tensor<16x16xf32>) -> tensor<2x3x16xf32>
    return %0 : tensor<2x3x16xf32>
  }
  func.func private @ropegen.split_heads_7(%arg0: tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32> {
    %0 = stablehlo.slice %arg0 [0:2, 0:3, 0:16] : (tensor<2x3x16xf32>) -> tensor<2x3x16xf32>
    %1 = stablehlo.reshape %0 : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    return %1 : tensor<2x3x2x8xf32>
  }
  func.func private @ropegen.append_cache_8(%arg0: tensor<2x9x2x8xf32>, %arg1: tensor<2x3x2x8xf32>, %arg2: tensor<2xi32>) -> tensor<2x9x2x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [0] : (tensor<2xi32>) -> tensor<2x1xi32>
    %1 = stablehlo.iota dim = 0 : tensor<3xi32>
    %2 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<3xi32>) -> tensor<1x3xi32>
    %3 = stablehlo.broadcast_in_dim %0, dims = [0, 1] : (tensor<2x1xi32>) -> tensor<2x3xi32>
    %4 = stablehlo.broadcast_in_dim %2, dims = [0, 1] : (tensor<1x3xi32>) -> tensor<2x3xi32>
    %5 = stablehlo.add %3, %4 : tensor<2x3xi32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %6 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %7 = stablehlo.compare LT, %5, %6, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_0 = stablehlo.constant dense<9> : tensor<i32>
    %8 = call @_where(%7, %c_0, %5) : (tensor<2x3xi1>, tensor<i32>, tensor<2x3xi32>) -> tensor<2x3xi32>
    %9 = stablehlo.iota dim = 0 : tensor<2xi32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0] : (tensor<2xi32>) -> tensor<2x1xi32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %11 = stablehlo.broadcast_in_dim %c_1, dims = [] : (tensor<i32>) -> tensor<2x1xi32>
    %12 = stablehlo.compare LT, %10, %11, SIGNED : (tensor<2x1xi32>, tensor<2x1xi32>) -> tensor<2x1xi1>
    %c_2 = stablehlo.constant dense<2> : tensor<i32>
    %13 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i32>) -> tensor<2x1xi32>
    %14 = stablehlo.add %10, %13 : tensor<2x1xi32>
    %15 = stablehlo.select %12, %14, %10 : tensor<2x1xi1>, tensor<2x1xi32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %16 = stablehlo.broadcast_in_dim %c_3, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %17 = stablehlo.compare LT, %8, %16, SIGNED : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi1>
    %c_4 = stablehlo.constant dense<9> : tensor<i32>
    %18 = stablehlo.broadcast_in_dim %c_4, dims = [] : (tensor<i32>) -> tensor<2x3xi32>
    %19 = stablehlo.add %8, %18 : tensor<2x3xi32>
    %20 = stablehlo.select %17, %19, %8 : tensor<2x3xi1>, tensor<2x3xi32>
    %21 = stablehlo.broadcast_in_dim %15, dims = [0, 1] : (tensor<2x1xi32>) -> tensor<2x3xi32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %23 = stablehlo.broadcast_in_dim %20, dims = [0, 1] : (tensor<2x3xi32>) -> tensor<2x3x1xi32>
    %24 = stablehlo.concatenate %22, %23, dim = 2 : (tensor<2x3x1xi32>, tensor<2x3x1xi32>) -> tensor<2x3x2xi32>
    %25 = "stablehlo.scatter"(%arg0, %24, %arg1) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg3: tensor<f32>, %arg4: tensor<f32>):
      stablehlo.return %arg4 : tensor<f32>
    }) : (tensor<2x9x2x8xf32>, tensor<2x3x2xi32>, tensor<2x3x2x8xf32>) -> tensor<2x9x2x8xf32>
    return %25 : tensor<2x9x2x8xf32>
  }
  func.func private @ropegen.positions() -> tensor<9xi32> {
    %0 = stablehlo.iota dim = 0 : tensor<9xi32>
    return %0 : tensor<9xi32>
  }
  func.func private @ropegen.attend(%arg0: tensor<2x3x4x8xf32>, %arg1: tensor<2x9x2x8xf32>, %arg2: tensor<2x9x2x8xf32>, %arg3: tensor<2x3xi32>, %arg4: tensor<9xi32>, %arg5: tensor<4xf32>) -> tensor<2x3x4x8xf32> {
    %0 = stablehlo.reshape %arg0 : (tensor<2x3x4x8xf32>) -> tensor<2x3x2x2x8xf32>
    %1 = stablehlo.reshape %arg3 : (tensor<2x3xi32>) -> tensor<2x1x1x3xi32>
    %2 = stablehlo.broadcast_in_dim %1, dims = [0, 1, 2, 3] : (tensor<2x1x1x3xi32>) -> tensor<2x1x1x3x1xi32>
    %3 = stablehlo.broadcast_in_dim %arg4, dims = [1] : (tensor<9xi32>) -> tensor<2x9xi32>
    %4 = stablehlo.reshape %3 : (tensor<2x9xi32>) -> tensor<2x1x1x9xi32>
    %5 = stablehlo.broadcast_in_dim %4, dims = [0, 1, 2, 4] : (tensor<2x1x1x9xi32>) -> tensor<2x1x1x1x9xi32>
    %6 = stablehlo.reshape %arg5 : (tensor<4xf32>) -> tensor<1x2x2x1x1xf32>
    %7 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c = stablehlo.constant dense<3> : tensor<i32>
    %8 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %9 = stablehlo.multiply %8, %7 : tensor<1xi32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %10 = stablehlo.broadcast_in_dim %c_0, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %11 = stablehlo.add %10, %9 : tensor<1xi32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x2x3x2x2x8xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %13 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2x3x2x2xf32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %14:10 = stablehlo.while(%iterArg = %11, %iterArg_3 = %2, %iterArg_4 = %0, %iterArg_5 = %arg1, %iterArg_6 = %5, %iterArg_7 = %6, %iterArg_8 = %arg2, %iterArg_9 = %c_2, %iterArg_10 = %12, %iterArg_11 = %13) : tensor<1xi32>, tensor<2x1x1x3x1xi32>, tensor<2x3x2x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x1x1x1x9xi32>, tensor<1x2x2x1x1xf32>, tensor<2x9x2x8xf32>, tensor<i32>, tensor<1x2x3x2x2x8xf32>, tensor<1x2x3x2x2xf32>
    cond {
      %c_12 = stablehlo.constant dense<1> : tensor<i32>
      %21 = stablehlo.compare LT, %iterArg_9, %c_12, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %21 : tensor<i1>
    } do {
      %21 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_9) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %22:2 = func.call @closed_call(%iterArg_3, %iterArg_4, %iterArg_5, %iterArg_6, %iterArg_7, %iterArg_8, %21) : (tensor<2x1x1x3x1xi32>, tensor<2x3x2x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x1x1x1x9xi32>, tensor<1x2x2x1x1xf32>, tensor<2x9x2x8xf32>, tensor<i32>) -> (tensor<2x3x2x2x8xf32>, tensor<2x3x2x2xf32>)
      %23 = func.call @dynamic_update_index_in_dim(%iterArg_10, %22#0, %iterArg_9) : (tensor<1x2x3x2x2x8xf32>, tensor<2x3x2x2x8xf32>, tensor<i32>) -> tensor<1x2x3x2x2x8xf32>
      %24 = func.call @dynamic_update_index_in_dim_13(%iterArg_11, %22#1, %iterArg_9) : (tensor<1x2x3x2x2xf32>, tensor<2x3x2x2xf32>, tensor<i32>) -> tensor<1x2x3x2x2xf32>
      %c_12 = stablehlo.constant dense<1> : tensor<i32>
      %25 = stablehlo.add %iterArg_9, %c_12 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_3, %iterArg_4, %iterArg_5, %iterArg_6, %iterArg_7, %iterArg_8, %25, %23, %24 : tensor<1xi32>, tensor<2x1x1x3x1xi32>, tensor<2x3x2x2x8xf32>, tensor<2x9x2x8xf32>, tensor<2x1x1x1x9xi32>, tensor<1x2x2x1x1xf32>, tensor<2x9x2x8xf32>, tensor<i32>, tensor<1x2x3x2x2x8xf32>, tensor<1x2x3x2x2xf32>
    }
    %15 = stablehlo.transpose %14#8, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x2x3x2x2x8xf32>) -> tensor<2x1x3x2x2x8xf32>
    %16 = stablehlo.reshape %15 : (tensor<2x1x3x2x2x8xf32>) -> tensor<2x3x2x2x8xf32>
    %17 = stablehlo.transpose %14#9, dims = [1, 0, 2, 3, 4] : (tensor<1x2x3x2x2xf32>) -> tensor<2x1x3x2x2xf32>
    %18 = stablehlo.reshape %17 : (tensor<2x1x3x2x2xf32>) -> tensor<2x3x2x2xf32>
    %19 = stablehlo.reshape %16 : (tensor<2x3x2x2x8xf32>) -> tensor<2x3x4x8xf32>
    %20 = stablehlo.reshape %18 : (tensor<2x3x2x2xf32>) -> tensor<2x3x4xf32>
    return %19 : tensor<2x3x4x8xf32>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<2x1x1x3x1xi32>, %arg1: tensor<2x3x2x2x8xf32>, %arg2: tensor<2x9x2x8xf32>, %arg3: tensor<2x1x1x1x9xi32>, %arg4: tensor<1x2x2x1x1xf32>, %arg5: tensor<2x9x2x8xf32>, %arg6: tensor<i32>) -> (tensor<2x3x2x2x8xf32>, tensor<2x3x2x2xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg6, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<3> : tensor<i32>
    %1 = stablehlo.add %arg6, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg6 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [2, 1, 1, 3, 1] : (tensor<2x1x1x3x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<2x1x1x3x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg6, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<3> : tensor<i32>
    %5 = stablehlo.add %arg6, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg6 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [2, 3, 2, 2, 8] : (tensor<2x3x2x2x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<2x3x2x2x8xf32>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<2x9x2x8xf32>, tensor<2x3x2x2x8xf32>) -> tensor<2x2x9x3x2xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<2x2x9x3x2xf32>) -> tensor<2x2x2x3x9xf32>
    %cst = stablehlo.constant dense<0.353553385> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<2x2x2x3x9xf32>
    %cst_11 = stablehlo.constant dense<2.000000e+01> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %13 = stablehlo.divide %11, %12 : tensor<2x2x2x3x9xf32>
    %14 = stablehlo.tanh %13 : tensor<2x2x2x3x9xf32>
    %cst_12 = stablehlo.constant dense<2.000000e+01> : tensor<f32>
    %15 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %16 = stablehlo.multiply %15, %14 : tensor<2x2x2x3x9xf32>
    %17 = stablehlo.iota dim = 0 : tensor<2xi32>
    %18 = stablehlo.reshape %17 : (tensor<2xi32>) -> tensor<2x1x1x1x1xi32>
    %19 = stablehlo.iota dim = 0 : tensor<4xi32>
    %20 = stablehlo.reshape %19 : (tensor<4xi32>) -> tensor<1x2x2x1x1xi32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %21 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %22 = stablehlo.compare NE, %16, %21, FLOAT : (tensor<2x2x2x3x9xf32>, tensor<2x2x2x3x9xf32>) -> tensor<2x2x2x3x9xi1>
    %23 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<2x1x1x1x9xi32>) -> tensor<2x1x1x3x9xi32>
    %24 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<2x1x1x3x1xi32>) -> tensor<2x1x1x3x9xi32>
    %25 = stablehlo.compare LE, %23, %24, SIGNED : (tensor<2x1x1x3x9xi32>, tensor<2x1x1x3x9xi32>) -> tensor<2x1x1x3x9xi1>
    %26 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<2x1x1x3x1xi32>) -> tensor<2x1x1x3x9xi32>
    %27 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<2x1x1x1x9xi32>) -> tensor<2x1x1x3x9xi32>
    %28 = stablehlo.subtract %26, %27 : tensor<2x1x1x3x9xi32>
    %c_14 = stablehlo.constant dense<6> : tensor<i32>
    %29 = stablehlo.broadcast_in_dim %c_14, dims = [] : (tensor<i32>) -> tensor<2x1x1x3x9xi32>
    %30 = stablehlo.compare LT, %28, %29, SIGNED : (tensor<2x1x1x3x9xi32>, tensor<2x1x1x3x9xi32>) -> tensor<2x1x1x3x9xi1>
    %31 = stablehlo.and %25, %30 : tensor<2x1x1x3x9xi1>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<2x1x1x3x9xi1>) -> tensor<2x2x2x3x9xi1>
    %33 = stablehlo.and %22, %32 : tensor<2x2x2x3x9xi1>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %34 = call @_where_9(%33, %16, %cst_15) : (tensor<2x2x2x3x9xi1>, tensor<2x2x2x3x9xf32>, tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %35 = stablehlo.reduce(%34 init: %cst_16) applies stablehlo.maximum across dimensions = [4] : (tensor<2x2x2x3x9xf32>, tensor<f32>) -> tensor<2x2x2x3xf32>
    %cst_17 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %36 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<2x2x2x3xf32>
    %37 = stablehlo.maximum %36, %35 : tensor<2x2x2x3xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1, 2, 3] : (tensor<2x2x2x3xf32>) -> tensor<2x2x2x3x1xf32>
    %39 = stablehlo.broadcast_in_dim %arg4, dims = [0, 1, 2, 3, 4] : (tensor<1x2x2x1x1xf32>) -> tensor<2x2x2x3x1xf32>
    %40 = stablehlo.maximum %38, %39 : tensor<2x2x2x3x1xf32>
    %cst_18 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %41 = stablehlo.broadcast_in_dim %cst_18, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %42 = stablehlo.compare EQ, %40, %41, FLOAT : (tensor<2x2x2x3x1xf32>, tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x1xi1>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %43 = call @_where_10(%42, %cst_19, %40) : (tensor<2x2x2x3x1xi1>, tensor<f32>, tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x1xf32>
    %44 = stablehlo.broadcast_in_dim %43, dims = [0, 1, 2, 3, 4] : (tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x9xf32>
    %45 = stablehlo.subtract %16, %44 : tensor<2x2x2x3x9xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %46 = call @_where_11(%33, %45, %cst_20) : (tensor<2x2x2x3x9xi1>, tensor<2x2x2x3x9xf32>, tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %47 = stablehlo.exponential %46 : tensor<2x2x2x3x9xf32>
    %cst_21 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %48 = call @_where_11(%33, %47, %cst_21) : (tensor<2x2x2x3x9xi1>, tensor<2x2x2x3x9xf32>, tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %cst_22 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %49 = stablehlo.reduce(%48 init: %cst_22) applies stablehlo.add across dimensions = [4] : (tensor<2x2x2x3x9xf32>, tensor<f32>) -> tensor<2x2x2x3xf32>
    %50 = stablehlo.broadcast_in_dim %49, dims = [0, 1, 2, 3] : (tensor<2x2x2x3xf32>) -> tensor<2x2x2x3x1xf32>
    %51 = stablehlo.broadcast_in_dim %arg4, dims = [0, 1, 2, 3, 4] : (tensor<1x2x2x1x1xf32>) -> tensor<2x2x2x3x1xf32>
    %52 = stablehlo.subtract %51, %43 : tensor<2x2x2x3x1xf32>
    %53 = stablehlo.exponential %52 : tensor<2x2x2x3x1xf32>
    %54 = stablehlo.add %50, %53 : tensor<2x2x2x3x1xf32>
    %cst_23 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %55 = stablehlo.broadcast_in_dim %cst_23, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %56 = stablehlo.compare GT, %54, %55, FLOAT : (tensor<2x2x2x3x1xf32>, tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x1xi1>
    %cst_24 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %57 = call @_where_12(%56, %54, %cst_24) : (tensor<2x2x2x3x1xi1>, tensor<2x2x2x3x1xf32>, tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %58 = stablehlo.dot_general %48, %arg5, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<2x2x2x3x9xf32>, tensor<2x9x2x8xf32>) -> tensor<2x2x2x3x8xf32>
    %59 = stablehlo.broadcast_in_dim %57, dims = [0, 1, 2, 3, 4] : (tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x8xf32>
    %60 = stablehlo.divide %58, %59 : tensor<2x2x2x3x8xf32>
    %61 = stablehlo.log %57 : tensor<2x2x2x3x1xf32>
    %62 = stablehlo.add %43, %61 : tensor<2x2x2x3x1xf32>
    %cst_25 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %63 = call @_where_12(%56, %62, %cst_25) : (tensor<2x2x2x3x1xi1>, tensor<2x2x2x3x1xf32>, tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %64 = stablehlo.reshape %63 : (tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3xf32>
    %65 = stablehlo.transpose %60, dims = [0, 3, 1, 2, 4] : (tensor<2x2x2x3x8xf32>) -> tensor<2x3x2x2x8xf32>
    %66 = stablehlo.transpose %64, dims = [0, 3, 1, 2] : (tensor<2x2x2x3xf32>) -> tensor<2x3x2x2xf32>
    return %65, %66 : tensor<2x3x2x2x8xf32>, tensor<2x3x2x2xf32>
  }
  func.func private @_where_9(%arg0: tensor<2x2x2x3x9xi1>, %arg1: tensor<2x2x2x3x9xf32>, %arg2: tensor<f32>) -> tensor<2x2x2x3x9xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<2x2x2x3x9xi1>, tensor<2x2x2x3x9xf32>
    return %1 : tensor<2x2x2x3x9xf32>
  }
  func.func private @_where_10(%arg0: tensor<2x2x2x3x1xi1>, %arg1: tensor<f32>, %arg2: tensor<2x2x2x3x1xf32>) -> tensor<2x2x2x3x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<2x2x2x3x1xi1>, tensor<2x2x2x3x1xf32>
    return %2 : tensor<2x2x2x3x1xf32>
  }
  func.func private @_where_11(%arg0: tensor<2x2x2x3x9xi1>, %arg1: tensor<2x2x2x3x9xf32>, %arg2: tensor<f32>) -> tensor<2x2x2x3x9xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x9xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<2x2x2x3x9xi1>, tensor<2x2x2x3x9xf32>
    return %2 : tensor<2x2x2x3x9xf32>
  }
  func.func private @_where_12(%arg0: tensor<2x2x2x3x1xi1>, %arg1: tensor<2x2x2x3x1xf32>, %arg2: tensor<f32>) -> tensor<2x2x2x3x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<2x2x2x3x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<2x2x2x3x1xi1>, tensor<2x2x2x3x1xf32>
    return %2 : tensor<2x2x2x3x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x2x3x2x2x8xf32>, %arg1: tensor<2x3x2x2x8xf32>, %arg2: tensor<i32>) -> tensor<1x2x3x2x2x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<2x3x2x2x8xf32>) -> tensor<1x2x3x2x2x8xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x2x3x2x2x8xf32>, tensor<1x2x3x2x2x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x2x3x2x2x8xf32>
    return %1 : tensor<1x2x3x2x2x8xf32>
  }
  func.func private @dynamic_update_index_in_dim_13(%arg0: tensor<1x2x3x2x2xf32>, %arg1: tensor<2x3x2x2xf32>, %arg2: tensor<i32>) -> tensor<1x2x3x2x2xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<2x3x2x2xf32>) -> tensor<1x2x3x2x2xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x2x3x2x2xf32>, tensor<1x2x3x2x2xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x2x3x2x2xf32>
    return %1 : tensor<1x2x3x2x2xf32>
  }
  func.func private @ropegen.merge_heads(%arg0: tensor<2x3x4x8xf32>) -> tensor<2x3x32xf32> {
    %0 = stablehlo.reshape %arg0 : (tensor<2x3x4x8xf32>) -> tensor<2x3x32xf32>
    return %0 : tensor<2x3x32xf32>
  }
  func.func private @ropegen.split_heads_14(%arg0: tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32> {
    %0 = stablehlo.slice %arg0 [0:2, 0:3, 0:16] : (tensor<2x3x16xf32>) -> tensor<2x3x16xf32>
    %1 = stablehlo.reshape %0 : (tensor<2x3x16xf32>) -> tensor<2x3x2x8xf32>
    return %1 : tensor<2x3x2x8xf32>
  }
  func.func private @ropegen.positions_15() -> tensor<3xi32> {
    %0 = stablehlo.iota dim = 0 : tensor<3xi32>
    return %0 : tensor<3xi32>
  }
  func.func private @ropegen.angles_16(%arg0: tensor<3xi32>) -> tensor<3x8xf32> {
    %cst = stablehlo.constant dense<[[1.000000e+00, 1.000000e+00, 1.000000e+00, 1.000000e+00, 0.000000e+00, 0.000000e+00, 0.000000e+00, 0.000000e+00], [0.540302277, 0.950415253, 0.995004177, 0.999500036, 0.841470957, 0.310983598, 0.0998334139, 0.0316175073], [-0.416146845, 0.806578398, 0.980066597, 0.998000681, 0.909297406, 0.591127098, 0.198669329, 0.0632033944]]> : tensor<3x8xf32>
    return %cst : tensor<3x8xf32>
  }
  func.func private @ropegen.rotate_17(%arg0: tensor<2x3x2x8xf32>, %arg1: tensor<3x8xf32>) -> tensor<2x3x2x8xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 2] : (tensor<3x8xf32>) -> tensor<3x1x8xf32>
    %1 = stablehlo.slice %0 [0:3, 0:1, 0:4] : (tensor<3x1x8xf32>) -> tensor<3x1x4xf32>
    %2 = stablehlo.slice %0 [0:3, 0:1, 4:8] : (tensor<3x1x8xf32>) -> tensor<3x1x4xf32>
    %3 = stablehlo.reshape %arg0 : (tensor<2x3x2x8xf32>) -> tensor<2x3x2x4x2xf32>
    %4 = stablehlo.slice %3 [0:2, 0:3, 0:2, 0:4, 0:1] : (tensor<2x3x2x4x2xf32>) -> tensor<2x3x2x4x1xf32>
    %5 = stablehlo.reshape %4 : (tensor<2x3x2x4x1xf32>) -> tensor<2x3x2x4xf32>
    %6 = stablehlo.slice %3 [0:2, 0:3, 0:2, 0:4, 1:2] : (tensor<2x3x2x4x2xf32>) -> tensor<2x3x2x4x1xf32>
    %7 = stablehlo.reshape %6 : (tensor<2x3x2x4x1xf32>) -> tensor<2x3x2x4xf32>
    %8 = stablehlo.broadcast_in_dim %1, dims = [1, 2, 3] : (tensor<3x1x4xf32>) -> tensor<1x3x1x4xf32>
    %9 = stablehlo.broadcast_in_dim %8, dims = [0, 1, 2, 3] : (tensor<1x3x1x4xf32>) -> tensor<2x3x2x4xf32>
    %10 = stablehlo.multiply %5, %9 : tensor<2x3x2x4xf32>
    %11 = stablehlo.broadcast_in_dim %2, dims = [1, 2, 3] : (tensor<3x1x4xf32>) -> tensor<1x3x1x4xf32>
    %12 = stablehlo.broadcast_in_dim %11, dims = [0, 1, 2, 3] : (tensor<1x3x1x4xf32>) -> tensor<2x3x2x4xf32>
    %13 = stablehlo.multiply %7, %12 : tensor<2x3x2x4xf32>
    %14 = stablehlo.subtract %10, %13 : tensor<2x3x2x4xf32>
    %15 = stablehlo.broadcast_in_dim %1, dims = [1, 2, 3] : (tensor<3x1x4xf32>) -> tensor<1x3x1x4xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1, 2, 3] : (tensor<1x3x1x4xf32>) -> tensor<2x3x2x4xf32>
    %17 = stablehlo.multiply %7, %16 : tensor<2x3x2x4xf32>
    %18 = stablehlo.broadcast_in_dim %2, dims = [1, 2, 3] : (tensor<3x1x4xf32>) -> tensor<1x3x1x4xf32>
    %19 = stablehlo.broadcast_in_dim %18, dims = [0, 1, 2, 3] : (tensor<1x3x1x4xf32>) -> tensor<2x3x2x4xf32>
    %20 = stablehlo.multiply %5, %19 : tensor<2x3x2x4xf32>
    %21 = stablehlo.add %17, %20 : tensor<2x3x2x4xf32>
    %22 = stablehlo.broadcast_in_dim %14, dims = [0, 1, 2, 3] : (tensor<2x3x2x4xf32>) -> tensor<2x3x2x4x1xf32>
    %23 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3] : (tensor<2x3x2x4xf32>) -> tensor<2x3x2x4x1xf32>
    %24 = stablehlo.concatenate %22, %23, dim = 4 : (tensor<2x3x2x4x1xf32>, tensor<2x3x2x4x1xf32>) -> tensor<2x3x2x4x2xf32>
    %25 = stablehlo.reshape %24 : (tensor<2x3x2x4x2xf32>) -> tensor<2x3x2x8xf32>
    return %25 : tensor<2x3x2x8xf32>
  }
}
