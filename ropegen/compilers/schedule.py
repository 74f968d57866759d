"""The schedule of a kernel as libtpu reports it: its bundles, the units that they use, and how they nest.

A bundle is one VLIW instruction. The compiler places bundles cycle by cycle, then turns runs of empty bundles into
waits. So a kernel has *bundles*, which it issues, and *cycles*, the least time that it takes (memory aside). For every
kernel the compiler writes these files, under the labels in `LABELS`:

    *-original.txt                                        the allocations and the memory that holds them
    *-packed-bundles-post-ra.txt                          the bundle of every cycle, with branches by number
    *-pre-delay_hlo-static-per-bundle-utilization.txt     the slots that those bundles use
    *-final_hlo-static-per-bundle-utilization.txt         the slots that the issued bundles use
    *-final_bundles.txt                                   the issued bundles

Nobody promises to keep this form. A file that differs from what libtpu 0.0.52 writes raises an error that says where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropegen.errors import RopegenError

LABELS = "^original$|^packed-bundles-post-ra$|hlo-static-per-bundle|^final_bundles$"
_FILE = re.compile(
    r"\d+-(?P<kernel>.+)-\d\d-(?P<label>original|packed-bundles-post-ra|final_bundles"
    r"|(?:pre-delay|final)_hlo-static-per-bundle-utilization)\.txt"
)
# Names of the program around the kernels, which only starts them.
_AROUND = ("<late-", "TLP")
# The units that ropegen reads by name; the compiler lists more.
MATRIX, TRANSCENDENTAL, VECTOR, FILL, SPILL = "MATMUL", "EUP", "VALU", "VLOAD:FILL", "VSTORE:SPILL"
_BUNDLE = re.compile(r"\s*(0x[0-9a-f]+|0) +(LB|LH|LE|PF|PB|CT)?\s*: *(>*) ")
_BRANCH = re.compile(
    r"sbr\.rel (?:\((!?%p\d+)[^)]*\) )?target (?:bundleno = (?P<number>\d+)|= \$region(?P<region>\d+))"
)
_EXIT = re.compile(r"scmp\.ge\.s32\.totalorder (%\w+), (\d+) /\* loop exit test \*/")
_ALLOCATION = re.compile(r"#allocation\d+ \[shape = '[^']*', space=(\w+), size = (0x[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel, one of its loops, or the code that a branch skips; the sizes count every inner part once."""

    kind: Literal["kernel", "loop", "branch"]
    bundles: int
    cycles: int
    used: Mapping[str, int]
    """The number of slots that the bundles use, by unit."""
    inner: tuple[Part, ...] = ()
    trips: int | None = None
    """How often a loop runs, if its exit test compares with a number."""
    is_pipelined: bool = False
    """Whether the loop fetches for the next trip and stores for the previous one; it has two more trips than steps."""

    @property
    def own_cycles(self) -> int:
        """The cycles outside the inner parts."""
        return self.cycles - sum(part.cycles for part in self.inner)

    @property
    def own_bundles(self) -> int:
        return self.bundles - sum(part.bundles for part in self.inner)

    @property
    def computes(self) -> bool:
        """Whether the part does more than move values."""
        return bool(self.used[VECTOR] or self.used[MATRIX])

    @property
    def multiplies(self) -> bool:
        return bool(self.used[MATRIX])

    @property
    def spills(self) -> int:
        """The number of stores and loads of vector registers that did not fit in the register file."""
        return self.used[FILL] + self.used[SPILL]

    @property
    def executed(self) -> int:
        """The cycles of one run in which every branch's code executes and a loop of unknown length runs once."""
        return (self.trips or 1) * (self.own_cycles + sum(part.executed for part in self.inner))

    @property
    def executed_bundles(self) -> int:
        """The bundles of the same run."""
        return (self.trips or 1) * (self.own_bundles + sum(part.executed_bundles for part in self.inner))

    def walk(self) -> Iterator[Part]:
        """The part itself and every part inside, outermost first."""
        yield self
        for part in self.inner:
            yield from part.walk()


