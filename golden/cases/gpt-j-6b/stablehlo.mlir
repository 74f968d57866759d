module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x2048xi32>, %arg1: tensor<50400x4096xbf16>, %arg2: tensor<4096xbf16>, %arg3: tensor<4096xbf16>, %arg4: tensor<4096x4096xbf16>, %arg5: tensor<4096x12288xbf16>) -> (tensor<1x2048x4096xbf16> {jax.result_info = "result[0]"}) {
    %cst = stablehlo.constant dense_resource<__elided__> : tensor<2048x64xf32>
    %c = stablehlo.constant dense_resource<__elided__> : tensor<256xi1>
    %c_0 = stablehlo.constant dense_resource<__elided__> : tensor<256xi1>
    %0 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %1 = call @_take(%arg1, %arg0) : (tensor<50400x4096xbf16>, tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16>
    %2 = stablehlo.convert %1 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x4096xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.reduce(%2 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %4 = stablehlo.broadcast_in_dim %3, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_2 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %6 = stablehlo.divide %4, %5 : tensor<1x2048x1xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x4096xf32>
    %8 = stablehlo.subtract %2, %7 : tensor<1x2048x4096xf32>
    %9 = chlo.square %8 : tensor<1x2048x4096xf32> -> tensor<1x2048x4096xf32>
    %cst_3 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %10 = stablehlo.reduce(%9 init: %cst_3) applies stablehlo.add across dimensions = [2] : (tensor<1x2048x4096xf32>, tensor<f32>) -> tensor<1x2048xf32>
    %11 = stablehlo.broadcast_in_dim %10, dims = [0, 1] : (tensor<1x2048xf32>) -> tensor<1x2048x1xf32>
    %cst_4 = stablehlo.constant dense<4.096000e+03> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %13 = stablehlo.divide %11, %12 : tensor<1x2048x1xf32>
    %cst_5 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %14 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<1x2048x1xf32>
    %15 = stablehlo.add %13, %14 : tensor<1x2048x1xf32>
    %16 = stablehlo.rsqrt %15 : tensor<1x2048x1xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1, 2] : (tensor<1x2048x1xf32>) -> tensor<1x2048x4096xf32>
    %18 = stablehlo.multiply %8, %17 : tensor<1x2048x4096xf32>
    %19 = stablehlo.convert %arg2 : (tensor<4096xbf16>) -> tensor<4096xf32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %20 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<4096xf32>
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
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %34 = "stablehlo.case"(%c_7) ({
      %c_14 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_14 : tensor<i32>
    }, {
      %c_14 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_14 : tensor<i32>
    }) : (tensor<i32>) -> tensor<i32>
    %35 = "stablehlo.case"(%34) ({
      %67 = stablehlo.slice %33 [0:1, 0:2048, 0:16, 0:64] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x64xbf16>
      %68 = stablehlo.reshape %67 : (tensor<1x2048x16x64xbf16>) -> tensor<1x2048x16x2x32xbf16>
      %69 = stablehlo.slice %68 [0:1, 0:2048, 0:16, 0:1, 0:32] : (tensor<1x2048x16x2x32xbf16>) -> tensor<1x2048x16x1x32xbf16>
      %70 = stablehlo.reshape %69 : (tensor<1x2048x16x1x32xbf16>) -> tensor<1x2048x16x32xbf16>
      %71 = stablehlo.convert %70 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
      %72 = stablehlo.slice %68 [0:1, 0:2048, 0:16, 1:2, 0:32] : (tensor<1x2048x16x2x32xbf16>) -> tensor<1x2048x16x1x32xbf16>
      %73 = stablehlo.reshape %72 : (tensor<1x2048x16x1x32xbf16>) -> tensor<1x2048x16x32xbf16>
      %74 = stablehlo.convert %73 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
      %75 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
      %76 = stablehlo.slice %75 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
      %77 = stablehlo.slice %75 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
      %78 = stablehlo.broadcast_in_dim %76, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %79 = stablehlo.broadcast_in_dim %78, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %80 = stablehlo.multiply %71, %79 : tensor<1x2048x16x32xf32>
      %81 = stablehlo.broadcast_in_dim %77, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %82 = stablehlo.broadcast_in_dim %81, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %83 = stablehlo.multiply %74, %82 : tensor<1x2048x16x32xf32>
      %84 = stablehlo.subtract %80, %83 : tensor<1x2048x16x32xf32>
      %85 = stablehlo.broadcast_in_dim %76, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %86 = stablehlo.broadcast_in_dim %85, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %87 = stablehlo.multiply %74, %86 : tensor<1x2048x16x32xf32>
      %88 = stablehlo.broadcast_in_dim %77, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %89 = stablehlo.broadcast_in_dim %88, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %90 = stablehlo.multiply %71, %89 : tensor<1x2048x16x32xf32>
      %91 = stablehlo.add %87, %90 : tensor<1x2048x16x32xf32>
      %92 = stablehlo.broadcast_in_dim %84, dims = [0, 1, 2, 4] : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x1x32xf32>
      %93 = stablehlo.broadcast_in_dim %91, dims = [0, 1, 2, 4] : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x1x32xf32>
      %94 = stablehlo.concatenate %92, %93, dim = 3 : (tensor<1x2048x16x1x32xf32>, tensor<1x2048x16x1x32xf32>) -> tensor<1x2048x16x2x32xf32>
      %95 = stablehlo.reshape %94 : (tensor<1x2048x16x2x32xf32>) -> tensor<1x2048x16x64xf32>
      %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
      %96 = stablehlo.pad %95, %cst_14, low = [0, 0, 0, 0], high = [0, 0, 0, 192], interior = [0, 0, 0, 0] : (tensor<1x2048x16x64xf32>, tensor<f32>) -> tensor<1x2048x16x256xf32>
      %97 = stablehlo.convert %33 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x256xf32>
      %98 = func.call @_where(%c, %96, %97) : (tensor<256xi1>, tensor<1x2048x16x256xf32>, tensor<1x2048x16x256xf32>) -> tensor<1x2048x16x256xf32>
      %99 = stablehlo.convert %98 : (tensor<1x2048x16x256xf32>) -> tensor<1x2048x16x256xbf16>
      stablehlo.return %99 : tensor<1x2048x16x256xbf16>
    }) : (tensor<i32>) -> tensor<1x2048x16x256xbf16>
    %36 = stablehlo.slice %31 [0:1, 0:2048, 4096:8192] : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x4096xbf16>
    %37 = stablehlo.reshape %36 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %38 = "stablehlo.case"(%c_8) ({
      %c_14 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_14 : tensor<i32>
    }, {
      %c_14 = stablehlo.constant dense<0> : tensor<i32>
      stablehlo.return %c_14 : tensor<i32>
    }) : (tensor<i32>) -> tensor<i32>
    %39 = "stablehlo.case"(%38) ({
      %67 = stablehlo.slice %37 [0:1, 0:2048, 0:16, 0:64] : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x64xbf16>
      %68 = stablehlo.reshape %67 : (tensor<1x2048x16x64xbf16>) -> tensor<1x2048x16x2x32xbf16>
      %69 = stablehlo.slice %68 [0:1, 0:2048, 0:16, 0:1, 0:32] : (tensor<1x2048x16x2x32xbf16>) -> tensor<1x2048x16x1x32xbf16>
      %70 = stablehlo.reshape %69 : (tensor<1x2048x16x1x32xbf16>) -> tensor<1x2048x16x32xbf16>
      %71 = stablehlo.convert %70 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
      %72 = stablehlo.slice %68 [0:1, 0:2048, 0:16, 1:2, 0:32] : (tensor<1x2048x16x2x32xbf16>) -> tensor<1x2048x16x1x32xbf16>
      %73 = stablehlo.reshape %72 : (tensor<1x2048x16x1x32xbf16>) -> tensor<1x2048x16x32xbf16>
      %74 = stablehlo.convert %73 : (tensor<1x2048x16x32xbf16>) -> tensor<1x2048x16x32xf32>
      %75 = stablehlo.broadcast_in_dim %cst, dims = [0, 2] : (tensor<2048x64xf32>) -> tensor<2048x1x64xf32>
      %76 = stablehlo.slice %75 [0:2048, 0:1, 0:32] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
      %77 = stablehlo.slice %75 [0:2048, 0:1, 32:64] : (tensor<2048x1x64xf32>) -> tensor<2048x1x32xf32>
      %78 = stablehlo.broadcast_in_dim %76, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %79 = stablehlo.broadcast_in_dim %78, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %80 = stablehlo.multiply %71, %79 : tensor<1x2048x16x32xf32>
      %81 = stablehlo.broadcast_in_dim %77, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %82 = stablehlo.broadcast_in_dim %81, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %83 = stablehlo.multiply %74, %82 : tensor<1x2048x16x32xf32>
      %84 = stablehlo.subtract %80, %83 : tensor<1x2048x16x32xf32>
      %85 = stablehlo.broadcast_in_dim %76, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %86 = stablehlo.broadcast_in_dim %85, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %87 = stablehlo.multiply %74, %86 : tensor<1x2048x16x32xf32>
      %88 = stablehlo.broadcast_in_dim %77, dims = [1, 2, 3] : (tensor<2048x1x32xf32>) -> tensor<1x2048x1x32xf32>
      %89 = stablehlo.broadcast_in_dim %88, dims = [0, 1, 2, 3] : (tensor<1x2048x1x32xf32>) -> tensor<1x2048x16x32xf32>
      %90 = stablehlo.multiply %71, %89 : tensor<1x2048x16x32xf32>
      %91 = stablehlo.add %87, %90 : tensor<1x2048x16x32xf32>
      %92 = stablehlo.broadcast_in_dim %84, dims = [0, 1, 2, 4] : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x1x32xf32>
      %93 = stablehlo.broadcast_in_dim %91, dims = [0, 1, 2, 4] : (tensor<1x2048x16x32xf32>) -> tensor<1x2048x16x1x32xf32>
      %94 = stablehlo.concatenate %92, %93, dim = 3 : (tensor<1x2048x16x1x32xf32>, tensor<1x2048x16x1x32xf32>) -> tensor<1x2048x16x2x32xf32>
      %95 = stablehlo.reshape %94 : (tensor<1x2048x16x2x32xf32>) -> tensor<1x2048x16x64xf32>
      %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
      %96 = stablehlo.pad %95, %cst_14, low = [0, 0, 0, 0], high = [0, 0, 0, 192], interior = [0, 0, 0, 0] : (tensor<1x2048x16x64xf32>, tensor<f32>) -> tensor<1x2048x16x256xf32>
      %97 = stablehlo.convert %37 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x256xf32>
      %98 = func.call @_where(%c_0, %96, %97) : (tensor<256xi1>, tensor<1x2048x16x256xf32>, tensor<1x2048x16x256xf32>) -> tensor<1x2048x16x256xf32>
      %99 = stablehlo.convert %98 : (tensor<1x2048x16x256xf32>) -> tensor<1x2048x16x256xbf16>
      stablehlo.return %99 : tensor<1x2048x16x256xbf16>
    }) : (tensor<i32>) -> tensor<1x2048x16x256xbf16>
    %40 = stablehlo.slice %31 [0:1, 0:2048, 8192:12288] : (tensor<1x2048x12288xbf16>) -> tensor<1x2048x4096xbf16>
    %41 = stablehlo.reshape %40 : (tensor<1x2048x4096xbf16>) -> tensor<1x2048x16x256xbf16>
    %42 = stablehlo.iota dim = 0 : tensor<2048xi32>
    %43 = stablehlo.reshape %35 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x16x1x256xbf16>
    %44 = stablehlo.broadcast_in_dim %42, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %45 = stablehlo.reshape %44 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %46 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2, 3] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x2048x1xi32>
    %47 = stablehlo.broadcast_in_dim %42, dims = [1] : (tensor<2048xi32>) -> tensor<1x2048xi32>
    %48 = stablehlo.reshape %47 : (tensor<1x2048xi32>) -> tensor<1x1x1x2048xi32>
    %49 = stablehlo.broadcast_in_dim %48, dims = [0, 1, 2, 4] : (tensor<1x1x1x2048xi32>) -> tensor<1x1x1x1x2048xi32>
    %50 = stablehlo.iota dim = 0 : tensor<16xi32>
    %c_9 = stablehlo.constant dense<128> : tensor<i32>
    %51 = stablehlo.broadcast_in_dim %c_9, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %52 = stablehlo.multiply %51, %50 : tensor<16xi32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %53 = stablehlo.broadcast_in_dim %c_10, dims = [] : (tensor<i32>) -> tensor<16xi32>
    %54 = stablehlo.add %53, %52 : tensor<16xi32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %55 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<bf16>) -> tensor<16x1x128x16x1x256xbf16>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %56 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<16x1x128x16x1xf32>
    %c_13 = stablehlo.constant dense<0> : tensor<i32>
    %57:9 = stablehlo.while(%iterArg = %54, %iterArg_14 = %46, %iterArg_15 = %43, %iterArg_16 = %39, %iterArg_17 = %49, %iterArg_18 = %41, %iterArg_19 = %c_13, %iterArg_20 = %55, %iterArg_21 = %56) : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>, tensor<16x1x128x16x1x256xbf16>, tensor<16x1x128x16x1xf32>
    cond {
      %c_22 = stablehlo.constant dense<16> : tensor<i32>
      %67 = stablehlo.compare LT, %iterArg_19, %c_22, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %67 : tensor<i1>
    } do {
      %67 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_19) : (tensor<16xi32>, tensor<i32>) -> tensor<i32>
      %68:2 = func.call @closed_call(%iterArg_14, %iterArg_15, %iterArg_16, %iterArg_17, %iterArg_18, %67) : (tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>) -> (tensor<1x128x16x1x256xbf16>, tensor<1x128x16x1xf32>)
      %69 = func.call @dynamic_update_index_in_dim(%iterArg_20, %68#0, %iterArg_19) : (tensor<16x1x128x16x1x256xbf16>, tensor<1x128x16x1x256xbf16>, tensor<i32>) -> tensor<16x1x128x16x1x256xbf16>
      %70 = func.call @dynamic_update_index_in_dim_4(%iterArg_21, %68#1, %iterArg_19) : (tensor<16x1x128x16x1xf32>, tensor<1x128x16x1xf32>, tensor<i32>) -> tensor<16x1x128x16x1xf32>
      %c_22 = stablehlo.constant dense<1> : tensor<i32>
      %71 = stablehlo.add %iterArg_19, %c_22 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_14, %iterArg_15, %iterArg_16, %iterArg_17, %iterArg_18, %71, %69, %70 : tensor<16xi32>, tensor<1x1x1x2048x1xi32>, tensor<1x2048x16x1x256xbf16>, tensor<1x2048x16x256xbf16>, tensor<1x1x1x1x2048xi32>, tensor<1x2048x16x256xbf16>, tensor<i32>, tensor<16x1x128x16x1x256xbf16>, tensor<16x1x128x16x1xf32>
    }
    %58 = stablehlo.transpose %57#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<16x1x128x16x1x256xbf16>) -> tensor<1x16x128x16x1x256xbf16>
    %59 = stablehlo.reshape %58 : (tensor<1x16x128x16x1x256xbf16>) -> tensor<1x2048x16x1x256xbf16>
    %60 = stablehlo.transpose %57#8, dims = [1, 0, 2, 3, 4] : (tensor<16x1x128x16x1xf32>) -> tensor<1x16x128x16x1xf32>
    %61 = stablehlo.reshape %60 : (tensor<1x16x128x16x1xf32>) -> tensor<1x2048x16x1xf32>
    %62 = stablehlo.reshape %59 : (tensor<1x2048x16x1x256xbf16>) -> tensor<1x2048x16x256xbf16>
    %63 = stablehlo.reshape %61 : (tensor<1x2048x16x1xf32>) -> tensor<1x2048x16xf32>
    %64 = stablehlo.reshape %62 : (tensor<1x2048x16x256xbf16>) -> tensor<1x2048x4096xbf16>
    %65 = stablehlo.dot_general %64, %arg4, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x2048x4096xbf16>, tensor<4096x4096xbf16>) -> tensor<1x2048x4096xf32>
    %66 = stablehlo.convert %65 : (tensor<1x2048x4096xf32>) -> tensor<1x2048x4096xbf16>
    return %66 : tensor<1x2048x4096xbf16>
  }
  func.func private @_take(%arg0: tensor<50400x4096xbf16>, %arg1: tensor<1x2048xi32>) -> tensor<1x2048x4096xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x2048xi32>) -> tensor<1x2048x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4096>}> : (tensor<50400x4096xbf16>, tensor<1x2048x1xi32>) -> tensor<1x2048x4096xbf16>
    return %1 : tensor<1x2048x4096xbf16>
  }
  func.func private @_where(%arg0: tensor<256xi1>, %arg1: tensor<1x2048x16x256xf32>, %arg2: tensor<1x2048x16x256xf32>) -> tensor<1x2048x16x256xf32> {
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [3] : (tensor<256xi1>) -> tensor<1x2048x16x256xi1>
    %1 = stablehlo.select %0, %arg1, %arg2 : tensor<1x2048x16x256xi1>, tensor<1x2048x16x256xf32>
    return %1 : tensor<1x2048x16x256xf32>
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
    %23 = call @_where_0(%22, %11, %cst_12) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
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
    %30 = call @_where_1(%29, %cst_16, %27) : (tensor<1x16x1x128x1xi1>, tensor<f32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x2048xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x16x1x128x2048xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_2(%22, %32, %cst_17) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %34 = stablehlo.exponential %33 : tensor<1x16x1x128x2048xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_2(%22, %34, %cst_18) : (tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x16x1x128x2048xf32>, tensor<f32>) -> tensor<1x16x1x128xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x16x1x128xf32>) -> tensor<1x16x1x128x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x16x1x128x1xf32>, tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_3(%39, %37, %cst_21) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x16x1x128x2048xf32>) -> tensor<1x16x1x128x2048xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x16x1x128x2048xbf16>, tensor<1x2048x16x256xbf16>) -> tensor<1x16x1x128x256xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x256xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x16x1x128x256xf32>
    %45 = stablehlo.log %40 : tensor<1x16x1x128x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x16x1x128x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_3(%39, %46, %cst_22) : (tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>, tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128xf32>
    %49 = stablehlo.transpose %44, dims = [0, 3, 1, 2, 4] : (tensor<1x16x1x128x256xf32>) -> tensor<1x128x16x1x256xf32>
    %50 = stablehlo.convert %49 : (tensor<1x128x16x1x256xf32>) -> tensor<1x128x16x1x256xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x16x1x128xf32>) -> tensor<1x128x16x1xf32>
    return %50, %51 : tensor<1x128x16x1x256xbf16>, tensor<1x128x16x1xf32>
  }
  func.func private @_where_0(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %1 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x16x1x128x1xf32>) -> tensor<1x16x1x128x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x16x1x128x1xi1>, tensor<1x16x1x128x1xf32>
    return %2 : tensor<1x16x1x128x1xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x16x1x128x2048xi1>, %arg1: tensor<1x16x1x128x2048xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x2048xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x16x1x128x2048xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x16x1x128x2048xi1>, tensor<1x16x1x128x2048xf32>
    return %2 : tensor<1x16x1x128x2048xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x16x1x128x1xi1>, %arg1: tensor<1x16x1x128x1xf32>, %arg2: tensor<f32>) -> tensor<1x16x1x128x1xf32> {
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
