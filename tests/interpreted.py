"""What the tests of Pallas kernels share: operands of a closed region, and programs that compile much and run little."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ropegen.template import Site
from ropegen.types import numpy_dtype


def drawn(site: Site, seed: int) -> dict[str, Any]:
    """Values of the site's operands, by label, in their element types. Angles are cosines, then sines."""
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for label, kind in site.closed.input_types.items():
        if kind.dtype == "i1":
            values[label] = random.random(kind.shape) < 0.6
        elif kind.dtype == "i32":
            values[label] = np.sort(random.integers(0, 3, kind.shape), axis=-1).astype(np.int32)
        elif "angles" in label:
            turns = random.uniform(0, 2 * math.pi, (*kind.shape[:-1], kind.shape[-1] // 2))
            values[label] = np.concatenate([np.cos(turns), np.sin(turns)], axis=-1).astype(np.float32)
        else:
            values[label] = random.standard_normal(kind.shape).astype(numpy_dtype(kind.dtype))
    return values


def run(function: Callable[..., Any], *values: Any) -> Any:
    """The results of the function, which is compiled without optimisations."""
    lowered = jax.jit(function).lower(*values)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})(*values)
