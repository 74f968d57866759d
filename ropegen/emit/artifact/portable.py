"""Running the files of an artifact that are for consumers without JAX, to check them.

A module of portable StableHLO takes positional arguments and does not depend on JAX. It runs here in place of the
program that JAX exported with the same arguments and results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.extend.mlir as mlir_tools
import jax.numpy as jnp
from jax import export
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen.emit.artifact.manifest import Manifest
from ropegen.emit.module.stablehlo import PORTABLE_VERSION
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.target import host_platform
from ropegen.types import TensorType, numpy_dtype

Program = Callable[..., dict[str, jax.Array]]

SEMANTIC, PORTABLE = "semantic.mlir", "module.mlirbc"


def programs(directory: Path, manifest: Manifest, graph: Graph) -> Iterator[tuple[str, Program]]:
    """The name of every such file, with a function that takes the graph's inputs by keyword and returns its outputs.

    Raises:
      RopegenError: a file is not a StableHLO module with the arguments and results of the artifact.
    """
    outputs = {label: value.type for label, value in graph.outputs}
    if PORTABLE in manifest.files:
        yield PORTABLE, _by_stages(directory, manifest, graph, outputs)
    if SEMANTIC in manifest.files:
        path = directory / SEMANTIC
        with mlir.make_ir_context():
            try:
                module = ir.Module.parse(path.read_text(encoding="utf-8"))
                content = bytes(mlir_tools.serialize_portable_artifact(module, PORTABLE_VERSION))
            except (ir.MLIRError, ValueError) as error:
                raise RopegenError(f"{path} is no StableHLO module ({error}); build the artifact again") from error
        yield SEMANTIC, _by_keyword(_program(content, graph.input_types, outputs))


def _by_keyword(run: Callable[[Mapping[str, Any]], dict[str, jax.Array]]) -> Program:
    def call(**inputs: Any) -> dict[str, jax.Array]:
        return run(inputs)

    return call


def _by_stages(directory: Path, manifest: Manifest, graph: Graph, outputs: Mapping[str, TensorType]) -> Program:
    """The portable module; the module that prepares parameters computes a part of its arguments."""
    stages = manifest.stages.by_name
    types = dict(graph.input_types)
    prepare = None
    if "prepare" in stages:
        made = _result_types((directory / "prepare.mlirbc").read_bytes(), stages["prepare"].results)
        arguments = {label: types[label] for label in stages["prepare"].arguments}
        prepare = _program((directory / "prepare.mlirbc").read_bytes(), arguments, made)
        types |= made
    run = _program(
        (directory / PORTABLE).read_bytes(), {label: types[label] for label in stages["module"].arguments}, outputs
    )

    def call(**inputs: Any) -> dict[str, jax.Array]:
        return run({**inputs, **(prepare(inputs) if prepare is not None else {})})

    return call


def _program(
    module: bytes, arguments: Mapping[str, TensorType], results: Mapping[str, TensorType]
) -> Callable[[Mapping[str, Any]], dict[str, jax.Array]]:
    """A portable module as a function of its arguments by label."""
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in arguments.values()]

    def same_types(*values: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros(kind.shape, numpy_dtype(kind.dtype)) for kind in results.values())

    exported = export.export(jax.jit(same_types, keep_unused=True), platforms=[host_platform()])(*shapes)
    run = jax.jit(dataclasses.replace(exported, mlir_module_serialized=module).call)

    def call(values: Mapping[str, Any]) -> dict[str, jax.Array]:
        return dict(zip(results, run(*(values[label] for label in arguments)), strict=True))

    return call


def _result_types(module: bytes, labels: tuple[str, ...]) -> dict[str, TensorType]:
    """The types of the results of a portable module's `main`."""
    with mlir.make_ir_context() as context:
        parsed: Any = mlir_tools.deserialize_portable_artifact(module, context)
        (main,) = (op for op in parsed.body.operations if ir.StringAttr(op.attributes["sym_name"]).value == "main")
        types = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value).results
        tensors = [ir.RankedTensorType(kind) for kind in types]
        return {
            label: TensorType(tuple(tensor.shape), str(tensor.element_type))
            for label, tensor in zip(labels, tensors, strict=True)
        }
