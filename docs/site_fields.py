"""Makes lists of the arguments in ropegen's docstrings, for the reference of the site.

A docstring says `name: what it is`, one argument after another. In Markdown these lines would be one paragraph.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

FIELD = re.compile(r"^([a-z_0-9]+(?:, [a-z_0-9]+)*): ")


def with_lists(docstring: str) -> str:
    """The docstring with every line that begins with names and a colon as an item of a list."""
    lines: list[str] = []
    in_item = False
    for line in docstring.split("\n"):
        field = FIELD.match(line)
        if field:
            if not in_item and lines and lines[-1]:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in field[1].split(", "))
            lines.append(f"- {names}: {line[field.end() :]}")
            in_item = True
            continue
        in_item = in_item and bool(line)
        lines.append(f"    {line.strip()}" if in_item else line)
    return "\n".join(lines)


class Fields(griffe.Extension):
    """Rewrites the docstring of every object that griffe has loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)
