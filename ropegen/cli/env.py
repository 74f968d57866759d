"""`ropegen env`: versions and devices, for a report of a problem."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform

from rich.text import Text

import ropegen
from ropegen.cli import arguments
from ropegen.cli.output import DONE, new_table, print_json, print_table
from ropegen.errors import RopegenError
from ropegen.native import machine
from ropegen.target import Target

_PACKAGES = ("jax", "jaxlib", "numpy", "llvmlite", "libtpu", "iree-base-compiler", "equinox", "flax", "penzai", "torch")


def _run(options: argparse.Namespace) -> int:
    import jax

    facts: dict[str, object] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "ropegen": ropegen.__version__,
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["native code"] = _native_code()
    try:
        facts["devices"] = ", ".join(f"{device.platform}: {device.device_kind}" for device in jax.devices())
        facts["host target"] = str(Target.host())
    except RuntimeError as error:  # JAX found no device at all
        facts |= {"devices": f"none: {error}", "host target": "none"}
    except RopegenError as error:
        facts["host target"] = f"none: {error}"
    if options.json:
        print_json(facts)
        return DONE
    table = new_table("what", "here")
    for name, value in facts.items():
        table.add_row(name, Text(str(value)))
    print_table(table)
    return DONE


def _native_code() -> str:
    """The vector unit that native kernels are compiled for here, or why there are none."""
    reasons = list(machine.cannot_run(Target.default("cpu")))
    return f"none: {reasons[0]}" if reasons else f"for {machine.unit_for(Target.default('cpu')).name}"


ENV = arguments.Verb(
    name="env",
    what="versions and devices, for a report",
    example="ropegen env --json",
    add_arguments=arguments.add_json,
    run=_run,
)
