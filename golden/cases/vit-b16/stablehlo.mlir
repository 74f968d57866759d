module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x224x224x3xbf16>, %arg1: tensor<768x768xbf16>, %arg2: tensor<768xbf16>, %arg3: tensor<1x768xbf16>, %arg4: tensor<197x768xbf16>, %arg5: tensor<768xbf16>, %arg6: tensor<768xbf16>, %arg7: tensor<768x768xbf16>, %arg8: tensor<768xbf16>, %arg9: tensor<768x2304xbf16>, %arg10: tensor<2304xbf16>) -> (tensor<1x197x768xbf16> {jax.result_info = "result[0]"}) {
    %0 = stablehlo.iota dim = 0 : tensor<197xi32>
    %1 = call @_take(%arg4, %0) : (tensor<197x768xbf16>, tensor<197xi32>) -> tensor<197x768xbf16>
    %2 = stablehlo.reshape %arg0 : (tensor<1x224x224x3xbf16>) -> tensor<1x14x16x14x16x3xbf16>
    %3 = stablehlo.transpose %2, dims = [0, 1, 3, 2, 4, 5] : (tensor<1x14x16x14x16x3xbf16>) -> tensor<1x14x14x16x16x3xbf16>
    %4 = stablehlo.reshape %3 : (tensor<1x14x14x16x16x3xbf16>) -> tensor<1x196x768xbf16>
    %5 = stablehlo.dot_general %4, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x196x768xbf16>, tensor<768x768xbf16>) -> tensor<1x196x768xf32>
    %6 = stablehlo.convert %arg2 : (tensor<768xbf16>) -> tensor<768xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x196x768xf32>
    %9 = stablehlo.add %5, %8 : tensor<1x196x768xf32>
    %10 = stablehlo.convert %9 : (tensor<1x196x768xf32>) -> tensor<1x196x768xbf16>
    %11 = stablehlo.broadcast_in_dim %arg3, dims = [1, 2] : (tensor<1x768xbf16>) -> tensor<1x1x768xbf16>
    %12 = stablehlo.concatenate %11, %10, dim = 1 : (tensor<1x1x768xbf16>, tensor<1x196x768xbf16>) -> tensor<1x197x768xbf16>
    %13 = stablehlo.broadcast_in_dim %1, dims = [1, 2] : (tensor<197x768xbf16>) -> tensor<1x197x768xbf16>
    %14 = stablehlo.add %13, %12 : tensor<1x197x768xbf16>
    %15 = stablehlo.convert %14 : (tensor<1x197x768xbf16>) -> tensor<1x197x768xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %16 = stablehlo.reduce(%15 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x197x768xf32>, tensor<f32>) -> tensor<1x197xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1] : (tensor<1x197xf32>) -> tensor<1x197x1xf32>
    %cst_0 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %18 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x197x1xf32>
    %19 = stablehlo.divide %17, %18 : tensor<1x197x1xf32>
    %20 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2] : (tensor<1x197x1xf32>) -> tensor<1x197x768xf32>
    %21 = stablehlo.subtract %15, %20 : tensor<1x197x768xf32>
    %22 = chlo.square %21 : tensor<1x197x768xf32> -> tensor<1x197x768xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %23 = stablehlo.reduce(%22 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x197x768xf32>, tensor<f32>) -> tensor<1x197xf32>
    %24 = stablehlo.broadcast_in_dim %23, dims = [0, 1] : (tensor<1x197xf32>) -> tensor<1x197x1xf32>
    %cst_2 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x197x1xf32>
    %26 = stablehlo.divide %24, %25 : tensor<1x197x1xf32>
    %cst_3 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %27 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x197x1xf32>
    %28 = stablehlo.add %26, %27 : tensor<1x197x1xf32>
    %29 = stablehlo.rsqrt %28 : tensor<1x197x1xf32>
    %30 = stablehlo.broadcast_in_dim %29, dims = [0, 1, 2] : (tensor<1x197x1xf32>) -> tensor<1x197x768xf32>
    %31 = stablehlo.multiply %21, %30 : tensor<1x197x768xf32>
    %32 = stablehlo.convert %arg5 : (tensor<768xbf16>) -> tensor<768xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<768xf32>
    %34 = stablehlo.add %32, %33 : tensor<768xf32>
    %35 = stablehlo.broadcast_in_dim %34, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %36 = stablehlo.broadcast_in_dim %35, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x197x768xf32>
    %37 = stablehlo.multiply %31, %36 : tensor<1x197x768xf32>
    %38 = stablehlo.convert %arg6 : (tensor<768xbf16>) -> tensor<768xf32>
    %39 = stablehlo.broadcast_in_dim %38, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %40 = stablehlo.broadcast_in_dim %39, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x197x768xf32>
    %41 = stablehlo.add %37, %40 : tensor<1x197x768xf32>
    %42 = stablehlo.convert %41 : (tensor<1x197x768xf32>) -> tensor<1x197x768xbf16>
    %43 = stablehlo.dot_general %42, %arg9, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x197x768xbf16>, tensor<768x2304xbf16>) -> tensor<1x197x2304xf32>
    %44 = stablehlo.convert %arg10 : (tensor<2304xbf16>) -> tensor<2304xf32>
    %45 = stablehlo.broadcast_in_dim %44, dims = [2] : (tensor<2304xf32>) -> tensor<1x1x2304xf32>
    %46 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2] : (tensor<1x1x2304xf32>) -> tensor<1x197x2304xf32>
    %47 = stablehlo.add %43, %46 : tensor<1x197x2304xf32>
    %48 = stablehlo.convert %47 : (tensor<1x197x2304xf32>) -> tensor<1x197x2304xbf16>
    %49 = stablehlo.slice %48 [0:1, 0:197, 0:768] : (tensor<1x197x2304xbf16>) -> tensor<1x197x768xbf16>
    %50 = stablehlo.reshape %49 : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
    %51 = stablehlo.slice %48 [0:1, 0:197, 768:1536] : (tensor<1x197x2304xbf16>) -> tensor<1x197x768xbf16>
    %52 = stablehlo.reshape %51 : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
    %53 = stablehlo.slice %48 [0:1, 0:197, 1536:2304] : (tensor<1x197x2304xbf16>) -> tensor<1x197x768xbf16>
    %54 = stablehlo.reshape %53 : (tensor<1x197x768xbf16>) -> tensor<1x197x12x64xbf16>
    %55 = stablehlo.reshape %50 : (tensor<1x197x12x64xbf16>) -> tensor<1x197x12x1x64xbf16>
    %56 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c = stablehlo.constant dense<197> : tensor<i32>
    %57 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %58 = stablehlo.multiply %57, %56 : tensor<1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %59 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %60 = stablehlo.add %59, %58 : tensor<1xi32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %61 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<bf16>) -> tensor<1x1x197x12x1x64xbf16>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %62 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<1x1x197x12x1xf32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %63:7 = stablehlo.while(%iterArg = %60, %iterArg_9 = %55, %iterArg_10 = %52, %iterArg_11 = %54, %iterArg_12 = %c_8, %iterArg_13 = %61, %iterArg_14 = %62) : tensor<1xi32>, tensor<1x197x12x1x64xbf16>, tensor<1x197x12x64xbf16>, tensor<1x197x12x64xbf16>, tensor<i32>, tensor<1x1x197x12x1x64xbf16>, tensor<1x1x197x12x1xf32>
    cond {
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %77 = stablehlo.compare LT, %iterArg_12, %c_15, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %77 : tensor<i1>
    } do {
      %77 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_12) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %78:2 = func.call @closed_call(%iterArg_9, %iterArg_10, %iterArg_11, %77) : (tensor<1x197x12x1x64xbf16>, tensor<1x197x12x64xbf16>, tensor<1x197x12x64xbf16>, tensor<i32>) -> (tensor<1x197x12x1x64xbf16>, tensor<1x197x12x1xf32>)
      %79 = func.call @dynamic_update_index_in_dim(%iterArg_13, %78#0, %iterArg_12) : (tensor<1x1x197x12x1x64xbf16>, tensor<1x197x12x1x64xbf16>, tensor<i32>) -> tensor<1x1x197x12x1x64xbf16>
      %80 = func.call @dynamic_update_index_in_dim_3(%iterArg_14, %78#1, %iterArg_12) : (tensor<1x1x197x12x1xf32>, tensor<1x197x12x1xf32>, tensor<i32>) -> tensor<1x1x197x12x1xf32>
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %81 = stablehlo.add %iterArg_12, %c_15 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_9, %iterArg_10, %iterArg_11, %81, %79, %80 : tensor<1xi32>, tensor<1x197x12x1x64xbf16>, tensor<1x197x12x64xbf16>, tensor<1x197x12x64xbf16>, tensor<i32>, tensor<1x1x197x12x1x64xbf16>, tensor<1x1x197x12x1xf32>
    }
    %64 = stablehlo.transpose %63#5, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x197x12x1x64xbf16>) -> tensor<1x1x197x12x1x64xbf16>
    %65 = stablehlo.reshape %64 : (tensor<1x1x197x12x1x64xbf16>) -> tensor<1x197x12x1x64xbf16>
    %66 = stablehlo.transpose %63#6, dims = [1, 0, 2, 3, 4] : (tensor<1x1x197x12x1xf32>) -> tensor<1x1x197x12x1xf32>
    %67 = stablehlo.reshape %66 : (tensor<1x1x197x12x1xf32>) -> tensor<1x197x12x1xf32>
    %68 = stablehlo.reshape %65 : (tensor<1x197x12x1x64xbf16>) -> tensor<1x197x12x64xbf16>
    %69 = stablehlo.reshape %67 : (tensor<1x197x12x1xf32>) -> tensor<1x197x12xf32>
    %70 = stablehlo.reshape %68 : (tensor<1x197x12x64xbf16>) -> tensor<1x197x768xbf16>
    %71 = stablehlo.dot_general %70, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x197x768xbf16>, tensor<768x768xbf16>) -> tensor<1x197x768xf32>
    %72 = stablehlo.convert %arg8 : (tensor<768xbf16>) -> tensor<768xf32>
    %73 = stablehlo.broadcast_in_dim %72, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %74 = stablehlo.broadcast_in_dim %73, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x197x768xf32>
    %75 = stablehlo.add %71, %74 : tensor<1x197x768xf32>
    %76 = stablehlo.convert %75 : (tensor<1x197x768xf32>) -> tensor<1x197x768xbf16>
    return %76 : tensor<1x197x768xbf16>
  }
  func.func private @_take(%arg0: tensor<197x768xbf16>, %arg1: tensor<197xi32>) -> tensor<197x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0] : (tensor<197xi32>) -> tensor<197x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<197x768xbf16>, tensor<197x1xi32>) -> tensor<197x768xbf16>
    return %1 : tensor<197x768xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x197x12x1x64xbf16>, %arg1: tensor<1x197x12x64xbf16>, %arg2: tensor<1x197x12x64xbf16>, %arg3: tensor<i32>) -> (tensor<1x197x12x1x64xbf16>, tensor<1x197x12x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg3, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<197> : tensor<i32>
    %1 = stablehlo.add %arg3, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg3 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %2, %c_2, %c_3, %c_4, sizes = [1, 197, 12, 1, 64] : (tensor<1x197x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x197x12x1x64xbf16>
    %4 = stablehlo.dot_general %arg1, %3, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x197x12x64xbf16>, tensor<1x197x12x1x64xbf16>) -> tensor<1x12x197x197x1xf32>
    %5 = stablehlo.transpose %4, dims = [0, 1, 4, 3, 2] : (tensor<1x12x197x197x1xf32>) -> tensor<1x12x1x197x197xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<1x12x1x197x197xf32>
    %8 = stablehlo.iota dim = 0 : tensor<1xi32>
    %9 = stablehlo.reshape %8 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %10 = stablehlo.iota dim = 0 : tensor<12xi32>
    %11 = stablehlo.reshape %10 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %13 = stablehlo.compare NE, %7, %12, FLOAT : (tensor<1x12x1x197x197xf32>, tensor<1x12x1x197x197xf32>) -> tensor<1x12x1x197x197xi1>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %14 = call @_where(%13, %7, %cst_6) : (tensor<1x12x1x197x197xi1>, tensor<1x12x1x197x197xf32>, tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_7) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x197x197xf32>, tensor<f32>) -> tensor<1x12x1x197xf32>
    %cst_8 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<1x12x1x197xf32>
    %17 = stablehlo.maximum %16, %15 : tensor<1x12x1x197xf32>
    %18 = stablehlo.broadcast_in_dim %17, dims = [0, 1, 2, 3] : (tensor<1x12x1x197xf32>) -> tensor<1x12x1x197x1xf32>
    %cst_9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %20 = stablehlo.compare EQ, %18, %19, FLOAT : (tensor<1x12x1x197x1xf32>, tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x1xi1>
    %cst_10 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %21 = call @_where_0(%20, %cst_10, %18) : (tensor<1x12x1x197x1xi1>, tensor<f32>, tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x197xf32>
    %23 = stablehlo.subtract %7, %22 : tensor<1x12x1x197x197xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %24 = call @_where_1(%13, %23, %cst_11) : (tensor<1x12x1x197x197xi1>, tensor<1x12x1x197x197xf32>, tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %25 = stablehlo.exponential %24 : tensor<1x12x1x197x197xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %26 = call @_where_1(%13, %25, %cst_12) : (tensor<1x12x1x197x197xi1>, tensor<1x12x1x197x197xf32>, tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %27 = stablehlo.reduce(%26 init: %cst_13) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x197x197xf32>, tensor<f32>) -> tensor<1x12x1x197xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2, 3] : (tensor<1x12x1x197xf32>) -> tensor<1x12x1x197x1xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %29 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %30 = stablehlo.compare GT, %28, %29, FLOAT : (tensor<1x12x1x197x1xf32>, tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x1xi1>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %31 = call @_where_2(%30, %28, %cst_15) : (tensor<1x12x1x197x1xi1>, tensor<1x12x1x197x1xf32>, tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %32 = stablehlo.convert %26 : (tensor<1x12x1x197x197xf32>) -> tensor<1x12x1x197x197xbf16>
    %33 = stablehlo.dot_general %32, %arg2, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x197x197xbf16>, tensor<1x197x12x64xbf16>) -> tensor<1x12x1x197x64xf32>
    %34 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x64xf32>
    %35 = stablehlo.divide %33, %34 : tensor<1x12x1x197x64xf32>
    %36 = stablehlo.log %31 : tensor<1x12x1x197x1xf32>
    %37 = stablehlo.add %21, %36 : tensor<1x12x1x197x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %38 = call @_where_2(%30, %37, %cst_16) : (tensor<1x12x1x197x1xi1>, tensor<1x12x1x197x1xf32>, tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %39 = stablehlo.reshape %38 : (tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197xf32>
    %40 = stablehlo.convert %35 : (tensor<1x12x1x197x64xf32>) -> tensor<1x12x1x197x64xbf16>
    %41 = stablehlo.transpose %40, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x197x64xbf16>) -> tensor<1x197x12x1x64xbf16>
    %42 = stablehlo.transpose %39, dims = [0, 3, 1, 2] : (tensor<1x12x1x197xf32>) -> tensor<1x197x12x1xf32>
    return %41, %42 : tensor<1x197x12x1x64xbf16>, tensor<1x197x12x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x12x1x197x197xi1>, %arg1: tensor<1x12x1x197x197xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x197x197xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x197x197xi1>, tensor<1x12x1x197x197xf32>
    return %1 : tensor<1x12x1x197x197xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x12x1x197x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x197x1xf32>) -> tensor<1x12x1x197x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x197x1xi1>, tensor<1x12x1x197x1xf32>
    return %2 : tensor<1x12x1x197x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x12x1x197x197xi1>, %arg1: tensor<1x12x1x197x197xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x197x197xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x197xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x197x197xi1>, tensor<1x12x1x197x197xf32>
    return %2 : tensor<1x12x1x197x197xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x12x1x197x1xi1>, %arg1: tensor<1x12x1x197x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x197x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x197x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x197x1xi1>, tensor<1x12x1x197x1xf32>
    return %2 : tensor<1x12x1x197x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x1x197x12x1x64xbf16>, %arg1: tensor<1x197x12x1x64xbf16>, %arg2: tensor<i32>) -> tensor<1x1x197x12x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x197x12x1x64xbf16>) -> tensor<1x1x197x12x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x1x197x12x1x64xbf16>, tensor<1x1x197x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x197x12x1x64xbf16>
    return %1 : tensor<1x1x197x12x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<1x1x197x12x1xf32>, %arg1: tensor<1x197x12x1xf32>, %arg2: tensor<i32>) -> tensor<1x1x197x12x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x197x12x1xf32>) -> tensor<1x1x197x12x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x1x197x12x1xf32>, tensor<1x1x197x12x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x197x12x1xf32>
    return %1 : tensor<1x1x197x12x1xf32>
  }
}
