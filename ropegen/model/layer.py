"""One layer of a model: the plan of its front-end, its parameters, and what the plan has prepared from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ropegen.emit import callable as emitted
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, Node
from ropegen.plans import Plan
from ropegen.types import dtype_name

Array = jax.Array
Values = Mapping[str, Array]


def arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    """The values as arrays of JAX, by label."""
    return {label: jnp.asarray(value) for label, value in values.items()}


class FrontEndPlan:
    """The plan of a front-end as functions: `prepare` runs once over the parameters, and `run` in every call."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.prepared = emitted.prepared_names(plan)
        self.prepare_labels = emitted.prepare_labels(plan)
        self.run_labels = emitted.run_labels(plan)
        self.prepare: Callable[[Values], dict[str, Array]] = jax.jit(functools.partial(emitted.prepare, plan))

    def run(self, prepared: Values, values: Values) -> dict[str, Array]:
        """The outputs of the graph, by name."""
        return emitted.run(self.plan, prepared, values)


class Layer:
    """The parameters of one layer: those of its front-end, and those of the rest."""

    def __init__(self, index: int, front_end: Mapping[str, Any], block: Mapping[str, Any]) -> None:
        self.index = index
        self.front_end = arrays(front_end)
        self._block = arrays(block)
        # Some models read the norm of the front-end a second time, for the feed-forward part.
        norms = ("input_norm", "input_norm_bias")
        self._block |= {label: self.front_end[label] for label in norms if label in self.front_end}
        # A node says wholly how its value is computed from the parameters, so equal nodes of two plans share one value.
        self._prepared: dict[Node, Array] = {}

    def expect(self, graph: Graph) -> None:
        """Refuses parameters that are not those of the layer's graph.

        Raises:
          RopegenError: a label is missing or unknown, or a shape or element type differs.
        """
        wanted = {label: graph.input_types[label] for label in graph.labels("parameter")}
        if missing := sorted(wanted.keys() - self.front_end.keys()):
            raise RopegenError(f"Model: the weights of layer {self.index} lack {', '.join(missing)}")
        if unknown := sorted(self.front_end.keys() - wanted.keys()):
            raise RopegenError(f"Model: layer {self.index} does not read {', '.join(unknown)}, which its weights have")
        for label, kind in wanted.items():
            given = self.front_end[label]
            if given.shape != kind.shape or dtype_name(given.dtype) != kind.dtype:
                raise RopegenError(
                    f"Model: {label} of layer {self.index} is {given.dtype.name}{list(given.shape)}, and the graph reads "
                    f"{kind}; give weights as (features in, features out), all of one element type"
                )

    def read_by(self, made: FrontEndPlan) -> dict[str, dict[str, Array]]:
        """What a program with this plan reads of the layer."""
        if any(node not in self._prepared for node in made.prepared.values()):
            values = made.prepare({label: self.front_end[label] for label in made.prepare_labels})
            for name, node in made.prepared.items():
                self._prepared.setdefault(node, values[name])
        return {
            "front_end": {label: self.front_end[label] for label in made.run_labels if label in self.front_end},
            "prepared": {name: self._prepared[node] for name, node in made.prepared.items()},
            "block": self._block,
        }
