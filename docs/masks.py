#!/usr/bin/env python3
"""Writes docs/masks.md and docs/masks/*.svg: every mask and score of the language as a picture.

python3 docs/masks.py [FOLDER]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ropegen import mask_pictures, masks
from ropegen.mask_pictures import BETWEEN, TOP

SIZE, TILE = 32, 8
CELL = mask_pictures.SIDE // SIZE
# The number of shades of a heat map on either side of zero.
SHADES = 16

IMPORTS = """\
import jax.numpy as jnp
import numpy as np

from ropegen import masks"""

INTRODUCTION = f"""\
# Masks and scores, drawn

This page shows every mask and score of the language, over {SIZE} queries and {SIZE} keys in tiles of {TILE} x {TILE}. The
names that a piece of code sets are arguments of `rg.attention(q, k, v, ...)`; `Builder.attend` takes the same masks and
scores.

```python
{IMPORTS}
```

Before anything runs, `masks.classify_tiles` decides for every tile whether it is empty, full or partial. A kernel never
visits an empty tile (grey, crossed out), applies no mask in a full tile (dark blue), and applies the mask to every cell of
a partial tile: it keeps the blue cells and hides the white ones. Segment ids, dense masks and positions that are JAX
arrays have values only at run time; a plan then skips only the tiles that are empty for all such values.

`masks.show(mask)` draws a mask of yours in the same way, in a notebook; `masks.show(mask).save("mask.svg")` writes it.

`python3 docs/masks.py` writes this page. A test runs the code below through `rg.attention` and compares the keys that
the queries see, score by score, with the pictures.
"""


END = """\
## Values of your own

Arrays and traced values can stand inside masks and scores. They are operands: other values need no other program, and
floats in a score have gradients.

- `masks.causal & array`, `array & masks.causal`, `~array` or `masks.causal | array`, with booleans that broadcast as
  `mask=array` does: a dense mask of the terms that hold an array. The other terms of an `&` stay an expression, by which
  tiles are skipped.
- `masks.padding(lengths)`, integers (B,): the first `lengths[batch]` positions. `masks.keys(valid)`, booleans (Skv,) or
  (B, Skv): key padding. Both are a mask of (B, 1, 1, Skv).
- `lambda kv_pos, batch: kv_pos < lengths[batch]` or `lambda q_pos, kv_pos: doc[q_pos] == doc[kv_pos]`: a mask function that
  cannot be traced is called with arrays that broadcast to (..., heads, queries, keys). The second one makes a mask of
  (Sq, Skv); `masks.segments` with `q_segments=doc` and `kv_segments=doc` does not.
- `score=lambda score: score * s`: an operand with a gradient, if JAX traces `s`, otherwise a constant.
- `score=lambda score, head: score * slopes[head]`: the same for every head. The function is called once for each of them.
- `score=lambda score, q_pos, kv_pos: score + masks.table(x, q_pos - kv_pos)`: one value for every index, which is clipped;
  `x` has a gradient too. `masks.alibi(slopes)` takes learned slopes.
- `score=lambda score, q_pos, kv_pos: masks.where(kv_pos <= q_pos, score, -np.inf)`: the mask `masks.causal`, with its tiles.
- `scale=s` and `softcap=c`, if JAX traces them: q times `s`, in q's type, and `c * tanh(score / c)`.

Templates that cannot read such operands of a score decline, and `attend/xla` computes it; the plan says so. Inside a
`shard_map`, a term that holds an array may not read `head`, `batch` or positions that are left out.

## NaN behind a mask

A hidden key has the weight 0, and 0 times NaN is NaN. Where a mask hides something, NaN and infinity in q, k and v reach
only what may see them: the result of a query that does not see a key, and the gradients of such queries and of the keys
that it does see, are the same to the last bit, whatever the hidden key and value hold. So packed documents stay apart,
and unwritten rows of a cache may hold anything. A query that does see NaN or infinity in v is NaN in all its features,
and in its log-sum-exp.

The promise holds in `attend/xla` and in the native kernels for CPU. It ends here:

- a bias of -inf is no mask in this sense; `masks.causal & array` is one;
- in the kernel for TPU (`attend/mosaic_tpu`), in attention that a plan leaves to its ops one by one, in the semantic form
  of an artifact, and in second derivatives, v must be finite in hidden keys too, and k for gradients;
