"""An artifact or a compiled plan as a layer of Equinox, Flax NNX and Penzai: one program, four doors, the same results.

The reference is NumPy in float64; derivatives are compared with its differences.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("equinox", reason="pip install '.[seeds]' has the libraries of all doors")
pytest.importorskip("flax", reason="pip install '.[seeds]' has the libraries of all doors")
pytest.importorskip("penzai", reason="pip install '.[seeds]' has the libraries of all doors")

import equinox as eqx
import flax.serialization
import optax
from flax import nnx
from penzai import pz

import ropegen as rg
import ropegen.equinox
import ropegen.nnx
import ropegen.penzai

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    # penzai prints named arrays with treescope, which lists all of NumPy, and newer NumPy warns about one of its names.
    pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning"),
]

BATCH, ROWS, FEATURES, HEADS = 2, 7, 12, 2
Weights = dict[str, Any]
Program = Any


def graph_of(role: str = "parameter") -> rg.Graph:
    """Attention between projections, with the weights as parameters."""
    b = rg.Builder("layer")
    x = b.input("x", (BATCH, ROWS, FEATURES), "f32")
    at = b.positions(ROWS)
    weights = {name: b.input(name, (FEATURES, FEATURES), "f32", role=role) for name in ("wq", "wk", "wv", "wo")}
    q, k, v = (b.split_heads(b.project(x, weights[name]), HEADS) for name in ("wq", "wk", "wv"))
    q, k = (b.rope(heads, at, rg.Rope(100.0, pairing="half")) for heads in (q, k))
    out = b.attend(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)
    return b.build(out=b.project(b.merge_heads(out), weights["wo"]))


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X = drawn(BATCH, ROWS, FEATURES, seed=1)
WEIGHTS = {name: drawn(FEATURES, FEATURES, seed=2 + i) / 3 for i, name in enumerate(("wq", "wk", "wv", "wo"))}


def formula(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """The graph in float64."""
    width = FEATURES // HEADS
    wide = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    q, k, v = ((X @ wide[name]).reshape(BATCH, ROWS, HEADS, width).swapaxes(1, 2) for name in ("wq", "wk", "wv"))
    turn = np.exp(1j * np.arange(ROWS)[:, None] * 100.0 ** (-np.arange(0, width, 2) / width))

    def rotated(heads: np.ndarray) -> np.ndarray:
        turned = (heads[..., : width // 2] + 1j * heads[..., width // 2 :]) * turn
        return np.concatenate([turned.real, turned.imag], -1)

    scores = rotated(q) @ rotated(k).swapaxes(-1, -2) / np.sqrt(width)
    powers = np.where(np.tri(ROWS, dtype=bool), np.exp(scores), 0.0)
    out = (powers / powers.sum(-1, keepdims=True)) @ v
    return out.swapaxes(1, 2).reshape(BATCH, ROWS, FEATURES) @ wide["wo"]


@pytest.fixture(scope="module")
def plan() -> Program:
    return rg.plan(graph_of(), "cpu").compile()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifact") / "kernels"


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Program:
    rg.export(graph_of(), folder, targets="cpu", grad=True)
    return rg.load(folder)


@pytest.fixture(params=["plan", "artifact"])
def program(request: pytest.FixtureRequest) -> Program:
    return request.getfixturevalue(request.param)


AXES = {"x": ("batch", "seq", "embedding"), **dict.fromkeys(WEIGHTS, ("embedding", "features"))}


@dataclass(frozen=True)
class Door:
    """How a library makes the layer, takes its gradients and weights, and calls it. All in the library's own words."""

    make: Callable[[Program, Weights], Any]
    call: Callable[[Any, Any], Any]
    gradient: Callable[[Callable[[Any], Any], Any], Weights]
    """The gradient of a function of the layer by its weights, by label."""
    weights: Callable[[Any], Weights]
    moved: Callable[[Any, Weights], Any]
    """The layer with other weights."""


def equinox_moved(layer: Any, weights: Weights) -> Any:
    return eqx.tree_at(lambda layer: layer.parameters, layer, weights)


def nnx_gradient(loss: Callable[[Any], Any], layer: Any) -> Weights:
    return {name: value[...] for name, value in nnx.grad(loss)(layer)["parameters"].items()}


def nnx_moved(layer: Any, weights: Weights) -> Any:
    made = nnx.clone(layer)
    nnx.update(made, nnx.State({"parameters": {name: nnx.Param(array) for name, array in weights.items()}}))
    return made


