"""Calls of equinox, attnax and penzai with inputs that every machine draws alike, for golden/vectors.

A function takes what it calls as an argument. `record_seeds.py` gives it the library, and `test_recorded_seeds.py` gives
it ropegen's module in the place of the library. It returns the results by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors"
SEEDS = {"equinox": "0.13.8", "attnax": "0.2.0", "penzai": "0.2.5"}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}

# Sizes that several tests read.
TOKENS, ROWS, WIDTH = 11, 9, 24
HEADS, FEATURES = 2, 12
FAR = 4095
IDS = np.array([0, 10, 3, 3, -1, -11])
SEEN = np.tri(ROWS, dtype=bool) & (np.arange(ROWS)[:, None] != 4)  # the fifth query sees no key

Results = dict[str, Any]


def drawn(*shape: int, start: int, dtype: Any = np.float32) -> jax.Array:
    """Multiples of 1/64 from -2 to 2 in a fixed order. Every element type holds them exactly."""
    return jnp.asarray((((np.arange(np.prod(shape)) * 37 + start) % 257 - 128) / 64).reshape(shape), dtype)


def small(*shape: int, start: int, dtype: Any = np.float32) -> jax.Array:
    """The same for weights, an eighth of it."""
    return drawn(*shape, start=start, dtype=dtype) / 8


def recorded(seed: str) -> Mapping[str, Any]:
    """The recorded results of a seed, and the versions that gave them."""
    return json.loads((VECTORS / f"{seed}.json").read_text())


# equinox ----------------------------------------------------------------------------------------------------------------


def equinox(nn: Any, dtype: Any) -> Results:
    """`nn` is equinox.nn, or ropegen.equinox."""
    import equinox as eqx

    embedding = nn.Embedding(weight=drawn(TOKENS, FEATURES, start=1, dtype=dtype))
    results: Results = {"embedding": jax.vmap(embedding)(jnp.asarray(IDS))}
    for theta in (1e4, 5e5):
        # equinox keeps one table for a width and a type, whatever theta is, so every theta has its own width here.
        width = WIDTH if theta == 1e4 else WIDTH + 8
        rotation = nn.RotaryPositionalEmbedding(width, theta)
        results[f"rotation, theta {theta:g}"] = rotation(drawn(ROWS, width, start=2, dtype=dtype))
    made = nn.MultiheadAttention(HEADS, FEATURES, use_output_bias=True, dtype=dtype, key=jax.random.key(0))
    layer = eqx.tree_at(
        lambda layer: [*(getattr(layer, name).weight for name in PROJECTIONS), layer.output_proj.bias],
        made,
        [*equinox_weights(dtype).values(), small(FEATURES, start=9, dtype=dtype)],
    )
    x = drawn(ROWS, FEATURES, start=3, dtype=dtype)
    results["attention"] = layer(x, x, x, jnp.asarray(SEEN))
    turn = jax.vmap(nn.RotaryPositionalEmbedding(FEATURES // HEADS), in_axes=1, out_axes=1)
    results["rotated attention"] = layer(x, x, x, process_heads=lambda q, k, v: (turn(q), turn(k), v))
    return results


PROJECTIONS = ("query_proj", "key_proj", "value_proj", "output_proj")


def equinox_weights(dtype: Any) -> dict[str, jax.Array]:
    """The weights (features out, features in) of the projections."""
    return {name: small(FEATURES, FEATURES, start=5 + place, dtype=dtype) for place, name in enumerate(PROJECTIONS)}


# attnax -----------------------------------------------------------------------------------------------------------------


def attnax(library: Any, dtype: Any) -> Results:
    """`library` is attnax, or ropegen.nnx."""
    from flax import nnx

    rngs = nnx.Rngs(0)
    x = drawn(2, ROWS, FEATURES, start=3, dtype=dtype)
    tokens = library.TokenEmbedding(rngs, TOKENS, FEATURES)
    tokens.embed.embedding[...] = drawn(TOKENS, FEATURES, start=1)
    learned = library.LearnedPositionalEmbedding(rngs, num_positions=ROWS, d_model=FEATURES)
    learned.embedding[...] = drawn(ROWS, FEATURES, start=2)
    patches = library.PatchEmbedding(rngs, image_size=(4, 6), patch_size=2, num_channels=3, d_model=FEATURES)
    patches.proj.kernel[...] = small(2, 2, 3, FEATURES, start=4)
    patches.proj.bias[...] = small(FEATURES, start=5)
    cos, sin = library.rope_cos_sin_table(ROWS, WIDTH, 5e5, jnp.float32)
    far = library.rope_cos_sin_from_positions(jnp.asarray([0, FAR]), WIDTH, 5e5, FAR + 1, jnp.float32)
    heads = drawn(2, 3, ROWS, WIDTH, start=6, dtype=dtype)
    return {
        "tokens": tokens(jnp.asarray(IDS)),
        "encoding": library.PositionalEncoding(ROWS + 3, FEATURES)(x, 3),
        "learned rows": learned(x),
        "patches": patches(drawn(2, 4, 6, 3, start=7, dtype=dtype)),
        "frequencies": library.rope_inv_freq(WIDTH, 5e5, dtype=jnp.float32),
        "cosines": cos,
        "sines": sin,
        "far cosines": far[0],
        "far sines": far[1],
        "rotation": library.apply_rope(heads, cos.astype(dtype), sin.astype(dtype)),
    }


# penzai -----------------------------------------------------------------------------------------------------------------

PENZAI_HEADS = {"head_groups": 2, "query_heads": 2, "projection": 6}


def penzai(layers: Any, attention: Callable[[Any], Any], dtype: Any) -> Results:
    """`layers` is penzai.pz.nn, or ropegen.penzai. `attention` returns the attention to call instead of penzai's."""
    from penzai import pz

    def named(start: int, **axes: int) -> Any:
        return pz.nx.wrap(drawn(*axes.values(), start=start, dtype=dtype), *axes)

    x = named(2, seq=ROWS, heads=2, projection=WIDTH)
    at = pz.nx.wrap(jnp.asarray(np.arange(ROWS) * 1.5, jnp.float32), "seq")
    table = pz.nn.EmbeddingTable(
        pz.Parameter(label="table", value=named(1, vocabulary=TOKENS, embedding=FEATURES)), "vocabulary"
    )
    results: Results = {
        "rotation": layers.ApplyRoPE("projection", 1e4, "at")(x, at=at),
        "rotation of a part": layers.ApplyRoPEToSubset("projection", 1e3, 8, "at")(x, at=at),
        "embedding": layers.EmbeddingLookup(table)(pz.nx.wrap(jnp.asarray(IDS), "seq")),
    }
    tokens = named(3, seq=ROWS, embedding=FEATURES)
    results["attention"] = attention(penzai_attention(dtype))(tokens, token_positions=pz.nx.arange("seq", ROWS))
    return {label: array.unwrap(*array.named_shape) for label, array in results.items()}


