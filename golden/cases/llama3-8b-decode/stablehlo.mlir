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
    %61 = stablehlo.broadcast_in_dim %c_2, dims = [2] : (tensor<64xui32>) -> tensor<1x1x64xui32>
    %62 = stablehlo.broadcast_in_dim %23, dims = [0, 1, 2] : (tensor<1x1x1xui32>) -> tensor<1x1x64xui32>
    %63 = stablehlo.multiply %62, %61 : tensor<1x1x64xui32>
    %64 = stablehlo.convert %63 : (tensor<1x1x64xui32>) -> tensor<1x1x64xf32>
    %cst_13 = stablehlo.constant dense<2.32830644E-10> : tensor<f32>
    %65 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %66 = stablehlo.multiply %64, %65 : tensor<1x1x64xf32>
    %c_14 = stablehlo.constant dense<536870912> : tensor<ui32>
    %67 = stablehlo.broadcast_in_dim %c_14, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %68 = stablehlo.add %60, %67 : tensor<1x1x64xui32>
    %c_15 = stablehlo.constant dense<30> : tensor<ui32>
    %69 = stablehlo.broadcast_in_dim %c_15, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %70 = stablehlo.shift_right_logical %68, %69 : tensor<1x1x64xui32>
    %c_16 = stablehlo.constant dense<30> : tensor<ui32>
    %71 = stablehlo.broadcast_in_dim %c_16, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %72 = stablehlo.shift_left %70, %71 : tensor<1x1x64xui32>
    %73 = stablehlo.subtract %60, %72 : tensor<1x1x64xui32>
    %74 = stablehlo.convert %73 : (tensor<1x1x64xui32>) -> tensor<1x1x64xi32>
    %c_17 = stablehlo.constant dense<15> : tensor<i32>
    %75 = stablehlo.broadcast_in_dim %c_17, dims = [] : (tensor<i32>) -> tensor<1x1x64xi32>
    %76 = stablehlo.shift_right_arithmetic %74, %75 : tensor<1x1x64xi32>
    %77 = stablehlo.convert %76 : (tensor<1x1x64xi32>) -> tensor<1x1x64xf32>
    %cst_18 = stablehlo.constant dense<3.276800e+04> : tensor<f32>
    %78 = stablehlo.broadcast_in_dim %cst_18, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %79 = stablehlo.multiply %77, %78 : tensor<1x1x64xf32>
    %c_19 = stablehlo.constant dense<32767> : tensor<i32>
    %80 = stablehlo.broadcast_in_dim %c_19, dims = [] : (tensor<i32>) -> tensor<1x1x64xi32>
    %81 = stablehlo.and %74, %80 : tensor<1x1x64xi32>
    %82 = stablehlo.convert %81 : (tensor<1x1x64xi32>) -> tensor<1x1x64xf32>
    %cst_20 = stablehlo.constant dense<1.46246748E-9> : tensor<f32>
    %83 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %84 = stablehlo.multiply %79, %83 : tensor<1x1x64xf32>
    %cst_21 = stablehlo.constant dense<4.50598814E-13> : tensor<f32>
    %85 = stablehlo.broadcast_in_dim %cst_21, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %86 = stablehlo.multiply %79, %85 : tensor<1x1x64xf32>
    %87 = stablehlo.add %82, %66 : tensor<1x1x64xf32>
    %cst_22 = stablehlo.constant dense<1.46291812E-9> : tensor<f32>
    %88 = stablehlo.broadcast_in_dim %cst_22, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %89 = stablehlo.multiply %87, %88 : tensor<1x1x64xf32>
    %90 = stablehlo.add %86, %89 : tensor<1x1x64xf32>
    %91 = stablehlo.add %84, %90 : tensor<1x1x64xf32>
    %92 = stablehlo.subtract %84, %91 : tensor<1x1x64xf32>
    %93 = stablehlo.add %92, %90 : tensor<1x1x64xf32>
    %94 = stablehlo.cosine %91 : tensor<1x1x64xf32>
    %95 = stablehlo.sine %91 : tensor<1x1x64xf32>
    %96 = stablehlo.multiply %93, %95 : tensor<1x1x64xf32>
    %97 = stablehlo.subtract %94, %96 : tensor<1x1x64xf32>
    %98 = stablehlo.multiply %93, %94 : tensor<1x1x64xf32>
    %99 = stablehlo.add %95, %98 : tensor<1x1x64xf32>
    %c_23 = stablehlo.constant dense<1> : tensor<ui32>
    %100 = stablehlo.broadcast_in_dim %c_23, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %101 = stablehlo.and %70, %100 : tensor<1x1x64xui32>
    %c_24 = stablehlo.constant dense<1> : tensor<ui32>
    %102 = stablehlo.broadcast_in_dim %c_24, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %103 = stablehlo.compare EQ, %101, %102, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %c_25 = stablehlo.constant dense<1> : tensor<ui32>
    %104 = stablehlo.broadcast_in_dim %c_25, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %105 = stablehlo.add %70, %104 : tensor<1x1x64xui32>
    %c_26 = stablehlo.constant dense<2> : tensor<ui32>
    %106 = stablehlo.broadcast_in_dim %c_26, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %107 = stablehlo.and %105, %106 : tensor<1x1x64xui32>
    %c_27 = stablehlo.constant dense<2> : tensor<ui32>
    %108 = stablehlo.broadcast_in_dim %c_27, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %109 = stablehlo.compare EQ, %107, %108, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %c_28 = stablehlo.constant dense<2> : tensor<ui32>
    %110 = stablehlo.broadcast_in_dim %c_28, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %111 = stablehlo.and %70, %110 : tensor<1x1x64xui32>
    %c_29 = stablehlo.constant dense<2> : tensor<ui32>
    %112 = stablehlo.broadcast_in_dim %c_29, dims = [] : (tensor<ui32>) -> tensor<1x1x64xui32>
    %113 = stablehlo.compare EQ, %111, %112, UNSIGNED : (tensor<1x1x64xui32>, tensor<1x1x64xui32>) -> tensor<1x1x64xi1>
    %114 = call @_where_0(%103, %99, %97) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %115 = call @_where_0(%103, %97, %99) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %116 = stablehlo.negate %114 : tensor<1x1x64xf32>
    %117 = call @_where_0(%109, %116, %114) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %118 = stablehlo.negate %115 : tensor<1x1x64xf32>
    %119 = call @_where_0(%113, %118, %115) : (tensor<1x1x64xi1>, tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x64xf32>
    %cst_30 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %120 = stablehlo.broadcast_in_dim %cst_30, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %121 = stablehlo.multiply %117, %120 : tensor<1x1x64xf32>
    %cst_31 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %122 = stablehlo.broadcast_in_dim %cst_31, dims = [] : (tensor<f32>) -> tensor<1x1x64xf32>
    %123 = stablehlo.multiply %119, %122 : tensor<1x1x64xf32>
    %124 = stablehlo.concatenate %121, %123, dim = 2 : (tensor<1x1x64xf32>, tensor<1x1x64xf32>) -> tensor<1x1x128xf32>
    %125 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
    %126 = stablehlo.slice %125 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %127 = stablehlo.slice %125 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %128 = stablehlo.slice %21 [0:1, 0:1, 0:32, 0:64] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x64xbf16>
    %129 = stablehlo.convert %128 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
    %130 = stablehlo.slice %21 [0:1, 0:1, 0:32, 64:128] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x64xbf16>
    %131 = stablehlo.convert %130 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
    %132 = stablehlo.broadcast_in_dim %126, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %133 = stablehlo.multiply %129, %132 : tensor<1x1x32x64xf32>
    %134 = stablehlo.broadcast_in_dim %127, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %135 = stablehlo.multiply %131, %134 : tensor<1x1x32x64xf32>
    %136 = stablehlo.subtract %133, %135 : tensor<1x1x32x64xf32>
    %137 = stablehlo.broadcast_in_dim %126, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %138 = stablehlo.multiply %131, %137 : tensor<1x1x32x64xf32>
    %139 = stablehlo.broadcast_in_dim %127, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
    %140 = stablehlo.multiply %129, %139 : tensor<1x1x32x64xf32>
    %141 = stablehlo.add %138, %140 : tensor<1x1x32x64xf32>
    %142 = stablehlo.convert %136 : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x64xbf16>
    %143 = stablehlo.convert %141 : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x64xbf16>
    %144 = stablehlo.slice %21 [0:1, 0:1, 0:32, 128:128] : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x0xbf16>
    %145 = stablehlo.concatenate %142, %143, %144, dim = 3 : (tensor<1x1x32x64xbf16>, tensor<1x1x32x64xbf16>, tensor<1x1x32x0xbf16>) -> tensor<1x1x32x128xbf16>
    %146 = stablehlo.slice %19 [0:1, 0:1, 4096:5120] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %147 = stablehlo.reshape %146 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %148 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
    %149 = stablehlo.slice %148 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %150 = stablehlo.slice %148 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
    %151 = stablehlo.slice %147 [0:1, 0:1, 0:8, 0:64] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x64xbf16>
    %152 = stablehlo.convert %151 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
    %153 = stablehlo.slice %147 [0:1, 0:1, 0:8, 64:128] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x64xbf16>
    %154 = stablehlo.convert %153 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
    %155 = stablehlo.broadcast_in_dim %149, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %156 = stablehlo.multiply %152, %155 : tensor<1x1x8x64xf32>
    %157 = stablehlo.broadcast_in_dim %150, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %158 = stablehlo.multiply %154, %157 : tensor<1x1x8x64xf32>
    %159 = stablehlo.subtract %156, %158 : tensor<1x1x8x64xf32>
    %160 = stablehlo.broadcast_in_dim %149, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %161 = stablehlo.multiply %154, %160 : tensor<1x1x8x64xf32>
    %162 = stablehlo.broadcast_in_dim %150, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
    %163 = stablehlo.multiply %152, %162 : tensor<1x1x8x64xf32>
    %164 = stablehlo.add %161, %163 : tensor<1x1x8x64xf32>
    %165 = stablehlo.convert %159 : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x64xbf16>
    %166 = stablehlo.convert %164 : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x64xbf16>
    %167 = stablehlo.slice %147 [0:1, 0:1, 0:8, 128:128] : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x0xbf16>
    %168 = stablehlo.concatenate %165, %166, %167, dim = 3 : (tensor<1x1x8x64xbf16>, tensor<1x1x8x64xbf16>, tensor<1x1x8x0xbf16>) -> tensor<1x1x8x128xbf16>
    %169 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %170 = stablehlo.iota dim = 0 : tensor<1xi32>
    %171 = stablehlo.broadcast_in_dim %170, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %172 = stablehlo.add %169, %171 : tensor<1x1xi32>
    %c_32 = stablehlo.constant dense<0> : tensor<i32>
    %173 = stablehlo.broadcast_in_dim %c_32, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %174 = stablehlo.compare LT, %172, %173, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_33 = stablehlo.constant dense<8192> : tensor<i32>
    %175 = call @_where_1(%174, %c_33, %172) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %176 = stablehlo.iota dim = 0 : tensor<1xi32>
    %177 = stablehlo.broadcast_in_dim %176, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_34 = stablehlo.constant dense<0> : tensor<i32>
    %178 = stablehlo.broadcast_in_dim %c_34, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %179 = stablehlo.compare LT, %177, %178, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_35 = stablehlo.constant dense<1> : tensor<i32>
    %180 = stablehlo.broadcast_in_dim %c_35, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %181 = stablehlo.add %177, %180 : tensor<1x1xi32>
    %182 = stablehlo.select %179, %181, %177 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_36 = stablehlo.constant dense<0> : tensor<i32>
    %183 = stablehlo.broadcast_in_dim %c_36, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %184 = stablehlo.compare LT, %175, %183, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_37 = stablehlo.constant dense<8192> : tensor<i32>
    %185 = stablehlo.broadcast_in_dim %c_37, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %186 = stablehlo.add %175, %185 : tensor<1x1xi32>
    %187 = stablehlo.select %184, %186, %175 : tensor<1x1xi1>, tensor<1x1xi32>
    %188 = stablehlo.broadcast_in_dim %182, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %189 = stablehlo.broadcast_in_dim %187, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %190 = stablehlo.concatenate %188, %189, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %191 = "stablehlo.scatter"(%arg5, %190, %168) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %192 = stablehlo.slice %19 [0:1, 0:1, 5120:6144] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %193 = stablehlo.reshape %192 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %194 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %195 = stablehlo.iota dim = 0 : tensor<1xi32>
    %196 = stablehlo.broadcast_in_dim %195, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %197 = stablehlo.add %194, %196 : tensor<1x1xi32>
    %c_38 = stablehlo.constant dense<0> : tensor<i32>
    %198 = stablehlo.broadcast_in_dim %c_38, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %199 = stablehlo.compare LT, %197, %198, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_39 = stablehlo.constant dense<8192> : tensor<i32>
    %200 = call @_where_1(%199, %c_39, %197) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %201 = stablehlo.iota dim = 0 : tensor<1xi32>
    %202 = stablehlo.broadcast_in_dim %201, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_40 = stablehlo.constant dense<0> : tensor<i32>
    %203 = stablehlo.broadcast_in_dim %c_40, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %204 = stablehlo.compare LT, %202, %203, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_41 = stablehlo.constant dense<1> : tensor<i32>
    %205 = stablehlo.broadcast_in_dim %c_41, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %206 = stablehlo.add %202, %205 : tensor<1x1xi32>
    %207 = stablehlo.select %204, %206, %202 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_42 = stablehlo.constant dense<0> : tensor<i32>
    %208 = stablehlo.broadcast_in_dim %c_42, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %209 = stablehlo.compare LT, %200, %208, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_43 = stablehlo.constant dense<8192> : tensor<i32>
    %210 = stablehlo.broadcast_in_dim %c_43, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %211 = stablehlo.add %200, %210 : tensor<1x1xi32>
    %212 = stablehlo.select %209, %211, %200 : tensor<1x1xi1>, tensor<1x1xi32>
    %213 = stablehlo.broadcast_in_dim %207, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %214 = stablehlo.broadcast_in_dim %212, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %215 = stablehlo.concatenate %213, %214, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %216 = "stablehlo.scatter"(%arg6, %215, %193) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %217 = stablehlo.iota dim = 0 : tensor<8192xi32>
    %218 = stablehlo.reshape %145 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %219 = stablehlo.reshape %arg3 : (tensor<1x1xi32>) -> tensor<1x1x1x1xi32>
    %220 = stablehlo.broadcast_in_dim %219, dims = [0, 1, 2, 3] : (tensor<1x1x1x1xi32>) -> tensor<1x1x1x1x1xi32>
    %221 = stablehlo.broadcast_in_dim %217, dims = [1] : (tensor<8192xi32>) -> tensor<1x8192xi32>
    %222 = stablehlo.reshape %221 : (tensor<1x8192xi32>) -> tensor<1x1x1x8192xi32>
    %223 = stablehlo.broadcast_in_dim %222, dims = [0, 1, 2, 4] : (tensor<1x1x1x8192xi32>) -> tensor<1x1x1x1x8192xi32>
    %224 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c_44 = stablehlo.constant dense<1> : tensor<i32>
    %225 = stablehlo.broadcast_in_dim %c_44, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %226 = stablehlo.multiply %225, %224 : tensor<1xi32>
    %c_45 = stablehlo.constant dense<0> : tensor<i32>
    %227 = stablehlo.broadcast_in_dim %c_45, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %228 = stablehlo.add %227, %226 : tensor<1xi32>
    %cst_46 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %229 = stablehlo.broadcast_in_dim %cst_46, dims = [] : (tensor<bf16>) -> tensor<1x1x1x8x4x128xbf16>
    %cst_47 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %230 = stablehlo.broadcast_in_dim %cst_47, dims = [] : (tensor<f32>) -> tensor<1x1x1x8x4xf32>
    %c_48 = stablehlo.constant dense<0> : tensor<i32>
    %231:9 = stablehlo.while(%iterArg = %228, %iterArg_49 = %218, %iterArg_50 = %191, %iterArg_51 = %223, %iterArg_52 = %220, %iterArg_53 = %216, %iterArg_54 = %c_48, %iterArg_55 = %229, %iterArg_56 = %230) : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    cond {
      %c_57 = stablehlo.constant dense<1> : tensor<i32>
      %241 = stablehlo.compare LT, %iterArg_54, %c_57, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %241 : tensor<i1>
    } do {
      %241 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_54) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %242:2 = func.call @closed_call(%iterArg_49, %iterArg_50, %iterArg_51, %iterArg_52, %iterArg_53, %241) : (tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>) -> (tensor<1x1x8x4x128xbf16>, tensor<1x1x8x4xf32>)
      %243 = func.call @dynamic_update_index_in_dim(%iterArg_55, %242#0, %iterArg_54) : (tensor<1x1x1x8x4x128xbf16>, tensor<1x1x8x4x128xbf16>, tensor<i32>) -> tensor<1x1x1x8x4x128xbf16>
      %244 = func.call @dynamic_update_index_in_dim_6(%iterArg_56, %242#1, %iterArg_54) : (tensor<1x1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<i32>) -> tensor<1x1x1x8x4xf32>
      %c_57 = stablehlo.constant dense<1> : tensor<i32>
      %245 = stablehlo.add %iterArg_54, %c_57 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_49, %iterArg_50, %iterArg_51, %iterArg_52, %iterArg_53, %245, %243, %244 : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    }
    %232 = stablehlo.transpose %231#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x1x8x4x128xbf16>
    %233 = stablehlo.reshape %232 : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %234 = stablehlo.transpose %231#8, dims = [1, 0, 2, 3, 4] : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x1x8x4xf32>
    %235 = stablehlo.reshape %234 : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x8x4xf32>
    %236 = stablehlo.reshape %233 : (tensor<1x1x8x4x128xbf16>) -> tensor<1x1x32x128xbf16>
    %237 = stablehlo.reshape %235 : (tensor<1x1x8x4xf32>) -> tensor<1x1x32xf32>
    %238 = stablehlo.reshape %236 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x4096xbf16>
    %239 = stablehlo.dot_general %238, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xf32>
    %240 = stablehlo.convert %239 : (tensor<1x1x4096xf32>) -> tensor<1x1x4096xbf16>
    return %240, %191, %216 : tensor<1x1x4096xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>
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
    %44 = stablehlo.convert %39 : (tensor<1x8x4x1x128xf32>) -> tensor<1x8x4x1x128xbf16>
    %45 = stablehlo.transpose %44, dims = [0, 3, 1, 2, 4] : (tensor<1x8x4x1x128xbf16>) -> tensor<1x1x8x4x128xbf16>
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
