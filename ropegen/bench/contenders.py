"""The contenders: ropegen's compiled plan or artifact, plain JAX, and torch's attention, on equal inputs.

An attention-shaped graph (`ropegen.bench.attention`) competes with `jax.nn.dot_product_attention` and with torch's
attention. Every other graph competes with its own plain formulas under jit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ropegen import plain
from ropegen.bench import torch_attention
from ropegen.bench.attention import Attention, Drawn, LeftOut, attention_of, draw, import_torch
from ropegen.bench.measure import Contender
from ropegen.emit.artifact import Artifact
from ropegen.emit.callable import Compiled
from ropegen.errors import RopegenError, nearest
from ropegen.ir.graph import Graph, label_of

AGAINST = ("jax", "torch")

# The relative difference allowed in the worst row of a result: rounding, with room for sums in another order.
_TOLERANCE = {"f64": 1e-9, "f32": 1e-4, "f16": 2e-2, "bf16": 1e-1}

Arrays = Mapping[str, Any]
Function = Callable[[Arrays], dict[str, jax.Array]]


def contenders(
    subject: Compiled | Artifact,
    against: Sequence[str] = ("jax",),
    *,
    grad: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
) -> tuple[list[Contender], list[LeftOut]]:
    """The subject and then its rivals from `against` ("jax", "torch"), and the rivals that cannot run, with the reason.

    With `grad` one call runs the forward and the backward pass: it returns the outputs and, from random cotangents, the
    gradients of every floating input.

    Raises:
      RopegenError: a name in `against` is unknown, torch is requested but not installed, or the subject of `grad` is an
        artifact.
    """
    for name in against:
        if name not in AGAINST:
            raise RopegenError(f"bench: cannot measure against {name!r}; {nearest(name, AGAINST)}")
    if isinstance(subject, Artifact) and grad:
        raise RopegenError(
            f"bench: {subject.directory} is an artifact, which has no derivative; for --grad give the graph, such as "
            f"{subject.directory / 'graph.mlir'}"
        )
    graph = subject.graph if isinstance(subject, Artifact) else subject.plan.source
    if "torch" in against:
        import_torch()
    drawn = draw(graph, grad=grad, seed=seed)
    running = [_subject(subject, drawn)]
    left_out: list[LeftOut] = []
    attention = attention_of(graph)
    if "jax" in against:
        if isinstance(attention, Attention):
            rival = jax_contender("jax.nn", _jax_nn(attention), drawn)
        else:
            rival = jax_contender("jax plain formulas", _plain(graph), drawn)
        if isinstance(rival, LeftOut):
            left_out.append(rival)
        else:
            running.append(rival)
    if "torch" in against:
        if isinstance(attention, Attention):
            made, out = torch_attention.contenders(attention, drawn, progress)
            running += made
            left_out += out
        else:
            left_out.append(LeftOut("torch", f"the graph is not plain attention: {attention}"))
    return running, left_out


def tolerance(graph: Graph) -> float:
    """The relative difference allowed in the worst row of a result, for the coarsest element type of the graph."""
    return max(_TOLERANCE[node.type.dtype] for node in graph.nodes if node.type.is_float)


def jax_contender(name: str, function: Function, drawn: Drawn) -> Contender | LeftOut:
    """The contender that runs a function of arrays by label under one jit, unless its temporaries do not fit in memory."""
    arguments: list[Any] = [jax.device_put(dict(drawn.inputs))]
    jitted: Any = jax.jit(function)
    if drawn.cotangents is not None:
        arguments.append(jax.device_put(dict(drawn.cotangents)))
        jitted = jax.jit(with_gradients(function, drawn.gradients))
    needed, memory = _temporaries(jitted, arguments), _memory()
    if memory and needed > 0.7 * memory:
        return LeftOut(
            name,
            f"it needs {needed / 1e9:.1f} GB of temporaries, and may use 70 % of this machine's {memory / 1e9:.1f} GB",
        )
    return _finished(name, jitted, arguments, drawn)


def with_gradients(function: Function, names: Mapping[str, str]) -> Callable[[Arrays, Arrays], dict[str, jax.Array]]:
    """A function of inputs and cotangents: it returns the outputs, and the gradients of the inputs in `names`.

    `names` gives the name of the gradient for the label of an input, see `Drawn.gradients`.
    """

    def differentiated(inputs: Arrays, cotangents: Arrays) -> dict[str, jax.Array]:
        moving = {label: inputs[label] for label in names}

        def of_moving(some: Arrays) -> dict[str, jax.Array]:
            return function({**inputs, **some})

        out, backward = jax.vjp(of_moving, moving)
        (gradients,) = backward(dict(cotangents))
        return {**out, **{names[label]: gradient for label, gradient in gradients.items()}}

    return differentiated


def _subject(subject: Compiled | Artifact, drawn: Drawn) -> Contender:
    labels = [label for label, _ in drawn.graph.outputs]
    if drawn.cotangents is not None and isinstance(subject, Compiled):
        read = subject.plan.graph.input_types

        def function(inputs: Arrays) -> dict[str, jax.Array]:
            return _named(labels, subject(**{label: inputs[label] for label in read}))

        jitted = jax.jit(with_gradients(function, drawn.gradients))
        arguments = jax.device_put((dict(drawn.inputs), dict(drawn.cotangents)))
        return _finished("ropegen", jitted, arguments, drawn)
    parameters = drawn.graph.labels("parameter")
    inputs: Any = jax.device_put(dict(drawn.inputs))
    if isinstance(subject, Compiled):
        parameters = tuple(label for label in parameters if label in subject.plan.graph.input_types)
    bound = subject.bind(**{label: inputs[label] for label in parameters})
    others = {label: inputs[label] for label in drawn.graph.labels("activation", "state")}

    def call() -> Any:
        return jax.block_until_ready(bound(**others))

    return Contender("ropegen", call, lambda out: _to_numpy(_named(labels, out)))


def _finished(name: str, function: Callable[..., Any], arguments: Sequence[Any], drawn: Drawn) -> Contender:
    def call() -> Any:
        return jax.block_until_ready(function(*arguments))

    return Contender(name, call, _to_numpy, frozenset(drawn.gradients.values()))


def _plain(graph: Graph) -> Function:
    def evaluated(inputs: Arrays) -> dict[str, jax.Array]:
        given = {value: inputs[label_of(value)] for value in graph.inputs}
        outputs = plain.evaluate([value for _, value in graph.outputs], given)
        return {label: value for (label, _), value in zip(graph.outputs, outputs, strict=True)}

    return evaluated


def _jax_nn(attention: Attention) -> Function:
    def attend(inputs: Arrays) -> dict[str, jax.Array]:
        q, k = (
            inputs[label] if table is None else plain.rotate(inputs[label], table, attention.pairing)
            for label, table in zip(
                (attention.q, attention.k), map(_constant, (attention.q_table, attention.k_table)), strict=True
            )
        )
        out = jax.nn.dot_product_attention(
            q, k, inputs[attention.v], scale=attention.scale, is_causal=attention.causal, implementation="xla"
        )
        return {attention.output: out}

    return attend


def _constant(table: np.ndarray | None) -> Any:
    return None if table is None else jax.numpy.asarray(table)


def _named(labels: Sequence[str], out: Any) -> dict[str, jax.Array]:
    """The outputs by name; a graph with one output returns the bare array."""
    return {labels[0]: out} if len(labels) == 1 else {label: out[label] for label in labels}


def _to_numpy(out: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    return {label: np.asarray(value) for label, value in out.items()}


def _temporaries(jitted: Any, arguments: Sequence[Any]) -> int:
    analysis = jitted.lower(*arguments).compile().memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)


def _memory() -> int:
    """The machine's memory in bytes, or 0 if the system does not report it."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
