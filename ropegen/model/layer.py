"""The parameters of one layer, and what its front-ends have prepared from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, Node
from ropegen.model.programs import Compiled
from ropegen.types import dtype_name

Array = jax.Array


def arrays(values: Mapping[str, Any], *, given_up: bool = False) -> dict[str, Array]:
    """The values as arrays of JAX, by label.

    given_up: nobody else holds or changes the values. JAX then keeps the memory of NumPy arrays where it can, and elsewhere
      copies them.
    """
    return {label: jax.device_put(value) if given_up else jnp.asarray(value) for label, value in values.items()}


class Layer:
    """The parameters of one layer: those of its front-end, and those of the rest, by label."""

    def __init__(self, index: int, front_end: Mapping[str, Array], block: Mapping[str, Array]) -> None:
        self.index = index
        self.front_end = front_end
        self.block = block
        self._prepared: dict[Node | str, Array] = {}

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

    def read_by(self, made: Compiled) -> dict[str, dict[str, Array]]:
        """What a program with this front-end reads of the layer."""
        if any(key not in self._prepared for key in made.prepared.values()):
            values = made.prepare({label: self.front_end[label] for label in made.prepare_labels})
            for name, key in made.prepared.items():
                self._prepared.setdefault(key, values[name])
        # Some models read the norm of the front-end a second time, for the feed-forward part.
        norms = {label: self.front_end[label] for label in _INPUT_NORMS if label in self.front_end}
        return {
            "front_end": {label: self.front_end[label] for label in made.run_labels if label in self.front_end},
            "prepared": {name: self._prepared[key] for name, key in made.prepared.items()},
            "block": {**norms, **self.block},
        }


_INPUT_NORMS = ("input_norm", "input_norm_bias")
