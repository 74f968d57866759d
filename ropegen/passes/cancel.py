"""What undoes itself, says nothing, or is written in two ways."""

from __future__ import annotations

from ropegen.ir.graph import Node, graph, label_of, node, topological
from ropegen.ir.ops import OPS, Add, Cast, MergeHeads, Pack, ReorderPairs, SplitHeads, Transpose
from ropegen.passes.rewrite import Change, Pass, Rule, View, local
from ropegen.types import DTYPES

# The element types that hold every value of another one: a cast into them loses nothing.
_HELD_BY = {
    "i1": frozenset(DTYPES) - {"i1"},
    "i32": frozenset({"i64", "f64"}),
    "bf16": frozenset({"f32", "f64"}),
    "f16": frozenset({"f32", "f64"}),
    "f32": frozenset({"f64"}),
}
_RANK = {each: rank for rank, each in enumerate(OPS.values())}


@local(Transpose)
def compose_transposes(value: Node, view: View) -> Node | None:
    """transpose(transpose(x, p), q) -> transpose(x, p[q])."""
    match value:
        case Node(op=Transpose(permutation=outer), operands=(Node(op=Transpose(permutation=inner), operands=(x,)),)):
            return node(Transpose(permutation=tuple(inner[axis] for axis in outer)), x)
        case _:
            return None


@local(Transpose)
def drop_identity_transpose(value: Node, view: View) -> Node | None:
    """transpose(x, 0, 1, ...) -> x."""
    match value:
        case Node(op=Transpose(permutation=axes), operands=(x,)) if axes == tuple(range(len(axes))):
            return x
        case _:
            return None


@local(Cast)
def drop_cast_to_own_type(value: Node, view: View) -> Node | None:
    """cast(x, type of x) -> x."""
    (x,) = value.operands
    return x if x.type == value.type else None


@local(Cast)
def skip_widening_cast(value: Node, view: View) -> Node | None:
    """cast(cast(x, wider), t) -> cast(x, t).

    Only where `wider` holds every value of x's type: bf16 -> f32 -> bf16 is nothing, f32 -> bf16 -> f32 rounds.
    """
    match value:
        case Node(op=op, operands=(Node(op=Cast(dtype=wider), operands=(x,)),)):
            return node(op, x) if wider in _HELD_BY.get(x.type.dtype, ()) else None
        case _:
            return None


@local(MergeHeads)
def drop_merge_of_split(value: Node, view: View) -> Node | None:
    """merge_heads(split_heads(x)) -> x.

    Where the heads are all of x; else it is how columns are cut out.
    """
    match value.operands:
        case (Node(op=SplitHeads(), operands=(x,)),) if x.type == value.type:
            return x
        case _:
            return None


@local(SplitHeads)
def drop_split_of_merge(value: Node, view: View) -> Node | None:
    """split_heads(merge_heads(x)) -> x.

    Where the heads are the same; then it starts at column 0, because it reads all columns.
    """
    match value.operands:
        case (Node(op=MergeHeads(), operands=(x,)),) if x.type == value.type:
            return x
        case _:
            return None


@local(SplitHeads)
def split_at_once(value: Node, view: View) -> Node | None:
    """split_heads(merge_heads(split_heads(x, start=a)), start=b) -> split_heads(x, start=a+b)."""
    match value:
        case Node(
            op=SplitHeads(heads=heads, width=width, start=b),
            operands=(Node(op=MergeHeads(), operands=(Node(op=SplitHeads(start=a), operands=(x,)),)),),
        ):
            return node(SplitHeads(heads=heads, width=width, start=a + b), x)
        case _:
            return None


@local(SplitHeads)
def split_one_part(value: Node, view: View) -> Node | None:
    """split_heads(pack(x, y, ...)) -> split_heads(y).

    Where all the columns come from one part.
    """
    match value:
        case Node(op=SplitHeads(heads=heads, width=width, start=start), operands=(Node(op=Pack(), operands=parts),)):
            for part in parts:
                size = part.type.shape[-1]
                if start >= 0 and start + heads * width <= size:
                    return node(SplitHeads(heads=heads, width=width, start=start), part)
                start -= size
            return None
        case _:
            return None


@local(Pack)
def flatten_pack(value: Node, view: View) -> Node | None:
    """pack(pack(x, y), z) -> pack(x, y, z), pack(x) -> x."""
    if len(value.operands) == 1:
        return value.operands[0]
    return node(Pack(), *(part for each in value.operands for part in _parts(each)))


def _parts(value: Node) -> tuple[Node, ...]:
    return value.operands if isinstance(value.op, Pack) else (value,)


@local(ReorderPairs)
def drop_reorder_and_back(value: Node, view: View) -> Node | None:
    """reorder_pairs(reorder_pairs(x, to=half), to=interleaved) -> x, reorder_pairs(x, dim=2) -> x.

    One pair is in the same order either way.
    """
    match value:
        case Node(op=ReorderPairs(dim=2), operands=(x,)):
            return x
        case Node(
            op=ReorderPairs(width=width, dim=dim, to=to),
            operands=(Node(op=ReorderPairs(width=other_width, dim=other_dim, to=back), operands=(x,)),),
        ) if (width, dim) == (other_width, other_dim) and to != back:
            return x
        case _:
            return None


@local(Add)
def order_operands(value: Node, view: View) -> Node | None:
    """add(b, a) -> add(a, b).

    So that both are one node. What is computed later, in the order in which the ops are declared, comes second: the
    order depends on the two values alone, never on the graph around them or on the process.
    """
    a, b = value.operands
    if a is b or _place(a) < _place(b) or (_place(a) == _place(b) and _structure(a) <= _structure(b)):
        return None
    return node(Add(), b, a)


def _place(value: Node) -> tuple[int, int, str]:
    return _RANK[type(value.op)], -value.type.rank, str(value.type)


def _structure(value: Node) -> list[str]:
    """The whole computation, one line an op: equal for no two values."""
    order = topological((value,))
    number = {each: index for index, each in enumerate(order)}
    return [f"{each.op!r} {[number[operand] for operand in each.operands]}" for each in reversed(order)]


@Rule.of
def drop_unused_inputs(view: View) -> Change | None:
    """input(x), input(y) -> input(x).

    Where nothing reads y and it is no output.
    """
    read = set(topological(value for _, value in view.graph.outputs))
    used = [each for each in view.graph.inputs if each in read]
    unused = [label_of(each) for each in view.graph.inputs if each not in read]
    if not unused:
        return None
    slimmer = graph(view.graph.name, used, view.graph.outputs)
    return Change(slimmer, f"unused inputs {', '.join(unused)}", "none")


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
