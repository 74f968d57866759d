"""Legality by stage: every invariant notices what breaks it and nothing else, and the passes make a graph canonical.

The ops in words."""

from __future__ import annotations

from collections.abc import Callable

import legality
import numpy as np
import pytest
from drawn import drawn_graph, graphs
from hypothesis import given, settings

from ropegen.ir import ops, spec
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node
from ropegen.passes import canonical
from ropegen.types import DTYPES, numpy_dtype

Front = Callable[[Builder], dict[str, Node]]


def built(front: Front) -> Graph:
    b = Builder("built")
    return b.build(**front(b))


def over_x(shape: tuple[int, ...], dtype: str, value: Callable[[Builder, Node], Node]) -> Front:
    """A graph of one input x."""
    return lambda b: {"y": value(b, b.input("x", shape, dtype))}


def heads(b: Builder, label: str, count: int = 2) -> Node:
    return b.input(label, (1, 4, count, 8), "f32")


def scaled_queries(b: Builder, factor: float, scale: float = 0.5, reads: str = "q") -> dict[str, Node]:
    """Attention over a scaled q, which `reads` says who else reads."""
    scaled = b.scale(heads(b, "q"), factor)
    k, v = (scaled if reads == name else heads(b, name) for name in "kv")
    outputs = {"y": b.attend(scaled, k, v, scale=scale)}
    if reads == "twice":
        outputs["lse"] = b.attend(scaled, k, v, scale=scale, returns="log_sum_exp")
    if reads == "output":
        outputs["q"] = scaled
    if reads == "norm":
        outputs["n"] = b.norm(scaled, kind="rms", epsilon=1e-5)
    return outputs


def projections(b: Builder, *, role: str = "parameter", biases: str = "", apart: bool = False) -> dict[str, Node]:
    """Attention over three projections of x, or of inputs of their own when `apart`."""
    heads: list[Node] = []
    for name in "qkv":
        x = b.input(f"x_{name}" if apart else "x", (1, 4, 16), "f32")
        weight = b.input(f"w_{name}", (16, 16), "f32", role=role)
        bias = b.parameter(f"b_{name}", (16,), "f32") if name in biases else None
        split = b.split_heads(b.project(x, weight, bias), 2)
        heads.append(b.norm(split, kind="rms", epsilon=1e-6) if name == "q" else split)
    return {"y": b.attend(*heads)}


def packed_projection(b: Builder) -> dict[str, Node]:
    x = b.input("x", (1, 4, 16), "f32")
    whole = b.project(x, b.apply(ops.Pack(), *(b.parameter(f"w_{name}", (16, 16), "f32") for name in "qkv")))
    return {"y": b.attend(*(b.split_heads(whole, 2, 8, start=16 * part) for part in range(3)))}


def one_projection_thrice(b: Builder) -> dict[str, Node]:
    x, weight = b.input("x", (1, 4, 16), "f32"), b.parameter("w", (16, 16), "f32")
    split = b.split_heads(b.project(x, weight), 2)
    return {"y": b.attend(split, split, split)}


def cached_projections(b: Builder) -> dict[str, Node]:
    x, lengths = b.input("x", (1, 4, 16), "f32"), b.input("lengths", (), "i32")
    k, v = (
        b.append_cache(
            b.state(f"{name}_cache", (1, 9, 2, 8), "f32"),
            b.split_heads(b.project(x, b.parameter(f"w_{name}", (16, 16), "f32")), 2),
            lengths,
        )
        for name in "kv"
    )
    return {"y": b.attend(heads(b, "q"), k, v)}


def unused(b: Builder) -> dict[str, Node]:
    b.input("z", (3,), "f32")
    return {"y": b.scale(b.input("x", (4,), "f32"), 2.0)}


def passed_on(b: Builder) -> dict[str, Node]:
    return {"y": b.input("x", (4,), "f32")}


