"""torch's attention as contenders: scaled_dot_product_attention and FlexAttention, compiled together with RoPE.

Inputs have torch's own layout, (batch, heads, sequence, width) and contiguous; ropegen reads its own layout instead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ropegen.bench.attention import Attention, Drawn, LeftOut, import_torch
from ropegen.bench.measure import Contender

SDPA, REPEATED, FLEX = "torch sdpa", "torch sdpa, keys repeated", "torch flex"

# The errors of torch if it cannot compile or run a function: those of dynamo, inductor and the C++ compiler are
# RuntimeErrors; flex_attention refuses with ValueErrors and NotImplementedErrors.
_TORCH_ERRORS = (RuntimeError, ValueError, TypeError, AssertionError, ImportError, OSError)


def contenders(
    attention: Attention,
    drawn: Drawn,
    progress: Callable[[str], None] = lambda doing: None,
    *,
    only: Sequence[str] | None = None,
    backend: str = "inductor",
) -> tuple[list[Contender], list[LeftOut]]:
    """The contenders that torch compiles and runs, and those that it refuses, with its message.

    SDPA runs grouped queries in two ways: with `enable_gqa`, and with repeated keys and values. `only` selects some of
    the three names.
    """
    torch = import_torch()
    labels = (attention.q, attention.k, attention.v)
    grad = drawn.cotangents is not None
    tensors = [_tensor(torch, drawn.inputs[label]).requires_grad_(grad) for label in labels]
    tables = [None if table is None else torch.from_numpy(table) for table in (attention.q_table, attention.k_table)]
    cotangent = None if drawn.cotangents is None else _tensor(torch, drawn.cotangents[attention.output])
    groups = tensors[0].shape[1] // tensors[1].shape[1]
    wanted = [SDPA, *([REPEATED] if groups > 1 else []), FLEX]
    shapes = {label: kind.shape for label, kind in drawn.graph.input_types.items()}
    shapes[attention.output] = drawn.graph.outputs[0][1].type.shape
    running: list[Contender] = []
    left_out: list[LeftOut] = []
    for name in wanted if only is None else [name for name in wanted if name in only]:
        progress(f"torch compiles {name}")
        torch.compiler.reset()
        try:
            function = torch.compile(_function(torch, name, attention, groups, tensors), backend=backend, dynamic=False)
            call = _call(torch, function, tensors, tables, cotangent)
            call()
        except _TORCH_ERRORS as error:
            said = " ".join(str(error).split())
            left_out.append(LeftOut(name, f"{type(error).__name__}: {said[:300] or 'no message'}"))
            continue
        names = (attention.output, *(drawn.gradients[label] for label in labels)) if grad else (attention.output,)
        of = (attention.output, *labels)
        running.append(
            Contender(
                name,
                call,
                lambda out, names=names, of=of: {
                    label: _array(torch, result, shapes[shape])
                    for label, shape, result in zip(names, of, out, strict=False)
                },
                frozenset(drawn.gradients.values()),
            )
        )
    return running, left_out


def _function(torch: Any, name: str, attention: Attention, groups: int, tensors: Sequence[Any]) -> Callable[..., Any]:
    """A function of q, k, v and their tables that returns the output, for torch.compile."""
    if name == FLEX:
        flex = importlib.import_module("torch.nn.attention.flex_attention")
        block_mask = None
        if attention.causal:
            queries, keys = tensors[0].shape[2], tensors[1].shape[2]
            block_mask = flex.create_block_mask(_sees, None, None, queries, keys, device="cpu")

        def attend(q: Any, k: Any, v: Any) -> Any:
            return flex.flex_attention(q, k, v, scale=attention.scale, block_mask=block_mask, enable_gqa=groups > 1)

    else:
        repeats = groups if name == REPEATED else 1

        def attend(q: Any, k: Any, v: Any) -> Any:
            k, v = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (k, v))
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=attention.causal, scale=attention.scale, enable_gqa=groups > repeats
            )

    def turned(x: Any, table: Any) -> Any:
        if table is None:
            return x
        dim = table.shape[-1]
        cos, sin = table[:, : dim // 2], table[:, dim // 2 :]
        wide = x.double() if x.dtype == torch.float64 else x.float()
        if attention.pairing == "half":
            first, second = wide[..., : dim // 2], wide[..., dim // 2 : dim]
            parts = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        else:
            first, second = wide[..., 0:dim:2], wide[..., 1:dim:2]
            parts = torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
        return torch.cat([parts.to(x.dtype), x[..., dim:]], -1) if dim < x.shape[-1] else parts.to(x.dtype)

    def attention_with_rope(q: Any, k: Any, v: Any, q_table: Any, k_table: Any) -> Any:
        return attend(turned(q, q_table), turned(k, k_table), v)

    return attention_with_rope


def _sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
    return query >= key


def _call(torch: Any, function: Callable[..., Any], tensors: Any, tables: Any, cotangent: Any) -> Callable[[], Any]:
    def forward() -> Any:
        with torch.no_grad():
            return (function(*tensors, *tables),)

    def both() -> Any:
        out = function(*tensors, *tables)
        return (out, *torch.autograd.grad(out, tensors, cotangent))

    return forward if cotangent is None else both


def _tensor(torch: Any, x: np.ndarray) -> Any:
    """An array (B, S, H, D) or (S, H, D) as a torch tensor (B, H, S, D) of the same element type."""
    wide = x.reshape(-1, *x.shape[-3:])
    narrow = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    tensor = torch.from_numpy(np.ascontiguousarray(wide.astype(np.float32) if x.dtype.name in narrow else wide))
    return tensor.to(narrow.get(x.dtype.name, tensor.dtype)).transpose(1, 2).contiguous()


def _array(torch: Any, x: Any, shape: Sequence[int]) -> np.ndarray:
    """A torch tensor (B, H, S, D) as an array (..., S, H, D) in float32 or float64."""
    wide = x.detach() if x.dtype == torch.float64 else x.detach().float()
    return wide.transpose(1, 2).contiguous().numpy().reshape(shape)
