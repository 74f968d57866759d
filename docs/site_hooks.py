"""What MkDocs does beyond mkdocs.yml: the site also has the pages of benchmarks/, to which pages of docs/ link.

MkDocs serves one folder. In the repository, a page links to `../benchmarks/cpu.md`; on the site, that page lies in
`benchmarks/`, and links from there to `../gpu.md` and not to `../docs/gpu.md`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SHOWN = {".md", ".json", ".png"}


def on_files(files: Files, config: Any) -> Files:
    for path in sorted(BENCHMARKS.iterdir()):
        if path.suffix in SHOWN:
            files.append(File.generated(config, f"{BENCHMARKS.name}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    here = re.sub(rf"\]\(\.\./({BENCHMARKS.name}/)", r"](\1", markdown)
    return here.replace("](../docs/", "](../")
