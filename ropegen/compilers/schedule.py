"""What libtpu says of a kernel: the bundles that it scheduled, which units they use, and how they nest.

A bundle is one VLIW instruction. The compiler places bundles cycle by cycle, then turns runs of empty ones into waits:
so a kernel has *bundles*, which are issued, and *cycles*, which pass at least (memory aside). Per kernel the compiler
writes, under the labels in `LABELS`:

    *-original.txt                                        allocations, with the memory that each is in
    *-packed-bundles-post-ra.txt                          every cycle's bundle, with branches by number
    *-pre-delay_hlo-static-per-bundle-utilization.txt     slots used in each of those
    *-final_hlo-static-per-bundle-utilization.txt         slots used in each bundle that is issued
    *-final_bundles.txt                                   the bundles that are issued

The form is nobody's promise: what reads otherwise than libtpu 0.0.52 writes it is an error that says where.
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
# The program around the kernels, which only starts them.
_AROUND = ("<late-", "TLP")
# Units whose slots are read by name; the compiler knows more.
MATRIX, TRANSCENDENTAL, VECTOR, FILL, SPILL = "MATMUL", "EUP", "VALU", "VLOAD:FILL", "VSTORE:SPILL"
_BUNDLE = re.compile(r"\s*(0x[0-9a-f]+|0) +(LB|LH|LE|PF|PB|CT)?\s*: *(>*) ")
_BRANCH = re.compile(
    r"sbr\.rel (?:\((!?%p\d+)[^)]*\) )?target (?:bundleno = (?P<number>\d+)|= \$region(?P<region>\d+))"
)
_EXIT = re.compile(r"scmp\.ge\.s32\.totalorder (%\w+), (\d+) /\* loop exit test \*/")
_ALLOCATION = re.compile(r"#allocation\d+ \[shape = '[^']*', space=(\w+), size = (0x[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel, a loop of it, or what a branch jumps over; sizes with the inner parts, once each."""

    kind: Literal["kernel", "loop", "branch"]
    bundles: int
    cycles: int
    used: Mapping[str, int]
    """Slots of each unit that the bundles use."""
    inner: tuple[Part, ...] = ()
    trips: int | None = None
    """How often a loop runs, where its exit test compares with a number."""
    is_pipelined: bool = False
    """The loop fetches for its next trip and stores for its last, so it has two trips more than steps."""

    @property
    def own_cycles(self) -> int:
        """The cycles outside the inner parts."""
        return self.cycles - sum(each.cycles for each in self.inner)

    @property
    def own_bundles(self) -> int:
        return self.bundles - sum(each.bundles for each in self.inner)

    @property
    def computes(self) -> bool:
        """Whether it does more than move values."""
        return bool(self.used[VECTOR] or self.used[MATRIX])

    @property
    def multiplies(self) -> bool:
        return bool(self.used[MATRIX])

    @property
    def spills(self) -> int:
        """Vector registers stored to memory for want of registers, and filled again."""
        return self.used[FILL] + self.used[SPILL]

    @property
    def executed(self) -> int:
        """Cycles of one run at most: every branch is taken, loops of unknown length run once."""
        return (self.trips or 1) * (self.own_cycles + sum(each.executed for each in self.inner))

    @property
    def executed_bundles(self) -> int:
        """The same in bundles."""
        return (self.trips or 1) * (self.own_bundles + sum(each.executed_bundles for each in self.inner))

    def walk(self) -> Iterator[Part]:
        """It and every part inside, outermost first."""
        yield self
        for each in self.inner:
            yield from each.walk()


