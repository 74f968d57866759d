"""Inside `jax.shard_map`: the mesh axes over which a value varies, which its type states.

`shard_map` splits arrays over the *manual* axes of a mesh. A value *varies* over an axis if its devices along the axis may
hold different numbers. A primitive needs operands that vary alike. `jax.lax.pcast` brings them there, and its transpose
is the sum over devices that the gradient of a replicated operand needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax import lax
from jax.core import ShapedArray
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, ManualAxisType, NamedSharding, PartitionSpec

Array = jax.Array

# The mesh of a program for one device.
NO_MESH = AbstractMesh((), ())


def varying(types: Iterable[ShapedArray]) -> frozenset[str]:
    """The mesh axes over which at least one of the types varies."""
    return frozenset[str]().union(*(value.manual_axis_type.varying for value in types))


def alike(operands: Sequence[Array]) -> list[Array]:
    """The operands, all varying over the mesh axes over which one of them does."""
    types = [jax.typeof(operand) for operand in operands]
    axes = varying(types)
    missing = [tuple(sorted(axes - value.manual_axis_type.varying)) for value in types]
    return [
        lax.pcast(operand, absent, to="varying") if absent else operand
        for operand, absent in zip(operands, missing, strict=True)
    ]


def typed_beside(plain: ShapedArray, others: Sequence[ShapedArray]) -> ShapedArray:
    """The type of a value that is computed from others, on their mesh and varying over the same axes as they."""
    mesh = next((other.sharding.mesh for other in others if not other.sharding.mesh.empty), None)
    if mesh is None:
        return plain
    whole = NamedSharding(mesh, PartitionSpec(*(None,) * len(plain.shape)))
    return ShapedArray(
        plain.shape, plain.dtype, sharding=whole, manual_axis_type=ManualAxisType(varying=varying(others))
    )


def lowered_alone(
    function: Callable[..., Any], context: mlir.LoweringRuleContext, *operands: Any, **params: Any
) -> Any:
    """Lowers a function as on one device: it knows nothing of the mesh axes over which its operands vary."""
    types = [ShapedArray(value.shape, value.dtype) for value in context.avals_in if isinstance(value, ShapedArray)]
    rule = mlir.lower_fun(function, multiple_results=True)
    with jax.sharding.use_abstract_mesh(NO_MESH):
        return rule(
            context.replace(avals_in=types, module_context=_unsplit(context.module_context)), *operands, **params
        )


def _unsplit(module: mlir.ModuleContext) -> mlir.ModuleContext:
    """The context of a module for one device, which says that nothing of it is split.

    Without that, functions of JAX that say how they are split (`custom_partitioning`), such as the one that calls cuDNN, ask for
    the devices of the module. JAX tells them only to functions that it sees before the lowering.
    """
    axes = module.axis_context
    if isinstance(axes, mlir.SPMDAxisContext) or axes.num_devices != 1:
        return module
    nothing: Any = NO_MESH
    return module.replace(axis_context=mlir.SPMDAxisContext(nothing))