def penzai_gradient(loss: Callable[[Any], Any], layer: Any) -> Weights:
    unbound, values = pz.unbind_params(layer, freeze=True)
    moved = jax.grad(lambda values: loss(pz.bind_variables(unbound, values)))(values)
    return {value.label.removeprefix("layer/"): value.value.unwrap("embedding", "features") for value in moved}


def penzai_moved(layer: Any, weights: Weights) -> Any:
    unbound, _ = pz.unbind_params(layer)
    values = (
        pz.Parameter(label=f"layer/{name}", value=pz.nx.wrap(array, "embedding", "features"))
        for name, array in weights.items()
    )
    return pz.bind_variables(unbound, list(values))


DOORS = {
    "equinox": Door(
        ropegen.equinox.ProgramLayer,
        lambda layer, x: layer(x),
        lambda loss, layer: eqx.filter_grad(loss)(layer).parameters,
        lambda layer: dict(layer.parameters),
        equinox_moved,
    ),
    "nnx": Door(
        ropegen.nnx.ProgramLayer,
        lambda layer, x: layer(x),
        nnx_gradient,
        lambda layer: {name: variable[...] for name, variable in layer.parameters.items()},
        nnx_moved,
    ),
    "penzai": Door(
        lambda program, weights: ropegen.penzai.ProgramLayer.from_program(
            program,
            {name: pz.nx.wrap(jnp.asarray(array), "embedding", "features") for name, array in weights.items()},
            axes=AXES,
            result_axes={"out": ("batch", "seq", "embedding")},
            name="layer",
        ),
        lambda layer, x: layer(pz.nx.wrap(x, "batch", "seq", "embedding")).unwrap("batch", "seq", "embedding"),
        penzai_gradient,
        lambda layer: {name: held.value.unwrap("embedding", "features") for name, held in layer.parameters.items()},
        penzai_moved,
    ),
}
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def loss_of(door: Door) -> Callable[[Any], Any]:
    return lambda layer: jnp.sum(jnp.sin(door.call(layer, jnp.asarray(X))))


@doors
def test_every_door_has_the_bits_of_the_program(program: Program, door: Door) -> None:
    layer = door.make(program, WEIGHTS)
    out = door.call(layer, jnp.asarray(X))
    np.testing.assert_array_equal(out, program(x=X, **WEIGHTS))
    np.testing.assert_allclose(out, formula(WEIGHTS), rtol=1e-5, atol=1e-5)


@doors
def test_gradients_are_taken_by_the_weights_of_the_layer(program: Program, door: Door) -> None:
    along = {name: drawn(FEATURES, FEATURES, seed=20 + i) for i, name in enumerate(WEIGHTS)}

    def at(step: float) -> float:
        moved = {name: WEIGHTS[name].astype(np.float64) + step * along[name] for name in WEIGHTS}
        return float(np.sin(formula(moved)).sum())

    gradient = door.gradient(loss_of(door), door.make(program, WEIGHTS))
    assert {*gradient} == {*WEIGHTS}
    slope = sum(float(np.vdot(np.asarray(gradient[name], np.float64), along[name])) for name in WEIGHTS)
    np.testing.assert_allclose(slope, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-4)


@doors
def test_an_optimiser_trains_every_door_alike(plan: Program, door: Door) -> None:
    """Three steps of Adam, beside the same steps on a dictionary of weights."""
    optimiser = optax.adam(1e-2)
    weights: Weights = {name: jnp.asarray(array) for name, array in WEIGHTS.items()}
    layer = door.make(plan, weights)
    state = other = optimiser.init(weights)
    for _ in range(3):
        wanted = jax.grad(lambda weights: jnp.sum(jnp.sin(plan(x=X, **weights))))(weights)
        updates, other = optimiser.update(wanted, other)
        weights = optax.apply_updates(weights, updates)
        own = door.weights(layer)
        updates, state = optimiser.update(door.gradient(loss_of(door), layer), state)
        layer = door.moved(layer, optax.apply_updates(own, updates))
    for name, array in door.weights(layer).items():
        assert float(jnp.max(jnp.abs(array - WEIGHTS[name]))) > 1e-2
        np.testing.assert_allclose(array, weights[name], rtol=1e-4, atol=1e-5)


def test_without_its_gradient_an_artifact_refuses_to_be_trained(tmp_path: Path) -> None:
    program = rg.export(graph_of(), tmp_path / "kernels", targets="cpu")
    for door in DOORS.values():
        layer = door.make(program, WEIGHTS)
        assert door.call(layer, jnp.asarray(X)).shape == X.shape
        with pytest.raises(rg.RopegenError, match="--grad"):
            door.gradient(loss_of(door), layer)


