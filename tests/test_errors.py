"""The words of every error that a user of the plain functions, of Rope and of masks can meet: golden/errors.

test_golden.py has the errors of graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Golden

import ropegen as rg
from ropegen import errors, masks, scaling

HALF = rg.Rope(pairing="half")
DYNAMIC = rg.Rope(pairing="half", scaling=scaling.dynamic(factor=2, original=2))
SECTIONS = rg.Rope(pairing="half", sections=(2, 1, 1))
AXES = np.array([[0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 0, 1]])
SQUARE = {"q": (4, 4, 4, 8), "k": (4, 4, 2, 8)}  # the batch, the rows and the query heads have the same size


def ones(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jnp.ones(shape, dtype)


def attend(
    *,
    q: tuple[int, ...] = (1, 4, 4, 8),
    k: tuple[int, ...] = (1, 4, 2, 8),
    q_type: Any = "f4",
    k_type: Any = "f4",
    **options: Any,
) -> Callable[[], object]:
    return lambda: rg.attention(ones(*q, dtype=q_type), ones(*k, dtype=k_type), ones(*k, dtype=k_type), **options)


def at(q: Any, kv: Any = (0, 1, 2, 3), **options: Any) -> Callable[[], object]:
    """Attention with positions that the mask compares."""
    return attend(**{"mask": masks.causal, "q_positions": q, "kv_positions": np.array(kv), **options})


def turn(
    positions: Any = None, rope: Any = HALF, *, x: tuple[int, ...] = (1, 4, 2, 8), **options: Any
) -> Callable[[], object]:
    return lambda: rg.rope(ones(*x), positions, rope, **options)


def embed(ids: Any = (1, 2), table: Any = None, **options: Any) -> Callable[[], object]:
    return lambda: rg.embed(ids, ones(9, 8) if table is None else table, **options)


def rope(*theta: Any, **options: Any) -> Callable[[], object]:
    return lambda: rg.Rope(*theta, **{"pairing": "half", **options})


def longrope(**options: Any) -> Callable[[], object]:
    return lambda: scaling.longrope(**{"short": [1, 1], "long": [1, 2], "original": 4, "factor": 2, **options})


LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "rope_theta": 5e5}


def config(layer_type: str | None = None, **changes: Any) -> Callable[[], object]:
    return lambda: rg.Rope.from_hf({**LLAMA, **changes}, layer_type)


def scaled(**parameters: Any) -> Callable[[], object]:
    return config(rope_scaling=parameters)


def traced(function: Callable[..., Any]) -> Callable[[], object]:
    return lambda: masks.mask(function)


ATTENTION: dict[str, Callable[[], object]] = {
    "no-array": lambda: rg.attention("q", ones(1, 4, 2, 8), ones(1, 4, 2, 8)),  # type: ignore[arg-type]
    "rank": attend(q=(4, 8), k=(4, 8)),
    "rank-of-q": attend(q=(4, 4, 8)),
    "batch": attend(k=(2, 4, 2, 8)),
    "heads": attend(k=(1, 4, 3, 8)),
    "widths": attend(k=(1, 4, 2, 6)),
    "dtypes": attend(k_type=jnp.bfloat16),
    "integers": attend(q_type="i4", k_type="i4"),
    "dtype-unknown": attend(q_type=jnp.float8_e4m3fn, k_type=jnp.float8_e4m3fn),
    "rope": attend(rope=10_000.0),
    "rope-odd-width": attend(q=(1, 4, 4, 7), k=(1, 4, 2, 7), rope=HALF),
    "rope-too-wide": attend(rope=rg.Rope(pairing="half", dim=16)),
    "rope-length": attend(rope=DYNAMIC),
    "rope-length-negative": attend(rope=DYNAMIC, length=-1),
    "rope-length-fraction": attend(rope=DYNAMIC, length=4.5),
    "rope-positions-shape": attend(rope=HALF, q_positions=np.zeros((2, 4)), kv_positions=np.arange(4)),
    "rope-sections-without-positions": attend(rope=SECTIONS),
    "rope-sections-axes": attend(rope=SECTIONS, q_positions=AXES[:2], kv_positions=AXES[:2]),
    "rope-sections-mask": attend(
        q=(3, 4, 4, 8), k=(3, 4, 2, 8), rope=SECTIONS, mask=masks.causal, q_positions=AXES, kv_positions=AXES
    ),
    "rope-xpos-range": attend(
        rope=rg.Rope(pairing="half", scaling=scaling.xpos(base=1.0)), q_positions=range(900, 904), kv_positions=range(4)
    ),
    "positions-needed": attend(k=(1, 6, 2, 8), mask=masks.causal),
    "positions-of-one-side": attend(mask=masks.causal, q_positions=np.arange(4, 8)),
    "positions-of-one-side-rope": attend(rope=HALF, kv_positions=np.arange(4, 8)),
    "positions-shape": at(np.arange(5)),
    "positions-scalar": at(3),
    "positions-boolean": at([True, False, True, True]),
    "positions-words": at("first"),
    "positions-beyond-int32": at([0, 1, 2, 2**40]),
    "positions-run-over-int32": at(np.arange(4) + 2**31 - 2),
    "positions-not-finite": at([0.0, 1.0, np.nan, 3.0]),
    "positions-fractional-beyond-int32": attend(
        rope=HALF, q_positions=[0.0, 1.0, 2.0, 1e12], kv_positions=np.arange(4)
    ),
    "segments-missing": attend(mask=masks.segments & masks.causal),
    "segments-of-one-side": attend(mask=masks.segments, q_segments=np.array([0, 0, 1, 1])),
    "segments-unread": attend(mask=masks.causal, q_segments=np.zeros(4, int), kv_segments=np.zeros(4, int)),
    "segments-shape": attend(mask=masks.segments, q_segments=np.zeros(3, int), kv_segments=np.zeros(4, int)),
    "segments-floating": attend(mask=masks.segments, q_segments=np.zeros(4), kv_segments=np.zeros(4, int)),
    "segments-beyond-int32": attend(mask=masks.segments, q_segments=[0, 0, 1, 2**40], kv_segments=[0, 0, 1, 0]),
    "mask-none": attend(mask=None),
    "mask-word": attend(mask="causal"),
    "mask-list": attend(mask=[[True, False], [True, True]]),
    "mask-number": attend(mask=1),
    "mask-is-a-score": attend(mask=masks.alibi([1.0, 0.5, 0.2, 0.1])),
    "mask-function-not-called": attend(mask=masks.window),
    "mask-returns-nothing": attend(mask=lambda q_pos: None),
    "mask-returns-an-array": attend(mask=lambda q_pos: np.ones((3, 4), bool)),
    "mask-calls-jax": attend(mask=lambda q_pos, kv_pos: jnp.abs(q_pos - kv_pos)),
    "mask-indexes-a-list": attend(mask=lambda kv_pos, batch: kv_pos < [3, 4][batch]),
    "score-indexes-by-position": attend(score=lambda score, kv_pos: score + jnp.arange(4.0)[kv_pos]),
    "score-of-infinity": attend(score=lambda score: score * -np.inf),
    "score-hides-by-itself": attend(score=lambda score: masks.where(score > 1, score, -np.inf)),
    "score-reads-a-mask": attend(score=lambda score: masks.where(np.ones((4, 4), bool), score, 0)),
    "mask-with-if": attend(mask=lambda q_pos, kv_pos: (1 if q_pos > kv_pos else 0) == 1),
    "mask-table-by-head": attend(mask=lambda head: masks.table([True, False], head) == (head > 0)),
    "mask-array-shape": attend(mask=np.ones((3, 4), bool)),
    "mask-array-rank": attend(mask=np.ones((1, 1, 1, 4, 4), bool)),
    "mask-array-numbers": attend(mask=np.ones((4, 4))),
    "bias-shape": attend(bias=ones(5, 4, 4)),
    "bias-integers": attend(bias=ones(4, 4, dtype=int)),
    "bias-boolean": attend(bias=ones(4, 4, dtype=bool)),
    "score-none": attend(score=None),
    "score-boolean": attend(score=lambda score: score > 0),
    "score-integer": attend(score=lambda q_pos: q_pos),
    "score-array": attend(score=ones(4, 4)),
    "score-slopes": attend(score=masks.alibi(masks.alibi_slopes(2))),
    "sinks-shape": attend(sinks=ones(3)),
    "sinks-rank": attend(sinks=ones(1, 4)),
    "sinks-integers": attend(sinks=ones(4, dtype=int)),
    "softcap-zero": attend(softcap=0.0),
    "softcap-not-finite": attend(softcap=float("nan")),
    "softcap-word": attend(softcap="30"),
    "scale-not-finite": attend(scale=float("inf")),
    "scale-word": attend(scale="1"),
    "masked-row": attend(masked_row="zeros"),
    "tile-template": attend(tile={"attend": {"q": 1, "kv": 1}}),
    "tile-sizes": attend(tile={"attend/xla": {"q": 0, "kv": 1}}),
    "tile-number": attend(tile={"attend/xla": 128}),
    "target": attend(target="gpu:h1000"),
}

TURN: dict[str, Callable[[], object]] = {
    "rank": turn(x=(4, 8)),
    "odd-width": turn(x=(4, 2, 7)),
    "no-width": turn(x=(4, 2, 0)),
    "integers": lambda: rg.rope(ones(4, 2, 8, dtype=int), None, HALF),
    "no-rope": turn(None, None),
    "theta-for-rope": turn(None, 10_000.0),
    "too-wide": turn(None, rg.Rope(pairing="half", dim=16)),
    "positions-length": turn(np.arange(5)),
    "positions-batch": turn(np.zeros((2, 4))),
    "positions-rank": turn(np.zeros((2, 1, 4))),
    "positions-scalar": turn(3),
    "positions-boolean": turn(np.array([True, False, True, True])),
    "positions-not-finite": turn([0.0, 1.0, 2.0, np.inf]),
    "positions-beyond-int32": turn([0, 1, 2, 2**40]),
    "positions-unsigned": turn(np.array([0, 1, 2, 2**32 - 1], np.uint32)),
    "positions-unsigned-type": turn(jnp.arange(4, dtype=jnp.uint32)),
    "sections-without-positions": turn(None, SECTIONS),
    "sections-axes": turn(AXES[:2], SECTIONS),
    "sections-width": turn(AXES, rg.Rope(pairing="half", sections=(2, 2, 1))),
    "length": turn(None, DYNAMIC),
    "length-negative": turn(None, DYNAMIC, length=-3),
    "length-word": turn(None, DYNAMIC, length="4"),
    "longrope-pairs": turn(
        None,
        rg.Rope(pairing="half", scaling=scaling.longrope(short=[1, 1], long=[1, 2], original=4, factor=2)),
        length=4,
    ),
    "yarn-no-ramp": turn(
        None, rg.Rope(pairing="half", scaling=scaling.yarn(factor=2, original=4, beta_fast=1e9, beta_slow=1e8))
    ),
}

EMBED: dict[str, Callable[[], object]] = {
    "floating-ids": embed([1.0, 2.0]),
    "boolean-ids": embed([True, False]),
    "words": embed("ab"),
    "ids-beyond-int32": embed([1, 2**40]),
    "bytes": embed(np.array([1, 2], np.uint8)),
    "table-rank": embed(table=ones(9)),
    "table-integers": embed(table=ones(9, 8, dtype=int)),
    "table-empty": embed(table=ones(0, 8)),
    "mode": embed(mode="wrap"),
    "mode-none": embed(mode=None),
    "scale": embed(scale=float("nan")),
}

ROPE: dict[str, Callable[[], object]] = {
    "theta-word": rope("10000"),
    "theta-one": rope(1.0),
    "theta-not-finite": rope(float("inf")),
    "pairing-none": rope(pairing=None),
    "angles": rope(angles="f64"),
    "dim-odd": rope(dim=7),
    "dim-zero": rope(dim=0),
    "dim-fraction": rope(dim=0.5),
    "scaling-word": rope(scaling="linear"),
    "scaling-config": rope(scaling={"rope_type": "linear", "factor": 2.0}),
    "scaling-class": rope(scaling=scaling.Linear),
    "sections-number": rope(sections=3),
    "sections-empty-axis": rope(sections=(0, 2)),
    "sections-width": rope(dim=8, sections=(1, 1)),
    "sections-uneven": rope(sections=(1, 2, 1), interleaved_sections=True),
    "interleaved-without-sections": rope(interleaved_sections=True),
}

SCALING: dict[str, Callable[[], object]] = {
    "factor-zero": lambda: scaling.linear(factor=0),
    "factor-word": lambda: scaling.linear(factor="2"),
    "factor-not-finite": lambda: scaling.linear(factor=float("nan")),
    "dynamic-original": lambda: scaling.dynamic(factor=2, original=0),
    "dynamic-fraction": lambda: scaling.dynamic(factor=2, original=2.5),
    "yarn-betas": lambda: scaling.yarn(factor=2, original=64, beta_fast=1, beta_slow=32),
    "yarn-mscale": lambda: scaling.yarn(factor=2, original=64, mscale=1.0),
    "yarn-truncate": lambda: scaling.yarn(factor=2, original=64, truncate="no"),
    "longrope-lengths": longrope(short=[1]),
    "longrope-empty": longrope(short=[], long=[]),
    "longrope-zero": longrope(short=[0.0, 1.0]),
    "longrope-magnitude": longrope(factor=None),
    "longrope-original": longrope(original=1),
    "proportional": lambda: scaling.proportional(fraction=1.5),
    "xpos": lambda: scaling.xpos(base=0),
    "kind": lambda: scaling.from_attributes({"kind": "lama3"}),
    "field": lambda: scaling.from_attributes({"kind": "linear", "factr": 2}),
    "missing": lambda: scaling.from_attributes({"kind": "llama3", "factor": 2}),
}

HF: dict[str, Callable[[], object]] = {
    "no-mapping": lambda: rg.Rope.from_hf("config.json"),  # type: ignore[arg-type]
    "model-type-missing": lambda: rg.Rope.from_hf({}),
    "model-type": config(model_type="lama"),
    "rope-type": scaled(rope_type="llamma3", factor=8),
    "rope-type-missing": scaled(factor=8),
    "rope-types-differ": scaled(rope_type="linear", type="dynamic", factor=2),
    "field": scaled(rope_type="linear", factr=8),
    "factor-missing": scaled(rope_type="linear"),
    "parameters-differ": config(
        rope_scaling={"rope_type": "linear", "factor": 2}, rope_parameters={"rope_type": "linear", "factor": 4}
    ),
    "parameters-word": config(rope_scaling="linear"),
    "theta-word": config(rope_theta="5e5"),
    "context-missing": scaled(rope_type="dynamic", factor=2),
    "layer-type-missing": config(model_type="gemma3_text"),
    "layer-type": config("sliding", model_type="gemma3_text"),
    "width-missing": config(model_type="deepseek_v3"),
    "width-odd": config(model_type="gpt_neox", rope_theta=None, rotary_pct=0.3, hidden_size=80, num_attention_heads=8),
    "width-beyond-the-head": config(model_type="gpt_neox", rope_theta=None, rotary_pct=2.0),
    "heads-zero": config(model_type="gpt_neox", rope_theta=None, num_attention_heads=0),
    "scaling-missing": config(model_type="gpt_oss"),
    "sections-missing": config(model_type="qwen2_vl"),
}

MASK: dict[str, Callable[[], object]] = {
    "window-fraction": lambda: masks.window(2.5),  # type: ignore[arg-type]
    "window-word": lambda: masks.window("2"),  # type: ignore[arg-type]
    "window-neither-side": lambda: masks.window(None),
    "chunked": lambda: masks.chunked(0),
    "prefix": lambda: masks.prefix(jnp.arange(3)),  # type: ignore[arg-type]
    "alibi-number": lambda: masks.alibi(0.5),  # type: ignore[arg-type]
    "alibi-empty": lambda: masks.alibi([]),
    "alibi-not-finite": lambda: masks.alibi([float("nan"), 1.0]),
    "alibi-slopes": lambda: masks.alibi_slopes(0),
    "and-score": lambda: masks.causal & masks.alibi([1.0]),
    "and-array": lambda: masks.causal & np.ones((4, 4)),
    "array-and": lambda: np.ones((4, 4)) & masks.causal,
    "padding": lambda: masks.padding([1.5]),
    "keys": lambda: masks.keys([1, 0]),
    "truth": lambda: not masks.causal,
    "chain": traced(lambda q_pos, kv_pos: 0 <= q_pos < kv_pos),
    "brackets": traced(lambda q_pos, kv_pos: q_pos < 3 & kv_pos),
    "modulo-float": traced(lambda q_pos: q_pos % 2.0 == 0),
    "division-by-zero": traced(lambda q_pos: q_pos // 0 == 1),
    "constant-beyond-int32": traced(lambda q_pos: q_pos < 2**31),
    "constant-infinite": traced(lambda q_pos: q_pos < float("inf")),
    "table-mixed": traced(lambda q_pos: masks.table([True, 2], q_pos) == 1),
    "table-empty": traced(lambda q_pos: masks.table([], q_pos) == 1),
    "table-index": traced(lambda q_pos: masks.table([1, 2], q_pos / 2) == 1),
    "parameters": traced(lambda *names: True),
    "too-large": lambda: masks.alibi([0.1 * n for n in range(5000)]),
    "text-empty": lambda: masks.parse(""),
    "text-bracket": lambda: masks.parse("kv_pos <= q_pos)"),
    "text-kinds": lambda: masks.parse("kv_pos & q_pos"),
    "value-missing": lambda: masks.evaluate(masks.causal, np, q_pos=1),
    "value-unknown": lambda: masks.evaluate(masks.causal, np, q=1),
    "classify-score": lambda: masks.classify(masks.alibi([1.0])),
    "classify-range": lambda: masks.classify(masks.causal, q_pos=(3, 1)),
}

GROUPS = {
    "attention": ATTENTION,
    "plain-rope": TURN,
    "plain-embed": EMBED,
    "rope": ROPE,
    "scaling": SCALING,
    "from-hf": HF,
    "mask": MASK,
}
ERRORS = {f"{group}/{name}": call for group, calls in GROUPS.items() for name, call in calls.items()}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_in_words(name: str, golden: Golden) -> None:
    with pytest.raises(rg.RopegenError) as caught:
        ERRORS[name]()
    golden(f"errors/{name}.txt", f"{caught.value}\n")


@pytest.mark.parametrize(
    ("word", "known", "wanted"),
    [
        ("lama", ["llama", "mistral"], "llama"),
        ("biuld", ["build", "bench"], "build"),  # two letters that are swapped count as one mistake
        ("opps", ["ops", "masks"], "ops"),
        ("halves", ["half", "interleaved"], "half"),
        ("attend", ["attend/xla", "embed/xla"], "attend/xla"),
        ("h1000", ["a100", "h100", "h200"], "h100"),
        ("mamba", ["llama", "mistral"], None),
        ("parings", ["merge", "pairing"], "pairing"),
        ("v9", ["v4", "v5e", "v6e"], None),
        ("v9e", ["v4", "v5e", "v6e"], None),
        ("x", ["v4", "xla"], None),
        ("", ["v4"], None),
    ],
)
def test_only_close_spellings_are_suggested(word: str, known: list[str], wanted: str | None) -> None:
    said = f"did you mean {wanted!r}?" if wanted else f"known: {', '.join(sorted(known))}"
    assert errors.nearest(word, known) == said