@dataclass(frozen=True, slots=True)
class KernelSchedule:
    """One kernel as it was scheduled."""

    name: str
    slots: Mapping[str, int]
    """The slots of each unit that a bundle has."""
    whole: Part
    vmem: int
    """Bytes of vector memory that it allocates: windows of its operands, scratch, spilled registers."""

    def share(self, unit: str, part: Part | None = None) -> float:
        """The part of a unit's slots that the bundles use."""
        part = part or self.whole
        return part.used[unit] / (self.slots[unit] * part.bundles) if part.bundles else 0.0

    @property
    def grid(self) -> Part | None:
        """The loop over the grid: the outermost pipelined loop, else the only outermost one.

        Where one core of two runs all of it, the loop stands under the question which core this is.
        """
        loops = [each for each in self.whole.inner if each.kind == "loop"]
        if not loops:
            loops = [each for branch in self.whole.inner for each in branch.inner if each.kind == "loop"]
        piped = [each for each in loops if each.is_pipelined]
        return (piped or loops or [None])[0] if len(piped) == 1 or len(loops) == 1 else None

    @property
    def steps(self) -> int | None:
        """The steps of the grid, where they are known."""
        grid = self.grid
        return None if grid is None or grid.trips is None else grid.trips - 2 * grid.is_pipelined

    @property
    def step_parts(self) -> tuple[Part, ...]:
        """What a step computes under a condition of its own, in the kernel's order: each `pl.when` that is not tiny."""
        return tuple(_branches(self.grid or self.whole))


def _branches(part: Part) -> Iterator[Part]:
    """The innermost branches that compute; the one around all of a step's work is looked into."""
    for each in part.inner:
        if each.kind == "branch" and each.computes:
            nested = [one for one in each.inner if one.kind == "branch" and one.computes]
            if nested:
                yield from _branches(each)
            else:
                yield each


def read_schedules(folder: Path) -> tuple[KernelSchedule, ...]:
    """The schedule of every kernel whose files are in a folder, in the order of their compilation.

    Raises:
      RopegenError: a file is missing or in an unknown form.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        found = _FILE.fullmatch(path.name)
        if found and not found["kernel"].startswith(_AROUND):
            files.setdefault(found["kernel"], {})[found["label"]] = path
    return tuple(_kernel(name, paths) for name, paths in files.items())


def _kernel(name: str, paths: Mapping[str, Path]) -> KernelSchedule:
    labels = ("original", "packed-bundles-post-ra", "pre-delay_hlo-static-per-bundle-utilization",
              "final_hlo-static-per-bundle-utilization", "final_bundles")  # fmt: skip
    missing = [each for each in labels if each not in paths]
    if missing:
        raise RopegenError(
            f"libtpu wrote no {missing[0]} of the kernel {name}; schedules are read as libtpu 0.0.52 writes them"
        )
    original, placed, placed_use, issued_use, issued = (paths[each] for each in labels)
    slots, every_cycle = _utilization(placed_use)
    _, every_bundle = _utilization(issued_use)
    cycles = _structure(placed, len(every_cycle))
    bundles = _structure(issued, len(every_bundle))
    whole = _joined(bundles, cycles, every_bundle, list(slots), issued)
    spaces = _ALLOCATION.findall(original.read_text(encoding="utf-8", errors="replace"))
    return KernelSchedule(name, slots, whole, sum(int(size, 16) for space, size in spaces if space == "vmem"))


def _utilization(path: Path) -> tuple[dict[str, int], list[list[int]]]:
    """The slots of each unit, and those used in each bundle."""
    head, separator, body = path.read_text(encoding="utf-8").partition("== UTILIZATION:")
    lines = [line for line in head.splitlines() if line.strip()]
    try:
        if not separator or len(lines) != 3:
            raise ValueError("it has no head of three lines")
        names = [each.strip() for each in lines[1].split(",")]
        slots = dict(zip(names, map(int, lines[2].split()), strict=True))
        rows = [[int(each) for each in line.split()] for line in body.splitlines() if line.strip()]
        if lost := {MATRIX, TRANSCENDENTAL, VECTOR, FILL, SPILL} - slots.keys():
            raise ValueError(f"it names no unit {sorted(lost)[0]}")
        if any(len(row) != len(names) for row in rows):
            raise ValueError("a bundle has another number of units")
    except ValueError as error:
        raise _unknown(path, str(error)) from None
    return slots, rows


@dataclass(slots=True)
class _Span:
    """A part by the numbers of its bundles, the last exclusive."""

    kind: Literal["kernel", "loop", "branch"]
    first: int
    last: int
    inner: list[_Span]
    trips: int | None = None
    is_pipelined: bool = False


def _structure(path: Path, count: int) -> _Span:
    """Loops and branches of a listing of bundles, nested."""
    texts = _bundles(path)
    if len(texts) != count:
        raise _unknown(path, f"it lists {len(texts)} bundles, and the utilization has {count}")
    regions: dict[int, int] = {}  # where a branch by region goes: to the bundle that begins it
    for number, (_, _, text) in enumerate(texts):
        for region in re.findall(r"(?:Start|empty) region (\d+)", text):
            regions.setdefault(int(region), number)
    # Where the last bundle begins an empty region, it says instead that the kernel ends there.
    unnamed = count - 1 if texts and "/* exit bundle" in texts[-1][2] else -1
    spans: list[_Span] = []
    for number, (_, _, text) in enumerate(texts):
        for found in _BRANCH.finditer(text):
            target = int(found["number"]) if found["number"] else regions.get(int(found["region"]), unnamed)
            if not 0 <= target < count:
                raise _unknown(path, f"bundle {number} branches to nowhere")
            if target > number:
                spans.append(_Span("branch", number + 1, target, []))
            else:
                spans.append(_loop(texts, target, number))
    return _nested(path, count, spans)


def _loop(texts: Sequence[tuple[str, int, str]], first: int, branch: int) -> _Span:
    """A loop from its head to the bundles in its last branch's delay, which the listing still counts to it."""
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
    for each in sorted(spans, key=lambda span: (span.first, -span.last, span.kind != "loop")):
        while each.first >= stack[-1].last:
            stack.pop()
        if each.last > stack[-1].last:
            if each.kind == "loop":
                raise _unknown(path, f"the loop at bundle {each.first} leaves the part that it is in")
            each.last = stack[-1].last  # a jump out of the part: the rest of it is skipped
        stack[-1].inner.append(each)
        stack.append(each)
    return whole


