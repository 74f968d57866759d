"""What `rg.explain` reads: the plans of the calls that a function makes while it is traced."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ropegen.plans import Plan


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call: its name, its plans, one for every platform, and what is said of it besides."""

    call: str
    plans: tuple[Plan, ...] = ()
    notes: tuple[str, ...] = ()


_RECORD: ContextVar[list[Recorded] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Generator[list[Recorded]]:
    """A list to which every call is added that is made inside, in order."""
    calls: list[Recorded] = []
    token = _RECORD.set(calls)
    try:
        yield calls
    finally:
        _RECORD.reset(token)


def record(call: str, plans: Sequence[Plan] = (), notes: Sequence[str] = ()) -> None:
    """Adds a call to the list of `recording`, if there is one."""
    calls = _RECORD.get()
    if calls is not None:
        calls.append(Recorded(call, tuple(plans), tuple(notes)))
