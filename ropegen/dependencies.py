"""The packages that ropegen needs. An installed ropegen has them; a clone that is not installed may lack them."""

from __future__ import annotations

import importlib.util
import shlex
import sys

# A package by the name that Python imports, with the requirement of pyproject.toml.
REQUIRED = {
    "jax": "jax>=0.10.2,<0.13",
    "jaxlib": "jaxlib>=0.10.2,<0.13",
    "numpy": "numpy>=2.1",
    "ml_dtypes": "ml_dtypes>=0.5",
    "flatbuffers": "flatbuffers>=24.3",
    "rich": "rich>=13.7",
    "msgspec": "msgspec>=0.19,<0.24",
    "absl": "absl-py>=2.1",  # jax 0.10 imports it for Mosaic GPU, and does not require it
}


def expect_installed() -> None:
    """Does nothing if every package is installed.

    Raises:
      ModuleNotFoundError: one sentence that names the missing packages and the command that installs them.
      SystemExit: the same sentence, for `python -m ropegen`, where a traceback would hide it.
    """
    missing = {name: requirement for name, requirement in REQUIRED.items() if importlib.util.find_spec(name) is None}
    if not missing:
        return
    requirements = " ".join(f"'{requirement}'" for requirement in missing.values())
    message = (
        f"ropegen needs {', '.join(missing)}, which this Python does not have; run: "
        f"{shlex.quote(sys.executable)} -m pip install {requirements}"
    )
    # Python imports the package before it runs `ropegen.__main__`; until then the first argument is "-m".
    if sys.argv[:1] == ["-m"] and "ropegen" in sys.orig_argv:
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)
    raise ModuleNotFoundError(message, name=next(iter(missing)))
