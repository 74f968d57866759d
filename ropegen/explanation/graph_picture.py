"""The graph of a plan as a picture: a box for every op, a frame around the ops that one region computes.

Steps stand below each other in their order, so the picture is as narrow as a phone. A value that the next row reads is an
arrow. Every other value travels in a lane of its own at the right edge.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from ropegen.explanation import words
from ropegen.explanation.attention import Facts
from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.plans import Plan, Step

# Sizes in pixels. A letter is as wide as one of a monospace font of 11 pixels, at most.
WIDTH, MARGIN, GAP, LETTER, LINE, LANE = 360.0, 6.0, 24.0, 6.7, 14.0, 7.0
_PADDING, _TITLE, _BETWEEN = 6.0, 20.0, 8.0
# Boxes beside each other, lanes, and the ops of a graph of which every op has a box. A larger graph has one for a step.
_ACROSS, _LANES, _MOST = 3, 6, 120

Key = tuple[int, Node]
"""An op in a step: two regions may each compute a copy of one op, such as `positions`."""


@dataclass(eq=False, slots=True)
class Box:
    """An op, or a step of a large graph: its lines of text, and its place."""

    lines: list[str]
    reads: list[Key]
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    row: int = 0
    below: float = 0.0
    """The lower edge of its row."""

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2 * _PADDING

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(eq=False, slots=True)
class Group:
    """What one step computes: rows of boxes, with a frame and a title if they are a region."""

    title: str
    rows: list[list[Box]] = field(default_factory=list[list[Box]])
    bound: str = ""
    top: float = 0.0
    bottom: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is. `edges` are the boxes that make and read a value; `lanes` are those of boxes read further below."""

    groups: tuple[Group, ...]
    edges: tuple[tuple[Box, Box], ...]
    lanes: Mapping[Box, int]
    height: float

    @property
    def boxes(self) -> list[Box]:
        return [box for group in self.groups for row in group.rows for box in row]


def layout(plan: Plan, facts: Facts) -> Layout:
    """Places the ops of a plan; `facts` are the data of the plan."""
    steps = sorted(zip(plan.steps, facts["steps"], strict=True), key=lambda pair: not pair[0].prepares)
    large = len(plan.graph.ops) > _MOST
    made_by = {value: (index, value) for index, (step, _) in enumerate(steps) for value in step.outputs}
    names = {value: label for label, value in plan.graph.outputs}
    boxes: dict[Key, Box] = {}
    groups: list[Group] = []
    for index, (step, told) in enumerate(steps):
        make = _whole if large else _ops
        groups.append(make(index, step, told, made_by, names, boxes))
    lanes = _placed(groups, boxes)
    edges = {(boxes[key], box): None for box in dict.fromkeys(boxes.values()) for key in box.reads}
    return Layout(tuple(groups), tuple(edges), lanes, groups[-1].bottom + MARGIN if groups else 0.0)


def _title(told: Facts) -> str:
    number = f"prepared {told['index']}" if told["prepares"] else str(told["index"])
    return f"{number}. {words.title(told)}"


def _ops(
    index: int, step: Step, told: Facts, made_by: Mapping[Node, Key], names: Mapping[Node, str], boxes: dict[Key, Box]
) -> Group:
    """A box for every op of a step, in rows by how many ops of the step come before it."""
    own = [node for node in step.nodes if not isinstance(node.op, ops.Input)]
    level: dict[Node, int] = {}
    levels: dict[int, list[Box]] = {}
    for node in own:
        inner = [level[operand] + 1 for operand in node.operands if operand in level]
        level[node] = max(inner, default=0)
        given = [operand.op.label for operand in node.operands if isinstance(operand.op, ops.Input)]
        outside = [made_by[operand] for operand in node.operands if operand not in level and operand in made_by]
        inside = [(index, operand) for operand in node.operands if operand in level]
        parts = [f"reads {', '.join(given)}"] if given else []
        parts += [f"gives {names[node]}"] if node in names and node in step.outputs else []
        first = f"{_title(told)}" if step.region is None else node.op.name
        box = Box([first, *parts], [*inside, *outside])
        boxes[index, node] = box
        levels.setdefault(level[node], []).append(box)
    title = "" if step.region is None else f"{_title(told)}: {words.price(told)}"
    if step.region is None:
        for row in levels.values():
            row[0].lines.insert(1, words.price(told))
    return Group(title, [row for depth in sorted(levels) for row in _chunks(levels[depth])], told["cost"]["bound"])


def _whole(
    index: int, step: Step, told: Facts, made_by: Mapping[Node, Key], names: Mapping[Node, str], boxes: dict[Key, Box]
) -> Group:
    """One box for a step."""
    given = [name for name in told["reads"] if not name.startswith("%")]
    gives = [names[value] for value in step.outputs if value in names]
    lines = [_title(told), words.price(told)]
    lines += [f"reads {', '.join(given)}"] if given else []
    lines += [f"gives {', '.join(gives)}"] if gives else []
    box = Box(lines, [made_by[operand] for operand in step.operands if operand in made_by])
    for value in step.outputs:
        boxes[index, value] = box
    return Group("", [[box]], told["cost"]["bound"])


