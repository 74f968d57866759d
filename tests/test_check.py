"""`check` can fail: an artifact that is built from a wrong formula is caught, one from the right formula passes.

Every op of `plain` is made wrong in turn, in a formula that the artifact holds: in the table of plain formulas, which the
files for consumers without JAX are made of, in the function that a template takes in its place, or in the kernel of the
template. A mutation that the artifact does not reach
fails its test, so the tests below say which formula each op of an artifact comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn_graph
from mutate import hash_again

import ropegen as rg
from ropegen import angles, masks, plain
from ropegen.emit.artifact import drawn_inputs
from ropegen.emit.artifact.check import compare
from ropegen.emit.callable import prepare, run
from ropegen.ir import ops
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.planner import plan
from ropegen.template import AnyTemplate, catalog

# Exact zeros and ones at the start of a sequence would hide a wrong sign, so positions start here.
START = 3

Formula = Callable[..., Any]


# Graphs, each with one op that decides its result ---------------------------------------------------------------------


def embed() -> Graph:
    b = Builder("embed")
    return b.build(y=b.embed(b.input("ids", (2, 5), "i32"), b.parameter("table", (9, 8), "bf16")))


def patchify() -> Graph:
    b = Builder("patchify")
    return b.build(y=b.patchify(b.input("image", (4, 4, 3), "bf16"), 2))


def sinusoid() -> Graph:
    b = Builder("sinusoid")
    return b.build(y=b.sinusoid(b.positions(6, START), 8, pairing="half"))


def sinusoid_of_inputs() -> Graph:
    b = Builder("sinusoid-of-inputs")
    return b.build(y=b.sinusoid(b.input("at", (6,), "i32"), 8, pairing="half"))


def add() -> Graph:
    b = Builder("add")
    return b.build(y=b.add(b.input("a", (4, 8), "bf16"), b.input("b", (8,), "bf16")))


def norm(kind: str) -> Callable[[], Graph]:
    def made() -> Graph:
        b = Builder(f"norm-{kind}")
        weight = b.parameter("weight", (8,), "bf16")
        return b.build(y=b.norm(b.input("x", (4, 8), "bf16"), weight, kind=kind, epsilon=1e-2))

    return made


def project() -> Graph:
    b = Builder("project")
    x, weight, bias = (
        b.input("x", (4, 8), "bf16"),
        *(b.parameter("w", (8, 6), "bf16"), b.parameter("c", (6,), "bf16")),
    )
    return b.build(y=b.project(x, weight, bias))


def own_projections() -> Graph:
    b = Builder("own-projections")
    return b.build(y=b.project_heads(b.input("x", (4, 2, 6), "bf16"), b.parameter("w", (2, 6, 5), "bf16")))


def joined() -> Graph:
    b = Builder("joined")
    return b.build(y=b.join_features(b.input("x", (4, 2, 6), "bf16"), b.input("z", (4, 1, 3), "bf16")))


def first_rows() -> Graph:
    b = Builder("first-rows")
    return b.build(y=b.join_rows(b.parameter("first", (2, 6), "bf16"), b.input("x", (4, 6), "bf16")))


def clipped() -> Graph:
    b = Builder("clipped")
    return b.build(y=b.clip(b.input("x", (4, 6), "bf16"), 0.5))


def heads() -> Graph:
    b = Builder("heads")
    return b.build(y=b.split_heads(b.input("x", (4, 12), "bf16"), 2, 4, start=2))


def merged() -> Graph:
    b = Builder("merged")
    return b.build(y=b.merge_heads(b.input("x", (4, 2, 6), "bf16")))


def turned(pairing: str = "half") -> Graph:
    b = Builder(f"turned-{pairing}")
    return b.build(y=b.rope(b.input("x", (6, 2, 8), "bf16"), b.positions(6, START), rg.Rope(100.0, pairing=pairing)))


def turned_by_inputs() -> Graph:
    b = Builder("turned-by-inputs")
    at = b.input("at", (6,), "i32")
    return b.build(y=b.rope(b.input("x", (6, 2, 8), "bf16"), at, rg.Rope(100.0, pairing="half")))


def scale() -> Graph:
    b = Builder("scale")
    return b.build(y=b.scale(b.input("x", (4, 8), "bf16"), 0.3))


def cast() -> Graph:
    b = Builder("cast")
    return b.build(y=b.cast(b.input("x", (4, 8), "f32"), "bf16"))


def cast_to_integers() -> Graph:
    b = Builder("cast-to-integers")
    return b.build(y=b.cast(b.input("x", (4, 8), "f32"), "i32"))


def transpose() -> Graph:
    b = Builder("transpose")
    return b.build(y=b.transpose(b.input("x", (4, 4, 4), "bf16"), (1, 2, 0)))


def attend() -> Graph:
    b = Builder("attend")
    q, k, v = (b.input(label, (6, 2, 8), "bf16") for label in "qkv")
    return b.build(y=b.attend(q, k, v, mask=masks.causal))


def cache() -> Graph:
    b = Builder("cache")
    kept, rows = b.state("kept", (2, 7, 2, 4), "bf16"), b.input("rows", (2, 3, 2, 4), "bf16")
    return b.build(y=b.append_cache(kept, rows, b.input("lengths", (2,), "i32")))


def positions() -> Graph:
    b = Builder("positions")
    return b.build(y=b.cast(b.positions(6, START), "f32"))


def projections() -> Graph:
    """Q, K and V of one source, turned in pairs that alternate: the passes pack and reorder the weights."""
    b = Builder("projections")
    x, at, rope = b.input("x", (1, 6, 8), "f32"), b.positions(6, START), rg.Rope(100.0, pairing="interleaved")
    q, k, v = (b.split_heads(b.project(x, b.parameter(f"{name}_weight", (8, 8), "f32")), 2) for name in "qkv")
    return b.build(y=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v))


def front_end() -> Graph:
    """Ids to rows, scaled: the region of the family `embed`."""
    b = Builder("front-end")
    rows = b.embed(b.input("ids", (2, 5), "i32"), b.parameter("table", (9, 8), "bf16"))
    return b.build(y=b.add(b.scale(rows, 3.0), b.parameter("learned", (5, 8), "bf16")))


# Mutations ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One op made wrong: in the plain formula, in a function of a module, or in the kernels of a family."""

    op: str
    graph: Callable[[], Graph]
    change: Callable[[Formula], Formula]
    where: str = "plain formula"

    def __str__(self) -> str:
        return f"{self.op}-{self.graph().name}-{self.where.replace(' ', '-')}"


