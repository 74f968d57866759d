"""A text in MLIR's syntax: a scan for what MLIR's parser must not see, and errors that point into the text.

MLIR's parser recurses without bound, its time to read a number is quadratic in the digits, and its bindings end the
process on a name that is not UTF-8. So ropegen scans a text before MLIR sees it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropegen.errors import RopegenError

MAX_WORD = 1000  # letters and digits in a row

# The tokens that matter for safety. Brackets in strings and comments do not count, nor does the > of an arrow.
_TOKEN = re.compile(
    r"""(?P<skip>"[^"\\\n\v\f]*+"|//[^\n]*+|->)
      | (?P<escaped>"[^"\\\n\v\f]*+(?:\\.[^"\\\n\v\f]*+)*+")
      | (?P<unclosed>")
      | (?P<properties><(?:\s|//[^\n]*+)*+\{)
      | (?P<open>[\[({<]) | (?P<close>[\])}>])
      | (?P<foreign>[#!]|(?<![\w.$%@^])(?:loc|affine_map|affine_set)(?![\w.$]))
      | (?P<word>\w++)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)")
_NAMES = re.compile(r"\s*+[(=]")  # what follows the name of an op, of an attribute or of a location


@dataclass(frozen=True, slots=True)
class Grammar:
    """The limits of a kind of text: its name (`what`), its size in bytes, and how deep its brackets may nest."""

    what: str
    bytes: int
    nesting: int
    refused: Mapping[str, str]
    """The tokens that it refuses, with the way out: any of #, !, loc, affine_map, affine_set and <{ ."""
    strings_are_text: bool
    """Whether every string must be UTF-8, or names only: the configuration of a custom call may be any bytes."""


MODULE = Grammar("module", 2**29, 256, {}, strings_are_text=False)


def is_text(string: str) -> bool:
    """Whether a string is UTF-8 once its escapes are resolved."""

    def unescaped(escape: re.Match[bytes]) -> bytes:
        return bytes.fromhex(escape[1].decode()) if len(escape[1]) == 2 else escape[1]

    try:
        _ESCAPE.sub(unescaped, string.encode()).decode()
    except UnicodeDecodeError:
        return False
    return True


def too_large(source: str, grammar: Grammar) -> RopegenError:
    """The error for a text that has more bytes than its grammar allows."""
    return RopegenError(
        f"{source} is larger than {grammar.bytes // 2**20} MiB, the limit of a {grammar.what}; "
        f"give the text of a {grammar.what}"
    )


@dataclass(frozen=True, slots=True)
class Script:
    """A text and the name of its source; it makes the errors that point into the text."""

    text: str
    source: str
    grammar: Grammar

    def error(self, problem: str, offset: int) -> RopegenError:
        """The error of a problem at the character `offset` of the text."""
        return self.point(RopegenError(problem), offset)

    def point(self, error: RopegenError, offset: int) -> RopegenError:
        before = f"{self.text[:offset]}x".splitlines()
        return error.located(self.text, len(before), len(before[-1]), self.source)

    def offset(self, location: object, word: str = "") -> int:
        """The character that `location` names, or the first character of `word` if it follows in the same line."""
        numbers = re.search(r":(\d+):(\d+)\)$", str(location))
        line, column = (int(numbers[1]), int(numbers[2])) if numbers else (1, 1)
        lines = self.text.split("\n")
        line, column = min(max(line, 1), len(lines)), max(column, 1)  # MLIR gives 0:0 for a module that it added itself
        start = sum(len(earlier) + 1 for earlier in lines[: line - 1])
        within = len(lines[line - 1].encode()[: column - 1].decode(errors="ignore"))  # MLIR counts bytes
        later = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(lines[line - 1], within) if word else None
        return start + (later.start() if later else within)

    @contextlib.contextmanager
    def at(self, location: object) -> Generator[None]:
        """Make every error raised inside point at `location`, or at the attribute that its message names."""
        try:
            yield
        except RopegenError as error:
            named = re.search(r"attribute '((?:ropegen\.)?[^'.]+)", error.args[0])
            raise self.point(error, self.offset(location, named[1] if named else "")) from None
        except (ArithmeticError, MemoryError, ValueError) as error:
            problem = f"the numbers of this op are too large ({error}); use smaller ones"
            raise self.error(problem, self.offset(location)) from None

    def scan(self) -> int:
        """The number of brackets left open. Raises RopegenError for anything that MLIR must not see.

        Its parser would overflow the stack, take minutes, or silently read something else.
        """
        if len(self.text) > self.grammar.bytes:
            raise too_large(self.source, self.grammar)
        try:
            size = len(self.text.encode())
        except UnicodeEncodeError as error:
            raise self.error(
                "half of a surrogate pair is not text; give text that UTF-8 can encode", error.start
            ) from None
        if size > self.grammar.bytes:
            raise too_large(self.source, self.grammar)
        if (nul := self.text.find("\0")) >= 0:
            raise self.error(f"a NUL character marks a binary file; give the text of a {self.grammar.what}", nul)
        depth = 0
        for token in _TOKEN.finditer(self.text):
            match token.lastgroup:
                case "open":
                    depth += 1
                    if depth > self.grammar.nesting:
                        problem = (
                            f"brackets are nested more than {self.grammar.nesting} deep, the limit of a "
                            f"{self.grammar.what}; close some"
                        )
                        raise self.error(problem, token.start())
                case "close":
                    depth = max(0, depth - 1)
                case "escaped":
                    if not is_text(token[0]) and (self.grammar.strings_are_text or self._is_name(token)):
                        problem = "the bytes of this string are not UTF-8; leave the escapes out"
                        raise self.error(problem, token.start())
                case "unclosed":
                    raise self.error('this string has no end; close it with " on the same line', token.start())
                case "properties":
                    if "<{" in self.grammar.refused:
                        raise self.error(self.grammar.refused["<{"], token.start())
                    depth += 2
                case "foreign" if token[0] in self.grammar.refused:
                    raise self.error(self.grammar.refused[token[0]], token.start())
                case "word" if len(token[0]) > MAX_WORD:
                    raise self.error(f"a word has {len(token[0])} characters; use at most {MAX_WORD}", token.start())
                case _:
                    pass
        return depth

    def _is_name(self, string: re.Match[str]) -> bool:
        return self.text[string.start() - 1 : string.start()] == "@" or bool(_NAMES.match(self.text, string.end()))

    def unparsed(self, diagnostics: Sequence[Any], unclosed: int, way_out: str) -> RopegenError:
        """MLIR's first complaint as a RopegenError; if brackets are `unclosed` at the end, the text was cut off."""
        first = next(iter(diagnostics), None)
        if first is None:
            return self.error(f"MLIR cannot read this; {way_out}", 0)
        said = "".join(letter for letter in first.message if letter.isprintable())
        offset = self.offset(first.location)
        if unclosed and not self.text[offset + 1 :].strip():
            return self.error(
                f"the text ends too early: {said}; complete the last op and close the module with }}", offset
            )
        return self.error(f"MLIR cannot read this: {said}; {way_out}", offset)
