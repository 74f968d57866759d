"""Reads the text of an expression; this is the inverse of `str`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ropegen.errors import RopegenError, nearest
from ropegen.expression import (
    COMPARISONS,
    FUNCTIONS,
    LEVELS,
    LOGIC,
    MAX_DEPTH,
    MAX_TEXT,
    NAMES,
    UNARY,
    Const,
    Expr,
    Number,
    Var,
    apply,
    excerpt,
    table_of,
)

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=|>=|==|!=|//|[-+*/%<>&|~()\[\],])|(?P<space>[ \t\r\n]+)"
)


def parse(text: str) -> Expr:
    """Read an expression in Python's infix notation; this is the inverse of `str`.

    Comparisons do not chain; write `& | ~` for `and or not`. A malformed text raises a RopegenError that shows the place.
    """
    if len(text) > MAX_TEXT:
        raise RopegenError(f"an expression has at most {MAX_TEXT} characters, got {len(text)}")
    return _Parser(text).whole()


class _Parser:
    """Precedence climbing over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.nesting = text, 0, 0
        self.tokens: list[tuple[str, str, int]] = []
        offset = 0
        while offset < len(text):
            token = _TOKEN.match(text, offset)
            if token is None:
                raise self.error(f"{text[offset]!r} cannot stand in an expression", offset)
            if token.lastgroup != "space":
                self.tokens.append((token.lastgroup or "", token.group(), offset))
            offset = token.end()
        self.tokens.append(("end", "the end", offset))

    def error(self, what: str | RopegenError, offset: int) -> RopegenError:
        lines = (self.text[:offset] + "^").splitlines()
        error = RopegenError(what) if isinstance(what, str) else what
        return error.located(self.text, len(lines), len(lines[-1]), "<expression>")

    def take(self, *expected: str) -> tuple[str, str, int]:
        token = self.tokens[self.place]
        if expected and token[1] not in expected:
            raise self.error(f"expected {' or '.join(expected)}, got {excerpt(token[1])}", token[2])
        self.place += 1
        return token

    def build(self, offset: int, make: Callable[..., Expr], *parts: Any) -> Expr:
        try:
            return make(*parts)
        except RopegenError as error:
            raise self.error(error, offset) from None

    def whole(self) -> Expr:
        expr = self.expression(0)
        kind, word, offset = self.tokens[self.place]
        if kind != "end":
            hint = f"; {LOGIC}" if word in ("and", "or", "not", "if", "in", "is") or word in COMPARISONS else ""
            raise self.error(f"expected an operator or the end, got {excerpt(word)}{hint}", offset)
        return expr

    def expression(self, minimum: int) -> Expr:
        self.nesting += 1
        if self.nesting > 2 * MAX_DEPTH + 2:  # an operand in parentheses takes two calls
            raise self.error(f"nested deeper than {MAX_DEPTH} levels", self.tokens[self.place][2])
        left = self.prefix()
        while (level := LEVELS.get(op := self.tokens[self.place][1], -1)) >= minimum:
            offset, operands = self.tokens[self.place][2], [left]
            while self.tokens[self.place][1] == op:
                self.take()
                operands.append(self.expression(level + 1))
                if op not in ("&", "|"):
                    break
            left = self.build(offset, apply, op, *operands)
            if op in COMPARISONS:
                minimum = level + 1  # the caller reports a second comparison as an error
        self.nesting -= 1
        return left

    def prefix(self) -> Expr:
        kind, word, offset = self.take()
        if kind == "number":
            return self.build(offset, Const, self.number(word, offset))
        if word == "-" and self.tokens[self.place][0] == "number":
            return self.build(offset, Const, self.number(f"-{self.take()[1]}", offset))
        if word in ("-", "~"):
            return self.build(offset, apply, "neg" if word == "-" else "~", self.expression(UNARY))
        if word == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if word == "[":
            values = self.sequence("]", self.entry)
            self.take("[")
            index = self.expression(0)
            self.take("]")
            return self.build(offset, table_of, values, index)
        if word in ("True", "False"):
            return Const(word == "True")
        if word in FUNCTIONS:
            self.take("(")
            return self.build(offset, apply, word, *self.sequence(")", lambda: self.expression(0)))
        if word in (*NAMES, "score"):
            return Var(word)
        if word == "numbers":
            self.take("[")
            index = self.expression(0)
            self.take("]")
            return self.build(offset, Number, index)
        hint = f"; {nearest(word, (*NAMES, 'score', *FUNCTIONS, 'True', 'False'))}" if kind == "name" else ""
        raise self.error(f"expected a name, a number, a function or a bracket, got {excerpt(word)}{hint}", offset)

    def sequence(self, close: str, item: Callable[[], Any]) -> list[Any]:
        items = [item()]
        while self.take(",", close)[1] == ",":
            items.append(item())
        return items

    def entry(self) -> bool | int | float:
        kind, word, offset = self.take()
        if word in ("True", "False"):
            return word == "True"
        if word == "-":
            kind, digits, offset = self.take()
            word = f"-{digits}"
        if kind != "number":
            raise self.error(f"a table holds numbers, True and False, got {excerpt(word)}", offset)
        return self.number(word, offset)

    def number(self, word: str, offset: int) -> int | float:
        if not word.lstrip("-").isdigit():
            return float(word)
        if len(word.lstrip("-0")) > 10:
            raise self.error(f"an integer constant must fit int32, and {excerpt(word, 30)} does not", offset)
        return int(word)
