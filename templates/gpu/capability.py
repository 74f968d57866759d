"""Which GPUs code is for. Nothing here needs Mosaic GPU, because planning needs none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropegen.target import Target, gpus_with


def declines(capabilities: Sequence[str], target: Target) -> Iterator[str]:
    """The reason why code for some compute capabilities cannot be in a plan; none if the target has one of them."""
    if target.capability not in capabilities:
        known = "; ".join(f"{capability}: {', '.join(gpus_with(capability))}" for capability in capabilities)
        yield f"its code is for the capabilities of some GPUs ({known}), and the plan is for {target}"
