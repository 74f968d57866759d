"""Measured tiles: the fastest tile of a region, with the chip, the cores and the compiler that it was measured with.

A clock measured it, or it is the fastest by what the compiler made of it: the evidence of an entry says which.

A tile file is JSON. ropegen ships one for each chip that was measured; `ropegen tune` writes one for your own shapes:

    {"format": "ropegen.tiles/1", "measured": [
      {"chip": "cpu", "cores": 2, "dtype": "bf16", "compiler": {"jaxlib": "0.10.2"},
       "template": "attend/xla", "template_version": 1, "region": "<SHA-256 of the closed region>",
       "what": "forward 8x2x128 bf16 causal 512", "tile": {"q": 256, "kv": 512}, "evidence": {"candidates": 3}}
    ]}

A plan takes an entry only for the same chip and number of cores, the same region, and the same version of the template.
If the version differs, it ignores an entry that ropegen ships, and refuses an entry of the caller's file. It also refuses a
caller's entry for a template that is not installed, and a tile with a size beyond the largest that the template offers
for the region.

A file can hold entries of several versions of a compiler for a region. A plan takes those of the newest version and says
which one it was, so a plan does not depend on the packages that are installed where it is made. `load` can read the entries
of one version alone. If another version of the compiler is installed where the plan is compiled, `Compiled` warns.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ropegen.errors import RopegenError, nearest
from ropegen.ir.graph import Graph
from ropegen.ir.text import digest
from ropegen.target import Target
from ropegen.template import AnyTemplate, Tile, catalog, family

Positive = Annotated[int, msgspec.Meta(ge=1)]
# A release such as 0.10.2, and what may follow it: 0.0.53.dev20261101, 1.0rc1, 0.11.0+local.
Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)*([.+a-z-].*)?$")]

# What can precede a release, in order.
_BEFORE_RELEASE = ("dev", "a", "b", "rc")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One measurement, as it stands in a tile file."""

    chip: str
    """The target without cores: cpu, cpu:amx, gpu:h200, tpu:v5e."""
    cores: Positive | None = None
    """Cores of a CPU; an accelerator's entry has none."""
    dtype: str
    """The element type of the region's first output."""
    compiler: Annotated[dict[str, Version], msgspec.Meta(min_length=1, max_length=1)]
    """The package that compiled what was measured, and its version."""
    template: str
    template_version: Positive
    region: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """The digest of the closed region."""
    what: str
    """The region in words."""
    tile: dict[str, Positive]
    evidence: dict[str, int | float | str]
    """What was measured, for readers. With "estimated", no clock ran; the words of a plan say so, and nothing else uses it."""

    @property
    def is_estimated(self) -> bool:
        """Whether `ropegen tune` compared the machine code of kernels, and no clock ran."""
        return "estimated" in self.evidence

    @property
    def target(self) -> Target:
        """The chip and cores that it was measured on.

        Raises:
          RopegenError: an unknown chip; a CPU without cores, an accelerator with cores, or the compiler of another chip.
        """
        platform, _, kind = self.chip.partition(":")
        if (platform == "cpu") != (self.cores is not None):
            raise RopegenError(f"{self.chip} with cores {self.cores}; the cores of a CPU must be given, and no others")
        name = ":".join(filter(None, ("cpu", str(self.cores), kind))) if platform == "cpu" else self.chip
        target = Target.parse(name)
        ((package, _),) = self.compiler.items()
        if package != compiler_of(target):
            raise RopegenError(f"the compiler is {package}, and {compiler_of(target)} compiles for {self.chip}")
        return target

    @property
    def compiled_by(self) -> str:
        """The compiler in words, such as `jaxlib 0.10.2`."""
        ((package, version),) = self.compiler.items()
        return f"{package} {version}"

    @property
    def age(self) -> tuple[tuple[int, ...], int, tuple[int, ...], str]:
        """Orders entries by the version of their compiler, the newest last; a release comes after what led up to it."""
        ((_, version),) = self.compiler.items()
        release = re.match(r"[0-9]+(\.[0-9]+)*", version)
        assert release is not None, "the pattern of a version begins with a release"
        rest = version[release.end() :]
        stage = re.match(r"[.-]?(dev|a|b|rc)", rest)
        rank = len(_BEFORE_RELEASE) if stage is None else _BEFORE_RELEASE.index(stage[1])
        return _numbers(release[0]), rank, _numbers(rest), rest


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall("[0-9]+", text)))


