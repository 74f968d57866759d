module @jit_main attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<1x1024xi32>, %arg1: tensor<50257x768xbf16>, %arg2: tensor<1024x768xbf16>, %arg3: tensor<768xbf16>, %arg4: tensor<768xbf16>, %arg5: tensor<768x768xbf16>, %arg6: tensor<768xbf16>, %arg7: tensor<768x2304xbf16>, %arg8: tensor<2304xbf16>) -> (tensor<1x1024x768xbf16> {jax.result_info = "result[0]"}) {
    %0 = call @_take(%arg1, %arg0) : (tensor<50257x768xbf16>, tensor<1x1024xi32>) -> tensor<1x1024x768xbf16>
    %1 = stablehlo.iota dim = 0 : tensor<1024xi32>
    %2 = call @_take_0(%arg2, %1) : (tensor<1024x768xbf16>, tensor<1024xi32>) -> tensor<1024x768xbf16>
    %3 = stablehlo.broadcast_in_dim %2, dims = [1, 2] : (tensor<1024x768xbf16>) -> tensor<1x1024x768xbf16>
    %4 = stablehlo.add %0, %3 : tensor<1x1024x768xbf16>
    %5 = stablehlo.convert %4 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x768xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %6 = stablehlo.reduce(%5 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x1024x768xf32>, tensor<f32>) -> tensor<1x1024xf32>
    %7 = stablehlo.broadcast_in_dim %6, dims = [0, 1] : (tensor<1x1024xf32>) -> tensor<1x1024x1xf32>
    %cst_0 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %8 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %9 = stablehlo.divide %7, %8 : tensor<1x1024x1xf32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2] : (tensor<1x1024x1xf32>) -> tensor<1x1024x768xf32>
    %11 = stablehlo.subtract %5, %10 : tensor<1x1024x768xf32>
    %12 = chlo.square %11 : tensor<1x1024x768xf32> -> tensor<1x1024x768xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %13 = stablehlo.reduce(%12 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x1024x768xf32>, tensor<f32>) -> tensor<1x1024xf32>
    %14 = stablehlo.broadcast_in_dim %13, dims = [0, 1] : (tensor<1x1024xf32>) -> tensor<1x1024x1xf32>
    %cst_2 = stablehlo.constant dense<7.680000e+02> : tensor<f32>
    %15 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %16 = stablehlo.divide %14, %15 : tensor<1x1024x1xf32>
    %cst_3 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %17 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x1024x1xf32>
    %18 = stablehlo.add %16, %17 : tensor<1x1024x1xf32>
    %19 = stablehlo.rsqrt %18 : tensor<1x1024x1xf32>
    %20 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2] : (tensor<1x1024x1xf32>) -> tensor<1x1024x768xf32>
    %21 = stablehlo.multiply %11, %20 : tensor<1x1024x768xf32>
    %22 = stablehlo.convert %arg3 : (tensor<768xbf16>) -> tensor<768xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %23 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<768xf32>
    %24 = stablehlo.add %22, %23 : tensor<768xf32>
    %25 = stablehlo.broadcast_in_dim %24, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %27 = stablehlo.multiply %21, %26 : tensor<1x1024x768xf32>
    %28 = stablehlo.convert %arg4 : (tensor<768xbf16>) -> tensor<768xf32>
    %29 = stablehlo.broadcast_in_dim %28, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %30 = stablehlo.broadcast_in_dim %29, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %31 = stablehlo.add %27, %30 : tensor<1x1024x768xf32>
    %32 = stablehlo.convert %31 : (tensor<1x1024x768xf32>) -> tensor<1x1024x768xbf16>
    %33 = stablehlo.dot_general %32, %arg7, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x768xbf16>, tensor<768x2304xbf16>) -> tensor<1x1024x2304xf32>
    %34 = stablehlo.convert %arg8 : (tensor<2304xbf16>) -> tensor<2304xf32>
    %35 = stablehlo.broadcast_in_dim %34, dims = [2] : (tensor<2304xf32>) -> tensor<1x1x2304xf32>
    %36 = stablehlo.broadcast_in_dim %35, dims = [0, 1, 2] : (tensor<1x1x2304xf32>) -> tensor<1x1024x2304xf32>
    %37 = stablehlo.add %33, %36 : tensor<1x1024x2304xf32>
    %38 = stablehlo.convert %37 : (tensor<1x1024x2304xf32>) -> tensor<1x1024x2304xbf16>
    %39 = stablehlo.slice %38 [0:1, 0:1024, 0:768] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %40 = stablehlo.reshape %39 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %41 = stablehlo.slice %38 [0:1, 0:1024, 768:1536] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %42 = stablehlo.reshape %41 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %43 = stablehlo.slice %38 [0:1, 0:1024, 1536:2304] : (tensor<1x1024x2304xbf16>) -> tensor<1x1024x768xbf16>
    %44 = stablehlo.reshape %43 : (tensor<1x1024x768xbf16>) -> tensor<1x1024x12x64xbf16>
    %45 = stablehlo.reshape %40 : (tensor<1x1024x12x64xbf16>) -> tensor<1x1024x12x1x64xbf16>
    %46 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<1024xi32>) -> tensor<1x1024xi32>
    %47 = stablehlo.reshape %46 : (tensor<1x1024xi32>) -> tensor<1x1x1x1024xi32>
    %48 = stablehlo.broadcast_in_dim %47, dims = [0, 1, 2, 3] : (tensor<1x1x1x1024xi32>) -> tensor<1x1x1x1024x1xi32>
    %49 = stablehlo.broadcast_in_dim %1, dims = [1] : (tensor<1024xi32>) -> tensor<1x1024xi32>
    %50 = stablehlo.reshape %49 : (tensor<1x1024xi32>) -> tensor<1x1x1x1024xi32>
    %51 = stablehlo.broadcast_in_dim %50, dims = [0, 1, 2, 4] : (tensor<1x1x1x1024xi32>) -> tensor<1x1x1x1x1024xi32>
    %52 = stablehlo.iota dim = 0 : tensor<3xi32>
    %c = stablehlo.constant dense<341> : tensor<i32>
    %53 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<3xi32>
    %54 = stablehlo.multiply %53, %52 : tensor<3xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %55 = stablehlo.broadcast_in_dim %c_5, dims = [] : (tensor<i32>) -> tensor<3xi32>
    %56 = stablehlo.add %55, %54 : tensor<3xi32>
    %cst_6 = stablehlo.constant dense<0.000000e+00> : tensor<bf16>
    %57 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<bf16>) -> tensor<3x1x341x12x1x64xbf16>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %58 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<3x1x341x12x1xf32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %59:9 = stablehlo.while(%iterArg = %56, %iterArg_35 = %48, %iterArg_36 = %45, %iterArg_37 = %42, %iterArg_38 = %51, %iterArg_39 = %44, %iterArg_40 = %c_8, %iterArg_41 = %57, %iterArg_42 = %58) : tensor<3xi32>, tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>, tensor<3x1x341x12x1x64xbf16>, tensor<3x1x341x12x1xf32>
    cond {
      %c_43 = stablehlo.constant dense<3> : tensor<i32>
      %126 = stablehlo.compare LT, %iterArg_40, %c_43, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %126 : tensor<i1>
    } do {
      %126 = func.call @dynamic_index_in_dim(%iterArg, %iterArg_40) : (tensor<3xi32>, tensor<i32>) -> tensor<i32>
      %127:2 = func.call @closed_call(%iterArg_35, %iterArg_36, %iterArg_37, %iterArg_38, %iterArg_39, %126) : (tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>) -> (tensor<1x341x12x1x64xbf16>, tensor<1x341x12x1xf32>)
      %128 = func.call @dynamic_update_index_in_dim(%iterArg_41, %127#0, %iterArg_40) : (tensor<3x1x341x12x1x64xbf16>, tensor<1x341x12x1x64xbf16>, tensor<i32>) -> tensor<3x1x341x12x1x64xbf16>
      %129 = func.call @dynamic_update_index_in_dim_4(%iterArg_42, %127#1, %iterArg_40) : (tensor<3x1x341x12x1xf32>, tensor<1x341x12x1xf32>, tensor<i32>) -> tensor<3x1x341x12x1xf32>
      %c_43 = stablehlo.constant dense<1> : tensor<i32>
      %130 = stablehlo.add %iterArg_40, %c_43 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_35, %iterArg_36, %iterArg_37, %iterArg_38, %iterArg_39, %130, %128, %129 : tensor<3xi32>, tensor<1x1x1x1024x1xi32>, tensor<1x1024x12x1x64xbf16>, tensor<1x1024x12x64xbf16>, tensor<1x1x1x1x1024xi32>, tensor<1x1024x12x64xbf16>, tensor<i32>, tensor<3x1x341x12x1x64xbf16>, tensor<3x1x341x12x1xf32>
    }
    %60 = stablehlo.transpose %59#7, dims = [1, 0, 2, 3, 4, 5] : (tensor<3x1x341x12x1x64xbf16>) -> tensor<1x3x341x12x1x64xbf16>
    %61 = stablehlo.reshape %60 : (tensor<1x3x341x12x1x64xbf16>) -> tensor<1x1023x12x1x64xbf16>
    %62 = stablehlo.transpose %59#8, dims = [1, 0, 2, 3, 4] : (tensor<3x1x341x12x1xf32>) -> tensor<1x3x341x12x1xf32>
    %63 = stablehlo.reshape %62 : (tensor<1x3x341x12x1xf32>) -> tensor<1x1023x12x1xf32>
    %c_9 = stablehlo.constant dense<1023> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %64 = stablehlo.compare LT, %c_9, %c_10, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_11 = stablehlo.constant dense<1024> : tensor<i32>
    %65 = stablehlo.add %c_9, %c_11 : tensor<i32>
    %66 = stablehlo.select %64, %65, %c_9 : tensor<i1>, tensor<i32>
    %c_12 = stablehlo.constant dense<0> : tensor<i32>
    %c_13 = stablehlo.constant dense<0> : tensor<i32>
    %c_14 = stablehlo.constant dense<0> : tensor<i32>
    %c_15 = stablehlo.constant dense<0> : tensor<i32>
    %67 = stablehlo.dynamic_slice %48, %c_12, %c_13, %c_14, %66, %c_15, sizes = [1, 1, 1, 1, 1] : (tensor<1x1x1x1024x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x1x1xi32>
    %c_16 = stablehlo.constant dense<0> : tensor<i32>
    %68 = stablehlo.compare LT, %c_9, %c_16, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_17 = stablehlo.constant dense<1024> : tensor<i32>
    %69 = stablehlo.add %c_9, %c_17 : tensor<i32>
    %70 = stablehlo.select %68, %69, %c_9 : tensor<i1>, tensor<i32>
    %c_18 = stablehlo.constant dense<0> : tensor<i32>
    %c_19 = stablehlo.constant dense<0> : tensor<i32>
    %c_20 = stablehlo.constant dense<0> : tensor<i32>
    %c_21 = stablehlo.constant dense<0> : tensor<i32>
    %71 = stablehlo.dynamic_slice %45, %c_18, %70, %c_19, %c_20, %c_21, sizes = [1, 1, 12, 1, 64] : (tensor<1x1024x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x12x1x64xbf16>
    %72 = stablehlo.dot_general %42, %71, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x12x64xbf16>, tensor<1x1x12x1x64xbf16>) -> tensor<1x12x1024x1x1xf32>
    %73 = stablehlo.transpose %72, dims = [0, 1, 4, 3, 2] : (tensor<1x12x1024x1x1xf32>) -> tensor<1x12x1x1x1024xf32>
    %cst_22 = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %74 = stablehlo.broadcast_in_dim %cst_22, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %75 = stablehlo.multiply %73, %74 : tensor<1x12x1x1x1024xf32>
    %76 = stablehlo.iota dim = 0 : tensor<1xi32>
    %77 = stablehlo.reshape %76 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %78 = stablehlo.iota dim = 0 : tensor<12xi32>
    %79 = stablehlo.reshape %78 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_23 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %80 = stablehlo.broadcast_in_dim %cst_23, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %81 = stablehlo.compare NE, %75, %80, FLOAT : (tensor<1x12x1x1x1024xf32>, tensor<1x12x1x1x1024xf32>) -> tensor<1x12x1x1x1024xi1>
    %82 = stablehlo.broadcast_in_dim %67, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x1xi32>) -> tensor<1x1x1x1x1024xi32>
    %83 = stablehlo.compare LE, %51, %82, SIGNED : (tensor<1x1x1x1x1024xi32>, tensor<1x1x1x1x1024xi32>) -> tensor<1x1x1x1x1024xi1>
    %84 = stablehlo.broadcast_in_dim %83, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x1024xi1>) -> tensor<1x12x1x1x1024xi1>
    %85 = stablehlo.and %81, %84 : tensor<1x12x1x1x1024xi1>
    %cst_24 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %86 = call @_where_5(%85, %75, %cst_24) : (tensor<1x12x1x1x1024xi1>, tensor<1x12x1x1x1024xf32>, tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %cst_25 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %87 = stablehlo.reduce(%86 init: %cst_25) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x1x1024xf32>, tensor<f32>) -> tensor<1x12x1x1xf32>
    %cst_26 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %88 = stablehlo.broadcast_in_dim %cst_26, dims = [] : (tensor<f32>) -> tensor<1x12x1x1xf32>
    %89 = stablehlo.maximum %88, %87 : tensor<1x12x1x1xf32>
    %90 = stablehlo.broadcast_in_dim %89, dims = [0, 1, 2, 3] : (tensor<1x12x1x1xf32>) -> tensor<1x12x1x1x1xf32>
    %cst_27 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %91 = stablehlo.broadcast_in_dim %cst_27, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %92 = stablehlo.compare EQ, %90, %91, FLOAT : (tensor<1x12x1x1x1xf32>, tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x1xi1>
    %cst_28 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %93 = call @_where_6(%92, %cst_28, %90) : (tensor<1x12x1x1x1xi1>, tensor<f32>, tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x1xf32>
    %94 = stablehlo.broadcast_in_dim %93, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x1024xf32>
    %95 = stablehlo.subtract %75, %94 : tensor<1x12x1x1x1024xf32>
    %cst_29 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %96 = call @_where_7(%85, %95, %cst_29) : (tensor<1x12x1x1x1024xi1>, tensor<1x12x1x1x1024xf32>, tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %97 = stablehlo.exponential %96 : tensor<1x12x1x1x1024xf32>
    %cst_30 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %98 = call @_where_7(%85, %97, %cst_30) : (tensor<1x12x1x1x1024xi1>, tensor<1x12x1x1x1024xf32>, tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %cst_31 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %99 = stablehlo.reduce(%98 init: %cst_31) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x1x1024xf32>, tensor<f32>) -> tensor<1x12x1x1xf32>
    %100 = stablehlo.broadcast_in_dim %99, dims = [0, 1, 2, 3] : (tensor<1x12x1x1xf32>) -> tensor<1x12x1x1x1xf32>
    %cst_32 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %101 = stablehlo.broadcast_in_dim %cst_32, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %102 = stablehlo.compare GT, %100, %101, FLOAT : (tensor<1x12x1x1x1xf32>, tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x1xi1>
    %cst_33 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %103 = call @_where_8(%102, %100, %cst_33) : (tensor<1x12x1x1x1xi1>, tensor<1x12x1x1x1xf32>, tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %104 = stablehlo.convert %98 : (tensor<1x12x1x1x1024xf32>) -> tensor<1x12x1x1x1024xbf16>
    %105 = stablehlo.dot_general %104, %44, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x1x1024xbf16>, tensor<1x1024x12x64xbf16>) -> tensor<1x12x1x1x64xf32>
    %106 = stablehlo.broadcast_in_dim %103, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x64xf32>
    %107 = stablehlo.divide %105, %106 : tensor<1x12x1x1x64xf32>
    %108 = stablehlo.log %103 : tensor<1x12x1x1x1xf32>
    %109 = stablehlo.add %93, %108 : tensor<1x12x1x1x1xf32>
    %cst_34 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %110 = call @_where_8(%102, %109, %cst_34) : (tensor<1x12x1x1x1xi1>, tensor<1x12x1x1x1xf32>, tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %111 = stablehlo.reshape %110 : (tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1xf32>
    %112 = stablehlo.convert %107 : (tensor<1x12x1x1x64xf32>) -> tensor<1x12x1x1x64xbf16>
    %113 = stablehlo.transpose %112, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x1x64xbf16>) -> tensor<1x1x12x1x64xbf16>
    %114 = stablehlo.transpose %111, dims = [0, 3, 1, 2] : (tensor<1x12x1x1xf32>) -> tensor<1x1x12x1xf32>
    %115 = stablehlo.concatenate %61, %113, dim = 1 : (tensor<1x1023x12x1x64xbf16>, tensor<1x1x12x1x64xbf16>) -> tensor<1x1024x12x1x64xbf16>
    %116 = stablehlo.concatenate %63, %114, dim = 1 : (tensor<1x1023x12x1xf32>, tensor<1x1x12x1xf32>) -> tensor<1x1024x12x1xf32>
    %117 = stablehlo.reshape %115 : (tensor<1x1024x12x1x64xbf16>) -> tensor<1x1024x12x64xbf16>
    %118 = stablehlo.reshape %116 : (tensor<1x1024x12x1xf32>) -> tensor<1x1024x12xf32>
    %119 = stablehlo.reshape %117 : (tensor<1x1024x12x64xbf16>) -> tensor<1x1024x768xbf16>
    %120 = stablehlo.dot_general %119, %arg5, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x768xbf16>, tensor<768x768xbf16>) -> tensor<1x1024x768xf32>
    %121 = stablehlo.convert %arg6 : (tensor<768xbf16>) -> tensor<768xf32>
    %122 = stablehlo.broadcast_in_dim %121, dims = [2] : (tensor<768xf32>) -> tensor<1x1x768xf32>
    %123 = stablehlo.broadcast_in_dim %122, dims = [0, 1, 2] : (tensor<1x1x768xf32>) -> tensor<1x1024x768xf32>
    %124 = stablehlo.add %120, %123 : tensor<1x1024x768xf32>
    %125 = stablehlo.convert %124 : (tensor<1x1024x768xf32>) -> tensor<1x1024x768xbf16>
    return %125 : tensor<1x1024x768xbf16>
  }
  func.func private @_take(%arg0: tensor<50257x768xbf16>, %arg1: tensor<1x1024xi32>) -> tensor<1x1024x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x1024xi32>) -> tensor<1x1024x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<50257x768xbf16>, tensor<1x1024x1xi32>) -> tensor<1x1024x768xbf16>
    return %1 : tensor<1x1024x768xbf16>
  }
  func.func private @_take_0(%arg0: tensor<1024x768xbf16>, %arg1: tensor<1024xi32>) -> tensor<1024x768xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0] : (tensor<1024xi32>) -> tensor<1024x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 768>}> : (tensor<1024x768xbf16>, tensor<1024x1xi32>) -> tensor<1024x768xbf16>
    return %1 : tensor<1024x768xbf16>
  }
  func.func private @dynamic_index_in_dim(%arg0: tensor<3xi32>, %arg1: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.dynamic_slice %arg0, %arg1, sizes = [1] : (tensor<3xi32>, tensor<i32>) -> tensor<1xi32>
    %1 = stablehlo.reshape %0 : (tensor<1xi32>) -> tensor<i32>
    return %1 : tensor<i32>
  }
  func.func private @closed_call(%arg0: tensor<1x1x1x1024x1xi32>, %arg1: tensor<1x1024x12x1x64xbf16>, %arg2: tensor<1x1024x12x64xbf16>, %arg3: tensor<1x1x1x1x1024xi32>, %arg4: tensor<1x1024x12x64xbf16>, %arg5: tensor<i32>) -> (tensor<1x341x12x1x64xbf16>, tensor<1x341x12x1xf32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.compare LT, %arg5, %c, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<1024> : tensor<i32>
    %1 = stablehlo.add %arg5, %c_0 : tensor<i32>
    %2 = stablehlo.select %0, %1, %arg5 : tensor<i1>, tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %3 = stablehlo.dynamic_slice %arg0, %c_1, %c_2, %c_3, %2, %c_4, sizes = [1, 1, 1, 341, 1] : (tensor<1x1x1x1024x1xi32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x1x1x341x1xi32>
    %c_5 = stablehlo.constant dense<0> : tensor<i32>
    %4 = stablehlo.compare LT, %arg5, %c_5, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_6 = stablehlo.constant dense<1024> : tensor<i32>
    %5 = stablehlo.add %arg5, %c_6 : tensor<i32>
    %6 = stablehlo.select %4, %5, %arg5 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.dynamic_slice %arg1, %c_7, %6, %c_8, %c_9, %c_10, sizes = [1, 341, 12, 1, 64] : (tensor<1x1024x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x341x12x1x64xbf16>
    %8 = stablehlo.dot_general %arg2, %7, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [4], precision = [DEFAULT, DEFAULT] : (tensor<1x1024x12x64xbf16>, tensor<1x341x12x1x64xbf16>) -> tensor<1x12x1024x341x1xf32>
    %9 = stablehlo.transpose %8, dims = [0, 1, 4, 3, 2] : (tensor<1x12x1024x341x1xf32>) -> tensor<1x12x1x341x1024xf32>
    %cst = stablehlo.constant dense<1.250000e-01> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %11 = stablehlo.multiply %9, %10 : tensor<1x12x1x341x1024xf32>
    %12 = stablehlo.iota dim = 0 : tensor<1xi32>
    %13 = stablehlo.reshape %12 : (tensor<1xi32>) -> tensor<1x1x1x1x1xi32>
    %14 = stablehlo.iota dim = 0 : tensor<12xi32>
    %15 = stablehlo.reshape %14 : (tensor<12xi32>) -> tensor<1x12x1x1x1xi32>
    %cst_11 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %17 = stablehlo.compare NE, %11, %16, FLOAT : (tensor<1x12x1x341x1024xf32>, tensor<1x12x1x341x1024xf32>) -> tensor<1x12x1x341x1024xi1>
    %18 = stablehlo.broadcast_in_dim %arg3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x1x1024xi32>) -> tensor<1x1x1x341x1024xi32>
    %19 = stablehlo.broadcast_in_dim %3, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x341x1xi32>) -> tensor<1x1x1x341x1024xi32>
    %20 = stablehlo.compare LE, %18, %19, SIGNED : (tensor<1x1x1x341x1024xi32>, tensor<1x1x1x341x1024xi32>) -> tensor<1x1x1x341x1024xi1>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3, 4] : (tensor<1x1x1x341x1024xi1>) -> tensor<1x12x1x341x1024xi1>
    %22 = stablehlo.and %17, %21 : tensor<1x12x1x341x1024xi1>
    %cst_12 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %23 = call @_where(%22, %11, %cst_12) : (tensor<1x12x1x341x1024xi1>, tensor<1x12x1x341x1024xf32>, tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %cst_13 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %24 = stablehlo.reduce(%23 init: %cst_13) applies stablehlo.maximum across dimensions = [4] : (tensor<1x12x1x341x1024xf32>, tensor<f32>) -> tensor<1x12x1x341xf32>
    %cst_14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x12x1x341xf32>
    %26 = stablehlo.maximum %25, %24 : tensor<1x12x1x341xf32>
    %27 = stablehlo.broadcast_in_dim %26, dims = [0, 1, 2, 3] : (tensor<1x12x1x341xf32>) -> tensor<1x12x1x341x1xf32>
    %cst_15 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %28 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %29 = stablehlo.compare EQ, %27, %28, FLOAT : (tensor<1x12x1x341x1xf32>, tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x1xi1>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %30 = call @_where_1(%29, %cst_16, %27) : (tensor<1x12x1x341x1xi1>, tensor<f32>, tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x1xf32>
    %31 = stablehlo.broadcast_in_dim %30, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x1024xf32>
    %32 = stablehlo.subtract %11, %31 : tensor<1x12x1x341x1024xf32>
    %cst_17 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = call @_where_2(%22, %32, %cst_17) : (tensor<1x12x1x341x1024xi1>, tensor<1x12x1x341x1024xf32>, tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %34 = stablehlo.exponential %33 : tensor<1x12x1x341x1024xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %35 = call @_where_2(%22, %34, %cst_18) : (tensor<1x12x1x341x1024xi1>, tensor<1x12x1x341x1024xf32>, tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %36 = stablehlo.reduce(%35 init: %cst_19) applies stablehlo.add across dimensions = [4] : (tensor<1x12x1x341x1024xf32>, tensor<f32>) -> tensor<1x12x1x341xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2, 3] : (tensor<1x12x1x341xf32>) -> tensor<1x12x1x341x1xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %38 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %39 = stablehlo.compare GT, %37, %38, FLOAT : (tensor<1x12x1x341x1xf32>, tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x1xi1>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %40 = call @_where_3(%39, %37, %cst_21) : (tensor<1x12x1x341x1xi1>, tensor<1x12x1x341x1xf32>, tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %41 = stablehlo.convert %35 : (tensor<1x12x1x341x1024xf32>) -> tensor<1x12x1x341x1024xbf16>
    %42 = stablehlo.dot_general %41, %arg4, batching_dims = [0, 1] x [0, 2], contracting_dims = [4] x [1], precision = [DEFAULT, DEFAULT] : (tensor<1x12x1x341x1024xbf16>, tensor<1x1024x12x64xbf16>) -> tensor<1x12x1x341x64xf32>
    %43 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3, 4] : (tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x64xf32>
    %44 = stablehlo.divide %42, %43 : tensor<1x12x1x341x64xf32>
    %45 = stablehlo.log %40 : tensor<1x12x1x341x1xf32>
    %46 = stablehlo.add %30, %45 : tensor<1x12x1x341x1xf32>
    %cst_22 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %47 = call @_where_3(%39, %46, %cst_22) : (tensor<1x12x1x341x1xi1>, tensor<1x12x1x341x1xf32>, tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %48 = stablehlo.reshape %47 : (tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341xf32>
    %49 = stablehlo.convert %44 : (tensor<1x12x1x341x64xf32>) -> tensor<1x12x1x341x64xbf16>
    %50 = stablehlo.transpose %49, dims = [0, 3, 1, 2, 4] : (tensor<1x12x1x341x64xbf16>) -> tensor<1x341x12x1x64xbf16>
    %51 = stablehlo.transpose %48, dims = [0, 3, 1, 2] : (tensor<1x12x1x341xf32>) -> tensor<1x341x12x1xf32>
    return %50, %51 : tensor<1x341x12x1x64xbf16>, tensor<1x341x12x1xf32>
  }
  func.func private @_where(%arg0: tensor<1x12x1x341x1024xi1>, %arg1: tensor<1x12x1x341x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x341x1024xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x341x1024xi1>, tensor<1x12x1x341x1024xf32>
    return %1 : tensor<1x12x1x341x1024xf32>
  }
  func.func private @_where_1(%arg0: tensor<1x12x1x341x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x341x1xf32>) -> tensor<1x12x1x341x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x341x1xi1>, tensor<1x12x1x341x1xf32>
    return %2 : tensor<1x12x1x341x1xf32>
  }
  func.func private @_where_2(%arg0: tensor<1x12x1x341x1024xi1>, %arg1: tensor<1x12x1x341x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x341x1024xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1024xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x341x1024xi1>, tensor<1x12x1x341x1024xf32>
    return %2 : tensor<1x12x1x341x1024xf32>
  }
  func.func private @_where_3(%arg0: tensor<1x12x1x341x1xi1>, %arg1: tensor<1x12x1x341x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x341x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x341x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x341x1xi1>, tensor<1x12x1x341x1xf32>
    return %2 : tensor<1x12x1x341x1xf32>
  }
  func.func private @dynamic_update_index_in_dim(%arg0: tensor<3x1x341x12x1x64xbf16>, %arg1: tensor<1x341x12x1x64xbf16>, %arg2: tensor<i32>) -> tensor<3x1x341x12x1x64xbf16> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4, 5] : (tensor<1x341x12x1x64xbf16>) -> tensor<1x1x341x12x1x64xbf16>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2, %c_3 : (tensor<3x1x341x12x1x64xbf16>, tensor<1x1x341x12x1x64xbf16>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<3x1x341x12x1x64xbf16>
    return %1 : tensor<3x1x341x12x1x64xbf16>
  }
  func.func private @dynamic_update_index_in_dim_4(%arg0: tensor<3x1x341x12x1xf32>, %arg1: tensor<1x341x12x1xf32>, %arg2: tensor<i32>) -> tensor<3x1x341x12x1xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1, 2, 3, 4] : (tensor<1x341x12x1xf32>) -> tensor<1x1x341x12x1xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %1 = stablehlo.dynamic_update_slice %arg0, %0, %arg2, %c, %c_0, %c_1, %c_2 : (tensor<3x1x341x12x1xf32>, tensor<1x1x341x12x1xf32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<3x1x341x12x1xf32>
    return %1 : tensor<3x1x341x12x1xf32>
  }
  func.func private @_where_5(%arg0: tensor<1x12x1x1x1024xi1>, %arg1: tensor<1x12x1x1x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x1x1024xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %1 = stablehlo.select %arg0, %arg1, %0 : tensor<1x12x1x1x1024xi1>, tensor<1x12x1x1x1024xf32>
    return %1 : tensor<1x12x1x1x1024xf32>
  }
  func.func private @_where_6(%arg0: tensor<1x12x1x1x1xi1>, %arg1: tensor<f32>, %arg2: tensor<1x12x1x1x1xf32>) -> tensor<1x12x1x1x1xf32> {
    %0 = stablehlo.convert %arg1 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<1x12x1x1x1xi1>, tensor<1x12x1x1x1xf32>
    return %2 : tensor<1x12x1x1x1xf32>
  }
  func.func private @_where_7(%arg0: tensor<1x12x1x1x1024xi1>, %arg1: tensor<1x12x1x1x1024xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x1x1024xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1024xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x1x1024xi1>, tensor<1x12x1x1x1024xf32>
    return %2 : tensor<1x12x1x1x1024xf32>
  }
  func.func private @_where_8(%arg0: tensor<1x12x1x1x1xi1>, %arg1: tensor<1x12x1x1x1xf32>, %arg2: tensor<f32>) -> tensor<1x12x1x1x1xf32> {
    %0 = stablehlo.convert %arg2 : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<f32>) -> tensor<1x12x1x1x1xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x12x1x1x1xi1>, tensor<1x12x1x1x1xf32>
    return %2 : tensor<1x12x1x1x1xf32>
  }
}
