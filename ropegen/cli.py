"""The command line: one function a verb. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 a check failed, 2 a usage error or input that cannot be used.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
import secrets
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ropegen import api, bench, explain, masks, models, passes, scaling
from ropegen.emit import artifact
from ropegen.emit.callable import Compiled
from ropegen.emit.module.replace import replace_composites
from ropegen.errors import RopegenError, nearest
from ropegen.ir import spec, text
from ropegen.ir.graph import Graph
from ropegen.planner import TableKind
from ropegen.target import Target, known
from ropegen.template import catalog

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

# Tables that go to a file or a program are as wide as they need to be, whatever the width of somebody's terminal.
_PLAIN_WIDTH = 10_000
# The stage before every pass, as in `ropegen.ir.spec.STAGES`.
_SOURCE = "source"
_BUILD_OPTIONS = ("batch", "seq", "dtype", "phase", "layer", "capacity", "vocabulary")

_EXAMPLES = """
examples:
  ropegen build config.json --target cpu --target gpu:h200 --target tpu:v5e -o kernels/
  ropegen explain config.json --target tpu:v5e
  ropegen explain graph.mlir --target gpu:h200 --html plan.html
  ropegen opt graph.mlir --trace
  ropegen check kernels/
  ropegen bench graph.mlir --against jax,torch
  ropegen list targets