def penzai_attention(dtype: Any) -> Any:
    """The causal attention with rotary embedding of penzai's own models, with drawn weights."""
    from penzai import pz
    from penzai.models.transformer.variants import llamalike_common as llama

    config = llama.LlamalikeTransformerConfig(
        num_kv_heads=PENZAI_HEADS["head_groups"],
        query_head_multiplier=PENZAI_HEADS["query_heads"],
        embedding_dim=FEATURES,
        projection_dim=PENZAI_HEADS["projection"],
        mlp_hidden_dim=FEATURES,
        num_decoder_blocks=1,
        vocab_size=TOKENS,
        mlp_variant="swiglu",
        tie_embedder_and_logits=True,
        parameter_dtype=dtype,
        activation_dtype=dtype,
    )
    layer, _ = pz.unbind_params(llama.build_llamalike_attention("a", jax.random.key(0), config))
    values = {
        f"a/{name}.weights": pz.nx.wrap(array.astype(dtype), *axes) for name, (axes, array) in penzai_weights().items()
    }
    return pz.bind_variables(layer, [pz.Parameter(label=label, value=value) for label, value in values.items()])


def penzai_weights() -> dict[str, tuple[tuple[str, ...], jax.Array]]:
    """The axes of every projection, and its weights."""
    groups, queries, width = PENZAI_HEADS.values()
    shapes = {
        "query": {"embedding": FEATURES, "head_groups": groups, "query_heads": queries, "projection": width},
        "key": {"embedding": FEATURES, "head_groups": groups, "projection": width},
        "value": {"embedding": FEATURES, "head_groups": groups, "projection": width},
        "output": {"head_groups": groups, "query_heads": queries, "projection": width, "embedding": FEATURES},
    }
    return {
        name: (tuple(axes), small(*axes.values(), start=5 + place)) for place, (name, axes) in enumerate(shapes.items())
    }