@doors
def test_a_program_that_is_loaded_twice_makes_one_kind_of_layer(artifact: Program, folder: Path, door: Door) -> None:
    again = rg.load(folder)
    assert (again == artifact, hash(again) == hash(artifact), again is artifact) == (True, True, False)
    one, other = door.make(artifact, WEIGHTS), door.make(again, WEIGHTS)
    if door is DOORS["penzai"]:
        one, other = pz.freeze_params(one), pz.freeze_params(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    compiled = 0

    @jax.jit
    def run(layer: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return door.call(layer, jnp.asarray(X))

    np.testing.assert_array_equal(run(one), run(other))
    assert compiled == 1


def test_equality_of_programs_is_that_of_what_they_compute(plan: Program, artifact: Program, tmp_path: Path) -> None:
    assert plan == pickle.loads(pickle.dumps(plan)) == rg.plan(graph_of(), "cpu").compile()
    assert plan not in (rg.plan(graph_of("activation"), "cpu").compile(), artifact)
    assert artifact == pickle.loads(pickle.dumps(artifact))
    assert artifact != rg.export(graph_of("activation"), tmp_path / "other", targets="cpu")
    assert len({plan, artifact, pickle.loads(pickle.dumps(plan))}) == 2


def test_an_equinox_layer_is_stored_and_read_as_equinox_does(program: Program) -> None:
    layer = ropegen.equinox.ProgramLayer(program, WEIGHTS)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, layer)
    file.seek(0)
    like = eqx.filter_eval_shape(ropegen.equinox.ProgramLayer, program, WEIGHTS)
    read = eqx.tree_deserialise_leaves(file, like)
    np.testing.assert_array_equal(read(X), layer(X))
    assert {*read.parameters} == {*WEIGHTS}


def test_an_nnx_layer_is_stored_and_read_as_flax_does(program: Program) -> None:
    layer = ropegen.nnx.ProgramLayer(program, WEIGHTS)
    stored = flax.serialization.to_bytes(nnx.to_pure_dict(nnx.state(layer, nnx.Param)))
    like = nnx.eval_shape(lambda: ropegen.nnx.ProgramLayer(program, WEIGHTS))
    definition, state = nnx.split(like)
    nnx.replace_by_pure_dict(state, flax.serialization.msgpack_restore(stored))
    read = nnx.merge(definition, state)
    np.testing.assert_array_equal(read(jnp.asarray(X)), layer(X))
    assert definition == nnx.graphdef(layer)
    np.testing.assert_array_equal(nnx.jit(lambda layer, x: layer(x))(layer, X), jax.jit(layer)(X))


def test_a_penzai_layer_is_stored_and_read_as_penzai_does(program: Program) -> None:
    layer = DOORS["penzai"].make(program, WEIGHTS)
    read = pickle.loads(pickle.dumps(pz.freeze_params(layer)))
    x = pz.nx.wrap(X, "batch", "seq", "embedding")
    np.testing.assert_array_equal(read(x).data_array, layer(x).data_array)
    assert {value.label for value in pz.unbind_params(layer)[1]} == {f"layer/{name}" for name in WEIGHTS}


@doors
def test_layers_are_mapped_and_scanned(program: Program, door: Door) -> None:
    layer = door.make(program, WEIGHTS)
    many = jnp.stack([jnp.asarray(X), X + 1.0])
    wanted = np.stack([door.call(layer, x) for x in many])
    if door is DOORS["penzai"]:
        layer = pz.freeze_params(layer)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(door.call, in_axes=(None, 0)))(layer, many), wanted, rtol=1e-5, atol=1e-5
    )
    _, scanned = jax.lax.scan(lambda carry, x: (carry, door.call(layer, x)), 0, many)
    np.testing.assert_allclose(scanned, wanted, rtol=1e-5, atol=1e-5)


PLACED = """
import sys
import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_disable_most_optimizations", True)
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from test_program_layers import DOORS, WEIGHTS, X, formula, graph_of, loss_of
import ropegen as rg

mesh = jax.make_mesh((4,), ("model",), axis_types=(AxisType.Auto,))
columns = NamedSharding(mesh, PartitionSpec(None, "model"))
placed = {name: jax.device_put(array, columns) for name, array in WEIGHTS.items()}
plan, artifact = rg.plan(graph_of(), "cpu").compile(), rg.load(sys.argv[1])
wanted = jax.jit(jax.grad(lambda weights: jax.numpy.sum(jax.numpy.sin(plan(x=X, **weights)))))(WEIGHTS)
for name, program in (("equinox", plan), ("nnx", artifact), ("penzai", artifact)):
    door = DOORS[name]

    @jax.jit
    def both(weights):
        layer = door.make(program, weights)
        return door.call(layer, X), door.gradient(loss_of(door), layer)

    out, gradient = both(placed)
    np.testing.assert_allclose(out, formula(WEIGHTS), rtol=1e-5, atol=1e-5)
    for label in WEIGHTS:
        assert len(gradient[label].sharding.device_set) == 4
        np.testing.assert_allclose(gradient[label], wanted[label], rtol=1e-4, atol=1e-4)
    print("placed")
"""