def negated(formula: Formula) -> Formula:
    return lambda *values, **options: -formula(*values, **options)


def of_operands(change: Callable[..., tuple[Any, ...]]) -> Callable[[Formula], Formula]:
    """The formula of changed operands; it also gets the node."""
    return lambda formula: lambda node, *values: formula(node, *change(*values))


def of_result(change: Callable[[Any], Any]) -> Callable[[Formula], Formula]:
    return lambda formula: lambda *values, **options: change(formula(*values, **options))


def first_negated(formula: Formula) -> Formula:
    """A kernel whose first operand has the other sign."""
    return lambda first, *others: formula(-first, *others)


def half_swapped(x: Any) -> Any:
    return jnp.roll(x, x.shape[-1] // 2, axis=-1)


def sines_negated(table: Any) -> Any:
    half = table.shape[-1] // 2
    return jnp.concatenate([table[..., :half], -table[..., half:]], axis=-1)


MUTATIONS = [
    Mutation("embed", embed, of_operands(lambda ids, table: (ids, table[::-1]))),
    Mutation("embed", embed, of_operands(lambda ids, table: (ids + 1, table))),
    Mutation("patchify", patchify, of_operands(lambda image: (jnp.swapaxes(image, 0, 1),))),
    Mutation("sinusoid", sinusoid, of_result(half_swapped), "angles.value"),
    Mutation("sinusoid", sinusoid_of_inputs, negated),
    Mutation("add", add, of_operands(lambda a, b: (a, -b))),
    Mutation("norm", norm("rms"), negated),
    Mutation("norm", norm("layer"), of_operands(lambda x, weight: (x, weight + 0.1))),
    Mutation("project", project, lambda formula: lambda x, w, b: formula(x, w, -b), "plain.project"),
    Mutation("project_heads", own_projections, of_operands(lambda x, weight: (x, weight[::-1]))),
    Mutation("join_features", joined, of_operands(lambda x, other: (x, -other))),
    Mutation("join_rows", first_rows, of_operands(lambda first, x: (first[::-1], x))),
    Mutation("clip", clipped, of_result(lambda x: 2 * x)),
    Mutation("split_heads", heads, of_result(lambda x: x[..., ::-1, :])),
    Mutation("merge_heads", merged, of_operands(lambda x: (jnp.swapaxes(x, -1, -2),))),
    Mutation("angles", turned, of_result(sines_negated), "angles.value"),
    Mutation("angles", turned_by_inputs, of_result(sines_negated)),
    Mutation(
        "rotate",
        turned,
        lambda formula: lambda x, t, pairing: formula(x, sines_negated(t), pairing),
        "plain.rotate_for_platform",
    ),
    Mutation(
        "rotate",
        turned,
        lambda formula: lambda x, t, pairing: formula(x, t, "interleaved"),
        "plain.rotate_for_platform",
    ),
    Mutation("rotate", turned, of_operands(lambda x, table: (x, sines_negated(table)))),
    Mutation("attend", attend, of_operands(lambda q, k, v, *given: (-q, k, v, *given))),
    Mutation("scale", scale, negated),
    Mutation("cast", cast, negated),
    Mutation("cast", cast_to_integers, of_operands(lambda x: (jnp.round(x),))),
    Mutation("transpose", transpose, of_operands(lambda x: (jnp.swapaxes(x, 0, 1),))),
    Mutation("append_cache", cache, of_operands(lambda kept, rows, lengths: (kept, rows, lengths + 1))),
    Mutation("positions", positions, of_result(lambda at: at + 1)),
    Mutation("pack", projections, of_operands(lambda first, *others: (*others, first))),
    Mutation("reorder_pairs", projections, of_result(lambda x: x[..., ::-1])),
    Mutation("attend", attend, first_negated, "kernels of attend"),
    Mutation("attend", projections, first_negated, "kernels of attend"),
    Mutation("project", projections, first_negated, "kernels of qkv_rope"),
    Mutation(
        "embed", front_end, lambda formula: lambda *values: tuple(-x for x in formula(*values)), "kernels of embed"
    ),
]


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mutation], Callable[[], bool]]]:
    """Puts a mutation in place; what it returns says whether the wrong formula was traced."""
    builds: dict[AnyTemplate, Formula] = {}

    def put(mutation: Mutation) -> Callable[[], bool]:
        traced: list[str] = []

        def wrong(formula: Formula) -> Formula:
            changed = mutation.change(formula)

            def spied(*values: Any, **options: Any) -> Any:
                traced.append(mutation.op)
                return changed(*values, **options)

            return spied

        where, _, name = mutation.where.partition(" of ")
        if where == "plain formula":
            kind = ops.OPS[mutation.op]
            right = plain.plain_of(kind)
            changed = dataclasses.replace(right, formula=wrong(right.formula))
            monkeypatch.setattr(plain, "_PLAIN", {**plain._PLAIN, kind: changed})
        elif where == "kernels":
            for template in catalog():
                if template.family.name == name:
                    builds[template] = template.build
                    set_build(template, wrong_kernel(template.build, wrong))
        else:
            module, _, function = where.partition(".")
            held = {"angles": angles, "plain": plain}[module]
            monkeypatch.setattr(held, function, wrong(getattr(held, function)))
        return lambda: bool(traced)

    yield put
    for template, build in builds.items():
        set_build(template, build)


