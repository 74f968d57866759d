"""Schedules as libtpu lists them: recorded listings are read completely, and another form is an error that says where.

tests/record_schedule.py has the recorded kernel. Its grid has ten steps; a step clears, multiplies once or three times (in
a loop), and writes, all under conditions.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ropegen.compilers import tpu
from ropegen.compilers.schedule import (
    FILL,
    MATRIX,
    SPILL,
    TRANSCENDENTAL,
    VECTOR,
    KernelSchedule,
    Part,
    read_schedules,
)
from ropegen.emit.artifact.kernel_steps import Tiles
from ropegen.emit.artifact.tpu_report import cycles
from ropegen.errors import RopegenError
from ropegen.target import Target, known

RECORDED = Path(__file__).resolve().parent.parent / "golden" / "schedules"
CHIPS = ("v5e", "v7x")


def recorded(chip: str) -> KernelSchedule:
    (kernel,) = read_schedules(RECORDED / f"tpu-{chip}")
    return kernel


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED / "tpu-v5e", tmp_path / "copy"))


@pytest.mark.parametrize("chip", CHIPS)
def test_the_steps_of_a_grid_are_counted(chip: str) -> None:
    kernel = recorded(chip)
    assert kernel.name == "recorded.1"
    assert kernel.steps == 2 * 5
    assert kernel.grid is not None
    assert (kernel.grid.is_pipelined, kernel.grid.trips) == (
        True,
        12,
    )  # one extra trip fetches before the first step, one stores after the last


@pytest.mark.parametrize("chip", CHIPS)
def test_what_a_step_does_under_a_condition_is_a_part_in_the_kernel_s_order(chip: str) -> None:
    parts = recorded(chip).step_parts
    begin, even, odd, end = parts if len(parts) == 4 else (None, *parts)  # clearing may need no arithmetic
    assert [part.multiplies for part in (even, odd, end)] == [True, True, False]
    assert begin is None or not begin.multiplies
    loops = [part.trips for part in odd.walk() if part.kind == "loop"]
    assert loops == [3]
    assert [part.kind for part in even.walk()] == ["branch"]
    assert odd.executed > 2 * odd.cycles  # the loop takes most of the part and runs three times
    assert odd.used[TRANSCENDENTAL] >= 2  # the exponential
    assert end.used[TRANSCENDENTAL] >= 2  # the hyperbolic tangent


@pytest.mark.parametrize("chip", CHIPS)
def test_bundles_and_cycles_are_those_of_the_files(chip: str) -> None:
    kernel = recorded(chip)
    listings = {
        label: path.read_text().partition("== UTILIZATION:")
        for path in (RECORDED / f"tpu-{chip}").iterdir()
        for label in ("pre-delay", "-final_hlo")
        if label in path.name
    }
    rows = {label: [line.split() for line in body.strip().splitlines()] for label, (_, _, body) in listings.items()}
    assert kernel.whole.cycles == len(rows["pre-delay"])
    assert kernel.whole.bundles == len(rows["-final_hlo"]) < kernel.whole.cycles  # the kernel waits for the matrix unit
    assert kernel.whole.used[MATRIX] == sum(int(row[0]) for row in rows["-final_hlo"])
    slots = int(listings["-final_hlo"][0].split()[-11])
    assert kernel.share(MATRIX) == kernel.whole.used[MATRIX] / (slots * kernel.whole.bundles)
    assert kernel.whole.spills == kernel.whole.used[FILL] + kernel.whole.used[SPILL] == 0


def test_vector_memory_is_windows_twice_and_scratch() -> None:
    windows = 2 * (16 * 128 * 2 + 128 * 128 * 2 + 16 * 128 * 2)  # the kernel fetches one block while it reads the other
    internal = 72 * 128 * 4
    kernel = recorded("v5e")
    assert kernel.vmem == windows + 16 * 128 * 4 + internal


def test_parts_add_up() -> None:
    for chip in CHIPS:
        for part in recorded(chip).whole.walk():
            assert part.own_bundles >= 0
            assert part.own_cycles >= 0
            assert part.bundles <= part.cycles
            assert all(part.used[unit] >= sum(inner.used[unit] for inner in part.inner) for unit in part.used)


def test_a_region_that_only_the_last_bundle_begins_is_known() -> None:
    """Recorded for v5p: one of two cores computes an iota, and the other jumps to the end, which has another name there."""
    (kernel,) = read_schedules(RECORDED / "tpu-v5p-iota")
    (branch,) = kernel.whole.inner
    assert (kernel.name, kernel.whole.bundles, branch.kind) == ("iota", 24, "branch")
    assert kernel.whole.bundles - branch.bundles == 4  # the branch that asks which core this is, and the end
    assert branch.cycles > branch.bundles


def test_a_grid_that_one_core_of_two_runs_is_found_under_its_branch() -> None:
    used = dict.fromkeys((MATRIX, VECTOR), 1)
    loop = Part("loop", 8, 9, used, trips=12, is_pipelined=True)
    whole = Part("kernel", 20, 25, used, (Part("branch", 10, 12, used, (loop,)),))
    kernel = KernelSchedule("guarded", dict.fromkeys(used, 1), whole, 0)
    assert kernel.grid is loop
    assert kernel.steps == 10


def test_known_tiles_give_a_time_below_the_bound() -> None:
    kernel = recorded("v5e")
    begin, even, odd, end = kernel.step_parts
    grid = kernel.grid
    assert grid is not None
    spent, is_bound = cycles(kernel, Tiles(heads=2, rows=2, all=20, full=6, partial=4, operations=0.0))
    always = grid.own_cycles + sum(
        part.executed for part in grid.inner) - sum(part.executed for part in kernel.step_parts)  # fmt: skip
    tiled = 2 * (begin.executed + end.executed) + 6 * even.executed + 4 * odd.executed
    assert (spent, is_bound) == (kernel.whole.own_cycles + 12 * always + tiled, False)
    assert cycles(kernel) == (kernel.whole.executed, True)
    assert spent < kernel.whole.executed


def edit(pattern: str, replacement: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, replacement, text, count=1)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("final_hlo", edit("== UTILIZATION:", "== USE:"), "head does not have three lines"),
        ("final_hlo", edit("MATMUL", "MXU"), "does not name the unit MATMUL"),
        ("final_hlo", edit(r"\n0 0 0", "\n0 0"), "number of units differs"),
        ("final_hlo", edit(r"\n(?=0 0)", "\n0 x "), "invalid literal"),
        ("pre-delay", lambda text: text.rstrip().rpartition("\n")[0], "and the utilization has"),
        ("post-ra", edit(r"bundleno = \d+", "bundleno = 99999"), "branches to nowhere"),
        ("post-ra", edit(r"\n +0x10 +:", "\n  0x11   :"), "bundle 0x11 follows 0xf"),
        ("final_bundles", edit(r"sbr\.rel[^;}]*", "snop "), "differ from those of the other listing"),
    ],
)
def test_an_unknown_form_is_an_error_that_names_the_file(
    copy: Path, name: str, change: Callable[[str], str], words: str
) -> None:
    (path,) = (path for path in copy.iterdir() if name in path.name)
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(RopegenError, match="unknown form") as caught:
        read_schedules(copy)
    assert words in str(caught.value)
    assert path.name in str(caught.value) or "post-ra" in str(caught.value)
    assert "pip install libtpu" in str(caught.value)


def test_a_missing_listing_is_named(copy: Path) -> None:
    next(copy.glob("*final_bundles*")).unlink()
    with pytest.raises(RopegenError, match=r"no final_bundles of the kernel recorded\.1"):
        read_schedules(copy)


def test_what_starts_the_kernels_is_none(tmp_path: Path) -> None:
    (tmp_path / "17-<late-finalization>-00-original.txt").write_text("")
    (tmp_path / "17-TLP-00-original.txt").write_text("")
    (tmp_path / "17-TLP-hlo.txt").write_text("")
    assert read_schedules(tmp_path) == ()


# The compiler's process, without the compiler ------------------------------------------------------------------------


def test_a_chip_that_is_not_known_names_the_nearest() -> None:
    with pytest.raises(RopegenError, match="did you mean 'v6e'"):
        tpu.compile_modules({}, "v6")


def test_a_folder_without_the_compiler_says_how_it_gets_there(tmp_path: Path) -> None:
    with pytest.raises(RopegenError, match=rf"pip install --no-deps --target {tmp_path} libtpu"):
        tpu.compile_modules({}, "v5e", libtpu=tmp_path)


def test_a_compiler_that_ends_early_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "libtpu").mkdir()
    (tmp_path / "libtpu" / "libtpu.so").write_bytes(b"no library")
    with pytest.raises(RopegenError, match=r"libtpu ended with code 1 .*before the first module.*its last words"):
        tpu.compile_modules({"module": b""}, "v5e", libtpu=tmp_path)


def test_every_tpu_has_a_topology_a_clock_and_matrix_units_that_its_peak_states() -> None:
    chips = [target.removeprefix("tpu:") for target in known() if target.startswith("tpu:")]
    assert sorted(chips) == sorted(tpu.TOPOLOGIES)
    for chip in chips:
        figures = Target.parse(f"tpu:{chip}").figures
        side = 256 if chip in ("v6e", "v7x") else 128
        peak = 2 * figures.cores * 4 * side**2 * figures.clock
        assert peak == pytest.approx(figures.matmul_bf16, rel=0.005)
        assert 0 < figures.kernel_memory <= figures.fast_memory
