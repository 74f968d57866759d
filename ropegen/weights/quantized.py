"""Weights stored as int8 or fp8 with scales, and which quantised checkpoints are of that kind.

A stored weight (features out, features in) stands for weight * scale. One scale serves the whole weight, an output, or a
block of outputs and inputs. Its tensor has the name of the weight with `_scale` or `_scale_inv` behind it; in spite of
its name, the latter is multiplied too (DeepSeek-V3, arXiv:2412.19437).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError

Array = npt.NDArray[Any]

STORED = (np.dtype(np.int8), np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
"""The element types of quantised weights that can be read."""
SCALES = ("_scale_inv", "_scale")
ACTIVATIONS = ("input_scale", "activation_scale", "input_scale_ub")
"""Names of tensors that say how activations are quantised. Weights that are read here meet activations as they are."""

_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors")
_FORMATS = ("naive-quantized", "float-quantized", "int-quantized")


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What a config says about quantised weights. block: the outputs and inputs that share a scale; None for no blocks."""

    block: tuple[int, int] | None = None

    def dequantised(self, name: str, weight: Array, scale: Array) -> Array:
        """Weight * scale in float32. weight (features out, features in), scale of one of the forms above.

        Raises:
          RopegenError: the scale has none of these shapes.
        """
        wide = np.asarray(weight, np.float32)
        outputs, inputs = wide.shape[-2:] if wide.ndim > 1 else (0, 0)
        factors = np.asarray(scale, np.float32)
        if factors.size == 1:
            return wide * factors.reshape(())
        if factors.shape in ((outputs,), (outputs, 1)):
            wide *= factors.reshape(outputs, 1)
            return wide
        if self.block is not None and wide.ndim == 2:
            down, across = self.block
            if factors.shape == (-(-outputs // down), -(-inputs // across)):
                for row, shares in enumerate(factors):
                    wide[row * down : (row + 1) * down] *= np.repeat(shares, across)[:inputs]
                return wide
        raise RopegenError(
            f"{name} has scales of shape {factors.shape} for a weight of shape {wide.shape}"
            f"{'' if self.block is None else f' in blocks of {self.block}'}; ropegen reads one scale for the weight, for "
            "an output or for a block. Convert the checkpoint to bfloat16"
        )


def quantisation_of(given: Mapping[str, object]) -> Quantisation | None:
    """What the field `quantization_config` of a config says; None where there is none.

    Raises:
      RopegenError: the weights are stored in a form that is not plain int8 or fp8 with scales.
    """
    stated = given.get("quantization_config")
    if stated is None:
        return None
    if not isinstance(stated, Mapping):
        raise RopegenError(f"quantization_config is {stated!r:.60}; take it from the published config")
    said = cast("Mapping[str, object]", stated)
    method, form = said.get("quant_method"), said.get("format")
    if method not in _METHODS or (method == "compressed-tensors" and form not in _FORMATS):
        shown = repr(method) if method != "compressed-tensors" else f"{method!r} with the format {form!r}"
        raise RopegenError(
            f"quantization_config has the method {shown}, and ropegen reads only int8 and fp8 with scales "
            f"({', '.join(_METHODS)}); take a checkpoint in bfloat16, or dequantise it and leave quantization_config out"
        )
    block = said.get("weight_block_size")
    if block is None:
        return Quantisation()
    sides = cast("list[object]", block) if isinstance(block, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise RopegenError(f"weight_block_size is {block!r:.60}; it must be two whole numbers above 0")
    return Quantisation((cast(int, sides[0]), cast(int, sides[1])))
