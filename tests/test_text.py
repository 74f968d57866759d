# ruff: noqa: E501 (texts and tables are wide)
"""The text form: exact in both directions, the same on every machine, and safe for any text."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawn import drawn_graph, graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from ropegen import masks, scaling
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, graph, node
from ropegen.rotary import Rope
from ropegen.types import TensorType

# One graph, written by hand: every jax must print these bytes.
TINY = """\
module attributes {ropegen.name = "tiny", ropegen.version = 1 : i64} {
  %0 = "ropegen.input"() {label = "x"} : () -> tensor<1x4x8xf32>
  %1 = "ropegen.input"() {label = "w", role = "parameter"} : () -> tensor<8x8xf32>
  %2 = "ropegen.project"(%0, %1) : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
  %3 = "ropegen.split_heads"(%2) {heads = 2 : i64, width = 4 : i64} : (tensor<1x4x8xf32>) -> tensor<1x4x2x4xf32>
  %4 = "ropegen.positions"() {length = 4 : i64} : () -> tensor<4xi32>
  %5 = "ropegen.angles"(%4) {dim = 4 : i64, head_width = 4 : i64, scaling = {factor = 2.000000e+00 : f64, kind = "linear"}, theta = 1.000000e+04 : f64} : (tensor<4xi32>) -> tensor<4x4xf32>
  %6 = "ropegen.rotate"(%3, %5) {pairing = "half"} : (tensor<1x4x2x4xf32>, tensor<4x4xf32>) -> tensor<1x4x2x4xf32>
  %7 = "ropegen.attend"(%6, %6, %3, %4, %4) {given = ["q_positions", "kv_positions"], scale = 5.000000e-01 : f64, visible = "kv_pos <= q_pos"} : (tensor<1x4x2x4xf32>, tensor<1x4x2x4xf32>, tensor<1x4x2x4xf32>, tensor<4xi32>, tensor<4xi32>) -> tensor<1x4x2x4xf32>
  "ropegen.output"(%7) {label = "y"} : (tensor<1x4x2x4xf32>) -> ()
}
"""
TINY_DIGEST = "e0c9c7a243b885dcb50fee4945f66788ce529204f955ad97724f60fdd2386b83"


def tiny() -> Graph:
    b = Builder("tiny")
    x, w = b.input("x", (1, 4, 8), "f32"), b.parameter("w", (8, 8), "f32")
    heads = b.split_heads(b.project(x, w), 2)
    positions = b.positions(4)
    turned = b.rope(heads, positions, Rope(10_000.0, pairing="half", scaling=scaling.linear(2)))
    y = b.attend(turned, turned, heads, mask=masks.causal, q_positions=positions, kv_positions=positions)
    return b.build(y=y)


def refused(written: str) -> RopegenError:
    with pytest.raises(RopegenError) as caught:
        text.loads(written)
    return caught.value


def place(error: RopegenError, source: str = "<text>") -> tuple[int, str]:
    """The line number of the error's last note, and its text from the caret on."""
    header, shown, caret = error.__notes__[-1].split("\n")
    name, _, line = header.rpartition(":")
    assert name == source
    assert caret.strip() == "^"
    return int(line), shown[caret.index("^") :]


# Exact in both directions -----------------------------------------------------------------------------------------


def test_the_form_is_pinned():
    assert text.dumps(tiny()) == TINY
    assert text.loads(TINY) is tiny()
    assert text.digest(tiny()) == TINY_DIGEST == hashlib.sha256(TINY.encode()).hexdigest()


def test_drawn_graphs_come_back_and_differ_in_text(request: pytest.FixtureRequest):
    seen: dict[str, Graph] = {}
    for seed in range(200 if request.config.getoption("--quick") else 1000):
        drawn = drawn_graph(seed, 30, wide=seed % 3 == 0)
        written = text.dumps(drawn)
        assert text.loads(written) is drawn
        assert seen.setdefault(written, drawn) is drawn


