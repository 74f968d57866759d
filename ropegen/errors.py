"""The only exception of the project, and the hint that names the nearest known word."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import takewhile


class RopegenError(ValueError):
    """Its message says what was asked, the values, the rule that they break, and the way out.

    If the mistake is in an IR text, `located` adds a note with the line and a caret. Characters that a terminal would
    obey, such as those of a name in a file, are written as escapes; only line breaks stay.
    """

    def __init__(self, *said: object) -> None:
        super().__init__(*(printable(part) if isinstance(part, str) else part for part in said))

    def located(self, text: str, line: int, column: int = 1, source: str = "<text>") -> RopegenError:
        """Add a note that shows `line` (from 1) of `text` and a caret under `column` (from 1); return self."""
        lines = text.splitlines() or [""]
        line = min(max(line, 1), len(lines))
        shown, column = _window(lines[line - 1], column)
        self.add_note(f"{printable(source)}:{line}\n  {shown}\n  {' ' * (column - 1)}^")
        return self

    def __str__(self) -> str:
        """The message followed by its notes, so that a log that prints only `str(error)` still shows the line."""
        return "\n".join([super().__str__(), *getattr(self, "__notes__", ())])


class FallbackWarning(UserWarning):
    """A kernel of ropegen's declines a call, and XLA computes it by other means, perhaps more slowly.

    Python ignores it by default. `warnings.filterwarnings("error", category=ropegen.FallbackWarning)` makes it an error.
    """


class AngleWarning(UserWarning):
    """Angles of RoPE or a sinusoid are less exact than the numbers that they rotate.

    Python ignores it by default. `warnings.filterwarnings("error", category=ropegen.AngleWarning)` makes it an error.
    """


# These come last, so that every filter of the user and of the command line comes before them.
for _category in (FallbackWarning, AngleWarning):
    warnings.simplefilter("ignore", _category, append=True)


def printable(text: str) -> str:
    """`text` with escapes in the form of Python for the characters that are neither printable nor line breaks."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def _window(line: str, column: int, width: int = 100) -> tuple[str, int]:
    """The part of a long `line` around `column`, made printable, and the column within that part."""
    column = min(max(column, 1), len(line) + 1)
    start = max(0, column - 1 - width // 2)
    part = line[start : start + width]
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in part)
    return printable, column - start


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint "did you mean 'x'?" with the known word nearest to `word`, or the list of known words if none is near.

    A word of at least four letters is near if about one letter in four was mistyped, left out, added or swapped with its
    neighbour. A word is also near if the two begin with the same letters, over three quarters of the shorter one. Of two
    words with as many mistakes, the one that begins with more of the same letters is nearer.
    """
    words, word = sorted(known), word[:200]
    near = [(_mistakes(word, other), other) for other in words]
    close = [(mistakes, other) for mistakes, other in near if mistakes <= _allowed(max(len(word), len(other)))]
    if not close and len(word) > 1:
        close = [(mistakes, other) for mistakes, other in near if _begin_alike(word, other)]
    if close:
        return f"did you mean {min(close, key=lambda one: (one[0], -_alike(word, one[1]), one[1]))[1]!r}?"
    return f"known: {', '.join(words)}" if words else "none is known here"


def _allowed(length: int) -> int:
    return (length + 1) // 4 if length > 3 else 0


def _begin_alike(word: str, other: str) -> bool:
    return _alike(word, other) * 4 >= min(len(word), len(other)) * 3


def _alike(word: str, other: str) -> int:
    """The number of letters that two words begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False)))


def _mistakes(word: str, other: str) -> int:
    """How many letters must change, go, come or swap with their neighbour to make one word of the other."""
    before, row = list[int](), list(range(len(other) + 1))
    for index, letter in enumerate(word):
        last, before, row = before, row, [index + 1]
        for place, wanted in enumerate(other):
            least = min(before[place] + (letter != wanted), before[place + 1] + 1, row[place] + 1)
            if index and place and letter == other[place - 1] and word[index - 1] == wanted:
                least = min(least, last[place - 1] + 1)
            row.append(least)
    return row[-1]
