"""Drawn graphs: small attention front-ends with the structures of real models, and with unusual ops in between.

`drawn_graph(seed, max_ops)` depends only on its arguments; `graphs(max_ops)` is the Hypothesis strategy over it.
"""

from __future__ import annotations

import itertools
import math
from random import Random

from hypothesis import strategies as st

from ropegen import masks, scaling
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.ir.op import Op
from ropegen.types import TensorType


def graphs(max_ops: int = 30, *, wide: bool = False, packed: bool = False) -> st.SearchStrategy[Graph]:
    """Valid graphs of at most `max_ops` ops, not counting inputs; see `drawn_graph`."""
    return st.integers(0, 2**32 - 1).map(lambda seed: drawn_graph(seed, max_ops, wide=wide, packed=packed))


def drawn_graph(seed: int, max_ops: int = 30, *, wide: bool = False, packed: bool = False) -> Graph:
    """The graph of a seed, legal as a source; `wide` adds f64 and i64, `packed` adds the ops that only passes create."""
    if max_ops < 1:
        raise ValueError("a graph has at least one op")
    for attempt in itertools.count():
        # Every attempt makes fewer detours; the last one is attention alone, which is one op.
        draw = _Draw(Random(f"{seed}/{attempt}"), 0.9**attempt, wide, packed)
        outputs = draw.front_end() if attempt < 40 else {"y": draw.bare_attention()}
        drawn = graph(f"drawn-{seed}", draw.inputs, outputs)
        if len(drawn.nodes) - len(drawn.inputs) <= max_ops:
            return drawn
    raise AssertionError