@given(graphs(30, wide=True))
@settings(deadline=None, max_examples=30)
def test_graphs_come_back(drawn: Graph):
    assert text.loads(text.dumps(drawn)) is drawn


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_every_float_is_exact(factors: list[float]):
    b = Builder()
    x = b.input("x", (2,), "f32")
    drawn = b.build(**{f"y{i}": b.scale(x, factor) for i, factor in enumerate(factors)})
    read = text.loads(text.dumps(drawn))
    assert read is drawn
    read_factors = [value.op.factor for _, value in read.outputs]
    assert [factor.hex() for factor in read_factors] == [(factor or 0.0).hex() for factor in factors]


@given(st.integers(-(2**31), 2**31 - 9), st.text("abcé_", min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_integers_and_names_are_exact(start: int, label: str):
    b = Builder("a-b.c")
    drawn = b.build(**{label: b.positions(8, start)})
    assert text.loads(text.dumps(drawn)) is drawn


def test_defaults_may_be_written_and_are_not():
    spelled = TINY.replace('label = "x"', 'label = "x", role = "activation"').replace(
        "scale = 5.0", 'masked_row = "zero", returns = "output", score = "score", scale = 5.0'
    )
    assert spelled != TINY
    assert text.loads(spelled) is tiny()


def test_spacing_comments_and_names_do_not_matter():
    loose = (
        re.sub(r"%(\d)", r"%value_\1", TINY).replace(" {", "\n    {").replace("{label", "{ // a ( comment < {\n label")
    )
    assert text.loads(loose.replace("\n", "\r\n")) is tiny()


def test_the_generic_form_of_the_module_is_read():
    body = TINY.split("{\n", 1)[1].rsplit("}", 1)[0]
    generic = f'"builtin.module"() ({{\n{body}}}) {{ropegen.name = "tiny", ropegen.version = 1 : i64}} : () -> ()'
    assert text.loads(generic) is tiny()


def test_order_of_inputs_and_outputs_is_kept():
    a, b = (node(ops.Input(label=label, type=TensorType((2,), "f32"))) for label in "ab")
    made = [
        graph("g", order, outputs) for order in ((a, b), (b, a)) for outputs in ({"x": a, "y": b}, {"y": b, "x": a})
    ]
    written = [text.dumps(graph) for graph in made]
    assert len(set(written)) == 4
    assert [text.loads(content) for content in written] == made


def test_a_deep_graph_needs_no_stack():
    b = Builder()
    x = b.input("x", (2,), "f32")
    for _ in range(sys.getrecursionlimit() + 500):
        x = b.scale(x, 0.5)
    deep = b.build(y=x)
    assert text.loads(text.dumps(deep)) is deep


PRINT_DIGESTS = """
import sys
from ropegen.ir import text
for content in sys.stdin.read().split("\\0"):
    print(text.digest(text.loads(content)))
"""


def test_digests_are_the_same_in_every_process():
    drawn = [drawn_graph(seed, 20) for seed in range(40)]
    wanted = [text.digest(graph) for graph in drawn]
    done = subprocess.run(
        [sys.executable, "-c", PRINT_DIGESTS],
        input="\0".join(map(text.dumps, drawn)),
        env={**os.environ, "PYTHONHASHSEED": "1"},  # here it is another one
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == wanted


def test_what_has_no_text_is_refused():
    b = Builder()
    wide = b.merge_heads(b.input("x", (2**62, 2), "f32"))
    with pytest.raises(RopegenError, match="sizes must fit 64 bits"):
        text.dumps(b.build(y=wide))


# Texts that are not graphs ----------------------------------------------------------------------------------------------

# name: (a part of TINY, its replacement everywhere, the line of the error, the text at the caret, parts of the message)
BROKEN: dict[str, tuple[str, str, int, str, tuple[str, ...]]] = {
    "unknown op": ('"ropegen.rotate"', '"ropegen.rotat"', 8, '"ropegen.rotat"', ("'ropegen.rotat'", "'ropegen.rotate'?")),
    "op of another dialect": ('"ropegen.rotate"', '"mhlo.rotate"', 8, '"mhlo', ("'mhlo.rotate'", "'ropegen.rotate'?")),
    "unknown attribute": ("pairing =", "paring =", 8, "paring", ("rotate", "'paring'", "'pairing'?")),
    "attribute of none": ("(%0, %1) :", "(%0, %1) {axis = 1} :", 4, "axis", ("project", "'axis'", "given")),
    "missing attribute": ('{pairing = "half"} ', "", 8, '"ropegen', ("'pairing' is missing", '"half" or "interleaved"')),
    "missing number": ("heads = 2 : i64, ", "", 5, '"ropegen', ("'heads' is missing", "64-bit integer such as 8")),
    "string for a number": ("heads = 2 : i64", 'heads = "2"', 5, "heads", ("'heads' is \"2\"", "64-bit integer such as")),
    "float for an integer": ("heads = 2 : i64", "heads = 2.0", 5, "heads", ("2.0", "64-bit integer such as 8")),
    "integer for a float": ("theta = 1.000000e+04 : f64", "theta = 10000", 7, "theta", ("10000", "float such as 8.0")),
    "float of 32 bits": ("5.000000e-01 : f64", "0.5 : f32", 9, "scale", (": f32", "64-bit float such as 8.0")),
    "integer of 32 bits": ("length = 4 : i64", "length = 4 : i32", 6, "length", ("4 : i32", "64-bit integer")),
    "flag for a number": ("length = 4 : i64", "length = true", 6, "length", ("true", "64-bit integer such as 8")),
    "number for a list": ('given = ["q_positions", "kv_positions"]', 'given = "q"', 9, "given", ("list in []",)),
    "list of numbers": ('"q_positions", "kv', '1, "kv', 9, "given", ('[1, "kv_positions"]', "list in [], where every element is a string")),
    "infinity": ("5.000000e-01", "0x7FF0000000000000", 9, "scale", ("inf", "finite")),
    "unknown choice": ('"half"', '"halves"', 8, "pairing", ("'halves'", "did you mean 'half'?")),
    "below the minimum": ("length = 4 ", "length = -4 ", 6, "length", ("-4", "at least 0")),
    "unknown operand": ('"kv_positions"]', '"kv_position"]', 9, "given", ("'kv_position'", "'kv_positions'?")),
    "operands out of order": ('["q_positions", "kv', '["kv_positions", "kv', 9, '"ropegen', ("in the order q_positions",)),
    "operand too many": ("(%4) {dim", "(%4, %4) {dim", 7, "(tensor<4xi32>)", ("expected 2", "write every op as %1")),
    "operand missing": (
        "(%3, %5) {pairing = \"half\"} : (tensor<1x4x2x4xf32>, tensor<4x4xf32>)",
        "(%3) {pairing = \"half\"} : (tensor<1x4x2x4xf32>)",
        8,
        '"ropegen.rotate"',
        ("1 operands for 2 (x, angles)",),
    ),
    "no such value": ("(%7)", "(%77)", 10, "%77", ("undeclared SSA value", "write every op as")),
    "value of another type": ("(%7) {label = \"y\"} : (tensor<1x4x2x4xf32>)", "(%7) {label = \"y\"} : (tensor<1xf32>)", 10, "%7", ("different type",)),
    "used before it is made": ('%4 = "ropegen.pos', '"ropegen.output"(%5) {label = "z"} : (tensor<4x4xf32>) -> ()\n  %4 = "ropegen.pos', 6, '"ropegen.output"', ("operand 0", "move the op that defines it above")),
    "expression that does not parse": ('"kv_pos <= q_pos"', '"kv_pos <= "', 9, "visible", ("attend: attribute 'visible'", "got the end")),
    "unknown name in an expression": ('"kv_pos <= q_pos"', '"kv_pos <= q_poss"', 9, "visible", ("q_poss", "q_pos")),
    "number for a mask": ('"kv_pos <= q_pos"', '"kv_pos"', 9, '"ropegen.attend"', ("a mask must be a boolean", "compare numbers")),
    "unknown scaling": ('kind = "linear"', 'kind = "linea"', 7, "scaling", ("'linea'", "did you mean 'linear'?")),
    "unknown field of a scaling": ("{factor =", "{facto =", 7, "scaling", ("'facto'", "did you mean 'factor'?")),
    "scaling that is a string": ('{factor = 2.000000e+00 : f64, kind = "linear"}', '"linear"', 7, "scaling", ('{kind = "none"}',)),
    "strange value in a scaling": ("factor = 2.000000e+00 : f64", "factor = unit", 7, "scaling", ("scaling.factor", "unit")),
    "label that is no name": ('label = "x"', 'label = "x y"', 2, '"ropegen.input"', ("'x y'", "letters, digits and _")),
    "label of an output": ('label = "y"', 'label = "y-1"', 10, "label", ("'y-1'", "letters, digits and _")),
    "label given twice": ('label = "w"', 'label = "x"', 3, '"ropegen.input"', ("more than one input 'x'", "must differ")),
    "output without a label": ('{label = "y"} ', "", 10, '"ropegen.output"', ("'label' is missing", '"ropegen.output"(%0)')),
    "output of two": ("(%7) {label = \"y\"} : (tensor<1x4x2x4xf32>)", "(%6, %7) {label = \"y\"} : (tensor<1x4x2x4xf32>, tensor<1x4x2x4xf32>)", 10, '"ropegen.output"', ("2 operands for 1", "one op per output")),
    "output with a result": ('(tensor<1x4x2x4xf32>) -> ()', "(tensor<1x4x2x4xf32>) -> tensor<4xf32>", 10, '"ropegen.output"', ("1 results", "write none")),
    "value that nothing uses": ('  "ropegen.output"', '  %8 = "ropegen.merge_heads"(%7) : (tensor<1x4x2x4xf32>) -> tensor<1x4x8xf32>\n  "ropegen.output"', 10, '"ropegen.merge_heads"', ("nothing uses", "remove the line")),
    "no output": ('  "ropegen.output"(%7) {label = "y"} : (tensor<1x4x2x4xf32>) -> ()\n', "", 1, "module", ("'tiny' has no output", '"ropegen.output"')),
    "shape that breaks a rule": ("heads = 2 ", "heads = 3 ", 5, '"ropegen.split_heads"', ("3 heads of 4", "do not fit", "check heads")),
    "another result type": ("tensor<4x4xf32>", "tensor<4x4xf64>", 7, '"ropegen.angles"', ("tensor<4x4xf64>", "give tensor<4x4xf32>")),
    "types that disagree": ("-> tensor<4x4xf32>", "-> tensor<4x4xf64>", 8, "%5", ("different type", "'tensor<4x4xf64>'")),
    "unknown size": ("tensor<8x8xf32>", "tensor<?x8xf32>", 3, '"ropegen.input"', ("tensor<?x8xf32>", "as a number")),
    "unknown rank": ("tensor<8x8xf32>", "tensor<*xf32>", 3, '"ropegen.input"', ("tensor<*xf32>", "as a number")),
    "no tensor": ("tensor<8x8xf32>", "f32", 3, '"ropegen.input"', ("f32 is not", "tensor<bf16> for a scalar")),
    "encoding": ("tensor<8x8xf32>", 'tensor<8x8xf32, "csr">', 3, '"ropegen.input"', ('"csr"', "tensors are dense")),
    "unknown element type": ("tensor<8x8xf32>", "tensor<8x8xi16>", 3, '"ropegen.input"', ("'i16'", "did you mean 'i1'?")),
    "size of 65 bits": ("() -> tensor<8x8xf32>", f"() -> tensor<{2**64}xf32>", 3, str(2**64), ("invalid dimension",)),
    "results": ("%2 = ", "%2:2 = ", 4, "%2:2", ("1 results but was provided 2", "write every op as")),
    "no result": ("%4 = ", "", 7, "%4", ("undeclared SSA value", "write every op as")),
    "properties": ('{pairing = "half"}', '<{pairing = "half"}>', 8, "<{", ("properties", "write attributes in {...}")),
    "properties behind a comment": ('{pairing = "half"}', '< // {\n{pairing = "half"}>', 8, "<", ("properties",)),
    "region": ('() {length', '() ({}) {length', 6, '"ropegen.positions"', ("regions", "write it as")),
    "location": ("-> ()\n", '-> () loc("a":1:2)\n', 10, "loc", ("leave out loc",)),
    "alias": ("module", "#a = 1\nmodule", 1, "#a", ("alias", "in place")),
    "dialect type": ("() -> tensor<8x8xf32>", "() -> !tensor.x", 3, "!", ("tensor<2x8xbf16>",)),
    "affine map": ("length = 4 : i64", "length = affine_map<(d0) -> (d0)>", 6, "affine_map", ("leave the attribute out",)),
    "not the generic form": ('"ropegen.rotate"', "ropegen.rotate", 8, "ropegen", ("ropegen.rotate", "write every op as %1")),
    "string without an end": ('"half"', '"half', 8, '"half}', ("no end", "close it")),
    "bytes that are no text": ('label = "x"', 'label = "\\FF"', 2, '"\\FF"', ("UTF-8", "leave the escapes out")),
    "NUL": ('label = "x"', 'label = "\0"', 2, "\N{REPLACEMENT CHARACTER}", ("NUL", "binary")),
    "half a surrogate pair": ('label = "x"', 'label = "\ud800"', 2, "\N{REPLACEMENT CHARACTER}", ("surrogate", "UTF-8")),
    "number without end": ("length = 4 ", f"length = {'4' * 1001} ", 6, "444", ("1001 characters", "at most 1000")),
    "integer of 65 bits": ("length = 4 ", f"length = {2**64} ", 6, str(2**64), ("integer constant out of range",)),
    "version of tomorrow": ("version = 1 ", "version = 2 ", 1, "module", ("version 2", "reads up to 1", "update ropegen")),
    "version of never": ("version = 1 ", "version = 0 ", 1, "module", ("version 0", "write the graph again")),
    "version in words": ("version = 1 : i64", 'version = "1"', 1, "ropegen.version", ("ropegen.version", "64-bit integer")),
    "no version": (", ropegen.version = 1 : i64", "", 1, "module", ("'ropegen.version'", "begin with module attributes")),
    "no name": ('ropegen.name = "tiny", ', "", 1, "module", ("'ropegen.name'", "begin with module attributes")),
    "unknown module attribute": ("ropegen.name", "ropegen.nam", 1, "ropegen.nam", ("'ropegen.nam'", "did you mean 'ropegen.name'?")),
    "name of a graph": ('"tiny"', '"ti/ny"', 1, "module", ("'ti/ny'", "letters, digits")),
    "two modules": ("module", "module {}\nmodule", 1, "module", ("'ropegen.name'", "begin with")),
    "text behind the end": ("-> ()\n}", "-> ()\n}\n}", 11, "", ("expected operation name", "write every op as")),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text_names_the_line_the_word_and_the_way_out(name: str):
    old, new, line, caret, words = BROKEN[name]
    assert old in TINY
    error = refused(TINY.replace(old, new))
    shown, under = place(error)
    assert (shown, under[: len(caret)]) == (line, caret)
    for word in words:
        assert word in error.args[0]


def test_the_caret_is_right_behind_letters_of_many_bytes():
    error = refused(TINY.replace('label = "x"', 'label = "éé", unknown = 1'))
    assert place(error) == (2, "unknown = 1} : () -> tensor<1x4x8xf32>")


def test_a_cut_text_says_so():
    lines = TINY.splitlines()
    for end in range(1, len(TINY) - 1):
        error = refused(TINY[:end])
        within = TINY[:end].count("\n") + 1
        assert place(error)[0] in (within, within - 1, 1)
    for end in range(2, len(lines)):
        error = refused("\n".join(lines[:end]))
        assert "the text ends too early" in error.args[0]
        assert place(error)[0] == end


@pytest.mark.parametrize("blank", ["", " \n\n", "// nothing\n"])
def test_an_empty_text_says_how_to_begin(blank: str):
    error = refused(blank)
    assert 'begin with module attributes {ropegen.name = "NAME", ropegen.version = 1 : i64} {' in error.args[0]
    assert place(error)[0] == 1


# No other exception ---------------------------------------------------------------------------------------------

WORDS = [
    *ops.OPS, "output", "ropegen.", '"', "{", "}", "(", ")", "<", ">", "[", "]", "->", ":", "%0", "%7", "%1#0", "%9:2", "i64",
    "f64", "f32", "tensor<4xf32>", "tensor<?xf32>", "tensor<*xf32>", "vector<4xf32>", "true", "unit", "dense<1>", "-1",
    "9223372036854775807", "99999999999999999999", "1e400", "0x7FF8000000000000", "0.0", "\\00", "\\FF", "\0", "\u2028",
    "é", "\ud800", "//", "#", "!", "loc", "affine_map", "@x", "^bb0:", "module", "given = []", "label", "<{", "\r", "\f",
]  # fmt: skip


def mutated(written: str, random: random.Random) -> str:
    """A text in which a few characters, words or lines are omitted, doubled, exchanged or replaced."""
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        if (
            random.random() < 0.5
        ):  # replace a number, string or value by another one that MLIR accepts and a graph may not
            alike = list(re.finditer(random.choice([r"\b\d+\b", r'"[^"\n]*"', r"%\d+", r"\w+ ="]), written))
            if alike:
                place, other = random.choice(alike), random.choice(alike)
                written = written[: place.start()] + other[0] + written[place.end() :]
            continue
        pattern = random.choice([r"(?s:.)", r'[\w.]+|"[^"\n]*"|\s+|(?s:.)', r"[^\n]*\n|[^\n]+"])
        parts = re.findall(pattern, written) or [""]
        place, other = random.randrange(len(parts)), random.randrange(len(parts))
        match random.randrange(6):
            case 0:
                parts[place] = ""
            case 1:
                parts[place] *= 2
            case 2:
                parts[place], parts[other] = parts[other], parts[place]
            case 3:
                parts[place] = parts[other]
            case 4:
                parts[place] = random.choice(WORDS)
            case _:
                parts.insert(place, random.choice(WORDS))
        written = "".join(parts)
    return written


def outcome(written: str) -> Graph | RopegenError:
    try:
        return text.loads(written, "fuzz")
    except RopegenError as error:
        return error


def test_a_mutated_text_is_a_graph_or_an_error_that_points_at_it(
    capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
):
    draw = random.Random(20)
    valid = [TINY, TINY, *(text.dumps(drawn_graph(seed, 8)) for seed in range(30))]
    read = 0
    rounds = 800 if request.config.getoption("--quick") else 2500
    for _ in range(rounds):
        result = outcome(mutated(draw.choice(valid), draw))
        if isinstance(result, RopegenError):
            place(result, "fuzz")
            assert len(result.args[0]) < 2000
        else:
            read += 1
            assert text.loads(text.dumps(result)) is result
    assert rounds / 25 < read < rounds * 0.6  # it reaches both
    assert capfd.readouterr() == ("", "")


READ_NOISE = """
import random, sys, time
from ropegen.errors import RopegenError
from ropegen.ir import text

size = int(sys.argv[1])
draw = random.Random(0)
begin = 'module attributes {ropegen.name = "a", ropegen.version = 1 : i64} {\\n'
value = begin + '"ropegen.scale"(%0) {factor = '
starts = {"": "", "attribute": value, "type": begin + '%0 = "ropegen.input"() {label = "x"} : () -> tensor<'}
units = ["[", "(", "{", "<", "tensor<", "module {", "9", "1.", "1x", "1 x ", "-", '"', '\\\\"', '"a" ', "a ", "[]", "@a::", "%a ",
         "->", "//[\\\\n", "\\n", "affine_map<(d0) -> (", "#a", "!a<", "loc(", "^", ",", "\\\\", "<{", "é", "callsite(", "() -> "]
letters = [chr(code) for code in range(1, 127)]

def noise():
    for start in starts.values():
        for unit in units:
            yield start + unit * (size // len(unit))
        yield start + "".join(draw.choices(["[", "]", " ", "1", ",", '"x"'], k=2**12)) * (size // 2**12)
        yield start + "".join(draw.choices(letters, k=2**12)) * (size // 2**12)
    yield bytes(range(256)).decode("latin1") * (size // 256)

count = 0
slowest = 0.0
for broken in noise():
    begun = time.perf_counter()
    try:
        text.loads(broken)
    except RopegenError as error:
        assert len(str(error)) < 2000
    else:
        raise AssertionError(broken[:200])
    slowest = max(slowest, time.perf_counter() - begun)
    count += 1
print(count, slowest)
"""


@pytest.mark.parametrize(("size", "limit"), [(10 * 2**20, 2.0), (2**17, 10.0)])
def test_noise_of_any_size_neither_ends_the_process_nor_takes_long(size: int, limit: float):
    done = subprocess.run(
        [sys.executable, "-c", READ_NOISE, str(size)], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    count, slowest = done.stdout.split()
    assert int(count) > 90
    assert float(slowest) < limit


def test_numbers_out_of_reach_are_refused_or_read():
    angles = TINY.replace("tensor<4x4xf32>", "tensor<4xWxf32>").replace(
        "dim = 4 : i64, head_width = 4", "dim = W : i64, head_width = W"
    )
    for width in (2**16 + 2, 2**40, 2**62, 2**63 - 2):
        assert "no head is wider" in refused(angles.replace("W", str(width))).args[0]
    for old, new in [
        ("length = 4 : i64", f"length = {2**40} : i64"),
        ("heads = 2 : i64, width = 4 : i64", f"heads = {2**62} : i64, width = {2**62} : i64"),
        ("theta = 1.000000e+04", "theta = 1.7976931348623157E+308"),
        ("theta = 1.000000e+04", "theta = 4.940660e-324"),
        ("factor = 2.000000e+00", "factor = 4.940660e-324"),
    ]:
        try:
            text.loads(TINY.replace(old, new))
        except RopegenError as error:
            place(error)


# Files ------------------------------------------------------------------------------------------------------------


def test_a_file_comes_back(tmp_path: Path):
    path = tmp_path / "tiny.mlir"
    text.save(tiny(), path)
    assert path.read_bytes() == TINY.encode()
    assert text.load(path) is text.load(str(path)) is tiny()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.mlir"]


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "graph.mlir"
    path.write_text("old")
    write = Path.write_bytes

    def full_disk(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(RopegenError, match=r"cannot write .*graph\.mlir: No space left"):
        text.save(tiny(), path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("graph.mlir", "old")]


@pytest.mark.parametrize("name", ["missing/graph.mlir", "file/graph.mlir", "folder"])
def test_where_nothing_can_be_written_is_said(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RopegenError, match=r"cannot write .*give a path that can be written"):
        text.save(tiny(), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["missing.mlir", "folder", "file/graph.mlir"])
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RopegenError, match=rf"cannot read .*{name}: .*give the path of a graph's text"):
        text.load(tmp_path / name)


def test_bytes_that_are_no_text_are_pointed_at(tmp_path: Path):
    path = tmp_path / "binary"
    path.write_bytes(b"module {\n  \xff\xfe\x00")
    with pytest.raises(RopegenError, match=r"byte 11 is not UTF-8") as caught:
        text.load(path)
    assert place(caught.value, str(path))[0] == 2
    path.write_bytes(TINY.encode().replace(b"half", b"hal\xc3"))
    with pytest.raises(RopegenError, match="not UTF-8") as caught:
        text.load(path)
    assert place(caught.value, str(path))[0] == 8


def test_an_enormous_file_is_not_read(tmp_path: Path):
    path = tmp_path / "enormous"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RopegenError, match=r"enormous is larger than 4 MiB"):
        text.load(path)


@pytest.mark.parametrize(
    "given", [b"module {}", bytearray(b"module {}"), memoryview(b"module {}"), None, 3, ["module {}"]]
)
def test_only_a_str_is_a_text(given: Any) -> None:
    with pytest.raises(RopegenError, match=f"a graph is read from a str, and <text> is of type {type(given).__name__}"):
        text.loads(given)


@pytest.mark.parametrize("given", [None, 0, True, b"x.mlir", ["x.mlir"]])
def test_only_a_path_is_a_path(given: Any) -> None:
    with pytest.raises(RopegenError, match=f"a graph is read from a path, and .* is of type {type(given).__name__}"):
        text.load(given)


def test_a_path_with_a_nul_character() -> None:
    with pytest.raises(RopegenError, match="null byte"):
        text.load("a\0b")


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\x7f"])
def test_names_of_a_file_are_escaped_in_messages(letter: str, tmp_path: Path) -> None:
    with pytest.raises(RopegenError) as caught:
        text.load(tmp_path / f"no{letter}file")
    assert letter not in str(caught.value)
    assert repr(letter)[1:-1] in str(caught.value)
    (tmp_path / f"bad{letter}file").write_text("module {}")
    with pytest.raises(RopegenError) as caught:
        text.load(tmp_path / f"bad{letter}file")
    assert letter not in str(caught.value)
    assert repr(letter)[1:-1] in str(caught.value)
