"""`attend` by cuDNN, NVIDIA's library, through JAX's public function: for GPUs that have no kernel of ropegen's, and others.

`jax.nn.dot_product_attention(implementation="cudnn")` emits custom calls that XLA hands to cuDNN on the machine that runs the
module. jax.export makes no promise about these calls: an artifact may hold them, and its manifest says so; modules that a
program exports by itself take another template.

JAX asks for the version of cuDNN when it traces the function, so a machine that builds a module needs JAX's plug-in for CUDA
and cuDNN, but no GPU. Without a GPU it refuses heads of more than 128 features, so this template declines them everywhere.

JAX rounds the log-sum-exp to the type of q. So the one that derivatives in forward mode read is computed by the `xla` template;
XLA leaves it out of programs that do not read it. The backward kernel of cuDNN runs after its forward kernel once more.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from ropegen import masks
from ropegen.cost import Cost, Direction, Work
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Tangents, Template, Tile, cheapest_tile

from . import xla
from .site import FAMILY, AttendSite

# JAX's plug-ins for CUDA, and the package of cuDNN that each of them loads.
_PACKAGES = (("jax-cuda13-plugin", "nvidia-cudnn-cu13"), ("jax-cuda12-plugin", "nvidia-cudnn-cu12"))
_INSTALL = 'pip install "jax[cuda13]"'
# JAX's limits for the features of a head.
_MOST_WIDTH, _WIDTH_STEP = 128, 8
# The tiles of scores that the cost model counts; cuDNN does not state its own.
_TILE = Tile.of(q=128, kv=128)
# Vector operations for a score (maximum, subtraction, sum, conversion), and those of a mask.
_VECTOR, _MASK = 5.0, 4.0


def is_installed() -> bool:
    """Whether JAX can trace calls of cuDNN here. No device is asked."""
    return any(_version(plugin) and _version(library) for plugin, library in _PACKAGES)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """What JAX's function or cuDNN does not compute, or does not compute as ropegen defines it."""
    if not is_installed():
        yield f"cuDNN is not installed, and JAX asks for its version when it traces a call; `{_INSTALL}`"
    if target.capability is None:
        yield f"it needs an Ampere GPU or a newer one, and {target} may be older"
    op = site.op
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    if site.q_pairing is not None or site.k_pairing is not None:
        yield "it does not rotate"
    if "log_sum_exp" in dict(site.closed.outputs):
        yield f"JAX rounds the log-sum-exp to {q.dtype}"
    if q.dtype not in ("bf16", "f16"):
        yield f"it multiplies bf16 and f16, not {q.dtype}"
    if q.shape[-1] > _MOST_WIDTH or q.shape[-1] % _WIDTH_STEP:
        yield (
            f"heads have a multiple of {_WIDTH_STEP} features, at most {_MOST_WIDTH} where JAX sees no GPU of Hopper, and these "
            f"have {q.shape[-1]}"
        )
    if v.shape[-1] != q.shape[-1]:
        yield f"JAX takes values with the features of keys, {q.shape[-1]}, not {v.shape[-1]}"
    if 0 in (*q.shape, *k.shape):
        yield "there is no query or key to multiply"
    if not op.scale > 0 or not math.isfinite(op.scale):
        yield f"its scale is positive and finite, not {op.scale:g}"
    if op.dropout is not None:
        yield "it drops other weights than ropegen's seed says"
    if op.partial is not None:
        yield f"it returns no {op.partial} parts of a sum"
    for name, said in (
        ("softcap", "caps no scores"),
        ("sinks", "has no sinks"),
        ("bias", "rounds a bias to the type of q"),
    ):
        if name in op.given or (name == "softcap" and op.softcap is not None):
            yield f"it {said}"
    if "mask" in op.given:
        yield "a dense mask becomes a bias, which gives rows without keys the mean of the values"
    if op.score != masks.identity:
        yield "it computes no score expression"
    if (why := _unknown_mask(site)) is not None:
        yield why


def _unknown_mask(site: AttendSite) -> str | None:
    """Why the mask is not one of cuDNN's: none, causal, or causal within a window."""
    op = site.op
    if op.visible == masks.full:
        return None
    if _window(op.visible) is None:
        return f"it masks causally, with or without a window, and not by `{masks.excerpt(str(op.visible))}`"
    if op.needed - site.positions.keys():
        return "positions are known only at run time"
    q, k = (site.sources[name].type for name in ("q", "k"))
    if q.shape[-3] != k.shape[-3]:
        return f"its causal masks are for as many queries as keys, not {q.shape[-3]} and {k.shape[-3]}"
    starts = [site.positions[name].start for name in ("q_positions", "kv_positions")]
    if starts[0] != starts[1]:
        return f"its first query and key have the same position, and these have {starts[0]} and {starts[1]}"
    return None


