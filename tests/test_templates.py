"""Where templates come from: a family's folder, the entry points of other packages, and the running program."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
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
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.target import Target
from ropegen.template import Template

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
@pytest.mark.parametrize(("dtype", "allowed"), [("f32", 2e-6), ("bf16", 2e-2)])
@pytest.mark.parametrize("shape", [(2, 8, 8, 4, 2), (1, 1, 256, 2, 2), (3, 17, 5, 6, 1)])
def test_the_example_computes_what_its_family_covers(
    shape: tuple[int, int, int, int, int], dtype: str, allowed: float
) -> None:
    graph = attention(*shape, dtype)
    (step,) = rg.plan(graph, "cpu").steps
    assert step.region is not None
    random = np.random.default_rng(0)
    values = {
        label: jnp.asarray(random.standard_normal(kind.shape), jnp.dtype("bfloat16" if dtype == "bf16" else "float32"))
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

    rg.register_template(dataclasses.replace(dense, name="mine", build=build))
    assert "attend/mine" in names()
    np.testing.assert_allclose(rg.attention(q, k, v), before, atol=1e-6)
    assert seen, "the plan that plain calls kept was made with other templates"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "xla"}, "two templates are named 'attend/xla'"),
        ({"derivatives": "attend/xls"}, "leaves its derivatives to 'attend/xls'; did you mean 'attend/xla'?"),
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
    with pytest.raises(rg.RopegenError, match=message.replace("?", r"\?")):
        rg.register_template(dataclasses.replace(dense, **change))
    assert names() == known, "nothing was added"


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
