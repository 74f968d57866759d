"""One of several processes that compute an attention together; `test_processes.py` starts them.

Arguments: the port of the first process, the number of processes, the index of this one, the folder of an artifact.
Every process prints one line of JSON with its errors. Then the last process dies without a word, and the others start
one more computation with it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import ropegen as rg

# Seconds without a sign of life after which a process counts as dead.
HEARTBEAT = 10
LENGTH, WIDTH = 32, 8
ROPE = rg.Rope(theta=1000.0, pairing="half")
MASK = rg.masks.causal & rg.masks.window(20)


def inputs() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        name: draw.normal(size=(1, LENGTH, heads, WIDTH)).astype(np.float32)
        for name, heads in (("q", 4), ("k", 2), ("v", 2), ("weight", 4))
    }


def value_and_gradient(attend: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The output of an attention, and the gradient of its sum with weights."""

    def loss(qkv: dict[str, Any]) -> tuple[Any, Any]:
        out = attend(qkv["q"], qkv["k"], qkv["v"])
        return (out * given["weight"]).sum(), out

    gradients, out = jax.grad(loss, has_aux=True)({name: given[name] for name in "qkv"})
    return out, gradients


def one_process(q: Any, k: Any, v: Any) -> Any:
    return rg.attention(q, k, v, rope=ROPE, mask=MASK)


def main(port: int, count: int, index: int, artifact: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation
    jax.distributed.initialize(
        f"localhost:{port}",
        count,
        index,
        initialization_timeout=60,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=HEARTBEAT,
    )
    mesh = Mesh(np.array(jax.devices()), ("seq",))
    spread = NamedSharding(mesh, PartitionSpec(None, "seq"))
    known = inputs()
    given = {name: jax.make_array_from_callback(x.shape, spread, x.__getitem__) for name, x in known.items()}

    def several(q: Any, k: Any, v: Any) -> Any:
        return rg.attention(q, k, v, rope=ROPE, mask=MASK, sharding=spread)

    def compared(got: Any, want: Any) -> float:
        """The largest error in the part of an array that this process holds."""
        wanted = np.asarray(want)
        return max(
            float(np.max(np.abs(np.asarray(part.data) - wanted[part.index]))) for part in got.addressable_shards
        ) / float(np.max(np.abs(wanted)))

    run = jax.jit(lambda given: value_and_gradient(several, given))
    out, gradients = run(given)
    local = {name: jax.device_put(x, jax.local_devices()[0]) for name, x in known.items()}
    expected_out, expected = jax.jit(lambda given: value_and_gradient(one_process, given))(local)
    errors = {f"d_{name}": compared(x, expected[name]) for name, x in gradients.items()}
    kernels = rg.load(artifact)
    turned = kernels(x=local["q"])
    errors["artifact"] = float(jnp.max(jnp.abs(turned - rg.rope(local["q"], None, ROPE))))
    errors["artifact_is_zero"] = float(jnp.max(jnp.abs(turned)) == 0)
    print(json.dumps({"process": index, "devices": jax.device_count(), "out": compared(out, expected_out), **errors}))
    sys.stdout.flush()
    if index == count - 1:
        os._exit(9)
    for _ in range(100):  # the others may have sent their part before the last process died
        out, _ = run({**given, "q": out})
        jax.block_until_ready(out)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
