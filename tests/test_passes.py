from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import deep
import legality
import numpy as np
import pytest
from drawn import drawn_graph, graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import draw_inputs

from ropegen import reference
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node, graph, node, topological
from ropegen.passes import PIPELINE, Pass, Rule, Trace, canonical, run
from ropegen.passes.mutable import MutableGraph, Value, View
from ropegen.passes.rewrite import local, settle
from ropegen.rotary import Rope

RULES = {rule.name: rule for stage in PIPELINE for rule in stage.rules}


# Meaning ------------------------------------------------------------------------------------------------------------


def same_meaning(before: Graph, after: Graph, seed: int = 0) -> None:
    """Equal outputs in float64, to reassociation, on drawn inputs; `after` may lack the inputs that are not read."""
    inputs = draw_inputs(before, seed)
    wanted = reference.evaluate(before, inputs)
    actual = reference.evaluate(after, {label: inputs[label] for label in after.input_types})
    assert list(actual) == list(wanted)
    for label, value in wanted.items():
        assert actual[label].shape == value.shape
        assert actual[label].dtype == value.dtype
        size = np.max(np.abs(value), initial=1.0, where=np.isfinite(value)) if value.dtype == np.float64 else 1.0
        np.testing.assert_allclose(actual[label], value, rtol=1e-9, atol=1e-9 * size, err_msg=label)


def same_interface(before: Graph, after: Graph) -> None:
    read = set(topological(value for _, value in before.outputs))
    assert after.name == before.name
    assert after.inputs == tuple(item for item in before.inputs if item in read)
    assert [(label, value.type) for label, value in after.outputs] == [
        (label, value.type) for label, value in before.outputs
    ]


def cluttered(before: Graph, seed: int) -> Graph:
    """The graph with what undoes itself put around some values: equal, with something for every rule to do."""
    random = Random(f"clutter/{seed}")
    equal: dict[Node, Node] = {item: item for item in before.inputs}
    for item in before.nodes:
        if item not in equal:
            equal[item] = node(item.op, *(equal[operand] for operand in item.operands))
        if isinstance(item.op, ops.Attend) and random.random() < 0.4:
            equal[item] = rescaled(equal[item], random)
        if item.type.is_float and random.random() < 0.5:
            equal[item] = clutter(equal[item], random)
    return graph(before.name, before.inputs, [(label, equal[value]) for label, value in before.outputs])


def clutter(x: Node, random: Random) -> Node:
    choice = random.randrange(8)
    if choice == 0:
        return node(ops.Scale(factor=0.25), node(ops.Scale(factor=4.0), x))
    if choice == 1:
        return node(ops.Cast(dtype=x.type.dtype), node(ops.Cast(dtype="f64"), x))
    if choice == 2 and x.type.rank >= 2:
        heads, width = x.type.shape[-2:]
        if heads and width:
            return node(ops.SplitHeads(heads=heads, width=width), node(ops.MergeHeads(), x))
    if choice == 3 and x.type.rank and x.type.shape[-1]:
        split = ops.SplitHeads(heads=1, width=x.type.shape[-1])
        return node(ops.MergeHeads(), node(split, x))
    if choice == 4 and x.type.rank:
        return node(ops.Pack(), x)
    if choice == 5 and x.type.rank:
        axes = tuple(random.sample(range(x.type.rank), x.type.rank))
        back = tuple(axes.index(axis) for axis in range(x.type.rank))
        return node(ops.Transpose(permutation=back), node(ops.Transpose(permutation=axes), x))
    if choice == 6 and x.type.rank and x.type.shape[-1] and x.type.shape[-1] % 2 == 0:
        width = x.type.shape[-1]
        half, back = (ops.ReorderPairs(width=width, dim=width, to=to) for to in ("half", "interleaved"))
        return node(back, node(half, x))
    if choice == 7 and x.type.rank and x.type.shape[-1]:
        width = x.type.shape[-1]
        twice = node(ops.Pack(), x, x)
        return columns(columns(twice, 1, 2 * width - 1), width - 1, width)
    return x


def columns(x: Node, start: int, size: int) -> Node:
    return node(ops.MergeHeads(), node(ops.SplitHeads(heads=1, width=size, start=start), x))


def rescaled(attend: Node, random: Random) -> Node:
    """The same attention with a part of its scale moved to q or k."""
    op, index = attend.op, random.randrange(2)
    assert isinstance(op, ops.Attend)
    operands = list(attend.operands)
    operands[index] = node(ops.Scale(factor=0.5), operands[index])
    return node(dataclasses.replace(op, scale=2.0 * op.scale), *operands)


@functools.cache
def drawn(count: int) -> tuple[Graph, ...]:
    plain = (drawn_graph(seed, 20, wide=True) for seed in range(count))
    return tuple(item if seed % 2 else cluttered(item, seed) for seed, item in enumerate(plain))


def alone(rule: Rule, before: Graph) -> tuple[Graph, Trace]:
    """The graph after one rule alone, as often as it fires."""
    return settle(before, (Pass("alone", "One rule.", (rule,)),))


def test_every_rule_by_itself_fires_and_keeps_the_meaning_of_drawn_graphs() -> None:
    fired: Counter[str] = Counter()
    for seed, before in enumerate(drawn(240)):
        for rule in RULES.values():
            after, trace = alone(rule, before)
            assert (after is before) == (not trace), rule.name
            if trace:
                fired[rule.name] += 1
                if fired[rule.name] <= 40:
                    same_meaning(before, after, seed)
    assert set(fired) == set(RULES)


