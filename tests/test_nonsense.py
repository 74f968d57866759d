"""Arguments that make no sense: every public function answers with a RopegenError that names the argument and the way out."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks, models, scaling, tuning
from ropegen.target import Target

ROPE = rg.Rope(pairing="half")
Q = jnp.ones((1, 4, 2, 8))
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 32,
    "max_position_embeddings": 32,
    "rope_theta": 1e4,
}


def attention() -> rg.Graph:
    b = rg.Builder("attention")
    q, k, v = (b.input(label, Q.shape, "f32") for label in "qkv")
    return b.build(out=b.attend(q, k, v, mask=masks.causal))


GRAPH = attention()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nonsense") / "artifact"
    rg.export(GRAPH, folder, targets="cpu")
    return folder


# Calls with the words that their message must have, the argument and the way out ---------------------------------------

CALLS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "attention-target-number": (lambda: rg.attention(Q, Q, Q, target=5), ("targets are 5", "'tpu:v5e'")),
    "attention-target-in-a-list": (lambda: rg.attention(Q, Q, Q, target=["cpu", 5]), ("target is 5", "tpu:v5e")),
    "attention-tile-word": (lambda: rg.attention(Q, Q, Q, tile="x"), ("tile is 'x'", "{'attend/xla':")),
    "attention-lse-array": (lambda: rg.attention(Q, Q, Q, return_lse=Q), ("return_lse", "true or false")),
    "rope-scalar": (lambda: rg.rope(3.0, None, ROPE), ("x is tensor<f32>", "(..., sequence, heads, width)")),
    "rope-nothing": (lambda: rg.rope(None, None, ROPE), ("rope: x must be an array of numbers",)),
    "rope-table-width": (lambda: rg.rope_table(8, ROPE, None), ("rope_table: width", "None")),
    "rope-table-rope": (lambda: rg.rope_table(8, None, 8), ("rope is None", "ropegen.Rope")),
    "rope-table-positions": (lambda: rg.rope_table(None, ROPE, 8), ("positions is None", "the number of positions")),
    "sinusoid-positions": (lambda: rg.sinusoid(None, 8, pairing="half"), ("positions is None", "number of positions")),
    "rope-width": (lambda: ROPE.width(None), ("head width", "None")),
    "rope-table-method-length": (lambda: ROPE.table([0, 1], 8, length="4"), ("sequence length", "'4'")),
    "rope-table-method-inverse": (lambda: ROPE.table([0, 1], 8, inverse=Q), ("inverse", "true or false")),
    "rope-table-method-ragged": (lambda: ROPE.table([[1], [1, 2]], 8), ("positions are [[1], [1, 2]]", "numbers")),
    "grid-negative": (lambda: rg.grid_positions(-1, -1), ("-1 x -1", "from 0 on")),
    "grid-huge": (lambda: rg.grid_positions(1 << 20, 1 << 20), ("1048576 x 1048576", "fewer than 2^31")),
    "plan-target": (lambda: rg.plan(GRAPH, None), ("target is None", "cpu:8")),
    "plan-graph": (lambda: rg.plan("graph.mlir", "cpu"), ("graph is 'graph.mlir'", "load_graph")),
    "plan-measured": (lambda: rg.plan(GRAPH, "cpu", measured="t.json"), ("measured is 't.json'", "load_tiles")),
    "plan-tile-sizes": (
        lambda: rg.plan(GRAPH, "cpu", tile={"attend/xla": 5}),
        ("tile of attend/xla is 5", "{'q': 256, 'kv': 512}"),
    ),
    "plan-tile-size-word": (
        lambda: rg.plan(GRAPH, "cpu", tile={"attend/xla": {"q": "x", "kv": 1}}),
        ("'q' = 'x'", "a whole number"),
    ),
    "plan-tile-fraction": (
        lambda: rg.plan(GRAPH, "cpu", tile={"attend/xla": {"q": 1.5, "kv": 1}}),
        ("'q' = 1.5", "a whole number"),
    ),
    "plan-tile-huge": (
        lambda: rg.plan(GRAPH, "cpu", tile={"attend/xla": {"q": 1 << 40, "kv": 1}}),
        ("attend/xla", "below 2^31"),
    ),
    "plan-tile-of-none": (
        lambda: rg.plan(GRAPH, "cpu", tile={"embed/xla": {}}),
        ("embed/xla, which has no tile", "leave it out"),
    ),
    "plan-weigh-number": (lambda: rg.plan(GRAPH, "cpu", weigh=5), ("weigh is 5", '("forward", "backward")')),
    "plan-weigh-list": (lambda: rg.plan(GRAPH, "cpu", weigh=([],)), ("weigh names the direction []", "forward")),
    "plan-tables": (lambda: rg.plan(GRAPH, "cpu", tables=np.arange(2)), ("tables are array([0, 1])", "constant")),
    "target-platform-alone": (lambda: Target.parse("tpu"), ("needs a chip (v4, v5e", "or tpu:any")),
    "target-nothing": (lambda: Target.parse(None), ("target is None", "tpu:v5e")),
    "target-unknown": (lambda: Target.parse("xyz"), ("'xyz'; known: cpu, gpu, host, tpu. Write e.g. cpu,",)),
    "export-targets": (lambda: rg.export(GRAPH, "x", targets=5), ("targets are 5", "['cpu', 'tpu:v5e']")),
    "export-no-target": (lambda: rg.export(GRAPH, "x", targets=[]), ("targets is empty", '"cpu"')),
    "export-twice": (lambda: rg.export(GRAPH, "x", targets=["cpu", "host"]), ("targets cpu and host are both cpu",)),
    "export-libtpu": (
        lambda: rg.export(GRAPH, "x", targets="tpu:v5e", libtpu=object()),
        ("libtpu is <object", "the path where"),
    ),
    "export-libtpu-unused": (
        lambda: rg.export(GRAPH, "x", targets="tpu:v5e", libtpu="folder"),
        ("libtpu is 'folder'", "ahead_of_time=True"),
    ),
    "export-directory": (lambda: rg.export(GRAPH, None, targets="cpu"), ("directory is None", "the path where")),
    "load-nothing": (lambda: rg.load(None), ("load: directory is None", "the path where")),
    "load-graph-number": (lambda: rg.load_graph(1), ("load_graph: path is 1", "the path where")),
    "load-tiles-number": (lambda: rg.load_tiles(1), ("load_tiles: path is 1", "the path where")),
    "from-hf-nothing": (lambda: rg.from_hf(None), ("config is None", "json.loads(")),
    "from-hf-path": (lambda: rg.from_hf("config.json"), ("cannot read config.json", "read_text()")),
    "from-hf-case": (lambda: rg.from_hf({"config": CONFIG}), ('a field "config"', "ropegen.models.from_case")),
    "from-hf-phase": (lambda: rg.from_hf(CONFIG, phase=5), ("phase is 5", "'prefill' or 'decode'")),
    "from-case": (lambda: models.from_case(5), ("case is 5", '"build"')),
    "rope-from-hf-layer": (lambda: rg.Rope.from_hf(CONFIG, layer_type=[]), ("layer_type is []", "full_attention")),
    "dumps": (lambda: rg.dumps(5), ("graph is 5", "Builder.build")),
    "builder": (lambda: rg.Builder(None), ("Builder: name is None", "Builder('front-end')")),
    "evaluate": (lambda: rg.reference.evaluate(GRAPH, 5), ("inputs is 5", "{'q': ..., 'k': ..., 'v': ...}")),
    "template": (lambda: rg.register_template(5), ("template is 5", "ropegen.template.Template")),
    "tune-seconds": (lambda: next(tuning.tune(GRAPH, seconds="1")), ("seconds is '1'", "a positive number")),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_message_names_the_argument_and_the_way_out(name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(rg.RopegenError) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert not Path("x").exists()


def test_a_number_for_a_path_leaves_the_open_file_of_that_number_open() -> None:
    read, write = os.pipe()
    try:
        for function in (rg.load_graph, rg.load_tiles, rg.load):
            with pytest.raises(rg.RopegenError):
                function(read)  # type: ignore[arg-type]
        os.write(write, b"still open")
        assert os.read(read, 10) == b"still open"
    finally:
        os.close(read)
        os.close(write)


def test_export_takes_one_target_by_its_name(tmp_path: Path) -> None:
    assert rg.export(GRAPH, tmp_path / "one", targets="cpu").targets == ("cpu",)


@pytest.mark.parametrize("q", [None, "x", [[1.0], [1.0, 2.0]], object(), 2**70])
def test_an_input_that_is_no_array_is_named(q: Any, artifact: Path) -> None:
    for function in (rg.plan(GRAPH, "cpu").compile(), rg.load(artifact)):
        with pytest.raises(rg.RopegenError, match=r"input q is .*the graph reads tensor<1x4x2x8xf32>; give an array"):
            function(q=q, k=Q, v=Q)


def test_inputs_by_position_are_refused_with_the_keywords(artifact: Path) -> None:
    for function in (rg.plan(GRAPH, "cpu").compile(), rg.load(artifact)):
        with pytest.raises(rg.RopegenError, match=r"give the inputs by keyword: f\(q=\.\.\., k=\.\.\., v=\.\.\.\)"):
            function(Q, k=Q, v=Q)
        with pytest.raises(rg.RopegenError, match=r"give the inputs by keyword: f\(q=\.\.\., k=\.\.\., v=\.\.\.\)"):
            function.bind()(Q, Q, Q)
        with pytest.raises(rg.RopegenError, match="give the inputs by keyword"):
            function.bind(Q)


def test_an_input_may_be_called_self() -> None:
    b = rg.Builder("self")
    compiled = rg.plan(b.build(out=b.scale(b.input("self", (2,), "f32"), 2.0)), "cpu").compile()
    np.testing.assert_array_equal(compiled(self=jnp.ones(2)), [2.0, 2.0])


@pytest.mark.parametrize("seed", [-1, 0.5, None, "0"])
def test_a_seed_is_a_whole_number_from_0_on(seed: Any, artifact: Path) -> None:
    with pytest.raises(rg.RopegenError, match="the seed"):
        rg.load(artifact).check(seed)


# The layers ------------------------------------------------------------------------------------------------------------


def test_every_layer_of_equinox_takes_a_target() -> None:
    pytest.importorskip("equinox")
    from ropegen import equinox as layers

    layer = layers.RotaryPositionalEmbedding(8, target="tpu:v5e")
    assert layer.target == (Target.parse("tpu:v5e"),)
    x = jnp.arange(16.0).reshape(2, 8)
    np.testing.assert_array_equal(layer(x), layers.RotaryPositionalEmbedding(8)(x))
    assert layers.from_equinox(layers.eqx.nn.RotaryPositionalEmbedding(8), target="cpu").target
    for wrong in (5, "tpu", ["cpu", "cpu:4"]):
        with pytest.raises(rg.RopegenError, match="target"):
            layers.RotaryPositionalEmbedding(8, target=wrong)


def test_every_layer_of_nnx_takes_a_target() -> None:
    nnx = pytest.importorskip("flax.nnx")
    from ropegen import nnx as layers

    sizes = {"num_positions": 4, "d_model": 8}
    layer = layers.LearnedPositionalEmbedding(nnx.Rngs(0), **sizes, target="tpu:v5e")
    assert layer.target == (Target.parse("tpu:v5e"),)
    x = jnp.ones((1, 3, 8))
    np.testing.assert_array_equal(layer(x), layers.LearnedPositionalEmbedding(nnx.Rngs(0), **sizes)(x))
    with pytest.raises(rg.RopegenError, match="targets are 5"):
        layers.LearnedPositionalEmbedding(nnx.Rngs(0), **sizes, target=5)


def test_a_layer_of_penzai_refuses_a_target_when_it_is_made() -> None:
    pytest.importorskip("penzai")
    from ropegen import penzai as layers

    with pytest.raises(rg.RopegenError, match="targets are 5"):
        layers.ApplyRoPE("features", 1e4, "at", target=5)
    with pytest.raises(rg.RopegenError, match="needs a chip"):
        layers.ApplyRoPEToSubset("features", 1e4, 4, "at", target="gpu")


# Every argument, replaced by every kind of value -----------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, -1, 2.5, 2**70, float("nan"), True, 1j),
    *("x", b"x", (), [None], [[1], [1, 2]], {}, {"a": 1}, {1, 2}),
    *(object(), int, lambda *given: given),
    *(np.array([1, 2]), np.array(["a"]), np.array(None), jnp.ones(3), Q),
    *(GRAPH, ROPE, masks.causal),
)

Whole = tuple[Callable[..., object], dict[str | int, Any]]


def _functions() -> dict[str, Whole]:
    compiled = rg.plan(GRAPH, "cpu").compile()
    options = {"mask": masks.causal, "score": masks.identity, "bias": None, "softcap": 3.0, "sinks": jnp.ones(2)}
    places = dict.fromkeys(("q_positions", "kv_positions", "q_segments", "kv_segments", "length", "tile", "target"))
    given = {"rope": ROPE, **options, **places, "scale": 1.0, "masked_row": "zero", "return_lse": False}
    planned = {"tile": None, "tables": None, "weigh": ("forward",), "measured": None}
    return {
        "attention": (rg.attention, {0: Q, 1: Q, 2: Q, **given}),
        "attention, forms": (
            rg.attention,
            {
                0: Q,
                1: Q,
                2: Q,
                "layout": "BHSD",
                "dropout": 0.0,
                **dict.fromkeys(("accumulate", "align", "dropout_key", "q_cu_seqlens", "kv_cu_seqlens")),
            },
        ),
        "unpack_qkv": (rg.unpack_qkv, {0: Q, "heads": 1, "kv_heads": 1}),
        "unpack_kv": (rg.unpack_kv, {0: Q, "kv_heads": 1}),
        "merge": (rg.merge, {0: [(Q, Q[..., 0])]}),
        "rope": (rg.rope, {0: Q, 1: None, 2: ROPE, "length": None, "target": None}),
        "rotate": (rg.rotate, {0: Q, 1: jnp.ones((4, 8)), "pairing": "half", "target": None}),
        "rope_table": (rg.rope_table, {0: 4, 1: ROPE, 2: 8, "length": None}),
        "sinusoid": (rg.sinusoid, {0: 4, 1: 8, "pairing": "half", "theta": 1e4, "angles": "exact"}),
        "embed": (rg.embed, {0: [1], 1: jnp.ones((4, 8)), "mode": "clip", "scale": None, "target": None}),
        "plan": (rg.plan, {0: GRAPH, 1: "cpu", **planned}),
        "from_hf": (rg.from_hf, {0: CONFIG, **dict.fromkeys(("batch", "seq", "layer"), 1), "dtype": "f32"}),
        "from_hf, options": (rg.from_hf, {0: CONFIG, "phase": "prefill", "capacity": None, "vocabulary": None}),
        "from_case": (models.from_case, {0: {"config": CONFIG}}),
        "load": (rg.load, {0: "nowhere"}),
        "load_graph": (rg.load_graph, {0: "nowhere"}),
        "load_tiles": (rg.load_tiles, {0: "nowhere", 1: None}),
        "dumps": (rg.dumps, {0: GRAPH}),
        "Builder": (rg.Builder, {0: "name"}),
        "Rope": (rg.Rope, {0: 1e4, "pairing": "half", "dim": None, "scaling": scaling.none(), "angles": "exact"}),
        "Rope, sections": (rg.Rope, {"pairing": "half", "sections": (), "interleaved_sections": False}),
        "Rope.from_hf": (rg.Rope.from_hf, {0: CONFIG, 1: None}),
        "Rope.table": (ROPE.table, {0: [0, 1], 1: 8, "length": None, "inverse": False, "dtype": "f4"}),
        "Rope.inverse_frequencies": (ROPE.inverse_frequencies, {0: 8, "length": None}),
        "grid_positions": (rg.grid_positions, {0: 2, 1: 3}),
        "Target.parse": (rg.Target.parse, {0: "cpu"}),
        "retrofit": (rg.retrofit, {0: None, "target": None}),
        "register_template": (rg.register_template, {0: None}),
        "evaluate": (rg.reference.evaluate, {0: GRAPH, 1: dict.fromkeys("qkv", np.ones(Q.shape, np.float32))}),
        "compiled": (compiled, dict.fromkeys("qkv", Q)),
    }


@pytest.mark.parametrize("name", _functions())
def test_any_value_for_any_argument_is_taken_or_refused_by_the_one_exception(name: str) -> None:
    function, arguments = _functions()[name]
    for argument in arguments:
        for value in VALUES:
            given = {**arguments, argument: value}
            positional = [given[index] for index in sorted(key for key in given if isinstance(key, int))]
            keywords = {key: given[key] for key in given if isinstance(key, str)}
            with contextlib.suppress(rg.RopegenError):
                function(*positional, **keywords)


@pytest.mark.parametrize("name", ["targets", "tile", "tables", "measured", "ahead_of_time", "libtpu", "grad"])
def test_any_value_for_an_argument_of_export_is_refused_by_the_one_exception(name: str, tmp_path: Path) -> None:
    fine = {"tile": ({},), "tables": (), "measured": (), "ahead_of_time": (), "libtpu": (), "grad": (), "targets": ()}[
        name
    ]
    for value in VALUES:
        if value is None or (isinstance(value, dict) and value in fine) or value is True:
            continue
        with pytest.raises(rg.RopegenError):
            rg.export(GRAPH, tmp_path / "out", **{"targets": "cpu", name: value})
    assert not list(tmp_path.iterdir())


def test_a_case_is_json_with_two_mappings(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps({"config": CONFIG, "build": {"seq": 4}}))
    assert models.from_case(json.loads(path.read_text())) is rg.from_hf(CONFIG, seq=4)
