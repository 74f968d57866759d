"""The model types of transformers that ropegen has no declaration for, with the reason why.

A type that is known is never answered with the nearest spelling of another model, whose attention may differ. A type
that a file of `families/` declares needs no entry here, and its entry is ignored.
"""

from __future__ import annotations

# Reason: the types that it holds for. Every list is in alphabetical order.
_REASONS: dict[str, str] = {}


def reason_for(model_type: str) -> str:
    """Why ropegen builds nothing for a model type of transformers; "" for a type that transformers does not have."""
    return next((reason for reason, types in _REASONS.items() if model_type in types.split()), "")