@given(graphs(30, wide=True), st.booleans(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_the_pipeline_keeps_meaning_and_interface_and_settles(before: Graph, messy: bool, seed: int) -> None:
    before = cluttered(before, seed) if messy else before
    after, trace = run(before)
    same_interface(before, after)
    same_meaning(before, after, seed)
    assert run(after) == (after, ())
    assert canonical(before) is after
    assert (after is before) == (not trace)
    assert [step.ops_before for step in trace] + [op_count(after)] == [op_count(before)] + [
        step.ops_after for step in trace
    ]


def op_count(graph: Graph) -> int:
    return len(graph.nodes) - len(graph.inputs)


def test_drawn_graphs_and_their_cluttered_forms_end_as_one() -> None:
    for seed in range(100):
        before = drawn_graph(seed, 20)
        assert canonical(cluttered(before, seed)) is canonical(before), seed


def test_canonical_graphs_are_legal() -> None:
    for before in drawn(240):
        assert legality.violations(canonical(before), "canonical") == ()


# The driver ---------------------------------------------------------------------------------------------------------


def restarted(before: Graph) -> tuple[Graph, Counter[str]]:
    """The graph after the passes, and how often every rule fired, by the simplest driver: every rule, every value,
    and a new start after every firing.
    """
    fired: Counter[str] = Counter()
    after, settled = before, False
    while not settled:
        settled = True
        for stage in PIPELINE:
            while (firing := first_firing(stage, after)) is not None:
                name, after = firing
                fired[name] += 1
                settled = False
    return after, fired


def first_firing(stage: Pass, before: Graph) -> tuple[str, Graph] | None:
    for rule in stage.rules:
        working = MutableGraph(before)
        for value in sorted(working.values(), key=lambda value: value.place):
            if isinstance(value.op, rule.anchors) and (change := rule.find(value, working)) is not None:
                working.apply(change.equals, change.unused)
                return rule.name, working.freeze()
    return None


def test_the_worklist_ends_where_starting_again_after_every_firing_ends() -> None:
    for before in drawn(200):
        after, fired = restarted(before)
        assert canonical(before) is after
        assert Counter(step.rule for step in run(before)[1]) == fired


def test_after_every_firing_a_rule_sees_the_graph_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users, outputs, prepared values and the count of ops, against those of the frozen graph."""
    apply, checked = MutableGraph.apply, 0

    def check_after(self: MutableGraph, *arguments: Any) -> Any:
        nonlocal checked
        result = apply(self, *arguments)
        frozen = self.freeze()
        nodes: dict[Value, Node] = {}
        for value in sorted(self.values(), key=lambda value: value.place):
            for part in topological((value,), given=nodes):
                nodes[part] = node(part.op, *(nodes[operand] for operand in part.operands))
        assert len(nodes) == len(frozen.nodes)
        assert set(nodes.values()) == set(frozen.nodes)
        users, outputs = frozen.users(), {value for _, value in frozen.outputs}
        computed_at_each_call = set(reading_inputs(frozen))
        for value, frozen_node in nodes.items():
            assert value.type == frozen_node.type
            assert {nodes[user] for user in self.users(value)} == set(users[frozen_node])
            assert self.is_output(value) == (frozen_node in outputs)
            assert self.is_prepared(value) == (frozen_node not in computed_at_each_call)
            only = self.only_user(value)
            assert (only is not None) == (len(users[frozen_node]) == 1 and frozen_node not in outputs)
        assert self.op_count == op_count(frozen)
        checked += 1
        return result

    monkeypatch.setattr(MutableGraph, "apply", check_after)
    for before in drawn(80):
        run(before)
    assert checked > 500


def test_values_that_become_equal_merge() -> None:
    b = Builder("twins")
    x = b.input("x", (4, 6), "f32")
    wide, plain = (b.norm(value, kind="rms", epsilon=1e-5) for value in (b.cast(b.cast(x, "f64"), "f32"), x))
    working = MutableGraph(b.build(y=b.add(wide, plain), z=b.merge_heads(b.split_heads(wide, 2))))
    (start,) = working.inputs
    (cast,) = (value for value in working.values() if value.op == ops.Cast(dtype="f32"))
    working.apply({cast: start})
    norm = b.norm(x, kind="rms", epsilon=1e-5)
    assert working.freeze() is b.build(y=b.add(norm, norm), z=b.merge_heads(b.split_heads(norm, 2)))
    assert working.op_count == 4


def test_a_value_is_looked_at_again_when_it_becomes_the_only_reader() -> None:
    @local(ops.Norm)
    def own(value: Value, view: View) -> Value | None:
        """norm(x, epsilon=1) -> norm(x, epsilon=2)."""
        alone = value.op == ops.Norm(kind="rms", epsilon=1.0) and view.only_user(value.operands[0]) is value
        return view.node(ops.Norm(kind="rms", epsilon=2.0), *value.operands) if alone else None

    @local(ops.Add)
    def forget(value: Value, view: View) -> Value | None:
        """add(x, y) -> y."""
        return value.operands[1]

    b = Builder("readers")
    x, y = b.scale(b.input("x", (4,), "f32"), 2.0), b.input("y", (4,), "f32")
    before = b.build(a=b.norm(x, kind="rms", epsilon=1.0), b=b.scale(b.add(x, y), 1.0))
    _, trace = settle(before, (Pass("first", "First.", (own, forget)), PIPELINE[1]))
    assert [step.rule for step in trace] == ["forget", "own", "drop-scale-by-one"]


def counted(stages: tuple[Pass, ...], calls: Counter[str]) -> tuple[Pass, ...]:
    """The passes, with every question to a rule counted."""

    def counting(rule: Rule) -> Rule:
        def find(value: Value, view: View) -> Any:
            calls[rule.name] += 1
            return rule.find(value, view)

        return dataclasses.replace(rule, find=find)

    return tuple(dataclasses.replace(stage, rules=tuple(map(counting, stage.rules))) for stage in stages)


@pytest.mark.parametrize(("build", "size"), [(deep.layers, 16), (deep.layers, 64), (deep.scales, 250)])
def test_four_times_the_graph_is_four_times_the_work(build: Callable[[int], Graph], size: int) -> None:
    """In firings and in questions to rules. Work that grew with n log n would be five times as much, or more."""
    calls: list[int] = []
    firings: list[int] = []
    for count in (size, 4 * size):
        asked: Counter[str] = Counter()
        before = build(count)
        after, trace = settle(before, counted(PIPELINE, asked))
        assert legality.violations(after, "canonical") == ()
        assert asked.total() <= 6 * len(before.nodes)
        calls.append(asked.total())
        firings.append(len(trace))
    assert firings[0] >= size - 2
    assert firings[1] == 4 * firings[0]
    assert calls[1] <= 4.75 * calls[0]


def test_every_layer_of_many_is_rewritten() -> None:
    trace = run(deep.layers(64))[1]
    rules = ("order-operands", "scale-in-attend", "rotate-halves", "merge-projections")
    assert Counter(step.rule for step in trace) == dict.fromkeys(rules, 64)


def ordering(name: str, *, descending: bool) -> Rule:
    """A rule that orders the operands of a sum by their labels."""

    def order(value: Value, view: View) -> Value | None:
        first, second = value.operands
        assert isinstance(first.op, ops.Input)
        assert isinstance(second.op, ops.Input)
        is_late = first.op.label < second.op.label if descending else first.op.label > second.op.label
        return view.node(ops.Add(), second, first) if is_late else None

    return dataclasses.replace(local(ops.Add)(order), name=name)


UP, DOWN = ordering("up", descending=False), ordering("down", descending=True)


@pytest.mark.parametrize(
    "stages",
    [(Pass("both", "Both.", (UP, DOWN)),), (Pass("one", "One.", (UP,)), Pass("other", "The other.", (DOWN,)))],
    ids=["in one pass", "in two passes"],
)
def test_a_rule_that_undoes_another_is_an_error(stages: tuple[Pass, ...]) -> None:
    b = Builder("sum")
    before = b.build(y=b.add(b.input("a", (3,), "f32"), b.input("b", (3,), "f32")))
    assert alone(UP, before) == (before, ())
    assert len(alone(DOWN, before)[1]) == 1
    with pytest.raises(
        RopegenError, match=r"'sum' does not settle: 200 rewritings and '(up|down)' still fires; .* mistake"
    ):
        settle(before, stages)


def test_a_replacement_of_another_type_is_an_error() -> None:
    @local(ops.Cast)
    def forget_cast(value: Value, view: View) -> Value | None:
        """cast(x) -> x."""
        return value.operands[0]

    with pytest.raises(RopegenError, match=r"<cast tensor<4xf64>> by <input tensor<4xf32>>; .* has the same type"):
        alone(forget_cast, unary(lambda b, x: b.cast(x, "f64"), 4))


# Real examples ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Layer:
    """The first layer of a small model of a known kind; the fields are what models differ in."""

    pairing: str | None = "half"
    dim: int | None = None
    heads: int = 4
    kv_heads: int = 2
    width: int = 8
    biases: str = ""  # which of q, k, v have a bias
    head_norm: bool = False
    flat_norm: bool = False
    packed: bool = False
    cross: bool = False
    cache: bool = False
    inverse_keys: bool = False
    q_scale: float | None = None
    flat_scale: float | None = None
    k_pairing: str | None = None
    k_dim: int | None = None
    tells: str = ""  # the values that are outputs too
    weight_role: str = "parameter"
    wide_rotation: bool = False
    log_sum_exp: bool = False
    also: Callable[[Builder, dict[str, Node]], Node] | None = None  # one more output, of the values on the way

    def build(self) -> Graph:
        b = Builder("layer")
        self.b = b
        features, length = 16, 6
        x = b.input("x", (2, length, features), "f32")
        context = b.input("context", (2, length, features), "f32") if self.cross else x
        outputs: dict[str, Node] = {}
        q, k, v = self.heads_of(x, context, features)
        if self.q_scale is not None:
            q = b.scale(q, self.q_scale)
        if self.pairing is not None:
            positions = b.positions(length)
            q = self.rotated(q, positions, self.pairing, self.dim)
            k = self.rotated(k, positions, self.k_pairing or self.pairing, self.k_dim or self.dim)
        outputs |= {name: item for name, item in (("q", q), ("k", k), ("v", v)) if name in self.tells}
        if self.cache:
            lengths = b.input("lengths", (2,), "i32")
            k = b.append_cache(b.state("k_cache", (2, 9, self.kv_heads, self.width), "f32"), k, lengths)
            v = b.append_cache(b.state("v_cache", (2, 9, self.kv_heads, self.width), "f32"), v, lengths)
            outputs |= {"k_cache_out": k, "v_cache_out": v}
        scale = 1.0 if self.q_scale is not None or self.flat_scale is not None else None
        y = b.attend(q, k, v, scale=scale)
        if self.also is not None:
            outputs["also"] = self.also(b, {**self.flat, "k": k, "v": v})
        if self.log_sum_exp:
            outputs["lse"] = b.attend(q, k, v, scale=scale, returns="log_sum_exp")
        wo = b.parameter("wo", (self.heads * self.width, features), "f32")
        return b.build(y=b.project(b.merge_heads(y), wo), **outputs)

    def parameter(self, label: str, *shape: int) -> Node:
        return self.b.input(label, shape, "f32", role=self.weight_role)

    def heads_of(self, x: Node, context: Node, features: int) -> list[Node]:
        b = self.b
        self.flat: dict[str, Node] = {}
        counts = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        if self.packed:
            whole = b.project(x, self.parameter("wqkv", features, sum(counts.values()) * self.width))
            split = [
                b.split_heads(whole, count, self.width, start=start * self.width)
                for count, start in zip(counts.values(), (0, self.heads, self.heads + self.kv_heads), strict=True)
            ]
        else:
            split = []
            for name, count in counts.items():
                bias = self.parameter(f"b{name}", count * self.width) if name in self.biases else None
                weight = self.parameter(f"w{name}", features, count * self.width)
                flat = b.project(x if name == "q" else context, weight, bias)
                if name != "v" and self.flat_norm:
                    flat = b.norm(flat, self.parameter(f"n{name}", count * self.width), kind="rms", epsilon=1e-5)
                if name == "q" and self.flat_scale is not None:
                    flat = b.scale(flat, self.flat_scale)
                self.flat[f"flat_{name}"] = flat
                split.append(b.split_heads(flat, count, self.width))
        if self.head_norm:
            for index, name in enumerate("qk"):
                split[index] = b.norm(split[index], self.parameter(f"n{name}", self.width), kind="rms", epsilon=1e-5)
        return split

    def rotated(self, x: Node, positions: Node, pairing: str, dim: int | None) -> Node:
        rope = Rope(pairing=pairing, dim=dim)
        if self.wide_rotation:
            return self.b.cast(self.b.rope(self.b.cast(x, "f64"), positions, rope), "f32")
        return self.b.rope(x, positions, rope)


def unary(change: Callable[[Builder, Node], Node], *shape: int, dtype: str = "f32", label: str = "x") -> Graph:
    b = Builder("unary")
    return b.build(y=change(b, b.input(label, shape or (2, 6, 16), dtype)))


def cross_to_memory() -> Graph:
    """Queries that are scaled for attention and for an output."""
    b = Builder("memory")
    q, k, v = (b.input(name, (1, 4, 2, 8), "f32") for name in "qkv")
    scaled = b.scale(q, 0.5)
    return b.build(y=b.attend(scaled, k, v), scaled=scaled)


def two_attentions(second: str) -> Graph:
    """One scaled q read by an attention as q, and by a second one as `second`."""
    b = Builder("two")
    q, k, v = (b.input(name, (1, 4, 2, 8), "f32") for name in "qkv")
    scaled = b.scale(q, 0.5)
    other = b.attend(scaled, v, k) if second == "q" else b.attend(k, v, scaled)
    return b.build(y=b.attend(scaled, k, v), z=other)


def sums(swapped: bool) -> Graph:
    b = Builder("sums")
    ids, table = b.input("ids", (2, 5), "i32"), b.parameter("table", (7, 8), "f32")
    tokens, places = b.embed(ids, table), b.sinusoid(b.positions(5), 8, pairing="half")
    return b.build(y=b.add(places, tokens) if swapped else b.add(tokens, places))


def extreme_scales() -> Graph:
    return unary(lambda b, x: b.scale(b.scale(x, 1e30), 1e30))


def reordered(**order: object) -> Callable[[Builder, Node], Node]:
    return lambda b, x: b.apply(ops.ReorderPairs(**({"width": 8, "dim": 8, "to": "half"} | order)), x)


def reordered_layer(start: int) -> Graph:
    """Features reordered after the projection, and columns from `start` on read as they are."""
    b = Builder("reordered")
    x, w = b.input("x", (2, 6, 16), "f32"), b.parameter("w", (16, 32), "f32")
    flat = b.project(x, w)
    turned = reordered()(b, b.split_heads(flat, 2, 8))
    return b.build(y=turned, rest=b.split_heads(flat, 2, 8, start=start))


def overlapping_queries_and_keys() -> Graph:
    b = Builder("overlap")
    flat = b.project(b.input("x", (1, 4, 16), "f32"), b.parameter("w", (16, 32), "f32"))
    positions, rope = b.positions(4), Rope(pairing="interleaved")
    q, k = (b.rope(b.split_heads(flat, 2, 8, start=start), positions, rope) for start in (0, 8))
    return b.build(y=b.attend(q, k, b.split_heads(flat, 2, 4, start=24)))


def shared_norm_weight() -> Graph:
    """Norm weights that are computed at every call cannot be reordered for free."""
    b = Builder("norms")
    x, w, n = b.input("x", (2, 6, 16), "f32"), b.parameter("w", (16, 16), "f32"), b.input("n", (8,), "f32")
    return b.build(y=reordered()(b, b.norm(b.split_heads(b.project(x, w), 2), n, kind="rms", epsilon=1e-6)))


def weights_that_read_each_other() -> Graph:
    """k's weight is computed from q's projection, of a constant x."""
    b = Builder("constant")
    x, wq, wv = (b.parameter(label, (4, 4), "f32") for label in ("x", "wq", "wv"))
    q = b.project(x, wq)
    k, v = b.project(x, b.norm(q, kind="rms", epsilon=1e-6)), b.project(q, wv)
    q, k, v = (b.split_heads(item, 2) for item in (q, k, v))
    return b.build(y=b.attend(q, k, v))


def attention_of(change: Callable[[Builder, Node, Node, Node], Node], dtype: str = "f32") -> Graph:
    b = Builder("attention")
    return b.build(y=change(b, *(b.input(name, (1, 4, 2, 8), dtype) for name in "qkv")))


def norm_between() -> Graph:
    return attention_of(lambda b, q, k, v: b.attend(b.norm(b.scale(q, 0.5), kind="rms", epsilon=1.0), k, v))


def narrowed_scale(dtype: str) -> Graph:
    def change(b: Builder, q: Node, k: Node, v: Node) -> Node:
        return b.attend(*(b.cast(item, dtype) for item in (b.scale(q, 1e-6), k, v)))

    return attention_of(change)


def scaled_value() -> Graph:
    return attention_of(lambda b, q, k, v: b.attend(q, k, b.scale(v, 0.5)))


def scaled_weight() -> Graph:
    b = Builder("weight")
    x, w = b.input("x", (1, 4, 16), "f32"), b.scale(b.parameter("w", (16, 16), "f32"), 0.5)
    q = b.split_heads(b.project(x, w), 2)
    return b.build(y=b.attend(q, q, q))


def weight_beside_an_activation() -> Graph:
    """The weight of q is a part of a packed value whose other part comes with every call."""
    b = Builder("beside")
    x, wq, wk = b.input("x", (1, 4, 16), "f32"), b.parameter("wq", (16, 16), "f32"), b.parameter("wk", (16, 16), "f32")
    z = b.input("z", (16, 8), "f32")
    weight = columns(b.apply(ops.Pack(), z, wq), 8, 16)
    for _ in range(2):
        weight = b.norm(weight, kind="rms", epsilon=1e-5)
    q, k = (b.split_heads(b.project(x, weight), 2) for weight in (weight, wk))
    return b.build(y=b.attend(q, k, k), z=z)


def keys_and_values_packed() -> Graph:
    """Queries by one projection, keys and values by a second one."""
    b = Builder("packed")
    x = b.input("x", (1, 4, 16), "f32")
    q, kv = (b.project(x, b.parameter(label, (16, size), "f32")) for label, size in (("wq", 16), ("wkv", 24)))
    return b.build(y=b.attend(b.split_heads(q, 2), b.split_heads(kv, 1, 8), b.split_heads(kv, 1, 16, start=8)))


def keys_as_values() -> Graph:
    b = Builder("shared")
    x, positions, rope = b.input("x", (1, 4, 16), "f32"), b.positions(4), Rope(pairing="interleaved")
    q, k = (b.split_heads(b.project(x, b.parameter(w, (16, 16), "f32")), 2) for w in ("wq", "wk"))
    q, k = b.rope(q, positions, rope), b.rope(k, positions, rope)
    return b.build(y=b.attend(q, k, k))


def interleaved_inputs() -> Graph:
    rope = Rope(pairing="interleaved")
    return attention_of(
        lambda b, q, k, v: b.attend(b.rope(q, b.positions(4), rope), b.rope(k, b.positions(4), rope), v)
    )


def separate_attentions() -> Graph:
    b = Builder("separate")
    x, k, v = b.input("x", (1, 4, 16), "f32"), b.input("k", (1, 5, 2, 8), "f32"), b.input("v", (1, 5, 2, 8), "f32")
    first, second = (b.split_heads(b.project(x, b.parameter(w, (16, 16), "f32")), 2) for w in ("w1", "w2"))
    return b.build(y=b.attend(first, k, v), z=b.attend(second, k, v))


def with_an_unused_input() -> Graph:
    used = Layer().build()
    return graph("unused", [*used.inputs, *unary(lambda b, x: x, label="spare").inputs], used.outputs)


def transposed(*permutations: tuple[int, ...]) -> Graph:
    return unary(lambda b, x: functools.reduce(b.transpose, permutations, x), 3, 3, 3)


def cast_between() -> Graph:
    return unary(lambda b, x: b.transpose(b.cast(b.transpose(x, (1, 0, 2)), "bf16"), (1, 0, 2)))


def casts(source: str, *dtypes: str) -> Graph:
    return unary(lambda b, x: functools.reduce(b.cast, dtypes, x), dtype=source)


GPT_J = Layer("interleaved", dim=4, kv_heads=4)

FIRES: dict[str, dict[str, Callable[[], Graph]]] = {
    "compose-transposes": {"there and back": lambda: transposed((1, 2, 0), (2, 1, 0))},
    "drop-identity-transpose": {"no move": lambda: transposed((0, 1, 2))},
    "drop-cast-to-own-type": {"f32 to f32": lambda: casts("f32", "f32")},
    "skip-widening-cast": {
        "bf16 through f32": lambda: casts("bf16", "f32", "bf16"),
        "bf16 through f32 to f16": lambda: casts("bf16", "f32", "f16"),
        "i32 through f64": lambda: casts("i32", "f64", "f32"),
    },
    "drop-merge-of-split": {"all columns": lambda: unary(lambda b, x: b.merge_heads(b.split_heads(x, 2)))},
    "drop-split-of-merge": {"same heads": lambda: unary(lambda b, x: b.split_heads(b.merge_heads(x), 6, 16))},
    "split-at-once": {
        "columns of columns": lambda: unary(lambda b, x: b.split_heads(columns(x, 4, 12), 2, 3, start=2)),
    },
    "split-one-part": {
        "the second part": lambda: unary(lambda b, x: b.split_heads(b.apply(ops.Pack(), x, x), 2, 4, start=17)),
    },
    "flatten-pack": {"nested": lambda: unary(lambda b, x: b.apply(ops.Pack(), b.apply(ops.Pack(), x, x), x))},
    "drop-reorder-and-back": {
        "there and back": lambda: unary(lambda b, x: reordered(to="interleaved")(b, reordered()(b, x))),
        "one pair": lambda: unary(reordered(dim=2)),
    },
    "order-operands": {"positions first": lambda: sums(swapped=True)},
    "multiply-scales": {"two": lambda: unary(lambda b, x: b.scale(b.scale(x, 0.3), 7.0))},
    "drop-scale-by-one": {"one": lambda: unary(lambda b, x: b.scale(x, 1.0))},
    "scale-in-attend": {
        "gemma: query_pre_attn_scalar before rotation": Layer(q_scale=0.25).build,
        "opt: scaled before the heads are split": Layer(None, flat_scale=0.125, biases="qkv").build,
        "two attentions": lambda: two_attentions("q"),
    },
    "rotate-one-pair": {"dim 2": Layer("interleaved", dim=2, cache=True).build},
    "rotate-halves": {
        "gpt-j": GPT_J.build,
        "grouped, with biases": Layer("interleaved", biases="qkv").build,
        "norm over the head": Layer("interleaved", head_norm=True).build,
        "glm: packed weights": Layer("interleaved", packed=True, dim=4).build,
        "rotated in a wider type": Layer("interleaved", wide_rotation=True).build,
        "two results of one attention": Layer("interleaved", log_sum_exp=True).build,
        "cross": Layer("interleaved", cross=True).build,
        "values shown": Layer("interleaved", tells="v").build,
    },
    "reorder-weights": {"after the projection": lambda: reordered_layer(start=16)},
    "merge-projections": {
        "llama": Layer().build,
        "qwen2: biases": Layer(biases="qkv").build,
        "qwen3: norm over the head": Layer(head_norm=True).build,
        "olmo2: norm over all heads": Layer(flat_norm=True).build,
        "cached": Layer(cache=True).build,
        "cross: keys and values": Layer(None, cross=True).build,
        "cross: a bias on the queries alone": Layer(None, cross=True, biases="q").build,
        "gpt-j": GPT_J.build,
        "keys shown": Layer(tells="k").build,
        "keys and values packed": keys_and_values_packed,
        "a weight packed beside an activation": weight_beside_an_activation,
    },
    "drop-unused-inputs": {"one": with_an_unused_input},
}

REFRAINS: dict[str, dict[str, Callable[[], Graph]]] = {
    "compose-transposes": {"a cast between": cast_between},
    "drop-identity-transpose": {"a move": lambda: transposed((1, 0, 2))},
    "drop-cast-to-own-type": {"a cast": lambda: casts("f32", "bf16")},
    "skip-widening-cast": {
        "f32 through bf16 rounds": lambda: casts("f32", "bf16", "f32"),
        "f16 through bf16 rounds": lambda: casts("f16", "bf16", "f16"),
        "i32 through f32 rounds": lambda: casts("i32", "f32", "i32"),
        "i64 through f64 rounds": lambda: casts("i64", "f64", "i64"),
        "f32 through i32 truncates": lambda: casts("f32", "i32", "f32"),
    },
    "drop-merge-of-split": {"some columns": lambda: unary(lambda b, x: b.merge_heads(b.split_heads(x, 2, 4, start=4)))},
    "drop-split-of-merge": {
        "other heads": lambda: unary(lambda b, x: b.split_heads(b.merge_heads(x), 12, 8)),
        "fewer heads": lambda: unary(lambda b, x: b.split_heads(b.merge_heads(x), 5, 16, start=16)),
    },
    "split-at-once": {"heads of heads": lambda: unary(lambda b, x: b.split_heads(b.split_heads(x, 2), 2))},
    "split-one-part": {
        "across two parts": lambda: unary(lambda b, x: b.split_heads(b.apply(ops.Pack(), x, x), 2, 8, start=8)),
    },
    "flatten-pack": {"flat": lambda: unary(lambda b, x: b.apply(ops.Pack(), x, x))},
    "drop-reorder-and-back": {
        "twice the same way": lambda: unary(lambda b, x: reordered()(b, reordered()(b, x))),
        "another width": lambda: unary(lambda b, x: reordered(to="interleaved", width=16)(b, reordered()(b, x))),
        "fewer features": lambda: unary(lambda b, x: reordered(to="interleaved", dim=4)(b, reordered()(b, x))),
    },
    "order-operands": {"in order": lambda: sums(swapped=False)},
    "multiply-scales": {"out of range": extreme_scales, "one": lambda: unary(lambda b, x: b.scale(x, 2.0))},
    "drop-scale-by-one": {"minus one": lambda: unary(lambda b, x: b.scale(x, -1.0))},
    "scale-in-attend": {
        "also an output": cross_to_memory,
        "also a value": lambda: two_attentions("v"),
        "a norm between": norm_between,
        "a cast that may overflow": lambda: narrowed_scale("f16"),
        "the value's scale": scaled_value,
        "a weight's scale": scaled_weight,
    },
    "rotate-one-pair": {"two pairs": Layer("interleaved", dim=4).build, "half": Layer("half", dim=2).build},
    "rotate-halves": {
        "halves": Layer("half").build,
        "only q is interleaved": Layer("interleaved", k_pairing="half").build,
        "only k is interleaved": Layer("half", k_pairing="interleaved").build,
        "other widths": Layer("interleaved", dim=4, k_dim=8).build,
        "keys go to a cache": Layer("interleaved", cache=True).build,
        "keys are an output": Layer("interleaved", tells="k").build,
        "queries are an output": Layer("interleaved", tells="q").build,
        "weights come with every call": Layer("interleaved", weight_role="activation").build,
        "a norm over all heads": Layer("interleaved", flat_norm=True).build,
        "keys are the values": keys_as_values,
        "two queries of the same keys": Layer(
            "interleaved", kv_heads=4, also=lambda b, values: b.attend(values["v"], values["k"], values["v"])
        ).build,
        "keys before rotation are read too": Layer(
            "interleaved", also=lambda b, values: b.scale(b.split_heads(values["flat_k"], 2), 2.0)
        ).build,
        "projected keys are an output": Layer("interleaved", also=lambda b, values: values["flat_k"]).build,
        "projected keys are read as they are": Layer(
            "interleaved", also=lambda b, values: b.norm(values["flat_k"], kind="rms", epsilon=1e-6)
        ).build,
        "queries and keys overlap": overlapping_queries_and_keys,
        "heads from outside": interleaved_inputs,
    },
    "reorder-weights": {
        "columns read as they are": lambda: reordered_layer(start=8),
        "heads read as they are": lambda: reordered_layer(start=0),
        "no projection": lambda: unary(reordered()),
        "norm weights at every call": shared_norm_weight,
    },
    "merge-projections": {
        "a bias on some": Layer(biases="qv").build,
        "weights come with every call": Layer(weight_role="activation").build,
        "queries of something else": Layer(cross=True, biases="v").build,
        "already one": Layer(packed=True).build,
        "one weight computed from another projection": weights_that_read_each_other,
        "projections for two attentions": separate_attentions,
    },
    "drop-unused-inputs": {"an input as output": lambda: unary(lambda b, x: x)},
}


def cases(table: dict[str, dict[str, Callable[[], Graph]]]) -> list[Any]:
    listed = [(rule, title, build) for rule, examples in table.items() for title, build in examples.items()]
    return [pytest.param(RULES[rule], build, id=f"{rule}: {title}") for rule, title, build in listed]


@pytest.mark.parametrize(("rule", "build"), cases(FIRES))
def test_it_fires(rule: Rule, build: Callable[[], Graph]) -> None:
    before = build()
    after, trace = run(before)
    assert rule.name in {step.rule for step in trace}
    same_interface(before, after)
    same_meaning(before, after)
    assert alone(rule, after) == (after, ())


@pytest.mark.parametrize(("rule", "build"), cases(REFRAINS))
def test_it_refrains(rule: Rule, build: Callable[[], Graph]) -> None:
    before = build()
    assert alone(rule, before) == (before, ())
    after, trace = run(before)
    assert rule.name not in {step.rule for step in trace}
    same_meaning(before, after)


def test_every_rule_has_examples_for_and_against() -> None:
    assert set(FIRES) == set(REFRAINS) == set(RULES)


# What comes out -----------------------------------------------------------------------------------------------------


def count(graph: Graph, kind: type[ops.Op]) -> int:
    return sum(isinstance(item.op, kind) for item in graph.nodes)


def reading_inputs(graph: Graph) -> list[Node]:
    """The nodes that are computed at every call."""
    depends: set[Node] = set()
    for item in graph.nodes:
        if (isinstance(item.op, ops.Input) and item.op.role != "parameter") or depends & set(item.operands):
            depends.add(item)
    return [item for item in graph.nodes if item in depends]


@pytest.mark.parametrize("layer", [Layer(), Layer(biases="qkv"), Layer(flat_norm=True), Layer(cache=True), GPT_J])
def test_three_projections_become_one_in_the_order_q_k_v(layer: Layer) -> None:
    after = canonical(layer.build())
    whole, out = (item for item in after.nodes if isinstance(item.op, ops.Project))
    assert out.type.shape[-1] == 16
    assert whole.type.shape[-1] == (layer.heads + 2 * layer.kv_heads) * layer.width
    splits = [item for item in after.nodes if isinstance(item.op, ops.SplitHeads) and item.operands[0] is whole]
    assert sorted(item.op.start for item in splits) == [
        0,
        layer.heads * layer.width,
        (layer.heads + layer.kv_heads) * layer.width,
    ]
    q = next(item for item in after.nodes if isinstance(item.op, ops.Attend)).operands[0]
    assert [item.op.start for item in topological((q,)) if item in splits] == [0]


def test_a_projection_that_is_an_output_is_merged_too() -> None:
    after = canonical(Layer(also=lambda b, values: values["flat_k"]).build())
    assert count(after, ops.Project) == 2


@pytest.mark.parametrize("layer", [GPT_J, Layer("interleaved", packed=True), Layer("interleaved", head_norm=True)])
def test_reordering_costs_nothing_at_a_call(layer: Layer) -> None:
    before, after = layer.build(), canonical(layer.build())
    rotations = [item.op.pairing for item in after.nodes if isinstance(item.op, ops.Rotate)]
    assert rotations == ["half", "half"]
    assert len(reading_inputs(after)) <= len(reading_inputs(before))
    assert not any(isinstance(item.op, (ops.ReorderPairs, ops.Pack)) for item in reading_inputs(after))


def test_scales_end_in_the_attention() -> None:
    after = canonical(Layer(q_scale=0.25, flat_scale=0.5).build())
    (attend,) = (item for item in after.nodes if isinstance(item.op, ops.Attend))
    assert attend.op.scale == 0.125
    assert count(after, ops.Scale) == 0


def test_q_and_k_may_be_one_scaled_value() -> None:
    before = attention_of(lambda b, q, k, v: b.attend(b.scale(q, 0.5), b.scale(q, 0.5), v, scale=3.0))
    after = canonical(before)
    same_meaning(before, after)
    assert [item.op.scale for item in after.nodes if isinstance(item.op, ops.Attend)] == [0.75]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None, max_examples=200)
def test_no_product_of_scales_leaves_float32(a: float, b: float) -> None:
    after = canonical(unary(lambda build, x: build.scale(build.scale(x, a), b)))
    for item in after.nodes:
        if isinstance(item.op, ops.Scale) and item.op.factor not in (a, b):
            assert item.op.factor == a * b
            assert np.float32(item.op.factor) == pytest.approx(a * b, rel=1e-6)
            assert (item.op.factor == 0) == (a == 0 or b == 0)


def test_sums_are_shared_whatever_the_order_of_their_operands() -> None:
    b = Builder("shared")
    x, y, z = (b.input(label, (2, 3), "f32") for label in "xyz")
    after = canonical(b.build(p=b.add(b.add(x, y), z), q=b.add(z, b.add(y, x))))
    assert after.outputs[0][1] is after.outputs[1][1]
    assert canonical(sums(swapped=True)) is canonical(sums(swapped=False))


def test_deep_graphs_do_not_exhaust_the_stack() -> None:
    b = Builder("deep")
    q, k, v = (b.input(name, (1, 4, 2, 4), "f32") for name in "qkv")
    angles = b.angles(b.positions(4), Rope(pairing="half"), 4)
    turned = b.scale(q, 0.5)
    for _ in range(3000):
        turned = b.rotate(turned, angles, pairing="half")
    after, (step,) = run(b.build(y=b.attend(turned, k, v, scale=1.0)))
    assert count(after, ops.Scale) == 0
    assert len(str(step)) < 2000


# The trace, the passes by name, and determinism ---------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rules_say_what_they_do(rule: Rule) -> None:
    before, arrow, after = rule.notation.partition(" -> ")
    assert arrow
    assert before != after
    assert re.match(r"[a-z_]+\(", before).group()[:-1] in ops.OPS
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert len(RULES) == sum(len(stage.rules) for stage in PIPELINE)


def test_the_trace_shows_both_sides() -> None:
    _, trace = run(unary(lambda b, x: b.scale(b.norm(b.scale(b.scale(x, 2.0), 3.0), kind="rms", epsilon=1e-6), 1.0)))
    assert [str(step) for step in trace] == [
        "fold/multiply-scales: scale(scale(x, factor=2), factor=3) -> scale(x, factor=6) (4 -> 3 ops)",
        "fold/drop-scale-by-one: scale(%norm, factor=1) -> %norm (3 -> 2 ops)",
    ]


def test_the_trace_names_the_inputs_that_were_dropped() -> None:
    after, trace = run(with_an_unused_input())
    assert trace[-1].before == "unused inputs spare"
    assert after.inputs == Layer().build().inputs


def test_the_pipeline_stops_where_it_is_told_to() -> None:
    before = Layer("interleaved", q_scale=0.5).build()
    stages = [sorted({step.stage for step in run(before, to=stage.name)[1]}) for stage in PIPELINE]
    assert stages == [[], ["fold"], ["fold", "pairing"], ["fold", "merge", "pairing"], ["fold", "merge", "pairing"]]
    for stage in PIPELINE:
        partly = run(before, to=stage.name)[0]
        same_meaning(before, partly)
        assert canonical(partly) is canonical(before)
        assert stage.sentence.endswith(".")


def test_an_unknown_pass_names_the_nearest() -> None:
    with pytest.raises(RopegenError, match=r"there is no pass 'parings'; did you mean 'pairing'\?"):
        run(Layer().build(), to="parings")


def described(count: int) -> str:
    """Canonical drawn graphs and their traces, as text."""
    lines: list[str] = []
    for seed in range(count):
        after, trace = run(cluttered(drawn_graph(seed, 20), seed))
        number = {item: index for index, item in enumerate(after.nodes)}
        lines += [f"{item.op!r} {[number[operand] for operand in item.operands]}" for item in after.nodes]
        lines += [f"{label} {number[value]}" for label, value in after.outputs]
        lines += [str(step) for step in trace]
    return "\n".join(lines)


def test_another_process_does_the_same() -> None:
    code = "import sys; sys.path.insert(0, 'tests'); import test_passes; print(test_passes.described(40))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={"PYTHONHASHSEED": "12345", "JAX_PLATFORMS": "cpu"},
    )
    assert other.stdout.strip() == described(40)