def wrong_kernel(build: Formula, wrong: Callable[[Formula], Formula]) -> Formula:
    def built(*arguments: Any, **options: Any) -> Any:
        kernel = build(*arguments, **options)
        return dataclasses.replace(kernel, forward=wrong(kernel.forward))

    return built


def set_build(template: AnyTemplate, build: Formula) -> None:
    # Templates are frozen, so that nobody changes one. This test has to.
    object.__setattr__(template, "build", build)


# The tests ------------------------------------------------------------------------------------------------------------


def test_every_op_has_a_mutation() -> None:
    assert {mutation.op for mutation in MUTATIONS} == set(ops.OPS) - {"input"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_wrong_formula_is_caught(
    mutation: Mutation, mutate: Callable[[Mutation], Callable[[], bool]], tmp_path: Path
) -> None:
    reached = mutate(mutation)
    made = rg.export(mutation.graph(), tmp_path / "kernels", targets=["cpu"])
    assert reached()
    assert not made.check().passed


def test_every_program_that_runs_here_is_checked(tmp_path: Path) -> None:
    made = rg.export(projections(), tmp_path / "kernels", targets=["cpu", "tpu:v5e"])
    assert "prepare" in made.manifest.stages.by_name, "the portable module reads what another one prepares"
    checked = made.check()
    assert checked.passed
    programs = ["native kernels", "module.jaxexport", "module.mlirbc", "semantic.mlir"]
    assert [output.program for output in checked.outputs] == programs


@pytest.mark.parametrize("name", ["module.mlirbc", "semantic.mlir"])
def test_a_file_of_another_artifact_is_caught(name: str, tmp_path: Path) -> None:
    """Each file is right by itself; one of them is of a graph with another scale."""
    b = Builder("scale")
    other = rg.export(b.build(y=b.scale(b.input("x", (4, 8), "bf16"), 0.6)), tmp_path / "other", targets=["cpu"])
    made = rg.export(scale(), tmp_path / "kernels", targets=["cpu"])
    (made.directory / name).write_bytes((other.directory / name).read_bytes())
    hash_again(made.directory, forge=False)
    outputs = rg.load(made.directory).check().outputs
    assert [output.program for output in outputs if not output.agrees] == [name]


def test_the_right_formulas_pass() -> None:
    """The same graphs, from one program; `tests/test_artifact.py` checks whole artifacts that are right."""
    graphs = list({graph.name: graph for graph in (mutation.graph() for mutation in MUTATIONS)}.values())
    assert_right(graphs)


@pytest.mark.usefixtures("quick_compilation")
def test_drawn_graphs_of_64_bits_pass() -> None:
    """`tests/test_drawn.py` compares those of 32 and 16 bits."""
    with jax.enable_x64(True):
        assert_right([drawn_graph(seed, 30, wide=True) for seed in range(20)])


def assert_right(graphs: Sequence[Graph]) -> None:
    plans = [plan(graph, "cpu") for graph in graphs]
    inputs = [drawn_inputs(graph, 0) for graph in graphs]

    @jax.jit
    def results(inputs: list[dict[str, Any]]) -> list[Any]:
        return [run(made, prepare(made, given), given) for made, given in zip(plans, inputs, strict=True)]

    for graph, given, result in zip(graphs, inputs, results(inputs), strict=True):
        checked = compare(graph, given, result, 0)
        assert checked.passed, (graph.name, checked)


def test_one_wrong_number_is_caught() -> None:
    """A wrong number among thousands does not move the root mean square; the largest error shows it."""
    b = Builder("large")
    x, weight = b.input("x", (512, 64), "bf16"), b.parameter("w", (64, 64), "bf16")
    graph = b.build(y=b.project(x, weight))
    inputs = drawn_inputs(graph, 0)
    right = rg.reference.evaluate(graph, inputs)["y"].astype(jnp.bfloat16)
    assert compare(graph, inputs, {"y": right}, 0).passed
    wrong = right.copy()
    wrong[-1, -1] += 0.5
    (output,) = compare(graph, inputs, {"y": wrong}, 0).outputs
    assert output.relative <= output.allowed
    assert output.largest > output.allowed_largest
    assert not output.agrees


def test_what_is_moved_must_be_exact() -> None:
    graph = transpose()
    inputs = drawn_inputs(graph, 0)
    right = rg.reference.evaluate(graph, inputs)["y"]
    assert compare(graph, inputs, {"y": right}, 0).passed
    assert not compare(graph, inputs, {"y": right * (1 + 2**-20)}, 0).passed


def test_numbers_that_are_not_finite_must_be_where_they_belong() -> None:
    b = Builder("filled")
    graph = b.build(y=b.embed(b.input("ids", (3,), "i32"), b.parameter("table", (4, 2), "f32"), mode="fill"))
    inputs = drawn_inputs(graph, 0) | {"ids": np.array([1, 9, 2], np.int32)}
    right = rg.reference.evaluate(graph, inputs)["y"]
    assert np.isnan(right).any()
    assert compare(graph, inputs, {"y": right}, 0).passed
    assert not compare(graph, inputs, {"y": np.nan_to_num(right)}, 0).passed
    assert not compare(graph, inputs, {"y": np.full_like(right, np.nan)}, 0).passed
