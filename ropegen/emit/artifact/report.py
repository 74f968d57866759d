"""`report.txt`: the sizes, estimated costs and ops of an artifact, and the kernels of its executables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ropegen.emit.artifact import executables, native
from ropegen.plans import FORWARD, Plan
from ropegen.quantities import bytes_of, duration, quantity


def report(
    plans: Sequence[Plan],
    files: Mapping[str, bytes],
    counts: Mapping[str, Mapping[str, int]],
    compiled: Sequence[executables.Made],
    objects: Sequence[native.Made],
) -> str:
    """The text of the report. `counts` says how often each StableHLO op stands in the module of each stage."""
    lines = [f"{plans[0].graph.name} for {', '.join(str(plan.target) for plan in plans)}", "", "files, bytes"]
    lines += [f"  {len(content):>12,}  {name}" for name, content in sorted(files.items())]
    for plan in plans:
        cost = plan.cost
        directions = "" if plan.weighed == FORWARD else ", " + " and ".join(plan.weighed)
        lines += ["", f"{plan.target}, estimated for one call{directions}, not measured"]
        lines.append(
            f"  {duration(cost.seconds)}, {quantity(cost.flops, 'FLOP')}, {bytes_of(cost.bytes)} moved, "
            f"{bytes_of(cost.temporary)} of temporaries"
        )
        lines += [
            f"  {duration(step.cost.seconds):>10}  {step.chosen.template if step.chosen else step.outputs[0].op.name}"
            for step in plan.steps
            if not step.prepares
        ]
    for made in compiled:
        lines += ["", *made.report]
    for made in objects:
        entry = made.entry
        lines += [
            "",
            f"{made.plan.target}, native kernels for {entry.unit}, as llvmlite {entry.llvmlite} compiled them",
        ]
        lines += [f"  {len(made.files[name]):>12,} bytes  {name}" for name in entry.files]
    for name, ops_of_stage in counts.items():
        lines += ["", f"ops of {name}, all platforms together"]
        lines += [f"  {count:>6}  {op}" for op, count in ops_of_stage.items()]
    return "\n".join(lines) + "\n"
