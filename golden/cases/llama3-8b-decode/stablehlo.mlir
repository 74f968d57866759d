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
    %c_32 = stablehlo.constant dense<0> : tensor<i32>
    %125 = "stablehlo.case"(%c_32) ({
      %c_51 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_51 : tensor<i32>
    }, {
      %c_51 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_51 : tensor<i32>
    }) : (tensor<i32>) -> tensor<i32>
    %126 = "stablehlo.case"(%125) ({
      %203 = stablehlo.reshape %21 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x32x2x64xbf16>
      %204 = stablehlo.slice %203 [0:1, 0:1, 0:32, 0:1, 0:64] : (tensor<1x1x32x2x64xbf16>) -> tensor<1x1x32x1x64xbf16>
      %205 = stablehlo.reshape %204 : (tensor<1x1x32x1x64xbf16>) -> tensor<1x1x32x64xbf16>
      %206 = stablehlo.convert %205 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
      %207 = stablehlo.slice %203 [0:1, 0:1, 0:32, 1:2, 0:64] : (tensor<1x1x32x2x64xbf16>) -> tensor<1x1x32x1x64xbf16>
      %208 = stablehlo.reshape %207 : (tensor<1x1x32x1x64xbf16>) -> tensor<1x1x32x64xbf16>
      %209 = stablehlo.convert %208 : (tensor<1x1x32x64xbf16>) -> tensor<1x1x32x64xf32>
      %210 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
      %211 = stablehlo.slice %210 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
      %212 = stablehlo.slice %210 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
      %213 = stablehlo.broadcast_in_dim %211, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
      %214 = stablehlo.multiply %206, %213 : tensor<1x1x32x64xf32>
      %215 = stablehlo.broadcast_in_dim %212, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
      %216 = stablehlo.multiply %209, %215 : tensor<1x1x32x64xf32>
      %217 = stablehlo.subtract %214, %216 : tensor<1x1x32x64xf32>
      %218 = stablehlo.broadcast_in_dim %211, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
      %219 = stablehlo.multiply %209, %218 : tensor<1x1x32x64xf32>
      %220 = stablehlo.broadcast_in_dim %212, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x32x64xf32>
      %221 = stablehlo.multiply %206, %220 : tensor<1x1x32x64xf32>
      %222 = stablehlo.add %219, %221 : tensor<1x1x32x64xf32>
      %223 = stablehlo.broadcast_in_dim %217, dims = [0, 1, 2, 4] : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x1x64xf32>
      %224 = stablehlo.broadcast_in_dim %222, dims = [0, 1, 2, 4] : (tensor<1x1x32x64xf32>) -> tensor<1x1x32x1x64xf32>
      %225 = stablehlo.concatenate %223, %224, dim = 3 : (tensor<1x1x32x1x64xf32>, tensor<1x1x32x1x64xf32>) -> tensor<1x1x32x2x64xf32>
      %226 = stablehlo.reshape %225 : (tensor<1x1x32x2x64xf32>) -> tensor<1x1x32x128xf32>
      %227 = stablehlo.convert %226 : (tensor<1x1x32x128xf32>) -> tensor<1x1x32x128xbf16>
      stablehlo.return %227 : tensor<1x1x32x128xbf16>
    }) : (tensor<i32>) -> tensor<1x1x32x128xbf16>
    %127 = stablehlo.slice %19 [0:1, 0:1, 4096:5120] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %128 = stablehlo.reshape %127 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %c_33 = stablehlo.constant dense<0> : tensor<i32>
    %129 = "stablehlo.case"(%c_33) ({
      %c_51 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_51 : tensor<i32>
    }, {
      %c_51 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_51 : tensor<i32>
    }) : (tensor<i32>) -> tensor<i32>
    %130 = "stablehlo.case"(%129) ({
      %203 = stablehlo.reshape %128 : (tensor<1x1x8x128xbf16>) -> tensor<1x1x8x2x64xbf16>
      %204 = stablehlo.slice %203 [0:1, 0:1, 0:8, 0:1, 0:64] : (tensor<1x1x8x2x64xbf16>) -> tensor<1x1x8x1x64xbf16>
      %205 = stablehlo.reshape %204 : (tensor<1x1x8x1x64xbf16>) -> tensor<1x1x8x64xbf16>
      %206 = stablehlo.convert %205 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
      %207 = stablehlo.slice %203 [0:1, 0:1, 0:8, 1:2, 0:64] : (tensor<1x1x8x2x64xbf16>) -> tensor<1x1x8x1x64xbf16>
      %208 = stablehlo.reshape %207 : (tensor<1x1x8x1x64xbf16>) -> tensor<1x1x8x64xbf16>
      %209 = stablehlo.convert %208 : (tensor<1x1x8x64xbf16>) -> tensor<1x1x8x64xf32>
      %210 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 3] : (tensor<1x1x128xf32>) -> tensor<1x1x1x128xf32>
      %211 = stablehlo.slice %210 [0:1, 0:1, 0:1, 0:64] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
      %212 = stablehlo.slice %210 [0:1, 0:1, 0:1, 64:128] : (tensor<1x1x1x128xf32>) -> tensor<1x1x1x64xf32>
      %213 = stablehlo.broadcast_in_dim %211, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
      %214 = stablehlo.multiply %206, %213 : tensor<1x1x8x64xf32>
      %215 = stablehlo.broadcast_in_dim %212, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
      %216 = stablehlo.multiply %209, %215 : tensor<1x1x8x64xf32>
      %217 = stablehlo.subtract %214, %216 : tensor<1x1x8x64xf32>
      %218 = stablehlo.broadcast_in_dim %211, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
      %219 = stablehlo.multiply %209, %218 : tensor<1x1x8x64xf32>
      %220 = stablehlo.broadcast_in_dim %212, dims = [0, 1, 2, 3] : (tensor<1x1x1x64xf32>) -> tensor<1x1x8x64xf32>
      %221 = stablehlo.multiply %206, %220 : tensor<1x1x8x64xf32>
      %222 = stablehlo.add %219, %221 : tensor<1x1x8x64xf32>
      %223 = stablehlo.broadcast_in_dim %217, dims = [0, 1, 2, 4] : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x1x64xf32>
      %224 = stablehlo.broadcast_in_dim %222, dims = [0, 1, 2, 4] : (tensor<1x1x8x64xf32>) -> tensor<1x1x8x1x64xf32>
      %225 = stablehlo.concatenate %223, %224, dim = 3 : (tensor<1x1x8x1x64xf32>, tensor<1x1x8x1x64xf32>) -> tensor<1x1x8x2x64xf32>
      %226 = stablehlo.reshape %225 : (tensor<1x1x8x2x64xf32>) -> tensor<1x1x8x128xf32>
      %227 = stablehlo.convert %226 : (tensor<1x1x8x128xf32>) -> tensor<1x1x8x128xbf16>
      stablehlo.return %227 : tensor<1x1x8x128xbf16>
    }) : (tensor<i32>) -> tensor<1x1x8x128xbf16>
    %131 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %132 = stablehlo.iota dim = 0 : tensor<1xi32>
    %133 = stablehlo.broadcast_in_dim %132, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %134 = stablehlo.add %131, %133 : tensor<1x1xi32>
    %c_34 = stablehlo.constant dense<0> : tensor<i32>
    %135 = stablehlo.broadcast_in_dim %c_34, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %136 = stablehlo.compare LT, %134, %135, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_35 = stablehlo.constant dense<8192> : tensor<i32>
    %137 = call @_where_1(%136, %c_35, %134) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %138 = stablehlo.iota dim = 0 : tensor<1xi32>
    %139 = stablehlo.broadcast_in_dim %138, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_36 = stablehlo.constant dense<0> : tensor<i32>
    %140 = stablehlo.broadcast_in_dim %c_36, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %141 = stablehlo.compare LT, %139, %140, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_37 = stablehlo.constant dense<1> : tensor<i32>
    %142 = stablehlo.broadcast_in_dim %c_37, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %143 = stablehlo.add %139, %142 : tensor<1x1xi32>
    %144 = stablehlo.select %141, %143, %139 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_38 = stablehlo.constant dense<0> : tensor<i32>
    %145 = stablehlo.broadcast_in_dim %c_38, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %146 = stablehlo.compare LT, %137, %145, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_39 = stablehlo.constant dense<8192> : tensor<i32>
    %147 = stablehlo.broadcast_in_dim %c_39, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %148 = stablehlo.add %137, %147 : tensor<1x1xi32>
    %149 = stablehlo.select %146, %148, %137 : tensor<1x1xi1>, tensor<1x1xi32>
    %150 = stablehlo.broadcast_in_dim %144, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %151 = stablehlo.broadcast_in_dim %149, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %152 = stablehlo.concatenate %150, %151, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %153 = "stablehlo.scatter"(%arg5, %152, %130) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %154 = stablehlo.slice %19 [0:1, 0:1, 5120:6144] : (tensor<1x1x6144xbf16>) -> tensor<1x1x1024xbf16>
    %155 = stablehlo.reshape %154 : (tensor<1x1x1024xbf16>) -> tensor<1x1x8x128xbf16>
    %156 = stablehlo.broadcast_in_dim %arg4, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %157 = stablehlo.iota dim = 0 : tensor<1xi32>
    %158 = stablehlo.broadcast_in_dim %157, dims = [1] : (tensor<1xi32>) -> tensor<1x1xi32>
    %159 = stablehlo.add %156, %158 : tensor<1x1xi32>
    %c_40 = stablehlo.constant dense<0> : tensor<i32>
    %160 = stablehlo.broadcast_in_dim %c_40, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %161 = stablehlo.compare LT, %159, %160, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_41 = stablehlo.constant dense<8192> : tensor<i32>
    %162 = call @_where_1(%161, %c_41, %159) : (tensor<1x1xi1>, tensor<i32>, tensor<1x1xi32>) -> tensor<1x1xi32>
    %163 = stablehlo.iota dim = 0 : tensor<1xi32>
    %164 = stablehlo.broadcast_in_dim %163, dims = [0] : (tensor<1xi32>) -> tensor<1x1xi32>
    %c_42 = stablehlo.constant dense<0> : tensor<i32>
    %165 = stablehlo.broadcast_in_dim %c_42, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %166 = stablehlo.compare LT, %164, %165, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_43 = stablehlo.constant dense<1> : tensor<i32>
    %167 = stablehlo.broadcast_in_dim %c_43, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %168 = stablehlo.add %164, %167 : tensor<1x1xi32>
    %169 = stablehlo.select %166, %168, %164 : tensor<1x1xi1>, tensor<1x1xi32>
    %c_44 = stablehlo.constant dense<0> : tensor<i32>
    %170 = stablehlo.broadcast_in_dim %c_44, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %171 = stablehlo.compare LT, %162, %170, SIGNED : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
    %c_45 = stablehlo.constant dense<8192> : tensor<i32>
    %172 = stablehlo.broadcast_in_dim %c_45, dims = [] : (tensor<i32>) -> tensor<1x1xi32>
    %173 = stablehlo.add %162, %172 : tensor<1x1xi32>
    %174 = stablehlo.select %171, %173, %162 : tensor<1x1xi1>, tensor<1x1xi32>
    %175 = stablehlo.broadcast_in_dim %169, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %176 = stablehlo.broadcast_in_dim %174, dims = [0, 1] : (tensor<1x1xi32>) -> tensor<1x1x1xi32>
    %177 = stablehlo.concatenate %175, %176, dim = 2 : (tensor<1x1x1xi32>, tensor<1x1x1xi32>) -> tensor<1x1x2xi32>
    %178 = "stablehlo.scatter"(%arg6, %177, %155) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = true}> ({
    ^bb0(%arg9: tensor<bf16>, %arg10: tensor<bf16>):
      stablehlo.return %arg10 : tensor<bf16>
    }) : (tensor<1x8192x8x128xbf16>, tensor<1x1x2xi32>, tensor<1x1x8x128xbf16>) -> tensor<1x8192x8x128xbf16>
    %179 = stablehlo.iota dim = 0 : tensor<8192xi32>
    %180 = stablehlo.reshape %126 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %181 = stablehlo.reshape %arg3 : (tensor<1x1xi32>) -> tensor<1x1x1x1xi32>
    %182 = stablehlo.broadcast_in_dim %181, dims = [0, 1, 2, 3] : (tensor<1x1x1x1xi32>) -> tensor<1x1x1x1x1xi32>
    %183 = stablehlo.broadcast_in_dim %179, dims = [1] : (tensor<8192xi32>) -> tensor<1x8192xi32>
    %184 = stablehlo.reshape %183 : (tensor<1x8192xi32>) -> tensor<1x1x1x8192xi32>
    %185 = stablehlo.broadcast_in_dim %184, dims = [0, 1, 2, 4] : (tensor<1x1x1x8192xi32>) -> tensor<1x1x1x1x8192xi32>
    %186 = stablehlo.iota dim = 0 : tensor<1xi32>
    %c_46 = stablehlo.constant dense<1> : tensor<i32>
    %187 = stablehlo.broadcast_in_dim %c_46, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %188 = stablehlo.multiply %187, %186 : tensor<1xi32>
    %c_47 = stablehlo.constant dense<0> : tensor<i32>
    %189 = stablehlo.broadcast_in_dim %c_47, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %190 = stablehlo.add %189, %188 : tensor<1xi32>
    %cst_48 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %191 = stablehlo.broadcast_in_dim %cst_48, dims = [] : (tensor<bf16>) -> tensor<1x1x1x8x4x128xbf16>
    %cst_49 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %192 = stablehlo.broadcast_in_dim %cst_49, dims = [] : (tensor<f32>) -> tensor<1x1x1x8x4xf32>
    %c_50 = stablehlo.constant dense<0> : tensor<i32>
    %193:9 = stablehlo.while(%iterArg = %190, %iterArg_51 = %180, %iterArg_52 = %153, %iterArg_53 = %185, %iterArg_54 = %182, %iterArg_55 = %178, %iterArg_56 = %c_50, %iterArg_57 = %191, %iterArg_58 = %192) : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    cond {
      %c_59 = stablehlo.constant dense<1> : tensor<i32>
      %203 = stablehlo.compare LT, %iterArg_56, %c_59, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %203 : tensor<i1>
    } do {
      %203 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_56) : (tensor<1xi32>, tensor<i32>) -> tensor<i32>
      %204:2 = func.call @closed_call(%iterArg_51, %iterArg_52, %iterArg_53, %iterArg_54, %iterArg_55, %203) : (tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>) -> (tensor<1x1x8x4x128xbf16>, tensor<1x1x8x4xf32>)
      %205 = func.call @dynamic_update_index_in_dim(%iterArg_57, %204#0, %iterArg_56) : (tensor<1x1x1x8x4x128xbf16>, tensor<1x1x8x4x128xbf16>, tensor<i32>) -> tensor<1x1x1x8x4x128xbf16>
      %206 = func.call @dynamic_update_index_in_dim_6(%iterArg_58, %204#1, %iterArg_56) : (tensor<1x1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<i32>) -> tensor<1x1x1x8x4xf32>
      %c_59 = stablehlo.constant dense<1> : tensor<i32>
      %207 = stablehlo.add %iterArg_56, %c_59 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_51, %iterArg_52, %iterArg_53, %iterArg_54, %iterArg_55, %207, %205, %206 : tensor<1xi32>, tensor<1x1x8x4x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x1x1x1x1xi32>, tensor<1x8192x8x128xbf16>, tensor<i32>, tensor<1x1x1x8x4x128xbf16>, tensor<1x1x1x8x4xf32>
    }
    %194 = stablehlo.transpose %193#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x1x8x4x128xbf16>
    %195 = stablehlo.reshape %194 : (tensor<1x1x1x8x4x128xbf16>) -> tensor<1x1x8x4x128xbf16>
    %196 = stablehlo.transpose %193#8, dims = [1, 0, 2, 3, 4] : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x1x8x4xf32>
    %197 = stablehlo.reshape %196 : (tensor<1x1x1x8x4xf32>) -> tensor<1x1x8x4xf32>
    %198 = stablehlo.reshape %195 : (tensor<1x1x8x4x128xbf16>) -> tensor<1x1x32x128xbf16>
    %199 = stablehlo.reshape %197 : (tensor<1x1x8x4xf32>) -> tensor<1x1x32xf32>
    %200 = stablehlo.reshape %198 : (tensor<1x1x32x128xbf16>) -> tensor<1x1x4096xbf16>
    %201 = stablehlo.dot_general %200, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x1x4096xf32>
    %202 = stablehlo.convert %201 : (tensor<1x1x4096xf32>) -> tensor<1x1x4096xbf16>
    return %202, %153, %178 : tensor<1x1x4096xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>
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