GRAPH is a graph in text (.mlir), the config.json of a Hugging Face model, or - for either on stdin.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the sign for micro still shows the rest
    try:
        verb: Callable[[argparse.Namespace], int] = options.verb
        code = verb(options)
        sys.stdout.flush()
        return code
    except RopegenError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        # Whoever reads stdout has had enough; keep Python from complaining as it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    except MemoryError as error:
        print(f"error: not enough memory ({error}); give smaller sizes", file=sys.stderr)
        return UNUSABLE
    except RuntimeError as error:
        if "initialize backend" not in str(error):
            raise
        print(f"error: JAX finds no device here: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("interrupted; nothing half-done was left", file=sys.stderr)
        return INTERRUPTED


# The verbs -----------------------------------------------------------------------------------------------------------


def build(options: argparse.Namespace) -> int:
    """Graph to artifact."""
    graph = _graph(options)
    tile = _tiles(options.tile)
    if options.libtpu and not options.compile:
        raise RopegenError(
            "--libtpu names the compiler of --compile, which is not given; add it, or leave --libtpu out"
        )
    with _progress() as progress:
        plans = []
        for target in options.target:
            progress(f"planning for {target}")
            plans.append(api.plan(graph, target, tile=tile, tables=options.tables))
        made = artifact.export(
            plans, options.output, ahead_of_time=options.compile, libtpu=options.libtpu, progress=progress
        )
    sizes = {path.name: path.stat().st_size for path in sorted(made.directory.iterdir())}
    if options.json:
        _print_json({"directory": str(made.directory), "targets": list(made.targets), "files": sizes})
        return DONE
    table = _table("bytes", "file")
    for name, size in sizes.items():
        table.add_row(Text(f"{size:,}", justify="right"), str(made.directory / name))
    _print(table)
    return DONE


def explain_plan(options: argparse.Namespace) -> int:
    """The plan and every reason."""
    if len(options.target) > 1:
        raise RopegenError(f"--target is given as {' and '.join(options.target)}; explain one target at a time")
    target = options.target[0] if options.target else "cpu"
    made = api.plan(_graph(options), target, tile=_tiles(options.tile), tables=options.tables)
    if options.html:
        _write(options.html, explain.html(made))
    if options.json and options.html != "-":
        _print_json(explain.data(made))
    elif not options.html:
        sys.stdout.write(explain.text(made))
    return DONE


def opt(options: argparse.Namespace) -> int:
    """Graph to graph."""
    graph = _graph(options)
    found, trace = (graph, ()) if options.to == _SOURCE else passes.run(graph, to=options.to)
    if options.trace:
        for step in trace:
            print(step, file=sys.stderr)
        print(f"{len(trace)} rewrites; {len(graph.nodes)} ops before, {len(found.nodes)} after", file=sys.stderr)
    _write(options.output or "-", text.dumps(found))
    return DONE


def lower_module(options: argparse.Namespace) -> int:
    """Composites to kernels."""
    if options.json and options.output in (None, "-"):
        raise RopegenError("--json prints the report on stdout, where the module would go; give -o FILE")
    name = "<stdin>" if options.module == "-" else options.module
    source = sys.stdin.buffer.read() if options.module == "-" else Path(options.module).read_bytes()
    made = replace_composites(source, options.target, name=name, tile=_tiles(options.tile))
    _write(options.output or "-", made.portable if (options.output or "").endswith(".mlirbc") else made.text)
    if options.json:
        _print_json(made.data)
    else:
        sys.stderr.write(made.report)
    return DONE


def check(options: argparse.Namespace) -> int:
    """Hashes, then the artifact against the oracle."""
    with _progress() as progress:
        progress("checking hashes")
        try:
            loaded = artifact.load(options.directory)
        except RopegenError as error:
            if not (Path(options.directory) / artifact.MANIFEST).is_file():
                raise
            if options.json:
                _print_json({"directory": options.directory, "passed": False, "problem": str(error), "outputs": []})
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        progress("running the artifact and the oracle")
        found = loaded.check(options.seed)
    if options.json:
        rows = [
            {
                "output": output.label,
                "largest": output.largest,
                "allowed_largest": output.allowed_largest,
                "relative": output.relative,
                "allowed": output.allowed,
                "agrees": output.agrees,
            }
            for output in found.outputs
        ]
        programs = [dataclasses.asdict(each) for each in loaded.executables]
        facts = {"directory": str(loaded.directory), "passed": found.passed, "outputs": rows}
        _print_json(facts | ({"executables": programs} if programs else {}))
    else:
        table = _table("output", "largest error", "allowed", "error, root mean square, relative", "allowed", "")
        for output in found.outputs:
            table.add_row(
                output.label,
                f"{output.largest:.2e}",
                f"{output.allowed_largest:.2e}",
                f"{output.relative:.2e}",
                f"{output.allowed:.2e}",
                "agrees" if output.agrees else "DIFFERS",
            )
        _print(table)
        for each in loaded.executables:
            print(f"{each.target}: {', '.join(each.files)} by {each.made_by}; {each.unused or 'used'}")
    return DONE if found.passed else FAILED


def measure(options: argparse.Namespace) -> int:
    """Side by side in one run."""
    if options.png:
        bench.pyplot()  # refuse before the work, not after it
    against = [each for each in options.against.split(",") if each]
    with _progress() as progress:
        subject = _subject(options, progress)
        graph = subject.graph if isinstance(subject, artifact.Artifact) else subject.plan.source
        runners, left_out = bench.contenders(subject, against, grad=options.grad, seed=options.seed, progress=progress)
        found = bench.race(
            runners,
            tolerance=bench.tolerance(graph),
            seconds=options.seconds,
            repeats=options.repeats,
            progress=progress,
        )
    what = "forward and backward" if options.grad else "forward"
    machine = bench.machine()
    if options.png:
        bench.picture(found, f"{graph.name}, {what}\n{machine['processor']}, {machine['cores']} cores", options.png)
    if options.json:
        facts = {"graph": graph.name, "what": what, "machine": machine}
        _print_json(facts | bench.as_data(found, left_out))
        return DONE
    rows = bench.rows(found, left_out)
    table = _table(*rows[0])
    for row in rows:
        table.add_row(*(Text(row.get(column, "")) for column in rows[0]))
    _print(table)
    print(f"\n{graph.name}, {what}; {', '.join(f'{name} {value}' for name, value in machine.items())}")
    return DONE


def _subject(options: argparse.Namespace, progress: Callable[[str], None]) -> Compiled | artifact.Artifact:
    """The compiled plan of a graph for this machine, or an artifact that is there."""
    if Path(options.graph).is_dir():
        given = [name for name in (*_BUILD_OPTIONS, "tile", "tables") if getattr(options, name)]
        if given:
            raise RopegenError(
                f"--{given[0]} is for a graph, and {options.graph} is an artifact, which is built already"
            )
        progress("checking hashes")
        return artifact.load(options.graph)
    progress("planning for this machine")
    return api.plan(_graph(options), "host", tile=_tiles(options.tile), tables=options.tables).compile()


def list_known(options: argparse.Namespace) -> int:
    """What ropegen knows."""
    rows = _LISTS[options.what]()
    if options.json:
        _print_json(rows)
        return DONE
    table = _table(*(rows[0] if rows else ["nothing"]))
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    _print(table)
    return DONE


def env(options: argparse.Namespace) -> int:
    """Versions and devices: what to say in a report."""
    import jax

    facts: dict[str, object] = {"python": platform.python_version(), "system": platform.platform()}
    for package in (
        "ropegen",
        "jax",
        "jaxlib",
        "numpy",
        "libtpu",
        "iree-base-compiler",
        "equinox",
        "flax",
        "penzai",
        "torch",
    ):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    try:
        facts["devices"] = ", ".join(f"{each.platform}: {each.device_kind}" for each in jax.devices())
        facts["host target"] = str(Target.host())
    except RuntimeError as error:  # JAX found no device at all
        facts |= {"devices": f"none: {error}", "host target": "none"}
    except RopegenError as error:
        facts["host target"] = f"none: {error}"
    if options.json:
        _print_json(facts)
        return DONE
    table = _table("what", "here")
    for name, value in facts.items():
        table.add_row(name, Text(str(value)))
    _print(table)
    return DONE


# What `list` lists ---------------------------------------------------------------------------------------------------


def _ops() -> list[dict[str, str]]:
    return [
        {
            "op": each.name,
            "operands": ", ".join(each.operands),
            "what": each.sentence,
            "attributes": ", ".join(map(str, each.attributes)),
        }
        for each in spec.describe()
    ]


def _masks() -> list[dict[str, str]]:
    named = {
        "full": masks.full,
        "causal": masks.causal,
        "window(128)": masks.window(128),
        "window(128, 16)": masks.window(128, 16),
        "chunked(128)": masks.chunked(128),
        "prefix(128)": masks.prefix(128),
        "segments": masks.segments,
        "causal & window(128)": masks.causal & masks.window(128),
    }
    return [{"mask": name, "keys that a query sees": str(value)} for name, value in named.items()]


def _scaling() -> list[dict[str, str]]:
    return [
        {"family": kind, "what": (cls.__doc__ or "").strip().splitlines()[0]} for kind, cls in scaling.FAMILIES.items()
    ]


def _templates() -> list[dict[str, str]]:
    return [
        {
            "template": str(each),
            "version": str(each.version),
            "runs on": ", ".join(each.runs_on),
            "tile": ", ".join(each.tile) or "-",
            "custom calls": ", ".join(each.calls) or "none",
        }
        for each in catalog()
    ]


def _targets() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for name in known():
        chip = Target.parse(name).figures
        rows.append(
            {
                "target": name,
                "bf16 TFLOP/s": f"{chip.matmul_bf16 / 1e12:.3g}",
                "f32 TFLOP/s": f"{chip.matmul_f32 / 1e12:.3g}",
                "memory GB/s": f"{chip.bandwidth / 1e9:.4g}",
            }
        )
    return rows


def _models() -> list[dict[str, str]]:
    return [{"model_type": name, **family.summary()} for name, family in models.FAMILIES.items()]


def _passes() -> list[dict[str, str]]:
    return [
        {"pass": each.name, "rule": rule.name, "before -> after": rule.notation}
        for each in passes.PIPELINE
        for rule in each.rules
    ]


_LISTS: dict[str, Callable[[], list[dict[str, str]]]] = {
    "ops": _ops,
    "masks": _masks,
    "scaling": _scaling,
    "passes": _passes,
    "templates": _templates,
    "targets": _targets,
    "models": _models,
}


# Arguments -----------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Names the nearest verb where one is misspelt."""

    def error(self, message: str) -> Any:
        if "invalid choice: '" in message and "choose from" in message:
            word = message.split("invalid choice: '")[1].split("'")[0]
            choices = [each.strip(" ')") for each in message.rpartition("choose from ")[2].split(",")]
            message = f"{message.partition('(choose')[0]}- {nearest(word, choices)}"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ropegen",
        description="Compiles the attention front-end of a transformer: one graph, a kernel for every platform.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ropegen {importlib.metadata.version('ropegen')}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)

    def verb(
        name: str, function: Callable[[argparse.Namespace], int], what: str, example: str
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=what,
            description=what,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(verb=function)
        return made

    made = verb(
        "build",
        build,
        "compile a graph into an artifact, one kernel a platform",
        "ropegen build config.json --target cpu --target tpu:v5e -o kernels/",
    )
    _graph_arguments(made)
    made.add_argument(
        "--target",
        action="append",
        required=True,
        metavar="T",
        help="cpu, cpu:CORES, gpu:CHIP, tpu:CHIP or host; repeatable, one a platform",
    )
    made.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="the artifact's directory; replaced as a whole if it is one",
    )
    _plan_arguments(made)
    made.add_argument(
        "--compile",
        action="store_true",
        help="device executables too, for each TPU chip named, and their schedules in report.txt; needs libtpu, no TPU",
    )
    made.add_argument(
        "--libtpu", metavar="DIR", help="where `pip install --target DIR libtpu` put it (default: this environment)"
    )
    _json_argument(made)

    made = verb(
        "explain",
        explain_plan,
        "the plan for a target and every reason; needs no device",
        "ropegen explain config.json --target gpu:h200 --seq 4096",
    )
    _graph_arguments(made)
    made.add_argument(
        "--target", action="append", default=[], metavar="T", help="what to plan for, once (default: cpu)"
    )
    made.add_argument("--html", metavar="FILE", help="write a page there instead of text; - is stdout")
    _plan_arguments(made)
    _json_argument(made)

    made = verb("opt", opt, "a graph after the passes, as text", "ropegen opt graph.mlir --to merge --trace")
    _graph_arguments(made)
    made.add_argument(
        "--to",
        metavar="STAGE",
        help=f"stop after this pass: {', '.join(each.name for each in passes.PIPELINE)}; {_SOURCE}: before all of them",
    )
    made.add_argument("--trace", action="store_true", help="every rewrite, on stderr")
    made.add_argument("-o", "--output", metavar="FILE", help="write the graph there instead of to stdout")

    made = verb(
        "lower",
        lower_module,
        "StableHLO with ropegen.* composites to StableHLO with the kernels of a target",
        "ropegen lower kernels/semantic.mlir --target tpu:v5e -o lowered.mlir",
    )
    made.add_argument("module", metavar="MODULE", help="StableHLO, as text or bytecode, or - for stdin")
    made.add_argument("--target", required=True, metavar="T", help="cpu, cpu:CORES, gpu:CHIP, tpu:CHIP or host")
    made.add_argument(
        "-o", "--output", metavar="FILE", help="write there: bytecode to FILE.mlirbc, else text (default: text, stdout)"
    )
    _tile_argument(made)
    made.add_argument("--json", action="store_true", help="the report as one JSON document on stdout; needs -o")

    made = verb(
        "check",
        check,
        "check an artifact's hashes, run it, and compare it with the float64 oracle",
        "ropegen check kernels/",
    )
    made.add_argument("directory", metavar="DIR", help="what `ropegen build -o` made")
    made.add_argument("--seed", type=int, default=0, help="of the drawn inputs (default: 0)")
    _json_argument(made)

    made = verb(
        "bench",
        measure,
        "time a graph or an artifact beside JAX and torch, interleaved in one run, after their results agree",
        "ropegen bench graph.mlir --against jax --repeats 5",
    )
    _graph_arguments(made, "a graph (.mlir), a model's config.json, an artifact's directory, or - for stdin")
    made.add_argument(
        "--against",
        default="jax",
        metavar="WHOM",
        help="jax, torch or jax,torch (default: jax). jax is jax.nn.dot_product_attention with RoPE in one jit where the "
        "graph is one attention, else the plain formula under jit; torch is SDPA and FlexAttention, compiled with RoPE",
    )
    made.add_argument("--grad", action="store_true", help="forward and backward, for every floating input")
    amount = made.add_mutually_exclusive_group()
    amount.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="time for all contenders together (default: 5)"
    )
    amount.add_argument("--repeats", type=int, metavar="N", help="rounds, in place of a time")
    made.add_argument("--png", metavar="FILE", help="a picture of the medians and quartiles; needs matplotlib")
    made.add_argument("--seed", type=int, default=0, help="of the drawn inputs (default: 0)")
    _plan_arguments(made)
    _json_argument(made)

    made = verb("list", list_known, "what ropegen knows", "ropegen list ops")
    made.add_argument("what", choices=list(_LISTS), metavar="WHAT", help=", ".join(_LISTS))
    _json_argument(made)

    made = verb("env", env, "versions and devices, for a report", "ropegen env --json")
    _json_argument(made)
    return parser


