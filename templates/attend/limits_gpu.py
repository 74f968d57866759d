"""What the kernels of attention for Hopper and Blackwell do not compute, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ropegen import masks
from ropegen.expression import COMPARISONS
from ropegen.ir.ops import Attend
from ropegen.target import Target

from ..gpu import capability
from .form_gpu import BACKWARD_TILE, BLACKWELL, GENERATIONS, HOPPER, MOST_WIDTH, MOST_WITH_ROOM, Generation
from .site import AttendSite

# The tile map is a constant of the module with four bytes for a tile.
MOST_TILES = 1 << 20
# CUDA's limit for the axes of a grid that are not the first.
_MOST_BLOCKS = 65535
# The operations that were compiled and compared: on integers and booleans, and on floats.
_INTEGER = frozenset(COMPARISONS) | {"&", "|", "~", "+", "-", "*", "neg", "//", "%", "min", "max", "abs", "where"}
_FLOAT = frozenset(COMPARISONS) | {
    "&",
    "|",
    "~",
    "+",
    "-",
    "*",
    "/",
    "neg",
    "min",
    "max",
    "abs",
    "where",
    "exp",
    "tanh",
}
# Tables are read by one comparison for each entry, once for a tile.
_MOST_ENTRIES = 128
# Masks and scores with up to so many comparisons were compiled: they leave all values in registers, of which a thread
# has 255. More than 128 features take registers of their own on Hopper, and so do tiles of 128 keys.
_MOST_COMPARISONS, _MOST_WITH_LESS_ROOM, _MOST_AT_128_KEYS, _MOST_BACKWARD = 12, 5, 3, 2


def generation_of(target: Target) -> Generation | None:
    """What a kernel for the target is written for, if there is one."""
    return next((one for one in GENERATIONS if one.capability == target.capability), None)


def reasons(site: AttendSite, target: Target) -> Iterator[str]:
    """Other GPUs than Hopper and Blackwell, and what the kernel does not compute."""
    yield from capability.declines([one.capability for one in GENERATIONS], target)
    op = site.op
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    if op.dropout is not None:
        yield "it drops no weights"
    if op.partial is not None:
        yield f"it returns no {op.partial} parts of a sum"
    if q.dtype not in ("bf16", "f16"):
        yield f"it multiplies bf16 and f16, not {q.dtype}"
    if _width(site) > MOST_WIDTH:
        yield f"it takes heads of at most {MOST_WIDTH} features, not {q.shape[-1]} and {v.shape[-1]}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        yield "there is no query or key to multiply"
        return
    if "numbers" in op.given:
        yield "the score reads numbers that are known only at run time"
    for operand in op.beside:
        kind = site.sources[operand.name].type
        if operand.name in op.needed - site.positions.keys() and kind.dtype == "i64":
            yield f"{operand.name} are i64, and it compares 32 bits"
        if operand.name == "bias" and kind.dtype == "f64":
            yield "the bias is f64, and it adds f32"
    if not op.scale > 0 or not math.isfinite(op.scale):
        yield f"its scale is positive and finite, not {op.scale:g}"
    if unknown := sorted({*_unknown(op.visible), *_unknown(op.score)}):
        yield f"its expressions do not compute {', '.join(unknown)}"
    # On Blackwell, weighted values are not in registers.
    taken = 0 if generation_of(target) is BLACKWELL else _width(site)
    is_wide = taken > 128
    most = _MOST_WITH_LESS_ROOM if is_wide else _MOST_COMPARISONS
    if (count := _comparisons(op, quotient=2 if is_wide else 1)) > most:
        twice = ", as a quotient counts twice with more than 128 features" if is_wide else ""
        yield f"its mask and score have at most {most} comparisons and quotients, and these have {count}{twice}"
    if taken > MOST_WITH_ROOM and "bias" in op.given and (op.softcap is not None or op.score != masks.identity):
        yield (
            f"with more than {MOST_WITH_ROOM} features, a bias leaves no register for a soft-cap or a score expression"
        )
    if q.shape[-2] > _MOST_BLOCKS or math.prod(q.shape[:-3]) > _MOST_BLOCKS:
        yield f"a GPU starts at most {_MOST_BLOCKS:,} heads and batch entries at once"


def left_to_xla(site: AttendSite, generation: Generation) -> Iterator[str]:
    """Why the backward kernels do not compute a site that the forward kernel computes."""
    if not generation.derives:
        yield f"there are kernels for gradients on {' and '.join(HOPPER.chips)} only"
        return
    if _calls(site.op.score, "tanh"):
        yield "the score has a tanh"
    if (count := _comparisons(site.op)) > _MOST_WITH_LESS_ROOM:
        yield f"its mask and score have {count} comparisons and quotients, more than {_MOST_WITH_LESS_ROOM}"
    q, k = (site.sources[name].type for name in ("q", "k"))
    count = math.prod(-(-x.shape[-3] // BACKWARD_TILE) for x in (q, k))
    if count > MOST_TILES:
        yield f"{q.shape[-3]} queries and {k.shape[-3]} keys have more than {MOST_TILES:,} tiles"


def _unknown(expr: masks.Expr) -> Iterator[str]:
    """The parts of an expression that the kernel does not compute."""
    match expr:
        case masks.Apply(op=op, args=args):
            is_float = "float" in {expr.kind, *(argument.kind for argument in args)}
            known = op in (_FLOAT if is_float else _INTEGER)
            if op in ("//", "%"):
                known &= isinstance(args[1], masks.Const) and args[1].value >= 1
            if not known:
                yield f"`{masks.excerpt(str(expr))}`"
                return
            for argument in args:
                yield from _unknown(argument)
        case masks.Table(values=values, index=index):
            if expr.kind == "bool" or len(values) > _MOST_ENTRIES or not masks.variables(index) <= {"head", "batch"}:
                yield f"`{masks.excerpt(str(expr))}`"
        case masks.Var() | masks.Const() | masks.Number():  # numbers have a reason of their own
            return
        case _:
            yield f"`{masks.excerpt(str(expr))}`"


def _comparisons(op: Attend, quotient: int = 1) -> int:
    """How many comparisons, choices and quotients the mask and the score have; a quotient counts so often."""
    return _counted(op.visible, quotient) + _counted(op.score, quotient)


def _counted(expr: masks.Expr, quotient: int) -> int:
    if not isinstance(expr, masks.Apply):
        return 0
    own = quotient if expr.op in ("//", "%") else int(expr.op in COMPARISONS or expr.op in ("where", "min", "max"))
    return own + sum(_counted(part, quotient) for part in expr.args)


def _calls(expr: masks.Expr, name: str) -> bool:
    return isinstance(expr, masks.Apply) and (expr.op == name or any(_calls(part, name) for part in expr.args))


def is_lean(site: AttendSite) -> bool:
    """Whether the scores of the forward kernel leave registers free for tiles of 128 keys."""
    return _width(site) <= 128 and _is_simple(site, _MOST_AT_128_KEYS)


def parts_backward(site: AttendSite) -> int:
    """In how many parts the backward kernels compute a tile if what they add up takes most registers: 1, 2 or 4.

    A soft-cap, a bias, a score expression and many comparisons take registers, in full tiles and in partial ones.
    """
    op = site.op
    is_plain = op.softcap is None and op.score == masks.identity and "bias" not in op.given
    if not is_plain or _comparisons(op) > _MOST_BACKWARD:
        return 4
    return 1 if _is_simple(site, _MOST_BACKWARD) else 2


def _is_simple(site: AttendSite, most_comparisons: int) -> bool:
    """Biases, dense masks, score expressions, and positions and segments that are known only at run time take registers."""
    op = site.op
    simple = op.score == masks.identity and not any(name in op.given for name in ("bias", "mask"))
    return simple and not op.needed - site.positions.keys() and _comparisons(op) <= most_comparisons


def _width(site: AttendSite) -> int:
    return max(site.sources[name].type.shape[-1] for name in ("q", "v"))
