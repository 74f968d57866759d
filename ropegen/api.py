"""The compiler for graphs: from a file or a config to a graph, to an artifact, and back from its directory."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

from jax.sharding import NamedSharding

from ropegen import models, tiles
from ropegen.arguments import flag_of, path_of
from ropegen.emit import artifact, mesh
from ropegen.errors import RopegenError
from ropegen.ir import text
from ropegen.ir.graph import Graph, expect_graph
from ropegen.plain_call import parse_targets
from ropegen.planner import plan
from ropegen.plans import TableKind, Tiles
from ropegen.target import Target, one_or_several
from ropegen.tiles import TileFile, expect_tile_file


def load_graph(path: str | PathLike[str]) -> Graph:
    """The graph of a file in the text form.

    Raises:
      RopegenError: the file does not exist, or does not contain a graph; the message shows the line.
    """
    return text.load(path_of("load_graph: path", path, "the text of the graph is"))


def load_tiles(path: str | PathLike[str], compiler: str | None = None) -> TileFile:
    """The measured tiles of a file that `ropegen tune` wrote, for `plan` and `export`.

    The file may hold tiles that several versions of a compiler were measured with. A plan then takes those of the newest
    version for a region. With `compiler`, such as "jaxlib 0.10.2", only the tiles of that version are read.

    Raises:
      RopegenError: the file does not exist, or is no tile file; the message names the field. Or it has no tile of
        `compiler`.
    """
    return tiles.load(path_of("load_tiles: path", path, "`ropegen tune -o` wrote the tiles"), compiler)


def from_hf(
    config: object,
    *,
    batch: int = 1,
    seq: int | None = None,
    dtype: str = "bf16",
    phase: str = "prefill",
    **options: Any,
) -> Graph:
    """The attention front-end of a Hugging Face config; see `ropegen.models.from_hf` for the other options."""
    return models.from_hf(config, batch=batch, seq=seq, dtype=dtype, phase=phase, **options)


def export(
    graph: Graph,
    directory: str | PathLike[str],
    *,
    targets: str | Target | Iterable[str | Target],
    tile: Tiles | None = None,
    tables: TableKind | None = None,
    measured: TileFile | None = None,
    ahead_of_time: bool = False,
    libtpu: str | PathLike[str] | None = None,
    source: bool = False,
    grad: bool = False,
    sharding: NamedSharding | None = None,
    stable_only: bool = False,
) -> artifact.Artifact:
    """Writes the artifact of a graph, with a plan for every target, into a directory, and loads it. See `plan`.

    `targets` is one target or several, at most one for a platform.

    With `ahead_of_time` the artifact also has a device executable for every TPU and GPU chip among the targets, and there
    may be several such chips. The report then describes their kernels. This needs no TPU and no GPU, but their compilers:
    libtpu, from this environment or from the folder `libtpu` that `pip install --target` filled, and the packages of
    `pip install "jax[cuda13]" nvidia-cuda-nvdisasm`. For every CPU whose vector unit is
    named, such as "cpu:avx2", the artifact has the native kernels as object files, made on any machine; see `load`.

    With `source` the artifact also has the code of the native kernels for readers, as LLVM's text form and as assembly.

    With `grad` the artifact also has the gradient of a call, for every platform: `jax.grad` and `jax.vjp` then take the
    loaded artifact, under `jit` too. The plans weigh both directions. The backward pass computes the outputs again, as
    under `jax.checkpoint`.

    `measured` serves the targets for which it has tiles. The artifact contains the file as `tiles.json`.

    `sharding` makes an artifact for several devices, which need not be there: a NamedSharding over a jax.sharding.Mesh or
    AbstractMesh, with a PartitionSpec over (batch, ..., sequence, heads); see `Plan.compile`.

    With `stable_only`, the modules have no custom call without a promise of compatibility by jax.export. Otherwise, those of
    `attend/cudnn` may be among them, and the manifest says so. An artifact for several devices never has such calls.

    Raises:
      RopegenError: two targets of one platform, a directory that contains something else, no compiler to compile with,
        `libtpu` without `ahead_of_time`, no native kernels to compile or to write, `grad` with `sharding` or for a graph
        without floating inputs or outputs, or a tile file without tiles for any of the targets.
    """
    expect_graph("export", graph)
    if measured is not None:
        expect_tile_file("export", measured)
    folder = path_of("export: directory", directory, "the artifact goes")
    compiler = None if libtpu is None else path_of("export: libtpu", libtpu, "`pip install --target DIR libtpu` put it")
    if not flag_of("export: ahead_of_time", ahead_of_time) and compiler is not None:
        raise RopegenError(
            f"export: libtpu is {str(compiler)!r}, which is the compiler for ahead_of_time=True; give that too, or leave "
            "libtpu out"
        )
    wanted = parse_artifact_targets(targets, ahead_of_time)
    if not wanted:
        raise RopegenError('export: targets is empty; name at least one, such as "cpu"')
    tuned = measured.for_some_of(wanted) if measured is not None else ()
    weigh = artifact.weighed(flag_of("export: grad", grad))
    stable = flag_of("export: stable_only", stable_only) or sharding is not None
    files = [measured if target in tuned else None for target in wanted]
    plans = [
        plan(graph, target, tile=tile, tables=tables, weigh=weigh, measured=file, stable_only=stable)
        for target, file in zip(wanted, files, strict=True)
    ]
    content = measured.content if measured is not None else None
    split = None if sharding is None else mesh.split_for("export", graph, sharding, {})
    return artifact.export(
        plans,
        folder,
        ahead_of_time=ahead_of_time,
        libtpu=compiler,
        source=flag_of("export: source", source),
        grad=grad,
        tiles=content,
        split=split,
    )


def load(
    directory: str | PathLike[str], *, allow: Iterable[str] = (), keys: artifact.Keys = None, objects: bool = False
) -> artifact.Artifact:
    """The artifact in a directory. No code of the model is needed.

    Loading trusts no file: hashes, schema, graph and programs are held against each other, and damaged bytecode is met
    by another process. But hashes do not say who made an artifact, and a program computes what its maker wants; the page
    docs/trust.md says what that means. A program may use the custom calls that ropegen's templates emit, and those named
    in `allow`, such as ("my_call",). With `keys`, one or several files with public keys of Ed25519, an artifact that
    none of them signed is refused; see `ropegen sign`.

    If the plan for CPU has native kernels, they are compiled here when they are first called. With `objects`, those that
    the artifact holds as object files run instead, without compilation. They are machine code and can do whatever this
    process can do, so give it only for artifacts of people that you trust.

    Raises:
      RopegenError: a file is missing, damaged, foreign or of a newer format; a program has a custom call that is not
        allowed; or no key of `keys` signed the artifact.
    """
    folder = path_of("load: directory", directory, "`export` wrote the artifact")
    return artifact.load(folder, allow=allow, keys=keys, objects=flag_of("load: objects", objects))


def parse_artifact_targets(
    targets: str | Target | Iterable[str | Target], ahead_of_time: bool = False
) -> tuple[Target, ...]:
    """The targets of an artifact, one for a platform; with `ahead_of_time` there may be several TPUs, GPUs and CPUs with units.

    Raises:
      RopegenError: an unknown target, or two of one platform.
    """
    given = one_or_several(targets)
    chips = tuple(map(Target.parse, given))
    modules = [
        name for name, chip in zip(given, chips, strict=True) if not (ahead_of_time and artifact.is_ahead_of_time(chip))
    ]
    parse_targets(modules, ", and an artifact holds one kernel per platform; build one artifact per target")
    return chips