def _graph_arguments(
    parser: argparse.ArgumentParser, what: str = "a graph (.mlir), a model's config.json, or - for stdin"
) -> None:
    parser.add_argument("graph", metavar="GRAPH", help=what)
    group = parser.add_argument_group("for a config.json")
    group.add_argument("--batch", type=int, help="sequences at once (default: 1)")
    group.add_argument("--seq", type=int, help="tokens of each (default: 2048, or 1 in decode)")
    group.add_argument("--dtype", help="bf16, f16, f32 or f64 (default: bf16)")
    group.add_argument(
        "--phase", choices=models.PHASES, help="the whole prompt, or steps over a cache (default: prefill)"
    )
    group.add_argument("--layer", type=int, help="which layer's attention (default: 0)")
    group.add_argument("--capacity", type=int, help="rows of the cache in decode")
    group.add_argument("--vocabulary", type=int, help="rows of the embedding, fewer than the model's")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    _tile_argument(parser)
    parser.add_argument(
        "--tables",
        choices=get_args(TableKind),
        help="where the cosines and sines of known positions come from (default: by their bytes)",
    )


def _tile_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tile",
        action="append",
        default=[],
        metavar="TEMPLATE:NAME=SIZE,...",
        help="fix a tile, e.g. attend/xla:q=256,kv=512; repeatable",
    )