def test_weights_may_lie_over_several_devices(folder: Path, artifact: Program) -> None:
    """Four devices need a process of their own, because their number is fixed when JAX starts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", ".", os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", PLACED, str(folder)],
        env=environment,
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["placed"] * 3, done.stderr[-3000:]


# Each library's own ----------------------------------------------------------------------------------------------------


def test_a_sequence_of_equinox_layers_gives_its_keys(plan: Program) -> None:
    layer = ropegen.equinox.ProgramLayer(plan, WEIGHTS)
    out = eqx.nn.Sequential([layer, eqx.nn.Lambda(jnp.tanh)])(jnp.asarray(X), key=jax.random.key(0))
    np.testing.assert_array_equal(out, jnp.tanh(layer(X)))


def two_inputs() -> rg.Graph:
    """A graph whose inputs have the names of arguments, with two outputs and a weight of integers."""
    b = rg.Builder("two")
    rows = b.embed(b.parameter("ids", (3,), "i32"), b.input("key", (5, 4), "f32"))
    return b.build(sum=b.add(rows, b.input("self", (3, 4), "f32")), rows=rows)


def test_inputs_with_any_name_and_weights_of_integers() -> None:
    program = rg.plan(two_inputs(), "cpu").compile()
    ids, key, own = np.array([4, 0, 4], np.int32), drawn(5, 4, seed=0), drawn(3, 4, seed=1)
    for layer in (ropegen.equinox.ProgramLayer(program, {"ids": ids}), ropegen.nnx.ProgramLayer(program, {"ids": ids})):
        results = layer(key=key, self=own)
        np.testing.assert_array_equal(results["rows"], key[ids])
        np.testing.assert_array_equal(results["sum"], key[ids] + own)
    assert type(ropegen.nnx.ProgramLayer(program, {"ids": ids}).parameters["ids"]) is nnx.Variable
    layer = ropegen.penzai.ProgramLayer.from_program(
        program,
        {"ids": ids},
        axes={"key": ("vocabulary", "features"), "self": ("rows", "features")},
        result_axes={"sum": ("rows", "features")},
        input_label="self",
    )
    results = layer(pz.nx.wrap(own.T, "features", "rows"), key=pz.nx.wrap(key, "vocabulary", "features"))
    np.testing.assert_array_equal(results["sum"].unwrap("rows", "features"), key[ids] + own)
    np.testing.assert_array_equal(results["rows"], key[ids])
    assert pz.unbind_params(layer)[1] == ()
    with pytest.raises(rg.RopegenError, match="no side input 'key'"):
        layer(pz.nx.wrap(own, "rows", "features"))


def test_a_variable_of_the_user_stays_with_its_metadata(plan: Program) -> None:
    wq = nnx.Param(jnp.asarray(WEIGHTS["wq"]), note="columns over heads")
    layer = ropegen.nnx.ProgramLayer(plan, {**WEIGHTS, "wq": wq})
    assert layer.parameters["wq"] is wq
    assert nnx.state(layer)["parameters"]["wq"].note == "columns over heads"


def test_a_parameter_of_the_user_stays(plan: Program) -> None:
    shared = pz.Parameter(label="shared", value=pz.nx.wrap(jnp.asarray(WEIGHTS["wq"]), "embedding", "features"))
    others = {name: pz.nx.wrap(jnp.asarray(WEIGHTS[name]), "embedding", "features") for name in ("wk", "wv", "wo")}
    layer = ropegen.penzai.ProgramLayer.from_program(plan, {"wq": shared, **others}, axes=AXES)
    assert layer.parameters["wq"] is shared


def test_axes_that_the_graph_does_not_have_are_mapped_over(program: Program) -> None:
    """penzai's way of a batch: one more name."""
    layer = DOORS["penzai"].make(program, WEIGHTS)
    many = np.stack([X, X + 1.0, X - 1.0])
    out = layer(pz.nx.wrap(many.transpose(3, 0, 2, 1), "embedding", "members", "seq", "batch"))
    assert dict(out.named_shape) == {"members": 3, "batch": BATCH, "seq": ROWS, "embedding": FEATURES}
    wanted = np.stack([program(x=x, **WEIGHTS) for x in many])
    np.testing.assert_allclose(out.unwrap("members", "batch", "seq", "embedding"), wanted, rtol=1e-5, atol=1e-5)


