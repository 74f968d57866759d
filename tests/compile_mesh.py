"""Compiles an attention over the four devices of a TPU topology by libtpu, split over batch, heads or, by a
ring, the sequence.

Arguments: the name of the topology. Every line of the output is JSON: the case, the kernels and the collectives in the
compiled program. `tests/test_compile_tpu.py` starts it with the settings of `ropegen.compilers.tpu`.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from devices import DIRECTIONS, collectives, in_direction
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import ropegen as rg


def main(topology: str) -> None:
    devices: Any = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = Mesh(np.array(devices[:4]).reshape(4), ("chip",), axis_types=(AxisType.Auto,))
    specs = {"batch": PartitionSpec("chip"), "heads": PartitionSpec(None, None, "chip")}
    target = f"tpu:{ {'v5e:2x2': 'v5e', 'v5p:2x2x1': 'v5p'}[topology] }"
    ways = [*product(specs.items(), DIRECTIONS, ("sharding", "shard_map"))]
    ways += [(("sequence", PartitionSpec(None, "chip")), direction, "ring") for direction in DIRECTIONS]
    for (split, spec), direction, way in ways:
        lies = NamedSharding(mesh, spec)
        x = {
            name: jax.ShapeDtypeStruct((4, 512, heads, 128), jnp.bfloat16, sharding=lies)
            for name, heads in zip("qkv", (8, 4, 4), strict=True)
        }

        def attend(x: dict[str, Any], sharding: Any = None) -> Any:
            return rg.attention(x["q"], x["k"], x["v"], mask=rg.masks.causal, target=target, sharding=sharding)

        def stated(x: dict[str, Any], lies: NamedSharding = lies) -> Any:
            return attend(x, lies)

        def around(x: dict[str, Any]) -> Any:
            options: dict[str, Any] = {"axis": "chip", "method": "ring", "target": target}
            return rg.context_parallel(x["q"], x["k"], x["v"], mask=rg.masks.causal, **options)

        call = stated
        if way != "sharding":
            inside = around if way == "ring" else attend
            call = jax.shard_map(inside, mesh=mesh, in_specs=(spec,), out_specs=spec)
        text = jax.jit(in_direction(call, direction)).lower(x).compile().as_text()
        kernels = text.count('custom_call_target="tpu_custom_call"')
        case = {"case": [split, direction, way], "kernels": kernels, "collectives": collectives(text)}
        print(json.dumps(case), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
