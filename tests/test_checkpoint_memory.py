"""A folder of shards is read layer by layer: the memory in use is that of what stays, and of one layer above it.

The 24 layers of this test stand for those of a model of 16 GB. Every figure is the memory of a process of its own, with the
pages of the files that are mapped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors_files import write_shards

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc, which Linux has")

LAYERS, SHARDS, FEATURES, INNER, WORDS = 24, 6, 512, 1024, 64
LAYER = 4 * (4 * FEATURES**2 + 3 * FEATURES * INNER)
"""The bytes of a layer without its norms: 10 MiB."""
MARGIN = 5 << 20
"""Half a layer, for graphs, the names of tensors, and memory that the allocator has not given back yet."""
CONFIG = {
    "model_type": "llama",
    "vocab_size": WORDS,
    "hidden_size": FEATURES,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
# What a process runs in front of the code of a test: it makes what is made once, and forgets the peak so far.
BEFORE = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
import ropegen as rg

def memory(kind):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind + ":"))
    return int(line.split()[1]) * 1024

folder = sys.argv[1]
checkpoint = rg.weights.open(folder, folder)
checkpoint.block(0)
jnp.zeros(3).block_until_ready()
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
"""
AFTER = "\nprint(json.dumps([memory(kind) - before for kind in ('VmHWM', 'VmRSS')]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(0)
    shards = [dict[str, np.ndarray]() for _ in range(SHARDS)]
    for layer in range(LAYERS):
        shapes = {f"self_attn.{role}_proj": (FEATURES, FEATURES) for role in "qkvo"}
        shapes |= {"mlp.gate_proj": (INNER, FEATURES), "mlp.up_proj": (INNER, FEATURES)}
        shapes |= {"mlp.down_proj": (FEATURES, INNER), "input_layernorm": (FEATURES,)}
        shapes |= {"post_attention_layernorm": (FEATURES,)}
        shards[layer * SHARDS // LAYERS] |= {
            f"model.layers.{layer}.{name}.weight": random.standard_normal(shape, np.float32)
            for name, shape in shapes.items()
        }
    shards[0]["model.embed_tokens.weight"] = random.standard_normal((WORDS, FEATURES), np.float32)
    shards[-1]["model.norm.weight"] = np.ones(FEATURES, np.float32)
    shards[-1]["lm_head.weight"] = random.standard_normal((WORDS, FEATURES), np.float32)
    (made / "config.json").write_text(json.dumps(CONFIG))
    return write_shards(made, shards)


def measured(folder: Path, code: str) -> tuple[int, int]:
    """The bytes that a process with this code had more at its peak, and has more at its end."""
    command = [sys.executable, "-c", BEFORE + code + AFTER, str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    peak, end = json.loads(said)
    return peak, end


def test_layers_that_are_not_kept_take_the_memory_of_one(folder: Path) -> None:
    peak, end = measured(
        folder,
        """
for layer in range(checkpoint.layers):
    read = [checkpoint.front_end(layer), checkpoint.block(layer)]
    del read
""",
    )
    assert LAYER * 0.9 < peak <= LAYER + MARGIN
    assert end <= MARGIN


def test_a_model_takes_its_own_memory_and_at_most_that_of_one_layer(folder: Path) -> None:
    peak, end = measured(folder, "\nmodel = rg.Model.from_hf(folder, checkpoint)")
    stays = LAYERS * LAYER
    assert stays <= end <= stays + MARGIN
    assert peak <= stays + LAYER + MARGIN
