"""Timing side by side: the order of the rounds, medians and ratios on a simulated clock, and the comparison of results.

No test depends on a measured time.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ropegen as rg
from ropegen import bench, cli
from ropegen.bench import attention, measure, report, torch_attention
from ropegen.bench.contenders import with_gradients

HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


class Clock:
    """A simulated clock, which only contenders and pauses advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[str] = []

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, seconds: float | Sequence[float], result: object = 1.0) -> bench.Contender:
        """A contender that takes a time per call; the first two entries of a sequence are the comparison and the warm-up."""
        times: Iterator[float] = iter(seconds if isinstance(seconds, Sequence) else iter(lambda: seconds, None))

        def call() -> object:
            self.now += next(times)
            self.called.append(name)
            return result

        return bench.Contender(name, call, lambda out: {"out": np.asarray(out, np.float64)})

    def race(self, *contenders: bench.Contender, **options: float) -> bench.Race:
        settings = {"tolerance": 1e-6, **options}
        return bench.race(contenders, clock=self, pause=lambda seconds: None, **settings)


def tiny(mask: object = rg.masks.causal, dtype: str = "f32", pairing: str | None = "half", heads: int = 4) -> rg.Graph:
    b = rg.Builder("tiny")
    q, k, v = (b.input(label, (1, 8, count, 8), dtype) for label, count in (("q", heads), ("k", 2), ("v", 2)))
    at = b.positions(8)
    if pairing is not None:
        rope = rg.Rope(100.0, pairing=pairing, dim=6)
        q, k = b.rope(q, at, rope), b.rope(k, at, rope)
    return b.build(out=b.attend(q, k, v, mask=mask))


def test_every_round_runs_everyone_and_the_order_turns() -> None:
    clock = Clock()
    clock.race(*(clock.contender(name, 1.0) for name in "abc"), repeats=4)
    assert clock.called[:6] == ["a", "b", "c"] * 2  # compared, then warmed up
    assert "".join(clock.called[6:]) == "abc" + "bca" + "cab" + "abc"


def test_medians_quartiles_and_ratios_are_those_of_the_samples() -> None:
    clock = Clock()
    race = clock.race(
        clock.contender("a", [9.0, 9.0, 1.0, 5.0, 2.0, 4.0, 3.0]),
        clock.contender("b", [9.0, 9.0, 6.0, 6.0, 60.0, 6.0, 6.0]),
        repeats=5,
    )
    assert race["a"].samples == (1.0, 5.0, 2.0, 4.0, 3.0)
    assert (race["a"].median, race["a"].quartiles) == (3.0, (2.0, 4.0))
    assert race["b"].median == 6.0
    assert race.ratio("b", "a") == 2.0
    assert race.ratio("a", "b") == 0.5


def test_a_ratio_has_the_quartiles_of_its_rounds() -> None:
    """Both take twice as long in the slow rounds, so their ratio stays within its range, which the medians do not show."""
    clock = Clock()
    slow = [9.0, 9.0, 1.0, 2.0, 1.0, 2.0, 2.0]
    race = clock.race(
        clock.contender("a", slow),
        clock.contender("b", [4 * seconds for seconds in slow]),
        clock.contender("c", 8.0),
        repeats=5,
    )
    assert race.ratios("b", "a") == (4.0, 4.0)
    assert race.ratios("c", "a") == (4.0, 8.0)
    rows = {row["contender"]: row for row in bench.rows(race)}
    assert [rows[name]["over a"] for name in "abc"] == ["1", "4 (4\N{EN DASH}4)", "4 (4\N{EN DASH}8)"]


def test_the_table_of_a_race_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    names = ("ropegen", "jax plain formulas", torch_attention.REPEATED)
    times = (
        [9.0, 9.0, 0.00123456, 0.012345, 0.00123456],
        [9.0, 9.0, 0.99951, 0.012345, 1.9],
        [9.0, 9.0, 1e-3, 2e-3, 3e-3],
    )
    race = clock.race(*(clock.contender(name, taken) for name, taken in zip(names, times, strict=True)), repeats=3)
    rows = bench.rows(race)
    widths = [max(len(row[column]) for row in (dict(zip(rows[0], rows[0], strict=True)), *rows)) for column in rows[0]]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80, rows


