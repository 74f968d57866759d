"""Where templates come from: a family's folder, the entry points of other packages, and the running program."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import reference, template
from ropegen.cost import Cost
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.target import Target
from ropegen.template import Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "template"


@pytest.fixture
def fresh_catalog() -> Iterator[None]:
    """A catalogue that is made anew, here and for the tests that follow."""
    template._installed.cache_clear()
    yield
    template._registered.clear()
    template._installed.cache_clear()


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> Template[Any]:
    """The template of the worked example, docs/template."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("ropegen_dense").TEMPLATE


@pytest.fixture
def installed(dense: Template[Any], monkeypatch: pytest.MonkeyPatch, fresh_catalog: None) -> None:
    """The worked example as an installed package: its entry point."""
    entry = importlib.metadata.EntryPoint("dense", "ropegen_dense:TEMPLATE", template.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry])


def names() -> set[str]:
    return {str(known) for known in template.catalog()}


def attention(batch: int, queries: int, keys: int, heads: int, kv_heads: int, dtype: str = "f32") -> rg.Graph:
    b = rg.Builder("short")
    q = b.input("q", (batch, queries, heads, 16), dtype)
    k, v = (b.input(label, (batch, keys, kv_heads, 16), dtype) for label in "kv")
    return b.build(out=b.attend(q, k, v), lse=b.attend(q, k, v, returns="log_sum_exp"))


# The worked example ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("installed")
def test_an_entry_point_adds_a_template_and_plans_take_it() -> None:
    assert "attend/dense" in names()
    (step,) = rg.plan(attention(2, 8, 8, 4, 2), "cpu").steps
    assert step.chosen is not None
    assert step.chosen.template == "attend/dense"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("dtype", "allowed"), [("f32", 2e-6), ("bf16", 2e-2), ("f16", 2e-3)])
@pytest.mark.parametrize("shape", [(2, 8, 8, 4, 2), (1, 1, 256, 2, 2), (3, 17, 5, 6, 1)])
def test_the_example_computes_what_its_family_covers(
    shape: tuple[int, int, int, int, int], dtype: str, allowed: float
) -> None:
    graph = attention(*shape, dtype)
    (step,) = rg.plan(graph, "cpu").steps
    assert step.region is not None
    random = np.random.default_rng(0)
    values = {
        label: jnp.asarray(random.standard_normal(kind.shape), numpy_dtype(dtype))
        for label, kind in graph.input_types.items()
    }
    given = [values[label] for label in step.region.closed.input_types]
    dense = Choices((Choice(Target.parse("cpu"), "attend/dense"),))
    outputs = bind(step.region.closed, dense, given)
    results = dict(zip(("out", "lse"), outputs, strict=True))
    truth = reference.evaluate(graph, {label: np.asarray(value) for label, value in values.items()})
    for label, wanted in truth.items():
        np.testing.assert_allclose(np.asarray(results[label], np.float64), wanted, atol=allowed)


@pytest.mark.usefixtures("installed")
def test_the_example_is_differentiable() -> None:
    graph, random = attention(1, 6, 6, 2, 1), np.random.default_rng(1)
    values = {
        label: jnp.asarray(random.standard_normal(kind.shape), jnp.float32) for label, kind in graph.input_types.items()
    }
    dense, plain = rg.plan(graph, "cpu").compile(), rg.plan(graph, "tpu:v5e").compile()

    def loss(function: Any, values: dict[str, jax.Array]) -> jax.Array:
        results = function(**values)
        return jnp.sum(jnp.sin(results["out"])) + jnp.sum(results["lse"])

    jax.tree.map(
        lambda mine, theirs: np.testing.assert_allclose(mine, theirs, atol=3e-6),
        jax.grad(lambda values: loss(dense, values))(values),
        jax.grad(lambda values: loss(plain, values))(values),
    )


@pytest.mark.usefixtures("installed")
def test_the_example_declines_what_it_does_not_honour() -> None:
    b = rg.Builder("masked")
    q, k, v = (b.input(label, (1, 300, 2, 16), "f32") for label in "qkv")
    at = b.positions(300)
    plan = rg.plan(b.build(out=b.attend(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)), "cpu")
    (candidate,) = (option for option in plan.steps[0].considered if option.template == "attend/dense")
    assert candidate.declined == ("it computes softmax(scale q k) v and nothing else", "it takes 1 to 256 keys")
    assert "it takes 1 to 256 keys" in plan.explain()


