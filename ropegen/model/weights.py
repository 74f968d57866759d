"""The parameters of a whole model, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Weights(Protocol):
    """The parameters of a whole model; `rg.weights.open` reads them from a checkpoint.

    Every mapping holds arrays by label: those of the graphs of `rg.from_hf`, and those that `Block` names.
    """

    def front_end(self, layer: int, start: str = "hidden") -> Mapping[str, Any]:
        """The parameters of the front-end of a layer that starts at "hidden" or at "ids"."""
        ...

    def block(self, layer: int) -> Mapping[str, Any]:
        """The parameters of the rest of a layer."""
        ...

    def head(self, resolve_tied: bool = True) -> Mapping[str, Any]:
        """`final_norm`, `final_norm_bias`, `head_weight` and `head_bias`, as far as the model has them.

        resolve_tied: whether a head that is tied to the embedding has a `head_weight` too.
        """
        ...


@dataclass(frozen=True)
class Arrays:
    """The parameters of a whole model as arrays in memory.

    front_ends: of every layer; those of layer 0 with the embedding. blocks: of the rest of every layer. last: of the head.
    """

    front_ends: Sequence[Mapping[str, Any]]
    blocks: Sequence[Mapping[str, Any]]
    last: Mapping[str, Any]

    def front_end(self, layer: int, start: str = "hidden") -> Mapping[str, Any]:
        return self.front_ends[layer]

    def block(self, layer: int) -> Mapping[str, Any]:
        return self.blocks[layer]

    def head(self, resolve_tied: bool = True) -> Mapping[str, Any]:
        return self.last