def _json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _tiles(given: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for each in given:
        name, _, sizes = each.partition(":")
        if name in found:
            raise RopegenError(f"--tile is given twice for {name}; give it once")
        try:
            pairs = [pair.split("=") for pair in sizes.split(",")]
            found[name] = {label: int(size) for label, size in pairs}
        except ValueError:
            raise RopegenError(
                f"--tile {each!r} is not TEMPLATE:NAME=SIZE,...; write e.g. attend/xla:q=256,kv=512"
            ) from None
    return found


def _graph(options: argparse.Namespace) -> Graph:
    """The graph of the GRAPH argument: text, or a config that says so by its braces."""
    if options.graph == "-":
        content, source = sys.stdin.buffer.read(), "<stdin>"
    else:
        content, source = Path(options.graph).read_bytes(), options.graph
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RopegenError(
            f"{source} is not text: byte {error.start} is not UTF-8; give a .mlir graph or a config.json"
        ) from error
    given = {name: getattr(options, name) for name in _BUILD_OPTIONS if getattr(options, name) is not None}
    if not decoded.lstrip().startswith(("{", "[")) and not source.endswith(".json"):
        if not decoded.strip():
            raise RopegenError(f"{source} is empty; give a .mlir graph or a config.json")
        if given:
            raise RopegenError(
                f"--{next(iter(given))} is for a config.json, and {source} is a graph, whose shapes are fixed"
            )
        return text.loads(decoded, source)
    return models.from_case(_case(decoded, source, given))


def _case(decoded: str, source: str, given: dict[str, Any]) -> dict[str, Any]:
    """A case, or a bare config as one, with the options given on the command line over its own."""
    try:
        described: Any = json.loads(decoded)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise RopegenError(f"{source} is not JSON: {error}; give a .mlir graph or a config.json") from error
    if not isinstance(described, dict):
        raise RopegenError(f"{source} is JSON, but no config: it holds no fields; give a model's config.json")
    case: dict[str, Any] = described if "config" in described else {"config": described}
    own = case.get("build", {})
    return {**case, "build": {**own, **given} if isinstance(own, dict) else own}


# Printing and writing ------------------------------------------------------------------------------------------------


@contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """Tells on stderr what is being done: a moving line on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: None
        return
    with console.status("starting") as status:
        yield status.update


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    plain = Console(file=io.StringIO(), highlight=False, width=_PLAIN_WIDTH, color_system=None)
    with plain.capture() as captured:
        plain.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _write(destination: str, content: str | bytes) -> None:
    """To stdout for `-`, into what is no file (a pipe, a device), else aside and then renamed."""
    if destination == "-":
        sys.stdout.write(content if isinstance(content, str) else content.decode())
        return
    raw = content.encode() if isinstance(content, str) else content
    path = Path(destination).resolve()  # what a link names is replaced, not the link
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(raw)
            return
        try:
            aside.write_bytes(raw)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise RopegenError(f"cannot write {destination}: {error.strerror or error}; give another file") from error
