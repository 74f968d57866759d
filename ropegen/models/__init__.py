"""Checkpoints of the Hugging Face hub: from a config.json to a rotary embedding, or to the graph of a front-end.

`families/` holds one file per family of checkpoints, and `FAMILIES` finds them. `family` and `block` say what a file
declares, `reading` finds the config and its family, `config` reads fields, `fields` refuses those that nobody knows,
`rope_parameters` turns a config into a `Rope`, and `front_end` turns one into a graph, which `layer_graph` or
`latent_graph` builds. `wrappers` lists the types that hold a text model and leave its attention as it is.

Layers: `Rope.from_hf` is a method of a class in layer 1, so everything that it needs is in layer 1 as well. `front_end`
builds graphs, which is layer 2, and this file names the parts of both, so it is in layer 2 too. No import is circular:
these modules import `ropegen.rotary`, and `Rope.from_hf` imports `rope_parameters` only when it is called.
"""

from ropegen.models.families import FAMILIES
from ropegen.models.front_end import INPUTS, PHASES, STARTS, from_case, from_hf, layer_count
from ropegen.models.wrappers import WRAPPERS

__all__ = ["FAMILIES", "INPUTS", "PHASES", "STARTS", "WRAPPERS", "from_case", "from_hf", "layer_count"]
