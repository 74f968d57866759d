module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x512xi32>, %arg1: tensor<37000x512xbf16>, %arg2: tensor<512x512xbf16>, %arg3: tensor<512x1536xbf16>) -> (tensor<1x512x512xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<512x256xf32>
    %cst_0 = stablehlo.constant dense_resource<__elided__> : tensor<512x256xf32>
    %0 = stablehlo.iota dim = 0 : tensor<512xi32>
    %1 = stablehlo.broadcast_in_dim %cst_0, dims = [0, 1] : (tensor<512x256xf32>) -> tensor<512x256x1xf32>
    %2 = stablehlo.broadcast_in_dim %cst, dims = [0, 1] : (tensor<512x256xf32>) -> tensor<512x256x1xf32>
    %3 = stablehlo.concatenate %1, %2, dim = 2 : (tensor<512x256x1xf32>, tensor<512x256x1xf32>) -> tensor<512x256x2xf32>
    %4 = stablehlo.reshape %3 : (tensor<512x256x2xf32>) -> tensor<512x512xf32>
    %5 = stablehlo.convert %4 : (tensor<512x512xf32>) -> tensor<512x512xbf16>
    %6 = call @_take(%arg1, %arg0) : (tensor<37000x512xbf16>, tensor<1x512xi32>) -> tensor<1x512x512xbf16>
    %7 = stablehlo.convert %6 : (tensor<1x512x512xbf16>) -> tensor<1x512x512xf32>
    %cst_1 = stablehlo.constant dense<22.6274166> : tensor<f32>
    %8 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x512x512xf32>
    %9 = stablehlo.multiply %7, %8 : tensor<1x512x512xf32>
    %10 = stablehlo.convert %9 : (tensor<1x512x512xf32>) -> tensor<1x512x512xbf16>
    %11 = stablehlo.broadcast_in_dim %5, dims = [1, 2] : (tensor<512x512xbf16>) -> tensor<1x512x512xbf16>
    %12 = stablehlo.add %11, %10 : tensor<1x512x512xbf16>
    %13 = stablehlo.dot_general %12, %arg3, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x512x512xbf16>, tensor<512x1536xbf16>) -> tensor<1x512x1536xf32>
    %14 = stablehlo.convert %13 : (tensor<1x512x1536xf32>) -> tensor<1x512x1536xbf16>
    %15 = stablehlo.slice %14 [0:1, 0:512, 0:512] : (tensor<1x512x1536xbf16>) -> tensor<1x512x512xbf16>
    %16 = stablehlo.reshape %15 : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
    %17 = stablehlo.slice %14 [0:1, 0:512, 512:1024] : (tensor<1x512x1536xbf16>) -> tensor<1x512x512xbf16>
    %18 = stablehlo.reshape %17 : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
    %19 = stablehlo.slice %14 [0:1, 0:512, 1024:1536] : (tensor<1x512x1536xbf16>) -> tensor<1x512x512xbf16>
    %20 = stablehlo.reshape %19 : (tensor<1x512x512xbf16>) -> tensor<1x512x8x64xbf16>
    %21 = stablehlo.reshape %16 : (tensor<1x512x8x64xbf16>) -> tensor<1x512x8x1x64xbf16>
    %22 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c = stablehlo.constant dense<512> : tensor<i32>
    %23 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %24 = stablehlo.multiply %23, %22 : tensor<1xi32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %25 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %26 = stablehlo.add %25, %24 : tensor<1xi32>
    %cst_3 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %27 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<bf16>) -> tensor<1x1x512x8x1x64xbf16>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x1x512x8x1xf32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %29:7 = stablehlo.while(%iterArg = %26, %iterArg_6 = %21, %iterArg_7 = %18, %iterArg_8 = %20, %iterArg_9 = %c_5, %iterArg_10 = %27, %iterArg_11 = %28) : tensor<1xi32>, tensor<1x512x8x1x64xbf16>, tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>, tensor<i32>, tensor<1x1x512x8x1x64xbf16>, tensor<1x1x512x8x1xf32>
    cond {
      %c_12 = stablehlo.constant dense<1> : tensor<i32>
      %39 = stablehlo.compare LT, %iterArg_9, %c_12, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %39 : tensor<i1>
    } do {
      %39 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_9) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %40:2 = func.call @closed_call(%iterArg_6, %iterArg_7, %iterArg_8, %39) : (tensor<1x512x8x1x64xbf16>, tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>, tensor<i32>) -> (tensor<1x512x8x1x64xbf16>, tensor<1x512x8x1xf32>)
      %41 = func.call @dynamic_update_index_in_dim(%iterArg_10, %40#0, %iterArg_9) : (tensor<1x1x512x8x1x64xbf16>, tensor<1x512x8x1x64xbf16>, tensor<i32>) -> tensor<1x1x512x8x1x64xbf16>
      %42 = func.call @dynamic_update_index_in_dim_3(%iterArg_11, %40#1, %iterArg_9) : (tensor<1x1x512x8x1xf32>, tensor<1x512x8x1xf32>, tensor<i32>) -> tensor<1x1x512x8x1xf32>
      %c_12 = stablehlo.constant dense<1> : tensor<i32>
      %43 = stablehlo.add %iterArg_9, %c_12 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_6, %iterArg_7, %iterArg_8, %43, %41, %42 : tensor<1xi32>, tensor<1x512x8x1x64xbf16>, tensor<1x512x8x64xbf16>, tensor<1x512x8x64xbf16>, tensor<i32>, tensor<1x1x512x8x1x64xbf16>, tensor<1x1x512x8x1xf32>
    }
    %30 = stablehlo.transpose %29#5, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x512x8x1x64xbf16>) -> tensor<1x1x512x8x1x64xbf16>
    %31 = stablehlo.reshape %30 : (tensor<1x1x512x8x1x64xbf16>) -> tensor<1x512x8x1x64xbf16>
    %32 = stablehlo.transpose %29#6, dims = [1, 0, 2, 3, 4] : (tensor<1x1x512x8x1xf32>) -> tensor<1x1x512x8x1xf32>
    %33 = stablehlo.reshape %32 : (tensor<1x1x512x8x1xf32>) -> tensor<1x512x8x1xf32>
    %34 = stablehlo.reshape %31 : (tensor<1x512x8x1x64xbf16>) -> tensor<1x512x8x64xbf16>
    %35 = stablehlo.reshape %33 : (tensor<1x512x8x1xf32>) -> tensor<1x512x8xf32>
    %36 = stablehlo.reshape %34 : (tensor<1x512x8x64xbf16>) -> tensor<1x512x512xbf16>
    %37 = stablehlo.dot_general %36, %arg2, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x512x512xbf16>, tensor<512x512xbf16>) -> tensor<1x512x512xf32>
    %38 = stablehlo.convert %37 : (tensor<1x512x512xf32>) -> tensor<1x512x512xbf16>
    return %38 : tensor<1x512x512xbf16>
  }
  func.func private @_take(%arg0: tensor<37000x512xbf16>, %arg1: tensor<1x512xi32>) -> tensor<1x512x512xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x512xi32>) -> tensor<1x512x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 512>}> : (tensor<37000x512xbf16>, tensor<1x512x1xi32>) -> tensor<1x512x512xbf16>
    return %1 : tensor<1x512x512xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x512x8x1x64xbf16>, %arg1: tensor<1x512x8x64xbf16>, %arg2: tensor<1x512x8x64xbf16>, %arg3: tensor<i32>) -> (tensor<1x512x8x1x64xbf16>, tensor<1x512x8x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg3, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<512> : tensor<i32>
    %1 = stablehlo.add %arg3, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg3 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %2, %c_2, %c_3, %c_4, sizes = [1, 512, 8, 1, 64] : (tensor<1x512x8x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x512x8x1x64xbf16>
    %4 = stablehlo.dot_general %arg1, %3, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x512x8x64xbf16>, tensor<1x512x8x1x64xbf16>) -> tensor<1x8x512x512x1xf32>
    %5 = stablehlo.transpose %4, dims = [0, 1, 4, 3, 2] : (tensor<1x8x512x512x1xf32>) -> tensor<1x8x1x512x512xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<1x8x1x512x512xf32>
    %8 = stablehlo.iota dim = 0 : tensor<1xi32>
    %9 = stablehlo.reshape %8 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %10 = stablehlo.iota dim = 0 : tensor<8xi32>
    %11 = stablehlo.reshape %10 : (tensor<8xi32>) -> tensor<1x8x1x1x1xi32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %13 = stablehlo.compare NE, %7, %12, FLOAT : (tensor<1x8x1x512x512xf32>, tensor<1x8x1x512x512xf32>) -> tensor<1x8x1x512x512xi1>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %14 = call @_where(%13, %7, %cst_6) : (tensor<1x8x1x512x512xi1>, tensor<1x8x1x512x512xf32>, tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_7) applies stablehlo.maximum across dimensions = [4] : (tensor<1x8x1x512x512xf32>, tensor<f32>) -> tensor<1x8x1x512xf32>
    %cst_8 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<1x8x1x512xf32>
    %17 = stablehlo.maximum %16, %15 : tensor<1x8x1x512xf32>
    %18 = stablehlo.broadcast_in_dim %17, dims = [0, 1, 2, 3] : (tensor<1x8x1x512xf32>) -> tensor<1x8x1x512x1xf32>
    %cst_9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %20 = stablehlo.compare EQ, %18, %19, FLOAT : (tensor<1x8x1x512x1xf32>, tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x1xi1>
    %cst_10 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %21 = call @_where_0(%20, %cst_10, %18) : (tensor<1x8x1x512x1xi1>, tensor<f32>, tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3, 4] : (tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x512xf32>
    %23 = stablehlo.subtract %7, %22 : tensor<1x8x1x512x512xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %24 = call @_where_1(%13, %23, %cst_11) : (tensor<1x8x1x512x512xi1>, tensor<1x8x1x512x512xf32>, tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %25 = stablehlo.exponential %24 : tensor<1x8x1x512x512xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %26 = call @_where_1(%13, %25, %cst_12) : (tensor<1x8x1x512x512xi1>, tensor<1x8x1x512x512xf32>, tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %27 = stablehlo.reduce(%26 init: %cst_13) applies stablehlo.add across dimensions = [4] : (tensor<1x8x1x512x512xf32>, tensor<f32>) -> tensor<1x8x1x512xf32>
    %28 = stablehlo.broadcast_in_dim %27, dims = [0, 1, 2, 3] : (tensor<1x8x1x512xf32>) -> tensor<1x8x1x512x1xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %29 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %30 = stablehlo.compare GT, %28, %29, FLOAT : (tensor<1x8x1x512x1xf32>, tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x1xi1>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %31 = call @_where_2(%30, %28, %cst_15) : (tensor<1x8x1x512x1xi1>, tensor<1x8x1x512x1xf32>, tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %32 = stablehlo.convert %26 : (tensor<1x8x1x512x512xf32>) -> tensor<1x8x1x512x512xbf16>
    %33 = stablehlo.dot_general %32, %arg2, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x8x1x512x512xbf16>, tensor<1x512x8x64xbf16>) -> tensor<1x8x1x512x64xf32>
    %34 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x64xf32>
    %35 = stablehlo.divide %33, %34 : tensor<1x8x1x512x64xf32>
    %36 = stablehlo.log %31 : tensor<1x8x1x512x1xf32>
    %37 = stablehlo.add %21, %36 : tensor<1x8x1x512x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %38 = call @_where_2(%30, %37, %cst_16) : (tensor<1x8x1x512x1xi1>, tensor<1x8x1x512x1xf32>, tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %39 = stablehlo.reshape %38 : (tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512xf32>
    %40 = stablehlo.convert %35 : (tensor<1x8x1x512x64xf32>) -> tensor<1x8x1x512x64xbf16>
    %41 = stablehlo.transpose %40, dims = [0, 3, 1, 2, 4] : (tensor<1x8x1x512x64xbf16>) -> tensor<1x512x8x1x64xbf16>
    %42 = stablehlo.transpose %39, dims = [0, 3, 1, 2] : (tensor<1x8x1x512xf32>) -> tensor<1x512x8x1xf32>
    return %41, %42 : tensor<1x512x8x1x64xbf16>, tensor<1x512x8x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x8x1x512x512xi1>, %arg1: tensor<1x8x1x512x512xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x512x512xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x8x1x512x512xi1>, tensor<1x8x1x512x512xf32>
    return %1 : tensor<1x8x1x512x512xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x8x1x512x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x8x1x512x1xf32>) -> tensor<1x8x1x512x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x8x1x512x1xi1>, tensor<1x8x1x512x1xf32>
    return %2 : tensor<1x8x1x512x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x8x1x512x512xi1>, %arg1: tensor<1x8x1x512x512xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x512x512xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x512xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x1x512x512xi1>, tensor<1x8x1x512x512xf32>
    return %2 : tensor<1x8x1x512x512xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x8x1x512x1xi1>, %arg1: tensor<1x8x1x512x1xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x512x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x512x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x1x512x1xi1>, tensor<1x8x1x512x1xf32>
    return %2 : tensor<1x8x1x512x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x1x512x8x1x64xbf16>, %arg1: tensor<1x512x8x1x64xbf16>, %arg2: tensor<i32>) -> tensor<1x1x512x8x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x512x8x1x64xbf16>) -> tensor<1x1x512x8x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x1x512x8x1x64xbf16>, tensor<1x1x512x8x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x512x8x1x64xbf16>
    return %1 : tensor<1x1x512x8x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<1x1x512x8x1xf32>, %arg1: tensor<1x512x8x1xf32>, %arg2: tensor<i32>) -> tensor<1x1x512x8x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x512x8x1xf32>) -> tensor<1x1x512x8x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x1x512x8x1xf32>, tensor<1x1x512x8x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x512x8x1xf32>
    return %1 : tensor<1x1x512x8x1xf32>
  }
}
