"""A thousand drawn graphs, planned on every target and run on CPU: no less accurate than the plain formula.

`--graphs 0:400` draws a part of them. tests/run.py draws some in each lane; without it, pytest draws the thousand.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from drawn import drawn_graph
from independent import draw_inputs, formula

from ropegen import passes, reference
from ropegen.emit.artifact.check import compare
from ropegen.emit.callable import prepare, run
from ropegen.planner import plan
from ropegen.target import known
from ropegen.types import FLOATS, epsilon

TOGETHER, INPUTS, PLANNED_TOGETHER = 20, 6, 50
# The graphs below this seed must also pass the comparison of `ropegen check`.
CHECKED = 200
# The first inputs of a graph are drawn from its seed, the next from a seed that is larger by this number.
APART = 1000

pytestmark = pytest.mark.usefixtures("quick_compilation")


def root_mean_square(squares: float, count: int) -> float:
    return float(np.sqrt(squares / max(1, count)))


def drawn_seeds(config: pytest.Config) -> range:
    first, last = map(int, config.getoption("graphs").split(":"))
    return range(first, last)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = drawn_seeds(metafunc.config)
    if "first" in metafunc.fixturenames:
        metafunc.parametrize("first", seeds[::TOGETHER])
    if "planned" in metafunc.fixturenames:
        parts = [seeds[start : start + PLANNED_TOGETHER] for start in range(0, len(seeds), PLANNED_TOGETHER)]
        metafunc.parametrize("planned", parts, ids=str)


def test_no_less_accurate_than_the_plain_formula(first: int) -> None:
    """The error is at most 1.5 times that of the plain formula, pooled over a few inputs.

    In a tensor of a few elements, chance decides which side rounds better, and a second layer or a norm of two features
    amplifies the difference. Therefore one unit of the result's own type (four in float32), or a quarter unit of the
    coarsest type on the way, is allowed on top. Over every twenty graphs the bare ratio must be at most 1.5 for nine
    outputs in ten, and at most 1.1 for half of them.
    """
    seeds = range(first, first + TOGETHER)
    graphs = [drawn_graph(seed, 30) for seed in seeds]
    plans = [plan(graph, "cpu") for graph in graphs]

    @jax.jit
    def both(values: list[dict[str, Any]]) -> list[Any]:
        mine = [run(made, prepare(made, given), given) for made, given in zip(plans, values, strict=True)]
        return [mine, [formula(graph, given) for graph, given in zip(graphs, values, strict=True)]]

    squares = {
        (seed, label): np.zeros(3) for seed, graph in zip(seeds, graphs, strict=True) for label, _ in graph.outputs
    }
    counts = dict.fromkeys(squares, 0)
    for turn in range(INPUTS):
        inputs = [draw_inputs(graph, seed + APART * turn) for graph, seed in zip(graphs, seeds, strict=True)]
        for seed, graph, given, results, plainly in zip(seeds, graphs, inputs, *both(inputs), strict=True):
            if turn == 0 and seed < CHECKED:
                checked = compare(graph, given, results, seed)
                assert checked.passed, (seed, checked)
            truth = reference.evaluate(graph, given)
            for label, value in graph.outputs:
                result, wanted = np.asarray(results[label]), truth[label]
                if value.type.dtype not in FLOATS:
                    np.testing.assert_array_equal(result, wanted, err_msg=f"seed {seed}, {label}")
                    continue
                finite = np.isfinite(wanted)
                np.testing.assert_array_equal(np.isfinite(result), finite, err_msg=f"seed {seed}, {label}")
                wanted = wanted[finite]
                errors = [np.asarray(values, np.float64)[finite] - wanted for values in (result, plainly[label])]
                squares[seed, label] += [np.sum(np.square(values)) for values in (*errors, wanted)]
                counts[seed, label] += wanted.size
    ratios: list[float] = []
    for seed, graph in zip(seeds, graphs, strict=True):
        coarsest = max(epsilon(node.type.dtype) for node in graph.nodes if node.type.is_float)
        for label, value in graph.outputs:
            own, other, size = (root_mean_square(part, counts[seed, label]) for part in squares[seed, label])
            if value.type.dtype in FLOATS and counts[seed, label]:
                own_units = 1 if value.type.dtype in ("bf16", "f16") else 4
                unit = max(own_units * epsilon(value.type.dtype), coarsest / 4) * size
                assert own <= 1.5 * other + unit, f"seed {seed}, {label}: {own:.3g}, plain {other:.3g}, unit {unit:.3g}"
                ratios.append((own + 1e-30) / (other + 1e-30))
    assert np.median(ratios) <= 1.1
    assert sum(ratio > 1.5 for ratio in ratios) <= max(2, len(ratios) // 10)


@pytest.mark.any_jax
def test_every_graph_plans_on_every_target(planned: range) -> None:
    for seed in planned:
        graph = passes.canonical(drawn_graph(seed, 30))
        for target in known():
            made = plan(graph, target)
            assert made.graph is graph, seed
            ready = set(graph.inputs)
            for step in made.steps:  # a step reads only values that are computed already
                assert set(step.operands) <= ready, (seed, target)
                ready.update(step.outputs)
            assert {value for _, value in graph.outputs} <= ready, (seed, target)
