module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<50304x2048xbf16>, %arg2: tensor<2048xbf16>, %arg3: tensor<2048xbf16>, %arg4: tensor<2048x2048xbf16>, %arg5: tensor<2048xbf16>, %arg6: tensor<2048x6144xbf16>, %arg7: tensor<6144xbf16>) -> (tensor<1x2048x2048xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<2048x64xf32>
    %0 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %1 = call @_take(%arg1, %arg0) : (tensor<50304x2048xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x2048xbf16>
    %2 = stablehlo.convert %1 : (tensor<1x2048x2048xbf16>) -> tensor<1x2048x2048xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.reduce(%2 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x2048xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %4 = stablehlo.broadcast_in_dim %3, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_1 = stablehlo.constant dense<2.048000e+03> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %6 = stablehlo.divide %4, %5 : tensor<1x2048x1xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x2048xf32>
    %8 = stablehlo.subtract %2, %7 : tensor<1x2048x2048xf32>
    %9 = chlo.square %8 : tensor<1x2048x2048xf32> -> tensor<1x2048x2048xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %10 = stablehlo.reduce(%9 init: %cst_2) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x2048xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %11 = stablehlo.broadcast_in_dim %10, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_3 = stablehlo.constant dense<2.048000e+03> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %13 = stablehlo.divide %11, %12 : tensor<1x2048x1xf32>
    %cst_4 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %14 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %15 = stablehlo.add %13, %14 : tensor<1x2048x1xf32>
    %16 = stablehlo.rsqrt %15 : tensor<1x2048x1xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x2048xf32>
    %18 = stablehlo.multiply %8, %17 : tensor<1x2048x2048xf32>
    %19 = stablehlo.convert %arg2 : (tensor<2048xbf16>) -> tensor<2048xf32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %20 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<2048xf32>
    %21 = stablehlo.add %19, %20 : tensor<2048xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [2] : (tensor<2048xf32>) -> tensor<1x1x2048xf32>
    %23 = stablehlo.broadcast_in_dim %22, dims = [0, 1, 2] : (tensor<1x1x2048xf32>) -> tensor<1x2048x2048xf32>
    %24 = stablehlo.multiply %18, %23 : tensor<1x2048x2048xf32>
    %25 = stablehlo.convert %arg3 : (tensor<2048xbf16>) -> tensor<2048xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [2] : (tensor<2048xf32>) -> tensor<1x1x2048xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2] : (tensor<1x1x2048xf32>) -> tensor<1x2048x2048xf32>
    %28 = stablehlo.add %24, %27 : tensor<1x2048x2048xf32>
    %29 = stablehlo.convert %28 : (tensor<1x2048x2048xf32>) -> tensor<1x2048x2048xbf16>
    %30 = stablehlo.dot_general %29, %arg6, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x2048xbf16>, tensor<2048x6144xbf16>) -> tensor<1x2048x6144xf32>
    %31 = stablehlo.convert %arg7 : (tensor<6144xbf16>) -> tensor<6144xf32>
    %32 = stablehlo.broadcast_in_dim %31, dims = [2] : (tensor<6144xf32>) -> tensor<1x1x6144xf32>
    %33 = stablehlo.broadcast_in_dim %32, dims = [0, 1, 2] : (tensor<1x1x6144xf32>) -> tensor<1x2048x6144xf32>
    %34 = stablehlo.add %30, %33 : tensor<1x2048x6144xf32>
    %35 = stablehlo.convert %34 : (tensor<1x2048x6144xf32>) -> tensor<1x2048x6144xbf16>
    %36 = stablehlo.slice %35 [0:1, 0:2048, 0:2048] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x2048xbf16>
    %37 = stablehlo.reshape %36 : (tensor<1x2048x2048xbf16>) -> tensor<1x2048x8x256xbf16>
    %38 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
    %39 = stablehlo.slice %38 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %40 = stablehlo.slice %38 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %41 = stablehlo.slice %37 [0:1, 0:2048, 0:8, 0:32] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x32xbf16>
    %42 = stablehlo.convert %41 : (tensor<1x2048x8x32xbf16>) -> tensor<1x2048x8x32xf32>
    %43 = stablehlo.slice %37 [0:1, 0:2048, 0:8, 32:64] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x32xbf16>
    %44 = stablehlo.convert %43 : (tensor<1x2048x8x32xbf16>) -> tensor<1x2048x8x32xf32>
    %45 = stablehlo.broadcast_in_dim %39, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %46 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %47 = stablehlo.multiply %42, %46 : tensor<1x2048x8x32xf32>
    %48 = stablehlo.broadcast_in_dim %40, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %49 = stablehlo.broadcast_in_dim %48, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %50 = stablehlo.multiply %44, %49 : tensor<1x2048x8x32xf32>
    %51 = stablehlo.subtract %47, %50 : tensor<1x2048x8x32xf32>
    %52 = stablehlo.broadcast_in_dim %39, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %53 = stablehlo.broadcast_in_dim %52, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %54 = stablehlo.multiply %44, %53 : tensor<1x2048x8x32xf32>
    %55 = stablehlo.broadcast_in_dim %40, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %56 = stablehlo.broadcast_in_dim %55, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %57 = stablehlo.multiply %42, %56 : tensor<1x2048x8x32xf32>
    %58 = stablehlo.add %54, %57 : tensor<1x2048x8x32xf32>
    %59 = stablehlo.convert %51 : (tensor<1x2048x8x32xf32>) -> tensor<1x2048x8x32xbf16>
    %60 = stablehlo.convert %58 : (tensor<1x2048x8x32xf32>) -> tensor<1x2048x8x32xbf16>
    %61 = stablehlo.slice %37 [0:1, 0:2048, 0:8, 64:256] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x192xbf16>
    %62 = stablehlo.concatenate %59, %60, %61, dim = 3 : (tensor<1x2048x8x32xbf16>, tensor<1x2048x8x32xbf16>, tensor<1x2048x8x192xbf16>) -> tensor<1x2048x8x256xbf16>
    %63 = stablehlo.slice %35 [0:1, 0:2048, 2048:4096] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x2048xbf16>
    %64 = stablehlo.reshape %63 : (tensor<1x2048x2048xbf16>) -> tensor<1x2048x8x256xbf16>
    %65 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
    %66 = stablehlo.slice %65 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %67 = stablehlo.slice %65 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
    %68 = stablehlo.slice %64 [0:1, 0:2048, 0:8, 0:32] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x32xbf16>
    %69 = stablehlo.convert %68 : (tensor<1x2048x8x32xbf16>) -> tensor<1x2048x8x32xf32>
    %70 = stablehlo.slice %64 [0:1, 0:2048, 0:8, 32:64] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x32xbf16>
    %71 = stablehlo.convert %70 : (tensor<1x2048x8x32xbf16>) -> tensor<1x2048x8x32xf32>
    %72 = stablehlo.broadcast_in_dim %66, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %73 = stablehlo.broadcast_in_dim %72, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %74 = stablehlo.multiply %69, %73 : tensor<1x2048x8x32xf32>
    %75 = stablehlo.broadcast_in_dim %67, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %76 = stablehlo.broadcast_in_dim %75, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %77 = stablehlo.multiply %71, %76 : tensor<1x2048x8x32xf32>
    %78 = stablehlo.subtract %74, %77 : tensor<1x2048x8x32xf32>
    %79 = stablehlo.broadcast_in_dim %66, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %80 = stablehlo.broadcast_in_dim %79, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %81 = stablehlo.multiply %71, %80 : tensor<1x2048x8x32xf32>
    %82 = stablehlo.broadcast_in_dim %67, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
    %83 = stablehlo.broadcast_in_dim %82, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x8x32xf32>
    %84 = stablehlo.multiply %69, %83 : tensor<1x2048x8x32xf32>
    %85 = stablehlo.add %81, %84 : tensor<1x2048x8x32xf32>
    %86 = stablehlo.convert %78 : (tensor<1x2048x8x32xf32>) -> tensor<1x2048x8x32xbf16>
    %87 = stablehlo.convert %85 : (tensor<1x2048x8x32xf32>) -> tensor<1x2048x8x32xbf16>
    %88 = stablehlo.slice %64 [0:1, 0:2048, 0:8, 64:256] : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x192xbf16>
    %89 = stablehlo.concatenate %86, %87, %88, dim = 3 : (tensor<1x2048x8x32xbf16>, tensor<1x2048x8x32xbf16>, tensor<1x2048x8x192xbf16>) -> tensor<1x2048x8x256xbf16>
    %90 = stablehlo.slice %35 [0:1, 0:2048, 4096:6144] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x2048xbf16>
    %91 = stablehlo.reshape %90 : (tensor<1x2048x2048xbf16>) -> tensor<1x2048x8x256xbf16>
    %92 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %93 = stablehlo.reshape %62 : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x8x1x256xbf16>
    %94 = stablehlo.broadcast_in_dim %92, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %95 = stablehlo.reshape %94 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %96 = stablehlo.broadcast_in_dim %95, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %97 = stablehlo.broadcast_in_dim %92, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %98 = stablehlo.reshape %97 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %99 = stablehlo.broadcast_in_dim %98, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %100 = stablehlo.iota dim = 0 : tensor<8xi32>
    %c = stablehlo.constant dense<256> : tensor<i32>
    %101 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<8xi32>
    %102 = stablehlo.multiply %101, %100 : tensor<8xi32>
    %c_6 = stablehlo.constant dense<0> : tensor<i32>
    %103 = stablehlo.broadcast_in_dim %c_6, dims = [] : (tensor<i32>) -> tensor<8xi32>
    %104 = stablehlo.add %103, %102 : tensor<8xi32>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %105 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<bf16>) -> tensor<8x1x256x8x1x256xbf16>
    %cst_8 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %106 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<8x1x256x8x1xf32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %107:9 = stablehlo.while(%iterArg = %104, %iterArg_10 = %96, %iterArg_11 = %93, %iterArg_12 = %89, %iterArg_13 = %99, %iterArg_14 = %91, %iterArg_15 = %c_9, %iterArg_16 = %105, %iterArg_17 = %106) : tensor<8xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x1x256xbf16>, tensor<1x2048x8x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x256xbf16>, tensor<i32>, tensor<8x1x256x8x1x256xbf16>, tensor<8x1x256x8x1xf32>
    cond {
      %c_18 = stablehlo.constant dense<8> : tensor<i32>
      %121 = stablehlo.compare LT, %iterArg_15, %c_18, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %121 : tensor<i1>
    } do {
      %121 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_15) : (tensor<8xi32>, tensor<i32>) -> tensor<i32>
      %122:2 = func.call @closed_call(%iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %iterArg_14, %121) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x1x256xbf16>, tensor<1x2048x8x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x256xbf16>, tensor<i32>) -> (tensor<1x256x8x1x256xbf16>, tensor<1x256x8x1xf32>)
      %123 = func.call @dynamic_update_index_in_dim(%iterArg_16, %122#0, %iterArg_15) : (tensor<8x1x256x8x1x256xbf16>, tensor<1x256x8x1x256xbf16>, tensor<i32>) -> tensor<8x1x256x8x1x256xbf16>
      %124 = func.call @dynamic_update_index_in_dim_3(%iterArg_17, %122#1, %iterArg_15) : (tensor<8x1x256x8x1xf32>, tensor<1x256x8x1xf32>, tensor<i32>) -> tensor<8x1x256x8x1xf32>
      %c_18 = stablehlo.constant dense<1> : tensor<i32>
      %125 = stablehlo.add %iterArg_15, %c_18 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_10, %iterArg_11, %iterArg_12, %iterArg_13, %iterArg_14, %125, %123, %124 : tensor<8xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x1x256xbf16>, tensor<1x2048x8x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x256xbf16>, tensor<i32>, tensor<8x1x256x8x1x256xbf16>, tensor<8x1x256x8x1xf32>
    }
    %108 = stablehlo.transpose %107#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<8x1x256x8x1x256xbf16>) -> tensor<1x8x256x8x1x256xbf16>
    %109 = stablehlo.reshape %108 : (tensor<1x8x256x8x1x256xbf16>) -> tensor<1x2048x8x1x256xbf16>
    %110 = stablehlo.transpose %107#8, dims = [1, 0, 2, 3, 4] : (tensor<8x1x256x8x1xf32>) -> tensor<1x8x256x8x1xf32>
    %111 = stablehlo.reshape %110 : (tensor<1x8x256x8x1xf32>) -> tensor<1x2048x8x1xf32>
    %112 = stablehlo.reshape %109 : (tensor<1x2048x8x1x256xbf16>) -> tensor<1x2048x8x256xbf16>
    %113 = stablehlo.reshape %111 : (tensor<1x2048x8x1xf32>) -> tensor<1x2048x8xf32>
    %114 = stablehlo.reshape %112 : (tensor<1x2048x8x256xbf16>) -> tensor<1x2048x2048xbf16>
    %115 = stablehlo.dot_general %114, %arg4, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x2048xbf16>, tensor<2048x2048xbf16>) -> tensor<1x2048x2048xf32>
    %116 = stablehlo.convert %arg5 : (tensor<2048xbf16>) -> tensor<2048xf32>
    %117 = stablehlo.broadcast_in_dim %116, dims = [2] : (tensor<2048xf32>) -> tensor<1x1x2048xf32>
    %118 = stablehlo.broadcast_in_dim %117, dims = [0, 1, 2] : (tensor<1x1x2048xf32>) -> tensor<1x2048x2048xf32>
    %119 = stablehlo.add %115, %118 : tensor<1x2048x2048xf32>
    %120 = stablehlo.convert %119 : (tensor<1x2048x2048xf32>) -> tensor<1x2048x2048xbf16>
    return %120 : tensor<1x2048x2048xbf16>
  }
  func.func private @_take(%arg0: tensor<50304x2048xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x2048xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 2048>}> : (tensor<50304x2048xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x2048xbf16>
    return %1 : tensor<1x2048x2048xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<8xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<8xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x2048x1xi32>, %arg1: tensor<1x2048x8x1x256xbf16>, %arg2: tensor<1x2048x8x256xbf16>, %arg3: tensor<1x1x1x1x2048xi32>, %arg4: tensor<1x2048x8x256xbf16>, %arg5: tensor<i32>) -> (tensor<1x256x8x1x256xbf16>, tensor<1x256x8x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<2048> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 256, 1] : (tensor<1x1x1x2048x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x256x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<2048> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 256, 8, 1, 256] : (tensor<1x2048x8x1x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x256x8x1x256xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x8x256xbf16>, tensor<1x256x8x1x256xbf16>) -> tensor<1x8x2048x256x1xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x8x2048x256x1xf32>) -> tensor<1x8x1x256x2048xf32>
    %cst = stablehlo.constant dense<6.250000e-02> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x8x1x256x2048xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<8xi32>
    %15 = stablehlo.reshape %14 : (tensor<8xi32>) -> tensor<1x8x1x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x8x1x256x2048xf32>, tensor<1x8x1x256x2048xf32>) -> tensor<1x8x1x256x2048xi1>
    %18 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x2048xi32>) -> tensor<1x1x1x256x2048xi32>
    %19 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x256x1xi32>) -> tensor<1x1x1x256x2048xi32>
    %20 = stablehlo.compare LE, %18, %19, SIGNED : (tensor<1x1x1x256x2048xi32>, tensor<1x1x1x256x2048xi32>) -> tensor<1x1x1x256x2048xi1>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x256x2048xi1>) -> tensor<1x8x1x256x2048xi1>
    %22 = stablehlo.and %17, %21 : tensor<1x8x1x256x2048xi1>
    %cst_12 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = call @_where(%22, %11, %cst_12) : (tensor<1x8x1x256x2048xi1>, tensor<1x8x1x256x2048xf32>, tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %24 = stablehlo.reduce(%23 init: %cst_13) applies stablehlo.maximum across dimensions = [4] : (tensor<1x8x1x256x2048xf32>, tensor<f32>) -> tensor<1x8x1x256xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x8x1x256xf32>
    %26 = stablehlo.maximum %25, %24 : tensor<1x8x1x256xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2, 3] : (tensor<1x8x1x256xf32>) -> tensor<1x8x1x256x1xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %29 = stablehlo.compare EQ, %27, %28, FLOAT : (tensor<1x8x1x256x1xf32>, tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x1xi1>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_0(%29, %cst_16, %27) : (tensor<1x8x1x256x1xi1>, tensor<f32>, tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x2048xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x8x1x256x2048xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_1(%22, %32, %cst_17) : (tensor<1x8x1x256x2048xi1>, tensor<1x8x1x256x2048xf32>, tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %34 = stablehlo.exponential %33 : tensor<1x8x1x256x2048xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_1(%22, %34, %cst_18) : (tensor<1x8x1x256x2048xi1>, tensor<1x8x1x256x2048xf32>, tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x8x1x256x2048xf32>, tensor<f32>) -> tensor<1x8x1x256xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x8x1x256xf32>) -> tensor<1x8x1x256x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x8x1x256x1xf32>, tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_2(%39, %37, %cst_21) : (tensor<1x8x1x256x1xi1>, tensor<1x8x1x256x1xf32>, tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x8x1x256x2048xf32>) -> tensor<1x8x1x256x2048xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x8x1x256x2048xbf16>, tensor<1x2048x8x256xbf16>) -> tensor<1x8x1x256x256xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x256xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x8x1x256x256xf32>
    %45 = stablehlo.log %40 : tensor<1x8x1x256x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x8x1x256x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_2(%39, %46, %cst_22) : (tensor<1x8x1x256x1xi1>, tensor<1x8x1x256x1xf32>, tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256xf32>
    %49 = stablehlo.convert %44 : (tensor<1x8x1x256x256xf32>) -> tensor<1x8x1x256x256xbf16>
    %50 = stablehlo.transpose %49, dims = [0, 3, 1, 2, 4] : (tensor<1x8x1x256x256xbf16>) -> tensor<1x256x8x1x256xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x8x1x256xf32>) -> tensor<1x256x8x1xf32>
    return %50, %51 : tensor<1x256x8x1x256xbf16>, tensor<1x256x8x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x8x1x256x2048xi1>, %arg1: tensor<1x8x1x256x2048xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x256x2048xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x8x1x256x2048xi1>, tensor<1x8x1x256x2048xf32>
    return %1 : tensor<1x8x1x256x2048xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x8x1x256x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x8x1x256x1xf32>) -> tensor<1x8x1x256x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x8x1x256x1xi1>, tensor<1x8x1x256x1xf32>
    return %2 : tensor<1x8x1x256x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x8x1x256x2048xi1>, %arg1: tensor<1x8x1x256x2048xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x256x2048xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x2048xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x1x256x2048xi1>, tensor<1x8x1x256x2048xf32>
    return %2 : tensor<1x8x1x256x2048xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x8x1x256x1xi1>, %arg1: tensor<1x8x1x256x1xf32>, %arg2: tensor<f32>) -> tensor<1x8x1x256x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x1x256x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x1x256x1xi1>, tensor<1x8x1x256x1xf32>
    return %2 : tensor<1x8x1x256x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<8x1x256x8x1x256xbf16>, %arg1: tensor<1x256x8x1x256xbf16>, %arg2: tensor<i32>) -> tensor<8x1x256x8x1x256xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x256x8x1x256xbf16>) -> tensor<1x1x256x8x1x256xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<8x1x256x8x1x256xbf16>, tensor<1x1x256x8x1x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<8x1x256x8x1x256xbf16>
    return %1 : tensor<8x1x256x8x1x256xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<8x1x256x8x1xf32>, %arg1: tensor<1x256x8x1xf32>, %arg2: tensor<i32>) -> tensor<8x1x256x8x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x256x8x1xf32>) -> tensor<1x1x256x8x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<8x1x256x8x1xf32>, tensor<1x1x256x8x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<8x1x256x8x1xf32>
    return %1 : tensor<8x1x256x8x1xf32>
  }
}