- `masked_row="mean"` in the native kernels, except in steps of decoding: the mean of all values is NaN where one is;
- gradients of what all queries share, such as sinks, are NaN if any query's are.

There, write zeros: `v = jnp.where(valid[..., None, None], v, 0)`.
"""


@dataclass(frozen=True)
class Example:
    """One picture: `shows` is "mask", "score" or "weight"; `heads` are the heads that have a panel."""

    name: str
    title: str
    meaning: str
    code: str
    shows: str = "mask"
    heads: tuple[int, ...] = (0,)
    # Whether the unchanged scores are 3 (q_pos - kv_pos) instead of 0.
    steep: bool = False


EXAMPLES = (
    Example("full", "Everything", "Every query sees every key. This is the default.", "mask = masks.full"),
    Example("causal", "Causal", "A query sees the keys at its own position and before it.", "mask = masks.causal"),
    Example(
        "window-left",
        "Window to the left",
        "Keys fewer than 6 positions before the query, and all keys after it.",
        "mask = masks.window(6)",
    ),
    Example(
        "window-right",
        "Window to the right",
        "Keys fewer than 6 positions after the query, and all keys before it.",
        "mask = masks.window(None, 6)",
    ),
    Example("window-both", "Window to both sides", "Keys fewer than 6 positions away.", "mask = masks.window(6, 6)"),
    Example(
        "causal-window",
        "Causal window",
        "The query's own position and the 5 before it: sliding-window attention (Mistral, Gemma).",
        "mask = masks.causal & masks.window(6)",
    ),
    Example("chunked", "Chunked", "Keys in the query's own chunk of 12 positions.", "mask = masks.chunked(12)"),
    Example(
        "causal-chunked",
        "Causal and chunked",
        "The query's chunk up to its own position (the local layers of Llama 4).",
        "mask = masks.causal & masks.chunked(12)",
    ),
    Example("prefix", "Prefix", "The first 12 keys, for every query.", "mask = masks.prefix(12)"),
    Example(
        "prefix-lm",
        "Prefix language model",
        "The first 12 positions see each other; the rest is causal (T5, PaliGemma).",
        "mask = masks.prefix(12) | masks.causal",
    ),
    Example(
        "sink-tokens",
        "Window and first tokens",
        "A causal window that keeps the first 4 keys (StreamingLLM).",
        "mask = masks.causal & (masks.window(6) | masks.prefix(4))",
    ),
    Example(
        "far",
        "Not",
        "`~` negates a mask: here causal without the nearest 10 keys.",
        "mask = masks.causal & ~masks.window(10)",
    ),
    Example(
        "segments",
        "Segments",
        "Keys with the segment id of the query.",
        "mask = masks.segments\nq_segments = kv_segments = np.repeat([0, 1, 2], [8, 14, 10])",
    ),
    Example(
        "packed",
        "Packed documents",
        "Several documents in one row: attention is causal and stays within a document. A document's rows match those of "
        "the document alone, whatever `k` and `v` of the others hold; see [below](#nan-behind-a-mask).",
        "mask = masks.segments & masks.causal\nq_segments = kv_segments = np.repeat([0, 1, 2], [8, 14, 10])",
    ),
    Example(
        "dense",
        "Dense mask",
        "Any boolean array: here 32 drafted tokens of a binary tree, where a token sees its ancestors.",
        "mask = np.eye(32, dtype=bool)\nfor token in range(1, 32):\n    mask[token] |= mask[(token - 1) // 2]",
    ),
    Example(
        "dilated",
        "A function: dilated",
        "Any Python function of positions, segments, head and batch, traced once.",
        "def mask(q_pos, kv_pos):\n    return (kv_pos <= q_pos) & ((q_pos - kv_pos) % 4 == 0)",
    ),
    Example(
        "blocks",
        "A function: block-sparse",
        "A table lists the visible blocks of 8 x 8. All tiles are full or empty, so no cell needs the mask.",
        "seen = [1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1]\n\n\n"
        "def mask(q_pos, kv_pos):\n    return masks.table(seen, q_pos // 8 * 4 + kv_pos // 8) == 1",
    ),
    Example(
        "heads",
        "A mask per head",
        "Even heads see everything before them, odd heads a window.",
        "def mask(q_pos, kv_pos, head):\n    return (kv_pos <= q_pos) & ((head % 2 == 0) | (q_pos - kv_pos < 6))",
        heads=(0, 1),
    ),
    Example(
        "decode",
        "Queries that start later",
        "8 queries at positions 24 to 31 over a cache of 32 keys: the mask compares positions, never indices.",
        "mask = masks.causal & masks.window(14)\nq_positions, kv_positions = np.arange(24, 32), np.arange(32)",
    ),
    Example(
        "alibi",
        "ALiBi",
        "A penalty grows with the distance, at a rate that depends on the head. The picture shows scores that were 0.",
        "mask = masks.causal\nscore = masks.alibi(masks.alibi_slopes(4))",
        shows="score",
        heads=(0, 1),
    ),
    Example(
        "softcap",
        "Soft-cap",
        "30 tanh(score / 30) keeps scores below 30 (Gemma 2). Here the scores were 3 (q_pos - kv_pos).",
        "softcap = 30.0",
        shows="score",
        steep=True,
    ),
    Example(
        "bias",
        "Additive bias",
        "Any array that broadcasts to (..., heads, queries, keys) is added. The picture shows scores that were 0.",
        "bias = -0.5 * jnp.minimum(abs(jnp.arange(32)[:, None] - jnp.arange(32)), 8)",
        shows="score",
    ),
    Example(
        "score",
        "A score function",
        "Any Python function of the score and the names that masks read. The picture shows scores that were 0.",
        "def score(score, q_pos, kv_pos):\n    return score - masks.log(1 + masks.absolute(q_pos - kv_pos))",
        shows="score",
    ),
    Example(
        "sinks",
        "Sinks",
        "One more score per head, which takes weight but has no value (gpt-oss): the column on the right.",
        "mask = masks.causal\nsinks = jnp.array([0.0, 3.0, 0.0, 0.0])",
        shows="weight",
        heads=(0, 1),
    ),
    Example(
        "masked-row-zero",
        "Rows that see no key: zero",
        "The first 8 queries see no key and give zeros. This is the default.",
        "mask = masks.causal & ~masks.chunked(8)",
        shows="weight",
    ),
    Example(
        "masked-row-mean",
        "Rows that see no key: mean",
        "The first 8 queries see no key and give the mean of all values, as in `jax.nn`.",
        'mask = masks.causal & ~masks.chunked(8)\nmasked_row = "mean"',
        shows="weight",
    ),
)


# The contents of the pictures ----------------------------------------------------------------------------------------------------


def arguments(example: Example) -> dict[str, Any]:
    """The names that the code of an example sets, with their values."""
    names: dict[str, Any] = {}
    exec(f"{IMPORTS}\n{example.code}", names)
    return names


def places(given: Mapping[str, Any], head: int) -> dict[str, Any]:
    """The values of the language's names over the grid of queries and keys."""
    every = np.arange(SIZE, dtype=np.int32)
    named = {
        "q_pos": np.asarray(given.get("q_positions", every))[:, None],
        "kv_pos": np.asarray(given.get("kv_positions", every))[None, :],
        "head": np.int32(head),
        "batch": np.int32(0),
    }
    if "q_segments" in given:
        named |= {"q_segment": given["q_segments"][:, None], "kv_segment": given["kv_segments"][None, :]}
    return named