@dataclass(frozen=True, slots=True)
class KernelSchedule:
    """The schedule of one kernel."""

    name: str
    slots: Mapping[str, int]
    """The number of slots of a bundle, by unit."""
    whole: Part
    vmem: int
    """The bytes of vector memory that the kernel allocates: windows of its operands, scratch, spilled registers."""

    def share(self, unit: str, part: Part | None = None) -> float:
        """The fraction of a unit's slots that the bundles of `part` (default: the whole kernel) use."""
        part = part or self.whole
        return part.used[unit] / (self.slots[unit] * part.bundles) if part.bundles else 0.0

    @property
    def grid(self) -> Part | None:
        """The loop over the grid: the outermost pipelined loop, else the only outermost one.

        If one core of two runs the whole grid, the loop is inside the branch that asks which core this is. If the number of
        steps is known only at run time, it is inside a branch that asks whether there is any.
        """
        level = self.whole.inner
        while not (loops := [part for part in level if part.kind == "loop"]) and level:
            level = tuple(part for branch in level for part in branch.inner)
        piped = [loop for loop in loops if loop.is_pipelined]
        return (piped or loops or [None])[0] if len(piped) == 1 or len(loops) == 1 else None

    @property
    def steps(self) -> int | None:
        """The number of grid steps, or None if it is unknown."""
        grid = self.grid
        return None if grid is None or grid.trips is None else grid.trips - 2 * grid.is_pipelined

    @property
    def step_parts(self) -> tuple[Part, ...]:
        """The conditional parts of a grid step, in the kernel's order: every `pl.when` that computes something."""
        return tuple(_branches(self.grid or self.whole))


def _branches(part: Part) -> Iterator[Part]:
    """The innermost branches that compute something."""
    for branch in part.inner:
        if branch.kind == "branch" and branch.computes:
            nested = any(inner.kind == "branch" and inner.computes for inner in branch.inner)
            if nested:
                yield from _branches(branch)
            else:
                yield branch