class _Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["ropegen.tiles/1"]
    measured: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class MeasuredTile:
    """The tile that a plan takes for a region and a template."""

    tile: Tile
    source: str
    """In words: where it comes from, and which compiler it was measured with."""
    package: str
    """The package of that compiler: jaxlib or libtpu."""
    version: str
    is_estimated: bool
    """Whether the machine code decided, and no clock."""
    from_file: bool
    """Whether it comes from the caller's file. Such an entry decides the template too: `ropegen tune` times all of
    them, or leaves the choice between them to the cost model where it has no clock.
    """


@dataclass(frozen=True, slots=True)
class TileFile:
    """The entries of a tile file; `name` is what messages call it."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def content(self) -> bytes:
        """The file as bytes; equal entries give equal bytes."""
        return dump(self.entries)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets that it has entries for, in the order of the file."""
        return tuple(dict.fromkeys(entry.target for entry in self.entries))

    def for_some_of(self, targets: Iterable[Target]) -> tuple[Target, ...]:
        """Those of `targets` that it has entries for.

        Raises:
          RopegenError: there are none.
        """
        targets = tuple(targets)
        covered = tuple(target for target in targets if target in self.targets)
        if not covered:
            raise RopegenError(
                f"{self.name} holds tiles for {', '.join(map(str, self.targets)) or 'no target'}, and none for "
                f"{', '.join(map(str, targets))}: a tile counts only on the chip and the number of cores that it was "
                "measured on; run `ropegen tune` there, or leave the file out"
            )
        return covered


class Measured:
    """The measured tiles of one target: those of the caller's file first, then those that ropegen ships.

    Raises:
      RopegenError: the caller's file has a tile of a template that is not installed.
    """

    def __init__(self, target: Target, file: TileFile | None = None) -> None:
        self._target = target
        self._own = file
        files = [tiles for tiles in (_shipped(target), file) if tiles is not None]  # a later file replaces entries
        self._entries = {
            (entry.template, entry.region): (tiles, entry)
            for tiles in files
            for entry in _newest(tiles.entries, target)
        }
        if file is not None:
            _expect_templates(file, target)

    def look_up(self, template: AnyTemplate, closed: Graph) -> MeasuredTile | None:
        """The measured tile of a template for a closed region; None if there is none.

        Raises:
          RopegenError: the entry is of another version of the template, or does not fit the template or the region.
        """
        if not self._entries or (key := (str(template), digest(closed))) not in self._entries:
            return None
        file, entry = self._entries[key]
        what = f"{file.name}: the tile of {template} for {entry.what!r}"
        again = "run `ropegen tune` again with the same file, or remove the entry"
        if entry.template_version != template.version:
            if file is not self._own:
                return None  # the tests allow no such entry in a release
            raise RopegenError(
                f"{what} was measured with version {entry.template_version} of the template, and version "
                f"{template.version} is installed; {again}"
            )
        if set(entry.tile) != set(template.tile):
            raise RopegenError(f"{what} is {entry.tile}, and it must have {', '.join(template.tile)}; {again}")
        dtype = closed.outputs[0][1].type.dtype
        if entry.dtype != dtype:
            raise RopegenError(f"{what} says {entry.dtype}, and the region computes {dtype}; {again}")
        if file is self._own:
            offered = [tile.sizes for tile in template.tiles(family(closed.name).site(closed), self._target)]
            for name, size in entry.tile.items():
                most = max((dict(sizes)[name] for sizes in offered), default=size)
                if size > most:
                    raise RopegenError(f"{what} has {name}={size}, and the template offers {most} at most; {again}")
        ((package, version),) = entry.compiler.items()
        source = "the tile file" if file is self._own else "the measured table"
        return MeasuredTile(
            Tile.of(**{name: entry.tile[name] for name in template.tile}),
            f"{source}, {'by the machine code and no clock, ' if entry.is_estimated else ''}{entry.compiled_by}",
            package,
            version,
            entry.is_estimated,
            file is self._own,
        )


