"""T5 and mT5, which neither rotate nor fit the front-end."""

from __future__ import annotations

from ropegen.models.family import Declined, Family

T5 = Family(
    positions="relative",
    front_end=Declined("its bias by relative position is learned, and the front-end has no such table"),
)

FAMILIES = {"t5": T5, "mt5": T5}