def _chunks(row: list[Box]) -> Iterator[list[Box]]:
    """Rows of at most three boxes; as many in each as possible."""
    count = -(-len(row) // _ACROSS)
    each = -(-len(row) // count)
    for start in range(0, len(row), each):
        yield row[start : start + each]


def _placed(groups: Sequence[Group], boxes: Mapping[Key, Box]) -> dict[Box, int]:
    """Gives every box its place; returns the lanes of values that are read below the next row."""
    rows = [row for group in groups for row in group.rows]
    for number, row in enumerate(rows):
        for box in row:
            box.row = number
    last: dict[Box, int] = {}
    for box in dict.fromkeys(boxes.values()):
        for key in box.reads:
            if (maker := boxes[key]) is not box and box.row > maker.row + 1:
                last[maker] = max(last.get(maker, 0), box.row)
    lanes: dict[Box, int] = {}
    for maker in sorted(last, key=lambda box: box.row):
        taken = {lanes[other] for other in lanes if last[other] > maker.row}
        lanes[maker] = next((lane for lane in range(_LANES) if lane not in taken), _LANES - 1)
    right = WIDTH - MARGIN - LANE * (max(lanes.values(), default=-1) + 1)
    y = MARGIN
    for group in groups:
        group.top = y
        inset = _PADDING if group.title else 0.0
        titles = _fitted(group.title, right - MARGIN) if group.title else []
        group.title = "\n".join(titles)
        y += _TITLE * bool(titles) + LINE * max(0, len(titles) - 1)
        for row in group.rows:
            y += GAP / 2 if row is not group.rows[0] else 0.0
            room = right - MARGIN - 2 * inset
            width = (room - _BETWEEN * (len(row) - 1)) / len(row)
            for place, box in enumerate(row):
                box.x, box.y, box.width = MARGIN + inset + place * (width + _BETWEEN), y, width
                box.lines = [part for line in box.lines for part in _fitted(line, width)]
            y += max(box.height for box in row)
            for box in row:
                box.below = y
            y += GAP / 2 if row is not group.rows[-1] else 0.0
        y += inset
        group.bottom = y
        y += GAP
    return lanes


def _fitted(line: str, width: float) -> list[str]:
    """The lines of a text in a box; a number and its unit stay together."""
    whole = line.replace(" %", "\N{NO-BREAK SPACE}%").replace(" µs", "\N{NO-BREAK SPACE}µs")
    return textwrap.wrap(whole, max(4, int((width - 2 * _PADDING) / LETTER)), break_on_hyphens=False) or [""]


def svg(plan: Plan, facts: Facts) -> str:
    """The picture as SVG for a page, which states the colours of its classes."""
    placed = layout(plan, facts)
    right = WIDTH - MARGIN
    parts = [
        f'<svg class="graph" viewBox="0 0 {WIDTH:g} {placed.height:g}" role="img" aria-labelledby="graph-title">',
        f'<title id="graph-title">{escape(_spoken(facts))}</title>',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for group in placed.groups:
        if group.title:
            boxes = [box for row in group.rows for box in row]
            left, end = boxes[0].x - _PADDING, max(box.x + box.width for box in boxes) + _PADDING
            parts.append(
                f'<rect class="region {group.bound}" x="{left:g}" y="{group.top:g}" width="{end - left:g}" '
                f'height="{group.bottom - group.top:g}" rx="6"/>'
            )
    for maker, reader in placed.edges:
        parts.append(f'<path class="edge" d="{_way(maker, reader, placed.lanes, right)}" marker-end="url(#arrow)"/>')
    for group in placed.groups:
        for number, line in enumerate(group.title.split("\n") if group.title else []):
            y = group.top + 14 + number * LINE
            parts.append(f'<text class="region-title" x="{MARGIN + _PADDING:g}" y="{y:g}">{escape(line)}</text>')
    for box in placed.boxes:
        parts.append(
            f'<rect class="op" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="4"/>'
        )
        for number, line in enumerate(box.lines):
            y = box.y + _PADDING + (number + 0.75) * LINE
            kind = "name" if number == 0 else "beside"
            parts.append(f'<text class="{kind}" x="{box.middle:g}" y="{y:g}">{escape(line)}</text>')
    return "".join([*parts, "</svg>"])


def _spoken(facts: Facts) -> str:
    """The picture in a sentence, for those who do not see it."""
    steps = [words.title(step) for step in facts["steps"] if not step["prepares"]]
    return f"The graph of {facts['graph']['name']}, from top to bottom: {', '.join(steps)}"


def _way(maker: Box, reader: Box, lanes: Mapping[Box, int], right: float) -> str:
    """An arrow to the next row, or a way around the rows between."""
    start, end = maker.y + maker.height, reader.y - 1
    if reader.row <= maker.row + 1:
        return f"M{maker.middle:g} {start:g}L{reader.middle:g} {end:g}"
    lane = lanes[maker]
    x, shift = right - LANE * lane, 4 + lane
    return f"M{maker.middle:g} {start:g}V{maker.below + shift:g}H{x:g}V{end - shift:g}H{reader.middle:g}V{end:g}"
