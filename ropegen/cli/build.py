"""`ropegen build`: a graph to an artifact."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ropegen import api
from ropegen.cli import arguments, planning
from ropegen.cli.output import DONE, new_table, print_json, print_table, progress
from ropegen.emit import artifact
from ropegen.errors import RopegenError
from ropegen.plans import Plan
from ropegen.quantities import duration


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser)
    parser.add_argument(
        "--target",
        action="append",
        required=True,
        metavar="T",
        help="cpu, cpu:CORES, cpu:CHIP, gpu:CHIP, tpu:CHIP or host; repeatable, one a platform",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="the artifact's directory; replaced as a whole if it is one",
    )
    arguments.add_plan(parser)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="executables for each TPU chip (needs libtpu, no TPU) and each GPU chip named (needs jax[cuda13], no GPU), whose "
        "kernels report.txt describes, and native kernels for each CPU named with its vector unit, such as cpu:avx2 (needs "
        "llvmlite, no such CPU)",
    )
    parser.add_argument(
        "--grad", action="store_true", help="the gradient too, so that jax.grad takes the loaded artifact"
    )
    parser.add_argument(
        "--stable-only", action="store_true", help="only custom calls whose compatibility jax.export promises"
    )
    parser.add_argument("--source", action="store_true", help="the code of native kernels for CPU, for readers")
    parser.add_argument(
        "--libtpu", metavar="DIR", help="where `pip install --target DIR libtpu` put it (default: this environment)"
    )
    parser.add_argument(
        "--devices", type=int, metavar="N", help="for a mesh of N devices, which need not be here; with --sharding"
    )
    parser.add_argument(
        "--sharding",
        metavar="AXIS=MESH[:SIZE],...",
        help="the axes that lie over the devices, e.g. batch=data,heads=model; the sizes follow from N if they are left out",
    )
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    given = arguments.graphs(options)
    targets = api.parse_artifact_targets(options.target, options.compile)
    if options.libtpu and not options.compile:
        raise RopegenError(
            "--libtpu names the compiler of --compile, which is not given; add it, or leave --libtpu out"
        )
    splits = [planning.split(options, each.graph) for each in given]
    file = planning.tile_file(options, targets)
    whole = Path(options.output)
    if given[0].layers and (whole / artifact.MANIFEST).exists():
        raise RopegenError(f"{whole} is the artifact of one graph, and several layers need a folder; give another")
    made: list[artifact.Artifact] = []
    planned: list[list[Plan]] = []
    with progress() as say:
        for each, split in zip(given, splits, strict=True):
            plans: list[Plan] = []
            for target in targets:
                say(f"planning {each.graph.name} for {target}")
                weigh, stable = artifact.weighed(options.grad), options.stable_only or split is not None
                plans.append(planning.plan(options, each.graph, target, file, weigh, stable_only=stable))
            planned.append(plans)
            made.append(
                artifact.export(
                    plans,
                    whole / f"layer{each.layers[0]}" if each.layers else whole,
                    ahead_of_time=options.compile,
                    libtpu=options.libtpu,
                    source=options.source,
                    grad=options.grad,
                    tiles=file.content if file is not None else None,
                    split=split,
                    progress=say,
                )
            )
    facts = [_facts(*each) for each in zip(given, made, planned, strict=True)]
    if options.json:
        print_json(facts if given[0].layers else facts[0])
        return DONE
    table = new_table(*(["layers"] if given[0].layers else []), "bytes", "file", right=("bytes",))
    for each, one, fact in zip(given, made, facts, strict=True):
        layers = [", ".join(map(str, each.layers))] if each.layers else []
        for name, size in fact["files"].items():
            table.add_row(*layers, f"{size:,}", str(one.directory / name))
    print_table(table)
    what = "forward and backward" if options.grad else "a call"
    print()
    for each, plans in zip(given, planned, strict=True):
        of_layers = f" of layers {', '.join(map(str, each.layers))}" if each.layers else ""
        for plan in plans:
            print(f"estimate for {plan.target}: {duration(plan.cost.seconds)} {what}{of_layers}")
    print(f"next: ropegen check {shlex.quote(str(made[0].directory))}")
    return DONE


def _facts(given: arguments.Layers, made: artifact.Artifact, plans: list[Plan]) -> dict[str, Any]:
    """What was built, for programs."""
    sizes = {path.name: path.stat().st_size for path in sorted(made.directory.iterdir())}
    layers = {"layers": list(given.layers)} if given.layers else {}
    estimates = {str(plan.target): plan.cost.seconds for plan in plans}
    return {
        **layers,
        "directory": str(made.directory),
        "targets": list(made.targets),
        "files": sizes,
        "estimates": estimates,
    }


BUILD = arguments.Verb(
    name="build",
    what="compile a graph into an artifact, one kernel a platform",
    example="ropegen build config.json --target cpu --target tpu:v5e -o kernels/",
    add_arguments=_add_arguments,
    run=_run,
)