# The catalogue -----------------------------------------------------------------------------------------------------------


def test_a_registered_template_is_considered_at_once(dense: Template[Any], fresh_catalog: None) -> None:
    q, k, v = (jnp.ones((1, 4, 1, 16)) for _ in range(3))
    before = rg.attention(q, k, v)
    seen: list[str] = []

    def build(site: Any, tile: Any, target: Any) -> Any:
        seen.append(str(target))
        return dense.build(site, tile, target)

    def cost(site: Any, target: Any, tile: Any, direction: Any = "forward") -> Cost:
        return Cost(launch=1e-9)

    rg.register_template(dataclasses.replace(dense, name="mine", build=build, cost=cost))
    assert "attend/mine" in names()
    np.testing.assert_allclose(rg.attention(q, k, v), before, atol=1e-6)
    assert seen, "the plan that plain calls kept was made with other templates"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "xla"}, "two templates are named 'attend/xla'"),
        ({"derivatives": "attend/xls"}, "leaves its derivatives to 'attend/xls'; did you mean 'attend/xla'?"),
        ({"derivatives": "attend/mosaic_tpu"}, "which leaves its own to 'attend/xla'"),
        ({"derivatives": "embed/xla"}, "which is of another family; name a template of attend"),
        ({"derivatives": "attend/dense"}, "which leaves its own to 'attend/dense'"),
        ({"derivatives": "attend/xla_f32"}, "which does not run on gpu"),
        ({"name": "a/b"}, "a template is named 'a/b'; give a name of letters"),
        ({"version": "1"}, "the version is '1'; give a whole number from 1 on"),
        ({"runs_on": "cpu"}, "runs on 'cpu'; give a tuple of platforms, of cpu, gpu, tpu"),
        ({"runs_on": ("cuda",)}, "give a tuple of platforms"),
        ({"calls": "tpu_custom_call"}, "calls is 'tpu_custom_call'; give a tuple of names"),
        ({"family": "copy"}, "brings its own family 'attend'"),
        ({"family": "other"}, "family 'other' has no template 'xla', which must accept every case"),
    ],
)
def test_a_template_that_cannot_be_added_is_refused(
    change: dict[str, Any], message: str, dense: Template[Any], fresh_catalog: None
) -> None:
    if "family" in change:
        name = {"copy": "attend", "other": "other"}[change["family"]]
        change = {"family": dataclasses.replace(dense.family, name=name)}
    known = names()
    with pytest.raises(rg.RopegenError, match=re.escape(message)):
        rg.register_template(dataclasses.replace(dense, **change))
    assert names() == known, "nothing was added"


def test_only_a_template_can_be_registered(fresh_catalog: None) -> None:
    with pytest.raises(rg.RopegenError, match=r"the template is 5; it must be a ropegen.template.Template"):
        rg.register_template(5)  # type: ignore[arg-type]


# What a template returns -------------------------------------------------------------------------------------------------


def of_forward(change: Any) -> Any:
    """A build whose forward gives `change` of the right results."""

    def build(right: Any) -> Any:
        return lambda site, tile, target: plain_kernel(
            lambda *operands: change(right(site, tile, target).forward(*operands))
        )

    return build


def of_backward(change: Any) -> Any:
    """A build whose backward gives `change` of the right cotangents."""

    def build(right: Any) -> Any:
        def made(site: Any, tile: Any, target: Any) -> Kernel:
            kernel = right(site, tile, target)
            return Kernel(kernel.forward, kernel.tangent, lambda *given: change(kernel.backward(*given)))

        return made

    return build


