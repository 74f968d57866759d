"""Fallbacks: where no kernel of ropegen's takes a region, and XLA computes it by other means."""

from __future__ import annotations

import warnings

from ropegen.errors import FallbackWarning
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import AnyTemplate, XlaIsFaster, catalog, family, reasons_of, template

# The call that a warning about a kernel names is that of the user: the frames between are JAX's and change.
_LEVEL = 2


def is_kernel(made_by: AnyTemplate) -> bool:
    """Whether a template brings code of its own, and not only ops for XLA."""
    return bool(made_by.calls) or made_by.needs_process is not None


def fallback(closed: Graph, target: Target, taken: str | None, *, is_exported: bool = False) -> str:
    """Why XLA computes a region on a target although ropegen has kernels for its family there; empty if it need not say.

    `taken` is the template that computes it, None for the plain formulas. There is a reason only if every kernel declines.
    If one could compute the region and costs more, XLA is a choice. An exported module has no code of this process and no
    calls that jax.export refuses, so kernels of those kinds do not count for it.
    """
    if taken is not None and is_kernel(template(taken)):
        return ""
    kernels = [
        made_by
        for made_by in catalog()
        if made_by.family.name == closed.name
        and target.platform in made_by.runs_on
        and is_kernel(made_by)
        and not (is_exported and (made_by.needs_process is not None or made_by.unstable_calls))
    ]
    if not kernels:
        return ""
    site = family(closed.name).site(closed)
    declined = {str(made_by): reasons_of(made_by, site, target) for made_by in kernels}
    if not all(declined.values()) or any(
        isinstance(why, XlaIsFaster) for reasons in declined.values() for why in reasons
    ):
        return ""
    said = "; ".join(f"{name} declines: {', '.join(reasons)}" for name, reasons in declined.items())
    return f"{closed.name} on {target} falls back to {taken or 'the plain formulas'}: {said}"


def warn(message: str) -> None:
    """Issues a `FallbackWarning`, unless the message is empty."""
    if message:
        warnings.warn(message, FallbackWarning, stacklevel=_LEVEL)
