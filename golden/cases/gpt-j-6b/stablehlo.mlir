module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<50400x4096xbf16>, %arg2: tensor<4096xbf16>, %arg3: tensor<4096xbf16>, %arg4: tensor<4096x4096xbf16>, %arg5: tensor<4096x12288xbf16>) -> (tensor<1x2048x4096xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<2048x64xf32>
    %0 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %1 = call @_take(%arg1, %arg0) : (tensor<50400x4096xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16>
    %2 = stablehlo.convert %1 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x4096xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.reduce(%2 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %4 = stablehlo.broadcast_in_dim %3, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_1 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %6 = stablehlo.divide %4, %5 : tensor<1x2048x1xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x4096xf32>
    %8 = stablehlo.subtract %2, %7 : tensor<1x2048x4096xf32>
    %9 = chlo.square %8 : tensor<1x2048x4096xf32> -> tensor<1x2048x4096xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %10 = stablehlo.reduce(%9 init: %cst_2) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %11 = stablehlo.broadcast_in_dim %10, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_3 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %13 = stablehlo.divide %11, %12 : tensor<1x2048x1xf32>
    %cst_4 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %14 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %15 = stablehlo.add %13, %14 : tensor<1x2048x1xf32>
    %16 = stablehlo.rsqrt %15 : tensor<1x2048x1xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x4096xf32>
    %18 = stablehlo.multiply %8, %17 : tensor<1x2048x4096xf32>
    %19 = stablehlo.convert %arg2 : (tensor<4096xbf16>) -> tensor<4096xf32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %20 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<4096xf32>
    %21 = stablehlo.add %19, %20 : tensor<4096xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [2] : (tensor<4096xf32>) -> tensor<1x1x4096xf32>
    %23 = stablehlo.broadcast_in_dim %22, dims = [0, 1, 2] : (tensor<1x1x4096xf32>) -> tensor<1x2048x4096xf32>
    %24 = stablehlo.multiply %18, %23 : tensor<1x2048x4096xf32>
    %25 = stablehlo.convert %arg3 : (tensor<4096xbf16>) -> tensor<4096xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [2] : (tensor<4096xf32>) -> tensor<1x1x4096xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2] : (tensor<1x1x4096xf32>) -> tensor<1x2048x4096xf32>
    %28 = stablehlo.add %24, %27 : tensor<1x2048x4096xf32>
    %29 = stablehlo.convert %28 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    %30 = stablehlo.dot_general %29, %arg5, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x12288xbf16>) -> tensor<1x2048x12288xf32>
    %31 = stablehlo.convert %30 : (tensor<1x2048x12288xf32>) -> tensor<1x2048x12288xbf16>
    %32 = stablehlo.slice %31 [0:1, 0:2048, 0:4096] : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x4096xbf16>
    %33 = stablehlo.reshape %32 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
    %34 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
    %35 = stablehlo.slice %34 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %36 = stablehlo.slice %34 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %37 = stablehlo.slice %33 [0:1, 0:2048, 0:16, 0:32] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x32xbf16>
    %38 = stablehlo.convert %37 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
    %39 = stablehlo.slice %33 [0:1, 0:2048, 0:16, 32:64] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x32xbf16>
    %40 = stablehlo.convert %39 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
    %41 = stablehlo.broadcast_in_dim %35, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %43 = stablehlo.multiply %38, %42 : tensor<1x2048x16x32xf32>
    %44 = stablehlo.broadcast_in_dim %36, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %45 = stablehlo.broadcast_in_dim %44, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %46 = stablehlo.multiply %40, %45 : tensor<1x2048x16x32xf32>
    %47 = stablehlo.subtract %43, %46 : tensor<1x2048x16x32xf32>
    %48 = stablehlo.broadcast_in_dim %35, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %49 = stablehlo.broadcast_in_dim %48, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %50 = stablehlo.multiply %40, %49 : tensor<1x2048x16x32xf32>
    %51 = stablehlo.broadcast_in_dim %36, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %52 = stablehlo.broadcast_in_dim %51, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %53 = stablehlo.multiply %38, %52 : tensor<1x2048x16x32xf32>
    %54 = stablehlo.add %50, %53 : tensor<1x2048x16x32xf32>
    %55 = stablehlo.convert %47 : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x32xbf16>
    %56 = stablehlo.convert %54 : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x32xbf16>
    %57 = stablehlo.slice %33 [0:1, 0:2048, 0:16, 64:256] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x192xbf16>
    %58 = stablehlo.concatenate %55, %56, %57, dim = 3 : (tensor<1x2048x16x32xbf16>, tensor<1x2048x16x32xbf16>, tensor<1x2048x16x192xbf16>) -> tensor<1x2048x16x256xbf16>
    %59 = stablehlo.slice %31 [0:1, 0:2048, 4096:8192] : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x4096xbf16>
    %60 = stablehlo.reshape %59 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
    %61 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
    %62 = stablehlo.slice %61 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %63 = stablehlo.slice %61 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %64 = stablehlo.slice %60 [0:1, 0:2048, 0:16, 0:32] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x32xbf16>
    %65 = stablehlo.convert %64 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
    %66 = stablehlo.slice %60 [0:1, 0:2048, 0:16, 32:64] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x32xbf16>
    %67 = stablehlo.convert %66 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
    %68 = stablehlo.broadcast_in_dim %62, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %69 = stablehlo.broadcast_in_dim %68, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %70 = stablehlo.multiply %65, %69 : tensor<1x2048x16x32xf32>
    %71 = stablehlo.broadcast_in_dim %63, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %72 = stablehlo.broadcast_in_dim %71, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %73 = stablehlo.multiply %67, %72 : tensor<1x2048x16x32xf32>
    %74 = stablehlo.subtract %70, %73 : tensor<1x2048x16x32xf32>
    %75 = stablehlo.broadcast_in_dim %62, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %76 = stablehlo.broadcast_in_dim %75, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %77 = stablehlo.multiply %67, %76 : tensor<1x2048x16x32xf32>
    %78 = stablehlo.broadcast_in_dim %63, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %79 = stablehlo.broadcast_in_dim %78, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
    %80 = stablehlo.multiply %65, %79 : tensor<1x2048x16x32xf32>
    %81 = stablehlo.add %77, %80 : tensor<1x2048x16x32xf32>
    %82 = stablehlo.convert %74 : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x32xbf16>
    %83 = stablehlo.convert %81 : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x32xbf16>
    %84 = stablehlo.slice %60 [0:1, 0:2048, 0:16, 64:256] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x192xbf16>
    %85 = stablehlo.concatenate %82, %83, %84, dim = 3 : (tensor<1x2048x16x32xbf16>, tensor<1x2048x16x32xbf16>, tensor<1x2048x16x192xbf16>) -> tensor<1x2048x16x256xbf16>
    %86 = stablehlo.slice %31 [0:1, 0:2048, 8192:12288] : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x4096xbf16>
    %87 = stablehlo.reshape %86 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
    %88 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %89 = stablehlo.reshape %58 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x1x256xbf16>
    %90 = stablehlo.broadcast_in_dim %88, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %91 = stablehlo.reshape %90 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %92 = stablehlo.broadcast_in_dim %91, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %93 = stablehlo.broadcast_in_dim %88, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %94 = stablehlo.reshape %93 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %95 = stablehlo.broadcast_in_dim %94, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %96 = stablehlo.iota dim = 0 : tensor<16xi32>
    %c = stablehlo.constant dense<128> : tensor<i32>
    %97 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %98 = stablehlo.multiply %97, %96 : tensor<16xi32>
    %c_6 = stablehlo.constant dense<0> : tensor<i32>
    %99 = stablehlo.broadcast_in_dim %c_6, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %100 = stablehlo.add %99, %98 : tensor<16xi32>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %101 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<bf16>) -> tensor<16x1x128x16x1x256xbf16>
    %cst_8 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %102 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<16x1x128x16x1xf32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %103:9 = stablehlo.while(%iterArg = %100, %iterArg_10 = %92, %iterArg_11 = %89, %iterArg_12 = %85, %iterArg_13 = %95, %iterArg_14 = %87, %iterArg_15 = %c_9, %iterArg_16 = %101, %iterArg_17 = %102) : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>, tensor<16x1x128x16x1x256xbf16>, tensor<16x1x128x16x1xf32>
    cond {
      %c_18 = stablehlo.constant dense<16> : tensor<i32>
      %113 = stablehlo.compare LT, %iterArg_15, %c_18, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %113 : tensor<i1>
    } do {
      %113 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_15) : (tensor<16xi32>, tensor<i32>) -> tensor<i32>
      %114:2 = func.call @closed_call(%iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %iterArg_14, %113) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>) -> (tensor<1x128x16x1x256xbf16>, tensor<1x128x16x1xf32>)
      %115 = func.call @dynamic_update_index_in_dim(%iterArg_16, %114#0, %iterArg_15) : (tensor<16x1x128x16x1x256xbf16>, tensor<1x128x16x1x256xbf16>, tensor<i32>) -> tensor<16x1x128x16x1x256xbf16>
      %116 = func.call @dynamic_update_index_in_dim_3(%iterArg_17, %114#1, %iterArg_15) : (tensor<16x1x128x16x1xf32>, tensor<1x128x16x1xf32>, tensor<i32>) -> tensor<16x1x128x16x1xf32>
      %c_18 = stablehlo.constant dense<1> : tensor<i32>
      %117 = stablehlo.add %iterArg_15, %c_18 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %iterArg_14, %117, %115, %116 : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>, tensor<16x1x128x16x1x256xbf16>, tensor<16x1x128x16x1xf32>
    }
    %104 = stablehlo.transpose %103#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<16x1x128x16x1x256xbf16>) -> tensor<1x16x128x16x1x256xbf16>
    %105 = stablehlo.reshape %104 : (tensor<1x16x128x16x1x256xbf16>) -> tensor<1x2048x16x1x256xbf16>
    %106 = stablehlo.transpose %103#8, dims = [1, 0, 2, 3, 4] : (tensor<16x1x128x16x1xf32>) -> tensor<1x16x128x16x1xf32>
    %107 = stablehlo.reshape %106 : (tensor<1x16x128x16x1xf32>) -> tensor<1x2048x16x1xf32>
    %108 = stablehlo.reshape %105 : (tensor<1x2048x16x1x256xbf16>) -> tensor<1x2048x16x256xbf16>
    %109 = stablehlo.reshape %107 : (tensor<1x2048x16x1xf32>) -> tensor<1x2048x16xf32>
    %110 = stablehlo.reshape %108 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x4096xbf16>
    %111 = stablehlo.dot_general %110, %arg4, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xf32>
    %112 = stablehlo.convert %111 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    return %112 : tensor<1x2048x4096xbf16>
  }
  func.func private @_take(%arg0: tensor<50400x4096xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4096>}> : (tensor<50400x4096xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x4096xbf16>
    return %1 : tensor<1x2048x4096xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<16xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<16xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x2048x1xi32>, %arg1: tensor<1x2048x16x1x256xbf16>, %arg2: tensor<1x2048x16x256xbf16>, %arg3: tensor<1x1x1x1x2048xi32>, %arg4: tensor<1x2048x16x256xbf16>, %arg5: tensor<i32>) -> (tensor<1x128x16x1x256xbf16>, tensor<1x128x16x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<2048> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 128, 1] : (tensor<1x1x1x2048x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x128x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<2048> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 128, 16, 1, 256] : (tensor<1x2048x16x1x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x128x16x1x256xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x16x256xbf16>, tensor<1x128x16x1x256xbf16>) -> tensor<1x16x2048x128x1xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x16x2048x128x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %cst = stablehlo.constant dense<6.250000e-02> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x16x1x128x2048xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<16xi32>
    %15 = stablehlo.reshape %14 : (tensor<16xi32>) -> tensor<1x16x1x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x16x1x128x2048xf32>, tensor<1x16x1x128x2048xf32>) -> tensor<1x16x1x128x2048xi1>
    %18 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x2048xi32>) -> tensor<1x1x1x128x2048xi32>
    %19 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x1xi32>) -> tensor<1x1x1x128x2048xi32>
    %20 = stablehlo.compare LE, %18, %19, SIGNED : (tensor<1x1x1x128x2048xi32>, tensor<1x1x1x128x2048xi32>) -> tensor<1x1x1x128x2048xi1>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x2048xi1>) -> tensor<1x16x1x128x2048xi1>
    %22 = stablehlo.and %17, %21 : tensor<1x16x1x128x2048xi1>
    %cst_12 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = call @_where(%22, %11, %cst_12) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %24 = stablehlo.reduce(%23 init: %cst_13) applies stablehlo.maximum across dimensions = [4] : (tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x16x1x128xf32>
    %26 = stablehlo.maximum %25, %24 : tensor<1x16x1x128xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2, 3] : (tensor<1x16x1x128xf32>) -> tensor<1x16x1x128x1xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %29 = stablehlo.compare EQ, %27, %28, FLOAT : (tensor<1x16x1x128x1xf32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xi1>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_0(%29, %cst_16, %27) : (tensor<1x16x1x128x1xi1>, tensor<f32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x16x1x128x2048xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_1(%22, %32, %cst_17) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %34 = stablehlo.exponential %33 : tensor<1x16x1x128x2048xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_1(%22, %34, %cst_18) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x16x1x128xf32>) -> tensor<1x16x1x128x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x16x1x128x1xf32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_2(%39, %37, %cst_21) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x16x1x128x2048xf32>) -> tensor<1x16x1x128x2048xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x16x1x128x2048xbf16>, tensor<1x2048x16x256xbf16>) -> tensor<1x16x1x128x256xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x256xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x16x1x128x256xf32>
    %45 = stablehlo.log %40 : tensor<1x16x1x128x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x16x1x128x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_2(%39, %46, %cst_22) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128xf32>
    %49 = stablehlo.convert %44 : (tensor<1x16x1x128x256xf32>) -> tensor<1x16x1x128x256xbf16>
    %50 = stablehlo.transpose %49, dims = [0, 3, 1, 2, 4] : (tensor<1x16x1x128x256xbf16>) -> tensor<1x128x16x1x256xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x16x1x128xf32>) -> tensor<1x128x16x1xf32>
    return %50, %51 : tensor<1x128x16x1x256xbf16>, tensor<1x128x16x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %1 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>
    return %2 : tensor<1x16x1x128x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %2 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<1x16x1x128x1xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>
    return %2 : tensor<1x16x1x128x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<16x1x128x16x1x256xbf16>, %arg1: tensor<1x128x16x1x256xbf16>, %arg2: tensor<i32>) -> tensor<16x1x128x16x1x256xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x128x16x1x256xbf16>) -> tensor<1x1x128x16x1x256xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<16x1x128x16x1x256xbf16>, tensor<1x1x128x16x1x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<16x1x128x16x1x256xbf16>
    return %1 : tensor<16x1x128x16x1x256xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<16x1x128x16x1xf32>, %arg1: tensor<1x128x16x1xf32>, %arg2: tensor<i32>) -> tensor<16x1x128x16x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x128x16x1xf32>) -> tensor<1x1x128x16x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<16x1x128x16x1xf32>, tensor<1x1x128x16x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<16x1x128x16x1xf32>
    return %1 : tensor<16x1x128x16x1xf32>
  }
}
