module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x1024xi32>, %arg1: tensor<50257x768xbf16>, %arg2: tensor<1024x768xbf16>, %arg3: tensor<768xbf16>, %arg4: tensor<768xbf16>, %arg5: tensor<768x768xbf16>, %arg6: tensor<768xbf16>, %arg7: tensor<768x2304xbf16>, %arg8: tensor<2304xbf16>) -> (tensor<1x1024x768xbf16> {jax.result_info = "result[0]"}) {
    %0 = call @_take(%arg1, %arg0) : (tensor<50257x768xbf16>, tensor<1x1024xi32>) -> tensor<1x1024x768xbf16>
    %1 = stablehlo.iota dim = 0 : tensor<1024xi32>
    %2 = call @_take_0(%arg2, %1) : (tensor<1024x768xbf16>, tensor<1024xi32>) -> tensor<1024x768xbf16>
    %3 = stablehlo.broadcast_in_dim %2, dims = [1, 2] : (tensor<1024x768xbf16>) -> tensor<1x1024x768xbf16>
    %4 = stablehlo.add %0, %3 : tensor<1x1024x768xbf16>
    %5 = stablehlo.convert %4 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x768xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %6 = stablehlo.reduce(%5 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x1024x768xf32>, tensor<f32>) -> tensor<1x1024xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [0, 1] : (tensor<1x1024xf32>) -> tensor<1x1024x1xf32>
    %cst_0 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %8 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %9 = stablehlo.divide %7, %8 : tensor<1x1024x1xf32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2] : (tensor<1x1024x1xf32>) -> tensor<1x1024x768xf32>
    %11 = stablehlo.subtract %5, %10 : tensor<1x1024x768xf32>
    %12 = chlo.square %11 : tensor<1x1024x768xf32> -> tensor<1x1024x768xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %13 = stablehlo.reduce(%12 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x1024x768xf32>, tensor<f32>) -> tensor<1x1024xf32>
    %14 = stablehlo.broadcast_in_dim %13, dims = [0, 1] : (tensor<1x1024xf32>) -> tensor<1x1024x1xf32>
    %cst_2 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %15 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %16 = stablehlo.divide %14, %15 : tensor<1x1024x1xf32>
    %cst_3 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %17 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %18 = stablehlo.add %16, %17 : tensor<1x1024x1xf32>
    %19 = stablehlo.rsqrt %18 : tensor<1x1024x1xf32>
    %20 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2] : (tensor<1x1024x1xf32>) -> tensor<1x1024x768xf32>
    %21 = stablehlo.multiply %11, %20 : tensor<1x1024x768xf32>
    %22 = stablehlo.convert %arg3 : (tensor<768xbf16>) -> tensor<768xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %23 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<768xf32>
    %24 = stablehlo.add %22, %23 : tensor<768xf32>
    %25 = stablehlo.broadcast_in_dim %24, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %27 = stablehlo.multiply %21, %26 : tensor<1x1024x768xf32>
    %28 = stablehlo.convert %arg4 : (tensor<768xbf16>) -> tensor<768xf32>
    %29 = stablehlo.broadcast_in_dim %28, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %30 = stablehlo.broadcast_in_dim %29, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %31 = stablehlo.add %27, %30 : tensor<1x1024x768xf32>
    %32 = stablehlo.convert %31 : (tensor<1x1024x768xf32>) -> tensor<1x1024x768xbf16>
    %33 = stablehlo.dot_general %32, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x768xbf16>, tensor<768x2304xbf16>) -> tensor<1x1024x2304xf32>
    %34 = stablehlo.convert %arg8 : (tensor<2304xbf16>) -> tensor<2304xf32>
    %35 = stablehlo.broadcast_in_dim %34, dims = [2] : (tensor<2304xf32>) -> tensor<1x1x2304xf32>
    %36 = stablehlo.broadcast_in_dim %35, dims = [0, 1, 2] : (tensor<1x1x2304xf32>) -> tensor<1x1024x2304xf32>
    %37 = stablehlo.add %33, %36 : tensor<1x1024x2304xf32>
    %38 = stablehlo.convert %37 : (tensor<1x1024x2304xf32>) -> tensor<1x1024x2304xbf16>
    %39 = stablehlo.slice %38 [0:1, 0:1024, 0:768] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %40 = stablehlo.reshape %39 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %41 = stablehlo.slice %38 [0:1, 0:1024, 768:1536] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %42 = stablehlo.reshape %41 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %43 = stablehlo.slice %38 [0:1, 0:1024, 1536:2304] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %44 = stablehlo.reshape %43 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %45 = stablehlo.reshape %40 : (tensor<1x1024x12x64xbf16>) -> tensor<1x1024x12x1x64xbf16>
    %46 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<1024xi32>) -> tensor<1x1024xi32>
    %47 = stablehlo.reshape %46 : (tensor<1x1024xi32>) -> tensor<1x1x1x1024xi32>
    %48 = stablehlo.broadcast_in_dim %47, dims = [0, 1, 2, 3] : (tensor<1x1x1x1024xi32>) -> tensor<1x1x1x1024x1xi32>
    %49 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<1024xi32>) -> tensor<1x1024xi32>
    %50 = stablehlo.reshape %49 : (tensor<1x1024xi32>) -> tensor<1x1x1x1024xi32>
    %51 = stablehlo.broadcast_in_dim %50, dims = [0, 1, 2, 4] : (tensor<1x1x1x1024xi32>) -> tensor<1x1x1x1x1024xi32>
    %52 = stablehlo.iota dim = 0 : tensor<4xi32>
    %c = stablehlo.constant dense<256> : tensor<i32>
    %53 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<4xi32>
    %54 = stablehlo.multiply %53, %52 : tensor<4xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %55 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<i32>) -> tensor<4xi32>
    %56 = stablehlo.add %55, %54 : tensor<4xi32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %57 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<bf16>) -> tensor<4x1x256x12x1x64xbf16>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %58 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<4x1x256x12x1xf32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %59:9 = stablehlo.while(%iterArg = %56, %iterArg_9 = %48, %iterArg_10 = %45, %iterArg_11 = %42, %iterArg_12 = %51, %iterArg_13 = %44, %iterArg_14 = %c_8, %iterArg_15 = %57, %iterArg_16 = %58) : tensor<4xi32>, tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>, tensor<4x1x256x12x1x64xbf16>, tensor<4x1x256x12x1xf32>
    cond {
      %c_17 = stablehlo.constant dense<4> : tensor<i32>
      %73 = stablehlo.compare LT, %iterArg_14, %c_17, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %73 : tensor<i1>
    } do {
      %73 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_14) : (tensor<4xi32>, tensor<i32>) -> tensor<i32>
      %74:2 = func.call @closed_call(%iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %73) : (tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>) -> (tensor<1x256x12x1x64xbf16>, tensor<1x256x12x1xf32>)
      %75 = func.call @dynamic_update_index_in_dim(%iterArg_15, %74#0, %iterArg_14) : (tensor<4x1x256x12x1x64xbf16>, tensor<1x256x12x1x64xbf16>, tensor<i32>) -> tensor<4x1x256x12x1x64xbf16>
      %76 = func.call @dynamic_update_index_in_dim_4(%iterArg_16, %74#1, %iterArg_14) : (tensor<4x1x256x12x1xf32>, tensor<1x256x12x1xf32>, tensor<i32>) -> tensor<4x1x256x12x1xf32>
      %c_17 = stablehlo.constant dense<1> : tensor<i32>
      %77 = stablehlo.add %iterArg_14, %c_17 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %77, %75, %76 : tensor<4xi32>, tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>, tensor<4x1x256x12x1x64xbf16>, tensor<4x1x256x12x1xf32>
    }
    %60 = stablehlo.transpose %59#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<4x1x256x12x1x64xbf16>) -> tensor<1x4x256x12x1x64xbf16>
    %61 = stablehlo.reshape %60 : (tensor<1x4x256x12x1x64xbf16>) -> tensor<1x1024x12x1x64xbf16>
    %62 = stablehlo.transpose %59#8, dims = [1, 0, 2, 3, 4] : (tensor<4x1x256x12x1xf32>) -> tensor<1x4x256x12x1xf32>
    %63 = stablehlo.reshape %62 : (tensor<1x4x256x12x1xf32>) -> tensor<1x1024x12x1xf32>
    %64 = stablehlo.reshape %61 : (tensor<1x1024x12x1x64xbf16>) -> tensor<1x1024x12x64xbf16>
    %65 = stablehlo.reshape %63 : (tensor<1x1024x12x1xf32>) -> tensor<1x1024x12xf32>
    %66 = stablehlo.reshape %64 : (tensor<1x1024x12x64xbf16>) -> tensor<1x1024x768xbf16>
    %67 = stablehlo.dot_general %66, %arg5, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>) -> tensor<1x1024x768xf32>
    %68 = stablehlo.convert %arg6 : (tensor<768xbf16>) -> tensor<768xf32>
    %69 = stablehlo.broadcast_in_dim %68, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %70 = stablehlo.broadcast_in_dim %69, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %71 = stablehlo.add %67, %70 : tensor<1x1024x768xf32>
    %72 = stablehlo.convert %71 : (tensor<1x1024x768xf32>) -> tensor<1x1024x768xbf16>
    return %72 : tensor<1x1024x768xbf16>
  }
  func.func private @_take(%arg0: tensor<50257x768xbf16>, %arg1: tensor<1x1024xi32>) -> tensor<1x1024x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x1024xi32>) -> tensor<1x1024x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<50257x768xbf16>, tensor<1x1024x1xi32>) -> tensor<1x1024x768xbf16>
    return %1 : tensor<1x1024x768xbf16>
  }
  func.func private @_take_0(%arg0: tensor<1024x768xbf16>, %arg1: tensor<1024xi32>) -> tensor<1024x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0] : (tensor<1024xi32>) -> tensor<1024x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<1024x768xbf16>, tensor<1024x1xi32>) -> tensor<1024x768xbf16>
    return %1 : tensor<1024x768xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<4xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<4xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x1024x1xi32>, %arg1: tensor<1x1024x12x1x64xbf16>, %arg2: tensor<1x1024x12x64xbf16>, %arg3: tensor<1x1x1x1x1024xi32>, %arg4: tensor<1x1024x12x64xbf16>, %arg5: tensor<i32>) -> (tensor<1x256x12x1x64xbf16>, tensor<1x256x12x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<1024> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 256, 1] : (tensor<1x1x1x1024x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x256x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<1024> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 256, 12, 1, 64] : (tensor<1x1024x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x256x12x1x64xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x12x64xbf16>, tensor<1x256x12x1x64xbf16>) -> tensor<1x12x1024x256x1xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x12x1024x256x1xf32>) -> tensor<1x12x1x256x1024xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x12x1x256x1024xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<12xi32>
    %15 = stablehlo.reshape %14 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x12x1x256x1024xf32>, tensor<1x12x1x256x1024xf32>) -> tensor<1x12x1x256x1024xi1>
    %18 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x1024xi32>) -> tensor<1x1x1x256x1024xi32>
    %19 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x256x1xi32>) -> tensor<1x1x1x256x1024xi32>
    %20 = stablehlo.compare LE, %18, %19, SIGNED : (tensor<1x1x1x256x1024xi32>, tensor<1x1x1x256x1024xi32>) -> tensor<1x1x1x256x1024xi1>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x256x1024xi1>) -> tensor<1x12x1x256x1024xi1>
    %22 = stablehlo.and %17, %21 : tensor<1x12x1x256x1024xi1>
    %cst_12 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = call @_where(%22, %11, %cst_12) : (tensor<1x12x1x256x1024xi1>, tensor<1x12x1x256x1024xf32>, tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %24 = stablehlo.reduce(%23 init: %cst_13) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x256x1024xf32>, tensor<f32>) -> tensor<1x12x1x256xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x12x1x256xf32>
    %26 = stablehlo.maximum %25, %24 : tensor<1x12x1x256xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2, 3] : (tensor<1x12x1x256xf32>) -> tensor<1x12x1x256x1xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %29 = stablehlo.compare EQ, %27, %28, FLOAT : (tensor<1x12x1x256x1xf32>, tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x1xi1>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_1(%29, %cst_16, %27) : (tensor<1x12x1x256x1xi1>, tensor<f32>, tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x1024xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x12x1x256x1024xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_2(%22, %32, %cst_17) : (tensor<1x12x1x256x1024xi1>, tensor<1x12x1x256x1024xf32>, tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %34 = stablehlo.exponential %33 : tensor<1x12x1x256x1024xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_2(%22, %34, %cst_18) : (tensor<1x12x1x256x1024xi1>, tensor<1x12x1x256x1024xf32>, tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x256x1024xf32>, tensor<f32>) -> tensor<1x12x1x256xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x12x1x256xf32>) -> tensor<1x12x1x256x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x12x1x256x1xf32>, tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_3(%39, %37, %cst_21) : (tensor<1x12x1x256x1xi1>, tensor<1x12x1x256x1xf32>, tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x12x1x256x1024xf32>) -> tensor<1x12x1x256x1024xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x256x1024xbf16>, tensor<1x1024x12x64xbf16>) -> tensor<1x12x1x256x64xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x64xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x12x1x256x64xf32>
    %45 = stablehlo.log %40 : tensor<1x12x1x256x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x12x1x256x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_3(%39, %46, %cst_22) : (tensor<1x12x1x256x1xi1>, tensor<1x12x1x256x1xf32>, tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256xf32>
    %49 = stablehlo.transpose %44, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x256x64xf32>) -> tensor<1x256x12x1x64xf32>
    %50 = stablehlo.convert %49 : (tensor<1x256x12x1x64xf32>) -> tensor<1x256x12x1x64xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x12x1x256xf32>) -> tensor<1x256x12x1xf32>
    return %50, %51 : tensor<1x256x12x1x64xbf16>, tensor<1x256x12x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x12x1x256x1024xi1>, %arg1: tensor<1x12x1x256x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x256x1024xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x256x1024xi1>, tensor<1x12x1x256x1024xf32>
    return %1 : tensor<1x12x1x256x1024xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x12x1x256x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x256x1xf32>) -> tensor<1x12x1x256x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x256x1xi1>, tensor<1x12x1x256x1xf32>
    return %2 : tensor<1x12x1x256x1xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x12x1x256x1024xi1>, %arg1: tensor<1x12x1x256x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x256x1024xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1024xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x256x1024xi1>, tensor<1x12x1x256x1024xf32>
    return %2 : tensor<1x12x1x256x1024xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x12x1x256x1xi1>, %arg1: tensor<1x12x1x256x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x256x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x256x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x256x1xi1>, tensor<1x12x1x256x1xf32>
    return %2 : tensor<1x12x1x256x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<4x1x256x12x1x64xbf16>, %arg1: tensor<1x256x12x1x64xbf16>, %arg2: tensor<i32>) -> tensor<4x1x256x12x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x256x12x1x64xbf16>) -> tensor<1x1x256x12x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<4x1x256x12x1x64xbf16>, tensor<1x1x256x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<4x1x256x12x1x64xbf16>
    return %1 : tensor<4x1x256x12x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_4(%arg0: tensor<4x1x256x12x1xf32>, %arg1: tensor<1x256x12x1xf32>, %arg2: tensor<i32>) -> tensor<4x1x256x12x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x256x12x1xf32>) -> tensor<1x1x256x12x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<4x1x256x12x1xf32>, tensor<1x1x256x12x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<4x1x256x12x1xf32>
    return %1 : tensor<4x1x256x12x1xf32>
  }
}
