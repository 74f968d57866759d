"""Measured tiles: one JSON file a chip, read as data.

A file maps a template and the digest of a closed region to the tile that was fastest there:

    {"chip": "cpu", "measured": [{"template": "attend/xla", "region": "<sha256>", "what": "...", "tile": {"q": 256, "kv": 512}}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ropegen.errors import RopegenError
from ropegen.target import Target
from ropegen.template import Tile


def measured(target: Target) -> Mapping[tuple[str, str], Tile]:
    """The measured tiles of a chip by (template, digest of the closed region); empty where none was measured.

    Raises:
      RopegenError: the file of that chip is damaged.
    """
    name = "cpu.json" if target.chip == "generic" else f"{target.platform}-{target.chip}.json"
    file = resources.files("ropegen.tiles") / name
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        return {
            (entry["template"], entry["region"]): Tile.of(**{label: int(size) for label, size in entry["tile"].items()})
            for entry in content["measured"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RopegenError(f"the tile table {name} is damaged ({error}); install ropegen again") from error
