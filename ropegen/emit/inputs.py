"""The inputs of a call, checked against the types that the graph reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ropegen.errors import RopegenError, nearest
from ropegen.types import TensorType, numpy_dtype

Values = dict[str, jax.Array]


def expect_keywords(positional: Sequence[object], labels: Iterable[str]) -> None:
    """Raises a RopegenError if a call has arguments by position; the message shows the call by keyword."""
    if positional:
        raise RopegenError(
            f"the call has {len(positional)} arguments without a name; give the inputs by keyword: "
            f"f({', '.join(f'{label}=...' for label in labels)})"
        )


def check_inputs(
    wanted: Mapping[str, TensorType], given: Mapping[str, Any], declared: Mapping[str, TensorType]
) -> Values:
    """The wanted inputs as arrays, by label. Inputs that the passes dropped as unused may be given; they are ignored.

    Raises:
      RopegenError: an input is missing or unknown, or has another shape or element type.
    """
    for label in given:
        if label not in wanted and label not in declared:
            raise RopegenError(f"no input {label!r}; {nearest(label, wanted)}")
    missing = [label for label in wanted if label not in given]
    if missing:
        described = ", ".join(f"{label} ({wanted[label]})" for label in missing)
        raise RopegenError(f"missing inputs: {described}; give all of them by keyword")
    checked: Values = {}
    for label, kind in wanted.items():
        dtype = numpy_dtype(kind.dtype)
        if dtype.itemsize == 8 and not jax.config.read("jax_enable_x64"):
            raise RopegenError(
                f"input {label} is {kind}, and JAX runs without 64-bit types; set jax_enable_x64 to True first"
            )
        try:
            value = jnp.asarray(given[label])
        except (TypeError, ValueError, OverflowError):
            raise RopegenError(
                f"input {label} is {given[label]!r:.60}, and the graph reads {kind}; give an array of numbers"
            ) from None
        if value.shape != kind.shape or value.dtype != dtype:
            hint = (
                "a plan is made for one shape; plan again"
                if value.dtype == dtype
                else f"convert it with .astype({dtype})"
            )
            raise RopegenError(f"input {label} is {value.dtype}{list(value.shape)}, the graph reads {kind}; {hint}")
        checked[label] = value
    return checked
