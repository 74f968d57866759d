"""Layers for Equinox, Flax NNX and Penzai, which `ropegen.equinox`, `ropegen.nnx` and `ropegen.penzai` export.

An artifact or a compiled plan as a layer, with its weights as the layer's parameters: `program` is what the three share,
and `equinox`, `nnx` and `penzai` hold the `ProgramLayer` of each. `attnax` has the embeddings of attnax.
"""
