"""Deep graphs: many layers, and long chains of one op.

`python tests/deep.py 16 32 64` prints the CPU time that the passes take for so many layers.
"""

from __future__ import annotations

import sys
import time

from ropegen import masks
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.passes import run
from ropegen.rotary import Rope


def layers(count: int) -> Graph:
    """A decoder without its feed-forward parts: an embedding, then `count` layers of attention.

    Every layer gives all passes something to do: queries are scaled by hand, the rotation is interleaved, the
    projections are apart, and the sum has its operands in the wrong order.
    """
    heads, kv_heads, width, features, length = 4, 2, 8, 32, 16
    b = Builder("layers")
    rope, positions = Rope(pairing="interleaved"), b.positions(length)
    x = b.embed(b.input("ids", (1, length), "i32"), b.parameter("table", (64, features), "f32"))
    for index in range(count):
        normed = b.norm(x, b.parameter(f"norm_{index}", (features,), "f32"), kind="rms", epsilon=1e-5)
        q, k, v = (
            b.split_heads(b.project(normed, b.parameter(f"w{name}_{index}", (features, size * width), "f32")), size)
            for name, size in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        q, k = b.rope(b.scale(q, width**-0.5), positions, rope), b.rope(k, positions, rope)
        merged = b.merge_heads(b.attend(q, k, v, scale=1.0, mask=masks.causal))
        out = b.project(merged, b.parameter(f"wo_{index}", (heads * width, features), "f32"))
        post_norm = b.parameter(f"post_norm_{index}", (features,), "f32")
        x = b.norm(b.add(out, x), post_norm, kind="rms", epsilon=1e-5)
    return b.build(y=x)


def scales(count: int) -> Graph:
    """A chain of scales by 2. Their product leaves float32, so several scales remain."""
    b = Builder("scales")
    x = b.input("x", (4,), "f32")
    for _ in range(count):
        x = b.scale(x, 2.0)
    return b.build(y=x)


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        graph = layers(count)
        start = time.process_time()
        after, trace = run(graph)
        taken = time.process_time() - start
        print(f"{count} layers: {len(graph.nodes)} nodes, {len(trace)} rewritings, {taken:.2f} s of CPU time")
