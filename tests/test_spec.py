"""Legality by stage: each rule finds what breaks it and nothing else, and the passes make a graph canonical."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawn import drawn_graph, graphs
from hypothesis import given, settings

from ropegen.errors import RopegenError
from ropegen.ir import ops, spec
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node
from ropegen.passes import canonical

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
    k, v = (scaled if reads == each else heads(b, each) for each in "kv")
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
    found: list[Node] = []
    for each in "qkv":
        x = b.input(f"x_{each}" if apart else "x", (1, 4, 16), "f32")
        weight = b.input(f"w_{each}", (16, 16), "f32", role=role)
        bias = b.parameter(f"b_{each}", (16,), "f32") if each in biases else None
        split = b.split_heads(b.project(x, weight, bias), 2)
        found.append(b.norm(split, kind="rms", epsilon=1e-6) if each == "q" else split)
    return {"y": b.attend(*found)}


def packed_projection(b: Builder) -> dict[str, Node]:
    x = b.input("x", (1, 4, 16), "f32")
    whole = b.project(x, b.apply(ops.Pack(), *(b.parameter(f"w_{each}", (16, 16), "f32") for each in "qkv")))
    return {"y": b.attend(*(b.split_heads(whole, 2, 8, start=16 * part) for part in range(3)))}


def one_projection_thrice(b: Builder) -> dict[str, Node]:
    x, weight = b.input("x", (1, 4, 16), "f32"), b.parameter("w", (16, 16), "f32")
    split = b.split_heads(b.project(x, weight), 2)
    return {"y": b.attend(split, split, split)}


def cached_projections(b: Builder) -> dict[str, Node]:
    x, lengths = b.input("x", (1, 4, 16), "f32"), b.input("lengths", (), "i32")
    k, v = (
        b.append_cache(
            b.state(f"{each}_cache", (1, 9, 2, 8), "f32"),
            b.split_heads(b.project(x, b.parameter(f"w_{each}", (16, 16), "f32")), 2),
            lengths,
        )
        for each in "kv"
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


def test_every_invariant_is_tried():
    assert {each.name for stage in spec.STAGES.values() for each in stage.invariants} == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_finds_what_breaks_it_and_nothing_else(name: str):
    sentence = next(each.sentence for each in spec.STAGES["canonical"].invariants if each.name == name)
    broken, kept = RULES[name]
    for front in broken:
        found = spec.violations(built(front), "canonical")
        assert [each.endswith(f": {sentence}") for each in found] == [True]
    for front in kept:
        assert spec.violations(built(front), "canonical") == ()


@pytest.mark.parametrize("name", RULES)
def test_the_passes_mend_each(name: str):
    for front in RULES[name][0]:
        graph = built(front)
        with pytest.raises(RopegenError):
            spec.check(graph, "canonical")
        spec.check(canonical(graph), "canonical")


@given(graphs(30, wide=True))
@settings(deadline=None, max_examples=100)
def test_what_the_passes_make_is_canonical(drawn: Graph):
    assert spec.violations(canonical(drawn), "canonical") == ()


def test_a_source_has_no_ops_of_the_passes():
    seen: set[bool] = set()
    for seed in range(200):
        spec.check(drawn_graph(seed, 30, packed=False), "source")
        drawn = drawn_graph(seed, 30, packed=True)
        made = {each.op.name for each in drawn.nodes} & {"pack", "reorder_pairs"}
        assert bool(spec.violations(drawn, "source")) == bool(made)
        seen.add(bool(made))
    assert seen == {True, False}


def test_the_error_names_every_op_the_rule_and_the_way_out():
    b = Builder("twice")
    x = b.input("x", (2, 3), "f32")
    graph = b.build(a=b.scale(x, 1), c=b.transpose(x, (0, 1)))
    with pytest.raises(RopegenError) as caught:
        spec.check(graph, "canonical")
    assert str(caught.value) == (
        "graph 'twice' is not canonical; run the passes (`ropegen opt`), which make these true:\n"
        "  transpose(x, permutation=(0, 1)) -> tensor<2x3xf32>: a transposition moves at least one axis\n"
        "  scale(x, factor=1.0) -> tensor<2x3xf32>: a scale has another factor than 1"
    )
    packed = b.build(y=b.apply(ops.Pack(), x, x))
    with pytest.raises(
        RopegenError, match=r"pack\(x, x\) -> tensor<2x6xf32>: pack is not an op of this stage"
    ) as caught:
        spec.check(packed, "source")
    assert "give it as canonical" in str(caught.value)
    spec.check(packed, "canonical")


def test_an_unknown_stage_names_the_nearest():
    with pytest.raises(RopegenError, match=r"there is no stage 'canonic'; did you mean 'canonical'\?"):
        spec.check(drawn_graph(0), "canonic")


# The ops in words -------------------------------------------------------------------------------------------------


def test_every_op_is_described():
    described = {each.name: each for each in spec.describe()}
    assert list(described) == list(ops.OPS)
    for each in described.values():
        assert each.sentence.endswith(".")
        assert each.stages in (("source", "canonical"), ("canonical",))
        assert str(each).startswith(f"{each.name}(")
    assert [each.name for each in described.values() if each.stages == ("canonical",)] == ["pack", "reorder_pairs"]


@pytest.mark.parametrize("described", spec.describe(), ids=lambda each: each.name)
def test_what_the_description_requires_is_required(described: spec.Description):
    examples = {"string": "x", "integer": 4, "float": 2.0, "[integer]": (0,)}
    made = {
        each.name: each.choices[0] if each.choices else examples.get(each.kind)
        for each in described.attributes
        if each.default is None
    }
    cls = ops.OPS[described.name]
    for missing in made:
        with pytest.raises(TypeError, match=missing):
            cls(**{name: value for name, value in made.items() if name != missing})
    if all(value is not None for value in made.values()):
        op = cls(**made)
        for each in described.attributes:
            if each.default is not None:
                value = getattr(op, each.name)
                assert str(value).lower() in each.default.replace("[]", "()").strip('"').lower()


def test_a_description_reads_well():
    described = {each.name: str(each) for each in spec.describe()}
    assert described["rotate"].startswith('rotate(x, angles) {pairing: "half" | "interleaved"}\n    Rotary embedding')
    assert described["pack"].startswith("pack(part...)\n")
    assert described["norm"].startswith('norm(x, weight?, bias?) {kind: "rms" | "layer", epsilon: float, ')
    assert 'visible: expression = "True"' in described["attend"]
    assert "softcap: float = none" in described["attend"]
