"""The shapes of the rest of a layer, from the config: what stands after the attention front-end."""

from __future__ import annotations

from ropegen.errors import RopegenError
from ropegen.models.block import XIELU
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.layer_graph import has_norm_bias
from ropegen.models.tensors import Roles, Shapes, Tensors

NORMS = ("mlp_norm", "attention_post_norm", "mlp_post_norm", "attention_sum_norm", "mlp_sum_norm")


def block_shapes(model: Config, facts: FrontEnd, tensors: Tensors, roles: Roles) -> Shapes:
    """The shapes by label of the arrays that `roles` stand for. A weight is (features in, features out).

    Raises:
      RopegenError: a size is missing in the config.
    """
    block = model.block
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
        if role in XIELU:
            wanted[role] = (1,)
            continue
        if role == "router_correction":
            wanted[role] = (model.count(tensors.experts),)
            continue
        if role in ("router", "shared_router"):
            shape = (features, model.count(tensors.experts) if role == "router" else 1)
        else:
            inner = _inner(model, tensors, kind)
            shape = (inner, features) if part == "down" else (features, inner)
            if kind == "experts":
                shape = (model.count(tensors.experts), *shape)
        wanted[f"{role}_weight"] = shape
        of_experts = role == "router" or kind == "experts"
        has_bias = block.experts is not None and block.experts.biases if of_experts else model.flag(block.mlp_bias)
        if has_bias and role != "shared_router":
            wanted[f"{role}_bias"] = (*shape[:-2], shape[-1])
    return wanted


def forms_of(model: Config, tensors: Tensors, layer: int) -> tuple[Roles, ...]:
    """The forms that the rest of this layer may be stored in: those with a router where the layer has a mixture."""
    block = model.block
    assert block is not None
    experts = block.experts
    mixture = experts is not None and (block.mixture_layers is None or block.mixture_layers(model, layer))
    forms = tuple(roles for roles in tensors.blocks if ("router" in roles) == mixture)
    if experts is not None and experts.shared and model.count(experts.shared, least=0) == 0:
        return tuple({role: stored for role, stored in roles.items() if "shared" not in role} for roles in forms)
    return forms


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
