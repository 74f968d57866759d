"""The inputs that all contenders of a run share, and the attention-shaped graphs that other libraries can compute.

An attention-shaped graph is one full or causal `attend` over three inputs, with RoPE at known positions or without RoPE.
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
    """A contender that does not run, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention-shaped graph: the labels of its inputs, its mask, its scale, and RoPE tables (S, dim), cosines first."""

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
    """The data that all contenders of a run read: inputs by label and, for the backward pass, cotangents by output."""

    graph: Graph
    inputs: Mapping[str, np.ndarray]
    cotangents: Mapping[str, np.ndarray] | None

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The inputs that get gradients: those of a floating element type."""
        return tuple(label for label, kind in self.graph.input_types.items() if kind.is_float)

    @property
    def gradients(self) -> dict[str, str]:
        """The name of every gradient by the label of its input: `d_` + label, or `dd_` + label where an output is `d_` +
        label, and so on. There are none without cotangents.
        """
        taken = {label for label, _ in self.graph.outputs}
        names = {label: f"d_{label}" for label in self.differentiated if self.cotangents is not None}
        for label in names:
            while names[label] in taken:
                names[label] = f"d{names[label]}"
        return names


def draw(graph: Graph, *, grad: bool = False, seed: int = 0) -> Drawn:
    """Random valid inputs, and with `grad` normally distributed cotangents in the outputs' element types.

    Raises:
      RopegenError: the seed is not a whole number from 0 on.
    """
    inputs = drawn_inputs(graph, seed)
    random = np.random.default_rng(int(seed) + 1)
    cotangents = {
        label: random.standard_normal(value.type.shape).astype(numpy_dtype(value.type.dtype))
        for label, value in graph.outputs
    }
    return Drawn(graph, inputs, cotangents if grad else None)


def attention_of(graph: Graph) -> Attention | str:
    """The graph as plain attention, or the reason why it is not plain attention."""
    if len(graph.outputs) != 1 or not isinstance(graph.outputs[0][1].op, ops.Attend):
        return "it does not have one output, an attend"
    node = graph.outputs[0][1]
    op = node.op
    assert isinstance(op, ops.Attend)
    if op.visible not in (masks.full, masks.causal):
        return f"its mask is {op.visible}, neither full nor causal"
    if op.score != masks.identity or op.softcap is not None or op.returns != "output":
        return "it changes scores or returns their log-sum-exp"
    extra = [name for name in op.given if name not in ("q_positions", "kv_positions")]
    if extra:
        return f"it reads {', '.join(extra)}"
    causal = op.visible == masks.causal
    if causal and not _counts_alike(node.operand("q_positions"), node.operand("kv_positions")):
        return "its queries and keys are not at the same known positions"
    labels: list[str] = []
    tables: list[np.ndarray | None] = []
    pairings: set[str] = set()
    for operand in node.operands[:3]:
        table = None
        if isinstance(operand.op, ops.Rotate):
            table = _table(operand.operands[1])
            if table is None:
                return "its RoPE is not at known positions of one axis"
            pairings.add(operand.op.pairing)
            operand = operand.operands[0]
        if not isinstance(operand.op, ops.Input):
            return "its q, k or v is not an input"
        labels.append(operand.op.label)
        tables.append(table)
    if tables[2] is not None or len(pairings) > 1 or len(set(labels)) < 3 or len(graph.inputs) != 3:
        return "its q, k and v are not three inputs with q and k rotated alike"
    if any(value.type.rank > 4 for value in graph.inputs):
        return "its inputs have more than one batch axis"
    q, k, v = labels
    return Attention(graph, q, k, v, causal, op.scale, tables[0], tables[1], next(iter(pairings), "half"))


def import_torch() -> Any:
    """The torch package.

    Raises:
      RopegenError: torch is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise RopegenError(
            f"bench: torch cannot be imported ({error}); install it with `pip install torch`, or leave torch out "
            "of --against"
        ) from error


def _table(angles: Node) -> np.ndarray | None:
    if not isinstance(angles.op, ops.Angles) or angles.op.sections:
        return None
    (positions,) = angles.operands
    if not isinstance(positions.op, ops.Positions):
        return None
    known = np.arange(positions.op.start, positions.op.start + positions.op.length)
    op = angles.op
    return op.rope.table(known, op.head_width, op.length, op.inverse).astype(np.float32)


def _counts_alike(q: Node | None, kv: Node | None) -> bool:
    return q is not None and q is kv and isinstance(q.op, ops.Positions)