# invariant: (graphs that break it, graphs that look alike and do not)
RULES: dict[str, tuple[list[Front], list[Front]]] = {
    "no-identity-transpose": (
        [
            over_x((2, 3), "f32", lambda b, x: b.transpose(x, (0, 1))),
            over_x((), "f32", lambda b, x: b.transpose(x, ())),
        ],
        [over_x((2, 3), "f32", lambda b, x: b.transpose(x, (1, 0)))],
    ),
    "one-transpose": (
        [over_x((2, 3, 4), "f32", lambda b, x: b.transpose(b.transpose(x, (1, 0, 2)), (0, 2, 1)))],
        [
            over_x(
                (2, 3, 4),
                "f32",
                lambda b, x: b.transpose(b.norm(b.transpose(x, (1, 0, 2)), kind="rms", epsilon=1), (0, 2, 1)),
            )
        ],
    ),
    "no-cast-to-own-type": (
        [over_x((2,), "bf16", lambda b, x: b.cast(x, "bf16"))],
        [over_x((2,), "bf16", lambda b, x: b.cast(x, "f16"))],
    ),
    "one-cast": (
        [
            over_x((2,), "bf16", lambda b, x: b.cast(b.cast(x, "f32"), "bf16")),
            over_x((2,), "bf16", lambda b, x: b.cast(b.cast(x, "f32"), "f16")),
            over_x((2,), "i32", lambda b, x: b.cast(b.cast(x, "f64"), "i32")),
            over_x((2,), "i1", lambda b, x: b.cast(b.cast(x, "bf16"), "i1")),
        ],
        [
            over_x((2,), "f32", lambda b, x: b.cast(b.cast(x, "bf16"), "f32")),
            over_x((2,), "f16", lambda b, x: b.cast(b.cast(x, "bf16"), "f16")),
            over_x((2,), "i32", lambda b, x: b.cast(b.cast(x, "f32"), "i32")),
            over_x((2,), "i64", lambda b, x: b.cast(b.cast(x, "f64"), "i64")),
        ],
    ),
    "no-split-and-merge": (
        [over_x((3, 8), "f32", lambda b, x: b.merge_heads(b.split_heads(x, 2)))],
        [
            over_x((3, 8), "f32", lambda b, x: b.merge_heads(b.split_heads(x, 2, 2))),
            over_x((3, 8), "f32", lambda b, x: b.merge_heads(b.split_heads(x, 2, 2, start=4))),
        ],
    ),
    "no-scale-by-one": (
        [over_x((2,), "f32", lambda b, x: b.scale(x, 1))],
        [over_x((2,), "f32", lambda b, x: b.scale(x, -1)), over_x((2,), "f32", lambda b, x: b.scale(x, 0))],
    ),
    "one-scale": (
        [
            over_x((2,), "f32", lambda b, x: b.scale(b.scale(x, 2), 3)),
            over_x((2,), "f32", lambda b, x: b.scale(b.scale(x, 0), 3)),
        ],
        [  # what overflows or vanishes on the way is another number
            over_x((2,), "f32", lambda b, x: b.scale(b.scale(x, 1e30), 1e30)),
            over_x((2,), "f32", lambda b, x: b.scale(b.scale(x, 1e-30), 1e-30)),
        ],
    ),
    "scale-in-attend": (
        [lambda b: scaled_queries(b, 0.25), lambda b: scaled_queries(b, 0.25, reads="twice")],
        [
            *(lambda b, reads=reads: scaled_queries(b, 0.25, reads=reads) for reads in ("k", "v", "output", "norm")),
            lambda b: scaled_queries(b, 1e-30, scale=1e-30),
        ],
    ),
    "no-unused-input": ([unused], [passed_on]),
    "one-projection": (
        [projections, lambda b: projections(b, biases="qkv"), cached_projections],
        [
            packed_projection,
            one_projection_thrice,
            lambda b: projections(b, role="activation"),
            lambda b: projections(b, biases="qv"),
            lambda b: projections(b, apart=True),
        ],
    ),
}


def test_every_invariant_is_tried() -> None:
    assert [rule.name for rule in legality.INVARIANTS] == list(RULES)


@pytest.mark.parametrize("name", RULES)
def test_an_invariant_notices_what_breaks_it_and_nothing_else(name: str) -> None:
    sentence = next(rule.sentence for rule in legality.INVARIANTS if rule.name == name)
    broken, kept = RULES[name]
    for front in broken:
        (line,) = legality.violations(built(front), "canonical")
        assert line.endswith(f": {sentence}")
    for front in kept:
        assert legality.violations(built(front), "canonical") == ()