def _window(visible: masks.Expr) -> int | None:
    """The keys that a query sees before itself: of a causal mask 0 for all of them; None for other masks."""
    if visible == masks.causal:
        return 0
    for size in _numbers(visible):
        if size >= 1 and visible in (masks.causal & masks.window(size), masks.window(size) & masks.causal):
            return size
    return None


def _numbers(expr: masks.Expr) -> Iterator[int]:
    """The integers of an expression."""
    if isinstance(expr, masks.Const) and type(expr.value) is int:
        yield expr.value
    for part in expr.args if isinstance(expr, masks.Apply) else ():
        yield from _numbers(part)


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the scores that the mask shows, in tiles of 128 x 128; None for the tangent, which is the `xla` template's.

    It is the model of ropegen's own kernels, in which the units take turns. No time was measured. The backward pass computes
    the output again, and has five products.
    """
    if direction == "tangent":
        return None
    q = site.sources["q"].type
    heads = float(math.prod(q.shape[:-3]) * q.shape[-2])
    classes, in_tile = xla.visited(site, _TILE), heads * _TILE["q"] * _TILE["kv"]
    scores, hidden = in_tile * classes.visited, in_tile * classes.number(masks.PARTIAL)
    blocks = max(1.0, heads * -(-q.shape[-3] // _TILE["q"]))
    # Multiprocessors without a block, or without one in the last wave of blocks, compute nothing meanwhile.
    idle = -(-blocks // target.figures.multiprocessors) * target.figures.multiprocessors / blocks
    moved = float(sum(value.type.bytes for value in (*site.operands, *site.outputs)))
    products, passes = (2.0, 1.0) if direction == "forward" else (7.0, 3.0)
    return Work(
        matmul=2.0 * products * scores * q.shape[-1] * idle,
        vector=passes * (_VECTOR * scores + _MASK * hidden) * idle,
        exponentials=(1.0 if direction == "forward" else 2.0) * scores * idle,
        moved=moved if direction == "forward" else 3.0 * moved,
        launches=0.0 if direction == "forward" else 3.0,
    ).on(target, q.dtype)


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """JAX's function; the log-sum-exp and the tangent are those of the `xla` template."""
    by_xla = xla.build(site, cheapest_tile(xla.TEMPLATE, site, target), target)
    places = [site.operands.index(site.sources[name]) for name in ("q", "k", "v")]

    def attention(q: Array, k: Array, v: Array) -> Array:
        lead = q.shape[:-3]
        flat = [x.reshape(math.prod(lead), *x.shape[-3:]) for x in (q, k, v)]
        window = _window(site.op.visible)
        out = jax.nn.dot_product_attention(
            *flat,
            scale=site.op.scale,
            is_causal=window is not None,
            local_window_size=(window - 1, 0) if window else None,
            implementation="cudnn",
        )
        return out.reshape(*lead, *out.shape[1:])

    def forward(*operands: Array) -> Arrays:
        whole = dict(zip(site.order, by_xla.forward(*operands), strict=True))
        whole["output"] = attention(*(operands[place] for place in places))
        return tuple(whole[label] for label in site.order)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        given = dict(zip(site.order, cotangents, strict=True))
        asked = {place for place, is_wanted in enumerate(wanted) if is_wanted}
        if given["log_sum_exp"] is not None or not asked <= {*places}:
            return None
        out = given["output"]
        if out is None:
            return tuple(
                jnp.zeros_like(x) if is_wanted else None for x, is_wanted in zip(operands, wanted, strict=True)
            )

        def of(*values: Array) -> Array:  # an operand that is read twice has the sum of both cotangents
            return attention(*(values[distinct.index(place)] for place in places))

        distinct = [*dict.fromkeys(places)]
        pulled = dict(zip(distinct, jax.vjp(of, *(operands[place] for place in distinct))[1](out), strict=True))
        return tuple(pulled[place] if place in asked else None for place in range(len(operands)))

    return Kernel(forward, by_xla.tangent, backward)


def notes(site: AttendSite, tile: Tile, target: Target) -> Iterator[str]:
    """What the module depends on."""
    yield "jax.export makes no promise about the calls of cuDNN; stable_only (build --stable-only) leaves them out"


TEMPLATE = Template(
    name="cudnn",
    version=1,
    family=FAMILY,
    runs_on=("gpu",),
    calls=("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"),
    fits_other_gpus=True,
    declines=declines,
    cost=cost,
    build=build,
    derivatives="attend/xla",
    notes=notes,
)
