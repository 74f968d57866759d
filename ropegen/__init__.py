"""ropegen compiles the attention front-end of a transformer: one graph, a kernel for every platform.

import ropegen as rg

rope = rg.Rope(theta=500_000.0, pairing="half")
o = rg.attention(q, k, v, rope=rope, mask=rg.masks.causal)

graph = rg.load_graph("graph.mlir")  # or rg.Builder(), or rg.from_hf(config)
plan = rg.plan(graph, "gpu:h200")
rg.export(graph, "out/", targets=["cpu", "gpu:h200", "tpu:v5e"])
"""

from pathlib import Path

from ropegen import dependencies

dependencies.expect_installed()  # before the imports below, which need them

from ropegen import compat, masks, reference, scaling, weights
from ropegen.api import export, from_hf, load, load_graph, load_tiles, plan
from ropegen.emit.artifact import Artifact
from ropegen.errors import AngleWarning, FallbackWarning, RopegenError
from ropegen.functions import attention, embed, rope, rope_table, rotate, sinusoid
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.ir.text import dumps, loads
from ropegen.layouts import unpack_kv, unpack_qkv
from ropegen.merging import merge
from ropegen.model import Model
from ropegen.plans import Plan
from ropegen.retrofitting import retrofit
from ropegen.rotary import Rope, grid_positions
from ropegen.shared_sequence import context_parallel, context_plan, unzigzag, zigzag
from ropegen.target import Target
from ropegen.template import register_template
from ropegen.told import explain
from ropegen.version import VERSION

__version__ = VERSION

_BESIDE = Path(__file__).resolve().parent.parent
if (_BESIDE / "templates" / "__init__.py").is_file() and (_BESIDE / "pyproject.toml").is_file():
    # In a clone, the templates live beside the package. An installed package contains them.
    __path__.append(str(_BESIDE))

__all__ = [
    "AngleWarning",
    "Artifact",
    "Builder",
    "FallbackWarning",
    "Graph",
    "Model",
    "Plan",
    "Rope",
    "RopegenError",
    "Target",
    "attention",
    "compat",
    "context_parallel",
    "context_plan",
    "dumps",
    "embed",
    "explain",
    "export",
    "from_hf",
    "grid_positions",
    "load",
    "load_graph",
    "load_tiles",
    "loads",
    "masks",
    "merge",
    "plan",
    "reference",
    "register_template",
    "retrofit",
    "rope",
    "rope_table",
    "rotate",
    "scaling",
    "sinusoid",
    "unpack_kv",
    "unpack_qkv",
    "unzigzag",
    "weights",
    "zigzag",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
