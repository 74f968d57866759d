"""How far rounding can take the outputs of a graph from the oracle: the tolerance of `check`.

The tolerance must not come from the formulas that the artifact is made of, because a wrong formula would then excuse
itself. So this module uses the oracle alone. It evaluates the graph in float64 again, with random errors of the size
that a correct program makes, and measures how far the outputs move.

The size of the errors is the standard model of floating-point arithmetic (N. Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd edition, SIAM 2002). `u` is half the distance from 1 to the next number of an element type.

- An op rounds its result: fl(a op b) = (a op b)(1 + d) with |d| <= u (section 2.2). So every result is disturbed by
  its `u` and then rounded to its element type. Ops that only move numbers round nothing.
- A sum of n products is the exact sum of products whose factors are disturbed by at most n u / (1 - n u) (section 3.1).
  For rounding errors that are independent, sqrt(n) u takes the place of n u (section 2.8; N. Higham and T. Mary, "A New
  Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41, 2019). So the operands of matrix
  products, norms and attention are disturbed by (4 + sqrt(n)) u of the type that the sums run in. The 4 is room for the
  exponential and the other functions on the way, whose errors are a few u of their arguments.
- Attention also rounds its weights to the element type of the values before it multiplies the two, which is the same as
  an error of that size in the values.

The evaluation itself then finds what an a-priori bound cannot know: how much the graph amplifies these errors
(section 1.6). Cancellation in a norm of two nearly equal features, or scores of a hundred, can amplify them a
thousandfold on some inputs and not on others. To disturb every operation at random and to look at the spread of the
results is Monte Carlo arithmetic (chapter 26; D. S. Parker, "Monte Carlo Arithmetic", UCLA CSD-970002, 1997).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen import reference
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.types import FLOATS, epsilon, numpy_dtype

Array = npt.NDArray[Any]

# Room for the functions on the way (exponentials, roots, divisions), in units of the type that sums run in.
_FUNCTIONS = 4.0
# A frequency is a power of theta. Its float32 error is a few units times the logarithm of theta, at most about 14.
_POWER = 16.0
# The error of cosines and sines that are reduced exactly, in units of the largest number of their row.
_TABLE = 4.0


def disturbed(graph: Graph, inputs: Mapping[str, Array], count: int, seed: int) -> Iterator[dict[str, Array]]:
    """`count` evaluations of the graph by the oracle, in float64, with the rounding errors of a correct program.

    The errors are drawn anew for every evaluation. Inputs have exactly the declared types, and are exact themselves.
    """
    random = np.random.default_rng(seed)
    reads = Counter([operand for node in graph.nodes for operand in node.operands])
    reads.update(node for _, node in graph.outputs)
    for _ in range(count):
        left = reads.copy()
        values: dict[Node, Array] = {node: np.asarray(inputs[label_of(node)]) for node in graph.inputs}
        for node in graph.nodes:
            if node not in values:
                operands = {
                    operand: _moved(values[operand], size, random)
                    for operand, size in zip(node.operands, _operand_errors(node), strict=True)
                }
                (exact,) = reference.evaluate_nodes((node,), operands)
                values[node] = _rounded(node, exact, random)
            for operand in node.operands:
                left[operand] -= 1
                if not left[operand]:
                    del values[operand]
        yield {label: values[node] for label, node in graph.outputs}


def unit(dtype: str) -> float:
    """The unit roundoff of a floating element type: half the distance from 1 to the next number."""
    return epsilon(dtype) / 2


def _sum_unit(node: Node, terms: int) -> float:
    """The relative error of the operands of a sum of this many products."""
    return (_FUNCTIONS + math.sqrt(terms)) * unit("f64" if node.operands[0].type.dtype == "f64" else "f32")


def _operand_errors(node: Node) -> list[float]:
    """The relative error of each operand; 0 for what is read exactly, such as positions that a mask compares."""
    names = node.op.operand_names(len(node.operands))
    sizes = dict.fromkeys(names, 0.0)
    match node.op:
        case ops.Project() | ops.ProjectHeads() | ops.Norm():
            sizes["x"] = _sum_unit(node, node.operands[0].type.shape[-1])
        case ops.Rotate():
            sizes |= dict.fromkeys(("x", "angles"), _sum_unit(node, 1))
        case ops.Attend():
            q, k, v = node.operands[:3]
            sizes |= dict.fromkeys(("q", "k"), _sum_unit(node, q.type.shape[-1]))
            sizes |= {name: _sum_unit(node, 1) for name in ("bias", "sinks") if name in sizes}
            if node.op.returns == "output":
                sizes["v"] = unit(v.type.dtype) + _sum_unit(node, k.type.shape[-3])
        case ops.Angles() | ops.Sinusoid() as op if op.precision == "f32":
            sizes["positions"] = _POWER * unit("f32")
        case _:
            pass
    return list(sizes.values())


def _moved(value: Array, size: float, random: np.random.Generator) -> Array:
    """The value with a relative error of about `size` in every element."""
    if not size:
        return value
    return value.astype(np.float64) * (1.0 + size * random.standard_normal(value.shape))


def _rounded(node: Node, value: Array, random: np.random.Generator) -> Array:
    """The value as a program may give it: with an error of one unit of its type, then rounded to its type."""
    dtype = node.type.dtype
    if dtype not in FLOATS or not _computes(node):
        return value
    wide = value.astype(np.float64, copy=False)
    noise = random.uniform(-1.0, 1.0, value.shape)
    if isinstance(node.op, ops.Angles | ops.Sinusoid):
        # The reduction of the angle leaves an absolute error, in proportion to the largest number of a row.
        largest = np.max(np.abs(wide), axis=-1, keepdims=True, initial=0.0)
        computed = "f64" if dtype == "f64" and node.op.precision == "exact" else "f32"
        wide = wide + _TABLE * unit(computed) * largest * noise
    with np.errstate(over="ignore", invalid="ignore"):
        wide = wide * (1.0 + unit(dtype) * noise)
        narrow = wide.astype(numpy_dtype(dtype)).astype(np.float64)
    # A program may keep a wider number where this type overflows; the oracle alone says what is infinite.
    return np.where(np.isfinite(narrow), narrow, wide)


def _computes(node: Node) -> bool:
    """Whether the op gives new numbers, which are rounded, rather than moving the numbers of its operands."""
    match node.op:
        case ops.Cast(dtype=dtype):
            source = node.operands[0].type
            return source.is_float and epsilon(dtype) > epsilon(source.dtype)
        case ops.Add() | ops.Scale() | ops.Project() | ops.ProjectHeads() | ops.Norm() | ops.Rotate() | ops.Attend():
            return True
        case ops.Angles() | ops.Sinusoid():
            return True
        case _:
            return False
