"""Rules for ops that undo one another, ops that do nothing, and sums that can be written in two ways."""

from __future__ import annotations

from ropegen.ir.ops import OPS, Add, Cast, Input, MergeHeads, Pack, ReorderPairs, SplitHeads, Transpose
from ropegen.passes.mutable import Value, View
from ropegen.passes.rewrite import Change, Pass, local, rule
from ropegen.types import DTYPES

# The element types that hold every value of another one. A cast into them loses nothing.
_HELD_BY = {
    "i1": frozenset(DTYPES) - {"i1"},
    "i32": frozenset({"i64", "f64"}),
    "bf16": frozenset({"f32", "f64"}),
    "f16": frozenset({"f32", "f64"}),
    "f32": frozenset({"f64"}),
}
_RANK = {cls: rank for rank, cls in enumerate(OPS.values())}


@local(Transpose)
def compose_transposes(value: Value, view: View) -> Value | None:
    """transpose(transpose(x, p), q) -> transpose(x, p[q])."""
    match value:
        case Value(op=Transpose(permutation=outer), operands=(Value(op=Transpose(permutation=inner), operands=(x,)),)):
            return view.node(Transpose(permutation=tuple(inner[axis] for axis in outer)), x)
        case _:
            return None


@local(Transpose)
def drop_identity_transpose(value: Value, view: View) -> Value | None:
    """transpose(x, 0, 1, ...) -> x."""
    match value:
        case Value(op=Transpose(permutation=axes), operands=(x,)) if axes == tuple(range(len(axes))):
            return x
        case _:
            return None


@local(Cast)
def drop_cast_to_own_type(value: Value, view: View) -> Value | None:
    """cast(x, type of x) -> x."""
    (x,) = value.operands
    return x if x.type == value.type else None


@local(Cast)
def skip_widening_cast(value: Value, view: View) -> Value | None:
    """cast(cast(x, wider), t) -> cast(x, t).

    The type `wider` must hold every value of x's type: bf16 -> f32 -> bf16 does nothing, but f32 -> bf16 -> f32 rounds.
    """
    match value:
        case Value(op=op, operands=(Value(op=Cast(dtype=wider), operands=(x,)),)):
            return view.node(op, x) if wider in _HELD_BY.get(x.type.dtype, ()) else None
        case _:
            return None


@local(MergeHeads)
def drop_merge_of_split(value: Value, view: View) -> Value | None:
    """merge_heads(split_heads(x)) -> x.

    The heads must be all of x. Otherwise, the two ops cut out columns.
    """
    match value.operands:
        case (Value(op=SplitHeads(), operands=(x,)),) if x.type == value.type:
            return x
        case _:
            return None


@local(SplitHeads)
def drop_split_of_merge(value: Value, view: View) -> Value | None:
    """split_heads(merge_heads(x)) -> x.

    The heads must be the same. Such a split starts at column 0, because it reads all columns.
    """
    match value.operands:
        case (Value(op=MergeHeads(), operands=(x,)),) if x.type == value.type:
            return x
        case _:
            return None


@local(SplitHeads)
def split_at_once(value: Value, view: View) -> Value | None:
    """split_heads(merge_heads(split_heads(x, start=a)), start=b) -> split_heads(x, start=a+b)."""
    match value:
        case Value(
            op=SplitHeads(heads=heads, width=width, start=b),
            operands=(Value(op=MergeHeads(), operands=(Value(op=SplitHeads(start=a), operands=(x,)),)),),
        ):
            return view.node(SplitHeads(heads=heads, width=width, start=a + b), x)
        case _:
            return None


@local(SplitHeads)
def split_one_part(value: Value, view: View) -> Value | None:
    """split_heads(pack(x, y, ...)) -> split_heads(y).

    All the columns must come from one part.
    """
    match value:
        case Value(op=SplitHeads(heads=heads, width=width, start=start), operands=(Value(op=Pack(), operands=parts),)):
            for part in parts:
                size = part.type.shape[-1]
                if start >= 0 and start + heads * width <= size:
                    return view.node(SplitHeads(heads=heads, width=width, start=start), part)
                start -= size
            return None
        case _:
            return None


@local(Pack)
def flatten_pack(value: Value, view: View) -> Value | None:
    """pack(pack(x, y), z) -> pack(x, y, z), pack(x) -> x."""
    if len(value.operands) == 1:
        return value.operands[0]
    return view.node(Pack(), *(part for operand in value.operands for part in _parts(operand)))


def _parts(value: Value) -> tuple[Value, ...]:
    return value.operands if isinstance(value.op, Pack) else (value,)


@local(ReorderPairs)
def drop_reorder_and_back(value: Value, view: View) -> Value | None:
    """reorder_pairs(reorder_pairs(x, to=half), to=interleaved) -> x, reorder_pairs(x, dim=2) -> x.

    One pair has the same order in both pairings.
    """
    match value:
        case Value(op=ReorderPairs(dim=2), operands=(x,)):
            return x
        case Value(
            op=ReorderPairs(width=width, dim=dim, to=to),
            operands=(Value(op=ReorderPairs(width=other_width, dim=other_dim, to=back), operands=(x,)),),
        ) if (width, dim) == (other_width, other_dim) and to != back:
            return x
        case _:
            return None


@local(Add)
def order_operands(value: Value, view: View) -> Value | None:
    """add(b, a) -> add(a, b).

    Then both are one value. The operand whose op is declared later comes second. The order depends on the two operands
    alone, never on the graph around them or on the process.
    """
    a, b = value.operands
    return view.node(Add(), b, a) if _place(b) < _place(a) or (_place(a) == _place(b) and _is_after(a, b)) else None


def _place(value: Value) -> tuple[int, int, str]:
    return _RANK[type(value.op)], -value.type.rank, str(value.type)


def _is_after(a: Value, b: Value) -> bool:
    """Whether `a` comes after `b`: at the first op in which their computations differ, operands last to first.

    Two values whose computations do not differ are one value.
    """
    compared: set[tuple[Value, Value]] = set()
    pending = [(a, b)]
    while pending:
        pair = a, b = pending.pop()
        if a is b or pair in compared:
            continue
        compared.add(pair)
        if a.op != b.op or len(a.operands) != len(b.operands):
            return (repr(a.op), len(a.operands)) > (repr(b.op), len(b.operands))
        pending += zip(a.operands, b.operands, strict=True)
    return False


@rule(Input)
def drop_unused_inputs(value: Value, view: View) -> Change | None:
    """input(x), input(y) -> input(x).

    Nothing reads y, and y is no output.
    """
    if not view.is_unused(value):
        return None
    return Change({}, unused=tuple(other for other in view.inputs if view.is_unused(other)))


CANCEL = Pass(
    "cancel",
    "Drop what undoes itself or says nothing, and write equal sums in one order.",
    (
        compose_transposes,
        drop_identity_transpose,
        drop_cast_to_own_type,
        skip_widening_cast,
        drop_merge_of_split,
        drop_split_of_merge,
        split_at_once,
        split_one_part,
        flatten_pack,
        drop_reorder_and_back,
        order_operands,
    ),
)

PRUNE = Pass("prune", "Drop the inputs that nothing reads.", (drop_unused_inputs,))
