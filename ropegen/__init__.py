"""ropegen compiles the attention front-end of a transformer: one graph, a kernel for every platform.

import ropegen as rg

rope = rg.Rope(theta=500_000.0, pairing="half")
o = rg.attention(q, k, v, rope=rope, mask=rg.masks.causal)

graph = rg.load_graph("graph.mlir")  # or rg.Builder(), or rg.from_hf(config)
plan = rg.plan(graph, "gpu:h200")
rg.export(graph, "out/", targets=["cpu", "gpu:h200", "tpu:v5e"])
"""

from ropegen import masks as masks
from ropegen import reference as reference
from ropegen import scaling as scaling
from ropegen import weights as weights
from ropegen.api import Plan as Plan
from ropegen.api import attention as attention
from ropegen.api import embed as embed
from ropegen.api import export as export
from ropegen.api import from_hf as from_hf
from ropegen.api import load as load
from ropegen.api import load_graph as load_graph
from ropegen.api import plan as plan
from ropegen.api import rope as rope
from ropegen.api import rope_table as rope_table
from ropegen.api import rotate as rotate
from ropegen.api import sinusoid as sinusoid
from ropegen.emit.artifact import Artifact as Artifact
from ropegen.errors import RopegenError as RopegenError
from ropegen.ir.build import Builder as Builder
from ropegen.ir.graph import Graph as Graph
from ropegen.ir.text import dumps as dumps
from ropegen.ir.text import loads as loads
from ropegen.rope import Rope as Rope
from ropegen.rope import grid_positions as grid_positions
from ropegen.target import Target as Target

__version__ = "0.1.0"