def read_schedules(folder: Path) -> tuple[KernelSchedule, ...]:
    """The schedule of every kernel whose files are in a folder, in the order in which they were compiled.

    Raises:
      RopegenError: a file is missing or in an unknown form.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match and not match["kernel"].startswith(_AROUND):
            files.setdefault(match["kernel"], {})[match["label"]] = path
    return tuple(_kernel(name, paths) for name, paths in files.items())


def _kernel(name: str, paths: Mapping[str, Path]) -> KernelSchedule:
    labels = ("original", "packed-bundles-post-ra", "pre-delay_hlo-static-per-bundle-utilization",
              "final_hlo-static-per-bundle-utilization", "final_bundles")  # fmt: skip
    missing = [label for label in labels if label not in paths]
    if missing:
        raise RopegenError(
            f"libtpu wrote no {missing[0]} of the kernel {name}; ropegen reads schedules as libtpu 0.0.52 writes them: "
            "`pip install libtpu==0.0.52`"
        )
    original, placed, placed_use, issued_use, issued = (paths[label] for label in labels)
    slots, every_cycle = _utilization(placed_use)
    _, every_bundle = _utilization(issued_use)
    cycles = _structure(placed, len(every_cycle))
    bundles = _structure(issued, len(every_bundle))
    whole = _joined(bundles, cycles, every_bundle, list(slots), issued)
    spaces = _ALLOCATION.findall(original.read_text(encoding="utf-8", errors="replace"))
    return KernelSchedule(name, slots, whole, sum(int(size, 16) for space, size in spaces if space == "vmem"))


def _utilization(path: Path) -> tuple[dict[str, int], list[list[int]]]:
    """The slots of a bundle by unit, and for every bundle the number of slots it uses of every unit."""
    head, separator, body = path.read_text(encoding="utf-8").partition("== UTILIZATION:")
    lines = [line for line in head.splitlines() if line.strip()]
    try:
        if not separator or len(lines) != 3:
            raise ValueError("its head does not have three lines")
        names = [name.strip() for name in lines[1].split(",")]
        slots = dict(zip(names, map(int, lines[2].split()), strict=True))
        rows = [[int(entry) for entry in line.split()] for line in body.splitlines() if line.strip()]
        if lost := {MATRIX, TRANSCENDENTAL, VECTOR, FILL, SPILL} - slots.keys():
            raise ValueError(f"it does not name the unit {sorted(lost)[0]}")
        if any(len(row) != len(names) for row in rows):
            raise ValueError("the number of units differs between bundles")
    except ValueError as error:
        raise _unknown(path, str(error)) from None
    return slots, rows


@dataclass(slots=True)
class _Span:
    """A part as the numbers of its bundles, from `first` up to but not including `last`."""

    kind: Literal["kernel", "loop", "branch"]
    first: int
    last: int
    inner: list[_Span]
    trips: int | None = None
    is_pipelined: bool = False


def _structure(path: Path, count: int) -> _Span:
    """The loops and branches in a listing of bundles, nested."""
    texts = _bundles(path)
    if len(texts) != count:
        raise _unknown(path, f"it lists {len(texts)} bundles, and the utilization has {count}")
    regions: dict[int, int] = {}  # a region: the bundle that begins it, where a branch to the region goes
    for number, (_, _, text) in enumerate(texts):
        for region in re.findall(r"(?:Start|empty) region (\d+)", text):
            regions.setdefault(int(region), number)
    # If the last bundle begins an empty region, its text only says that the kernel ends there.
    unnamed = count - 1 if texts and "/* exit bundle" in texts[-1][2] else -1
    spans: list[_Span] = []
    for number, (_, _, text) in enumerate(texts):
        for match in _BRANCH.finditer(text):
            target = int(match["number"]) if match["number"] else regions.get(int(match["region"]), unnamed)
            if not 0 <= target < count:
                raise _unknown(path, f"bundle {number} branches to nowhere")
            if target > number:
                spans.append(_Span("branch", number + 1, target, []))
            else:
                spans.append(_loop(texts, target, number))
    return _nested(path, count, spans)


def _loop(texts: Sequence[tuple[str, int, str]], first: int, branch: int) -> _Span:
    """The loop from its head to the bundles in the delay of its last branch, which the listing counts as part of it."""
    depth, last = texts[first][1], branch + 1
    while last < len(texts) and texts[last][1] >= depth and texts[last][0] not in ("LB", "PF"):
        last += 1
    inside = "".join(text for _, level, text in texts[first:last] if level == depth)
    exits = _EXIT.findall(inside)
    if len(exits) != 1:
        return _Span("loop", first, last, [])
    index, trips = exits[0]
    counted = re.search(rf"{index} = sadd\.s32 [^;]*iteration index, stage", inside)
    return _Span("loop", first, last, [], int(trips), counted is not None)


def _nested(path: Path, count: int, spans: Sequence[_Span]) -> _Span:
    whole = _Span("kernel", 0, count, [])
    stack = [whole]
    for span in sorted(spans, key=lambda span: (span.first, -span.last, span.kind != "loop")):
        while span.first >= stack[-1].last:
            stack.pop()
        if span.last > stack[-1].last:
            if span.kind == "loop":
                raise _unknown(path, f"the loop at bundle {span.first} extends beyond the part around it")
            span.last = stack[-1].last  # a jump out of the part skips the rest of it
        stack[-1].inner.append(span)
        stack.append(span)
    return whole


def _bundles(path: Path) -> list[tuple[str, int, str]]:
    """The (marker, loop depth, text) of every bundle; a bundle's comments may span several lines."""
    bundles: list[tuple[str, int, str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        head = _BUNDLE.match(line)
        if head and int(head[1], 16) == len(bundles):
            bundles.append((head[2] or "", len(head[3]), line))
        elif head and bundles:
            raise _unknown(path, f"bundle {head[1]} follows {len(bundles) - 1:#x}")
        elif bundles:
            marker, depth, text = bundles[-1]
            bundles[-1] = (marker, depth, text + line)
    return bundles


def _joined(issued: _Span, placed: _Span, used: Sequence[Sequence[int]], units: Sequence[str], path: Path) -> Part:
    """The part that two listings describe, one in bundles and one in cycles; both nest alike."""
    if issued.kind != placed.kind or len(issued.inner) != len(placed.inner):
        raise _unknown(path, f"its parts at bundle {issued.first} differ from those of the other listing")
    rows = used[issued.first : issued.last]
    totals = [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * len(units)
    inner = tuple(_joined(one, other, used, units, path) for one, other in zip(issued.inner, placed.inner, strict=True))
    sums = dict(zip(units, totals, strict=True))
    size, cycles = issued.last - issued.first, placed.last - placed.first
    return Part(issued.kind, size, cycles, sums, inner, issued.trips, issued.is_pipelined)


def _unknown(path: Path, problem: str) -> RopegenError:
    return RopegenError(
        f"the compiler's listing {path.name} has an unknown form: {problem}; ropegen reads schedules as libtpu 0.0.52 "
        "writes them: `pip install libtpu==0.0.52`"
    )