def test_few_samples_give_no_ratio() -> None:
    clock = Clock()
    race = clock.race(clock.contender("a", 1.0), clock.contender("b", 2.0), repeats=2)
    assert race.ratios("b", "a") is None
    assert bench.rows(race)[1]["over a"] == "too few samples"
    assert bench.as_data(race)["contenders"][1]["ratios"] is None


def test_the_estimate_stands_beside_the_measurement() -> None:
    clock = Clock()
    race = clock.race(clock.contender("ropegen", 0.5), clock.contender("jax.nn", 2.0), repeats=3)
    left_out = [bench.LeftOut("torch", "it is slow")]
    assert bench.notes(race, left_out, 0.125) == [
        "samples: ropegen 3, jax.nn 3; ratios and differences are over ropegen, with quartiles",
        "the plan of ropegen estimates 125 ms; it was measured at 4 times that",
        "left out: torch, because it is slow",
    ]
    assert len(bench.notes(race, (), None)) == 1
    assert bench.as_data(race, (), 0.125)["estimate"] == 0.125


def test_short_calls_fill_a_sample_and_count_once() -> None:
    clock = Clock()
    race = clock.race(clock.contender("short", 0.004), clock.contender("long", 1.0), repeats=2)
    assert (race["short"].calls, race["long"].calls) == (3, 1)
    assert race["short"].median == pytest.approx(0.004)
    assert clock.called.count("short") == 2 + 2 * 3


def test_time_is_shared_and_slow_contenders_get_few_samples() -> None:
    clock = Clock()
    race = clock.race(
        *(clock.contender(*entry) for entry in (("quick", 0.25), ("slow", 2.0), ("stuck", 50.0))), seconds=15
    )
    assert len(race["quick"].samples) == 20  # a share of five seconds
    assert len(race["slow"].samples) == measure.FEWEST_SAMPLES
    assert len(race["stuck"].samples) == 1
    assert clock.called.count("stuck") == 2


@pytest.mark.parametrize("result", [1.001, math.nan, math.inf])
def test_contenders_that_disagree_are_refused_before_anything_is_timed(result: float) -> None:
    clock = Clock()
    with pytest.raises(rg.RopegenError, match=r"out of wrong differs from right's by .* nothing was timed"):
        clock.race(clock.contender("right", 1.0), clock.contender("wrong", 1.0, result), repeats=1)
    assert clock.called == ["right", "wrong"]


def test_one_wrong_row_of_many_is_seen() -> None:
    right = np.random.default_rng(0).standard_normal((1000, 64))
    wrong = right.copy()
    wrong[17] = 0.0
    assert measure.difference(wrong, right) == pytest.approx(1.0)
    assert measure.difference(right, right) == 0.0
    assert measure.difference(np.zeros((0, 4)), np.zeros((0, 4))) == 0.0
    with pytest.raises(rg.RopegenError, match="cannot be compared"):
        measure.difference(right[:, :1], right)


@pytest.mark.parametrize(
    ("name", "gradients", "size", "agrees"),
    [
        ("d_q", {"d_q"}, 0.01, True),
        ("d_q", {"d_q"}, 1.0, False),
        ("out", set[str](), 0.01, False),
        ("d_model", set[str](), 0.01, False),  # an output of the user's
    ],
)
def test_a_row_of_a_gradient_that_cancels_is_measured_by_the_others(
    name: str, gradients: set[str], size: float, agrees: bool
) -> None:
    right = np.random.default_rng(0).standard_normal((1000, 64))
    right[17] *= size
    wrong = right.copy()
    wrong[17] = 0.0
    contenders = [
        bench.Contender(contender, lambda: None, lambda _, value=value: {name: value}, frozenset(gradients))
        for contender, value in (("a", right), ("b", wrong))
    ]
    if agrees:
        assert bench.compare(contenders, tolerance=0.05)["b"] == pytest.approx(size, rel=0.2)
    else:
        with pytest.raises(rg.RopegenError, match=f"{name} of b differs from a's"):
            bench.compare(contenders, tolerance=0.05)


