"""Weights of checkpoints: from files to the parameters of graphs, and from one rotary pairing to the other.

`checkpoint` reads a checkpoint by what its family declares (`ropegen.models.tensors`). `sources` finds the tensors,
`safetensors` reads files, `quantized` undoes int8 and fp8. `pairing` reorders the features of q and k.
"""

from ropegen.weights.checkpoint import Checkpoint, from_hf
from ropegen.weights.checkpoint import open_checkpoint as open  # noqa: A004 - rg.weights.open(...) reads as what it does
from ropegen.weights.pairing import to_half, to_interleaved

__all__ = ["Checkpoint", "from_hf", "open", "to_half", "to_interleaved"]
