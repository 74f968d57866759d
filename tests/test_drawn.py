"""A thousand drawn graphs, planned on every target and run on CPU: no less accurate than the plain formula."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from drawn import drawn_graph
from plain import draw_inputs, plain_of_many

from ropegen import reference
from ropegen.emit.callable import prepare, run
from ropegen.plan import Plan, plan
from ropegen.target import known
from ropegen.types import FLOATS, epsilon

GRAPHS, TOGETHER = 1000, 20

pytestmark = pytest.mark.usefixtures("quick_compilation")


def compiled(plans: list[Plan], inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def together(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [run(each, prepare(each, given), given) for each, given in zip(plans, values, strict=True)]

    return jax.jit(together)(inputs)


def root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0


@pytest.mark.parametrize("first", range(0, GRAPHS, TOGETHER))
def test_no_less_accurate_than_the_plain_formula(first: int) -> None:
    seeds = range(first, first + TOGETHER)
    graphs = [drawn_graph(seed, 30) for seed in seeds]
    inputs = [draw_inputs(each, seed) for each, seed in zip(graphs, seeds, strict=True)]
    mine = compiled([plan(each, "cpu") for each in graphs], inputs)
    plain = plain_of_many(graphs, inputs)
    ratios: list[float] = []
    for seed, graph, given, found, formula in zip(seeds, graphs, inputs, mine, plain, strict=True):
        truth = reference.evaluate(graph, given)
        for label, value in graph.outputs:
            result, wanted = np.asarray(found[label]), truth[label]
            if value.type.dtype not in FLOATS:
                np.testing.assert_array_equal(result, wanted, err_msg=f"seed {seed}, {label}")
                continue
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(np.isfinite(result), finite, err_msg=f"seed {seed}, {label}")
            own, other = (
                root_mean_square(np.asarray(each, np.float64)[finite] - wanted[finite])
                for each in (result, formula[label])
            )
            # One unit of the result's own element type is what rounding alone may cost.
            unit = epsilon(value.type.dtype) * root_mean_square(wanted[finite])
            assert own <= 1.5 * other + unit, (
                f"seed {seed}, {label}: {own:.3g}, the plain formula {other:.3g}, one unit {unit:.3g}"
            )
            ratios.append((own + 1e-30) / (other + 1e-30))
    # Single graphs may be lucky or not; on the whole there is nothing to make up for.
    assert np.median(ratios) <= 1.1


@pytest.mark.parametrize("target", known())
def test_every_graph_plans_on_every_target(target: str) -> None:
    for seed in range(GRAPHS):
        graph = drawn_graph(seed, 30)
        made = plan(graph, target)
        done = {value for step in made.steps for value in step.outputs} | set(made.graph.inputs)
        assert {value for _, value in made.graph.outputs} <= done, seed
        ready = set(made.graph.inputs)
        for step in made.steps:  # in an order in which everything is there when it is read
            assert set(step.operands) <= ready, seed
            ready.update(step.outputs)
