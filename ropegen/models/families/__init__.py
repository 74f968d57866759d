"""One file per family of checkpoints. A file defines `FAMILIES`, which maps model types to `Family` declarations.

Nothing lists the files: every module of this folder is imported, and its model types join the table below. A file may
build its declarations from those of another file with `dataclasses.replace`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType

from ropegen.errors import RopegenError
from ropegen.models.family import Family


def gather(modules: Iterable[ModuleType]) -> Mapping[str, Family]:
    """The declarations of all modules, by model type in alphabetical order.

    Raises:
      RopegenError: a module defines no `FAMILIES`, or two modules declare one model type.
    """
    families: dict[str, Family] = {}
    owners: dict[str, str] = {}
    for module in modules:
        declared: Mapping[str, Family] | None = getattr(module, "FAMILIES", None)
        if declared is None:
            raise RopegenError(f"{module.__name__} defines no FAMILIES; map its model types to Family declarations")
        for model_type, family in declared.items():
            if model_type in owners:
                raise RopegenError(
                    f"model_type {model_type!r} is declared by {owners[model_type]} and by {module.__name__}; keep one"
                )
            owners[model_type], families[model_type] = module.__name__, family
    return MappingProxyType(dict(sorted(families.items())))


FAMILIES: Mapping[str, Family] = gather(
    import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)
)
