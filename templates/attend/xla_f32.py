"""`attend` by XLA on a CPU without matrix units for half precision: the tiles of `xla`, multiplied in float32.

On such a CPU, XLA multiplies bfloat16 at 0.6 of the rate of float32, and converts both operands of every matmul. This
template converts a head once, and keeps the weights in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from ropegen.target import Target
from ropegen.template import Template

from . import xla
from .site import FAMILY, AttendSite


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Declines element types other than half precision, because there is nothing to widen."""
    dtype = site.sources["q"].type.dtype
    if dtype not in ("bf16", "f16"):
        yield f"{dtype} is multiplied as it is"


TEMPLATE = Template(
    name="xla_f32",
    version=2,
    family=FAMILY,
    runs_on=("cpu",),
    declines=declines,
    tile=("q", "kv"),
    tiles=xla.tiles,
    cost=functools.partial(xla.cost, multiplied="f32"),
    build=functools.partial(xla.build, widened=True),
    build_split=functools.partial(xla.build, widened=True),
    padding=xla.padding,
)