# Refusals --------------------------------------------------------------------------------------------------------------

PLAIN_DOORS = {
    "equinox": ropegen.equinox.ProgramLayer,
    "nnx": ropegen.nnx.ProgramLayer,
    "penzai": ropegen.penzai.ProgramLayer.from_program,
}
REFUSED: dict[str, tuple[str, Callable[[Any, Program], Any]]] = {
    "a plan that is not compiled": (
        r"compile\(\)",
        lambda door, program: door(rg.plan(graph_of(), "cpu"), WEIGHTS),
    ),
    "a folder": (r"rg\.load", lambda door, program: door("kernels/", WEIGHTS)),
    "weights without labels": ("by label", lambda door, program: door(program, list(WEIGHTS.values()))),
    "a weight too few": (
        "missing inputs: wo",
        lambda door, program: door(program, {name: WEIGHTS[name] for name in ("wq", "wk", "wv")}),
    ),
    "an unknown weight": ("no input 'w'", lambda door, program: door(program, {**WEIGHTS, "w": X})),
    "an input among the weights": ("no input 'x'", lambda door, program: door(program, {**WEIGHTS, "x": X})),
    "another shape": (r"input wq is float32\[7, 12\]", lambda door, program: door(program, {**WEIGHTS, "wq": X[0]})),
    "another type": (
        "astype",
        lambda door, program: door(program, {**WEIGHTS, "wq": jnp.asarray(WEIGHTS["wq"], jnp.bfloat16)}),
    ),
}


@pytest.mark.parametrize("door", PLAIN_DOORS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_program_or_does_not_fit_it_is_refused(plan: Program, door: str, what: str) -> None:
    message, make = REFUSED[what]
    with pytest.raises(rg.RopegenError, match=message):
        make(PLAIN_DOORS[door], plan)


CALLS: dict[str, Callable[[Any], Any]] = {
    "without a name": lambda layer: layer(X, X),
    "parameter of the layer": lambda layer: layer(x=X, wq=WEIGHTS["wq"]),
    "no input 'y'": lambda layer: layer(y=X),
    "missing inputs: x": lambda layer: layer(),
    r"input x is float32\[7, 12\]": lambda layer: layer(X[0]),
}


@pytest.mark.parametrize("message", CALLS)
@pytest.mark.parametrize("door", ["equinox", "nnx"])
def test_calls_that_do_not_fit_are_refused(plan: Program, door: str, message: str) -> None:
    layer = PLAIN_DOORS[door](plan, WEIGHTS)
    with pytest.raises(rg.RopegenError, match=message):
        CALLS[message](layer)


def test_weights_of_another_type_later_are_refused(plan: Program) -> None:
    """As a library casts the weights of a layer, for instance to compute in half precision."""
    layer = ropegen.equinox.ProgramLayer(plan, WEIGHTS)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), layer)
    with pytest.raises(rg.RopegenError, match=r"wq is bfloat16.*astype\(float32\)"):
        half(X)


def test_names_that_do_not_fit_the_axes_are_refused(plan: Program) -> None:
    make = ropegen.penzai.ProgramLayer.from_program
    named = {name: pz.nx.wrap(jnp.asarray(array), "embedding", "features") for name, array in WEIGHTS.items()}
    layer = make(plan, named, axes=AXES)
    x = pz.nx.wrap(X, "batch", "seq", "embedding")
    for message, call in {
        "not a named array": lambda: layer(X),
        "have no name": lambda: layer(x.untag("seq")),
        r"reads \('batch', 'seq', 'embedding'\)": lambda: layer(pz.nx.wrap(X, "batch", "time", "embedding")),
        "axes names 'y'": lambda: make(plan, named, axes={**AXES, "y": ("batch",)}),
        "give 3 names": lambda: make(plan, named, axes={**AXES, "x": ("seq", "embedding")}),
        "names that differ": lambda: make(plan, named, axes={**AXES, "x": ("seq", "seq", "embedding")}),
        "result_axes names 'y'": lambda: make(plan, named, axes=AXES, result_axes={"y": ()}),
        "input_label is 'y'": lambda: make(plan, named, axes=AXES, input_label="y"),
        "the layer reads no names": lambda: make(plan, named),
    }.items():
        with pytest.raises(rg.RopegenError, match=message):
            call()
