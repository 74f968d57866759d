"""Whole models: a checkpoint's config and weights as a decoder that reads prompts and writes tokens."""

from ropegen.model.decoder import Cache, Model
from ropegen.model.weights import Arrays, Weights

__all__ = ["Arrays", "Cache", "Model", "Weights"]