class _Draw:
    """A graph that is being drawn: its sizes and element type are fixed first, then its ops are chosen one by one."""

    def __init__(self, random: Random, richness: float, wide: bool, packed: bool) -> None:
        self.random, self.richness, self.wide, self.packed = random, richness, wide, packed
        self.inputs: list[Node] = []
        self.dtype = random.choice(["f32", "f32", "bf16", "bf16", "f16", *(["f64"] * 3 if wide else [])])
        self.lead = random.choice([(), (1,), (2,), (2,), (3,), (2, 2)])
        self.length = random.randint(1, 12)
        self.features = random.choice([2, 4, 6, 8, 12, 16])
        self.kv_heads = random.randint(1, 3)
        self.heads = self.kv_heads * random.choice([1, 1, 2, 3])
        self.width = random.choice([2, 4, 6, 8, 16])

    # Small words.

    def chance(self, probability: float) -> bool:
        """Whether to take a choice that makes the graph longer."""
        return self.random.random() < probability * self.richness

    def either(self, probability: float = 0.5) -> bool:
        return self.random.random() < probability

    def input(self, label: str, *shape: int, dtype: str | None = None, role: str = "activation") -> Node:
        kind = TensorType(shape, dtype or self.dtype)
        self.inputs.append(node(ops.Input(label=f"{label}_{len(self.inputs)}", type=kind, role=role)))
        return self.inputs[-1]

    def parameter(self, label: str, *shape: int) -> Node:
        """A weight of the graph's element type, perhaps stored in another type and cast."""
        if self.chance(0.1):
            stored = self.input(label, *shape, dtype=self.random.choice(["f32", "bf16"]), role="parameter")
            return self.cast(stored, self.dtype)
        return self.input(label, *shape, role="parameter")

    def cast(self, x: Node, dtype: str) -> Node:
        return node(ops.Cast(dtype=dtype), x)

    def transpose(self, x: Node, permutation: list[int]) -> Node:
        return node(ops.Transpose(permutation=tuple(permutation)), x)

    def detour(self, x: Node) -> Node:
        """Ops that change little or nothing, as exporters leave them in graphs."""
        if self.chance(0.08) and x.type.rank > 1:
            there = list(range(x.type.rank))
            self.random.shuffle(there)
            x = self.transpose(self.transpose(x, there), [there.index(axis) for axis in range(x.type.rank)])
        if self.chance(0.08):
            x = self.cast(self.cast(x, "f32"), x.type.dtype)
        if self.chance(0.05):
            x = self.cast(x, x.type.dtype)
        if self.chance(0.08):
            x = node(ops.Scale(factor=self.random.choice([1.0, 0.5, 2.0, 0.3, -1.5])), x)
        return x

    def positions(self, length: int) -> Node:
        """Known positions or an input: mostly integers, one row for all batch entries or one row per entry."""
        if self.either(0.6):
            return node(ops.Positions(length=length, start=self.random.choice([0, 0, 0, 3, 100])))
        dtype = self.random.choice(["i32", "i32", "i32", "f32", *(["i64"] if self.wide else [])])
        return self.input("positions", *(self.lead if self.either() else ()), length, dtype=dtype)

    # The source of the sequence.

    def source(self, length: int) -> Node:
        """(..., length, features) in the graph's element type; an image may change the length."""
        kind = self.random.random()
        if kind < 0.45 and self.chance(1.0):
            x = self.embedding(length)
        elif kind < 0.6 and self.chance(1.0):
            x = self.patches()
        else:
            x = self.input("x", *self.lead, length, self.features)
        if self.chance(0.2):
            x = node(ops.Scale(factor=math.sqrt(self.features)), x)
        if self.chance(0.35):
            x = self.absolute_positions(x)
        return self.detour(x)

    def embedding(self, length: int) -> Node:
        ids = self.input("ids", *self.lead, length, dtype="i64" if self.wide and self.either() else "i32")
        table = self.parameter("table", self.random.randint(2, 20), self.features)
        return node(ops.Embed(mode=self.random.choice(["clip", "fill"])), ids, table)

    def patches(self) -> Node:
        height, width, channels = (self.random.randint(1, 2) for _ in range(3))
        rows, columns = self.random.randint(1, 3), self.random.randint(1, 3)
        if self.either(0.7):
            image = self.input("image", *self.lead, rows * height, columns * width, channels)
        else:  # channels first, as torch has them
            image = self.input("image", *self.lead, channels, rows * height, columns * width)
            rank = image.type.rank
            image = self.transpose(image, [*range(rank - 3), rank - 2, rank - 1, rank - 3])
        x = self.project(node(ops.Patchify(height=height, width=width), image), self.features)
        classed = Random(f"class token {x.type} {len(self.inputs)}")
        if classed.random() < 0.3 * self.richness:
            x = node(ops.JoinRows(), self.input("class_token", 1, self.features, role="parameter"), x)
        return x

    def absolute_positions(self, x: Node) -> Node:
        *_, length, features = x.type.shape
        positions = self.positions(length)
        if self.either():
            pairing = self.random.choice(["half", "interleaved"])
            sinusoid = ops.Sinusoid(
                width=features, pairing=pairing, theta=self.random.choice([1e4, 100.0]), dtype=x.type.dtype
            )
            return node(ops.Add(), x, node(sinusoid, positions))
        if positions.type.is_integer and self.either():
            table = self.parameter("learned", length + self.random.randint(0, 3) + 5, features)
            return node(ops.Add(), x, node(ops.Embed(), positions, table))
        return node(ops.Add(), x, self.parameter("learned", length, features))

    # A layer.

    def norm(self, x: Node) -> Node:
        kind = self.random.choice(["rms", "layer"])
        given = tuple(label for label in ("weight", "bias") if self.either(0.8 if label == "weight" else 0.3))
        offset = self.random.choice([0.0, 0.0, 1.0]) if "weight" in given else 0.0
        parameters = [self.parameter(f"norm_{label}", x.type.shape[-1]) for label in given]
        epsilon = self.random.choice([1e-5, 1e-6, 1e-3])
        return node(ops.Norm(kind=kind, epsilon=epsilon, weight_offset=offset, given=given), x, *parameters)

    def project(self, x: Node, width: int, bias: bool | None = None) -> Node:
        features = x.type.shape[-1]
        if self.packed and width > 1 and self.chance(0.06):
            cut = self.random.randint(1, width - 1)
            parts = [self.parameter("weight", features, part) for part in (cut, width - cut)]
            weight = node(ops.Pack(), *parts)
        elif self.chance(0.1):  # stored as (out, in), as torch has them
            weight = self.transpose(self.parameter("weight", width, features), [1, 0])
        else:
            weight = self.parameter("weight", features, width)
        if self.either(0.3) if bias is None else bias:
            return node(ops.Project(given=("bias",)), x, weight, self.parameter("bias", width))
        return node(ops.Project(), x, weight)

    def split(self, x: Node, heads: int, width: int, start: int = 0) -> Node:
        return node(ops.SplitHeads(heads=heads, width=width, start=start), x)

    def heads_of(self, x: Node, other: Node, v_width: int) -> tuple[Node, Node, Node]:
        """The heads q, k, v from one merged projection or three; keys and values come from `other`, which may be x."""
        sizes = (self.heads, self.width), (self.kv_heads, self.width), (self.kv_heads, v_width)
        bias = self.either(0.3)
        if other is x and self.chance(0.25):
            whole = self.project(x, sum(heads * width for heads, width in sizes), bias)
            starts = (0, self.heads * self.width, (self.heads + self.kv_heads) * self.width)
            return tuple(self.split(whole, *size, start) for size, start in zip(sizes, starts, strict=True))
        q, k, v = (
            self.split(self.project(source, heads * width, bias), heads, width)
            for source, (heads, width) in zip((x, other, other), sizes, strict=True)
        )
        return q, k, v

    def rope(self, length: int) -> tuple[Op, Op, Node] | None:
        """The angles of queries and of keys, and their positions, which masks may share."""
        dim = self.width if self.either(0.7) else self.random.randrange(2, self.width + 1, 2)
        theta = self.random.choice([1e4, 5e5, 100.0])
        family = self.random.choice(self.families(dim))
        sections: tuple[int, ...] = ()
        positions = self.positions(length)
        if dim >= 6 and self.chance(0.15):
            sections, family = (dim // 2 - 2, 1, 1), scaling.none()
            positions = self.input("positions", 3, *(self.lead if self.either() else ()), length, dtype="i32")
        declared = {
            "dim": dim,
            "head_width": self.width,
            "theta": theta,
            "scaling": family,
            "sections": sections,
            "interleaved_sections": bool(sections) and self.either(),
            "length": length if family.needs_length or self.either(0.1) else None,
        }
        return ops.Angles(**declared), ops.Angles(**declared, inverse=family.kind == "xpos"), positions

    def families(self, dim: int) -> list[scaling.Scaling]:
        pairs = dim // 2
        operands = [
            *[scaling.none()] * 6,
            scaling.linear(factor=2.0),
            scaling.llama3(factor=8.0, low=1.0, high=4.0, original=16),
            scaling.yarn(factor=4.0, original=64),
            scaling.xpos(base=64.0, centre=4.0),
            scaling.proportional(fraction=0.5),
            scaling.longrope(short=[1.0] * pairs, long=[1.0 + i for i in range(pairs)], original=4, factor=2.0),
        ]
        return operands if dim == 2 else [*operands, scaling.dynamic(factor=2.0, original=4)]

    def rotated(self, q: Node, k: Node, q_rope: Op, k_rope: Op, q_at: Node, k_at: Node) -> tuple[Node, Node]:
        pairing = self.random.choice(["half", "interleaved"])
        if self.packed and self.chance(0.08) and pairing == "interleaved":
            reorder = ops.ReorderPairs(width=self.width, dim=q_rope.dim, to="half")
            q, k, pairing = node(reorder, q), node(reorder, k), "half"
        rotate = ops.Rotate(pairing=pairing)
        return node(rotate, q, node(q_rope, q_at)), node(rotate, k, node(k_rope, k_at))

    def layer(self, x: Node, outputs: dict[str, Node]) -> Node:
        other = x
        if self.chance(0.15):
            other = self.input("context", *self.lead, self.random.randint(1, 12), self.random.choice([4, 6]))
        h = self.norm(x) if self.chance(0.6) else x
        v_width = self.width if self.either(0.85) else self.random.randint(1, 9)
        q, k, v = self.heads_of(self.detour(h), h if other is x else other, v_width)
        if self.chance(0.2):
            q, k = self.norm(q), self.norm(k)
        length, keys = q.type.shape[-3], k.type.shape[-3]
        places: dict[str, Node] = {}
        if self.chance(0.6):
            q_rope, k_rope, at = self.rope(length)
            shared = other is x
            k_at = at if shared else self.positions(keys) if not q_rope.sections else None
            if k_at is not None:
                q, k = self.rotated(q, k, q_rope, k_rope, at, k_at)
                if not q_rope.sections:
                    places = {"q_positions": at, "kv_positions": k_at}
        # Of its own generator, like dropout below.
        latent = Random(f"latent {q.type} {len(self.inputs)}")
        if latent.random() < 0.12 * self.richness:
            q, k = self.widened(q, k, latent.choice([1, 2, 4]))
        cached = other is x and self.chance(0.25)
        if cached:
            k, v = self.cached(k, v, outputs)
            places["kv_positions"] = node(ops.Positions(length=k.type.shape[-3]))
            places.setdefault("q_positions", self.input("positions", length, dtype="i32"))
        y = self.attend(q, k, v, places, cached, outputs)
        if self.chance(0.85):
            y = self.detour(node(ops.MergeHeads(), y))
            if self.chance(0.8):
                y = self.project(y, self.features)
                if x.type == y.type and self.chance(0.5):
                    y = node(ops.Add(), x, y)
        return y

    def widened(self, q: Node, k: Node, more: int) -> tuple[Node, Node]:
        """Queries and keys with more features, as latent attention has them: those of the keys are one head's."""
        weight = self.input("widening", *q.type.shape[-2:], more, role="parameter")
        shared = self.input("shared_keys", *k.type.shape[:-2], 1, more)
        q = node(ops.Clip(limit=1.5), node(ops.JoinFeatures(), q, node(ops.ProjectHeads(), q, weight)))
        return q, node(ops.JoinFeatures(), k, shared)

    def cached(self, k: Node, v: Node, outputs: dict[str, Node]) -> tuple[Node, Node]:
        capacity = k.type.shape[-3] + self.random.randint(0, 6)
        lengths = self.input("lengths", *(self.lead if self.either() else ()), dtype="i32")
        values: list[Node] = []
        for name, update in (("k", k), ("v", v)):
            *lead, _, heads, width = update.type.shape
            cache = self.input(f"{name}_cache", *lead, capacity, heads, width, role="state")
            values.append(node(ops.AppendCache(), cache, update, lengths))
            outputs[f"{name}_cache_{len(outputs)}"] = values[-1]
        return values[0], values[1]

    def attend(
        self, q: Node, k: Node, v: Node, places: dict[str, Node], cached: bool, outputs: dict[str, Node]
    ) -> Node:
        *lead, queries, heads, width = q.type.shape
        keys = k.type.shape[-3]
        visible, score = self.mask(cached), self.score(heads)
        variables = masks.variables(visible) | masks.variables(score)
        needed = {operand for variable, operand in ops.Attend.NEEDS.items() if variable in variables}
        operands: dict[str, Node] = {}
        for name, of_queries, size in (
            ("q_positions", "q_positions", queries),
            ("kv_positions", "q_positions", keys),
            ("q_segments", "q_segments", queries),
            ("kv_segments", "q_segments", keys),
        ):
            same = operands.get(of_queries)
            if name in needed and of_queries == "q_positions":
                operands[name] = places.get(name) or (same if same and queries == keys else self.positions(size))
            elif name in needed:
                segments = same if same and queries == keys else None
                shape = (*(lead if self.either() else ()), size)
                operands[name] = segments or self.input("segments", *shape, dtype="i32")
            elif name in places and self.either(0.1):
                operands[name] = places[name]
        if self.chance(0.2):
            operands["bias"] = self.input("bias", *self.broadcast(lead, heads, queries, keys), dtype=self.any_float())
        if self.chance(0.2):
            operands["mask"] = self.input("mask", *self.broadcast(lead, heads, queries, keys), dtype="i1")
        if self.chance(0.15):
            operands["sinks"] = self.input("sinks", heads, dtype=self.any_float(), role="parameter")
        # Of its own generator, so that the other choices stay what they were before there was dropout.
        dropping = Random(f"dropout {q.type} {len(self.inputs)}")
        if dropping.random() < 0.12 * self.richness:
            operands["seed"] = self.input("seed", 4, dtype="i32")
        declared = {
            "dropout": dropping.choice([0.1, 0.5]) if "seed" in operands else None,
            "scale": self.random.choice([ops.attention_scale(width), ops.attention_scale(width), 1.0, 0.2]),
            "visible": visible,
            "score": score,
            "softcap": self.random.choice([5.0, 30.0]) if self.chance(0.15) else None,
            "masked_row": self.random.choice(["zero", "zero", "mean"]),
            "given": tuple(label for label in ops.Attend.optional if label in operands),
        }
        given = [operands[label] for label in declared["given"]]
        if self.chance(0.1):
            log_sum_exp = ops.Attend(**declared, returns="log_sum_exp")
            outputs[f"lse_{len(outputs)}"] = node(log_sum_exp, q, k, v, *given)
        return node(ops.Attend(**declared), q, k, v, *given)

    def any_float(self) -> str:
        return self.random.choice([self.dtype, "f32"])

    def broadcast(self, lead: list[int], *rest: int) -> list[int]:
        """A shape that broadcasts to (*lead, *rest): some sizes become 1, and some leading sizes are omitted.

        None are omitted if the sizes before the last two would fit `lead` as well, because such a shape is refused.
        """
        shape = [size if self.either(0.7) else 1 for size in (*lead, *rest)]
        omitted = self.random.randint(0, len(lead))
        first = shape[omitted:-2]
        fits_lead = omitted and all(size in (1, own) for size, own in zip(first, lead[omitted - 1 :], strict=True))
        return shape if fits_lead and max(first) > 1 else shape[omitted:]

    def mask(self, cached: bool) -> masks.Expr:
        number = self.random.randint(1, 6)
        choices = [
            masks.full,
            masks.causal,
            masks.causal,
            masks.causal & masks.window(number),
            masks.causal | masks.prefix(number),
            masks.chunked(number) & masks.causal,
            masks.chunked(number),
            masks.segments,
            masks.segments & masks.causal,
            masks.mask(lambda q_pos, kv_pos: (kv_pos < q_pos) & (kv_pos % 2 == 0)),  # the first row sees no key
            masks.mask(lambda q_pos, kv_pos, head: abs(q_pos - kv_pos) <= head + 1),
            masks.mask(lambda kv_pos, batch: kv_pos != batch + 1),
        ]
        chosen = self.random.choice(choices)
        return chosen & masks.causal if cached else chosen  # rows that are not written yet come after every query

    def score(self, heads: int) -> masks.Expr:
        if not self.chance(0.2):
            return masks.identity
        return self.random.choice(
            [
                masks.alibi([2.0 ** -(1 + head) for head in range(heads)]),
                masks.score(lambda score, q_pos, kv_pos: score - 0.125 * abs(q_pos - kv_pos)),
                masks.score(lambda score: 4.0 * masks.tanh(score / 4.0)),
                masks.score(lambda score, head: score * (1.0 + 0.25 * head)),
            ]
        )

    # Whole graphs.

    def bare_attention(self) -> Node:
        """Attention over inputs that are heads already, perhaps with the heads before the sequence."""
        keys = self.length if self.either() else self.random.randint(1, 12)
        v_width = self.width if self.either(0.7) else self.random.randint(1, 9)
        values: list[Node] = []
        rank = len(self.lead) + 3
        for name, length, heads, width in (
            ("q", self.length, self.heads, self.width),
            ("k", keys, self.kv_heads, self.width),
            ("v", keys, self.kv_heads, v_width),
        ):
            if self.chance(0.15):
                x = self.input(name, *self.lead, heads, length, width)
                values.append(self.transpose(x, [*range(rank - 3), rank - 2, rank - 3, rank - 1]))
            else:
                values.append(self.input(name, *self.lead, length, heads, width))
        q, k, v = values
        if self.richness < 0.02:
            return node(ops.Attend(scale=ops.attention_scale(self.width)), q, k, v)
        places: dict[str, Node] = {}
        if self.chance(0.5) and keys == self.length:
            q_rope, k_rope, at = self.rope(keys)
            q, k = self.rotated(q, k, q_rope, k_rope, at, at)
            places = {} if q_rope.sections else {"q_positions": at, "kv_positions": at}
        return self.attend(q, k, v, places, False, {})

    def front_end(self) -> dict[str, Node]:
        if self.either(0.25):
            return {"y": self.detour(self.bare_attention())}
        outputs: dict[str, Node] = {}
        x = self.source(self.length)
        y = self.layer(x, outputs)
        if y.type == x.type and self.chance(0.3):
            y = self.layer(y, outputs)
        if self.chance(0.2):
            y = self.norm(y)
        if self.chance(0.1):
            y = self.cast(y, self.random.choice(["f32", "bf16"]))
        return {"y": self.detour(y), **outputs}
