"""The passes: graph in, graph out. The meaning stays the same, and the new graph says everything in one way.

The labels, types and roles of inputs never change, nor do the names and types of outputs. Inputs that nothing reads
are dropped at the end.
"""

from __future__ import annotations

from ropegen.errors import RopegenError, nearest
from ropegen.ir.graph import Graph
from ropegen.passes.cancel import CANCEL, PRUNE
from ropegen.passes.fold import FOLD
from ropegen.passes.merge import MERGE
from ropegen.passes.pairing import PAIRING
from ropegen.passes.rewrite import Pass, Rule, Step, Trace, settle

__all__ = ["PIPELINE", "Pass", "Rule", "Step", "Trace", "canonical", "run"]

# Scales go first, because one may stand between two ops that the other passes look for. Pairing goes before merging,
# because it is easier while the weights of q and k are apart; it also takes projections that were merged in the source.
PIPELINE: tuple[Pass, ...] = (CANCEL, FOLD, PAIRING, MERGE, PRUNE)


def run(graph: Graph, *, to: str | None = None) -> tuple[Graph, Trace]:
    """The graph after the passes up to and including the one named `to`, and every step. Without `to`, all passes run.

    Running again changes nothing: `run(run(graph)[0])[0] is run(graph)[0]`.

    Raises:
      RopegenError: no pass has that name.
    """
    names = [stage.name for stage in PIPELINE]
    if to is not None and to not in names:
        raise RopegenError(f"there is no pass {to!r}; {nearest(to, names)}")
    return settle(graph, PIPELINE if to is None else PIPELINE[: names.index(to) + 1])


def canonical(graph: Graph) -> Graph:
    """The graph after all passes: what the planner reads."""
    return run(graph)[0]
