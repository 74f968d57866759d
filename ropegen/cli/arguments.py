"""What verbs share: the description of a verb, the arguments that several take, and the values that they stand for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ropegen import models
from ropegen.errors import RopegenError
from ropegen.ir import text
from ropegen.ir.graph import Graph
from ropegen.plans import TableKind

# The options that describe the graph of a config.json.
CONFIG_OPTIONS = (
    "batch", "seq", "dtype", "phase", "layer", "layers", "start", "residual", "inputs", "capacity", "vocabulary"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of `ropegen`."""

    name: str
    what: str
    """One line for the help."""
    example: str
    """A command line that works in a folder with a config.json and a graph.mlir."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Does the work and returns the exit code."""


def add_graph(
    parser: argparse.ArgumentParser, what: str = "a graph (.mlir), a model's config.json, or - for stdin"
) -> None:
    """GRAPH, and the options for a config.json; `graph` reads them."""
    parser.add_argument("graph", metavar="GRAPH", help=what)
    group = parser.add_argument_group("for a config.json")
    group.add_argument("--batch", type=int, help="sequences at once (default: 1)")
    group.add_argument("--seq", type=int, help="tokens per sequence (default: 2048, or 1 in decode)")
    group.add_argument("--dtype", help="bf16, f16, f32 or f64 (default: bf16)")
    group.add_argument(
        "--phase", choices=models.PHASES, help="the whole prompt, or steps over a cache (default: prefill)"
    )
    group.add_argument("--layer", metavar="N", help="which layer's attention, or all of them (default: 0)")
    group.add_argument("--layers", metavar="N,N-N", help="several layers; equal ones are built once")
    group.add_argument(
        "--start",
        choices=models.STARTS,
        help="with the embedding, or with what the layer before computed (default: ids)",
    )
    group.add_argument(
        "--residual", action="store_const", const=True, help="also return the value that the layer adds its result to"
    )
    group.add_argument(
        "--inputs",
        metavar="WORD,...",
        help="what a prompt tells about its tokens: lengths, padding, positions or segments",
    )
    group.add_argument("--capacity", type=int, help="rows of the cache; a prompt writes into it too")
    group.add_argument("--vocabulary", type=int, help="rows of the embedding, fewer than the model's")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """The options of a plan; `planning.plan` reads them."""
    add_tile(parser)
    parser.add_argument(
        "--tiles", metavar="FILE", help="tiles that `ropegen tune` found, for the target that it was given"
    )
    parser.add_argument(
        "--tables",
        choices=get_args(TableKind),
        help="where the cosines and sines of known positions come from (default: by their bytes)",
    )


