"""Tuning for a GPU that is not here: which tile is kept, what is left out, and that a plan says that no clock ran.

Most tests decide what the compiler makes of a candidate. One compiles, if the compilers for CUDA are installed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ropegen as rg
from ropegen import bench, cli, masks, tuning
from ropegen.compilers import cuda
from ropegen.compilers.machine_code import KernelCode, Loop
from ropegen.compilers.process import Compilation, CompiledModule, Compiler
from ropegen.emit.artifact import gpu_report
from ropegen.errors import RopegenError
from ropegen.target import Target
from ropegen.tiles import TileFile
from ropegen.tuning import Outcome

H200 = Target.parse("gpu:h200")
WIDE, NARROW = "attend/mosaic_gpu q=128 kv=128", "attend/mosaic_gpu q=128 kv=64"


def causal(**options: Any) -> rg.Graph:
    """An attention that the kernel for Hopper takes, in tiles of 128 or 64 keys."""
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 2048, heads, 128), "bf16") for label, heads in (("q", 32), ("k", 8), ("v", 8)))
    given = {label: b.input(label, (1, 2048), "i32") for label in options.pop("inputs", ())}
    return b.build(out=b.attend(q, k, v, **{"mask": masks.causal, **options, **given}))


def kernel(instructions: int, **other: Any) -> KernelCode:
    """A kernel with a loop over full tiles and one over partial tiles, of so many instructions each."""
    loop = Loop(
        first=0, last=0, instructions=instructions, stalls=0, products=16, product_cycles=1.0, exponentials=1, local=0,
        waits=4, is_innermost=True,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "name": "ropegen_attend",
        "architecture": "sm_90a",
        "threads": 256,
        "registers": 200,
        "spilled": 0,
        "advisories": (),
        "instructions": 2 * instructions,
        "products": 32,
        "local": 0,
        "product_waits": (4, 4),
        "asks_for_registers": False,
        "moves_registers": False,
        "loops": (loop, loop),
    }
    return KernelCode(**(fields | other))


def compiler(made: Mapping[str, KernelCode | str]) -> Callable[[Mapping[str, bytes], str], Compilation[KernelCode]]:
    """A compiler that makes these kernels of the candidates, or refuses them with these words."""

    def compile_modules(modules: Mapping[str, bytes], chip: str) -> Compilation[KernelCode]:
        assert modules.keys() <= made.keys()
        for content in modules.values():
            assert b"mosaic_gpu_v2" in content
        kernels = {name: one for name in modules if isinstance(one := made[name], KernelCode)}
        return Compilation(
            chip=chip,
            topology="sm90",
            device_kind="NVIDIA H200",
            devices_per_chip=1,
            compiler=Compiler("jax-cuda13-pjrt", "0.12.0.1", "jax-cuda13-pjrt 0.12.0.1", "0.12.0.1"),
            modules={name: CompiledModule(b"", {}, (one,)) for name, one in kernels.items()},
            errors={name: one for name in modules if isinstance(one := made[name], str)},
        )

    return compile_modules


def tuned(graph: rg.Graph, made: Mapping[str, KernelCode | str]) -> Outcome:
    (outcome,) = tuning.tune(graph, H200, compile_modules=compiler(made))
    assert outcome.by == "the machine code"
    assert str(outcome.own) == str(taken(rg.plan(graph, H200)))
    return outcome


def taken(plan: rg.Plan) -> str:
    (step,) = (step for step in plan.steps if step.region is not None and step.region.family == "attend")
    assert step.chosen is not None
    return f"{step.chosen.template} {step.chosen.tile}"


def with_file(graph: rg.Graph, outcome: Outcome) -> rg.Plan:
    return rg.plan(graph, H200, measured=TileFile("file", tuning.merge(None, [outcome], H200)))


def test_the_tile_with_the_least_time_is_kept_and_a_plan_says_that_no_clock_ran() -> None:
    graph = causal()
    outcome = tuned(graph, {WIDE: kernel(1000), NARROW: kernel(400)})
    assert (str(outcome.own), str(outcome.best), outcome.left_out) == (WIDE, NARROW, ())
    # Twice as many tiles, of 400 instructions each.
    assert outcome.ratio == pytest.approx(2 * 400 / 1000)
    (entry,) = outcome.entries
    assert (entry.chip, entry.is_estimated, entry.tile) == ("gpu:h200", True, {"q": 128, "kv": 64})
    assert entry.compiler.keys() == {"jaxlib"}
    assert "timed" not in entry.evidence
    assert entry.evidence["machine_code"] == "jax-cuda13-pjrt 0.12.0.1"
    plan = with_file(graph, outcome)
    assert taken(plan) == NARROW
    assert "q=128 kv=64, the tile file, by the machine code and no clock, jaxlib" in plan.explain()


def test_the_least_time_is_that_of_the_unit_with_the_most_cycles() -> None:
    outcome = tuned(causal(), {WIDE: kernel(1000), NARROW: kernel(1000)})
    # 16 tiles of 128 queries and keys on the diagonal of each of 32 heads, and 120 below: 1000 instructions of eight warps,
    # of which four are issued in a cycle, on 132 multiprocessors.
    clock = H200.figures.matmul_bf16 / (4096 * 132)
    assert outcome.seconds == pytest.approx(32 * 136 * 1000 * 8 / 4 / 132 / clock)
    assert outcome.entries[0].evidence["bound"] == "issue"


@pytest.mark.parametrize("share", [0.49, 0.52, 2.0])
def test_a_least_time_that_differs_by_less_than_5_percent_decides_nothing(share: float) -> None:
    """There are twice as many tiles of 64 keys."""
    outcome = tuned(causal(), {WIDE: kernel(1000), NARROW: kernel(int(1000 * share))})
    assert (str(outcome.best), outcome.ratio) == (WIDE, 1.0)
    assert "no least time is shorter by 5 %: the machine code allows q=128 kv=128" in outcome.reason


@pytest.mark.parametrize(
    ("fails", "why"),
    [
        (kernel(100, spilled=12), "12 bytes are spilled to local memory"),
        (kernel(100, advisories=("C7510: serialized",)), "ptxas gave something up: C7510: serialized"),
        (kernel(100, name="other"), "the compiler lists 0 kernels named ropegen_attend, and one is meant"),
        ("INTERNAL: no such instruction\nmore", "the compiler refuses it: INTERNAL: no such instruction"),
    ],
)
def test_a_candidate_that_fails_the_gate_is_left_out_with_the_reason(fails: KernelCode | str, why: str) -> None:
    outcome = tuned(causal(), {WIDE: kernel(1000), NARROW: fails})
    assert str(outcome.best) == WIDE
    assert [(str(choice), said) for choice, said in outcome.left_out] == [(NARROW, why)]
    assert outcome.entries[0].evidence["left_out"] == f"{NARROW}: {why}"
    graph = causal()
    outcome = tuned(graph, {WIDE: fails, NARROW: kernel(5000)})
    assert (str(outcome.best), taken(with_file(graph, outcome))) == (NARROW, NARROW)


def test_without_a_tile_that_passes_the_next_template_by_the_cost_model_is_taken() -> None:
    graph = causal()
    outcome = tuned(graph, {WIDE: kernel(100, spilled=4), NARROW: kernel(100, spilled=8)})
    assert str(outcome.best.template) == "attend/xla"
    assert (outcome.seconds, outcome.ratio, len(outcome.left_out)) == (None, None, 2)
    assert taken(with_file(graph, outcome)) == str(outcome.best)


def test_tiles_that_are_known_only_at_run_time_have_no_least_time() -> None:
    """Tiles of 128 keys have no room beside segments of the running program, so there is one candidate."""
    ids = ("q_segments", "kv_segments")
    outcome = tuned(causal(mask=masks.causal & masks.segments, inputs=ids), {NARROW: kernel(100)})
    assert (str(outcome.best), outcome.seconds, outcome.ratio) == (NARROW, None, 1.0)
    assert outcome.reason == "there is no other tile"
    loops = kernel(100).loops
    outcome = tuned(causal(), {WIDE: kernel(100, loops=loops[:1]), NARROW: kernel(100)})
    assert (str(outcome.best), outcome.seconds) == (WIDE, None)
    assert "gives no least time" in outcome.reason


def test_on_blackwell_the_sizes_of_a_tile_say_what_the_products_take() -> None:
    """The machine code there does not say the sizes of products."""
    b200 = Target.parse("gpu:b200")
    plan = rg.plan(causal(), b200)
    (step,) = (step for step in plan.steps if step.region is not None)
    loop = replace(kernel(10).loops[0], product_cycles=None)
    least = gpu_report.least(kernel(10, architecture="sm_100a", loops=(loop, loop)), plan, step)
    assert least is not None
    assert least.unit == "the tensor cores"
    # 8 rows of 256 queries have 2, 4, ..., 16 tiles of 128 keys. At the published peak, a tile takes its operations over it.
    assert step.chosen is not None
    assert dict(step.chosen.tile.sizes) == {"q": 256, "kv": 128}
    operations = 32 * 72 * 2 * 256 * 128 * 256
    assert least.seconds == pytest.approx(operations / b200.figures.matmul_bf16)


def test_what_is_for_a_clock_alone_is_refused() -> None:
    for given in ({"seconds": 1.0}, {"grad": True}):
        with pytest.raises(
            RopegenError, match=rf"{next(iter(given))} is for timing, and nothing is timed for gpu:h200"
        ):
            next(tuning.tune(causal(), H200, **given))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("gpu:any", "name the chip .*gpu:h200"),
        ("gpu:sm90", "name the chip .*gpu:h200"),
        ("tpu:v5e", "libtpu's schedules"),
        ("cpu:1023", "run it on such a machine"),
    ],
)
def test_other_targets_are_refused(target: str, said: str) -> None:
    with pytest.raises(RopegenError, match=said):
        next(tuning.tune(causal(), target))


def test_a_graph_without_such_a_kernel_has_nothing_to_compare() -> None:
    b = rg.Builder("wide")
    q = b.input("q", (1, 512, 2, 64), "f32")
    for graph, target in ((b.build(out=b.attend(q, q, q)), "gpu:h200"), (causal(), "gpu:a100")):
        with pytest.raises(RopegenError, match=rf"takes a kernel on {target} whose machine code could be compared"):
            next(tuning.tune(graph, target, compile_modules=compiler({})))


def test_what_a_clock_found_stays_in_a_file() -> None:
    graph = causal()
    estimated = tuned(graph, {WIDE: kernel(1000), NARROW: kernel(100)})
    (entry,) = estimated.entries
    timed = msgspec.structs.replace(entry, tile={"q": 128, "kv": 128}, evidence={"timed": "forward"})
    old = TileFile("file", (timed,))
    assert tuning.timed_before(old, [estimated], H200) == (estimated,)
    assert tuning.merge(old, [estimated], H200) == (timed,)
    # One of another compiler stays beside it, and one by the machine code is replaced.
    newer = msgspec.structs.replace(timed, compiler={"jaxlib": "999.0"})
    assert tuning.merge(TileFile("file", (newer,)), [estimated], H200) == (newer, entry)
    again = tuned(graph, {WIDE: kernel(100), NARROW: kernel(1000)})
    assert tuning.merge(TileFile("file", (entry,)), [again], H200) == again.entries


@pytest.mark.filterwarnings("ignore::ropegen.errors.FallbackWarning")
def test_on_such_a_gpu_the_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is pretended: its kernels are computed by XLA here, and the race is decided."""
    monkeypatch.setattr(Target, "host", staticmethod(lambda: H200))
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 256, 2, 64), "bf16") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v, mask=masks.causal))
    names: list[str] = []

    def race(contenders: Sequence[bench.Contender], **options: Any) -> bench.Race:
        names.extend(contender.name for contender in contenders)
        bench.compare(contenders, options["tolerance"])
        own = contenders[0].name
        seconds = {each.name: 1.0 if each.name == own else 0.5 if "kv=64" in each.name else 0.8 for each in contenders}
        return bench.Race(tuple(bench.Timing(name, (time,)) for name, time in seconds.items()), {})

    def never(modules: Mapping[str, bytes], chip: str) -> Compilation[KernelCode]:
        raise AssertionError("nothing is compiled for a GPU that is here")

    (outcome,) = tuning.tune(graph, "host", race=race, compile_modules=never)
    assert {WIDE, NARROW} <= {*names}
    assert (outcome.by, outcome.ratio) == ("the clock", 0.5)
    entry = outcome.entries[0]
    assert (entry.chip, entry.cores, entry.is_estimated) == ("gpu:h200", None, False)
    plan = rg.plan(graph, H200, measured=TileFile("file", tuning.merge(None, [outcome], H200)))
    assert taken(plan) == str(outcome.best)
    assert "machine code" not in plan.explain()