def test_an_output_that_is_named_like_a_gradient_is_compared_too() -> None:
    b = rg.Builder("named")
    q = b.input("q", (2, 4), "f32")
    drawn = attention.draw(b.build(d_q=b.scale(q, 2.0), out=b.scale(q, 3.0)), grad=True)
    assert drawn.gradients == {"q": "dd_q"}
    assert attention.draw(drawn.graph).gradients == {}
    both = with_gradients(lambda inputs: {"d_q": 2.0 * inputs["q"], "out": 3.0 * inputs["q"]}, drawn.gradients)
    assert drawn.cotangents is not None
    results = both(drawn.inputs, drawn.cotangents)
    np.testing.assert_allclose(results["d_q"], 2.0 * drawn.inputs["q"], rtol=1e-6)
    wanted = 2.0 * drawn.cotangents["d_q"] + 3.0 * drawn.cotangents["out"]
    np.testing.assert_allclose(results["dd_q"], wanted, rtol=1e-5, atol=1e-6)


def test_contenders_that_call_other_results_gradients_are_refused() -> None:
    clock = Clock()
    other = bench.Contender("other", lambda: 1.0, lambda out: {"out": np.asarray(out)}, frozenset({"out"}))
    with pytest.raises(rg.RopegenError, match=r"the gradients of other are \['out'\], and those of one are \[\]"):
        clock.race(clock.contender("one", 1.0), other)


def test_results_of_other_names_are_refused() -> None:
    clock = Clock()
    other = bench.Contender("other", lambda: 1.0, lambda out: {"lse": np.asarray(out)})
    with pytest.raises(rg.RopegenError, match="other returns lse, but one returns out"):
        clock.race(clock.contender("one", 1.0), other)


@pytest.mark.parametrize("options", [{"repeats": 0}, {"seconds": 0.0}, {"seconds": math.nan}, {"seconds": math.inf}])
def test_no_time_and_no_contender_are_refused(options: dict[str, float]) -> None:
    clock = Clock()
    with pytest.raises(rg.RopegenError, match="positive"):
        clock.race(clock.contender("a", 1.0), **options)
    with pytest.raises(rg.RopegenError, match="at least one"):
        clock.race()
    with pytest.raises(rg.RopegenError, match="no two of the same name"):
        clock.race(clock.contender("a", 1.0), clock.contender("a", 1.0))
    with pytest.raises(rg.RopegenError, match="did you mean 'sdpa'"):
        clock.race(clock.contender("sdpa", 1.0), repeats=1)["spda"]


def test_attention_is_told_from_other_graphs() -> None:
    site = attention.attention_of(tiny())
    assert isinstance(site, attention.Attention)
    assert (site.q, site.k, site.v, site.causal, site.pairing) == ("q", "k", "v", True, "half")
    assert site.q_table is not None
    angle = 3 * 100.0 ** (-2 / 6)
    np.testing.assert_allclose(site.q_table[3, [1, 4]], [math.cos(angle), math.sin(angle)], rtol=1e-6)
    plain = attention.attention_of(tiny(rg.masks.full, pairing=None))
    assert isinstance(plain, attention.Attention)
    assert (plain.causal, plain.q_table) == (False, None)
    assert "neither full nor causal" in str(attention.attention_of(tiny(rg.masks.window(3))))
    b = rg.Builder("norm")
    x = b.input("x", (2, 4), "f32")
    assert (
        attention.attention_of(b.build(out=b.norm(x, kind="rms", epsilon=1e-5)))
        == "it does not have one output, an attend"
    )


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_jax_nn_agrees_with_ropegen(grad: bool, pairing: str) -> None:
    made = rg.plan(tiny(pairing=pairing), "cpu").compile()
    contenders, left_out = bench.contenders(made, ["jax"], grad=grad)
    assert ([contender.name for contender in contenders], left_out) == (["ropegen", "jax.nn"], [])
    results = [contender.arrays(contender.call()) for contender in contenders]
    assert set(results[0]) == ({"out", "d_q", "d_k", "d_v"} if grad else {"out"})
    assert bench.race(contenders, tolerance=1e-5, repeats=1).differences["jax.nn"] < 1e-5


