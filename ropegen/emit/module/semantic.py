"""The graph as StableHLO composites, for compilers that know the ops; the decompositions define the meaning for others.

Every op is a `stablehlo.composite "ropegen.<op>"` of version 1. It carries all attributes, including those with default
values, and its decomposition is the plain formula. An attribute with the same meaning as one of ONNX RotaryEmbedding-23
or Attention-23 also appears under the ONNX name.

`jax.lax.composite` has no derivative and no batching rule, and fails in a module for several platforms. So ropegen uses
it for this form only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import mlir

from ropegen import masks, plain
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.ir.op import attributes
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import TensorType, numpy_dtype

VERSION = 1


def semantic(graph: Graph) -> str:
    """The StableHLO text of the graph; `main` takes the inputs and returns the outputs in their declared order.

    Raises:
      RopegenError: the graph has 64-bit values while JAX runs without them.
    """
    if any(value.type.dtype in ("f64", "i64") for value in graph.nodes) and not jax.config.read("jax_enable_x64"):
        raise RopegenError(
            f"graph {graph.name} has 64-bit values, and JAX runs without them; set jax_enable_x64 to True first"
        )

    def main(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        known = dict(zip(graph.inputs, arguments, strict=True))
        for value in graph.nodes:
            if value not in known:
                known[value] = _composite(value, [known[operand] for operand in value.operands])
        return tuple(known[value] for _, value in graph.outputs)

    arguments = [jax.ShapeDtypeStruct(value.type.shape, numpy_dtype(value.type.dtype)) for value in graph.inputs]
    lowered = jax.jit(main, keep_unused=True).trace(*arguments).lower(lowering_platforms=("cpu",))
    module: Any = lowered.compiler_ir("stablehlo")
    body = module.operation.get_asm(enable_debug_info=False)
    inputs = ", ".join(label_of(value) for value in graph.inputs)
    outputs = ", ".join(label for label, _ in graph.outputs)
    return f"// {graph.name}: ({inputs}) -> ({outputs})\n{body}"


def _composite(value: Node, operands: list[jax.Array]) -> jax.Array:
    traced = jax.make_jaxpr(functools.partial(plain.compute, value))(*operands)

    def decomposition(*operands: jax.Array, **_: Any) -> jax.Array:
        # A captured constant would become an operand of the composite; a constant op stays inside the decomposition.
        constants = [_constant_p.bind(held=_Held(constant)) for constant in traced.consts]
        (result,) = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(*operands)
        return result

    return lax.composite(decomposition, f"ropegen.{value.op.name}", version=VERSION)(*operands, **written(value))


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """An array as a parameter of a primitive."""

    array: Any


_constant_p = Primitive("constant")


@_constant_p.def_abstract_eval
def _constant_abstract(*, held: _Held) -> ShapedArray:  # pyright: ignore[reportUnusedFunction]
    return ShapedArray(held.array.shape, held.array.dtype)


def _constant_lowering(context: Any, *, held: _Held) -> list[Any]:
    return [mlir.ir_constant(np.asarray(held.array))]


mlir.register_lowering(_constant_p, _constant_lowering)


def written(value: Node) -> dict[str, Any]:
    """The attributes of a composite: the op's own, then those with the same meaning under ONNX's names."""
    result: dict[str, Any] = {}
    for declared in attributes(type(value.op)):
        result.update(_flat(declared.name, getattr(value.op, declared.name)))
    op = value.op
    if isinstance(op, ops.Rotate):
        result["interleaved"] = int(op.pairing == "interleaved")
        result["rotary_embedding_dim"] = value.operands[1].type.shape[-1]
    elif isinstance(op, ops.Attend):
        result["q_num_heads"], result["kv_num_heads"] = (operand.type.shape[-2] for operand in value.operands[:2])
        result["is_causal"] = int(op.visible == masks.causal and _counts_from_one_start(value))
    return result


def _counts_from_one_start(value: Node) -> bool:
    """Whether queries and keys are at positions 0, 1, ..., so that comparing positions is comparing indices, as in ONNX."""
    q, kv = value.operand("q_positions"), value.operand("kv_positions")
    return all(
        positions is not None and isinstance(positions.op, ops.Positions) and positions.op.start == 0
        for positions in (q, kv)
    )


def _flat(name: str, attribute: Any) -> dict[str, Any]:
    """An attribute in a form that a composite can hold: numbers and strings, with lists as text."""
    if attribute is None:
        return {}
    if isinstance(attribute, Scaling):
        return {
            f"{name}.{field}": item
            for key, part in attribute.to_attributes().items()
            for field, item in _flat(key, part).items()
        }
    if isinstance(attribute, tuple):
        return {name: ", ".join(map(str, attribute))}
    if isinstance(attribute, Expr | TensorType):
        return {name: str(attribute)}
    return {name: attribute}
