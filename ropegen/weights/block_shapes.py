"""The shapes of the rest of a layer, from the config: what stands after the attention front-end."""

from __future__ import annotations

from ropegen.errors import RopegenError
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.layer_graph import has_norm_bias
from ropegen.models.tensors import Roles, Shapes, Tensors

NORMS = ("mlp_norm", "attention_post_norm", "mlp_post_norm")


def block_shapes(model: Config, facts: FrontEnd, tensors: Tensors, roles: Roles) -> Shapes:
    """The shapes by label of the arrays that `roles` stand for. A weight is (features in, features out).

    Raises:
      RopegenError: a size is missing in the config.
    """
    block = model.family.block
    assert block is not None
    features = model.count("hidden_size")
    wanted: dict[str, tuple[int, ...]] = {}
    for role in roles:
        kind, _, part = role.rpartition("_")
        if role in NORMS:
            wanted[role] = (features,)
            if has_norm_bias(facts):
                wanted[f"{role}_bias"] = (features,)
            continue
        if role in ("router", "shared_router"):
            shape = (features, model.count(tensors.experts) if role == "router" else 1)
        else:
            inner = _inner(model, tensors, kind)
            shape = (inner, features) if part == "down" else (features, inner)
            if kind == "experts":
                shape = (model.count(tensors.experts), *shape)
        wanted[f"{role}_weight"] = shape
        of_experts = role.startswith(("experts", "router"))
        has_bias = block.experts is not None and block.experts.biases if of_experts else model.flag(block.mlp_bias)
        if has_bias and not role.startswith("shared"):
            wanted[f"{role}_bias"] = (*shape[:-2], shape[-1])
    return wanted


def _inner(model: Config, tensors: Tensors, kind: str) -> int:
    """The inner features of the feed-forward part, of an expert, or of the shared experts."""
    if kind == "experts":
        return model.count(tensors.expert_inner)
    if kind == "shared":
        times = model.count(tensors.shared_times) if tensors.shared_times else 1
        return model.count(tensors.shared_inner) * times
    if model.optional(tensors.inner) is not None:
        return model.count(tensors.inner)
    if tensors.inner_times is None:
        raise RopegenError(f"{model.where(tensors.inner)} is missing; take it from the published config")
    return tensors.inner_times * model.count("hidden_size")