def seen(given: Mapping[str, Any], head: int) -> np.ndarray:
    """The keys that the queries see, boolean (queries, keys)."""
    mask, named = given.get("mask", masks.full), places(given, head)
    shape = (named["q_pos"].size, named["kv_pos"].size)
    visible = mask if isinstance(mask, np.ndarray) else masks.evaluate(masks.as_mask(mask), np, **named)
    return np.broadcast_to(visible, shape)


def tile_classes(given: Mapping[str, Any], head: int, *, with_segments: bool = True) -> np.ndarray:
    """The classes of one head's tiles, from the ranges of their positions and segments."""
    named = places(given, head)
    if isinstance(given.get("mask"), np.ndarray):
        return np.full([-(-named[name].size // TILE) for name in ("q_pos", "kv_pos")], masks.PARTIAL)

    def ranges(values: np.ndarray) -> np.ndarray:
        parts = np.split(values.ravel(), range(TILE, values.size, TILE))
        return np.array([(part.min(), part.max()) for part in parts])

    segments = {name: ranges(named[name]) for name in ("q_segment", "kv_segment") if name in named and with_segments}
    mask = masks.as_mask(given.get("mask", masks.full))
    q_tiles, kv_tiles = (ranges(named[name]) for name in ("q_pos", "kv_pos"))
    return masks.classify_tiles(mask, q_tiles, kv_tiles, head=(head, head), **segments)


def raw_scores(steep: bool) -> np.ndarray:
    every = np.arange(SIZE)
    return 3.0 * (every[:, None] - every) if steep else np.zeros((SIZE, SIZE))


def scores(example: Example, given: Mapping[str, Any], head: int) -> np.ndarray:
    """The scores that the softmax takes; NaN marks a key that is not seen."""
    score = raw_scores(example.steep)
    if "softcap" in given:
        score = given["softcap"] * np.tanh(score / given["softcap"])
    score = score + np.asarray(given.get("bias", 0.0), np.float64)
    named = places(given, head)
    score = masks.evaluate(masks.as_score(given.get("score", masks.identity)), np, score=score, **named)
    return np.where(seen(given, head), score, np.nan)


def weights(example: Example, given: Mapping[str, Any], head: int) -> np.ndarray:
    """The softmax of `scores`, (queries, keys), with one more column if there is a sink."""
    score = scores(example, given, head)
    if "sinks" in given:
        score = np.concatenate([score, np.full((SIZE, 1), float(given["sinks"][head]))], axis=1)
    weight = np.where(np.isnan(score), 0.0, np.exp(score))
    total = weight.sum(1, keepdims=True)
    otherwise = 1 / SIZE if given.get("masked_row") == "mean" else 0.0
    return np.where(total > 0, weight / np.where(total > 0, total, 1.0), otherwise)


def shade(values: np.ndarray, largest: float, power: float) -> np.ndarray:
    """The nearest shades of the values, from -SHADES to SHADES: a power of a value's share of the largest; NaN gives 0."""
    share = np.nan_to_num(values) / largest
    return np.rint(np.sign(share) * np.abs(share) ** power * SHADES).astype(int)


# SVG --------------------------------------------------------------------------------------------------------------


def heat_panel(values: np.ndarray, largest: float, power: float) -> list[str]:
    hidden, shades = np.isnan(values), shade(values, largest, power)
    parts = [f'<path class="empty" d="{mask_pictures.outlines(hidden)}"/>']
    for value in np.unique(shades[~hidden]):
        if value:
            cells = mask_pictures.outlines((shades == value) & ~hidden)
            parts.append(f'<path class="shade{value}" fill="{colour(value / SHADES)}" d="{cells}"/>')
    return parts


def colour(amount: float) -> str:
    """White at 0, blue at 1, orange at -1."""
    end = np.array([0x1F, 0x4E, 0x86] if amount > 0 else [0xC2, 0x5A, 0x0A])
    red, green, blue = np.rint(255 + (end - 255) * abs(amount)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def heat_legend(lowest: float, highest: float, power: float, x: float, hidden: bool) -> list[str]:
    steps = range(SHADES if highest > 0 else 0, -SHADES - 1 if lowest < 0 else -1, -1)
    size = SIZE * CELL * 0.75 / len(steps)
    largest = max(highest, -lowest)
    made: list[str] = []
    for index, step in enumerate(steps):
        y = TOP + index * size
        made.append(f'<rect x="{x}" y="{y:.2f}" width="15" height="{size + 0.3:.2f}" fill="{colour(step / SHADES)}"/>')
        if step % (SHADES // 2) == 0:
            value = np.sign(step) * largest * abs(step / SHADES) ** (1 / power)
            made.append(f'<text class="what" x="{x + 24}" y="{y + size / 2 + 5:.2f}">{value:.3g}</text>')
    made.append(f'<rect class="frame open" x="{x}" y="{TOP}" width="15" height="{size * len(steps):.2f}"/>')
    if hidden:
        y = TOP + SIZE * CELL - 27
        made.append(f'<rect class="empty frame" x="{x}" y="{y}" width="15" height="15"/>')
        made.append(f'<text class="what" x="{x + 24}" y="{y + 12}">hidden</text>')
    return made


def heat_maps(example: Example, given: Mapping[str, Any]) -> tuple[list[tuple[str, np.ndarray]], float]:
    """The (title, values) of every panel, and the power for the shades; small weights are shown by their square root."""
    many = len(example.heads) > 1
    if example.shows == "weight":
        panels: list[tuple[str, np.ndarray]] = []
        for head in example.heads:
            every = weights(example, given, head)
            panels.append((f"keys, head {head}" if many else "keys", every[:, :SIZE]))
            if "sinks" in given:
                panels.append(("sink", every[:, SIZE:]))
        return panels, 0.5
    panels = [(f"keys, head {head}" if many else "keys", scores(example, given, head)) for head in example.heads]
    if "softcap" in given:
        panels = [("keys, before", raw_scores(example.steep)), ("keys, after", panels[0][1])]
    return panels, 1.0


def picture(example: Example) -> str:
    given = arguments(example)
    first = int(given["q_positions"][0]) if "q_positions" in given else 0
    if example.shows != "mask":
        return heat_picture(example, given)
    panels = [
        mask_pictures.Panel(
            f"head {head}" if len(example.heads) > 1 else "",
            tile_classes(given, head),
            (TILE, TILE),
            seen(given, head),
        )
        for head in example.heads
    ]
    return mask_pictures.picture(example.title, panels, first)


def heat_picture(example: Example, given: Mapping[str, Any]) -> str:
    panels, power = heat_maps(example, given)
    lowest = min(float(np.nanmin(values)) for _, values in panels)
    highest = max(float(np.nanmax(values)) for _, values in panels)
    drawn = mask_pictures.row_axis(SIZE, CELL, TILE, 1, 0)
    x: float = mask_pictures.LEFT
    for index, (title, values) in enumerate(panels):
        columns = values.shape[1]
        numbers = map(str, mask_pictures.ticks(columns, TILE, 1, 0)) if columns > 1 else ()
        parts = heat_panel(values, max(highest, -lowest), power)
        drawn += mask_pictures.frame(parts, (SIZE, columns), x, CELL, (TILE, TILE), title, [*numbers])
        narrow = index + 1 < len(panels) and panels[index + 1][1].shape[1] == 1
        x += columns * CELL + (BETWEEN // 2 if narrow else BETWEEN)
    drawn += heat_legend(lowest, highest, power, x, any(np.isnan(values).any() for _, values in panels))
    return mask_pictures.document(example.title, x + 116, TOP + SIZE * CELL + 24, drawn)


def tiles_in_words(example: Example) -> str:
    """A sentence with the number of skipped tiles, and the effect of values that are known only at run time."""
    given = arguments(example)
    classes = np.concatenate([tile_classes(given, head).ravel() for head in example.heads])
    empty = int(np.sum(classes == masks.EMPTY))
    if isinstance(given.get("mask"), np.ndarray):
        return f"Skipped: 0 of {classes.size} tiles. The planner does not read the values of an array."
    skipped = f"Skipped: {empty} of {classes.size} tiles"
    if "q_segments" in given:
        static = np.concatenate([tile_classes(given, head, with_segments=False).ravel() for head in example.heads])
        return (
            f"{skipped} if the ids are known. Ids have values only at run time; from the positions alone a plan skips "
            f"{np.sum(static == masks.EMPTY)}."
        )
    if example.name == "heads":
        return f"{skipped} of these two heads. A tile that any head sees is visited for all of them."
    return f"{skipped}."


# The thumbnails in a row of the index, and their width in pixels. A row is as wide as a phone.
COLUMNS, THUMBNAIL = 3, 110


def index() -> str:
    """A table of thumbnails, each with a link to its section."""
    cells = [
        f'<a href="#{anchor(example.title)}"><img src="masks/{example.name}.svg" alt="" width="{THUMBNAIL}"><br>'
        f"{example.title}</a>"
        for example in EXAMPLES
    ]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return "\n".join(["## Index\n", "<table>", *lines, "</table>\n"])


def anchor(title: str) -> str:
    """The name that a heading has in a link on GitHub."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def page() -> str:
    parts = [INTRODUCTION, index()]
    headings = {
        "mask": "## Masks\n",
        "score": "## Scores\n",
        "weight": "## Weights after the softmax\n\nA shade shows the square root of a weight, so that small weights are visible.\n",
    }
    for example in EXAMPLES:
        if heading := headings.pop(example.shows, None):
            parts.append(heading)
        parts.append(
            f"### {example.title}\n\n{example.meaning}\n\n```python\n{example.code}\n```\n\n"
            f"![{example.title}](masks/{example.name}.svg)\n\n{tiles_in_words(example)}\n"
        )
    return "\n".join([*parts, END])


def main(folder: Path) -> None:
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    (folder / "masks.md").write_text(page())
    for example in EXAMPLES:
        (folder / "masks" / f"{example.name}.svg").write_text(picture(example))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