MISTAKES: dict[str, tuple[Any, str]] = {
    "too few results": (of_forward(lambda results: results[:1]), "forward returned 1 values; return a tuple of 2"),
    "no tuple": (of_forward(lambda results: results[0]), "return a tuple of 2: the outputs, then the residuals"),
    "another shape": (of_forward(lambda results: (results[0][..., :1], results[1])), "result 0 is float32[1, 4, 1, 1]"),
    "another type": (
        of_forward(lambda results: (results[0].astype(jnp.bfloat16), results[1])),
        "result 0 is bfloat16[1, 4, 1, 16]; the region attend needs tensor<1x4x1x16xf32>",
    ),
    "no kernel": (lambda right: lambda site, tile, target: jnp.sin, "it must return a ropegen.template.Kernel"),
    "no tangent": (
        lambda right: lambda site, tile, target: Kernel(right(site, tile, target).forward),
        "has no backward; write one, or name a template that has it in `derivatives`",
    ),
    "too few cotangents": (of_backward(lambda pulled: pulled[:1]), "backward returned 1 values; return a tuple of 3"),
    "no cotangent": (
        of_backward(lambda pulled: (None, *pulled[1:])),
        "backward returned None for the operand q, whose cotangent is wanted",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_kernel_that_breaks_its_contract_is_an_error_that_names_the_template(
    name: str, dense: Template[Any], fresh_catalog: None
) -> None:
    make, message = MISTAKES[name]
    rg.register_template(dataclasses.replace(dense, name="mistaken", build=make(dense.build), cost=free))
    q, k, v = (jnp.ones((1, 4, 1, 16)) for _ in range(3))
    with pytest.raises(rg.RopegenError, match="^template attend/mistaken.*" + re.escape(message)):
        jax.grad(lambda q: rg.attention(q, k, v).sum())(q)


def free(*site: Any) -> Cost:
    """A cost that no other template can beat."""
    return Cost()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": lambda *site: 1.0}, "the forward cost is 1.0; return a Cost of finite seconds"),
        ({"cost": lambda *site: Cost(compute=float("nan"))}, "return a Cost of finite seconds"),
        ({"cost": lambda *site: Cost(compute=-1.0)}, "return a Cost of finite seconds"),
        ({"declines": lambda site, target: None}, "declines returned None; yield the reasons as strings"),
        ({"declines": lambda site, target: "no"}, "declines returned 'no'; yield the reasons as strings"),
        ({"tiles": lambda site, target: iter(())}, "offers no tile"),
        ({"tiles": lambda site, target: iter([Tile.of(q=1)])}, "offers the tile q=1; its sizes are none"),
    ],
)
def test_what_a_template_tells_the_planner_is_checked(
    change: dict[str, Any], message: str, dense: Template[Any], fresh_catalog: None
) -> None:
    rg.register_template(dataclasses.replace(dense, name="mistaken", **change))
    with pytest.raises(rg.RopegenError, match="^template attend/mistaken.*" + re.escape(message)):
        rg.plan(attention(1, 4, 4, 1, 1), "cpu")


# Where templates are found -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_catalog: None) -> Iterator[Path]:
    """One more folder of the templates package."""
    package = importlib.import_module("ropegen.templates")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    made = tmp_path / "more"
    made.mkdir()
    (made / "__init__.py").touch()
    yield made
    for name in [name for name in sys.modules if name.startswith("ropegen.templates.more")]:
        del sys.modules[name]


def test_a_module_that_defines_a_template_is_found_whatever_it_is_called(folder: Path) -> None:
    source = (EXAMPLE / "ropegen_dense.py").read_text()
    (folder / "of_any_name.py").write_text(source.replace('name="dense"', 'name="shelved"'))
    (folder / "shared.py").write_text("PIECES = 2\n")
    assert "attend/shelved" in names()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module\n", r"ropegen\.templates\.more\.broken cannot be imported \(ModuleNotFoundError"),
        ("class Own(Exception): pass\nraise Own('mine')\n", r"more\.broken cannot be imported \(Own: mine\)"),
        ("open('/no/such/file')\n", r"more\.broken cannot be imported \(FileNotFoundError"),
        ("TEMPLATE = (\n", r"ropegen\.templates\.more\.broken cannot be imported \(SyntaxError"),
        ("TEMPLATE = 3\n", r"more\.broken\.TEMPLATE is 3; it must be a ropegen\.template\.Template"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(source: str, message: str, folder: Path) -> None:
    (folder / "broken.py").write_text(source)
    with pytest.raises(rg.RopegenError, match=message):
        template.catalog()


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, fresh_catalog: None) -> None:
    entry = importlib.metadata.EntryPoint("lost", "no_such_module:TEMPLATE", template.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry])
    with pytest.raises(rg.RopegenError, match=r"entry point lost = no_such_module:TEMPLATE .* cannot be imported"):
        template.catalog()
