"""Which worker of pytest-xdist runs which tests: neighbours in a file stay together.

By default pytest-xdist spreads the tests of a file over all workers. Every worker then makes the fixtures of the file, and
compiles what its tests share.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Files with a fixture that takes a minute or more. One worker runs the whole file.
WHOLE = ("tests/test_context_parallel.py", "tests/test_mesh.py")
TOGETHER = 8


class Neighbours(LoadScopeScheduling):
    """Gives a worker eight tests of a file at a time, in their order, or the whole file if it is one of `WHOLE`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scopes: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file in WHOLE:
            return file
        if nodeid not in self.scopes:
            count = self.counts.get(file, 0)
            self.counts[file] = count + 1
            self.scopes[nodeid] = f"{file} {count // TOGETHER}"
        return self.scopes[nodeid]
