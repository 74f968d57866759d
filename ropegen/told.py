"""`explain`: the plans of every call of ropegen's that a function of JAX arrays makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ropegen import explanation
from ropegen.emit.fallback import fallback
from ropegen.emit.recorded import Recorded, recording
from ropegen.errors import RopegenError
from ropegen.plans import Plan


def explain(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """The plans of a call, with every reason, as text: `rg.explain(rg.attention, q, k, v, mask=rg.masks.causal)`.

    `function` is a function of ropegen's, a compiled plan, a layer, or any function that calls them, with the `arguments`
    and `keywords` of the call. It is traced, not run: arrays may be `jax.ShapeDtypeStruct`. The text has, for every call
    of ropegen's in order, one plan for every platform, and above them the fallbacks: platforms on which every kernel
    declines and XLA computes a region, with the reasons. See also `ropegen.FallbackWarning`.

    Raises:
      RopegenError: the function makes no call of ropegen's that can be seen, or the call itself is refused.
    """
    if not callable(function):
        raise RopegenError(
            f"explain: the function is {function!r:.60}; give a function and its arguments, as in a call"
        )
    leaves, tree = jax.tree.flatten((arguments, keywords))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)]
    called = inspect.unwrap(function)  # a function under `jax.jit` that was traced before makes no calls again

    def call(arrays: list[Any]) -> Any:
        given = list(leaves)
        for index, array in zip(places, arrays, strict=True):
            given[index] = array
        positional, named = jax.tree.unflatten(tree, given)
        called(*positional, **named)

    with recording() as calls:
        jax.eval_shape(call, [leaves[index] for index in places])
    if not calls:
        raise RopegenError(
            "explain: the function makes no call of ropegen's, or JAX has traced it before and keeps the trace; give the "
            "function that makes the call, without jax.jit around it"
        )
    return "\n".join(line for one in dict.fromkeys(calls) for line in _lines(one))


def _lines(recorded: Recorded) -> Iterator[str]:
    yield f"{recorded.call}: {', '.join(str(plan.target) for plan in recorded.plans) or 'no plan'}"
    yield from (f"  {note}" for note in recorded.notes)
    if recorded.plans:
        yield from (f"  {line}" for line in _fallbacks(recorded.plans))
    for plan in recorded.plans:
        yield ""
        yield explanation.text(plan)


def _fallbacks(plans: tuple[Plan, ...]) -> Iterator[str]:
    said = [
        message
        for plan in plans
        for step in plan.steps
        if step.region is not None
        and (message := fallback(step.region.closed, plan.target, step.chosen.template if step.chosen else None))
    ]
    yield from dict.fromkeys(said) or ["no fallback: where a kernel declines, another one computes the region"]