def expect_tile_file(call: str, given: object) -> None:
    """Raises a RopegenError unless `given` is a tile file; the message begins with the name of the call."""
    if not isinstance(given, TileFile):
        raise RopegenError(f"{call}: measured is {given!r:.60}; give ropegen.load_tiles(PATH)")


def load(path: str | PathLike[str], compiler: str | None = None) -> TileFile:
    """The tile file of a path, such as `ropegen tune -o FILE` wrote it.

    With `compiler`, such as "jaxlib 0.10.2", only the entries of that version of the compiler are read.

    Raises:
      RopegenError: the file does not exist, or is not a tile file; the message names the field. Or it has no entry of
        `compiler`.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise RopegenError(
            f"cannot read the tile file {path}: {error.strerror or error}; give a file that `ropegen tune -o FILE` wrote"
        ) from error
    file = parse(raw, str(path))
    if compiler is None:
        return file
    entries = tuple(entry for entry in file.entries if entry.compiled_by == compiler)
    if not entries:
        hint = nearest(str(compiler), {entry.compiled_by for entry in file.entries})
        raise RopegenError(f"{path} has no tile that was measured with the compiler {compiler!r:.60}; {hint}")
    return TileFile(file.name, entries)


def parse(raw: bytes, name: str) -> TileFile:
    """The tile file that some bytes hold; `name` is what messages call it.

    Raises:
      RopegenError: they are not a tile file; the message names the field.
    """
    again = "make it again with `ropegen tune`"
    try:
        content = msgspec.json.decode(raw, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RopegenError(f"{name} is no tile file: {error}; {again}") from error
    seen: set[tuple[Target, str, str, str]] = set()
    for index, entry in enumerate(content.measured):
        try:
            key = (entry.target, entry.template, entry.region, entry.compiled_by)
        except RopegenError as error:
            raise RopegenError(f"{name} is no tile file: entry {index}: {error}; {again}") from error
        if key in seen:
            raise RopegenError(
                f"{name} holds two tiles of {entry.template} for {entry.what!r} on {entry.target} with "
                f"{entry.compiled_by}; remove one of them"
            )
        seen.add(key)
    return TileFile(name, content.measured)


def dump(entries: Iterable[Entry]) -> bytes:
    """A tile file with these entries, one entry a line."""
    lines = b",\n".join(b"  " + msgspec.json.encode(entry) for entry in entries)
    return b'{"format": "ropegen.tiles/1", "measured": [\n' + lines + b"\n]}\n"


def shipped_name(target: Target) -> str:
    """The name of the file in this folder that has the tiles of a chip."""
    return f"{chip_of(target).replace(':', '-')}.json"


def chip_of(target: Target) -> str:
    """The target without its cores, as entries name it."""
    if target.platform == "cpu":
        return "cpu" if target.chip == "generic" else f"cpu:{target.chip}"
    return f"{target.platform}:{target.chip}"


def compiler_of(target: Target) -> str:
    """The package that compiles for a target: libtpu for TPU, else jaxlib."""
    return "libtpu" if target.platform == "tpu" else "jaxlib"


def other_compiler(tile: MeasuredTile) -> str:
    """What is installed here in place of the compiler that a tile was measured with; empty if it is the same, or if
    none is installed.
    """
    try:
        version = importlib.metadata.version(tile.package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return "" if version == tile.version else f"{tile.package} {version}"


def _newest(entries: Iterable[Entry], target: Target) -> list[Entry]:
    """The entries for a target. Of a region, only those of the newest compiler that any template was measured with."""
    by_region: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.target == target:
            by_region.setdefault(entry.region, []).append(entry)
    newest = {region: max(entry.age for entry in those) for region, those in by_region.items()}
    return [entry for region, those in by_region.items() for entry in those if entry.age == newest[region]]


def _expect_templates(file: TileFile, target: Target) -> None:
    known = [str(template) for template in catalog()]
    for entry in file.entries:
        if entry.target == target and entry.template not in known:
            raise RopegenError(
                f"{file.name} has a tile of the template {entry.template!r} for {entry.what!r}, which is not installed "
                f"({nearest(entry.template, known)}); install the package that registers it, or remove the entry"
            )


def _shipped(target: Target) -> TileFile | None:
    name = shipped_name(target)
    file = resources.files("ropegen.tiles") / name
    return parse(file.read_bytes(), f"ropegen/tiles/{name}") if file.is_file() else None
