module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x512xi32>, %arg1: tensor<30522x768xbf16>, %arg2: tensor<2x768xbf16>, %arg3: tensor<1x512xi32>, %arg4: tensor<512x768xbf16>, %arg5: tensor<768xbf16>, %arg6: tensor<768xbf16>, %arg7: tensor<768x768xbf16>, %arg8: tensor<768xbf16>, %arg9: tensor<768x2304xbf16>, %arg10: tensor<2304xbf16>) -> (tensor<1x512x768xbf16> {jax.result_info = "result[0]"}) {
    %0 = stablehlo.iota dim = 0 : tensor<512xi32>
    %1 = call @_take(%arg4, %0) : (tensor<512x768xbf16>, tensor<512xi32>) -> tensor<512x768xbf16>
    %2 = call @_take_0(%arg1, %arg0) : (tensor<30522x768xbf16>, tensor<1x512xi32>) -> tensor<1x512x768xbf16>
    %3 = call @_take_1(%arg2, %arg3) : (tensor<2x768xbf16>, tensor<1x512xi32>) -> tensor<1x512x768xbf16>
    %4 = stablehlo.add %2, %3 : tensor<1x512x768xbf16>
    %5 = stablehlo.broadcast_in_dim %1, dims = [1, 2] : (tensor<512x768xbf16>) -> tensor<1x512x768xbf16>
    %6 = stablehlo.add %5, %4 : tensor<1x512x768xbf16>
    %7 = stablehlo.convert %6 : (tensor<1x512x768xbf16>) -> tensor<1x512x768xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %8 = stablehlo.reduce(%7 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x512x768xf32>, tensor<f32>) -> tensor<1x512xf32>
    %9 = stablehlo.broadcast_in_dim %8, dims = [0, 1] : (tensor<1x512xf32>) -> tensor<1x512x1xf32>
    %cst_0 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x512x1xf32>
    %11 = stablehlo.divide %9, %10 : tensor<1x512x1xf32>
    %12 = stablehlo.broadcast_in_dim %11, dims = [0, 1, 2] : (tensor<1x512x1xf32>) -> tensor<1x512x768xf32>
    %13 = stablehlo.subtract %7, %12 : tensor<1x512x768xf32>
    %14 = chlo.square %13 : tensor<1x512x768xf32> -> tensor<1x512x768xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x512x768xf32>, tensor<f32>) -> tensor<1x512xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1] : (tensor<1x512xf32>) -> tensor<1x512x1xf32>
    %cst_2 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %17 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x512x1xf32>
    %18 = stablehlo.divide %16, %17 : tensor<1x512x1xf32>
    %cst_3 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x512x1xf32>
    %20 = stablehlo.add %18, %19 : tensor<1x512x1xf32>
    %21 = stablehlo.rsqrt %20 : tensor<1x512x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2] : (tensor<1x512x1xf32>) -> tensor<1x512x768xf32>
    %23 = stablehlo.multiply %13, %22 : tensor<1x512x768xf32>
    %24 = stablehlo.convert %arg5 : (tensor<768xbf16>) -> tensor<768xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<768xf32>
    %26 = stablehlo.add %24, %25 : tensor<768xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x512x768xf32>
    %29 = stablehlo.multiply %23, %28 : tensor<1x512x768xf32>
    %30 = stablehlo.convert %arg6 : (tensor<768xbf16>) -> tensor<768xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x512x768xf32>
    %33 = stablehlo.add %29, %32 : tensor<1x512x768xf32>
    %34 = stablehlo.convert %33 : (tensor<1x512x768xf32>) -> tensor<1x512x768xbf16>
    %35 = stablehlo.dot_general %34, %arg9, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x512x768xbf16>, tensor<768x2304xbf16>) -> tensor<1x512x2304xf32>
    %36 = stablehlo.convert %arg10 : (tensor<2304xbf16>) -> tensor<2304xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [2] : (tensor<2304xf32>) -> tensor<1x1x2304xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1, 2] : (tensor<1x1x2304xf32>) -> tensor<1x512x2304xf32>
    %39 = stablehlo.add %35, %38 : tensor<1x512x2304xf32>
    %40 = stablehlo.convert %39 : (tensor<1x512x2304xf32>) -> tensor<1x512x2304xbf16>
    %41 = stablehlo.slice %40 [0:1, 0:512, 0:768] : (tensor<1x512x2304xbf16>) -> tensor<1x512x768xbf16>
    %42 = stablehlo.reshape %41 : (tensor<1x512x768xbf16>) -> tensor<1x512x12x64xbf16>
    %43 = stablehlo.slice %40 [0:1, 0:512, 768:1536] : (tensor<1x512x2304xbf16>) -> tensor<1x512x768xbf16>
    %44 = stablehlo.reshape %43 : (tensor<1x512x768xbf16>) -> tensor<1x512x12x64xbf16>
    %45 = stablehlo.slice %40 [0:1, 0:512, 1536:2304] : (tensor<1x512x2304xbf16>) -> tensor<1x512x768xbf16>
    %46 = stablehlo.reshape %45 : (tensor<1x512x768xbf16>) -> tensor<1x512x12x64xbf16>
    %47 = stablehlo.reshape %42 : (tensor<1x512x12x64xbf16>) -> tensor<1x512x12x1x64xbf16>
    %48 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c = stablehlo.constant dense<512> : tensor<i32>
    %49 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %50 = stablehlo.multiply %49, %48 : tensor<1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %51 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %52 = stablehlo.add %51, %50 : tensor<1xi32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %53 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<bf16>) -> tensor<1x1x512x12x1x64xbf16>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %54 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<1x1x512x12x1xf32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %55:7 = stablehlo.while(%iterArg = %52, %iterArg_9 = %47, %iterArg_10 = %44, %iterArg_11 = %46, %iterArg_12 = %c_8, %iterArg_13 = %53, %iterArg_14 = %54) : tensor<1xi32>, tensor<1x512x12x1x64xbf16>, tensor<1x512x12x64xbf16>, tensor<1x512x12x64xbf16>, tensor<i32>, tensor<1x1x512x12x1x64xbf16>, tensor<1x1x512x12x1xf32>
    cond {
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %69 = stablehlo.compare LT, %iterArg_12, %c_15, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %69 : tensor<i1>
    } do {
      %69 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_12) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %70:2 = func.call @closed_call(%iterArg_9, %iterArg_10, %iterArg_11, %69) : (tensor<1x512x12x1x64xbf16>, tensor<1x512x12x64xbf16>, tensor<1x512x12x64xbf16>, tensor<i32>) -> (tensor<1x512x12x1x64xbf16>, tensor<1x512x12x1xf32>)
      %71 = func.call @dynamic_update_index_in_dim(%iterArg_13, %70#0, %iterArg_12) : (tensor<1x1x512x12x1x64xbf16>, tensor<1x512x12x1x64xbf16>, tensor<i32>) -> tensor<1x1x512x12x1x64xbf16>
      %72 = func.call @dynamic_update_index_in_dim_5(%iterArg_14, %70#1, %iterArg_12) : (tensor<1x1x512x12x1xf32>, tensor<1x512x12x1xf32>, tensor<i32>) -> tensor<1x1x512x12x1xf32>
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %73 = stablehlo.add %iterArg_12, %c_15 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_9, %iterArg_10, %iterArg_11, %73, %71, %72 : tensor<1xi32>, tensor<1x512x12x1x64xbf16>, tensor<1x512x12x64xbf16>, tensor<1x512x12x64xbf16>, tensor<i32>, tensor<1x1x512x12x1x64xbf16>, tensor<1x1x512x12x1xf32>
    }
    %56 = stablehlo.transpose %55#5, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x512x12x1x64xbf16>) -> tensor<1x1x512x12x1x64xbf16>
    %57 = stablehlo.reshape %56 : (tensor<1x1x512x12x1x64xbf16>) -> tensor<1x512x12x1x64xbf16>
    %58 = stablehlo.transpose %55#6, dims = [1, 0, 2, 3, 4] : (tensor<1x1x512x12x1xf32>) -> tensor<1x1x512x12x1xf32>
    %59 = stablehlo.reshape %58 : (tensor<1x1x512x12x1xf32>) -> tensor<1x512x12x1xf32>
    %60 = stablehlo.reshape %57 : (tensor<1x512x12x1x64xbf16>) -> tensor<1x512x12x64xbf16>
    %61 = stablehlo.reshape %59 : (tensor<1x512x12x1xf32>) -> tensor<1x512x12xf32>
    %62 = stablehlo.reshape %60 : (tensor<1x512x12x64xbf16>) -> tensor<1x512x768xbf16>
    %63 = stablehlo.dot_general %62, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x512x768xbf16>, tensor<768x768xbf16>) -> tensor<1x512x768xf32>
    %64 = stablehlo.convert %arg8 : (tensor<768xbf16>) -> tensor<768xf32>
    %65 = stablehlo.broadcast_in_dim %64, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %66 = stablehlo.broadcast_in_dim %65, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x512x768xf32>
    %67 = stablehlo.add %63, %66 : tensor<1x512x768xf32>
    %68 = stablehlo.convert %67 : (tensor<1x512x768xf32>) -> tensor<1x512x768xbf16>
    return %68 : tensor<1x512x768xbf16>
  }
  func.func private @_take(%arg0: tensor<512x768xbf16>, %arg1: tensor<512xi32>) -> tensor<512x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0] : (tensor<512xi32>) -> tensor<512x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<512x768xbf16>, tensor<512x1xi32>) -> tensor<512x768xbf16>
    return %1 : tensor<512x768xbf16>
  }
  func.func private @_take_0(%arg0: tensor<30522x768xbf16>, %arg1: tensor<1x512xi32>) -> tensor<1x512x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x512xi32>) -> tensor<1x512x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<30522x768xbf16>, tensor<1x512x1xi32>) -> tensor<1x512x768xbf16>
    return %1 : tensor<1x512x768xbf16>
  }
  func.func private @_take_1(%arg0: tensor<2x768xbf16>, %arg1: tensor<1x512xi32>) -> tensor<1x512x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x512xi32>) -> tensor<1x512x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<2x768xbf16>, tensor<1x512x1xi32>) -> tensor<1x512x768xbf16>
    return %1 : tensor<1x512x768xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x512x12x1x64xbf16>, %arg1: tensor<1x512x12x64xbf16>, %arg2: tensor<1x512x12x64xbf16>, %arg3: tensor<i32>) -> (tensor<1x512x12x1x64xbf16>, tensor<1x512x12x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg3, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<512> : tensor<i32>
    %1 = stablehlo.add %arg3, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg3 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %2, %c_2, %c_3, %c_4, sizes = [1, 512, 12, 1, 64] : (tensor<1x512x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x512x12x1x64xbf16>
    %4 = stablehlo.dot_general %arg1, %3, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x512x12x64xbf16>, tensor<1x512x12x1x64xbf16>) -> tensor<1x12x512x512x1xf32>
    %5 = stablehlo.transpose %4, dims = [0, 1, 4, 3, 2] : (tensor<1x12x512x512x1xf32>) -> tensor<1x12x1x512x512xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<1x12x1x512x512xf32>
    %8 = stablehlo.iota dim = 0 : tensor<1xi32>
    %9 = stablehlo.reshape %8 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %10 = stablehlo.iota dim = 0 : tensor<12xi32>
    %11 = stablehlo.reshape %10 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %13 = stablehlo.compare NE, %7, %12, FLOAT : (tensor<1x12x1x512x512xf32>, tensor<1x12x1x512x512xf32>) -> tensor<1x12x1x512x512xi1>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %14 = call @_where(%13, %7, %cst_6) : (tensor<1x12x1x512x512xi1>, tensor<1x12x1x512x512xf32>, tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_7) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x512x512xf32>, tensor<f32>) -> tensor<1x12x1x512xf32>
    %cst_8 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<1x12x1x512xf32>
    %17 = stablehlo.maximum %16, %15 : tensor<1x12x1x512xf32>
    %18 = stablehlo.broadcast_in_dim %17, dims = [0, 1, 2, 3] : (tensor<1x12x1x512xf32>) -> tensor<1x12x1x512x1xf32>
    %cst_9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %20 = stablehlo.compare EQ, %18, %19, FLOAT : (tensor<1x12x1x512x1xf32>, tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x1xi1>
    %cst_10 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %21 = call @_where_2(%20, %cst_10, %18) : (tensor<1x12x1x512x1xi1>, tensor<f32>, tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x512xf32>
    %23 = stablehlo.subtract %7, %22 : tensor<1x12x1x512x512xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %24 = call @_where_3(%13, %23, %cst_11) : (tensor<1x12x1x512x512xi1>, tensor<1x12x1x512x512xf32>, tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %25 = stablehlo.exponential %24 : tensor<1x12x1x512x512xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %26 = call @_where_3(%13, %25, %cst_12) : (tensor<1x12x1x512x512xi1>, tensor<1x12x1x512x512xf32>, tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %27 = stablehlo.reduce(%26 init: %cst_13) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x512x512xf32>, tensor<f32>) -> tensor<1x12x1x512xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2, 3] : (tensor<1x12x1x512xf32>) -> tensor<1x12x1x512x1xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %29 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %30 = stablehlo.compare GT, %28, %29, FLOAT : (tensor<1x12x1x512x1xf32>, tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x1xi1>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %31 = call @_where_4(%30, %28, %cst_15) : (tensor<1x12x1x512x1xi1>, tensor<1x12x1x512x1xf32>, tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %32 = stablehlo.convert %26 : (tensor<1x12x1x512x512xf32>) -> tensor<1x12x1x512x512xbf16>
    %33 = stablehlo.dot_general %32, %arg2, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x512x512xbf16>, tensor<1x512x12x64xbf16>) -> tensor<1x12x1x512x64xf32>
    %34 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x64xf32>
    %35 = stablehlo.divide %33, %34 : tensor<1x12x1x512x64xf32>
    %36 = stablehlo.log %31 : tensor<1x12x1x512x1xf32>
    %37 = stablehlo.add %21, %36 : tensor<1x12x1x512x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %38 = call @_where_4(%30, %37, %cst_16) : (tensor<1x12x1x512x1xi1>, tensor<1x12x1x512x1xf32>, tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %39 = stablehlo.reshape %38 : (tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512xf32>
    %40 = stablehlo.convert %35 : (tensor<1x12x1x512x64xf32>) -> tensor<1x12x1x512x64xbf16>
    %41 = stablehlo.transpose %40, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x512x64xbf16>) -> tensor<1x512x12x1x64xbf16>
    %42 = stablehlo.transpose %39, dims = [0, 3, 1, 2] : (tensor<1x12x1x512xf32>) -> tensor<1x512x12x1xf32>
    return %41, %42 : tensor<1x512x12x1x64xbf16>, tensor<1x512x12x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x12x1x512x512xi1>, %arg1: tensor<1x12x1x512x512xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x512x512xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x512x512xi1>, tensor<1x12x1x512x512xf32>
    return %1 : tensor<1x12x1x512x512xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x12x1x512x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x512x1xf32>) -> tensor<1x12x1x512x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x512x1xi1>, tensor<1x12x1x512x1xf32>
    return %2 : tensor<1x12x1x512x1xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x12x1x512x512xi1>, %arg1: tensor<1x12x1x512x512xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x512x512xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x512xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x512x512xi1>, tensor<1x12x1x512x512xf32>
    return %2 : tensor<1x12x1x512x512xf32>
  }
  func.func private @_where_4(%arg0: tensor<1x12x1x512x1xi1>, %arg1: tensor<1x12x1x512x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x512x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x512x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x512x1xi1>, tensor<1x12x1x512x1xf32>
    return %2 : tensor<1x12x1x512x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x1x512x12x1x64xbf16>, %arg1: tensor<1x512x12x1x64xbf16>, %arg2: tensor<i32>) -> tensor<1x1x512x12x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x512x12x1x64xbf16>) -> tensor<1x1x512x12x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x1x512x12x1x64xbf16>, tensor<1x1x512x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x512x12x1x64xbf16>
    return %1 : tensor<1x1x512x12x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_5(%arg0: tensor<1x1x512x12x1xf32>, %arg1: tensor<1x512x12x1xf32>, %arg2: tensor<i32>) -> tensor<1x1x512x12x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x512x12x1xf32>) -> tensor<1x1x512x12x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x1x512x12x1xf32>, tensor<1x1x512x12x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x512x12x1xf32>
    return %1 : tensor<1x1x512x12x1xf32>
  }
}