def test_the_command_writes_a_file_and_says_what_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = compiler({WIDE: kernel(1000, spilled=8), NARROW: kernel(400)})
    monkeypatch.setattr(cuda, "tools", lambda: ())
    monkeypatch.setattr(tuning, "tune", functools.partial(tuning.tune, compile_modules=made))
    graph, file = tmp_path / "graph.mlir", tmp_path / "tiles.json"
    graph.write_text(rg.dumps(causal()), encoding="utf-8")
    assert cli.main(["tune", str(graph), "--target", "gpu:h200", "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    assert f"{NARROW} takes the place of {WIDE}, of 2 candidates" in " ".join(err.split())
    assert f"left out: {WIDE}: 8 bytes are spilled to local memory" in err
    assert "least time" in out
    assert "nothing was timed: the machine code decided between tiles, and the cost model between templates" in out
    assert cli.main(["explain", str(graph), "--target", "gpu:h200", "--tiles", str(file), "-v"]) == 0
    assert "by the machine code and no clock" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["tune", str(graph), "--target", "gpu:h200", "-o", str(file), "--json"]) == 0
    (region,) = json.loads(capsys.readouterr().out)["regions"]
    assert (region["by"], region["kept"]["tile"], region["of_own"]) == ("the machine code", {"q": 128, "kv": 64}, None)
    assert region["left_out"][0]["why"] == "8 bytes are spilled to local memory"


def test_missing_compilers_are_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(cuda, "build", lambda: "")
    graph = tmp_path / "graph.mlir"
    graph.write_text(rg.dumps(causal()), encoding="utf-8")
    assert cli.main(["tune", str(graph), "--target", "gpu:h200"]) == 2
    assert 'pip install "jax[cuda13]" nvidia-cuda-nvdisasm' in " ".join(capsys.readouterr().err.split())


def test_the_compiler_compares_the_tiles_of_a_kernel() -> None:
    """With the compilers for CUDA, which need no GPU."""
    try:
        cuda.tools()
    except RopegenError as error:
        pytest.skip(str(error))
    (outcome,) = tuning.tune(causal(), H200)
    assert {str(outcome.own), str(outcome.best)} == {WIDE}
    assert (outcome.candidates, outcome.left_out) == (2, ())
    assert outcome.seconds is not None
    # The products of 136 tiles for each of 32 heads, at the published peak.
    assert outcome.seconds == pytest.approx(32 * 136 * 2 * 128 * 128 * 256 / H200.figures.matmul_bf16, rel=0.2)
    assert outcome.entries[0].evidence["machine_code"] == cuda.build()