@pytest.mark.parametrize("name", RULES)
def test_the_passes_mend_what_breaks_an_invariant(name: str) -> None:
    for front in RULES[name][0]:
        assert legality.violations(canonical(built(front)), "canonical") == ()


@given(graphs(30, wide=True))
@settings(deadline=None, max_examples=100)
def test_what_the_passes_make_is_canonical(drawn: Graph) -> None:
    assert legality.violations(canonical(drawn), "canonical") == ()


def test_a_source_has_no_ops_of_the_passes() -> None:
    seen: set[bool] = set()
    for seed in range(200):
        assert legality.violations(drawn_graph(seed, 30, packed=False), "source") == ()
        drawn = drawn_graph(seed, 30, packed=True)
        made = [node for node in drawn.nodes if node.op.name in ("pack", "reorder_pairs")]
        assert len(legality.violations(drawn, "source")) == len(made)
        seen.add(bool(made))
    assert seen == {True, False}


def test_an_element_type_holds_another_if_all_its_values_survive() -> None:
    """Every value of the small types, and the largest and smallest steps of the others, there and back."""
    for narrow in DTYPES:
        values = samples(narrow)
        for wide in DTYPES:
            if wide != narrow:
                with np.errstate(all="ignore"):
                    back = values.astype(numpy_dtype(wide)).astype(values.dtype)
                assert np.array_equal(back, values) == legality.holds(wide, narrow), (wide, narrow)


def samples(dtype: str) -> np.ndarray:
    kind = numpy_dtype(dtype)
    if dtype == "i1":
        return np.array([False, True])
    if dtype.startswith("i"):
        limits = np.iinfo(kind)
        return np.array([limits.min, limits.min + 1, -1, 0, 1, limits.max - 1, limits.max], kind)
    if kind.itemsize == 2:
        values = np.arange(2**16, dtype=np.uint16).view(kind)
        with np.errstate(invalid="ignore"):
            return values[np.isfinite(values)]
    limits = np.finfo(kind)
    one = np.ones((), kind)
    return np.array([0, 1, one + limits.eps, limits.max, limits.tiny, limits.smallest_subnormal, -limits.max], kind)


# The ops in words -------------------------------------------------------------------------------------------------


def test_every_op_is_described() -> None:
    described = {op.name: op for op in spec.describe()}
    assert list(described) == list(ops.OPS)
    for name, op in described.items():
        assert op.sentence.endswith(".")
        assert op.stages in (("source", "canonical"), ("canonical",))
        assert str(op).startswith(f"{name}(")
    assert [name for name, op in described.items() if op.stages == ("canonical",)] == ["pack", "reorder_pairs"]


@pytest.mark.parametrize("described", spec.describe(), ids=lambda op: op.name)
def test_what_the_description_requires_is_required(described: spec.Description) -> None:
    examples = {"string": "x", "integer": 4, "float": 2.0, "[integer]": (0,)}
    made = {
        attribute.name: attribute.choices[0] if attribute.choices else examples.get(attribute.kind)
        for attribute in described.attributes
        if attribute.default is None
    }
    cls = ops.OPS[described.name]
    for missing in made:
        with pytest.raises(TypeError, match=missing):
            cls(**{name: value for name, value in made.items() if name != missing})
    if all(value is not None for value in made.values()):
        op = cls(**made)
        for attribute in described.attributes:
            if attribute.default is not None:
                value = getattr(op, attribute.name)
                assert str(value).lower() in attribute.default.replace("[]", "()").strip('"').lower()


def test_a_description_reads_well() -> None:
    described = {op.name: str(op) for op in spec.describe()}
    assert described["rotate"].startswith('rotate(x, angles) {pairing: "half" | "interleaved"}\n    Rotary embedding')
    assert described["pack"].startswith("pack(part...)\n")
    assert described["norm"].startswith('norm(x, weight?, bias?) {kind: "rms" | "layer", epsilon: float, ')
    assert 'visible: expression = "True"' in described["attend"]
    assert "softcap: float = none" in described["attend"]