@pytest.mark.usefixtures("quick_compilation")
def test_other_graphs_are_compared_with_their_plain_formulas() -> None:
    made = rg.plan(tiny(rg.masks.causal & rg.masks.window(3)), "cpu").compile()
    contenders, _ = bench.contenders(made, ["jax"], grad=True)
    assert [contender.name for contender in contenders] == ["ropegen", "jax plain formulas"]
    assert bench.race(contenders, tolerance=1e-5, repeats=1).differences["jax plain formulas"] < 1e-5


@pytest.mark.live
@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed; pip install '.[torch]' runs this")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("grad", "dtype", "pairing"), [(False, "f32", "half"), (True, "bf16", "interleaved")])
def test_torch_agrees_with_ropegen_in_both_layouts(grad: bool, dtype: str, pairing: str) -> None:
    graph = tiny(dtype=dtype, pairing=pairing)
    subject, *_ = bench.contenders(rg.plan(graph, "cpu").compile(), [], grad=grad)[0]
    site = attention.attention_of(graph)
    assert isinstance(site, attention.Attention)
    # This backend compiles nothing: the test checks the formulas, not torch's compiler.
    rivals, left_out = torch_attention.contenders(site, attention.draw(graph, grad=grad), backend="eager")
    assert [rival.name for rival in rivals] == [
        torch_attention.SDPA,
        torch_attention.REPEATED,
        *([] if grad else [torch_attention.FLEX]),
    ]
    if grad:
        assert [(entry.name, entry.reason.partition(":")[0]) for entry in left_out] == [
            (torch_attention.FLEX, "NotImplementedError")
        ]
    race = bench.race([subject, *rivals], tolerance=bench.tolerance(graph), repeats=1)
    assert set(race.differences) == {rival.name for rival in rivals}


def test_torch_is_imported_for_torch_alone() -> None:
    code = "import sys, ropegen.cli, ropegen.bench; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def graph(tmp_path: Path) -> str:
    path = tmp_path / "tiny.mlir"
    path.write_text(rg.dumps(tiny()))
    return str(path)


