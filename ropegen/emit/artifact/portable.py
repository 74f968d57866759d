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
from ropegen.emit.module.reader import expect_program, main_types, parsed, text_of
from ropegen.emit.module.stablehlo import PORTABLE_VERSION
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.target import host_platform
from ropegen.types import TensorType, numpy_dtype

Program = Callable[..., dict[str, jax.Array]]

SEMANTIC, PORTABLE = "semantic.mlir", "module.mlirbc"


def programs(
    directory: Path, content: Callable[[str], bytes], manifest: Manifest, graph: Graph
) -> Iterator[tuple[str, Program]]:
    """The name of every such file, with a function that takes the graph's inputs by keyword and returns its outputs.

    `content` reads a file of the directory by its name.

    Raises:
      RopegenError: a file is not a StableHLO module with the arguments and results of the artifact, or it has a custom
        call.
    """
    outputs = {label: value.type for label, value in graph.outputs}
    if PORTABLE in manifest.files:
        yield PORTABLE, _by_stages(directory, content, manifest, graph, outputs)
    if SEMANTIC in manifest.files:
        path = directory / SEMANTIC
        try:
            written = content(SEMANTIC).decode()
        except UnicodeDecodeError as error:
            raise RopegenError(f"{path} is no text ({error}); build the artifact again") from error
        yield SEMANTIC, _by_keyword(_program(written, path, graph.input_types, outputs))


def _by_keyword(run: Callable[[Mapping[str, Any]], dict[str, jax.Array]]) -> Program:
    def call(**inputs: Any) -> dict[str, jax.Array]:
        return run(inputs)

    return call


def _by_stages(
    directory: Path,
    content: Callable[[str], bytes],
    manifest: Manifest,
    graph: Graph,
    outputs: Mapping[str, TensorType],
) -> Program:
    """The portable module; the module that prepares parameters computes a part of its arguments."""

    def written(name: str) -> str:
        return text_of(content(name), str(directory / name))

    stages = manifest.stages.of_a_call
    types = dict(graph.input_types)
    prepare = None
    if "prepare" in stages:
        path, stage = directory / "prepare.mlirbc", stages["prepare"]
        made = _result_types(written(path.name), path, stage.results)
        prepare = _program(written(path.name), path, {label: types[label] for label in stage.arguments}, made)
        types |= made
    arguments = {label: types[label] for label in stages["module"].arguments}
    run = _program(written(PORTABLE), directory / PORTABLE, arguments, outputs)

    def call(**inputs: Any) -> dict[str, jax.Array]:
        return run({**inputs, **(prepare(inputs) if prepare is not None else {})})

    return call


def _program(
    written: str, path: Path, arguments: Mapping[str, TensorType], results: Mapping[str, TensorType]
) -> Callable[[Mapping[str, Any]], dict[str, jax.Array]]:
    """The text of a portable module as a function of its arguments by label."""
    with mlir.make_ir_context():
        parsed_module = parsed(written, str(path))
        expect_program(parsed_module, str(path), (), [*arguments.values()], [*results.values()])
        try:
            module = bytes(mlir_tools.serialize_portable_artifact(parsed_module, PORTABLE_VERSION))
        except (ir.MLIRError, ValueError) as error:
            raise RopegenError(f"{path} is no portable StableHLO ({error}); build the artifact again") from error
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in arguments.values()]

    def same_types(*values: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros(kind.shape, numpy_dtype(kind.dtype)) for kind in results.values())

    exported = export.export(jax.jit(same_types, keep_unused=True), platforms=[host_platform()])(*shapes)
    run = jax.jit(dataclasses.replace(exported, mlir_module_serialized=module).call)

    def call(values: Mapping[str, Any]) -> dict[str, jax.Array]:
        try:
            return dict(zip(results, run(*(values[label] for label in arguments)), strict=True))
        except (jax.errors.JaxRuntimeError, ir.MLIRError) as error:
            raise RopegenError(f"{path} does not run: {str(error).partition(chr(10))[0]}") from error

    return call


def _result_types(written: str, path: Path, labels: tuple[str, ...]) -> dict[str, TensorType]:
    """The types of the results of the `main` of a portable module."""
    with mlir.make_ir_context():
        _, results = main_types(parsed(written, str(path)), str(path))
        tensors = [ir.RankedTensorType(kind) for kind in results]
        if len(tensors) != len(labels):
            raise RopegenError(f"{path} returns {len(tensors)} arrays for {len(labels)}; build the artifact again")
        return {
            label: TensorType(tuple(tensor.shape), str(tensor.element_type))
            for label, tensor in zip(labels, tensors, strict=True)
        }