def add_tile(parser: argparse.ArgumentParser) -> None:
    """--tile; `tile` reads it."""
    parser.add_argument(
        "--tile",
        action="append",
        default=[],
        metavar="TEMPLATE:NAME=SIZE,...",
        help="fix a tile, e.g. attend/xla:q=256,kv=512; repeatable",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def read(name: str, wanted: str) -> bytes:
    """The content of the file that an argument names; `wanted` says what may be in it.

    Raises:
      RopegenError: it cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        inside = [entry for entry in ("graph.mlir", "config.json") if (path / entry).is_file()]
        raise RopegenError(f"{name} is a directory; give {path / inside[0] if inside else wanted}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RopegenError(f"cannot read {name}: {error.strerror or error}; give {wanted}") from error


def tile(given: Sequence[str]) -> dict[str, dict[str, int]]:
    """The sizes that --tile gives, by template.

    Raises:
      RopegenError: a word that is not of the form TEMPLATE:NAME=SIZE,..., or one template twice.
    """
    tiles: dict[str, dict[str, int]] = {}
    for word in given:
        name, _, sizes = word.partition(":")
        if name in tiles:
            raise RopegenError(f"--tile is given twice for {name}; give it once")
        try:
            pairs = [pair.split("=") for pair in sizes.split(",")]
            tiles[name] = {label: int(size) for label, size in pairs}
        except ValueError:
            raise RopegenError(
                f"--tile {word!r} is not TEMPLATE:NAME=SIZE,...; write e.g. attend/xla:q=256,kv=512"
            ) from None
    return tiles


def graph(options: argparse.Namespace) -> Graph:
    """The one graph of the GRAPH argument: the text form, or a config, which starts with a brace.

    Raises:
      RopegenError: the content is neither, options for a config.json are given with a graph, or several layers are asked
        for.
    """
    made = graphs(options)
    if options.layers is not None or options.layer == "all":
        raise RopegenError(
            "--layers and --layer all give several graphs, which build and explain take; give one, such as --layer 0"
        )
    return made[0].graph


@dataclass(frozen=True, slots=True)
class Layers:
    """A graph, and the layers of a model that have it; none for a graph that was given as such."""

    graph: Graph
    layers: tuple[int, ...] = ()


def graphs(options: argparse.Namespace) -> list[Layers]:
    """The graphs of the GRAPH argument, each one once: one, or with --layers and --layer all those of several layers.

    Raises:
      RopegenError: the content is neither text nor a config, or options for a config.json are given with a graph.
    """
    if options.graph == "-":
        content, source = sys.stdin.buffer.read(), "<stdin>"
    else:
        content, source = read(options.graph, "a .mlir graph or a config.json"), options.graph
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RopegenError(
            f"{source} is not text: byte {error.start} is not UTF-8; give a .mlir graph or a config.json"
        ) from error
    given = {name: getattr(options, name) for name in CONFIG_OPTIONS if getattr(options, name) is not None}
    if not decoded.lstrip().startswith(("{", "[")) and not source.endswith(".json"):
        if not decoded.strip():
            raise RopegenError(f"{source} is empty; give a .mlir graph or a config.json")
        if given:
            raise RopegenError(
                f"--{next(iter(given))} is for a config.json, and {source} is a graph, whose shapes are fixed"
            )
        return [Layers(text.loads(decoded, source))]
    case = _case(decoded, source, given)
    build = case["build"]
    if not isinstance(build, dict) or (options.layers is None and build.get("layer") != "all"):
        return [Layers(models.from_case(case))]
    wanted = _layers(options, models.layer_count(case["config"]))
    made = {layer: models.from_case({**case, "build": {**build, "layer": layer}}) for layer in wanted}
    alike: dict[object, list[int]] = {}
    for layer, each in made.items():  # layers of one kind differ in the name of their graph alone
        alike.setdefault((each.inputs, each.outputs), []).append(layer)
    return [Layers(made[layers[0]], tuple(layers)) for layers in alike.values()]


def _layers(options: argparse.Namespace, count: int) -> list[int]:
    """The layers that --layers or --layer all name.

    Raises:
      RopegenError: a word is no layer and no range of layers.
    """
    if options.layers is None:
        return list(range(count))
    named: dict[int, None] = {}
    for word in options.layers.split(","):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RopegenError(f"--layers {options.layers!r} names layers as in 0,5,8-11; {word!r} is none")
        named |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return list(named)


def _case(decoded: str, source: str, given: dict[str, Any]) -> dict[str, Any]:
    """A case as it is, or a bare config as a case. Options of the command line override those of the case."""
    try:
        described: Any = json.loads(decoded)
    except (ValueError, RecursionError) as error:  # also a number with more digits than Python reads
        raise RopegenError(f"{source} is not JSON: {error}; give a .mlir graph or a config.json") from error
    if not isinstance(described, dict):
        raise RopegenError(f"{source} is JSON, but no config: it holds no fields; give a model's config.json")
    case: dict[str, Any] = described if "config" in described else {"config": described}
    own = case.get("build", {})
    if not isinstance(own, dict):
        return {**case, "build": own}
    given.pop("layers", None)
    if "layer" in given and given["layer"] != "all":
        if not given["layer"].isdecimal():
            raise RopegenError(f"--layer is {given['layer']!r}; give the number of a layer, from 0, or all")
        given["layer"] = int(given["layer"])
    if "inputs" in given:
        given["inputs"] = given["inputs"].split(",")
    return {**case, "build": {**own, **given}}