@pytest.mark.usefixtures("quick_compilation")
def test_bench_as_json_and_as_a_table(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", graph, "--repeats", "3", "--grad", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["what"] == "forward and backward"
    assert data["machine"]["jax"]
    assert [(entry["name"], entry["samples"]) for entry in data["contenders"]] == [("ropegen", 3), ("jax.nn", 3)]
    assert data["contenders"][0]["ratio"] == 1.0
    assert data["left_out"] == []
    assert cli.main(["bench", graph, "--repeats", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["contender", "ropegen", "jax.nn"]


@pytest.mark.usefixtures("quick_compilation")
def test_bench_of_an_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kernels"
    rg.export(tiny(), folder, targets=["cpu"])
    assert cli.main(["bench", str(folder), "--repeats", "1", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)["contenders"]] == ["ropegen", "jax.nn"]
    for arguments, said in ((["--grad"], "no derivative"), (["--tables", "constant"], "--tables is for a graph")):
        assert cli.main(["bench", str(folder), *arguments]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "module", "said"),
    [
        (["--against", "jax,torhc"], "", "did you mean 'torch'?"),
        (["--against", "torch"], "torch", "pip install torch"),
        (["--png", "out.png"], "matplotlib", "pip install matplotlib"),
        (["--seconds", "-1"], "", "positive"),
    ],
)
def test_what_bench_refuses(
    arguments: list[str],
    module: str,
    said: str,
    graph: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if module:
        monkeypatch.setitem(sys.modules, module, None)  # imitates a missing package
    assert cli.main(["bench", graph, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed; pip install '.[bench]' runs this")
def test_a_picture_is_written_aside_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    race = clock.race(clock.contender("a", 1.0), clock.contender("b", 2.0), repeats=3)
    path = tmp_path / "bench.png"
    path.write_bytes(b"the last one")
    bench.picture(race, "a and b", path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(rg.RopegenError, match="cannot write"):
        bench.picture(race, "a and b", tmp_path / "nowhere" / "bench.png")

    class Broken:
        def savefig(self, aside: Path, **options: object) -> None:
            aside.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(rg.RopegenError, match="No space left"):
        report.save(Broken(), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_durations_have_three_digits_and_a_unit() -> None:
    said = {1.5: "1.50 s", 0.00123456: "1.23 ms", 2.5e-5: "25 \N{MICRO SIGN}s", 5e-9: "5 ns", 4321.0: "4321 s"}
    assert {seconds: bench.duration(seconds) for seconds in said} == said


# benchmarks/cpu.py ---------------------------------------------------------------------------------------------------


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    return importlib.import_module("cpu")


def point(grid: Any, length: int, ours: float, torch: float, other: float) -> dict[str, dict[str, object]]:
    at = grid.Point("forward", 8, 8, 64, "bf16", "causal", length)
    times = {"ropegen": ours, "jax.nn": other, "torch sdpa": torch, "torch flex": 3 * torch}
    runners = [{"name": name, "median": median, "samples": 3} for name, median in times.items()]
    return {at.key: {"series": at.series, "length": length, "contenders": runners, "left_out": []}}


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed; pip install '.[bench]' runs this")
def test_the_picture_says_which_side_is_faster_and_has_few_lines_in_a_panel(
    grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(report, "save", lambda figure, path: figures.append(figure))
    points: dict[str, Any] = {}
    for direction in ("forward", "backward"):
        for dtype in ("f32", "bf16"):
            for mask in ("causal", "full"):
                for length in (512, 1024):
                    at = grid.Point(direction, 8, 8, 64, dtype, mask, length)
                    (made,) = point(grid, length, 1.0, 2.0, 4.0).values()
                    points[at.key] = {**made, "series": at.series}
    results = {"points": points, "machine": {"processor": "a processor", "cores": "2"}, "date": "today"}
    importlib.import_module("cpu_tables").picture(results, tmp_path / "cpu.png")
    (figure,) = figures
    assert "Above 1, ropegen is faster" in figure.get_suptitle()
    panels = figure.get_axes()
    assert len(panels) == 4  # two directions and two rivals
    for panel, ratio in zip(panels, (2.0, 4.0, 2.0, 4.0), strict=True):
        drawn = [line for line in panel.get_lines() if not line.get_label().startswith("_")]
        assert len(drawn) == 4
        assert all(set(line.get_ydata()) == {ratio} for line in drawn)
        assert "over ropegen's" in panel.get_ylabel()


def test_goals_are_geometric_means_and_least_points(grid: Any) -> None:
    points = point(grid, 512, 1.0, 1.0, 2.0) | point(grid, 2048, 1.0, 4.0, 9.0)
    results = {"machine": bench.machine(), "date": "today", "points": points, "limits": {"window": {"value": 0.25}}}
    page = grid.tables(results)
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[2:4] for line in page.splitlines() if "|" in line}
    assert rows["forward, best of torch over ropegen, geometric mean"] == ["2", "met"]
    assert rows["forward, best of torch over ropegen, lowest point"] == ["1", "MISSED"]
    assert rows["forward, jax.nn over ropegen from S=2048, geometric mean"] == ["9", "met"]
    assert rows["a window of 1024 over causal"] == ["0.25", "met"]
    assert rows["eight packed documents over causal"][1] == "not measured"
    disagreed = {"series": "forward 8x8x64 f32 full", "length": 512, "error": "the results disagree"}
    page = grid.tables({**results, "points": {**points, "forward 8x8x64 f32 full 512": disagreed}})
    assert "- forward 8x8x64 f32 full 512: the results disagree" in page


def test_slow_variants_of_torch_run_where_all_do(grid: Any) -> None:
    assert grid.torch_variants(None) == (None, [])
    (probe,) = point(grid, grid.PROBE_LENGTH, 1.0, 1.0, 1.0).values()
    wanted, left_out = grid.torch_variants(probe)
    assert wanted == ["torch sdpa"]
    assert [(entry.name, entry.reason) for entry in left_out] == [("torch flex", "3.00 times torch's best at S=2048")]
    assert [point.length for point in grid.grid(["forward"], grid.LENGTHS, grid.SHAPES)[:2]] == [grid.PROBE_LENGTH, 512]


def test_results_of_another_machine_are_kept(grid: Any, tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    kept = {"machine": {"processor": "another"}, "points": {}, "limits": {}}
    grid.write(path, json.dumps(kept))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SystemExit, match="another machine"):
        grid.opened(path, False)
    assert json.loads(path.read_text()) == kept
    assert grid.opened(path, True)["machine"] == bench.machine()
