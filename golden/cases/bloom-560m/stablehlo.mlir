module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<250880x1024xbf16>, %arg2: tensor<1024xbf16>, %arg3: tensor<1024xbf16>, %arg4: tensor<1024xbf16>, %arg5: tensor<1024xbf16>, %arg6: tensor<1024x1024xbf16>, %arg7: tensor<1024xbf16>, %arg8: tensor<1024x3072xbf16>, %arg9: tensor<3072xbf16>) -> (tensor<1x2048x1024xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense<[0.707106769, 5.000000e-01, 0.353553385, 2.500000e-01, 0.176776692, 1.250000e-01, 0.0883883461, 6.250000e-02, 0.0441941731, 3.125000e-02, 0.0220970865, 1.562500e-02, 0.0110485433, 7.812500e-03, 0.00552427163, 3.906250e-03]> : tensor<16xf32>
    %0 = call @_take(%arg1, %arg0) : (tensor<250880x1024xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x1024xbf16>
    %1 = stablehlo.convert %0 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x1024xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %2 = stablehlo.reduce(%1 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x1024xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %3 = stablehlo.broadcast_in_dim %2, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_1 = stablehlo.constant dense<1.024000e+03> : tensor<f32>
    %4 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %5 = stablehlo.divide %3, %4 : tensor<1x2048x1xf32>
    %6 = stablehlo.broadcast_in_dim %5, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x1024xf32>
    %7 = stablehlo.subtract %1, %6 : tensor<1x2048x1024xf32>
    %8 = chlo.square %7 : tensor<1x2048x1024xf32> -> tensor<1x2048x1024xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %9 = stablehlo.reduce(%8 init: %cst_2) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x1024xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_3 = stablehlo.constant dense<1.024000e+03> : tensor<f32>
    %11 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %12 = stablehlo.divide %10, %11 : tensor<1x2048x1xf32>
    %cst_4 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %13 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %14 = stablehlo.add %12, %13 : tensor<1x2048x1xf32>
    %15 = stablehlo.rsqrt %14 : tensor<1x2048x1xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x1024xf32>
    %17 = stablehlo.multiply %7, %16 : tensor<1x2048x1024xf32>
    %18 = stablehlo.convert %arg2 : (tensor<1024xbf16>) -> tensor<1024xf32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %19 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1024xf32>
    %20 = stablehlo.add %18, %19 : tensor<1024xf32>
    %21 = stablehlo.broadcast_in_dim %20, dims = [2] : (tensor<1024xf32>) -> tensor<1x1x1024xf32>
    %22 = stablehlo.broadcast_in_dim %21, dims = [0, 1, 2] : (tensor<1x1x1024xf32>) -> tensor<1x2048x1024xf32>
    %23 = stablehlo.multiply %17, %22 : tensor<1x2048x1024xf32>
    %24 = stablehlo.convert %arg3 : (tensor<1024xbf16>) -> tensor<1024xf32>
    %25 = stablehlo.broadcast_in_dim %24, dims = [2] : (tensor<1024xf32>) -> tensor<1x1x1024xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2] : (tensor<1x1x1024xf32>) -> tensor<1x2048x1024xf32>
    %27 = stablehlo.add %23, %26 : tensor<1x2048x1024xf32>
    %28 = stablehlo.convert %27 : (tensor<1x2048x1024xf32>) -> tensor<1x2048x1024xbf16>
    %29 = stablehlo.convert %28 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x1024xf32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = stablehlo.reduce(%29 init: %cst_6) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x1024xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_7 = stablehlo.constant dense<1.024000e+03> : tensor<f32>
    %32 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %33 = stablehlo.divide %31, %32 : tensor<1x2048x1xf32>
    %34 = stablehlo.broadcast_in_dim %33, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x1024xf32>
    %35 = stablehlo.subtract %29, %34 : tensor<1x2048x1024xf32>
    %36 = chlo.square %35 : tensor<1x2048x1024xf32> -> tensor<1x2048x1024xf32>
    %cst_8 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %37 = stablehlo.reduce(%36 init: %cst_8) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x1024xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_9 = stablehlo.constant dense<1.024000e+03> : tensor<f32>
    %39 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %40 = stablehlo.divide %38, %39 : tensor<1x2048x1xf32>
    %cst_10 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %41 = stablehlo.broadcast_in_dim %cst_10, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %42 = stablehlo.add %40, %41 : tensor<1x2048x1xf32>
    %43 = stablehlo.rsqrt %42 : tensor<1x2048x1xf32>
    %44 = stablehlo.broadcast_in_dim %43, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x1024xf32>
    %45 = stablehlo.multiply %35, %44 : tensor<1x2048x1024xf32>
    %46 = stablehlo.convert %arg4 : (tensor<1024xbf16>) -> tensor<1024xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %47 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1024xf32>
    %48 = stablehlo.add %46, %47 : tensor<1024xf32>
    %49 = stablehlo.broadcast_in_dim %48, dims = [2] : (tensor<1024xf32>) -> tensor<1x1x1024xf32>
    %50 = stablehlo.broadcast_in_dim %49, dims = [0, 1, 2] : (tensor<1x1x1024xf32>) -> tensor<1x2048x1024xf32>
    %51 = stablehlo.multiply %45, %50 : tensor<1x2048x1024xf32>
    %52 = stablehlo.convert %arg5 : (tensor<1024xbf16>) -> tensor<1024xf32>
    %53 = stablehlo.broadcast_in_dim %52, dims = [2] : (tensor<1024xf32>) -> tensor<1x1x1024xf32>
    %54 = stablehlo.broadcast_in_dim %53, dims = [0, 1, 2] : (tensor<1x1x1024xf32>) -> tensor<1x2048x1024xf32>
    %55 = stablehlo.add %51, %54 : tensor<1x2048x1024xf32>
    %56 = stablehlo.convert %55 : (tensor<1x2048x1024xf32>) -> tensor<1x2048x1024xbf16>
    %57 = stablehlo.dot_general %56, %arg8, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x1024xbf16>, tensor<1024x3072xbf16>) -> tensor<1x2048x3072xf32>
    %58 = stablehlo.convert %arg9 : (tensor<3072xbf16>) -> tensor<3072xf32>
    %59 = stablehlo.broadcast_in_dim %58, dims = [2] : (tensor<3072xf32>) -> tensor<1x1x3072xf32>
    %60 = stablehlo.broadcast_in_dim %59, dims = [0, 1, 2] : (tensor<1x1x3072xf32>) -> tensor<1x2048x3072xf32>
    %61 = stablehlo.add %57, %60 : tensor<1x2048x3072xf32>
    %62 = stablehlo.convert %61 : (tensor<1x2048x3072xf32>) -> tensor<1x2048x3072xbf16>
    %63 = stablehlo.slice %62 [0:1, 0:2048, 0:1024] : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x1024xbf16>
    %64 = stablehlo.reshape %63 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x16x64xbf16>
    %65 = stablehlo.slice %62 [0:1, 0:2048, 1024:2048] : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x1024xbf16>
    %66 = stablehlo.reshape %65 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x16x64xbf16>
    %67 = stablehlo.slice %62 [0:1, 0:2048, 2048:3072] : (tensor<1x2048x3072xbf16>) -> tensor<1x2048x1024xbf16>
    %68 = stablehlo.reshape %67 : (tensor<1x2048x1024xbf16>) -> tensor<1x2048x16x64xbf16>
    %69 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %70 = stablehlo.reshape %64 : (tensor<1x2048x16x64xbf16>) -> tensor<1x2048x16x1x64xbf16>
    %71 = stablehlo.broadcast_in_dim %69, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %72 = stablehlo.reshape %71 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %73 = stablehlo.broadcast_in_dim %72, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %74 = stablehlo.broadcast_in_dim %69, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %75 = stablehlo.reshape %74 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %76 = stablehlo.broadcast_in_dim %75, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %77 = stablehlo.iota dim = 0 : tensor<16xi32>
    %c = stablehlo.constant dense<128> : tensor<i32>
    %78 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %79 = stablehlo.multiply %78, %77 : tensor<16xi32>
    %c_12 = stablehlo.constant dense<0> : tensor<i32>
    %80 = stablehlo.broadcast_in_dim %c_12, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %81 = stablehlo.add %80, %79 : tensor<16xi32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %82 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<bf16>) -> tensor<16x1x128x16x1x64xbf16>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %83 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<16x1x128x16x1xf32>
    %c_15 = stablehlo.constant dense<0> : tensor<i32>
    %84:10 = stablehlo.while(%iterArg = %81, %iterArg_16 = %73, %iterArg_17 = %70, %iterArg_18 = %66, %iterArg_19 = %cst, %iterArg_20 = %76, %iterArg_21 = %68, %iterArg_22 = %c_15, %iterArg_23 = %82, %iterArg_24 = %83) : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x64xbf16>, tensor<1x2048x16x64xbf16>, tensor<16xf32>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x64xbf16>, tensor<i32>, tensor<16x1x128x16x1x64xbf16>, tensor<16x1x128x16x1xf32>
    cond {
      %c_25 = stablehlo.constant dense<16> : tensor<i32>
      %98 = stablehlo.compare LT, %iterArg_22, %c_25, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %98 : tensor<i1>
    } do {
      %98 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_22) : (tensor<16xi32>, tensor<i32>) -> tensor<i32>
      %99:2 = func.call @closed_call(%iterArg_16, %iterArg_17, %iterArg_18, %iterArg_19, %iterArg_20, %iterArg_21, %98) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x64xbf16>, tensor<1x2048x16x64xbf16>, tensor<16xf32>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x64xbf16>, tensor<i32>) -> (tensor<1x128x16x1x64xbf16>, tensor<1x128x16x1xf32>)
      %100 = func.call @dynamic_update_index_in_dim(%iterArg_23, %99#0, %iterArg_22) : (tensor<16x1x128x16x1x64xbf16>, tensor<1x128x16x1x64xbf16>, tensor<i32>) -> tensor<16x1x128x16x1x64xbf16>
      %101 = func.call @dynamic_update_index_in_dim_4(%iterArg_24, %99#1, %iterArg_22) : (tensor<16x1x128x16x1xf32>, tensor<1x128x16x1xf32>, tensor<i32>) -> tensor<16x1x128x16x1xf32>
      %c_25 = stablehlo.constant dense<1> : tensor<i32>
      %102 = stablehlo.add %iterArg_22, %c_25 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_16, %iterArg_17, %iterArg_18, %iterArg_19, %iterArg_20, %iterArg_21, %102, %100, %101 : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x64xbf16>, tensor<1x2048x16x64xbf16>, tensor<16xf32>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x64xbf16>, tensor<i32>, tensor<16x1x128x16x1x64xbf16>, tensor<16x1x128x16x1xf32>
    }
    %85 = stablehlo.transpose %84#8, dims = [1, 0, 2, 3, 4, 5] : (tensor<16x1x128x16x1x64xbf16>) -> tensor<1x16x128x16x1x64xbf16>
    %86 = stablehlo.reshape %85 : (tensor<1x16x128x16x1x64xbf16>) -> tensor<1x2048x16x1x64xbf16>
    %87 = stablehlo.transpose %84#9, dims = [1, 0, 2, 3, 4] : (tensor<16x1x128x16x1xf32>) -> tensor<1x16x128x16x1xf32>
    %88 = stablehlo.reshape %87 : (tensor<1x16x128x16x1xf32>) -> tensor<1x2048x16x1xf32>
    %89 = stablehlo.reshape %86 : (tensor<1x2048x16x1x64xbf16>) -> tensor<1x2048x16x64xbf16>
    %90 = stablehlo.reshape %88 : (tensor<1x2048x16x1xf32>) -> tensor<1x2048x16xf32>
    %91 = stablehlo.reshape %89 : (tensor<1x2048x16x64xbf16>) -> tensor<1x2048x1024xbf16>
    %92 = stablehlo.dot_general %91, %arg6, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x1024xbf16>, tensor<1024x1024xbf16>) -> tensor<1x2048x1024xf32>
    %93 = stablehlo.convert %arg7 : (tensor<1024xbf16>) -> tensor<1024xf32>
    %94 = stablehlo.broadcast_in_dim %93, dims = [2] : (tensor<1024xf32>) -> tensor<1x1x1024xf32>
    %95 = stablehlo.broadcast_in_dim %94, dims = [0, 1, 2] : (tensor<1x1x1024xf32>) -> tensor<1x2048x1024xf32>
    %96 = stablehlo.add %92, %95 : tensor<1x2048x1024xf32>
    %97 = stablehlo.convert %96 : (tensor<1x2048x1024xf32>) -> tensor<1x2048x1024xbf16>
    return %97 : tensor<1x2048x1024xbf16>
  }
  func.func private @_take(%arg0: tensor<250880x1024xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x1024xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 1024>}> : (tensor<250880x1024xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x1024xbf16>
    return %1 : tensor<1x2048x1024xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<16xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<16xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x2048x1xi32>, %arg1: tensor<1x2048x16x1x64xbf16>, %arg2: tensor<1x2048x16x64xbf16>, %arg3: tensor<16xf32>, %arg4: tensor<1x1x1x1x2048xi32>, %arg5: tensor<1x2048x16x64xbf16>, %arg6: tensor<i32>) -> (tensor<1x128x16x1x64xbf16>, tensor<1x128x16x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg6, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<2048> : tensor<i32>
    %1 = stablehlo.add %arg6, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg6 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 128, 1] : (tensor<1x1x1x2048x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x128x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg6, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<2048> : tensor<i32>
    %5 = stablehlo.add %arg6, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg6 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 128, 16, 1, 64] : (tensor<1x2048x16x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x128x16x1x64xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x16x64xbf16>, tensor<1x128x16x1x64xbf16>) -> tensor<1x16x2048x128x1xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x16x2048x128x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x16x1x128x2048xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<16xi32>
    %15 = stablehlo.reshape %14 : (tensor<16xi32>) -> tensor<1x16x1x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x16x1x128x2048xf32>, tensor<1x16x1x128x2048xf32>) -> tensor<1x16x1x128x2048xi1>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %18 = call @_where(%17, %11, %cst_12) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %19 = call @_take_0(%arg3, %15) : (tensor<16xf32>, tensor<1x16x1x1x1xi32>) -> tensor<1x16x1x1x1xf32>
    %20 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x1xi32>) -> tensor<1x1x1x128x2048xi32>
    %21 = stablehlo.broadcast_in_dim %arg4, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x2048xi32>) -> tensor<1x1x1x128x2048xi32>
    %22 = stablehlo.subtract %20, %21 : tensor<1x1x1x128x2048xi32>
    %23 = stablehlo.abs %22 : tensor<1x1x1x128x2048xi32>
    %24 = stablehlo.convert %23 : (tensor<1x1x1x128x2048xi32>) -> tensor<1x1x1x128x2048xf32>
    %25 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x1x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %26 = stablehlo.broadcast_in_dim %24, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x2048xf32>) -> tensor<1x16x1x128x2048xf32>
    %27 = stablehlo.multiply %25, %26 : tensor<1x16x1x128x2048xf32>
    %28 = stablehlo.subtract %18, %27 : tensor<1x16x1x128x2048xf32>
    %29 = stablehlo.broadcast_in_dim %arg4, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x2048xi32>) -> tensor<1x1x1x128x2048xi32>
    %30 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x1xi32>) -> tensor<1x1x1x128x2048xi32>
    %31 = stablehlo.compare LE, %29, %30, SIGNED : (tensor<1x1x1x128x2048xi32>, tensor<1x1x1x128x2048xi32>) -> tensor<1x1x1x128x2048xi1>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x128x2048xi1>) -> tensor<1x16x1x128x2048xi1>
    %33 = stablehlo.and %17, %32 : tensor<1x16x1x128x2048xi1>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %34 = call @_where_1(%33, %28, %cst_13) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %35 = stablehlo.reduce(%34 init: %cst_14) applies stablehlo.maximum across dimensions = [4] : (tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %36 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x16x1x128xf32>
    %37 = stablehlo.maximum %36, %35 : tensor<1x16x1x128xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1, 2, 3] : (tensor<1x16x1x128xf32>) -> tensor<1x16x1x128x1xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %39 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %40 = stablehlo.compare EQ, %38, %39, FLOAT : (tensor<1x16x1x128x1xf32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xi1>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %41 = call @_where_2(%40, %cst_17, %38) : (tensor<1x16x1x128x1xi1>, tensor<f32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %43 = stablehlo.subtract %28, %42 : tensor<1x16x1x128x2048xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %44 = call @_where(%33, %43, %cst_18) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %45 = stablehlo.exponential %44 : tensor<1x16x1x128x2048xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %46 = call @_where(%33, %45, %cst_19) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %47 = stablehlo.reduce(%46 init: %cst_20) applies stablehlo.add across dimensions = [4] : (tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128xf32>
    %48 = stablehlo.broadcast_in_dim %47, dims = [0, 1, 2, 3] : (tensor<1x16x1x128xf32>) -> tensor<1x16x1x128x1xf32>
    %cst_21 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %49 = stablehlo.broadcast_in_dim %cst_21, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %50 = stablehlo.compare GT, %48, %49, FLOAT : (tensor<1x16x1x128x1xf32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xi1>
    %cst_22 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %51 = call @_where_3(%50, %48, %cst_22) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %52 = stablehlo.convert %46 : (tensor<1x16x1x128x2048xf32>) -> tensor<1x16x1x128x2048xbf16>
    %53 = stablehlo.dot_general %52, %arg5, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x16x1x128x2048xbf16>, tensor<1x2048x16x64xbf16>) -> tensor<1x16x1x128x64xf32>
    %54 = stablehlo.broadcast_in_dim %51, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x64xf32>
    %55 = stablehlo.divide %53, %54 : tensor<1x16x1x128x64xf32>
    %56 = stablehlo.log %51 : tensor<1x16x1x128x1xf32>
    %57 = stablehlo.add %41, %56 : tensor<1x16x1x128x1xf32>
    %cst_23 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %58 = call @_where_3(%50, %57, %cst_23) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %59 = stablehlo.reshape %58 : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128xf32>
    %60 = stablehlo.convert %55 : (tensor<1x16x1x128x64xf32>) -> tensor<1x16x1x128x64xbf16>
    %61 = stablehlo.transpose %60, dims = [0, 3, 1, 2, 4] : (tensor<1x16x1x128x64xbf16>) -> tensor<1x128x16x1x64xbf16>
    %62 = stablehlo.transpose %59, dims = [0, 3, 1, 2] : (tensor<1x16x1x128xf32>) -> tensor<1x128x16x1xf32>
    return %61, %62 : tensor<1x128x16x1x64xbf16>, tensor<1x128x16x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %2 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_take_0(%arg0: tensor<16xf32>, %arg1: tensor<1x16x1x1x1xi32>) -> tensor<1x16x1x1x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x1x1xi32>) -> tensor<1x16x1x1x1x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 5>, indices_are_sorted = false, slice_sizes = array<i64: 1>}> : (tensor<16xf32>, tensor<1x16x1x1x1x1xi32>) -> tensor<1x16x1x1x1xf32>
    return %1 : tensor<1x16x1x1x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %1 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>
    return %2 : tensor<1x16x1x128x1xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<1x16x1x128x1xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>
    return %2 : tensor<1x16x1x128x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<16x1x128x16x1x64xbf16>, %arg1: tensor<1x128x16x1x64xbf16>, %arg2: tensor<i32>) -> tensor<16x1x128x16x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x128x16x1x64xbf16>) -> tensor<1x1x128x16x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<16x1x128x16x1x64xbf16>, tensor<1x1x128x16x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<16x1x128x16x1x64xbf16>
    return %1 : tensor<16x1x128x16x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_4(%arg0: tensor<16x1x128x16x1xf32>, %arg1: tensor<1x128x16x1xf32>, %arg2: tensor<i32>) -> tensor<16x1x128x16x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x128x16x1xf32>) -> tensor<1x1x128x16x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<16x1x128x16x1xf32>, tensor<1x1x128x16x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<16x1x128x16x1xf32>
    return %1 : tensor<16x1x128x16x1xf32>
  }
}
