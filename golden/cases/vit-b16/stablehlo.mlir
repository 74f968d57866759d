module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x224x224x3xbf16>, %arg1: tensor<768x768xbf16>, %arg2: tensor<768xbf16>, %arg3: tensor<196x768xbf16>, %arg4: tensor<768xbf16>, %arg5: tensor<768xbf16>, %arg6: tensor<768x768xbf16>, %arg7: tensor<768xbf16>, %arg8: tensor<768x2304xbf16>, %arg9: tensor<2304xbf16>) -> (tensor<1x196x768xbf16> {jax.result_info = "result[0]"}) {
    %0 = stablehlo.iota dim = 0 : tensor<196xi32>
    %1 = call @_take(%arg3, %0) : (tensor<196x768xbf16>, tensor<196xi32>) -> tensor<196x768xbf16>
    %2 = stablehlo.reshape %arg0 : (tensor<1x224x224x3xbf16>) -> tensor<1x14x16x14x16x3xbf16>
    %3 = stablehlo.transpose %2, dims = [0, 1, 3, 2, 4, 5] : (tensor<1x14x16x14x16x3xbf16>) -> tensor<1x14x14x16x16x3xbf16>
    %4 = stablehlo.reshape %3 : (tensor<1x14x14x16x16x3xbf16>) -> tensor<1x196x768xbf16>
    %5 = stablehlo.dot_general %4, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x196x768xbf16>, tensor<768x768xbf16>) -> tensor<1x196x768xf32>
    %6 = stablehlo.convert %arg2 : (tensor<768xbf16>) -> tensor<768xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x196x768xf32>
    %9 = stablehlo.add %5, %8 : tensor<1x196x768xf32>
    %10 = stablehlo.convert %9 : (tensor<1x196x768xf32>) -> tensor<1x196x768xbf16>
    %11 = stablehlo.broadcast_in_dim %1, dims = [1, 2] : (tensor<196x768xbf16>) -> tensor<1x196x768xbf16>
    %12 = stablehlo.add %11, %10 : tensor<1x196x768xbf16>
    %13 = stablehlo.convert %12 : (tensor<1x196x768xbf16>) -> tensor<1x196x768xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %14 = stablehlo.reduce(%13 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x196x768xf32>, tensor<f32>) -> tensor<1x196xf32>
    %15 = stablehlo.broadcast_in_dim %14, dims = [0, 1] : (tensor<1x196xf32>) -> tensor<1x196x1xf32>
    %cst_0 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x196x1xf32>
    %17 = stablehlo.divide %15, %16 : tensor<1x196x1xf32>
    %18 = stablehlo.broadcast_in_dim %17, dims = [0, 1, 2] : (tensor<1x196x1xf32>) -> tensor<1x196x768xf32>
    %19 = stablehlo.subtract %13, %18 : tensor<1x196x768xf32>
    %20 = chlo.square %19 : tensor<1x196x768xf32> -> tensor<1x196x768xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %21 = stablehlo.reduce(%20 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x196x768xf32>, tensor<f32>) -> tensor<1x196xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1] : (tensor<1x196xf32>) -> tensor<1x196x1xf32>
    %cst_2 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %23 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x196x1xf32>
    %24 = stablehlo.divide %22, %23 : tensor<1x196x1xf32>
    %cst_3 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x196x1xf32>
    %26 = stablehlo.add %24, %25 : tensor<1x196x1xf32>
    %27 = stablehlo.rsqrt %26 : tensor<1x196x1xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2] : (tensor<1x196x1xf32>) -> tensor<1x196x768xf32>
    %29 = stablehlo.multiply %19, %28 : tensor<1x196x768xf32>
    %30 = stablehlo.convert %arg4 : (tensor<768xbf16>) -> tensor<768xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %31 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<768xf32>
    %32 = stablehlo.add %30, %31 : tensor<768xf32>
    %33 = stablehlo.broadcast_in_dim %32, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %34 = stablehlo.broadcast_in_dim %33, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x196x768xf32>
    %35 = stablehlo.multiply %29, %34 : tensor<1x196x768xf32>
    %36 = stablehlo.convert %arg5 : (tensor<768xbf16>) -> tensor<768xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x196x768xf32>
    %39 = stablehlo.add %35, %38 : tensor<1x196x768xf32>
    %40 = stablehlo.convert %39 : (tensor<1x196x768xf32>) -> tensor<1x196x768xbf16>
    %41 = stablehlo.dot_general %40, %arg8, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x196x768xbf16>, tensor<768x2304xbf16>) -> tensor<1x196x2304xf32>
    %42 = stablehlo.convert %arg9 : (tensor<2304xbf16>) -> tensor<2304xf32>
    %43 = stablehlo.broadcast_in_dim %42, dims = [2] : (tensor<2304xf32>) -> tensor<1x1x2304xf32>
    %44 = stablehlo.broadcast_in_dim %43, dims = [0, 1, 2] : (tensor<1x1x2304xf32>) -> tensor<1x196x2304xf32>
    %45 = stablehlo.add %41, %44 : tensor<1x196x2304xf32>
    %46 = stablehlo.convert %45 : (tensor<1x196x2304xf32>) -> tensor<1x196x2304xbf16>
    %47 = stablehlo.slice %46 [0:1, 0:196, 0:768] : (tensor<1x196x2304xbf16>) -> tensor<1x196x768xbf16>
    %48 = stablehlo.reshape %47 : (tensor<1x196x768xbf16>) -> tensor<1x196x12x64xbf16>
    %49 = stablehlo.slice %46 [0:1, 0:196, 768:1536] : (tensor<1x196x2304xbf16>) -> tensor<1x196x768xbf16>
    %50 = stablehlo.reshape %49 : (tensor<1x196x768xbf16>) -> tensor<1x196x12x64xbf16>
    %51 = stablehlo.slice %46 [0:1, 0:196, 1536:2304] : (tensor<1x196x2304xbf16>) -> tensor<1x196x768xbf16>
    %52 = stablehlo.reshape %51 : (tensor<1x196x768xbf16>) -> tensor<1x196x12x64xbf16>
    %53 = stablehlo.reshape %48 : (tensor<1x196x12x64xbf16>) -> tensor<1x196x12x1x64xbf16>
    %54 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c = stablehlo.constant dense<196> : tensor<i32>
    %55 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %56 = stablehlo.multiply %55, %54 : tensor<1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %57 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %58 = stablehlo.add %57, %56 : tensor<1xi32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %59 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<bf16>) -> tensor<1x1x196x12x1x64xbf16>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %60 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<1x1x196x12x1xf32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %61:7 = stablehlo.while(%iterArg = %58, %iterArg_9 = %53, %iterArg_10 = %50, %iterArg_11 = %52, %iterArg_12 = %c_8, %iterArg_13 = %59, %iterArg_14 = %60) : tensor<1xi32>, tensor<1x196x12x1x64xbf16>, tensor<1x196x12x64xbf16>, tensor<1x196x12x64xbf16>, tensor<i32>, tensor<1x1x196x12x1x64xbf16>, tensor<1x1x196x12x1xf32>
    cond {
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %75 = stablehlo.compare LT, %iterArg_12, %c_15, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %75 : tensor<i1>
    } do {
      %75 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_12) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %76:2 = func.call @closed_call(%iterArg_9, %iterArg_10, %iterArg_11, %75) : (tensor<1x196x12x1x64xbf16>, tensor<1x196x12x64xbf16>, tensor<1x196x12x64xbf16>, tensor<i32>) -> (tensor<1x196x12x1x64xbf16>, tensor<1x196x12x1xf32>)
      %77 = func.call @dynamic_update_index_in_dim(%iterArg_13, %76#0, %iterArg_12) : (tensor<1x1x196x12x1x64xbf16>, tensor<1x196x12x1x64xbf16>, tensor<i32>) -> tensor<1x1x196x12x1x64xbf16>
      %78 = func.call @dynamic_update_index_in_dim_3(%iterArg_14, %76#1, %iterArg_12) : (tensor<1x1x196x12x1xf32>, tensor<1x196x12x1xf32>, tensor<i32>) -> tensor<1x1x196x12x1xf32>
      %c_15 = stablehlo.constant dense<1> : tensor<i32>
      %79 = stablehlo.add %iterArg_12, %c_15 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_9, %iterArg_10, %iterArg_11, %79, %77, %78 : tensor<1xi32>, tensor<1x196x12x1x64xbf16>, tensor<1x196x12x64xbf16>, tensor<1x196x12x64xbf16>, tensor<i32>, tensor<1x1x196x12x1x64xbf16>, tensor<1x1x196x12x1xf32>
    }
    %62 = stablehlo.transpose %61#5, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x196x12x1x64xbf16>) -> tensor<1x1x196x12x1x64xbf16>
    %63 = stablehlo.reshape %62 : (tensor<1x1x196x12x1x64xbf16>) -> tensor<1x196x12x1x64xbf16>
    %64 = stablehlo.transpose %61#6, dims = [1, 0, 2, 3, 4] : (tensor<1x1x196x12x1xf32>) -> tensor<1x1x196x12x1xf32>
    %65 = stablehlo.reshape %64 : (tensor<1x1x196x12x1xf32>) -> tensor<1x196x12x1xf32>
    %66 = stablehlo.reshape %63 : (tensor<1x196x12x1x64xbf16>) -> tensor<1x196x12x64xbf16>
    %67 = stablehlo.reshape %65 : (tensor<1x196x12x1xf32>) -> tensor<1x196x12xf32>
    %68 = stablehlo.reshape %66 : (tensor<1x196x12x64xbf16>) -> tensor<1x196x768xbf16>
    %69 = stablehlo.dot_general %68, %arg6, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x196x768xbf16>, tensor<768x768xbf16>) -> tensor<1x196x768xf32>
    %70 = stablehlo.convert %arg7 : (tensor<768xbf16>) -> tensor<768xf32>
    %71 = stablehlo.broadcast_in_dim %70, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %72 = stablehlo.broadcast_in_dim %71, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x196x768xf32>
    %73 = stablehlo.add %69, %72 : tensor<1x196x768xf32>
    %74 = stablehlo.convert %73 : (tensor<1x196x768xf32>) -> tensor<1x196x768xbf16>
    return %74 : tensor<1x196x768xbf16>
  }
  func.func private @_take(%arg0: tensor<196x768xbf16>, %arg1: tensor<196xi32>) -> tensor<196x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0] : (tensor<196xi32>) -> tensor<196x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<196x768xbf16>, tensor<196x1xi32>) -> tensor<196x768xbf16>
    return %1 : tensor<196x768xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x196x12x1x64xbf16>, %arg1: tensor<1x196x12x64xbf16>, %arg2: tensor<1x196x12x64xbf16>, %arg3: tensor<i32>) -> (tensor<1x196x12x1x64xbf16>, tensor<1x196x12x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg3, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<196> : tensor<i32>
    %1 = stablehlo.add %arg3, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg3 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %2, %c_2, %c_3, %c_4, sizes = [1, 196, 12, 1, 64] : (tensor<1x196x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x196x12x1x64xbf16>
    %4 = stablehlo.dot_general %arg1, %3, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x196x12x64xbf16>, tensor<1x196x12x1x64xbf16>) -> tensor<1x12x196x196x1xf32>
    %5 = stablehlo.transpose %4, dims = [0, 1, 4, 3, 2] : (tensor<1x12x196x196x1xf32>) -> tensor<1x12x1x196x196xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<1x12x1x196x196xf32>
    %8 = stablehlo.iota dim = 0 : tensor<1xi32>
    %9 = stablehlo.reshape %8 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %10 = stablehlo.iota dim = 0 : tensor<12xi32>
    %11 = stablehlo.reshape %10 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %13 = stablehlo.compare NE, %7, %12, FLOAT : (tensor<1x12x1x196x196xf32>, tensor<1x12x1x196x196xf32>) -> tensor<1x12x1x196x196xi1>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %14 = call @_where(%13, %7, %cst_6) : (tensor<1x12x1x196x196xi1>, tensor<1x12x1x196x196xf32>, tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_7) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x196x196xf32>, tensor<f32>) -> tensor<1x12x1x196xf32>
    %cst_8 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<1x12x1x196xf32>
    %17 = stablehlo.maximum %16, %15 : tensor<1x12x1x196xf32>
    %18 = stablehlo.broadcast_in_dim %17, dims = [0, 1, 2, 3] : (tensor<1x12x1x196xf32>) -> tensor<1x12x1x196x1xf32>
    %cst_9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %20 = stablehlo.compare EQ, %18, %19, FLOAT : (tensor<1x12x1x196x1xf32>, tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x1xi1>
    %cst_10 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %21 = call @_where_0(%20, %cst_10, %18) : (tensor<1x12x1x196x1xi1>, tensor<f32>, tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x196xf32>
    %23 = stablehlo.subtract %7, %22 : tensor<1x12x1x196x196xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %24 = call @_where_1(%13, %23, %cst_11) : (tensor<1x12x1x196x196xi1>, tensor<1x12x1x196x196xf32>, tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %25 = stablehlo.exponential %24 : tensor<1x12x1x196x196xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %26 = call @_where_1(%13, %25, %cst_12) : (tensor<1x12x1x196x196xi1>, tensor<1x12x1x196x196xf32>, tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %27 = stablehlo.reduce(%26 init: %cst_13) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x196x196xf32>, tensor<f32>) -> tensor<1x12x1x196xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2, 3] : (tensor<1x12x1x196xf32>) -> tensor<1x12x1x196x1xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %29 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %30 = stablehlo.compare GT, %28, %29, FLOAT : (tensor<1x12x1x196x1xf32>, tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x1xi1>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %31 = call @_where_2(%30, %28, %cst_15) : (tensor<1x12x1x196x1xi1>, tensor<1x12x1x196x1xf32>, tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %32 = stablehlo.convert %26 : (tensor<1x12x1x196x196xf32>) -> tensor<1x12x1x196x196xbf16>
    %33 = stablehlo.dot_general %32, %arg2, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x196x196xbf16>, tensor<1x196x12x64xbf16>) -> tensor<1x12x1x196x64xf32>
    %34 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x64xf32>
    %35 = stablehlo.divide %33, %34 : tensor<1x12x1x196x64xf32>
    %36 = stablehlo.log %31 : tensor<1x12x1x196x1xf32>
    %37 = stablehlo.add %21, %36 : tensor<1x12x1x196x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %38 = call @_where_2(%30, %37, %cst_16) : (tensor<1x12x1x196x1xi1>, tensor<1x12x1x196x1xf32>, tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %39 = stablehlo.reshape %38 : (tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196xf32>
    %40 = stablehlo.convert %35 : (tensor<1x12x1x196x64xf32>) -> tensor<1x12x1x196x64xbf16>
    %41 = stablehlo.transpose %40, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x196x64xbf16>) -> tensor<1x196x12x1x64xbf16>
    %42 = stablehlo.transpose %39, dims = [0, 3, 1, 2] : (tensor<1x12x1x196xf32>) -> tensor<1x196x12x1xf32>
    return %41, %42 : tensor<1x196x12x1x64xbf16>, tensor<1x196x12x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x12x1x196x196xi1>, %arg1: tensor<1x12x1x196x196xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x196x196xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x196x196xi1>, tensor<1x12x1x196x196xf32>
    return %1 : tensor<1x12x1x196x196xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x12x1x196x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x196x1xf32>) -> tensor<1x12x1x196x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x196x1xi1>, tensor<1x12x1x196x1xf32>
    return %2 : tensor<1x12x1x196x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x12x1x196x196xi1>, %arg1: tensor<1x12x1x196x196xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x196x196xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x196xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x196x196xi1>, tensor<1x12x1x196x196xf32>
    return %2 : tensor<1x12x1x196x196xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x12x1x196x1xi1>, %arg1: tensor<1x12x1x196x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x196x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x196x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x196x1xi1>, tensor<1x12x1x196x1xf32>
    return %2 : tensor<1x12x1x196x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x1x196x12x1x64xbf16>, %arg1: tensor<1x196x12x1x64xbf16>, %arg2: tensor<i32>) -> tensor<1x1x196x12x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x196x12x1x64xbf16>) -> tensor<1x1x196x12x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x1x196x12x1x64xbf16>, tensor<1x1x196x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x196x12x1x64xbf16>
    return %1 : tensor<1x1x196x12x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<1x1x196x12x1xf32>, %arg1: tensor<1x196x12x1xf32>, %arg2: tensor<i32>) -> tensor<1x1x196x12x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x196x12x1xf32>) -> tensor<1x1x196x12x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x1x196x12x1xf32>, tensor<1x1x196x12x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x196x12x1xf32>
    return %1 : tensor<1x1x196x12x1xf32>
  }
}
