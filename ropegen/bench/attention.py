"""What every contender of a run reads, and the graphs that rivals are made for.

An attention-shaped graph is one full or causal `attend` over three inputs, with RoPE at known positions or none.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ropegen import masks
from ropegen.emit.artifact import drawn_inputs
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.types import numpy_dtype


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A contender that does not run, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention-shaped graph: its inputs' labels, mask and scale, and the RoPE tables (S, dim), cosines first."""

    graph: Graph
    q: str
    k: str
    v: str
    causal: bool
    scale: float
    q_table: np.ndarray | None = None
    k_table: np.ndarray | None = None
    pairing: str = "half"

    @property
    def output(self) -> str:
        return self.graph.outputs[0][0]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What every contender of one run reads: the inputs by label and, for the backward, the cotangents by output."""

    graph: Graph
    inputs: Mapping[str, np.ndarray]
    cotangents: Mapping[str, np.ndarray] | None

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The inputs whose gradients are taken: those of a floating element type."""
        return tuple(label for label, kind in self.graph.input_types.items() if kind.is_float)


def draw(graph: Graph, *, grad: bool = False, seed: int = 0) -> Drawn:
    """Inputs that mean something, and with `grad` normal cotangents in the outputs' element types."""
    random = np.random.default_rng(seed + 1)
    cotangents = {
        label: random.standard_normal(value.type.shape).astype(numpy_dtype(value.type.dtype))
        for label, value in graph.outputs
    }
    return Drawn(graph, drawn_inputs(graph, seed), cotangents if grad else None)


def attention_of(graph: Graph) -> Attention | str:
    """The graph as plain attention, or in words what keeps it from being one."""
    if len(graph.outputs) != 1 or not isinstance(graph.outputs[0][1].op, ops.Attend):
        return "its output is not one attend"
    node = graph.outputs[0][1]
    op = node.op
    assert isinstance(op, ops.Attend)
    if op.visible not in (masks.full, masks.causal):
        return f"its mask is {op.visible}, neither full nor causal"
    if op.score != masks.identity or op.softcap is not None or op.returns != "output":
        return "it changes scores or returns their sum"
    extra = [name for name in op.given if name not in ("q_positions", "kv_positions")]
    if extra:
        return f"it reads {', '.join(extra)}"
    causal = op.visible == masks.causal
    if causal and not _counts_alike(node.operand("q_positions"), node.operand("kv_positions")):
        return "its queries and keys are not at the same known positions"
    labels: list[str] = []
    tables: list[np.ndarray | None] = []
    pairings: set[str] = set()
    for each in node.operands[:3]:
        table = None
        if isinstance(each.op, ops.Rotate):
            table = _table(each.operands[1])
            if table is None:
                return "its RoPE is not at known positions of one axis"
            pairings.add(each.op.pairing)
            each = each.operands[0]
        if not isinstance(each.op, ops.Input):
            return "it computes q, k or v from something else"
        labels.append(each.op.label)
        tables.append(table)
    if tables[2] is not None or len(pairings) > 1 or len(set(labels)) < 3 or len(graph.inputs) != 3:
        return "its q, k and v are not three inputs, q and k turned alike"
    if any(each.type.rank > 4 for each in graph.inputs):
        return "its inputs have more than one batch axis"
    q, k, v = labels
    return Attention(graph, q, k, v, causal, op.scale, tables[0], tables[1], next(iter(pairings), "half"))


def import_torch() -> Any:
    """The torch package.

    Raises:
      RopegenError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise RopegenError(
            f"bench: torch cannot be imported ({error}); install it with `pip install 'ropegen[torch]'`, or leave torch out "
            "of --against"
        ) from error


def _table(angles: Node) -> np.ndarray | None:
    if not isinstance(angles.op, ops.Angles) or angles.op.sections:
        return None
    (at,) = angles.operands
    if not isinstance(at.op, ops.Positions):
        return None
    known = np.arange(at.op.start, at.op.start + at.op.length)
    op = angles.op
    return op.rope.table(known, op.head_width, op.length, op.inverse).astype(np.float32)


def _counts_alike(q: Node | None, kv: Node | None) -> bool:
    return q is not None and q is kv and isinstance(q.op, ops.Positions)
