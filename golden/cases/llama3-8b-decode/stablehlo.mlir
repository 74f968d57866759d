module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x1xi32>, %arg1: tensor<128256x4096xbf16>, %arg2: tensor<4096xbf16>, %arg3: tensor<1x1xi32>, %arg4: tensor<1xi32>, %arg5: tensor<1x8192x8x128xbf16>, %arg6: tensor<1x8192x8x128xbf16>, %arg7: tensor<4096x4096xbf16>, %arg8: tensor<4096x6144xbf16>) -> (tensor<1x1x4096xbf16> {jax.result_info = "result[0]"}, tensor<1x8192x8x128xbf16> {jax.result_info = "result[1]"}, tensor<1x8192x8x128xbf16> {jax.result_info = "result[2]"}) {
    %c = stablehlo.constant dense_resource<__elided__> : tensor<64xui32>
    %c_0 = stablehlo.constant dense_resource<__elided__> : tensor<64xui32>
    %c_1 = stablehlo.constant dense_resource<__elided__> : tensor<64xui32>
    %c_2 = stablehlo.constant dense_resource<__elided__> : tensor<64xui32>
    %0 = call @_take(%arg1, %arg0) : (tensor<128256x4096xbf16>, tensor<1x1xi32>) -> tensor<1x1x4096xbf16>
    %1 = stablehlo.convert %0 : (tensor<1x1x4096xbf16>) -> tensor<1x1x4096xf32>
    %2 = chlo.square %1 : tensor<1x1x4096xf32> -> tensor<1x1x4096xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.reduce(%2 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x1x4096xf32>, tensor<f32>) -> tensor<1x1xf32>
    %4 = stablehlo.broadcast_in_dim %3, dims = [0, 1] : (tensor<1x1xf32>) -> tensor<1x1x1xf32>
    %cst_3 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x1x1xf32>
    %6 = stablehlo.divide %4, %5 : tensor<1x1x1xf32>
    %cst_4 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %7 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x1x1xf32>
    %8 = stablehlo.add %6, %7 : tensor<1x1x1xf32>
    %9 = stablehlo.rsqrt %8 : tensor<1x1x1xf32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2] : (tensor<1x1x1xf32>) -> tensor<1x1x4096xf32>
    %11 = stablehlo.multiply %1, %10 : tensor<1x1x4096xf32>
    %12 = stablehlo.convert %arg2 : (tensor<4096xbf16>) -> tensor<4096xf32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %13 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<4096xf32>
    %14 = stablehlo.add %12, %13 : tensor<4096xf32>
    %15 = stablehlo.broadcast_in_dim %14, dims = [2] : (tensor<4096xf32>) -> tensor<1x1x4096xf32>
    %16 = stablehlo.multiply %11, %15 : tensor<1x1x4096xf32>
    %17 = stablehlo.convert %16 : (tensor<1x1x4096xf32>) -> tensor<1x1x4096xbf16>
    %18 = stablehlo.dot_general %17, %arg8, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1x4096xbf16>, tensor<4096x6144xbf16>) -> tensor<1x1x6144xf32>
    %19 = stablehlo.convert %18 : (tensor<1x1x6144xf32>) -> tensor<1x1x6144xbf16>
    %20 = stablehlo.slice %19 [0:1, 0:1, 0:4096] : (tensor<1x1x6144xbf16>) -> tensor<1x1x4096xbf16>
    %21 = stablehlo.reshape %20 : (tensor<1x1x4096xbf16>) -> tensor<1x1x32x128xbf16>
    %22 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %23 = stablehlo.convert %22 : (tensor<1x1x1xi32>) -> tensor<1x1x1xui32>
    %24 = stablehlo.broadcast_in_dim %c, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %25 = stablehlo.broadcast_in_dim %23, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %26 = stablehlo.multiply %25, %24 : tensor<1x1x64xui32>
    %c_6 = stablehlo.constant dense<65535> : tensor<ui32>
    %27 = stablehlo.broadcast_in_dim %c_6, dims = [] : (tensor<ui32>) -> tensor<1x1x1xui32>
    %28 = stablehlo.and %23, %27 : tensor<1x1x1xui32>
    %c_7 = stablehlo.constant dense<16> : tensor<ui32>
    %29 = stablehlo.broadcast_in_dim %c_7, dims = [] : (tensor<ui32>) -> tensor<1x1x1xui32>
    %30 = stablehlo.shift_right_logical %23, %29 : tensor<1x1x1xui32>
    %31 = stablehlo.broadcast_in_dim %c_0, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %32 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %33 = stablehlo.multiply %32, %31 : tensor<1x1x64xui32>
    %34 = stablehlo.broadcast_in_dim %c_0, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %35 = stablehlo.broadcast_in_dim %28, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %36 = stablehlo.multiply %35, %34 : tensor<1x1x64xui32>
    %c_8 = stablehlo.constant dense<16> : tensor<ui32>
    %37 = stablehlo.broadcast_in_dim %c_8, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %38 = stablehlo.shift_right_logical %36, %37 : tensor<1x1x64xui32>
    %39 = stablehlo.add %33, %38 : tensor<1x1x64xui32>
    %40 = stablehlo.broadcast_in_dim %c_1, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %41 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %42 = stablehlo.multiply %41, %40 : tensor<1x1x64xui32>
    %c_9 = stablehlo.constant dense<16> : tensor<ui32>
    %43 = stablehlo.broadcast_in_dim %c_9, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %44 = stablehlo.shift_right_logical %39, %43 : tensor<1x1x64xui32>
    %45 = stablehlo.add %42, %44 : tensor<1x1x64xui32>
    %46 = stablehlo.broadcast_in_dim %c_1, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %47 = stablehlo.broadcast_in_dim %28, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %48 = stablehlo.multiply %47, %46 : tensor<1x1x64xui32>
    %c_10 = stablehlo.constant dense<65535> : tensor<ui32>
    %49 = stablehlo.broadcast_in_dim %c_10, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %50 = stablehlo.and %39, %49 : tensor<1x1x64xui32>
    %51 = stablehlo.add %48, %50 : tensor<1x1x64xui32>
    %c_11 = stablehlo.constant dense<16> : tensor<ui32>
    %52 = stablehlo.broadcast_in_dim %c_11, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %53 = stablehlo.shift_right_logical %51, %52 : tensor<1x1x64xui32>
    %54 = stablehlo.add %45, %53 : tensor<1x1x64xui32>
    %55 = stablehlo.add %26, %54 : tensor<1x1x64xui32>
    %c_12 = stablehlo.constant dense<0> : tensor<i32>
    %56 = stablehlo.broadcast_in_dim %c_12, dims = [] : (tensor<i32>) -> tensor<1x1x1xi32>
    %57 = stablehlo.compare LT, %22, %56, SIGNED : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x1xi1>
    %58 = stablehlo.broadcast_in_dim %c_2, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %59 = stablehlo.subtract %55, %58 : tensor<1x1x64xui32>
    %60 = call @_where(%57, %59, %55) : (tensor<1x1x1xi1>, tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xui32>
    %c_13 = stablehlo.constant dense<536870912> : tensor<ui32>
    %61 = stablehlo.broadcast_in_dim %c_13, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %62 = stablehlo.add %60, %61 : tensor<1x1x64xui32>
    %c_14 = stablehlo.constant dense<30> : tensor<ui32>
    %63 = stablehlo.broadcast_in_dim %c_14, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %64 = stablehlo.shift_right_logical %62, %63 : tensor<1x1x64xui32>
    %c_15 = stablehlo.constant dense<30> : tensor<ui32>
    %65 = stablehlo.broadcast_in_dim %c_15, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %66 = stablehlo.shift_left %64, %65 : tensor<1x1x64xui32>
    %67 = stablehlo.subtract %60, %66 : tensor<1x1x64xui32>
    %68 = stablehlo.convert %67 : (tensor<1x1x64xui32>) -> tensor<1x1x64xi32>
    %69 = stablehlo.convert %68 : (tensor<1x1x64xi32>) -> tensor<1x1x64xf32>
    %cst_16 = stablehlo.constant dense<1.46291812E-9> : tensor<f32>
    %70 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %71 = stablehlo.multiply %69, %70 : tensor<1x1x64xf32>
    %72 = stablehlo.cosine %71 : tensor<1x1x64xf32>
    %73 = stablehlo.sine %71 : tensor<1x1x64xf32>
    %c_17 = stablehlo.constant dense<1> : tensor<ui32>
    %74 = stablehlo.broadcast_in_dim %c_17, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %75 = stablehlo.and %64, %74 : tensor<1x1x64xui32>
    %c_18 = stablehlo.constant dense<1> : tensor<ui32>
    %76 = stablehlo.broadcast_in_dim %c_18, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %77 = stablehlo.compare EQ, %75, %76, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %c_19 = stablehlo.constant dense<1> : tensor<ui32>
    %78 = stablehlo.broadcast_in_dim %c_19, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %79 = stablehlo.add %64, %78 : tensor<1x1x64xui32>
    %c_20 = stablehlo.constant dense<2> : tensor<ui32>
    %80 = stablehlo.broadcast_in_dim %c_20, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %81 = stablehlo.and %79, %80 : tensor<1x1x64xui32>
    %c_21 = stablehlo.constant dense<2> : tensor<ui32>
    %82 = stablehlo.broadcast_in_dim %c_21, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %83 = stablehlo.compare EQ, %81, %82, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %c_22 = stablehlo.constant dense<2> : tensor<ui32>
    %84 = stablehlo.broadcast_in_dim %c_22, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %85 = stablehlo.and %64, %84 : tensor<1x1x64xui32>
    %c_23 = stablehlo.constant dense<2> : tensor<ui32>
    %86 = stablehlo.broadcast_in_dim %c_23, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %87 = stablehlo.compare EQ, %85, %86, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %88 = call @_where_0(%77, %73, %72) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %89 = call @_where_0(%77, %72, %73) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %90 = stablehlo.negate %88 : tensor<1x1x64xf32>
    %91 = call @_where_0(%83, %90, %88) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %92 = stablehlo.negate %89 : tensor<1x1x64xf32>
    %93 = call @_where_0(%87, %92, %89) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %cst_24 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %94 = stablehlo.broadcast_in_dim %cst_24, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %95 = stablehlo.multiply %91, %94 : tensor<1x1x64xf32>
    %cst_25 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %96 = stablehlo.broadcast_in_dim %cst_25, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %97 = stablehlo.multiply %93, %96 : tensor<1x1x64xf32>
    %98 = stablehlo.concatenate %95, %97, dim = 2 : (tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x128xf32>
    %99 = stablehlo.broadcast_in_dim %98, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
    %100 = stablehlo.slice %99 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %101 = stablehlo.slice %99 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %102 = stablehlo.slice %21 [0:1, 0:1, 0:32, 0:64] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x64xbf16>
    %103 = stablehlo.convert %102 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
    %104 = stablehlo.slice %21 [0:1, 0:1, 0:32, 64:128] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x64xbf16>
    %105 = stablehlo.convert %104 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
    %106 = stablehlo.broadcast_in_dim %100, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %107 = stablehlo.multiply %103, %106 : tensor<1x1x32x64xf32>
    %108 = stablehlo.broadcast_in_dim %101, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %109 = stablehlo.multiply %105, %108 : tensor<1x1x32x64xf32>
    %110 = stablehlo.subtract %107, %109 : tensor<1x1x32x64xf32>
    %111 = stablehlo.broadcast_in_dim %100, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %112 = stablehlo.multiply %105, %111 : tensor<1x1x32x64xf32>
    %113 = stablehlo.broadcast_in_dim %101, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %114 = stablehlo.multiply %103, %113 : tensor<1x1x32x64xf32>
    %115 = stablehlo.add %112, %114 : tensor<1x1x32x64xf32>
    %116 = stablehlo.convert %110 : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x64xbf16>
    %117 = stablehlo.convert %115 : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x64xbf16>
    %118 = stablehlo.slice %21 [0:1, 0:1, 0:32, 128:128] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x0xbf16>
    %119 = stablehlo.concatenate %116, %117, %118, dim = 3 : (tensor<1x1x32x64xbf16>, tensor<1x1x32x64xbf16>, tensor<1x1x32x0xbf16>) -> tensor<1x1x32x128xbf16>
    %120 = stablehlo.slice %19 [0:1, 0:1, 4096:5120] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %121 = stablehlo.reshape %120 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %122 = stablehlo.broadcast_in_dim %98, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
    %123 = stablehlo.slice %122 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %124 = stablehlo.slice %122 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %125 = stablehlo.slice %121 [0:1, 0:1, 0:8, 0:64] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x64xbf16>
    %126 = stablehlo.convert %125 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
    %127 = stablehlo.slice %121 [0:1, 0:1, 0:8, 64:128] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x64xbf16>
    %128 = stablehlo.convert %127 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
    %129 = stablehlo.broadcast_in_dim %123, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %130 = stablehlo.multiply %126, %129 : tensor<1x1x8x64xf32>
    %131 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %132 = stablehlo.multiply %128, %131 : tensor<1x1x8x64xf32>
    %133 = stablehlo.subtract %130, %132 : tensor<1x1x8x64xf32>
    %134 = stablehlo.broadcast_in_dim %123, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %135 = stablehlo.multiply %128, %134 : tensor<1x1x8x64xf32>
    %136 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %137 = stablehlo.multiply %126, %136 : tensor<1x1x8x64xf32>
    %138 = stablehlo.add %135, %137 : tensor<1x1x8x64xf32>
    %139 = stablehlo.convert %133 : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x64xbf16>
    %140 = stablehlo.convert %138 : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x64xbf16>
    %141 = stablehlo.slice %121 [0:1, 0:1, 0:8, 128:128] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x0xbf16>
    %142 = stablehlo.concatenate %139, %140, %141, dim = 3 : (tensor<1x1x8x64xbf16>, tensor<1x1x8x64xbf16>, tensor<1x1x8x0xbf16>) -> tensor<1x1x8x128xbf16>
    %143 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %144 = stablehlo.iota dim = 0 : tensor<1xi32>
    %145 = stablehlo.broadcast_in_dim %144, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %146 = stablehlo.add %143, %145 : tensor<1x1xi32>
    %c_26 = stablehlo.constant dense<0> : tensor<i32>
    %147 = stablehlo.broadcast_in_dim %c_26, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %148 = stablehlo.compare LT, %146, %147, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_27 = stablehlo.constant dense<8192> : tensor<i32>
    %149 = call @_where_1(%148, %c_27, %146) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %150 = stablehlo.iota dim = 0 : tensor<1xi32>
    %151 = stablehlo.broadcast_in_dim %150, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_28 = stablehlo.constant dense<0> : tensor<i32>
    %152 = stablehlo.broadcast_in_dim %c_28, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %153 = stablehlo.compare LT, %151, %152, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_29 = stablehlo.constant dense<1> : tensor<i32>
    %154 = stablehlo.broadcast_in_dim %c_29, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %155 = stablehlo.add %151, %154 : tensor<1x1xi32>
    %156 = stablehlo.select %153, %155, %151 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_30 = stablehlo.constant dense<0> : tensor<i32>
    %157 = stablehlo.broadcast_in_dim %c_30, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %158 = stablehlo.compare LT, %149, %157, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_31 = stablehlo.constant dense<8192> : tensor<i32>
    %159 = stablehlo.broadcast_in_dim %c_31, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %160 = stablehlo.add %149, %159 : tensor<1x1xi32>
    %161 = stablehlo.select %158, %160, %149 : tensor<1x1xi1>, tensor<1x1xi32>
    %162 = stablehlo.broadcast_in_dim %156, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %163 = stablehlo.broadcast_in_dim %161, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %164 = stablehlo.concatenate %162, %163, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %165 = "stablehlo.scatter"(%arg5, %164, %142) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %166 = stablehlo.slice %19 [0:1, 0:1, 5120:6144] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %167 = stablehlo.reshape %166 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %168 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %169 = stablehlo.iota dim = 0 : tensor<1xi32>
    %170 = stablehlo.broadcast_in_dim %169, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %171 = stablehlo.add %168, %170 : tensor<1x1xi32>
    %c_32 = stablehlo.constant dense<0> : tensor<i32>
    %172 = stablehlo.broadcast_in_dim %c_32, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %173 = stablehlo.compare LT, %171, %172, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_33 = stablehlo.constant dense<8192> : tensor<i32>
    %174 = call @_where_1(%173, %c_33, %171) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %175 = stablehlo.iota dim = 0 : tensor<1xi32>
    %176 = stablehlo.broadcast_in_dim %175, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_34 = stablehlo.constant dense<0> : tensor<i32>
    %177 = stablehlo.broadcast_in_dim %c_34, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %178 = stablehlo.compare LT, %176, %177, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_35 = stablehlo.constant dense<1> : tensor<i32>
    %179 = stablehlo.broadcast_in_dim %c_35, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %180 = stablehlo.add %176, %179 : tensor<1x1xi32>
    %181 = stablehlo.select %178, %180, %176 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_36 = stablehlo.constant dense<0> : tensor<i32>
    %182 = stablehlo.broadcast_in_dim %c_36, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %183 = stablehlo.compare LT, %174, %182, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_37 = stablehlo.constant dense<8192> : tensor<i32>
    %184 = stablehlo.broadcast_in_dim %c_37, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %185 = stablehlo.add %174, %184 : tensor<1x1xi32>
    %186 = stablehlo.select %183, %185, %174 : tensor<1x1xi1>, tensor<1x1xi32>
    %187 = stablehlo.broadcast_in_dim %181, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %188 = stablehlo.broadcast_in_dim %186, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %189 = stablehlo.concatenate %187, %188, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %190 = "stablehlo.scatter"(%arg6, %189, %167) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %191 = stablehlo.iota dim = 0 : tensor<8192xi32>
    %192 = stablehlo.reshape %119 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %193 = stablehlo.reshape %arg3 : (tensor<1x1xi32>) -> tensor<1x1x1x1xi32>
    %194 = stablehlo.broadcast_in_dim %193, dims = [0, 1, 2, 3] : (tensor<1x1x1x1xi32>) -> tensor<1x1x1x1x1xi32>
    %195 = stablehlo.broadcast_in_dim %191, dims = [1] : (tensor<8192xi32>) -> tensor<1x8192xi32>
    %196 = stablehlo.reshape %195 : (tensor<1x8192xi32>) -> tensor<1x1x1x8192xi32>
    %197 = stablehlo.broadcast_in_dim %196, dims = [0, 1, 2, 4] : (tensor<1x1x1x8192xi32>) -> tensor<1x1x1x1x8192xi32>
    %198 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c_38 = stablehlo.constant dense<1> : tensor<i32>
    %199 = stablehlo.broadcast_in_dim %c_38, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %200 = stablehlo.multiply %199, %198 : tensor<1xi32>
    %c_39 = stablehlo.constant dense<0> : tensor<i32>
    %201 = stablehlo.broadcast_in_dim %c_39, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %202 = stablehlo.add %201, %200 : tensor<1xi32>
    %cst_40 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %203 = stablehlo.broadcast_in_dim %cst_40, dims = [] : (tensor<bf16>) -> tensor<1x1x1x8x4x128xbf16>
    %cst_41 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %204 = stablehlo.broadcast_in_dim %cst_41, dims = [] : (tensor<f32>) -> tensor<1x1x1x8x4xf32>
    %c_42 = stablehlo.constant dense<0> : tensor<i32>
    %205:9 = stablehlo.while(%iterArg = %202, %iterArg_43 = %192, %iterArg_44 = %165, %iterArg_45 = %197, %iterArg_46 = %194, %iterArg_47 = %190, %iterArg_48 = %c_42, %iterArg_49 = %203, %iterArg_50 = %204) : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    cond {
      %c_51 = stablehlo.constant dense<1> : tensor<i32>
      %215 = stablehlo.compare LT, %iterArg_48, %c_51, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %215 : tensor<i1>
    } do {
      %215 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_48) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %216:2 = func.call @closed_call(%iterArg_43, %iterArg_44, %iterArg_45, %iterArg_46, %iterArg_47, %215) : (tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>) -> (tensor<1x1x8x4x128xbf16>, tensor<1x1x8x4xf32>)
      %217 = func.call @dynamic_update_index_in_dim(%iterArg_49, %216#0, %iterArg_48) : (tensor<1x1x1x8x4x128xbf16>, tensor<1x1x8x4x128xbf16>, tensor<i32>) -> tensor<1x1x1x8x4x128xbf16>
      %218 = func.call @dynamic_update_index_in_dim_6(%iterArg_50, %216#1, %iterArg_48) : (tensor<1x1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<i32>) -> tensor<1x1x1x8x4xf32>
      %c_51 = stablehlo.constant dense<1> : tensor<i32>
      %219 = stablehlo.add %iterArg_48, %c_51 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_43, %iterArg_44, %iterArg_45, %iterArg_46, %iterArg_47, %219, %217, %218 : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    }
    %206 = stablehlo.transpose %205#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x1x8x4x128xbf16>
    %207 = stablehlo.reshape %206 : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %208 = stablehlo.transpose %205#8, dims = [1, 0, 2, 3, 4] : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x1x8x4xf32>
    %209 = stablehlo.reshape %208 : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x8x4xf32>
    %210 = stablehlo.reshape %207 : (tensor<1x1x8x4x128xbf16>) -> tensor<1x1x32x128xbf16>
    %211 = stablehlo.reshape %209 : (tensor<1x1x8x4xf32>) -> tensor<1x1x32xf32>
    %212 = stablehlo.reshape %210 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x4096xbf16>
    %213 = stablehlo.dot_general %212, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xf32>
    %214 = stablehlo.convert %213 : (tensor<1x1x4096xf32>) -> tensor<1x1x4096xbf16>
    return %214, %165, %190 : tensor<1x1x4096xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>
  }
  func.func private @_take(%arg0: tensor<128256x4096xbf16>, %arg1: tensor<1x1xi32>) -> tensor<1x1x4096xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4096>}> : (tensor<128256x4096xbf16>, tensor<1x1x1xi32>) -> tensor<1x1x4096xbf16>
    return %1 : tensor<1x1x4096xbf16>
  }
  func.func private @_where(%arg0: tensor<1x1x1xi1>, %arg1: tensor<1x1x64xui32>, %arg2: tensor<1x1x64xui32>) -> tensor<1x1x64xui32> {
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1, 2] : (tensor<1x1x1xi1>) -> tensor<1x1x64xi1>
    %1 = stablehlo.select %0, %arg1, %arg2 : tensor<1x1x64xi1>, tensor<1x1x64xui32>
    return %1 : tensor<1x1x64xui32>
  }
  func.func private @_where_0(%arg0: tensor<1x1x64xi1>, %arg1: tensor<1x1x64xf32>, %arg2: tensor<1x1x64xf32>) -> tensor<1x1x64xf32> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<1x1x64xi1>, tensor<1x1x64xf32>
    return %0 : tensor<1x1x64xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x1xi1>, %arg1: tensor<i32>, %arg2: tensor<1x1xi32>) -> tensor<1x1xi32> {
    %0 = stablehlo.convert %arg1 : tensor<i32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x1xi1>, tensor<1x1xi32>
    return %2 : tensor<1x1xi32>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<1xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<1xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x8x4x128xbf16>, %arg1: tensor<1x8192x8x128xbf16>, %arg2: tensor<1x1x1x1x8192xi32>, %arg3: tensor<1x1x1x1x1xi32>, %arg4: tensor<1x8192x8x128xbf16>, %arg5: tensor<i32>) -> (tensor<1x1x8x4x128xbf16>, tensor<1x1x8x4xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<1> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %2, %c_2, %c_3, %c_4, sizes = [1, 1, 8, 4, 128] : (tensor<1x1x8x4x128xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x8x4x128xbf16>
    %4 = stablehlo.dot_general %arg1, %3, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x8192x8x128xbf16>, tensor<1x1x8x4x128xbf16>) -> tensor<1x8x8192x1x4xf32>
    %5 = stablehlo.transpose %4, dims = [0, 1, 4, 3, 2] : (tensor<1x8x8192x1x4xf32>) -> tensor<1x8x4x1x8192xf32>
    %cst = stablehlo.constant dense<0.0883883461> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<1x8x4x1x8192xf32>
    %8 = stablehlo.iota dim = 0 : tensor<1xi32>
    %9 = stablehlo.reshape %8 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %10 = stablehlo.iota dim = 0 : tensor<32xi32>
    %11 = stablehlo.reshape %10 : (tensor<32xi32>) -> tensor<1x8x4x1x1xi32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %13 = stablehlo.compare NE, %7, %12, FLOAT : (tensor<1x8x4x1x8192xf32>, tensor<1x8x4x1x8192xf32>) -> tensor<1x8x4x1x8192xi1>
    %14 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x1xi32>) -> tensor<1x1x1x1x8192xi32>
    %15 = stablehlo.compare LE, %arg2, %14, SIGNED : (tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x8192xi32>) -> tensor<1x1x1x1x8192xi1>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x8192xi1>) -> tensor<1x8x4x1x8192xi1>
    %17 = stablehlo.and %13, %16 : tensor<1x8x4x1x8192xi1>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %18 = call @_where_2(%17, %7, %cst_6) : (tensor<1x8x4x1x8192xi1>, tensor<1x8x4x1x8192xf32>, tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %19 = stablehlo.reduce(%18 init: %cst_7) applies stablehlo.maximum across dimensions = [4] : (tensor<1x8x4x1x8192xf32>, tensor<f32>) -> tensor<1x8x4x1xf32>
    %cst_8 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %20 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<1x8x4x1xf32>
    %21 = stablehlo.maximum %20, %19 : tensor<1x8x4x1xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2, 3] : (tensor<1x8x4x1xf32>) -> tensor<1x8x4x1x1xf32>
    %cst_9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %24 = stablehlo.compare EQ, %22, %23, FLOAT : (tensor<1x8x4x1x1xf32>, tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x1xi1>
    %cst_10 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %25 = call @_where_3(%24, %cst_10, %22) : (tensor<1x8x4x1x1xi1>, tensor<f32>, tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x1xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2, 3, 4] : (tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x8192xf32>
    %27 = stablehlo.subtract %7, %26 : tensor<1x8x4x1x8192xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %28 = call @_where_4(%17, %27, %cst_11) : (tensor<1x8x4x1x8192xi1>, tensor<1x8x4x1x8192xf32>, tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %29 = stablehlo.exponential %28 : tensor<1x8x4x1x8192xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_4(%17, %29, %cst_12) : (tensor<1x8x4x1x8192xi1>, tensor<1x8x4x1x8192xf32>, tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %31 = stablehlo.reduce(%30 init: %cst_13) applies stablehlo.add across dimensions = [4] : (tensor<1x8x4x1x8192xf32>, tensor<f32>) -> tensor<1x8x4x1xf32>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3] : (tensor<1x8x4x1xf32>) -> tensor<1x8x4x1x1xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %34 = stablehlo.compare GT, %32, %33, FLOAT : (tensor<1x8x4x1x1xf32>, tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x1xi1>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %35 = call @_where_5(%34, %32, %cst_15) : (tensor<1x8x4x1x1xi1>, tensor<1x8x4x1x1xf32>, tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %36 = stablehlo.convert %30 : (tensor<1x8x4x1x8192xf32>) -> tensor<1x8x4x1x8192xbf16>
    %37 = stablehlo.dot_general %36, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x8x4x1x8192xbf16>, tensor<1x8192x8x128xbf16>) -> tensor<1x8x4x1x128xf32>
    %38 = stablehlo.broadcast_in_dim %35, dims = [0, 1, 2, 3, 4] : (tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x128xf32>
    %39 = stablehlo.divide %37, %38 : tensor<1x8x4x1x128xf32>
    %40 = stablehlo.log %35 : tensor<1x8x4x1x1xf32>
    %41 = stablehlo.add %25, %40 : tensor<1x8x4x1x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %42 = call @_where_5(%34, %41, %cst_16) : (tensor<1x8x4x1x1xi1>, tensor<1x8x4x1x1xf32>, tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %43 = stablehlo.reshape %42 : (tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1xf32>
    %44 = stablehlo.transpose %39, dims = [0, 3, 1, 2, 4] : (tensor<1x8x4x1x128xf32>) -> tensor<1x1x8x4x128xf32>
    %45 = stablehlo.convert %44 : (tensor<1x1x8x4x128xf32>) -> tensor<1x1x8x4x128xbf16>
    %46 = stablehlo.transpose %43, dims = [0, 3, 1, 2] : (tensor<1x8x4x1xf32>) -> tensor<1x1x8x4xf32>
    return %45, %46 : tensor<1x1x8x4x128xbf16>, tensor<1x1x8x4xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x8x4x1x8192xi1>, %arg1: tensor<1x8x4x1x8192xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x1x8192xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x8x4x1x8192xi1>, tensor<1x8x4x1x8192xf32>
    return %1 : tensor<1x8x4x1x8192xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x8x4x1x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x8x4x1x1xf32>) -> tensor<1x8x4x1x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x8x4x1x1xi1>, tensor<1x8x4x1x1xf32>
    return %2 : tensor<1x8x4x1x1xf32>
  }
  func.func private @_where_4(%arg0: tensor<1x8x4x1x8192xi1>, %arg1: tensor<1x8x4x1x8192xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x1x8192xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x8192xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x4x1x8192xi1>, tensor<1x8x4x1x8192xf32>
    return %2 : tensor<1x8x4x1x8192xf32>
  }
  func.func private @_where_5(%arg0: tensor<1x8x4x1x1xi1>, %arg1: tensor<1x8x4x1x1xf32>, %arg2: tensor<f32>) -> tensor<1x8x4x1x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x4x1x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x4x1x1xi1>, tensor<1x8x4x1x1xf32>
    return %2 : tensor<1x8x4x1x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<1x1x1x8x4x128xbf16>, %arg1: tensor<1x1x8x4x128xbf16>, %arg2: tensor<i32>) -> tensor<1x1x1x8x4x128xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x1x8x4x128xbf16>) -> tensor<1x1x1x8x4x128xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4x128xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x8x4x128xbf16>
    return %1 : tensor<1x1x1x8x4x128xbf16>
  }
  func.func private @dynamic_update_index_in_dim_6(%arg0: tensor<1x1x1x8x4xf32>, %arg1: tensor<1x1x8x4xf32>, %arg2: tensor<i32>) -> tensor<1x1x1x8x4xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x1x8x4xf32>) -> tensor<1x1x1x8x4xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<1x1x1x8x4xf32>, tensor<1x1x1x8x4xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x8x4xf32>
    return %1 : tensor<1x1x1x8x4xf32>
  }
}
