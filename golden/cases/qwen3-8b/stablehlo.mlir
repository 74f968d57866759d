module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<151936x4096xbf16>, %arg2: tensor<4096xbf16>, %arg3: tensor<128xbf16>, %arg4: tensor<128xbf16>, %arg5: tensor<4096x4096xbf16>, %arg6: tensor<4096x6144xbf16>) -> (tensor<1x2048x4096xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<2048x128xf32>
    %0 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %1 = call @_take(%arg1, %arg0) : (tensor<151936x4096xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16>
    %2 = stablehlo.convert %1 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x4096xf32>
    %3 = chlo.square %2 : tensor<1x2048x4096xf32> -> tensor<1x2048x4096xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %4 = stablehlo.reduce(%3 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %5 = stablehlo.broadcast_in_dim %4, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_1 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %7 = stablehlo.divide %5, %6 : tensor<1x2048x1xf32>
    %cst_2 = stablehlo.constant dense<9.99999997E-7> : tensor<f32>
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
    %20 = stablehlo.dot_general %19, %arg6, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x2048x6144xf32>
    %21 = stablehlo.convert %20 : (tensor<1x2048x6144xf32>) -> tensor<1x2048x6144xbf16>
    %22 = stablehlo.slice %21 [0:1, 0:2048, 0:4096] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x4096xbf16>
    %23 = stablehlo.reshape %22 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x32x128xbf16>
    %24 = stablehlo.convert %23 : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x128xf32>
    %25 = chlo.square %24 : tensor<1x2048x32x128xf32> -> tensor<1x2048x32x128xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %26 = stablehlo.reduce(%25 init: %cst_4) applies stablehlo.add across dimensions = [3] : (tensor<1x2048x32x128xf32>, tensor<f32>) -> tensor<1x2048x32xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2] : (tensor<1x2048x32xf32>) -> tensor<1x2048x32x1xf32>
    %cst_5 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x2048x32x1xf32>
    %29 = stablehlo.divide %27, %28 : tensor<1x2048x32x1xf32>
    %cst_6 = stablehlo.constant dense<9.99999997E-7> : tensor<f32>
    %30 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<1x2048x32x1xf32>
    %31 = stablehlo.add %29, %30 : tensor<1x2048x32x1xf32>
    %32 = stablehlo.rsqrt %31 : tensor<1x2048x32x1xf32>
    %33 = stablehlo.broadcast_in_dim %32, dims = [0, 1, 2, 3] : (tensor<1x2048x32x1xf32>) -> tensor<1x2048x32x128xf32>
    %34 = stablehlo.multiply %24, %33 : tensor<1x2048x32x128xf32>
    %35 = stablehlo.convert %arg3 : (tensor<128xbf16>) -> tensor<128xf32>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<128xf32>
    %37 = stablehlo.add %35, %36 : tensor<128xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [3] : (tensor<128xf32>) -> tensor<1x1x1x128xf32>
    %39 = stablehlo.broadcast_in_dim %38, dims = [0, 1, 2, 3] : (tensor<1x1x1x128xf32>) -> tensor<1x2048x32x128xf32>
    %40 = stablehlo.multiply %34, %39 : tensor<1x2048x32x128xf32>
    %41 = stablehlo.convert %40 : (tensor<1x2048x32x128xf32>) -> tensor<1x2048x32x128xbf16>
    %42 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x128xf32>) -> tensor<2048x1x128xf32>
    %43 = stablehlo.slice %42 [0:2048, 0:1, 0:64] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %44 = stablehlo.slice %42 [0:2048, 0:1, 64:128] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %45 = stablehlo.slice %41 [0:1, 0:2048, 0:32, 0:64] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x64xbf16>
    %46 = stablehlo.convert %45 : (tensor<1x2048x32x64xbf16>) -> tensor<1x2048x32x64xf32>
    %47 = stablehlo.slice %41 [0:1, 0:2048, 0:32, 64:128] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x64xbf16>
    %48 = stablehlo.convert %47 : (tensor<1x2048x32x64xbf16>) -> tensor<1x2048x32x64xf32>
    %49 = stablehlo.broadcast_in_dim %43, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %50 = stablehlo.broadcast_in_dim %49, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %51 = stablehlo.multiply %46, %50 : tensor<1x2048x32x64xf32>
    %52 = stablehlo.broadcast_in_dim %44, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %53 = stablehlo.broadcast_in_dim %52, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %54 = stablehlo.multiply %48, %53 : tensor<1x2048x32x64xf32>
    %55 = stablehlo.subtract %51, %54 : tensor<1x2048x32x64xf32>
    %56 = stablehlo.broadcast_in_dim %43, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %57 = stablehlo.broadcast_in_dim %56, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %58 = stablehlo.multiply %48, %57 : tensor<1x2048x32x64xf32>
    %59 = stablehlo.broadcast_in_dim %44, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %60 = stablehlo.broadcast_in_dim %59, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x32x64xf32>
    %61 = stablehlo.multiply %46, %60 : tensor<1x2048x32x64xf32>
    %62 = stablehlo.add %58, %61 : tensor<1x2048x32x64xf32>
    %63 = stablehlo.convert %55 : (tensor<1x2048x32x64xf32>) -> tensor<1x2048x32x64xbf16>
    %64 = stablehlo.convert %62 : (tensor<1x2048x32x64xf32>) -> tensor<1x2048x32x64xbf16>
    %65 = stablehlo.slice %41 [0:1, 0:2048, 0:32, 128:128] : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x32x0xbf16>
    %66 = stablehlo.concatenate %63, %64, %65, dim = 3 : (tensor<1x2048x32x64xbf16>, tensor<1x2048x32x64xbf16>, tensor<1x2048x32x0xbf16>) -> tensor<1x2048x32x128xbf16>
    %67 = stablehlo.slice %21 [0:1, 0:2048, 4096:5120] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x1024xbf16>
    %68 = stablehlo.reshape %67 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
    %69 = stablehlo.convert %68 : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x128xf32>
    %70 = chlo.square %69 : tensor<1x2048x8x128xf32> -> tensor<1x2048x8x128xf32>
    %cst_8 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %71 = stablehlo.reduce(%70 init: %cst_8) applies stablehlo.add across dimensions = [3] : (tensor<1x2048x8x128xf32>, tensor<f32>) -> tensor<1x2048x8xf32>
    %72 = stablehlo.broadcast_in_dim %71, dims = [0, 1, 2] : (tensor<1x2048x8xf32>) -> tensor<1x2048x8x1xf32>
    %cst_9 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %73 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x2048x8x1xf32>
    %74 = stablehlo.divide %72, %73 : tensor<1x2048x8x1xf32>
    %cst_10 = stablehlo.constant dense<9.99999997E-7> : tensor<f32>
    %75 = stablehlo.broadcast_in_dim %cst_10, dims = [] : (tensor<f32>) -> tensor<1x2048x8x1xf32>
    %76 = stablehlo.add %74, %75 : tensor<1x2048x8x1xf32>
    %77 = stablehlo.rsqrt %76 : tensor<1x2048x8x1xf32>
    %78 = stablehlo.broadcast_in_dim %77, dims = [0, 1, 2, 3] : (tensor<1x2048x8x1xf32>) -> tensor<1x2048x8x128xf32>
    %79 = stablehlo.multiply %69, %78 : tensor<1x2048x8x128xf32>
    %80 = stablehlo.convert %arg4 : (tensor<128xbf16>) -> tensor<128xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %81 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<128xf32>
    %82 = stablehlo.add %80, %81 : tensor<128xf32>
    %83 = stablehlo.broadcast_in_dim %82, dims = [3] : (tensor<128xf32>) -> tensor<1x1x1x128xf32>
    %84 = stablehlo.broadcast_in_dim %83, dims = [0, 1, 2, 3] : (tensor<1x1x1x128xf32>) -> tensor<1x2048x8x128xf32>
    %85 = stablehlo.multiply %79, %84 : tensor<1x2048x8x128xf32>
    %86 = stablehlo.convert %85 : (tensor<1x2048x8x128xf32>) -> tensor<1x2048x8x128xbf16>
    %87 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x128xf32>) -> tensor<2048x1x128xf32>
    %88 = stablehlo.slice %87 [0:2048, 0:1, 0:64] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %89 = stablehlo.slice %87 [0:2048, 0:1, 64:128] : (tensor<2048x1x128xf32>) -> tensor<2048x1x64xf32>
    %90 = stablehlo.slice %86 [0:1, 0:2048, 0:8, 0:64] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x64xbf16>
    %91 = stablehlo.convert %90 : (tensor<1x2048x8x64xbf16>) -> tensor<1x2048x8x64xf32>
    %92 = stablehlo.slice %86 [0:1, 0:2048, 0:8, 64:128] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x64xbf16>
    %93 = stablehlo.convert %92 : (tensor<1x2048x8x64xbf16>) -> tensor<1x2048x8x64xf32>
    %94 = stablehlo.broadcast_in_dim %88, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %95 = stablehlo.broadcast_in_dim %94, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %96 = stablehlo.multiply %91, %95 : tensor<1x2048x8x64xf32>
    %97 = stablehlo.broadcast_in_dim %89, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %98 = stablehlo.broadcast_in_dim %97, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %99 = stablehlo.multiply %93, %98 : tensor<1x2048x8x64xf32>
    %100 = stablehlo.subtract %96, %99 : tensor<1x2048x8x64xf32>
    %101 = stablehlo.broadcast_in_dim %88, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %102 = stablehlo.broadcast_in_dim %101, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %103 = stablehlo.multiply %93, %102 : tensor<1x2048x8x64xf32>
    %104 = stablehlo.broadcast_in_dim %89, dims = [1, 2, 3] : (tensor<2048x1x64xf32>) -> tensor<1x2048x1x64xf32>
    %105 = stablehlo.broadcast_in_dim %104, dims = [0, 1, 2, 3] : (tensor<1x2048x1x64xf32>) -> tensor<1x2048x8x64xf32>
    %106 = stablehlo.multiply %91, %105 : tensor<1x2048x8x64xf32>
    %107 = stablehlo.add %103, %106 : tensor<1x2048x8x64xf32>
    %108 = stablehlo.convert %100 : (tensor<1x2048x8x64xf32>) -> tensor<1x2048x8x64xbf16>
    %109 = stablehlo.convert %107 : (tensor<1x2048x8x64xf32>) -> tensor<1x2048x8x64xbf16>
    %110 = stablehlo.slice %86 [0:1, 0:2048, 0:8, 128:128] : (tensor<1x2048x8x128xbf16>) -> tensor<1x2048x8x0xbf16>
    %111 = stablehlo.concatenate %108, %109, %110, dim = 3 : (tensor<1x2048x8x64xbf16>, tensor<1x2048x8x64xbf16>, tensor<1x2048x8x0xbf16>) -> tensor<1x2048x8x128xbf16>
    %112 = stablehlo.slice %21 [0:1, 0:2048, 5120:6144] : (tensor<1x2048x6144xbf16>) -> tensor<1x2048x1024xbf16>
    %113 = stablehlo.reshape %112 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x8x128xbf16>
    %114 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %115 = stablehlo.reshape %66 : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x8x4x128xbf16>
    %116 = stablehlo.broadcast_in_dim %114, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %117 = stablehlo.reshape %116 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %118 = stablehlo.broadcast_in_dim %117, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %119 = stablehlo.broadcast_in_dim %114, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %120 = stablehlo.reshape %119 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %121 = stablehlo.broadcast_in_dim %120, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %122 = stablehlo.iota dim = 0 : tensor<32xi32>
    %c = stablehlo.constant dense<64> : tensor<i32>
    %123 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<32xi32>
    %124 = stablehlo.multiply %123, %122 : tensor<32xi32>
    %c_12 = stablehlo.constant dense<0> : tensor<i32>
    %125 = stablehlo.broadcast_in_dim %c_12, dims = [] : (tensor<i32>) -> tensor<32xi32>
    %126 = stablehlo.add %125, %124 : tensor<32xi32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %127 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<bf16>) -> tensor<32x1x64x8x4x128xbf16>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %128 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<32x1x64x8x4xf32>
    %c_15 = stablehlo.constant dense<0> : tensor<i32>
    %129:9 = stablehlo.while(%iterArg = %126, %iterArg_16 = %118, %iterArg_17 = %115, %iterArg_18 = %111, %iterArg_19 = %121, %iterArg_20 = %113, %iterArg_21 = %c_15, %iterArg_22 = %127, %iterArg_23 = %128) : tensor<32xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>, tensor<32x1x64x8x4x128xbf16>, tensor<32x1x64x8x4xf32>
    cond {
      %c_24 = stablehlo.constant dense<32> : tensor<i32>
      %139 = stablehlo.compare LT, %iterArg_21, %c_24, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %139 : tensor<i1>
    } do {
      %139 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_21) : (tensor<32xi32>, tensor<i32>) -> tensor<i32>
      %140:2 = func.call @closed_call(%iterArg_16, %iterArg_17, %iterArg_18, %iterArg_19, %iterArg_20, %139) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>) -> (tensor<1x64x8x4x128xbf16>, tensor<1x64x8x4xf32>)
      %141 = func.call @dynamic_update_index_in_dim(%iterArg_22, %140#0, %iterArg_21) : (tensor<32x1x64x8x4x128xbf16>, tensor<1x64x8x4x128xbf16>, tensor<i32>) -> tensor<32x1x64x8x4x128xbf16>
      %142 = func.call @dynamic_update_index_in_dim_3(%iterArg_23, %140#1, %iterArg_21) : (tensor<32x1x64x8x4xf32>, tensor<1x64x8x4xf32>, tensor<i32>) -> tensor<32x1x64x8x4xf32>
      %c_24 = stablehlo.constant dense<1> : tensor<i32>
      %143 = stablehlo.add %iterArg_21, %c_24 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_16, %iterArg_17, %iterArg_18, %iterArg_19, %iterArg_20, %143, %141, %142 : tensor<32xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x8x4x128xbf16>, tensor<1x2048x8x128xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x8x128xbf16>, tensor<i32>, tensor<32x1x64x8x4x128xbf16>, tensor<32x1x64x8x4xf32>
    }
    %130 = stablehlo.transpose %129#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<32x1x64x8x4x128xbf16>) -> tensor<1x32x64x8x4x128xbf16>
    %131 = stablehlo.reshape %130 : (tensor<1x32x64x8x4x128xbf16>) -> tensor<1x2048x8x4x128xbf16>
    %132 = stablehlo.transpose %129#8, dims = [1, 0, 2, 3, 4] : (tensor<32x1x64x8x4xf32>) -> tensor<1x32x64x8x4xf32>
    %133 = stablehlo.reshape %132 : (tensor<1x32x64x8x4xf32>) -> tensor<1x2048x8x4xf32>
    %134 = stablehlo.reshape %131 : (tensor<1x2048x8x4x128xbf16>) -> tensor<1x2048x32x128xbf16>
    %135 = stablehlo.reshape %133 : (tensor<1x2048x8x4xf32>) -> tensor<1x2048x32xf32>
    %136 = stablehlo.reshape %134 : (tensor<1x2048x32x128xbf16>) -> tensor<1x2048x4096xbf16>
    %137 = stablehlo.dot_general %136, %arg5, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xf32>
    %138 = stablehlo.convert %137 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    return %138 : tensor<1x2048x4096xbf16>
  }
  func.func private @_take(%arg0: tensor<151936x4096xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4096>}> : (tensor<151936x4096xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x4096xbf16>
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
