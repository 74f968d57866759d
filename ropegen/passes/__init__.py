"""The passes: graph in, graph out, the same meaning in a form that has one way to say each thing.

Labels, types and roles of inputs and the names and types of outputs never change, except that inputs which nothing
reads are dropped at the end.
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

# Scales go first, because they may stand between what the others look for; pairing needs the weights of q and k
# apart, so it goes before merging (though it also takes projections that were merged from the start).
PIPELINE: tuple[Pass, ...] = (CANCEL, FOLD, PAIRING, MERGE, PRUNE)


def run(graph: Graph, *, to: str | None = None) -> tuple[Graph, Trace]:
    """The graph after the passes up to and including the one named `to`, all when left out, and what they did.

    Running again changes nothing: `run(run(graph)[0])[0] is run(graph)[0]`.

    Raises:
      RopegenError: no pass has that name.
    """
    names = [each.name for each in PIPELINE]
    if to is not None and to not in names:
        raise RopegenError(f"there is no pass {to!r}; {nearest(to, names)}")
    return settle(graph, PIPELINE if to is None else PIPELINE[: names.index(to) + 1])


def canonical(graph: Graph) -> Graph:
    """The graph after all passes: what the planner reads."""
    return run(graph)[0]