def _bundles(path: Path) -> list[tuple[str, int, str]]:
    """(marker, depth of loops, text) of each bundle; a bundle's comments may run over lines."""
    found: list[tuple[str, int, str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        head = _BUNDLE.match(line)
        if head and int(head[1], 16) == len(found):
            found.append((head[2] or "", len(head[3]), line))
        elif head and found:
            raise _unknown(path, f"bundle {head[1]} follows {len(found) - 1:#x}")
        elif found:
            marker, depth, text = found[-1]
            found[-1] = (marker, depth, text + line)
    return found


def _joined(issued: _Span, placed: _Span, used: Sequence[Sequence[int]], units: Sequence[str], path: Path) -> Part:
    """A part from its two listings: they nest alike, one in bundles and one in cycles."""
    if issued.kind != placed.kind or len(issued.inner) != len(placed.inner):
        raise _unknown(path, f"its parts at bundle {issued.first} are not those before the waits")
    rows = used[issued.first : issued.last]
    totals = [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * len(units)
    inner = tuple(_joined(one, other, used, units, path) for one, other in zip(issued.inner, placed.inner, strict=True))
    sums = dict(zip(units, totals, strict=True))
    size, cycles = issued.last - issued.first, placed.last - placed.first
    return Part(issued.kind, size, cycles, sums, inner, issued.trips, issued.is_pipelined)


def _unknown(path: Path, problem: str) -> RopegenError:
    return RopegenError(
        f"the compiler's listing {path.name} has an unknown form: {problem}; schedules are read as libtpu 0.0.52 writes "
        "them: `pip install libtpu==0.0.52`"
    )
