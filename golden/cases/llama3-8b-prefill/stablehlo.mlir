module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<128256x4096xbf16>, %arg2: tensor<4096xbf16>, %arg3: tensor<4096x4096xbf16>, %arg4: tensor<4096x6144xbf16>) -> (tensor<1x2048x4096xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<2048x128xf32>
    %0 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %1 = call @_take(%arg1, %arg0) : (tensor<128256x4096xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16>
    %2 = stablehlo.convert %1 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x4096xf32>
    %3 = chlo.square %2 : tensor<1x2048x4096xf32> -> tensor<1x2048x4096xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %4 = stablehlo.reduce(%3 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %5 = stablehlo.broadcast_in_dim %4, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_1 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %7 = stablehlo.divide %5, %6 : tensor<1x2048x1xf32>
    %cst_2 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %8 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %9 = stablehlo.add %7, %8 : tensor<1x2048x1xf32>
    %10 = stablehlo.rsqrt %9 : tensor<1x2048x1xf32>
    %11 = stablehlo.broadcast_in_dim %10, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x4096xf32>
    %12 = stablehlo.multiply %2, %11 : tensor<1x2048x4096xf32>
    %13 = stablehlo.convert %arg2 : (tensor<4096xbf16>) -> tensor<4096xf32>
    %cst_3 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %14 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<4096xf32>
    %15 = stablehlo.add %13, %14 : tensor<4096xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [2] : (tensor<4096xf32>) -> tensor<1x1x4096xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1, 2] : (tensor<1x1x4096xf32>) -> tensor<1x2048x4096xf32>
    %18 = stablehlo.multiply %12, %17 : tensor<1x2048x4096xf32>
    %19 = stablehlo.convert %18 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    %20 = stablehlo.dot_general %19, %arg4, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x2048x6144xf32>
    %21 = stablehlo.convert %20 : (tensor<1x2048x6144xf32>) -> tensor<1x2048x6144xbf16>
    %22 = stablehlo.slice %21 [0:1, 0:2048, 0:4096] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x4096xbf16>
    %23 = stablehlo.reshape %22 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x32x128xbf16>
    %24 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x128xf32>) -> tensor<2048x1x128xf32>
    %25 = stablehlo.slice %24 [0:2048, 0:1, 0:64] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %26 = stablehlo.slice %24 [0:2048, 0:1, 64:128] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %27 = stablehlo.slice %23 [0:1, 0:2048, 0:32, 0:64] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x64xbf16>
    %28 = stablehlo.convert %27 : (tensor<1x2048x32x64xbf16>) -> tensor<1x2048x32x64xf32>
    %29 = stablehlo.slice %23 [0:1, 0:2048, 0:32, 64:128] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x64xbf16>
    %30 = stablehlo.convert %29 : (tensor<1x2048x32x64xbf16>) -> tensor<1x2048x32x64xf32>
    %31 = stablehlo.broadcast_in_dim %25, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %33 = stablehlo.multiply %28, %32 : tensor<1x2048x32x64xf32>
    %34 = stablehlo.broadcast_in_dim %26, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %35 = stablehlo.broadcast_in_dim %34, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %36 = stablehlo.multiply %30, %35 : tensor<1x2048x32x64xf32>
    %37 = stablehlo.subtract %33, %36 : tensor<1x2048x32x64xf32>
    %38 = stablehlo.broadcast_in_dim %25, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %39 = stablehlo.broadcast_in_dim %38, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %40 = stablehlo.multiply %30, %39 : tensor<1x2048x32x64xf32>
    %41 = stablehlo.broadcast_in_dim %26, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %43 = stablehlo.multiply %28, %42 : tensor<1x2048x32x64xf32>
    %44 = stablehlo.add %40, %43 : tensor<1x2048x32x64xf32>
    %45 = stablehlo.convert %37 : (tensor<1x2048x32x64xf32>) -> tensor<1x2048x32x64xbf16>
    %46 = stablehlo.convert %44 : (tensor<1x2048x32x64xf32>) -> tensor<1x2048x32x64xbf16>
    %47 = stablehlo.slice %23 [0:1, 0:2048, 0:32, 128:128] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x0xbf16>
    %48 = stablehlo.concatenate %45, %46, %47, dim = 3 : (tensor<1x2048x32x64xbf16>, tensor<1x2048x32x64xbf16>, tensor<1x2048x32x0xbf16>) -> tensor<1x2048x32x128xbf16>
    %49 = stablehlo.slice %21 [0:1, 0:2048, 4096:5120] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x1024xbf16>
    %50 = stablehlo.reshape %49 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
    %51 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x128xf32>) -> tensor<2048x1x128xf32>
    %52 = stablehlo.slice %51 [0:2048, 0:1, 0:64] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %53 = stablehlo.slice %51 [0:2048, 0:1, 64:128] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %54 = stablehlo.slice %50 [0:1, 0:2048, 0:8, 0:64] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x64xbf16>
    %55 = stablehlo.convert %54 : (tensor<1x2048x8x64xbf16>) -> tensor<1x2048x8x64xf32>
    %56 = stablehlo.slice %50 [0:1, 0:2048, 0:8, 64:128] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x64xbf16>
    %57 = stablehlo.convert %56 : (tensor<1x2048x8x64xbf16>) -> tensor<1x2048x8x64xf32>
    %58 = stablehlo.broadcast_in_dim %52, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %59 = stablehlo.broadcast_in_dim %58, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %60 = stablehlo.multiply %55, %59 : tensor<1x2048x8x64xf32>
    %61 = stablehlo.broadcast_in_dim %53, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %62 = stablehlo.broadcast_in_dim %61, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %63 = stablehlo.multiply %57, %62 : tensor<1x2048x8x64xf32>
    %64 = stablehlo.subtract %60, %63 : tensor<1x2048x8x64xf32>
    %65 = stablehlo.broadcast_in_dim %52, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %66 = stablehlo.broadcast_in_dim %65, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %67 = stablehlo.multiply %57, %66 : tensor<1x2048x8x64xf32>
    %68 = stablehlo.broadcast_in_dim %53, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %69 = stablehlo.broadcast_in_dim %68, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %70 = stablehlo.multiply %55, %69 : tensor<1x2048x8x64xf32>
    %71 = stablehlo.add %67, %70 : tensor<1x2048x8x64xf32>
    %72 = stablehlo.convert %64 : (tensor<1x2048x8x64xf32>) -> tensor<1x2048x8x64xbf16>
    %73 = stablehlo.convert %71 : (tensor<1x2048x8x64xf32>) -> tensor<1x2048x8x64xbf16>
    %74 = stablehlo.slice %50 [0:1, 0:2048, 0:8, 128:128] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x0xbf16>
    %75 = stablehlo.concatenate %72, %73, %74, dim = 3 : (tensor<1x2048x8x64xbf16>, tensor<1x2048x8x64xbf16>, tensor<1x2048x8x0xbf16>) -> tensor<1x2048x8x128xbf16>
    %76 = stablehlo.slice %21 [0:1, 0:2048, 5120:6144] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x1024xbf16>
    %77 = stablehlo.reshape %76 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
    %78 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %79 = stablehlo.reshape %48 : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x8x4x128xbf16>
    %80 = stablehlo.broadcast_in_dim %78, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %81 = stablehlo.reshape %80 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %82 = stablehlo.broadcast_in_dim %81, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %83 = stablehlo.broadcast_in_dim %78, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %84 = stablehlo.reshape %83 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %85 = stablehlo.broadcast_in_dim %84, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %86 = stablehlo.iota dim = 0 : tensor<32xi32>
    %c = stablehlo.constant dense<64> : tensor<i32>
    %87 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<32xi32>
    %88 = stablehlo.multiply %87, %86 : tensor<32xi32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %89 = stablehlo.broadcast_in_dim %c_4, dims = [] : (tensor<i32>) -> tensor<32xi32>
    %90 = stablehlo.add %89, %88 : tensor<32xi32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %91 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<bf16>) -> tensor<32x1x64x8x4x128xbf16>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %92 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<32x1x64x8x4xf32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %93:9 = stablehlo.while(%iterArg = %90, %iterArg_8 = %82, %iterArg_9 = %79, %iterArg_10 = %75, %iterArg_11 = %85, %iterArg_12 = %77, %iterArg_13 = %c_7, %iterArg_14 = %91, %iterArg_15 = %92) : tensor<32xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>, tensor<32x1x64x8x4x128xbf16>, tensor<32x1x64x8x4xf32>
    cond {
      %c_16 = stablehlo.constant dense<32> : tensor<i32>
      %103 = stablehlo.compare LT, %iterArg_13, %c_16, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %103 : tensor<i1>
    } do {
      %103 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_13) : (tensor<32xi32>, tensor<i32>) -> tensor<i32>
      %104:2 = func.call @closed_call(%iterArg_8, %iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %103) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>) -> (tensor<1x64x8x4x128xbf16>, tensor<1x64x8x4xf32>)
      %105 = func.call @dynamic_update_index_in_dim(%iterArg_14, %104#0, %iterArg_13) : (tensor<32x1x64x8x4x128xbf16>, tensor<1x64x8x4x128xbf16>, tensor<i32>) -> tensor<32x1x64x8x4x128xbf16>
      %106 = func.call @dynamic_update_index_in_dim_3(%iterArg_15, %104#1, %iterArg_13) : (tensor<32x1x64x8x4xf32>, tensor<1x64x8x4xf32>, tensor<i32>) -> tensor<32x1x64x8x4xf32>
      %c_16 = stablehlo.constant dense<1> : tensor<i32>
      %107 = stablehlo.add %iterArg_13, %c_16 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_8, %iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %107, %105, %106 : tensor<32xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>, tensor<32x1x64x8x4x128xbf16>, tensor<32x1x64x8x4xf32>
    }
    %94 = stablehlo.transpose %93#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<32x1x64x8x4x128xbf16>) -> tensor<1x32x64x8x4x128xbf16>
    %95 = stablehlo.reshape %94 : (tensor<1x32x64x8x4x128xbf16>) -> tensor<1x2048x8x4x128xbf16>
    %96 = stablehlo.transpose %93#8, dims = [1, 0, 2, 3, 4] : (tensor<32x1x64x8x4xf32>) -> tensor<1x32x64x8x4xf32>
    %97 = stablehlo.reshape %96 : (tensor<1x32x64x8x4xf32>) -> tensor<1x2048x8x4xf32>
    %98 = stablehlo.reshape %95 : (tensor<1x2048x8x4x128xbf16>) -> tensor<1x2048x32x128xbf16>
    %99 = stablehlo.reshape %97 : (tensor<1x2048x8x4xf32>) -> tensor<1x2048x32xf32>
    %100 = stablehlo.reshape %98 : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
    %101 = stablehlo.dot_general %100, %arg3, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xf32>
    %102 = stablehlo.convert %101 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    return %102 : tensor<1x2048x4096xbf16>
  }
  func.func private @_take(%arg0: tensor<128256x4096xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4096>}> : (tensor<128256x4096xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x4096xbf16>
    return %1 : tensor<1x2048x4096xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<32xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<32xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x2048x1xi32>, %arg1: tensor<1x2048x8x4x128xbf16>, %arg2: tensor<1x2048x8x128xbf16>, %arg3: tensor<1x1x1x1x2048xi32>, %arg4: tensor<1x2048x8x128xbf16>, %arg5: tensor<i32>) -> (tensor<1x64x8x4x128xbf16>, tensor<1x64x8x4xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<2048> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 64, 1] : (tensor<1x1x1x2048x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x64x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<2048> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 64, 8, 4, 128] : (tensor<1x2048x8x4x128xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x64x8x4x128xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x8x128xbf16>, tensor<1x64x8x4x128xbf16>) -> tensor<1x8x2048x64x4xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x8x2048x64x4xf32>) -> tensor<1x8x4x64x2048xf32>
    %cst = stablehlo.constant dense<0.0883883461> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x8x4x64x2048xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<32xi32>
    %15 = stablehlo.reshape %14 : (tensor<32xi32>) -> tensor<1x8x4x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x8x4x64x2048xf32>, tensor<1x8x4x64x2048xf32>) -> tensor<1x8x4x64x2048xi1>
    %18 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x2048xi32>) -> tensor<1x1x1x64x2048xi32>
    %19 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x64x1xi32>) -> tensor<1x1x1x64x2048xi32>
    %20 = stablehlo.compare LE, %18, %19, SIGNED : (tensor<1x1x1x64x2048xi32>, tensor<1x1x1x64x2048xi32>) -> tensor<1x1x1x64x2048xi1>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x64x2048xi1>) -> tensor<1x8x4x64x2048xi1>
    %22 = stablehlo.and %17, %21 : tensor<1x8x4x64x2048xi1>
    %cst_12 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = call @_where(%22, %11, %cst_12) : (tensor<1x8x4x64x2048xi1>, tensor<1x8x4x64x2048xf32>, tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %24 = stablehlo.reduce(%23 init: %cst_13) applies stablehlo.maximum across dimensions = [4] : (tensor<1x8x4x64x2048xf32>, tensor<f32>) -> tensor<1x8x4x64xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x8x4x64xf32>
    %26 = stablehlo.maximum %25, %24 : tensor<1x8x4x64xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2, 3] : (tensor<1x8x4x64xf32>) -> tensor<1x8x4x64x1xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %29 = stablehlo.compare EQ, %27, %28, FLOAT : (tensor<1x8x4x64x1xf32>, tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x1xi1>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_0(%29, %cst_16, %27) : (tensor<1x8x4x64x1xi1>, tensor<f32>, tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x2048xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x8x4x64x2048xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_1(%22, %32, %cst_17) : (tensor<1x8x4x64x2048xi1>, tensor<1x8x4x64x2048xf32>, tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %34 = stablehlo.exponential %33 : tensor<1x8x4x64x2048xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_1(%22, %34, %cst_18) : (tensor<1x8x4x64x2048xi1>, tensor<1x8x4x64x2048xf32>, tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x8x4x64x2048xf32>, tensor<f32>) -> tensor<1x8x4x64xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x8x4x64xf32>) -> tensor<1x8x4x64x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x8x4x64x1xf32>, tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_2(%39, %37, %cst_21) : (tensor<1x8x4x64x1xi1>, tensor<1x8x4x64x1xf32>, tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x8x4x64x2048xf32>) -> tensor<1x8x4x64x2048xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x8x4x64x2048xbf16>, tensor<1x2048x8x128xbf16>) -> tensor<1x8x4x64x128xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x128xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x8x4x64x128xf32>
    %45 = stablehlo.log %40 : tensor<1x8x4x64x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x8x4x64x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_2(%39, %46, %cst_22) : (tensor<1x8x4x64x1xi1>, tensor<1x8x4x64x1xf32>, tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64xf32>
    %49 = stablehlo.convert %44 : (tensor<1x8x4x64x128xf32>) -> tensor<1x8x4x64x128xbf16>
    %50 = stablehlo.transpose %49, dims = [0, 3, 1, 2, 4] : (tensor<1x8x4x64x128xbf16>) -> tensor<1x64x8x4x128xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x8x4x64xf32>) -> tensor<1x64x8x4xf32>
    return %50, %51 : tensor<1x64x8x4x128xbf16>, tensor<1x64x8x4xf32>
  }
  func.func private @_where(%arg0: tensor<1x8x4x64x2048xi1>, %arg1: tensor<1x8x4x64x2048xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x64x2048xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x8x4x64x2048xi1>, tensor<1x8x4x64x2048xf32>
    return %1 : tensor<1x8x4x64x2048xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x8x4x64x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x8x4x64x1xf32>) -> tensor<1x8x4x64x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x8x4x64x1xi1>, tensor<1x8x4x64x1xf32>
    return %2 : tensor<1x8x4x64x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x8x4x64x2048xi1>, %arg1: tensor<1x8x4x64x2048xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x64x2048xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x2048xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x4x64x2048xi1>, tensor<1x8x4x64x2048xf32>
    return %2 : tensor<1x8x4x64x2048xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x8x4x64x1xi1>, %arg1: tensor<1x8x4x64x1xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x64x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x64x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x4x64x1xi1>, tensor<1x8x4x64x1xf32>
    return %2 : tensor<1x8x4x64x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<32x1x64x8x4x128xbf16>, %arg1: tensor<1x64x8x4x128xbf16>, %arg2: tensor<i32>) -> tensor<32x1x64x8x4x128xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x64x8x4x128xbf16>) -> tensor<1x1x64x8x4x128xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<32x1x64x8x4x128xbf16>, tensor<1x1x64x8x4x128xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<32x1x64x8x4x128xbf16>
    return %1 : tensor<32x1x64x8x4x128xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<32x1x64x8x4xf32>, %arg1: tensor<1x64x8x4xf32>, %arg2: tensor<i32>) -> tensor<32x1x64x8x4xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x64x8x4xf32>) -> tensor<1x1x64x8x4xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<32x1x64x8x4xf32>, tensor<1x1x64x8x4xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<32x1x64x8x4xf32>
    return %1 : tensor<32x1x64x8x4xf32>
  }
}
