module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x8192xi32>, %arg1: tensor<256000x3584xbf16>, %arg2: tensor<3584xbf16>, %arg3: tensor<4096x3584xbf16>, %arg4: tensor<3584x8192xbf16>, %arg5: tensor<8192x256xf32>) -> (tensor<1x8192x3584xbf16> {jax.result_info = "result[0]"}) {
    %0 = call @_take(%arg1, %arg0) : (tensor<256000x3584xbf16>, tensor<1x8192xi32>) -> tensor<1x8192x3584xbf16>
    %1 = stablehlo.convert %0 : (tensor<1x8192x3584xbf16>) -> tensor<1x8192x3584xf32>
    %cst = stablehlo.constant dense<5.975000e+01> : tensor<f32>
    %2 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8192x3584xf32>
    %3 = stablehlo.multiply %1, %2 : tensor<1x8192x3584xf32>
    %4 = stablehlo.convert %3 : (tensor<1x8192x3584xf32>) -> tensor<1x8192x3584xbf16>
    %5 = stablehlo.convert %4 : (tensor<1x8192x3584xbf16>) -> tensor<1x8192x3584xf32>
    %6 = chlo.square %5 : tensor<1x8192x3584xf32> -> tensor<1x8192x3584xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %7 = stablehlo.reduce(%6 init: %cst_0) applies stablehlo.add across dimensions = [2] : (tensor<1x8192x3584xf32>, tensor<f32>) -> tensor<1x8192xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0, 1] : (tensor<1x8192xf32>) -> tensor<1x8192x1xf32>
    %cst_1 = stablehlo.constant dense<3.584000e+03> : tensor<f32>
    %9 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<1x8192x1xf32>
    %10 = stablehlo.divide %8, %9 : tensor<1x8192x1xf32>
    %cst_2 = stablehlo.constant dense<9.99999997E-7> : tensor<f32>
    %11 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x8192x1xf32>
    %12 = stablehlo.add %10, %11 : tensor<1x8192x1xf32>
    %13 = stablehlo.rsqrt %12 : tensor<1x8192x1xf32>
    %14 = stablehlo.broadcast_in_dim %13, dims = [0, 1, 2] : (tensor<1x8192x1xf32>) -> tensor<1x8192x3584xf32>
    %15 = stablehlo.multiply %5, %14 : tensor<1x8192x3584xf32>
    %16 = stablehlo.convert %arg2 : (tensor<3584xbf16>) -> tensor<3584xf32>
    %cst_3 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %17 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<3584xf32>
    %18 = stablehlo.add %16, %17 : tensor<3584xf32>
    %19 = stablehlo.broadcast_in_dim %18, dims = [2] : (tensor<3584xf32>) -> tensor<1x1x3584xf32>
    %20 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2] : (tensor<1x1x3584xf32>) -> tensor<1x8192x3584xf32>
    %21 = stablehlo.multiply %15, %20 : tensor<1x8192x3584xf32>
    %22 = stablehlo.convert %21 : (tensor<1x8192x3584xf32>) -> tensor<1x8192x3584xbf16>
    %23 = stablehlo.dot_general %22, %arg4, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x8192x3584xbf16>, tensor<3584x8192xbf16>) -> tensor<1x8192x8192xf32>
    %24 = stablehlo.convert %23 : (tensor<1x8192x8192xf32>) -> tensor<1x8192x8192xbf16>
    %25 = stablehlo.slice %24 [0:1, 0:8192, 0:4096] : (tensor<1x8192x8192xbf16>) -> tensor<1x8192x4096xbf16>
    %26 = stablehlo.reshape %25 : (tensor<1x8192x4096xbf16>) -> tensor<1x8192x16x256xbf16>
    %27 = stablehlo.broadcast_in_dim %arg5, dims = [0, 2] : (tensor<8192x256xf32>) -> tensor<8192x1x256xf32>
    %28 = stablehlo.slice %27 [0:8192, 0:1, 0:128] : (tensor<8192x1x256xf32>) -> tensor<8192x1x128xf32>
    %29 = stablehlo.slice %27 [0:8192, 0:1, 128:256] : (tensor<8192x1x256xf32>) -> tensor<8192x1x128xf32>
    %30 = stablehlo.slice %26 [0:1, 0:8192, 0:16, 0:128] : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x16x128xbf16>
    %31 = stablehlo.convert %30 : (tensor<1x8192x16x128xbf16>) -> tensor<1x8192x16x128xf32>
    %32 = stablehlo.slice %26 [0:1, 0:8192, 0:16, 128:256] : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x16x128xbf16>
    %33 = stablehlo.convert %32 : (tensor<1x8192x16x128xbf16>) -> tensor<1x8192x16x128xf32>
    %34 = stablehlo.broadcast_in_dim %28, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %35 = stablehlo.broadcast_in_dim %34, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x16x128xf32>
    %36 = stablehlo.multiply %31, %35 : tensor<1x8192x16x128xf32>
    %37 = stablehlo.broadcast_in_dim %29, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %38 = stablehlo.broadcast_in_dim %37, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x16x128xf32>
    %39 = stablehlo.multiply %33, %38 : tensor<1x8192x16x128xf32>
    %40 = stablehlo.subtract %36, %39 : tensor<1x8192x16x128xf32>
    %41 = stablehlo.broadcast_in_dim %28, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x16x128xf32>
    %43 = stablehlo.multiply %33, %42 : tensor<1x8192x16x128xf32>
    %44 = stablehlo.broadcast_in_dim %29, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %45 = stablehlo.broadcast_in_dim %44, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x16x128xf32>
    %46 = stablehlo.multiply %31, %45 : tensor<1x8192x16x128xf32>
    %47 = stablehlo.add %43, %46 : tensor<1x8192x16x128xf32>
    %48 = stablehlo.convert %40 : (tensor<1x8192x16x128xf32>) -> tensor<1x8192x16x128xbf16>
    %49 = stablehlo.convert %47 : (tensor<1x8192x16x128xf32>) -> tensor<1x8192x16x128xbf16>
    %50 = stablehlo.slice %26 [0:1, 0:8192, 0:16, 256:256] : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x16x0xbf16>
    %51 = stablehlo.concatenate %48, %49, %50, dim = 3 : (tensor<1x8192x16x128xbf16>, tensor<1x8192x16x128xbf16>, tensor<1x8192x16x0xbf16>) -> tensor<1x8192x16x256xbf16>
    %52 = stablehlo.slice %24 [0:1, 0:8192, 4096:6144] : (tensor<1x8192x8192xbf16>) -> tensor<1x8192x2048xbf16>
    %53 = stablehlo.reshape %52 : (tensor<1x8192x2048xbf16>) -> tensor<1x8192x8x256xbf16>
    %54 = stablehlo.broadcast_in_dim %arg5, dims = [0, 2] : (tensor<8192x256xf32>) -> tensor<8192x1x256xf32>
    %55 = stablehlo.slice %54 [0:8192, 0:1, 0:128] : (tensor<8192x1x256xf32>) -> tensor<8192x1x128xf32>
    %56 = stablehlo.slice %54 [0:8192, 0:1, 128:256] : (tensor<8192x1x256xf32>) -> tensor<8192x1x128xf32>
    %57 = stablehlo.slice %53 [0:1, 0:8192, 0:8, 0:128] : (tensor<1x8192x8x256xbf16>) -> tensor<1x8192x8x128xbf16>
    %58 = stablehlo.convert %57 : (tensor<1x8192x8x128xbf16>) -> tensor<1x8192x8x128xf32>
    %59 = stablehlo.slice %53 [0:1, 0:8192, 0:8, 128:256] : (tensor<1x8192x8x256xbf16>) -> tensor<1x8192x8x128xbf16>
    %60 = stablehlo.convert %59 : (tensor<1x8192x8x128xbf16>) -> tensor<1x8192x8x128xf32>
    %61 = stablehlo.broadcast_in_dim %55, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %62 = stablehlo.broadcast_in_dim %61, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x8x128xf32>
    %63 = stablehlo.multiply %58, %62 : tensor<1x8192x8x128xf32>
    %64 = stablehlo.broadcast_in_dim %56, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %65 = stablehlo.broadcast_in_dim %64, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x8x128xf32>
    %66 = stablehlo.multiply %60, %65 : tensor<1x8192x8x128xf32>
    %67 = stablehlo.subtract %63, %66 : tensor<1x8192x8x128xf32>
    %68 = stablehlo.broadcast_in_dim %55, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %69 = stablehlo.broadcast_in_dim %68, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x8x128xf32>
    %70 = stablehlo.multiply %60, %69 : tensor<1x8192x8x128xf32>
    %71 = stablehlo.broadcast_in_dim %56, dims = [1, 2, 3] : (tensor<8192x1x128xf32>) -> tensor<1x8192x1x128xf32>
    %72 = stablehlo.broadcast_in_dim %71, dims = [0, 1, 2, 3] : (tensor<1x8192x1x128xf32>) -> tensor<1x8192x8x128xf32>
    %73 = stablehlo.multiply %58, %72 : tensor<1x8192x8x128xf32>
    %74 = stablehlo.add %70, %73 : tensor<1x8192x8x128xf32>
    %75 = stablehlo.convert %67 : (tensor<1x8192x8x128xf32>) -> tensor<1x8192x8x128xbf16>
    %76 = stablehlo.convert %74 : (tensor<1x8192x8x128xf32>) -> tensor<1x8192x8x128xbf16>
    %77 = stablehlo.slice %53 [0:1, 0:8192, 0:8, 256:256] : (tensor<1x8192x8x256xbf16>) -> tensor<1x8192x8x0xbf16>
    %78 = stablehlo.concatenate %75, %76, %77, dim = 3 : (tensor<1x8192x8x128xbf16>, tensor<1x8192x8x128xbf16>, tensor<1x8192x8x0xbf16>) -> tensor<1x8192x8x256xbf16>
    %79 = stablehlo.slice %24 [0:1, 0:8192, 6144:8192] : (tensor<1x8192x8192xbf16>) -> tensor<1x8192x2048xbf16>
    %80 = stablehlo.reshape %79 : (tensor<1x8192x2048xbf16>) -> tensor<1x8192x8x256xbf16>
    %81 = stablehlo.iota dim = 0 : tensor<8192xi32>
    %82 = stablehlo.reshape %51 : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x8x2x256xbf16>
    %83 = stablehlo.broadcast_in_dim %81, dims = [1] : (tensor<8192xi32>) -> tensor<1x8192xi32>
    %84 = stablehlo.reshape %83 : (tensor<1x8192xi32>) -> tensor<1x1x1x8192xi32>
    %85 = stablehlo.broadcast_in_dim %84, dims = [0, 1, 2, 3] : (tensor<1x1x1x8192xi32>) -> tensor<1x1x1x8192x1xi32>
    %86 = stablehlo.broadcast_in_dim %81, dims = [1] : (tensor<8192xi32>) -> tensor<1x8192xi32>
    %87 = stablehlo.reshape %86 : (tensor<1x8192xi32>) -> tensor<1x1x1x8192xi32>
    %88 = stablehlo.broadcast_in_dim %87, dims = [0, 1, 2, 4] : (tensor<1x1x1x8192xi32>) -> tensor<1x1x1x1x8192xi32>
    %89 = stablehlo.iota dim = 0 : tensor<256xi32>
    %c = stablehlo.constant dense<32> : tensor<i32>
    %90 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<256xi32>
    %91 = stablehlo.multiply %90, %89 : tensor<256xi32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %92 = stablehlo.broadcast_in_dim %c_4, dims = [] : (tensor<i32>) -> tensor<256xi32>
    %93 = stablehlo.add %92, %91 : tensor<256xi32>
    %cst_5 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %94 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<bf16>) -> tensor<256x1x32x8x2x256xbf16>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %95 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<256x1x32x8x2xf32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %96:9 = stablehlo.while(%iterArg = %93, %iterArg_8 = %85, %iterArg_9 = %82, %iterArg_10 = %78, %iterArg_11 = %88, %iterArg_12 = %80, %iterArg_13 = %c_7, %iterArg_14 = %94, %iterArg_15 = %95) : tensor<256xi32>, tensor<1x1x1x8192x1xi32>, tensor<1x8192x8x2x256xbf16>, tensor<1x8192x8x256xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x8192x8x256xbf16>, tensor<i32>, tensor<256x1x32x8x2x256xbf16>, tensor<256x1x32x8x2xf32>
    cond {
      %c_16 = stablehlo.constant dense<256> : tensor<i32>
      %106 = stablehlo.compare LT, %iterArg_13, %c_16, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %106 : tensor<i1>
    } do {
      %106 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_13) : (tensor<256xi32>, tensor<i32>) -> tensor<i32>
      %107:2 = func.call @closed_call(%iterArg_8, %iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %106) : (tensor<1x1x1x8192x1xi32>, tensor<1x8192x8x2x256xbf16>, tensor<1x8192x8x256xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x8192x8x256xbf16>, tensor<i32>) -> (tensor<1x32x8x2x256xbf16>, tensor<1x32x8x2xf32>)
      %108 = func.call @dynamic_update_index_in_dim(%iterArg_14, %107#0, %iterArg_13) : (tensor<256x1x32x8x2x256xbf16>, tensor<1x32x8x2x256xbf16>, tensor<i32>) -> tensor<256x1x32x8x2x256xbf16>
      %109 = func.call @dynamic_update_index_in_dim_3(%iterArg_15, %107#1, %iterArg_13) : (tensor<256x1x32x8x2xf32>, tensor<1x32x8x2xf32>, tensor<i32>) -> tensor<256x1x32x8x2xf32>
      %c_16 = stablehlo.constant dense<1> : tensor<i32>
      %110 = stablehlo.add %iterArg_13, %c_16 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_8, %iterArg_9, %iterArg_10, %iterArg_11, %iterArg_12, %110, %108, %109 : tensor<256xi32>, tensor<1x1x1x8192x1xi32>, tensor<1x8192x8x2x256xbf16>, tensor<1x8192x8x256xbf16>, tensor<1x1x1x1x8192xi32>, tensor<1x8192x8x256xbf16>, tensor<i32>, tensor<256x1x32x8x2x256xbf16>, tensor<256x1x32x8x2xf32>
    }
    %97 = stablehlo.transpose %96#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<256x1x32x8x2x256xbf16>) -> tensor<1x256x32x8x2x256xbf16>
    %98 = stablehlo.reshape %97 : (tensor<1x256x32x8x2x256xbf16>) -> tensor<1x8192x8x2x256xbf16>
    %99 = stablehlo.transpose %96#8, dims = [1, 0, 2, 3, 4] : (tensor<256x1x32x8x2xf32>) -> tensor<1x256x32x8x2xf32>
    %100 = stablehlo.reshape %99 : (tensor<1x256x32x8x2xf32>) -> tensor<1x8192x8x2xf32>
    %101 = stablehlo.reshape %98 : (tensor<1x8192x8x2x256xbf16>) -> tensor<1x8192x16x256xbf16>
    %102 = stablehlo.reshape %100 : (tensor<1x8192x8x2xf32>) -> tensor<1x8192x16xf32>
    %103 = stablehlo.reshape %101 : (tensor<1x8192x16x256xbf16>) -> tensor<1x8192x4096xbf16>
    %104 = stablehlo.dot_general %103, %arg3, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x8192x4096xbf16>, tensor<4096x3584xbf16>) -> tensor<1x8192x3584xf32>
    %105 = stablehlo.convert %104 : (tensor<1x8192x3584xf32>) -> tensor<1x8192x3584xbf16>
    return %105 : tensor<1x8192x3584xbf16>
  }
  func.func private @_take(%arg0: tensor<256000x3584xbf16>, %arg1: tensor<1x8192xi32>) -> tensor<1x8192x3584xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x8192xi32>) -> tensor<1x8192x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 3584>}> : (tensor<256000x3584xbf16>, tensor<1x8192x1xi32>) -> tensor<1x8192x3584xbf16>
    return %1 : tensor<1x8192x3584xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<256xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<256xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x8192x1xi32>, %arg1: tensor<1x8192x8x2x256xbf16>, %arg2: tensor<1x8192x8x256xbf16>, %arg3: tensor<1x1x1x1x8192xi32>, %arg4: tensor<1x8192x8x256xbf16>, %arg5: tensor<i32>) -> (tensor<1x32x8x2x256xbf16>, tensor<1x32x8x2xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<8192> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 32, 1] : (tensor<1x1x1x8192x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x32x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<8192> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 32, 8, 2, 256] : (tensor<1x8192x8x2x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x32x8x2x256xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x8192x8x256xbf16>, tensor<1x32x8x2x256xbf16>) -> tensor<1x8x8192x32x2xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x8x8192x32x2xf32>) -> tensor<1x8x2x32x8192xf32>
    %cst = stablehlo.constant dense<6.250000e-02> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x8x2x32x8192xf32>
    %cst_11 = stablehlo.constant dense<5.000000e+01> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %13 = stablehlo.divide %11, %12 : tensor<1x8x2x32x8192xf32>
    %14 = stablehlo.tanh %13 : tensor<1x8x2x32x8192xf32>
    %cst_12 = stablehlo.constant dense<5.000000e+01> : tensor<f32>
    %15 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %16 = stablehlo.multiply %15, %14 : tensor<1x8x2x32x8192xf32>
    %17 = stablehlo.iota dim = 0 : tensor<1xi32>
    %18 = stablehlo.reshape %17 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %19 = stablehlo.iota dim = 0 : tensor<16xi32>
    %20 = stablehlo.reshape %19 : (tensor<16xi32>) -> tensor<1x8x2x1x1xi32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %21 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %22 = stablehlo.compare NE, %16, %21, FLOAT : (tensor<1x8x2x32x8192xf32>, tensor<1x8x2x32x8192xf32>) -> tensor<1x8x2x32x8192xi1>
    %23 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x8192xi32>) -> tensor<1x1x1x32x8192xi32>
    %24 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x32x1xi32>) -> tensor<1x1x1x32x8192xi32>
    %25 = stablehlo.compare LE, %23, %24, SIGNED : (tensor<1x1x1x32x8192xi32>, tensor<1x1x1x32x8192xi32>) -> tensor<1x1x1x32x8192xi1>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x32x8192xi1>) -> tensor<1x8x2x32x8192xi1>
    %27 = stablehlo.and %22, %26 : tensor<1x8x2x32x8192xi1>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = call @_where(%27, %16, %cst_14) : (tensor<1x8x2x32x8192xi1>, tensor<1x8x2x32x8192xf32>, tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %29 = stablehlo.reduce(%28 init: %cst_15) applies stablehlo.maximum across dimensions = [4] : (tensor<1x8x2x32x8192xf32>, tensor<f32>) -> tensor<1x8x2x32xf32>
    %cst_16 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %30 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<1x8x2x32xf32>
    %31 = stablehlo.maximum %30, %29 : tensor<1x8x2x32xf32>
    %32 = stablehlo.broadcast_in_dim %31, dims = [0, 1, 2, 3] : (tensor<1x8x2x32xf32>) -> tensor<1x8x2x32x1xf32>
    %cst_17 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %33 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %34 = stablehlo.compare EQ, %32, %33, FLOAT : (tensor<1x8x2x32x1xf32>, tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x1xi1>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_0(%34, %cst_18, %32) : (tensor<1x8x2x32x1xi1>, tensor<f32>, tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x1xf32>
    %36 = stablehlo.broadcast_in_dim %35, dims = [0, 1, 2, 3, 4] : (tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x8192xf32>
    %37 = stablehlo.subtract %16, %36 : tensor<1x8x2x32x8192xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = call @_where_1(%27, %37, %cst_19) : (tensor<1x8x2x32x8192xi1>, tensor<1x8x2x32x8192xf32>, tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %39 = stablehlo.exponential %38 : tensor<1x8x2x32x8192xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %40 = call @_where_1(%27, %39, %cst_20) : (tensor<1x8x2x32x8192xi1>, tensor<1x8x2x32x8192xf32>, tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %cst_21 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %41 = stablehlo.reduce(%40 init: %cst_21) applies stablehlo.add across dimensions = [4] : (tensor<1x8x2x32x8192xf32>, tensor<f32>) -> tensor<1x8x2x32xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3] : (tensor<1x8x2x32xf32>) -> tensor<1x8x2x32x1xf32>
    %cst_22 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %43 = stablehlo.broadcast_in_dim %cst_22, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %44 = stablehlo.compare GT, %42, %43, FLOAT : (tensor<1x8x2x32x1xf32>, tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x1xi1>
    %cst_23 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %45 = call @_where_2(%44, %42, %cst_23) : (tensor<1x8x2x32x1xi1>, tensor<1x8x2x32x1xf32>, tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %46 = stablehlo.convert %40 : (tensor<1x8x2x32x8192xf32>) -> tensor<1x8x2x32x8192xbf16>
    %47 = stablehlo.dot_general %46, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x8x2x32x8192xbf16>, tensor<1x8192x8x256xbf16>) -> tensor<1x8x2x32x256xf32>
    %48 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2, 3, 4] : (tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x256xf32>
    %49 = stablehlo.divide %47, %48 : tensor<1x8x2x32x256xf32>
    %50 = stablehlo.log %45 : tensor<1x8x2x32x1xf32>
    %51 = stablehlo.add %35, %50 : tensor<1x8x2x32x1xf32>
    %cst_24 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %52 = call @_where_2(%44, %51, %cst_24) : (tensor<1x8x2x32x1xi1>, tensor<1x8x2x32x1xf32>, tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %53 = stablehlo.reshape %52 : (tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32xf32>
    %54 = stablehlo.convert %49 : (tensor<1x8x2x32x256xf32>) -> tensor<1x8x2x32x256xbf16>
    %55 = stablehlo.transpose %54, dims = [0, 3, 1, 2, 4] : (tensor<1x8x2x32x256xbf16>) -> tensor<1x32x8x2x256xbf16>
    %56 = stablehlo.transpose %53, dims = [0, 3, 1, 2] : (tensor<1x8x2x32xf32>) -> tensor<1x32x8x2xf32>
    return %55, %56 : tensor<1x32x8x2x256xbf16>, tensor<1x32x8x2xf32>
  }
  func.func private @_where(%arg0: tensor<1x8x2x32x8192xi1>, %arg1: tensor<1x8x2x32x8192xf32>, %arg2: tensor<f32>) -> tensor<1x8x2x32x8192xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x8x2x32x8192xi1>, tensor<1x8x2x32x8192xf32>
    return %1 : tensor<1x8x2x32x8192xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x8x2x32x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x8x2x32x1xf32>) -> tensor<1x8x2x32x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x8x2x32x1xi1>, tensor<1x8x2x32x1xf32>
    return %2 : tensor<1x8x2x32x1xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x8x2x32x8192xi1>, %arg1: tensor<1x8x2x32x8192xf32>, %arg2: tensor<f32>) -> tensor<1x8x2x32x8192xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x8192xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x2x32x8192xi1>, tensor<1x8x2x32x8192xf32>
    return %2 : tensor<1x8x2x32x8192xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x8x2x32x1xi1>, %arg1: tensor<1x8x2x32x1xf32>, %arg2: tensor<f32>) -> tensor<1x8x2x32x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x8x2x32x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x8x2x32x1xi1>, tensor<1x8x2x32x1xf32>
    return %2 : tensor<1x8x2x32x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<256x1x32x8x2x256xbf16>, %arg1: tensor<1x32x8x2x256xbf16>, %arg2: tensor<i32>) -> tensor<256x1x32x8x2x256xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x32x8x2x256xbf16>) -> tensor<1x1x32x8x2x256xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<256x1x32x8x2x256xbf16>, tensor<1x1x32x8x2x256xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<256x1x32x8x2x256xbf16>
    return %1 : tensor<256x1x32x8x2x256xbf16>
  }
  func.func private @dynamic_update_index_in_dim_3(%arg0: tensor<256x1x32x8x2xf32>, %arg1: tensor<1x32x8x2xf32>, %arg2: tensor<i32>) -> tensor<256x1x32x8x2xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x32x8x2xf32>) -> tensor<1x1x32x8x2xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<256x1x32x8x2xf32>, tensor<1x1x32x8x2xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<256x1x32x8x2xf32>
    return %1 : tensor<256x1x32x8x2xf32>
  }
}
