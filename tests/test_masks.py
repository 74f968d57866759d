"""Mask and score expressions: text, values, tiles and tracing, against plain Python."""

from __future__ import annotations

import ast
import math
import pickle
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.masks import Expr, Var, apply, classify, classify_tiles, evaluate, parse

quick = settings(deadline=None, max_examples=120)
few = settings(deadline=None, max_examples=30)

# Drawn programs are plain tuples, so that their meaning does not depend on the tree under test. -----------------------

integer_tables = st.lists(st.integers(-9, 9), min_size=1, max_size=5).map(tuple)
eighths = st.integers(-64, 64).map(lambda n: n / 8)
floats = eighths | st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


def twice(operations: list[str], children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same operand on both sides, which rewrites might simplify wrongly."""
    return st.tuples(st.sampled_from(operations), children).map(lambda drawn: (drawn[0], drawn[1], drawn[1]))


def integers_of(children: st.SearchStrategy[Any], booleans: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    divisors = st.integers(-9, 70).filter(bool).map(lambda n: ("const", n)) | children
    return (
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), children, children)
        | st.tuples(st.sampled_from(["//", "%"]), children, divisors)
        | st.tuples(st.sampled_from(["neg", "abs"]), children)
        | st.tuples(st.just("where"), booleans, children, children)
        | st.tuples(st.just("table"), integer_tables, children)
        | twice(["+", "-", "*", "//", "%", "min", "max"], children)
    )


def build_strategies() -> tuple[st.SearchStrategy[Any], ...]:
    signs = ["<", "<=", ">", ">=", "==", "!="]
    comparisons = st.sampled_from(signs)
    names = st.sampled_from(masks.NAMES).map(lambda name: ("var", name))
    leaves = names | names | (st.integers(-9, 70) | st.sampled_from([2**31 - 1, -(2**31)])).map(lambda n: ("const", n))
    simple_tests = st.tuples(comparisons, leaves, leaves)
    whole = st.recursive(leaves, lambda inner: integers_of(inner, simple_tests), max_leaves=5)
    fraction_leaves = (
        st.just(("var", "score"))
        | floats.map(lambda x: ("const", x))
        | st.tuples(st.just("table"), st.lists(floats, min_size=1, max_size=4).map(tuple), whole)
    )
    tests = st.tuples(comparisons, whole, whole)
    fraction = st.recursive(
        fraction_leaves
        | whole.map(lambda inner: ("/", inner, ("const", 3.5)))
        | st.tuples(st.just("sqrt"), whole),  # NaN where negative
        lambda inner: (
            st.tuples(st.sampled_from(["+", "-", "*", "/", "min", "max"]), inner, inner | whole)
            | st.tuples(st.sampled_from(["neg", "abs"]), inner)
            | st.tuples(st.just("where"), tests, inner, inner)
            | twice(["+", "-", "*", "/", "min", "max"], inner)
        ),
        max_leaves=5,
    )
    smooth = fraction | st.tuples(st.sampled_from(["exp", "log", "tanh", "sqrt"]), fraction | whole)
    truths = st.recursive(
        tests
        | st.tuples(comparisons, fraction, fraction | whole)
        | twice(signs, fraction)
        | st.tuples(st.just("~"), st.tuples(comparisons, fraction, fraction))
        | st.booleans().map(lambda b: ("const", b))
        | st.tuples(st.just("table"), st.lists(st.booleans(), min_size=1, max_size=3).map(tuple), names),
        lambda inner: (
            st.tuples(st.sampled_from(["&", "|", "==", "!="]), inner, inner)
            | st.tuples(st.just("~"), inner)
            | st.tuples(st.just("where"), inner, inner, inner)
        ),
        max_leaves=5,
    )
    return whole, smooth, truths


whole, smooth, truths = build_strategies()
numbers_and_truths = whole | smooth | truths


def unscored(program: Any) -> Any:
    """The program with a float of positions in place of the score, which a mask cannot read."""
    if program == ("var", "score"):
        return ("-", ("var", "q_pos"), ("*", ("const", 0.7), ("var", "kv_pos")))
    return tuple(unscored(part) if isinstance(part, tuple) and program[0] != "const" else part for part in program)


mask_programs = truths.map(unscored)


def built(program: Any) -> Expr:
    """The program as an expression; a test below covers constants that leave int32 or divide by zero."""
    match program:
        case ("var", name):
            return Var(name)
        case ("const", value):
            return masks.Const(value)
        case ("table", values, index):
            return masks.table(values, built(index)).expr
        case (op, *parts):
            try:
                return apply(op, *map(built, parts))
            except RopegenError as error:
                assume("int32" not in str(error) and "zero" not in str(error))
                raise


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def meant(program: Any, names: dict[str, Any]) -> Any:
    """The value of a program with Python scalars: int32 by wrapping, floats in float64."""
    match program:
        case ("var", name):
            return names[name]
        case ("const", value):
            return value
        case ("table", values, index):
            entry = values[min(max(meant(index, names), 0), len(values) - 1)]
            return float(entry) if any(isinstance(value, float) for value in values) else entry
        case ("where", condition, chosen, otherwise):
            pair = [meant(chosen, names), meant(otherwise, names)]
            if any(isinstance(value, float) for value in pair):
                pair = [float(value) for value in pair]
            return pair[0] if meant(condition, names) else pair[1]
        case (op, *parts):
            values = [meant(part, names) for part in parts]
            result = operation(op, values)
            return wrapped(result) if type(result) is int else result
        case _:
            raise AssertionError(program)


def operation(op: str, values: list[Any]) -> Any:
    a, b = values[0], values[-1]
    if any(isinstance(value, float) for value in values) and any(math.isnan(value) for value in values):
        return op == "!=" if op in ("<", "<=", ">", ">=", "==", "!=") else math.nan
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/" if b == 0:
            return math.nan if a == 0 else math.copysign(math.inf, a) * math.copysign(1.0, b)
        case "/":
            return float(a) / float(b)
        case "//" | "%" if b == 0:
            return 0
        case "//":
            return a // b
        case "%":
            return a % b
        case "min" | "max":
            result = (min if op == "min" else max)(a, b)
            return float(result) if isinstance(a, float) or isinstance(b, float) else result
        case "neg":
            return -a
        case "abs":
            return abs(a)
        case "exp":
            return math.exp(a) if a < 700 else float(np.exp(np.float64(a))) if a < 709 else math.inf
        case "log":
            return math.nan if a < 0 else -math.inf if a == 0 else math.log(a)
        case "sqrt":
            return math.nan if a < 0 else math.sqrt(a)
        case "tanh":
            return math.tanh(a)
        case "&":
            return a and b
        case "|":
            return a or b
        case "~":
            return not a
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
        case "==":
            return a == b
        case "!=":
            return a != b
        case _:
            raise AssertionError(op)


int32 = st.integers(0, 300) | st.integers(2**31 - 9, 2**31 - 1) | st.integers(-9, -1)
value_rows = st.fixed_dictionaries(dict.fromkeys(masks.NAMES, st.lists(int32, min_size=4, max_size=4)))


@quick
@given(numbers_and_truths, value_rows, st.lists(floats, min_size=4, max_size=4))
def test_numpy_values_are_those_of_python(program: Any, rows: dict[str, list[int]], scores: list[float]) -> None:
    expr = built(program)
    values = {name: np.array(row, np.int32) for name, row in rows.items()}
    result = np.broadcast_to(evaluate(expr, np, score=np.array(scores, np.float64), **values), (4,))
    dtypes = {"bool": np.bool_, "int": np.int32, "float": np.float64}
    assert result.dtype == dtypes[expr.kind]
    for place in range(4):
        expected = meant(program, {"score": scores[place]} | {name: row[place] for name, row in rows.items()})
        assert expr.kind == type(expected).__name__
        if expr.kind == "float":
            np.testing.assert_allclose(result[place], expected, rtol=1e-13)
        else:
            assert result[place] == expected
    assert masks.variables(expr) <= {*masks.NAMES, "score"}
    if not masks.variables(expr):
        assert result.min() == result.max() or np.isnan(result).any()


@few
@given(numbers_and_truths, value_rows, st.lists(floats, min_size=4, max_size=4), st.sampled_from(["gather", "select"]))
def test_jax_values_are_those_of_numpy(
    program: Any, rows: dict[str, list[int]], scores: list[float], lookup: Any
) -> None:
    expr = built(program)
    values: dict[str, Any] = {name: np.array(row, np.int32) for name, row in rows.items()}
    values["score"] = np.array(scores, np.float32)
    expected = evaluate(expr, np, **values)
    result = evaluate(expr, jnp, lookup=lookup, **{name: jnp.asarray(value) for name, value in values.items()})
    assert result.dtype == expected.dtype
    if expr.kind == "float":  # XLA flushes subnormals, and its exp and tanh round differently
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-37)
    else:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~(sqrt(q_pos) < 1.0)", True),
        ("sqrt(q_pos) >= 1.0", False),
        ("sqrt(q_pos) == sqrt(q_pos)", False),
        ("sqrt(q_pos) <= sqrt(q_pos)", False),
        ("sqrt(q_pos) != sqrt(q_pos)", True),
        ("sqrt(q_pos) - sqrt(q_pos) == 0.0", False),
        ("sqrt(q_pos) * 0.0 == 0.0", False),
        ("min(sqrt(q_pos), 1.0) <= 1.0", False),
        ("max(sqrt(q_pos), 1.0) >= 1.0", False),
        ("abs(sqrt(q_pos)) >= 0.0", False),
        ("where(q_pos < 0, sqrt(q_pos), 1.0) == 1.0", False),
    ],
)
def test_not_a_number_is_never_rewritten_away(text: str, value: bool) -> None:
    expr = parse(text)
    assert bool(evaluate(expr, np, q_pos=-1)) is value
    assert bool(evaluate(expr, jnp, q_pos=-1)) is value
    assert classify(expr, q_pos=(-1, -1)) in ("partial", "full" if value else "empty")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constants_never_upcast(dtype: Any) -> None:
    expr = masks.score(
        lambda score, q_pos, head: masks.tanh(score * 2 + 0.1) / 3 + q_pos + masks.table([0.5, 0.25], head)
    )
    assert evaluate(expr, np, score=np.zeros((3, 1), dtype), q_pos=np.arange(3)[:, None], head=1).dtype == dtype
    assert evaluate(expr, np, score=dtype(1.0), q_pos=3, head=np.int64(0)).dtype == dtype
    traced = jax.eval_shape(
        lambda s, p: evaluate(expr, jnp, score=s, q_pos=p, head=0),
        jax.ShapeDtypeStruct((2, 3), jnp.float32),
        jax.ShapeDtypeStruct((3,), jnp.int32),
    )
    assert (traced.shape, traced.dtype) == ((2, 3), jnp.float32)


# Text ---------------------------------------------------------------------------------------------------------------


@quick
@given(numbers_and_truths)
def test_text_round_trip(program: Any) -> None:
    expr = built(program)
    again = parse(str(expr))
    assert again == expr
    assert hash(again) == hash(expr)
    assert again.kind == expr.kind
    assert pickle.loads(pickle.dumps(expr)) == expr
    assert parse(f" ( {str(expr).replace(' ', chr(10))}\t) ") == expr


SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&",
    ast.BitOr: "|", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.USub: "neg", ast.Invert: "~",
}  # fmt: skip


def read_by_python(node: ast.AST) -> Any:
    match node:
        case ast.Name(id=name):
            return Var(name)
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)):
            return masks.Const(-value)
        case ast.UnaryOp(op=op, operand=operand):
            return apply(SIGNS[type(op)], read_by_python(operand))
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            return apply(SIGNS[type(op)], read_by_python(left), read_by_python(right))
        case ast.Call(func=ast.Name(id=name), args=args):
            return apply(name, *map(read_by_python, args))
        case ast.Subscript(value=values, slice=index):
            return masks.table(ast.literal_eval(values), read_by_python(index)).expr
        case _:
            raise AssertionError(ast.dump(node))


@quick
@given(numbers_and_truths)
def test_the_text_groups_as_in_python(program: Any) -> None:
    expr = built(program)
    assume(not isinstance(expr, masks.Const))
    assert read_by_python(ast.parse(str(expr), mode="eval").body) == expr


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (masks.causal, "kv_pos <= q_pos"),
        (masks.causal & masks.window(4), "(kv_pos <= q_pos) & (q_pos - kv_pos < 4)"),
        (masks.causal | masks.prefix(3), "(kv_pos <= q_pos) | (kv_pos < 3)"),
        (masks.chunked(64), "q_pos // 64 == kv_pos // 64"),
        (masks.segments & masks.causal & masks.segments, "(q_segment == kv_segment) & (kv_pos <= q_pos)"),
        (~masks.causal, "kv_pos > q_pos"),
        (masks.alibi([0.5, 0.25]), "score - [0.5, 0.25][head] * abs(q_pos - kv_pos)"),
        (masks.full, "True"),
        (masks.nothing, "False"),
        (masks.identity, "score"),
        (masks.score(lambda score: score * -2 - 0.1), "score * -2.0 - 0.1"),
    ],
)
def test_text_is_short(given: Expr, text: str) -> None:
    assert str(given) == text
    assert parse(text) == given


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("True & (q_pos < 3)", "q_pos < 3"),
        ("(q_pos < 3) & False", "False"),
        ("(q_pos < 3) | True", "True"),
        ("(q_pos < 3) & (q_pos < 3)", "q_pos < 3"),
        ("(q_pos < 3) & (q_pos >= 3)", "False"),
        ("(q_pos < 3) | ~(q_pos < 3)", "True"),
        ("~~(q_pos / 2 < 3)", "q_pos / 2.0 < 3.0"),
        ("(q_pos < 3) & ((head == 1) & (q_pos < 3))", "(q_pos < 3) & (head == 1)"),
        ("q_pos + 2 * 3 - -1 - 0", "q_pos + 6 - -1"),
        ("--q_pos * 1 // 1", "q_pos"),
        ("where(1 < 2, q_pos, head)", "q_pos"),
        ("-0.0", "0.0"),
        ("[3, 3][head]", "3"),
        ("[3, 4, 5][7]", "5"),
        ("q_pos - (head - batch)", "q_pos - (head - batch)"),
        ("(q_pos - head) - batch", "q_pos - head - batch"),
        ("-2147483648", "-2147483648"),
        ("-(q_pos * 2)", "-(q_pos * 2)"),
        ("-q_pos * 2", "-q_pos * 2"),
    ],
)
def test_text_is_canonical(long: str, short: str) -> None:
    assert str(parse(long)) == short


def test_equality_tells_kinds_apart() -> None:
    trees = [masks.Const(True), masks.Const(1), masks.Const(1.0), Var("head"), masks.causal, masks.segments]
    assert all((a == b) == (a is b) for a in trees for b in trees)
    assert masks.Const(-0.0) == masks.Const(0.0)
    assert str(masks.Const(-0.0)) == "0.0"


MALFORMED = (
    "q_pos <|q_pos < 3 < 4|(q_pos < 3|q_pos < 3)|((|)|q_pos and head|not head|q_pos ** 2 > 1|1 2|a.b|"
    "'x'|causl|min(1)|min(1, 2, 3)|min(|min()|where(q_pos, 1, 2)|[1, 2]|[1, 2][head|[1, x][head]|"
    "[][head]|[1, True][head]|[1, 2][0.5]|[-True][head]|1e999|99999999999|-2147483649|q_pos // 0|"
    "q_pos % 0|q_pos / 0|True + 1|~3|-True|3 & 4|q_pos // 2.0|score % 2|q_pos[1]|head(1)|"
    "__import__('os')|lambda: 0|q_pos = 3|q_pos <> 3|é|\N{ARABIC-INDIC DIGIT FOUR}|1_000|0x10|#|\\|"
    "nan|inf|-inf|None|2147483647 + 1|q_pos if head else 1|!head|exp(True)|.|e5|1.e|\0"
)


@pytest.mark.parametrize("text", ["", " ", "\n", *MALFORMED.split("|")])
def test_malformed_text(text: str) -> None:
    with pytest.raises(RopegenError) as caught:
        parse(text)
    assert "<expression>:" in str(caught.value)
    assert "^" in str(caught.value)


def test_the_caret_stands_under_the_mistake() -> None:
    with pytest.raises(RopegenError) as caught:
        parse("(kv_pos <= q_pos)\n & (kv_pos < wrong)")
    assert "<expression>:2\n   & (kv_pos < wrong)\n" + " " * 15 + "^" in str(caught.value)


@pytest.mark.parametrize(
    "piece", ["(", "[", "-", "~", "abs(", "[1][", "q_pos + (", "q_pos -", "1+", "head == 1 |", "where("]
)
@pytest.mark.parametrize("times", [70, 300, 3_000, 1_000_000])
def test_deep_and_long_text(piece: str, times: int) -> None:
    with pytest.raises(RopegenError):
        parse(piece * min(times, 1_000_000 // len(piece)))


def test_closed_nesting_and_long_sums() -> None:
    for levels in (300, 30_000):
        with pytest.raises(RopegenError, match="levels"):
            parse("(" * levels + "1" + ")" * levels)
        with pytest.raises(RopegenError, match="levels"):
            parse("+".join(["q_pos"] * levels))


GROWTH = [
    lambda e: e - (masks.Traced(Var("head")) + e),
    lambda e: 1 - e,
    lambda e: e - 1,
    lambda e: masks.absolute(e) * -1,
    lambda e: -(e + 2),
    lambda e: masks.where(e < 3, e, 4),
    lambda e: masks.table([1, 2, 3], e) * (2 // e),
]


@pytest.mark.parametrize("grow", GROWTH)
def test_the_largest_trees_round_trip(grow: Any) -> None:
    def grown(until: float) -> masks.Traced:
        traced = masks.Traced(Var("q_pos"))
        while traced.expr.depth < until * masks.MAX_DEPTH - 3 and traced.expr.size < until * masks.MAX_NODES / 3:
            traced = grow(traced)
        return traced

    expr = (grown(1) < 5).expr
    assert parse(str(expr)) == expr
    assert hash(parse(str(expr))) == hash(expr)
    assert classify(expr) in ("empty", "full", "partial")
    assert evaluate(expr, np, q_pos=np.arange(3), head=0).shape == (3,)
    with pytest.raises(RopegenError, match="nodes"):
        grown(9)


def test_a_long_chain_is_flat() -> None:
    expr = masks.nothing
    for place in range(0, 1000, 2):
        expr |= masks.mask(lambda q_pos, place=place: q_pos == place)
    assert parse(str(expr)) == expr
    np.testing.assert_array_equal(
        evaluate(expr, np, q_pos=np.arange(3000)), (np.arange(3000) % 2 == 0) & (np.arange(3000) < 1000)
    )


@quick
@given(
    st.text() | st.text("qpos_kvhead<>=!&|~+-*/%()[],.0123456789e \n") | st.binary().map(lambda b: b.decode("latin1"))
)
def test_noise(text: str) -> None:
    try:
        expr = parse(text)
    except RopegenError:
        return
    assert parse(str(expr)) == expr


@few
@given(numbers_and_truths, st.data())
def test_damaged_text(program: Any, data: st.DataObject) -> None:
    text = str(built(program))
    place = data.draw(st.integers(0, len(text)))
    for damaged in (
        text[:place],
        text[place:],
        text[:place] + data.draw(st.sampled_from("()[],<~-9.e")) + text[place:],
    ):
        try:
            expr = parse(damaged)
        except RopegenError:
            continue
        assert parse(str(expr)) == expr


@pytest.mark.parametrize("seed", range(1))
def test_a_megabyte_of_noise(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for letters in ("".join(map(chr, range(256))), "q_pos<(1)+[]&|~ ", "9", "9.", "(1)", " ", "q"):
        for length in (1_000_000, masks.MAX_TEXT):
            noise = "".join(letters[i] for i in generator.integers(len(letters), size=length))
            with pytest.raises(RopegenError):
                parse(noise)


# Tiles --------------------------------------------------------------------------------------------------------------

small = st.integers(-4, 20) | st.integers(2**31 - 20, 2**31 - 9) | st.integers(-(2**31), -(2**31) + 3)


def ranges(longest: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(small, st.integers(0, longest)).map(lambda pair: (pair[0], pair[0] + pair[1]))


tiles = st.fixed_dictionaries({name: st.none() | ranges(6 if name.endswith("_pos") else 2) for name in masks.NAMES})
spans = st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda pair: (pair[0], pair[0] + pair[1]))
ANYTHING = np.array([0, 1, 2, 3, 63, 64, 65, 1000, 2**24 + 1, 2**31 - 2, 2**31 - 1], np.int32)


def kept(expr: Expr, tile: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The values of the mask at all points of a tile; a free name takes some points of its range."""
    values: dict[str, Any] = {}
    used = sorted(masks.variables(expr))
    for axis, name in enumerate(used):
        bounds = tile[name]
        points = ANYTHING if bounds is None else np.arange(bounds[0], bounds[1] + 1, dtype=np.int64).astype(np.int32)
        values[name] = points.reshape([-1 if axis == other else 1 for other in range(len(used))])
    return np.asarray(evaluate(expr, np, **values))


@settings(deadline=None, max_examples=150)
@given(mask_programs, tiles)
def test_classify_is_sound(program: Any, tile: dict[str, Any]) -> None:
    expr = built(program)
    verdict = classify(expr, **tile)
    points = kept(expr, tile)
    assert verdict != "empty" or not points.any()
    assert verdict != "full" or points.all()


@settings(deadline=None, max_examples=150)
@given(whole | smooth.map(unscored), tiles)
def test_no_tile_goes_beyond_its_bounds(program: Any, tile: dict[str, Any]) -> None:
    """Compare an expression with its own lowest and highest value, which a bound that is too tight would exclude."""
    expr = built(program)
    assume(masks.variables(expr))  # a comparison of constants is computed in float64
    points = kept(expr, tile)
    for point in {points.min().item(), points.max().item()}:
        if math.isfinite(point):
            for sign in ("<", ">", "!="):
                assert classify(apply(sign, expr, point), **tile) != "full"
            for sign in ("<=", ">=", "=="):
                assert classify(apply(sign, expr, point), **tile) != "empty"
        else:
            assert classify(apply("<", expr, 3e38), **tile) != "full" or point == -math.inf
            assert classify(apply(">", expr, -3e38), **tile) != "full" or point == math.inf


SHARP = (
    "q_pos + kv_pos|q_pos - kv_pos|3 - q_pos|-q_pos|abs(q_pos - kv_pos)|abs(-3 - q_pos)|min(q_pos, 9)|"
    "max(q_pos, kv_pos)|"
    "q_pos // 7|q_pos // -7|(q_pos - 20) // 7|100 // (q_pos + 1)|(q_pos - 30) * (kv_pos - 30)|q_pos * -3|"
    "q_pos // 16 % 4|"
    "[5, 1, 7, 3, 2][q_pos // 8 - 1]|where(q_pos < 20, kv_pos, kv_pos + 3)|q_pos // 8 * 2.0|"
    "(q_pos - 30) % -64|q_pos % 64"
)


@few
@pytest.mark.parametrize("text", SHARP.split("|"))
@given(spans, spans)
def test_bounds_are_reached(text: str, q_pos: Any, kv_pos: Any) -> None:
    tile = {"q_pos": q_pos, "kv_pos": kv_pos}
    expr = parse(text)
    points = kept(expr, tile)
    low, high = points.min().item(), points.max().item()
    slack = 1e-3 if expr.kind == "float" else 0
    assume("% 4" not in text or q_pos[0] // 64 == q_pos[1] // 64)  # within one period a remainder is a difference
    assert classify(apply(">=", expr, low - slack), **tile) == "full"
    assert classify(apply("<=", expr, high + slack), **tile) == "full"
    assert classify(apply("<", expr, low - slack), **tile) == "empty"
    assert classify(apply(">", expr, high + slack), **tile) == "empty"
    if low < high:
        assert classify(apply("<", expr, high), **tile) == "partial"


@quick
@given(mask_programs, st.lists(ranges(5), min_size=1, max_size=3), st.lists(ranges(5), min_size=1, max_size=3), tiles)
def test_a_map_is_its_tiles(program: Any, rows: list[Any], columns: list[Any], tile: dict[str, Any]) -> None:
    expr = built(program)
    others = {name: tile[name] for name in masks.NAMES[2:]}
    classes = classify_tiles(expr, rows, columns, **others)
    assert (classes.dtype, classes.shape) == (np.int8, (len(rows), len(columns)))
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        points = kept(expr, {"q_pos": row, "kv_pos": column} | others)
        assert classes[i, j] != masks.EMPTY or not points.any()
        assert classes[i, j] != masks.FULL or points.all()
        assert classify(expr, q_pos=row, kv_pos=column, **others) == ("empty", "partial", "full")[classes[i, j]]


named = st.one_of(
    st.sampled_from([masks.causal, ~masks.causal, masks.segments, masks.full, masks.nothing]),
    st.integers(1, 40).flatmap(lambda n: st.sampled_from([masks.window(n), masks.window(None, n), masks.prefix(n)])),
    st.integers(1, 12).map(masks.chunked),
    st.builds(masks.window, st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 9).map(lambda n: masks.causal & masks.window(n)),
    st.integers(1, 9).map(lambda n: masks.mask(lambda q_pos, kv_pos: abs(q_pos - kv_pos) <= n)),
)


@settings(deadline=None, max_examples=120)
@given(named, st.lists(spans, min_size=1, max_size=4), st.lists(spans, min_size=1, max_size=4), spans, spans)
def test_named_masks_are_classified_exactly(
    expr: Expr, rows: Any, columns: Any, q_segment: Any, kv_segment: Any
) -> None:
    classes = classify_tiles(expr, rows, columns, q_segment=q_segment, kv_segment=kv_segment)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        points = kept(expr, {"q_pos": row, "kv_pos": column, "q_segment": q_segment, "kv_segment": kv_segment})
        assert classes[i, j] == (masks.FULL if points.all() else masks.PARTIAL if points.any() else masks.EMPTY)


@few
@given(st.lists(spans, min_size=1, max_size=4), st.lists(spans, min_size=1, max_size=4))
def test_segments_a_row_and_a_column(rows: Any, columns: Any) -> None:
    positions = [[(0, 9)] * len(rows), [(0, 9)] * len(columns)]
    classes = classify_tiles(masks.segments, *positions, q_segment=rows, kv_segment=columns)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        points = kept(masks.segments, {"q_segment": row, "kv_segment": column})
        assert classes[i, j] == (masks.FULL if points.all() else masks.PARTIAL if points.any() else masks.EMPTY)


def test_a_table_by_head_is_classified_exactly() -> None:
    widths = [3, 9, 4, 40, 1, 7]
    expr = masks.mask(lambda q_pos, kv_pos, head: q_pos - kv_pos < masks.table(widths, head))
    for low, high, distance in product(range(-1, 7), range(-1, 7), range(45)):
        if low <= high:
            inside = [distance < widths[min(max(head, 0), 5)] for head in range(low, high + 1)]
            expected = "full" if all(inside) else "partial" if any(inside) else "empty"
            assert classify(expr, q_pos=(distance, distance), kv_pos=(0, 0), head=(low, high)) == expected


def test_float32_rounding_is_no_surprise() -> None:
    # 2**24 and 2**24 + 1 are one float32, so an analysis in exact arithmetic would call this tile empty.
    expr = parse("q_pos * 1.0 == kv_pos * 1.0")
    assert evaluate(expr, np, q_pos=2**24, kv_pos=2**24 + 1)
    assert classify(expr, q_pos=(2**24, 2**24), kv_pos=(2**24 + 1, 2**24 + 1)) == "partial"
    assert classify(expr, q_pos=(0, 9), kv_pos=(20, 30)) == "empty"
    assert classify(parse("log(q_pos - 5.0) < 0.0"), q_pos=(0, 3)) == "partial"


def test_an_overflow_is_no_surprise() -> None:
    expr = parse("q_pos + 1 > 0")
    assert classify(expr, q_pos=(0, 2**31 - 2)) == "full"
    assert classify(expr, q_pos=(0, 2**31 - 1)) == "partial"


# Tracing ------------------------------------------------------------------------------------------------------------

FUNCTIONS = [
    lambda q_pos, kv_pos: (q_pos // 64 == kv_pos // 64) & (kv_pos <= q_pos),
    lambda kv_pos, q_pos, head: abs(q_pos - kv_pos) % (head + 1) == 0,
    lambda q_pos, kv_pos, head, batch: (3 + q_pos > 7 - kv_pos) | (2 * head >= batch),
    lambda q_segment, kv_segment: (q_segment != kv_segment) & True,
    lambda q_pos, limit=5: q_pos < limit,
    lambda q_pos: 100 // (q_pos + 1) < 100 % (q_pos + 2),
    lambda q_pos, kv_pos: 1 / (q_pos + 1) < kv_pos / 4,
    lambda q_pos, kv_pos: -q_pos + +5 <= np.int64(3) * kv_pos if True else None,
    lambda *, kv_pos: (kv_pos == 3) | (kv_pos == 5),
    lambda: True,
]


@few
@given(st.sampled_from(FUNCTIONS), st.fixed_dictionaries(dict.fromkeys(masks.NAMES, st.integers(0, 200))))
def test_tracing_is_calling(function: Any, values: dict[str, int]) -> None:
    expr = masks.mask(function)
    used = {name: value for name, value in values.items() if name in function.__code__.co_varnames}
    assert bool(evaluate(expr, np, **values)) == bool(function(**used))
    assert masks.variables(expr) == used.keys()


def test_functions_and_tables_trace() -> None:
    expr = masks.score(
        lambda score, q_pos, kv_pos, head: (
            masks.where(
                q_pos > kv_pos,
                30.0 * masks.tanh(score / 30),
                masks.minimum(masks.maximum(score, -1), masks.table([1, 2.5], head)),
            )
            + masks.exp(-masks.absolute(score))
            + masks.sqrt(np.exp(score))
            + masks.log(1.0 + score * score)
        )
    )
    score, q_pos, head = np.linspace(-3, 3, 7)[:, None, None], np.array([0, 5])[:, None], np.array([0, 1])
    branch = np.where(q_pos > 3, 30 * np.tanh(score / 30), np.minimum(np.maximum(score, -1), np.array([1, 2.5])[head]))
    expected = branch + np.exp(-np.abs(score)) + np.exp(score / 2) + np.log1p(score**2)
    np.testing.assert_allclose(evaluate(expr, np, score=score, q_pos=q_pos, kv_pos=3, head=head), expected, rtol=1e-12)


def test_masks_and_functions_combine() -> None:
    expected = parse("(kv_pos <= q_pos) & (head < 3)")
    assert (masks.causal & (lambda head: head < 3)) == expected
    assert ((lambda kv_pos, q_pos: kv_pos <= q_pos) & parse("head < 3")) == expected
    assert masks.mask(lambda head: masks.causal & (head < 3)) == expected
    assert masks.mask(lambda q_pos, kv_pos, head: (kv_pos <= q_pos) & parse("head < 3")) == expected
    assert (masks.causal & True) == masks.causal
    assert (False | masks.causal) == masks.causal
    assert masks.as_mask(np.bool_(False)) == masks.nothing
    assert masks.as_score(lambda score: score) == masks.identity
    assert masks.as_score(0) == masks.Const(0.0)


REFUSED = [
    (lambda q_pos: q_pos < 3 and q_pos > 1, "& \\| ~"),
    (lambda q_pos: not q_pos < 3, "& \\| ~"),
    (lambda q_pos: 0 <= q_pos < 3, "a < b < c"),
    (lambda q_pos: q_pos > 3 if q_pos else True, "masks.where"),
    (lambda q_pos: min(q_pos, 3) < 2, "masks.where"),
    (lambda q_pos: q_pos in (1, 2), "& \\| ~"),
    (lambda q_pos: [1, 2][q_pos] > 1, "masks.table"),
    (lambda q_pos: math.exp(q_pos) > 1, "masks.exp"),
    (lambda q_pos: q_pos**2 > 1, "x \\* x"),
    (lambda q_pos: (q_pos < 1) ^ (q_pos > 3), "!="),
    (lambda q_pos: np.sin(q_pos) > 1, "np.sin"),
    (lambda q_pos: np.arange(3) > q_pos, "mask=array"),
    (lambda q_pos: q_pos, "boolean"),
    (lambda q_pos: None, "returns None"),
    (lambda q_pos: q_pos < 2**40, "int32"),
    (lambda q_pos: q_pos < math.inf, "finite"),
    (lambda q_pos: q_pos < np.float32("nan"), "finite"),
    (lambda q_pos: q_pos // 0 < 1, "zero"),
    (lambda q_pos: q_pos % 0.5 < 1, "integers"),
    (lambda q_pos: (q_pos < 3) + 1 > 1, "masks.where"),
    (lambda q_pos: q_pos < 3 & (q_pos > 1), "parentheses"),
    (lambda q_position: q_position < 3, "did you mean"),
    (lambda score: score < 3, "score"),
    (lambda *args: True, "parameters"),
    (lambda q_pos, /: q_pos < 3, "parameters"),
    (lambda head: masks.table([], head) < 3, "table"),
    (lambda head: masks.table([1, 2], head / 2) < 3, "needs an integer index"),
    (dict, "signature|parameter"),
    ("causal", "got 'causal'"),
    (np.ones((2, 2)), "mask=array"),
    (masks.identity, "boolean"),
]


@pytest.mark.parametrize(("given", "way_out"), REFUSED)
def test_what_is_no_mask(given: Any, way_out: str) -> None:
    with pytest.raises(RopegenError, match=way_out):
        masks.as_mask(given)


@pytest.mark.parametrize(
    "given", [lambda q_pos: q_pos, lambda score: score > 1, masks.causal, "x", lambda score: score + math.inf, True]
)
def test_what_is_no_score(given: Any) -> None:
    with pytest.raises(RopegenError):
        masks.as_score(given)


@pytest.mark.parametrize(
    "call",
    [
        lambda: masks.window(0),
        lambda: masks.window(2.5),  # pyright: ignore[reportArgumentType]
        lambda: masks.window(None),
        lambda: masks.window(True),
        lambda: masks.chunked(0),
        lambda: masks.chunked(2**31),
        lambda: masks.prefix(-1),
        lambda: masks.alibi([]),
        lambda: masks.alibi([math.nan]),
        lambda: masks.alibi_slopes(0),
        lambda: Var("position"),
        lambda: apply("pow", 1, 2),
        lambda: apply("min", 1),
        lambda: apply("+", 2**31 - 1, 1),
        lambda: masks.causal & masks.identity,
        lambda: bool(masks.causal),
        lambda: evaluate(masks.causal, np, q_pos=1),
        lambda: evaluate(masks.causal, np, q_pos=1, k_pos=2),
        lambda: classify(masks.identity),
        lambda: classify(masks.causal, q_pos=(3, 2)),
        lambda: classify(masks.causal, q_pos=(0, 2**31)),
        lambda: classify_tiles(masks.causal, [(0.0, 1.0)], [(0, 1)]),
        lambda: classify_tiles(masks.causal, [0, 1, 2], [(0, 1)]),
        lambda: classify_tiles(masks.segments, [(0, 1)] * 3, [(0, 1)], q_segment=[(0, 1)] * 2),
    ],
)
def test_wrong_calls(call: Any) -> None:
    with pytest.raises(RopegenError):
        call()


# Named masks and scores -----------------------------------------------------------------------------------------------------


def test_named_masks_mean_what_they_say() -> None:
    q, k = np.arange(20)[:, None], np.arange(20)[None, :]
    cases = [
        (masks.causal, k <= q),
        (masks.window(4), q - k < 4),
        (masks.window(None, 3), k - q < 3),
        (masks.window(4, 3), (q - k < 4) & (k - q < 3)),
        (masks.causal & masks.window(1), q == k),
        (masks.chunked(6), q // 6 == k // 6),
        (masks.causal | masks.prefix(5), (k <= q) | (k < 5)),
        (masks.causal & masks.full, k <= q),
    ]
    for expr, expected in cases:
        np.testing.assert_array_equal(evaluate(expr, np, q_pos=q, kv_pos=k), expected)


def test_alibi() -> None:
    """The published slopes: 2^-1...2^-8 for 8 heads; those for 12 and 16 come from the authors' fairseq code."""
    eight = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]
    root = [0.70710678118654752, 0.35355339059327376, 0.17677669529663688, 0.08838834764831844]
    assert list(masks.alibi_slopes(8)) == eight
    np.testing.assert_allclose(masks.alibi_slopes(12), eight + root, rtol=1e-15)
    np.testing.assert_allclose(masks.alibi_slopes(16), np.cumprod([0.5**0.5] * 16), rtol=1e-14)
    assert masks.alibi_slopes(1) == (2.0**-8,)
    np.testing.assert_allclose(masks.alibi_slopes(3), [2.0**-4, 2.0**-8, 2.0**-2], rtol=1e-15)
    score = np.random.default_rng(0).normal(size=(12, 5, 7))
    q, k, head = np.arange(5)[:, None] + 4, np.arange(7), np.arange(12)[:, None, None]
    expected = score - np.array(masks.alibi_slopes(12))[:, None, None] * np.abs(q - k)
    result = evaluate(masks.alibi(masks.alibi_slopes(12)), np, score=score, q_pos=q, kv_pos=k, head=head)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
