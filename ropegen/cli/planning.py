"""The plan that the options of a command describe."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence

from ropegen import api, tiles
from ropegen.cli import arguments
from ropegen.cost import Direction
from ropegen.emit import mesh
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.plans import FORWARD, Plan
from ropegen.target import Target
from ropegen.tiles import TileFile


def tile_file(options: argparse.Namespace, targets: Iterable[Target]) -> TileFile | None:
    """The file of --tiles. A target that it has no tiles for is named on stderr.

    Raises:
      RopegenError: the file is not a tile file, or has tiles for none of the targets.
    """
    if not options.tiles:
        return None
    file = tiles.load(options.tiles)
    targets = tuple(targets)
    covered = file.for_some_of(targets)
    for target in targets:
        if target not in covered:
            print(f"note: {file.name} has no tiles for {target}; its plan is made without the file", file=sys.stderr)
    return file


def split(options: argparse.Namespace, graph: Graph) -> mesh.Split | None:
    """How --devices and --sharding split a graph; None without them.

    Raises:
      RopegenError: one of the two is missing, a word is not of the form AXIS=MESH[:SIZE], or no mesh of so many devices
        divides the axes evenly.
    """
    if options.devices is None and options.sharding is None:
        return None
    if options.devices is None or options.sharding is None:
        given, missing = ("devices", "sharding") if options.sharding is None else ("sharding", "devices")
        raise RopegenError(
            f"--{given} is given without --{missing}; give both, e.g. --devices 8 --sharding batch=data,heads=model"
        )
    words = [re.fullmatch(r"(\w+)=(\w+)(?::(\d+))?", word) for word in options.sharding.split(",")]
    asked = [(word[1], word[2], int(word[3]) if word[3] else None) for word in words if word is not None]
    if len(asked) < len(words):
        raise RopegenError(
            f"--sharding {options.sharding!r} is not AXIS=MESH[:SIZE],...; write e.g. batch=data:4,heads=model:2"
        )
    return mesh.split_by_name("build", graph, asked, options.devices)


def plan(
    options: argparse.Namespace,
    graph: Graph,
    target: Target,
    file: TileFile | None,
    weigh: Sequence[Direction] = FORWARD,
    *,
    stable_only: bool = False,
) -> Plan:
    """The plan for one target, with --tile, --tables and --tiles; stderr says if no tile of the file is taken."""
    file = file if file is not None and target in file.targets else None
    tile = arguments.tile(options.tile)
    made = api.plan(
        graph, target, tile=tile, tables=options.tables, weigh=weigh, measured=file, stable_only=stable_only
    )
    chosen = [step.chosen.measured for step in made.steps if step.chosen is not None]
    if file is not None and not any(measured is not None and measured.from_file for measured in chosen):
        print(
            f"note: the plan for {target} takes no tile of {file.name}, which has none for a region of {graph.name}; "
            "`ropegen tune` measures them",
            file=sys.stderr,
        )
    return made
