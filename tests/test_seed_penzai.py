"""`ropegen.penzai` beside penzai: drawn named arrays, models with replaced layers, and every refusal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("penzai", reason="pip install '.[penzai]' compares with penzai's own layers")

import treescope
from penzai import pz
from penzai.deprecated.v1 import pz as first

from ropegen.errors import RopegenError
from ropegen.penzai import ApplyRoPE, ApplyRoPEToSubset

# penzai prints named arrays with treescope, which lists all of NumPy, and newer NumPy warns about one of its names.
pytestmark = pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}
ULP = 2.0**-23
IN_GRAPH = "S * 2^-23 * max(x)"
CONSTANT = "4 ulp(x) of the seed run eagerly"


def normal(seed: int, dtype: Any = jnp.float32, **axes: int) -> Any:
    x = np.random.default_rng(seed).standard_normal(tuple(axes.values())).astype(np.float32)
    return pz.nx.wrap(jnp.asarray(x, dtype), *axes)


def counted(**axes: int) -> Any:
    return pz.nx.wrap(jnp.arange(int(np.prod(list(axes.values())))).reshape(tuple(axes.values())), *axes)


def pair(symbol: str, axis: str, wavelength: float, subset: int) -> tuple[Any, Any]:
    """ropegen's layer and penzai's."""
    if symbol == "ApplyRoPE":
        return ApplyRoPE(axis, wavelength, "at"), pz.nn.ApplyRoPE(axis, wavelength, "at")
    return ApplyRoPEToSubset(axis, wavelength, subset, "at"), pz.nn.ApplyRoPEToSubset(axis, wavelength, subset, "at")


SYMBOLS = ("ApplyRoPE", "ApplyRoPEToSubset")
WIDTHS = ((96, 1e4, 24), (80, 5e5, 80))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_op_by_op_the_bits_are_those_of_penzai(parity, symbol: str, dtype: str) -> None:
    cell = parity("penzai", symbol, "eager", dtype)
    for width, wavelength, subset in WIDTHS:
        ours, theirs = pair(symbol, "projection", wavelength, subset)
        x = normal(width, DTYPES[dtype], batch=1, seq=1024, heads=2, projection=width)
        for at in (counted(seq=1024), pz.nx.wrap(4095 - jnp.arange(1024.0) * 2.5, "seq")):
            cell.equal(ours(x, at=at), theirs(x, at=at))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_single_position_has_the_bits_of_penzai_too(parity, symbol: str, dtype: str) -> None:
    """penzai divides the position. A product with the reciprocal, which several positions get, has other bits."""
    cell = parity("penzai", symbol, "eager", dtype)
    differ = 0
    for width, wavelength, number in ((4, 10, 4454), (6, 1e4, 4454), (80, 5e5, 4997), (96, 1e4, -4095.5)):
        ours, theirs = pair(symbol, "features", wavelength, width)
        x = normal(width, DTYPES[dtype], batch=3, seq=1, features=width)
        single = jnp.asarray(number, jnp.float32)
        for at in (pz.nx.wrap(single), pz.nx.wrap(single[None], "seq")):
            cell.equal(ours(x, at=at), theirs(x, at=at))
        powers = wavelength ** (2 * jnp.arange(width // 2) / width)
        differ += int((single / powers != single * (1 / powers)).sum())
    assert differ  # else this test would not notice a product


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_under_jit_both_are_near_each_other_and_ropegen_is_near_its_eager_self(parity, symbol: str, dtype: str) -> None:
    """penzai's frequencies round differently inside a jit than outside; ropegen's are a constant of the program."""
    cell = parity("penzai", symbol, "jit", dtype)
    length, width, wavelength, subset = 2048, 96, 1e4, 48
    ours, theirs = pair(symbol, "projection", wavelength, subset)
    x = normal(3, DTYPES[dtype], seq=length, heads=2, projection=width)
    at = counted(seq=length)
    mine = jax.jit(lambda layer, x, at: layer(x, at=at))(ours, x, at)
    seed = jax.jit(lambda layer, x, at: layer(x, at=at))(theirs, x, at)
    largest = float(np.max(np.abs(np.asarray(x.data_array, np.float64))))
    ulp = float(np.spacing(DTYPES[dtype](largest)).astype(np.float64))
    rounding = ulp if dtype == "bf16" else 0.0  # the last rounding of either side
    words = IN_GRAPH + (" and 1 ulp(x)" if rounding else "")
    cell.within(mine, seed, length * ULP * largest + rounding, words)
    cell.within(mine, theirs(x, at=at), 4 * ulp, CONSTANT)


@st.composite
def named(draw: st.DrawFn) -> tuple[Any, Any, str]:
    """An array with names in any order, positions over some of them (or none), and the embedding axis."""
    names = draw(st.permutations(["batch", "seq", "heads", "layer"]))[: draw(st.integers(0, 3))]
    sizes = {name: draw(st.sampled_from([1, 3])) for name in names}
    order = draw(st.permutations([*names, "features"]))
    width = 2 * draw(st.integers(0, 3))
    dtype = draw(st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32]))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = [width if name == "features" else sizes[name] for name in order]
    x = pz.nx.wrap(jnp.asarray(numbers.standard_normal(shape) * 9, dtype), *order)
    if draw(st.booleans()):
        x = x.as_namedarrayview()
    over = [name for name in draw(st.permutations(names)) if draw(st.booleans())]
    at = numbers.integers(-20, 5000, [sizes[name] for name in over])
    kind = draw(st.sampled_from([jnp.int32, jnp.float32, jnp.uint8, jnp.bfloat16]))
    return x, pz.nx.wrap(jnp.asarray(np.abs(at) % 200 if kind is jnp.uint8 else at).astype(kind), *over), "features"


@given(named(), st.sampled_from([10, 10_000, 5e5]), st.none() | st.integers(-4, 9))
@settings(max_examples=10, deadline=None)
def test_drawn_axes_types_and_positions_give_the_same_named_array(
    drawn: Any, wavelength: float, subset: int | None
) -> None:
    x, at, axis = drawn
    ours, theirs = pair(SYMBOLS[subset is not None], axis, wavelength, subset or 0)
    try:
        wanted = theirs(x, at=at)
    except ValueError:  # an odd subset
        with pytest.raises(RopegenError, match="even"):
            ours(x, at=at)
        return
    result = ours(x, at=at)
    assert type(result) is type(wanted)
    assert (list(result.named_axes.items()), result.dtype) == (list(wanted.named_axes.items()), wanted.dtype)
    np.testing.assert_array_equal(result.data_array, wanted.data_array)


def test_the_width_of_the_subset_is_the_width_in_the_exponent() -> None:
    x = normal(0, seq=9, features=12)
    result = ApplyRoPEToSubset("features", 100.0, 4, "at")(x, at=counted(seq=9)).unwrap("seq", "features")
    raw, turn = (
        np.asarray(x.unwrap("seq", "features")),
        np.exp(1j * np.outer(np.arange(9), 100.0 ** -np.array([0, 0.5]))),
    )
    turned = (raw[:, :2] + 1j * raw[:, 2:4]) * turn
    np.testing.assert_allclose(result[:, :4], np.concatenate([turned.real, turned.imag], -1), atol=1e-5)
    np.testing.assert_array_equal(result[:, 4:], raw[:, 4:])


# ---- refusals

X = {"batch": 2, "seq": 5, "features": 8}

REFUSALS: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "no positions": (KeyError, lambda layer: layer(normal(0, **X))),
    "other side inputs": (KeyError, lambda layer: layer(normal(0, **X), other=counted(seq=5))),
    "the embedding axis in the positions": (ValueError, lambda layer: layer(normal(0, **X), at=counted(features=8))),
    "positions without names": (ValueError, lambda layer: layer(normal(0, **X), at=pz.nx.wrap(jnp.arange(5)))),
    "positions over another axis": (ValueError, lambda layer: layer(normal(0, **X), at=counted(keys=5))),
    "too few positions": (ValueError, lambda layer: layer(normal(0, **X), at=counted(seq=4))),
    "no embedding axis": (ValueError, lambda layer: layer(normal(0, seq=5, width=8), at=counted(seq=5))),
    "an axis without a name": (ValueError, lambda layer: layer(normal(0, **X).untag("batch"), at=counted(seq=5))),
    "an odd width": (ValueError, lambda layer: layer(normal(0, seq=5, features=3), at=counted(seq=5))),
    "a plain array of positions": (AttributeError, lambda layer: layer(normal(0, **X), at=jnp.arange(5))),
    "a number for a position": (AttributeError, lambda layer: layer(normal(0, **X), at=5)),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_ropegen_refuses_what_penzai_refuses_with_the_same_type(parity, symbol: str, what: str) -> None:
    wanted, call = REFUSALS[what]
    ours, theirs = pair(symbol, "features", 1e4, 6)
    parity("penzai", symbol, "eager", "f32").same_error(lambda: call(ours), lambda: call(theirs), wanted)
    with pytest.raises(RopegenError) as caught:
        call(ours)
    assert not str(caught.value).startswith(("'", '"'))  # KeyError would quote the message


def test_an_array_without_names_is_refused_with_the_type_of_each_layer(parity) -> None:
    x, at = jnp.ones((5, 8)), counted(seq=5)
    for symbol, wanted in (("ApplyRoPE", AttributeError), ("ApplyRoPEToSubset", IndexError)):
        ours, theirs = pair(symbol, "features", 1e4, 4)
        parity("penzai", symbol, "eager", "f32").same_error(
            lambda o=ours: o(x, at=at), lambda t=theirs: t(x, at=at), wanted
        )


def test_what_penzai_takes_and_turns_to_nonsense_is_refused() -> None:
    x, at = normal(0, **X), counted(seq=5)
    for layer in (ApplyRoPE("features", 0.5, "at"), ApplyRoPEToSubset("features", 1e4, 2.5, "at")):  # type: ignore[arg-type]
        with pytest.raises(RopegenError):
            layer(x, at=at)


# ---- in models


def model() -> Any:
    """A model with two branches of rotary and other layers."""
    return pz.nn.Sequential(
        [
            pz.nn.ApplyRoPE("features", 1e4, "at"),
            pz.nn.Elementwise(jnp.tanh),
            pz.nn.Residual(pz.nn.Sequential([pz.nn.ApplyRoPEToSubset("features", 1e3, 4, "at")])),
            pz.nn.ApplyRoPE("features", 5e5, "keys"),
        ]
    )


def converted(theirs: Any) -> Any:
    ours = pz.select(theirs).at_instances_of(pz.nn.ApplyRoPE).apply(ApplyRoPE.from_penzai)
    return pz.select(ours).at_instances_of(pz.nn.ApplyRoPEToSubset).apply(ApplyRoPEToSubset.from_penzai)


def test_selectors_replace_the_layers_of_a_model() -> None:
    theirs = model()
    ours = converted(theirs)
    assert pz.select(ours).at_instances_of(pz.nn.ApplyRoPE).count() == 0
    assert pz.select(ours).at_instances_of(ApplyRoPE).count() == 2
    assert pz.select(ours).at_instances_of(ApplyRoPEToSubset).count() == 1
    x, positions = normal(1, **X), {"at": counted(seq=5), "keys": counted(batch=2, seq=5)}
    np.testing.assert_array_equal(ours(x, **positions).data_array, theirs(x, **positions).data_array)
    assert jax.tree.leaves(ours) == []
    longer = pz.select(ours).at_instances_of(ApplyRoPE).apply(lambda layer: type(layer)("features", 1e6, "at"))
    assert {layer.max_wavelength for layer in pz.select(longer).at_instances_of(ApplyRoPE).get_sequence()} == {1e6}


def test_a_model_renders_and_its_layers_say_what_they_take() -> None:
    ours = converted(model())
    text = treescope.render_to_text(ours)
    assert text.count("ApplyRoPE(") == 2
    assert "max_wavelength=500000.0" in text
    assert "ApplyRoPEToSubset" in treescope.render_to_html(ours, compressed=False)
    layer = ApplyRoPE.from_config("at", "features")
    assert repr(layer.input_structure()) == repr(first.nn.ApplyRoPE.from_config("at", "features").input_structure())
    assert layer.output_structure() == layer.input_structure()
    pz.chk.check_structure(normal(0, **X), layer.input_structure())


def test_the_handlers_of_the_first_interface_give_the_positions() -> None:
    x, at = normal(2, **X), counted(seq=5)
    theirs = first.nn.ApplyRoPE.from_config(positions_tag="at", embedding_axis="features", max_wavelength=500)
    ours = ApplyRoPE.from_config(positions_tag="at", embedding_axis="features", max_wavelength=500)
    wanted = first.de.WithSideInputsFromInputTuple.handling(theirs, tags=["at"])((x, at))
    for body in (ours, first.nn.Sequential([ours]), ApplyRoPE.from_penzai(theirs)):
        handled = first.de.WithSideInputsFromInputTuple.handling(body, tags=["at"])
        np.testing.assert_array_equal(handled((x, at)).data_array, wanted.data_array)
        constant = first.de.WithConstantSideInputs.handling(body, {"at": at})
        np.testing.assert_array_equal(constant(x).data_array, wanted.data_array)
    # The same layer reads the keyword of a second-interface model.
    np.testing.assert_array_equal(pz.nn.Sequential([ours])(x, at=at).data_array, wanted.data_array)
    for layer in (ours, theirs):
        with pytest.raises(first.de.UnhandledEffectError):
            layer(x)


def test_derivatives_are_those_of_penzai() -> None:
    x, at = normal(4, **X), counted(seq=5)
    weights = normal(5, **X)

    def loss(layer: Any, x: Any, at: Any) -> jax.Array:
        return (layer(x, at=at) * weights).untag(*X).unwrap().sum()

    for symbol in SYMBOLS:
        gradients = [jax.jit(jax.grad(loss, argnums=1))(layer, x, at) for layer in pair(symbol, "features", 1e4, 4)]
        ours, theirs = (gradient.unwrap(*X) for gradient in gradients)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    fractional = at.astype(jnp.float32)
    slopes = [
        jax.jit(jax.grad(loss, argnums=2))(layer, x, fractional) for layer in pair("ApplyRoPE", "features", 1e4, 4)
    ]
    np.testing.assert_allclose(slopes[0].unwrap("seq"), slopes[1].unwrap("seq"), atol=1e-4)
    assert np.abs(slopes[0].unwrap("seq")).max() > 0.1
    single = pz.nx.wrap(jnp.float32(3.5))
    slopes = [jax.jit(jax.grad(loss, argnums=2))(layer, x, single) for layer in pair("ApplyRoPE", "features", 1e4, 4)]
    np.testing.assert_allclose(slopes[0].unwrap(), slopes[1].unwrap(), atol=1e-4)
    assert abs(float(slopes[0].unwrap())) > 0.1


WITHOUT = """
import sys
sys.modules["penzai"] = None
import ropegen
try:
    import ropegen.penzai
except ModuleNotFoundError as error:
    print(error.name, error, error.__cause__, error.__suppress_context__)
"""


def test_without_penzai_the_door_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("penzai ropegen.penzai needs penzai")
    assert done.stdout.rstrip().endswith("pip install penzai None True")
