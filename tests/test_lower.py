# ruff: noqa: E501 (modules are wide)
"""`ropegen lower`: it replaces composites by kernels and keeps the rest of the module."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN, Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import draw_inputs
from jax import lax
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen import cli, masks, models, reference
from ropegen.emit.module.composites import Composite, read
from ropegen.emit.module.grouping import Member, group
from ropegen.emit.module.replace import replace_composites
from ropegen.emit.module.rewritten import Rewritten
from ropegen.emit.module.semantic import semantic
from ropegen.emit.module.stablehlo import walk
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.ir.ops import Input
from ropegen.rotary import Rope
from ropegen.scaling import Scaling, linear, llama3, longrope, xpos, yarn

# Two ops with room for others in between: rotate by hand, then scale.
BY_HAND = """\
// by hand
module @hand {
  func.func public @main(%x: tensor<1x4x2x8xf32>, %t: tensor<4x8xf32>) -> tensor<1x4x2x8xf32> {
    %0 = stablehlo.composite "ropegen.rotate" %x, %t {composite_attributes = {pairing = "half"}, decomposition = @turn} : (tensor<1x4x2x8xf32>, tensor<4x8xf32>) -> tensor<1x4x2x8xf32>
    %1 = stablehlo.composite "ropegen.scale" %0 {composite_attributes = {factor = 3 : i64}, decomposition = @same} : (tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32>
    %2 = call @ropegen.kernel(%1) : (tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32>
    %3 = stablehlo.composite "other.op" %2 {decomposition = @same} : (tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32>
    return %3 : tensor<1x4x2x8xf32>
  }
  func.func private @turn(%x: tensor<1x4x2x8xf32>, %t: tensor<4x8xf32>) -> tensor<1x4x2x8xf32> {
    %0 = call @inner(%x) : (tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32>
    return %0 : tensor<1x4x2x8xf32>
  }
  func.func private @inner(%x: tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32> {
    return %x : tensor<1x4x2x8xf32>
  }
  func.func private @same(%x: tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32> {
    return %x : tensor<1x4x2x8xf32>
  }
  func.func private @ropegen.kernel(%x: tensor<1x4x2x8xf32>) -> tensor<1x4x2x8xf32> {
    %0 = stablehlo.negate %x : tensor<1x4x2x8xf32>
    return %0 : tensor<1x4x2x8xf32>
  }
}
"""


def execute(code: str, values: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """The results of a module, compiled unchanged for the CPU."""
    with mlir.make_ir_context():
        bare = ir.Module.parse(code).operation.get_asm(enable_debug_info=False)
    client = jax.devices("cpu")[0].client
    one = client.devices()[:1]
    loaded = client.compile_and_load(bare, one) if hasattr(client, "compile_and_load") else client.compile(bare)
    arguments = [jax.device_put(value, one[0]) for value in values]
    results = loaded.execute_sharded(arguments).disassemble_into_single_device_arrays()
    return [np.asarray(result[0]) for result in results]


def functions(code: str) -> dict[str, str]:
    """Every function of a module as text, without locations."""
    with mlir.make_ir_context():
        module = ir.Module.parse(code)
        return {
            ir.StringAttr(view.operation.attributes["sym_name"]).value: view.operation.get_asm()
            for view in module.body.operations
        }


def calls(made: Rewritten) -> list[tuple[str, ...]]:
    return [tuple(name.removeprefix("ropegen.") for name in replaced.names) for replaced in made.replaced]


# Published models with small widths and short sequences.
CASES: dict[str, dict[str, int]] = {
    "llama3-8b-prefill": {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
    "gemma2-9b-local": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 5,
    },
    "gpt-j-6b": {"n_embd": 64, "n_head": 4, "rotary_dim": 8},
    "transformer-base": {"d_model": 64, "num_heads": 4},
}


def case(name: str) -> Graph:
    described = json.loads((GOLDEN / "cases" / name / "config.json").read_text())
    described["build"].update(seq=16, dtype="f32")
    described["config"].update(CASES[name], vocab_size=32)
    return models.from_case(described)


# The whole front-end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_front_end_becomes_one_call_and_computes_what_the_oracle_says(name: str) -> None:
    source = case(name)
    made = replace_composites(semantic(source).encode(), "cpu")
    assert len(made.replaced) == 1
    assert (made.kept, made.replaced[0].function) == ((), "main")
    assert "stablehlo.composite" not in made.text
    assert not [name for name in functions(made.text) if name.startswith("ropegen.") and name != "ropegen.kernel"]
    regions = [step.chosen.template for step in made.replaced[0].plan.steps if step.chosen is not None]
    assert "attend/xla" in regions, "a region spans composites"
    values = draw_inputs(source, 7)
    results = execute(made.text, [values[value.op.label] for value in source.inputs if isinstance(value.op, Input)])
    for (label, wanted), result in zip(reference.evaluate(source, values).items(), results, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-4 * float(np.max(np.abs(wanted))), err_msg=label)


@pytest.mark.parametrize("target", ["cpu", "gpu:h200", "tpu:v5e"])
def test_every_target_twice_gives_the_same_bytes(target: str) -> None:
    code = semantic(case("llama3-8b-prefill")).encode()
    made, again = replace_composites(code, target), replace_composites(code, target)
    assert (made.text, made.portable, made.data) == (again.text, again.portable, again.data)
    assert "custom_call" not in made.text or not all(
        step.chosen is None or step.chosen.template.endswith("/xla") for step in made.replaced[0].plan.steps
    )


def test_bytecode_is_read_and_written() -> None:
    source = case("transformer-base")
    first = replace_composites(semantic(source).encode(), "cpu")
    values = draw_inputs(source, 3)
    fed = [values[value.op.label] for value in source.inputs if isinstance(value.op, Input)]
    with mlir.make_ir_context():
        buffer = io.BytesIO()
        ir.Module.parse(semantic(source)).operation.write_bytecode(buffer)
    second = replace_composites(buffer.getvalue(), "cpu")
    third = replace_composites(first.portable, "cpu")
    assert third.replaced == ()
    assert third.portable == first.portable
    for content in (second.text, third.text):
        assert str(execute(content, fed)) == str(execute(first.text, fed))


def test_bytes_that_are_no_module_are_refused() -> None:
    whole = replace_composites(BY_HAND.encode(), "cpu").portable
    for raw in (b"ML\xefRnonsense", whole[:40], whole[:20] + b"\0" * 80, b"\xff\xfe\xfd"):
        with pytest.raises(RopegenError, match=r"kernels\.mlirbc is n"):
            replace_composites(raw, "cpu", name="kernels.mlirbc")


# The rest of the module -------------------------------------------------------------------------------------------


def test_a_module_without_composites_is_as_it_was() -> None:
    for code in (
        "module {\n  // odd    spacing stays\n\n  func.func @f(%a: tensor<2xf32>) -> tensor<2xf32> {return %a : tensor<2xf32>}}",
        jax.jit(jnp.sin).lower(jnp.ones(3)).as_text(debug_info=True),
    ):
        made = replace_composites(code.encode(), "cpu")
        assert (made.text, made.replaced, made.kept) == (code, (), ())
    assert "unchanged" in made.report


def test_what_is_by_hand_is_lowered_and_nothing_else_touched() -> None:
    made = replace_composites(BY_HAND.encode(), "cpu")
    before, after = functions(BY_HAND), functions(made.text)
    assert calls(made) == [("rotate", "scale")]
    assert made.removed == ("inner", "turn"), "`same` is still the decomposition of other.op"
    assert made.text.startswith("// by hand\nmodule @hand")
    assert {name: after[name] for name in ("same", "ropegen.kernel")} == {
        name: before[name] for name in ("same", "ropegen.kernel")
    }
    assert 'composite "other.op"' in after["main"]
    assert made.replaced[0].kernel == "ropegen.kernel_0"
    x, table = np.ones((1, 4, 2, 8), np.float32), np.full((4, 8), 0.5, np.float32)
    (result,) = execute(made.text, [x, table])
    np.testing.assert_allclose(result[..., :4], np.zeros((1, 4, 2, 4)))  # 0.5 - 0.5
    np.testing.assert_allclose(result[..., 4:], np.full((1, 4, 2, 4), -3.0))


def halves(x: jax.Array, table: jax.Array) -> jax.Array:
    cos, sin = jnp.split(table[:, None, :], 2, axis=-1)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def turned(x: jax.Array, table: jax.Array) -> jax.Array:
    plain = lambda x, table, **_: halves(x, table)  # noqa: E731
    return lax.composite(plain, "ropegen.rotate")(x, table, pairing="half")


def attended(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array) -> jax.Array:
    def plain(q: jax.Array, k: jax.Array, v: jax.Array, q_pos: jax.Array, kv_pos: jax.Array, **_: Any) -> jax.Array:
        scores = 0.25 * jnp.einsum("bqhd,bkhd->bhqk", q, k)
        seen = kv_pos[None, :] <= q_pos[:, None]
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)), v)

    return lax.composite(plain, "ropegen.attend", version=1)(
        q, k, v, positions, positions, scale=0.25, visible="kv_pos <= q_pos", given="q_positions, kv_positions"
    )


def model(q: jax.Array, k: jax.Array, v: jax.Array, table: jax.Array) -> jax.Array:
    positions = jnp.arange(q.shape[1])
    return jnp.tanh(attended(turned(q, table), turned(k, table), v, positions)) + 1


ARGUMENTS = [np.random.default_rng(0).normal(size=(1, 12, 2, 8)).astype(np.float32) for _ in range(3)]
TABLE = np.random.default_rng(1).normal(size=(12, 8)).astype(np.float32)


@pytest.mark.parametrize("debug_info", [False, True])
def test_a_jax_program_with_composites_of_its_own(debug_info: bool) -> None:
    lowered = jax.jit(model).lower(*ARGUMENTS, TABLE)
    made = replace_composites(lowered.as_text(debug_info=debug_info).encode(), "cpu")
    assert calls(made) == [("rotate", "rotate", "attend")]
    (planned,) = (replaced.plan for replaced in made.replaced)
    assert any(step.region is not None and len(step.region.nodes) > 3 for step in planned.steps), (
        "rotation in attention"
    )
    assert any(value.op.name == "positions" for value in planned.graph.nodes), "jnp.arange is known"
    assert "stablehlo.tanh" in functions(made.text)["main"]
    (result,) = execute(made.text, [*ARGUMENTS, TABLE])
    np.testing.assert_allclose(result, lowered.compile()(*ARGUMENTS, TABLE), atol=1e-5)
    assert ("tests/test_lower.py" in made.text) == debug_info, "locations stay where there were any"
    assert not re.search(r"ropegen/(emit|api|plain)|templates/", made.text), "and none is of the machine that lowers"
    assert ("line" in made.replaced[0].locations[0]) != debug_info


def test_composites_in_loops_and_in_functions_called_twice() -> None:
    @jax.jit
    def layer(x: jax.Array, table: jax.Array) -> jax.Array:
        return turned(x, table) * 2

    def program(x: jax.Array, table: jax.Array) -> jax.Array:
        x = layer(layer(x, table), table)
        return lax.fori_loop(0, 3, lambda _, carried: turned(carried, table) + 1, x)

    lowered = jax.jit(program).lower(ARGUMENTS[0], TABLE)
    made = replace_composites(lowered.as_text().encode(), "cpu")
    assert sorted(calls(made)) == [("rotate",), ("rotate",)]
    assert len({replaced.kernel for replaced in made.replaced}) == 1, "equal graphs are one function"
    (result,) = execute(made.text, [ARGUMENTS[0], TABLE])
    np.testing.assert_allclose(result, lowered.compile()(ARGUMENTS[0], TABLE), rtol=1e-4, atol=1e-3)


def test_what_stands_between_composites_keeps_them_apart() -> None:
    def program(x: jax.Array, table: jax.Array) -> jax.Array:
        first = turned(x, table)
        return attended(first, jnp.sin(first), turned(first, table), jnp.arange(12))

    lowered = jax.jit(program).lower(ARGUMENTS[0], TABLE)
    made = replace_composites(lowered.as_text().encode(), "cpu")
    assert calls(made) == [("rotate",), ("rotate", "attend")]
    (result,) = execute(made.text, [ARGUMENTS[0], TABLE])
    np.testing.assert_allclose(result, lowered.compile()(ARGUMENTS[0], TABLE), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_replaced_is_left_and_says_why() -> None:
    odd = BY_HAND.replace(
        'pairing = "half"}, decomposition = @turn', 'pairing = "half"}, decomposition = @turn, mhlo.frontend = 1 : i32'
    )
    made = replace_composites(odd.encode(), "cpu")
    assert calls(made) == [("scale",)]
    assert [(kept.name, kept.location, kept.reason) for kept in made.kept] == [
        ("ropegen.rotate", "line 4", "it carries mhlo.frontend, which a call of a kernel would lose")
    ]
    wide = BY_HAND.replace("1x4x2x8xf32", "?x4x2x8xf32")
    made = replace_composites(wide.encode(), "cpu")
    assert (made.text, made.replaced) == (wide, ())
    assert ["are unknown" in kept.reason for kept in made.kept] == [True, True]
    assert "keeps its decomposition" in made.report


# Attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scaling",
    [
        Scaling(),
        yarn(factor=4, original=16, beta_fast=32, beta_slow=1),
        llama3(factor=8, low=1, high=4, original=64),
        longrope(short=[1.5, 2.0, 1, 1], long=[1, 2, 3, 4.25], original=64, factor=2),
        xpos(base=512, centre=-3),
        linear(2.5),
    ],
    ids=lambda error: error.kind,
)
def test_attributes_come_back_as_they_were(scaling: Scaling) -> None:
    b = Builder("back")
    x = b.input("x", (1, 6, 2, 8), "f32")
    angles = b.angles(b.positions(6, 2), Rope(50_000.0, pairing="half", scaling=scaling), 8, length=6)
    score = masks.alibi((0.5, 0.25))
    q = b.rotate(x, angles, pairing="interleaved")
    y = b.attend(q, q, x, mask=masks.causal & masks.window(3), score=score, softcap=20.0, masked_row="mean")
    source = b.build(y=b.transpose(b.cast(y, "bf16"), (0, 2, 1, 3)))
    with mlir.make_ir_context():
        module = ir.Module.parse(semantic(source))
        composites = [
            read(operation) for operation in walk(module.operation) if operation.name == "stablehlo.composite"
        ]
        ops = [composite.op for composite in composites if isinstance(composite, Composite)]
    assert {*ops} == {value.op for value in source.nodes if not isinstance(value.op, Input)}
    assert len(ops) == len(composites)


def test_onnx_says_causal_only_where_the_mask_is() -> None:
    code = jax.jit(lambda q, k, v: attended(q, k, v, jnp.arange(12))).lower(*ARGUMENTS).as_text()
    for mask, causal, agrees in (
        ("kv_pos <= q_pos", 1, True),
        ("kv_pos <= q_pos", 0, True),
        ("kv_pos < q_pos", 1, False),
    ):
        said = code.replace('visible = "kv_pos <= q_pos"', f'visible = "{mask}", is_causal = {causal} : i64')
        assert said != code
        if agrees:
            assert calls(replace_composites(said.encode(), "cpu")) == [("attend",)]
        else:
            with pytest.raises(RopegenError, match="is_causal' is 1, but the op has 0"):
                replace_composites(said.encode(), "cpu")


# Errors -----------------------------------------------------------------------------------------------------------

PAIRS = 'composite_attributes = {pairing = "half"}'
ERRORS: dict[str, tuple[str, str]] = {
    "unknown-op": ('"ropegen.rotate"', '"ropegen.rotat"'),
    "an-input": ('"ropegen.rotate"', '"ropegen.input"'),
    "unknown-attribute": (PAIRS, 'composite_attributes = {pairing = "half", pairings = 1 : i64}'),
    "attribute-of-another-kind": (PAIRS, "composite_attributes = {pairing = 1 : i64}"),
    "attribute-of-no-kind": (PAIRS, "composite_attributes = {pairing = [1, 2]}"),
    "attribute-of-another-word": (PAIRS, 'composite_attributes = {pairing = "halves"}'),
    "attribute-missing": (PAIRS, "composite_attributes = {}"),
    "attribute-not-text": (PAIRS, 'composite_attributes = {pairing = "\\FF"}'),
    "attribute-infinite": ("factor = 3 : i64", "factor = 0x7FF0000000000000 : f64"),
    "onnx-says-otherwise": (PAIRS, 'composite_attributes = {pairing = "half", interleaved = 1 : i64}'),
    "onnx-width-says-otherwise": (PAIRS, 'composite_attributes = {pairing = "half", rotary_embedding_dim = 4 : i64}'),
    "version": ("decomposition = @turn", "decomposition = @turn, version = 7 : i32"),
    "operand-count": ('"ropegen.rotate" %x, %t', '"ropegen.norm" %x, %t'),
    "operand-shape": ("tensor<4x8xf32>", "tensor<4x10xf32>"),
    "operand-element-type": ("4x8xf32", "4x8xui8"),
    "no-such-decomposition": ("decomposition = @turn", "decomposition = @turm"),
    "no-decomposition": (", decomposition = @turn}", "}"),
    "unknown-dialect": ("stablehlo.negate", '"foo.negate"'),
    "cut-off": ("\n}\n", ""),
    "name-not-text": ('"ropegen.rotate"', '"\\FF"('),
    "empty": (BY_HAND, ""),
    "binary": (BY_HAND, "\0\0"),
    "many-brackets": (BY_HAND, "module {" * 300),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_composite_and_show_its_line(name: str, golden: Golden) -> None:
    before, after = ERRORS[name]
    written = (
        BY_HAND.replace('{pairing = "half"}', '{kind = "rms", epsilon = 1.0e-5, given = "weight, bias"}')
        if name == "operand-count"
        else BY_HAND
    )
    assert before in written
    with pytest.raises(RopegenError) as caught:
        replace_composites(written.replace(before, after).encode(), "cpu")
    golden(f"errors/lower/{name}.txt", f"{caught.value}\n")


def test_a_result_of_another_type_is_refused(golden: Golden) -> None:
    cast = """module {
  func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.composite "ropegen.cast" %x {composite_attributes = {dtype = "bf16"}, decomposition = @d} : (tensor<4xf32>) -> tensor<4xf32>
    return %0 : tensor<4xf32>
  }
  func.func private @d(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}
"""
    with pytest.raises(RopegenError) as caught:
        replace_composites(cast.encode(), "cpu")
    golden("errors/lower/result-type.txt", f"{caught.value}\n")
    wide = cast.replace("f32", "f64").replace("bf16", "f64")
    with pytest.raises(RopegenError) as caught:
        replace_composites(wide.encode(), "cpu")
    golden("errors/lower/64-bit.txt", f"{caught.value}\n")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_noise_is_an_error_or_a_module(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(BY_HAND) - 1))
    length = data.draw(st.integers(0, 12))
    junk = data.draw(st.text('{}[]()<>"\\%@#!:=-,.0x9afe \n', max_size=6))
    with contextlib.suppress(RopegenError):  # any other exception, or the end of the process, is a failure
        replace_composites((BY_HAND[:place] + junk + BY_HAND[place + length :]).encode(), "cpu")


# Groups -----------------------------------------------------------------------------------------------------------


def order_holds(members: Mapping[int, Member]) -> None:
    """Assert by the definition that every call comes after its operands and before its readers."""
    placed: dict[int, tuple[int, int]] = {}
    groups = group(members)
    assert sorted(index for one in groups for index in one.members) == sorted(members)
    for rank, entry in enumerate(groups):
        placed.update(dict.fromkeys(entry.members, (entry.after, rank)))
    for index, member in members.items():
        assert member.after <= placed[index][0] < member.before
        assert all(placed[read] <= placed[index] for read in member.reads)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_groups_wait_for_nothing_of_their_own(data: st.DataObject) -> None:
    """Drawn blocks: some operations are composites, and an operation may read any operation before it."""
    count = data.draw(st.integers(1, 12))
    ours = [data.draw(st.booleans()) for _ in range(count)]
    reads = [
        data.draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set[int]() for index in range(count)
    ]
    readers = [[other for other in range(count) if index in reads[other]] for index in range(count)]
    order_holds(
        {
            index: Member(
                frozenset(other for other in reads[index] if ours[other]),
                max((other for other in reads[index] if not ours[other]), default=-1),
                min((other for other in readers[index] if not ours[other]), default=count),
            )
            for index in range(count)
            if ours[index]
        }
    )


def test_members_that_read_each_other_go_together() -> None:
    chain = {index: Member(frozenset({index - 1} if index else ()), -1, 9) for index in range(4)}
    assert [entry.members for entry in group(chain)] == [(0, 1, 2, 3)]
    apart = {0: Member(frozenset(), -1, 1), 2: Member(frozenset({0}), 1, 4), 3: Member(frozenset({2}), -1, 4)}
    assert [entry.members for entry in group(apart)] == [(0,), (2, 3)]


# The command ------------------------------------------------------------------------------------------------------


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, written = tmp_path / "hand.mlir", tmp_path / "out.mlirbc"
    module.write_text(BY_HAND)
    made = replace_composites(BY_HAND.encode(), "cpu")
    assert cli.main(["lower", str(module), "--target", "cpu"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (made.text, made.report)
    assert cli.main(["lower", str(module), "--target", "cpu", "-o", str(written), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made.data
    assert written.read_bytes() == made.portable
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BY_HAND.encode())))
    assert cli.main(["lower", "-", "--target", "cpu", "-o", str(tmp_path / "out.mlir")]) == 0
    assert (tmp_path / "out.mlir").read_text() == made.text
    assert cli.main(["lower", str(module), "--target", "cpu", "--json"]) == 2
    assert "give -o FILE" in capsys.readouterr().err


def test_the_report(golden: Golden) -> None:
    golden("lower/by-hand.txt", replace_composites(BY_HAND.encode(), "cpu").report)
