"""`rg.weights`: tensors by their hub names become the parameters of graphs, layer by layer, or an error says why not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hub_layers import CONFIGS, drawn
from safetensors_files import write_file, write_shards

import ropegen as rg
from ropegen.errors import RopegenError

FEATURES, HEADS, WIDTH = 24, 4, 6
LLAMA = CONFIGS["llama-square"]


def llama(layers: int = 2, prefix: str = "model.", **changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint of `LLAMA`. Changes are by the name after the prefix; None takes a tensor out."""
    shapes = {"embed_tokens.weight": (37, FEATURES), "norm.weight": (FEATURES,)}
    for layer in range(layers):
        shapes |= {f"layers.{layer}.self_attn.{role}_proj.weight": (FEATURES, FEATURES) for role in "qkvo"}
        shapes |= {f"layers.{layer}.{name}_layernorm.weight": (FEATURES,) for name in ("input", "post_attention")}
        shapes |= {f"layers.{layer}.mlp.{name}_proj.weight": (28, FEATURES) for name in ("gate", "up")}
        shapes |= {f"layers.{layer}.mlp.down_proj.weight": (FEATURES, 28)}
    made = {name: drawn(name, shape) for name, shape in shapes.items()} | changes
    named = {prefix + name: value for name, value in made.items() if value is not None}
    return {**named, "lm_head.weight": drawn("head", (37, FEATURES))}


def refusal(function: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(RopegenError) as raised:
        function(*arguments, **options)
    return str(raised.value)


# Orientation and packing ----------------------------------------------------------------------------------------------


def test_a_square_matrix_of_torch_is_always_transposed() -> None:
    source = llama()
    read = rg.weights.from_hf(LLAMA, source, layer=1)
    for role in "qkvo":
        stored = source[f"model.layers.1.self_attn.{role}_proj.weight"]
        np.testing.assert_array_equal(read[f"{role}_weight"], stored.T)
        assert not np.array_equal(read[f"{role}_weight"], stored)


def test_a_square_matrix_of_gpt2_is_never_transposed() -> None:
    stored = drawn("c_proj", (FEATURES, FEATURES))
    packed, bias = drawn("c_attn", (FEATURES, 3 * FEATURES)), drawn("bias", (3 * FEATURES,))
    source = {
        "h.0.ln_1.weight": np.ones(FEATURES, np.float32),
        "h.0.ln_1.bias": np.zeros(FEATURES, np.float32),
        "h.0.attn.c_attn.weight": packed,
        "h.0.attn.c_attn.bias": bias,
        "h.0.attn.c_proj.weight": stored,
        "h.0.attn.c_proj.bias": np.zeros(FEATURES, np.float32),
        "h.0.attn.bias": np.ones((1, 1, 32, 32), np.float32),  # the mask that earlier releases saved
    }
    read = rg.weights.from_hf(CONFIGS["gpt2"], source)
    np.testing.assert_array_equal(read["o_weight"], stored)
    for number, role in enumerate("qkv"):
        np.testing.assert_array_equal(read[f"{role}_weight"], packed[:, FEATURES * number : FEATURES * (number + 1)])
        np.testing.assert_array_equal(read[f"{role}_bias"], bias[FEATURES * number : FEATURES * (number + 1)])


def test_gpt_neox_packs_head_by_head() -> None:
    weight, bias = drawn("qkv", (3 * FEATURES, FEATURES)), drawn("bias", (3 * FEATURES,))
    folder = "gpt_neox.layers.0."
    source = {
        folder + "input_layernorm.weight": np.ones(FEATURES, np.float32),
        folder + "input_layernorm.bias": np.zeros(FEATURES, np.float32),
        folder + "attention.query_key_value.weight": weight,
        folder + "attention.query_key_value.bias": bias,
        folder + "attention.dense.weight": drawn("o", (FEATURES, FEATURES)),
        folder + "attention.dense.bias": np.zeros(FEATURES, np.float32),
        folder + "attention.rotary_emb.inv_freq": np.ones(1, np.float32),
    }
    read = rg.weights.from_hf(CONFIGS["gpt_neox"], source)
    for number, role in enumerate("qkv"):
        by_head = weight.reshape(HEADS, 3, WIDTH, FEATURES)[:, number].reshape(FEATURES, FEATURES)
        np.testing.assert_array_equal(read[f"{role}_weight"], by_head.T)
        np.testing.assert_array_equal(read[f"{role}_bias"], bias.reshape(HEADS, 3, WIDTH)[:, number].ravel())


def test_a_convolution_meets_patches_with_channels_last() -> None:
    config = {
        "model_type": "vit",
        "hidden_size": FEATURES,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "layer_norm_eps": 1e-12,
        "image_size": [6, 4],
        "patch_size": [3, 2],
        "num_channels": 5,
    }
    labels = rg.from_hf(config).input_types
    kernel, table = drawn("kernel", (FEATURES, 5, 3, 2)), drawn("table", (1, 5, FEATURES))
    folder = "vit.encoder.layer.0."
    source = {
        "vit.embeddings.cls_token": np.zeros((1, 1, FEATURES), np.float32),
        "vit.embeddings.patch_embeddings.projection.weight": kernel,
        "vit.embeddings.patch_embeddings.projection.bias": np.zeros(FEATURES, np.float32),
        "vit.embeddings.position_embeddings": table,
        **{folder + f"layernorm_before.{part}": np.ones(FEATURES, np.float32) for part in ("weight", "bias")},
        **{
            folder + f"attention.{role}.{part}": drawn(role, (FEATURES, FEATURES)[: 2 if part == "weight" else 1])
            for role in ("attention.query", "attention.key", "attention.value", "output.dense")
            for part in ("weight", "bias")
        },
    }
    read = rg.weights.from_hf(config, source, start="ids")
    assert {label: array.shape for label, array in read.items()} == {label: labels[label].shape for label in read}
    patch = np.random.default_rng(0).standard_normal((3, 2, 5))  # height, width, channels
    np.testing.assert_allclose(
        patch.ravel() @ read["patch_weight"], np.einsum("hwc,fchw->f", patch, kernel), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(read["position_embedding"], table[0, 1:])


# Sources --------------------------------------------------------------------------------------------------------------


def test_files_shards_and_mappings_give_the_same(tmp_path: Path) -> None:
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in llama().items()}
    names = list(tensors)
    halves = [{name: tensors[name] for name in part} for part in (names[::2], names[1::2])]
    (tmp_path / "shards").mkdir()
    sources = [
        tensors,
        {name: jnp.asarray(value) for name, value in tensors.items()},
        write_file(tmp_path / "model.safetensors", tensors),
        tmp_path,
        write_shards(tmp_path / "shards", halves),
    ]
    for layer, start in ((0, "ids"), (1, "hidden")):
        expected, *others = (rg.weights.from_hf(LLAMA, source, layer=layer, start=start) for source in sources)
        assert ("embedding" in expected) == (start == "ids")
        for other in others:
            assert list(other) == list(expected)
            for label, array in other.items():
                assert array.dtype == ml_dtypes.bfloat16
                assert not isinstance(array, np.memmap)
                assert array.tobytes() == expected[label].tobytes()


@pytest.mark.live
def test_tensors_of_torch_bf16_and_gradients_included() -> None:
    torch = pytest.importorskip("torch", reason="runs after: pip install torch")
    tensors = llama()
    given = {name: torch.nn.Parameter(torch.from_numpy(value).bfloat16()) for name, value in tensors.items()}
    given["model.layers.0.self_attn.q_proj.weight"] = torch.from_numpy(
        tensors["model.layers.0.self_attn.q_proj.weight"].T.copy()
    ).T.bfloat16()  # not contiguous
    for label, array in rg.weights.from_hf(LLAMA, given, start="ids").items():
        expected = rg.weights.from_hf(LLAMA, tensors, start="ids")[label].astype(ml_dtypes.bfloat16)
        assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("prefix", ["model.", "", "model.language_model.", "language_model.model."])
def test_prefixes_of_the_hub(prefix: str) -> None:
    checkpoint = rg.weights.open(LLAMA, wrapped(prefix) if prefix else llama(prefix=""))
    np.testing.assert_array_equal(
        checkpoint.front_end(1)["q_weight"], drawn("layers.1.self_attn.q_proj.weight", (24, 24)).T
    )
    np.testing.assert_array_equal(checkpoint.head()["head_weight"], drawn("head", (37, FEATURES)).T)


def wrapped(prefix: str) -> dict[str, np.ndarray]:
    """A checkpoint of a model with images, whose text model has the prefix."""
    tensors = llama(prefix=prefix)
    head = tensors.pop("lm_head.weight")
    outer = "language_model." if prefix == "language_model.model." else ""
    return {**tensors, outer + "lm_head.weight": head, "vision_tower.patch.weight": np.zeros(3, np.float32)}


def test_what_no_part_reads_is_listed() -> None:
    assert rg.weights.open(LLAMA, llama()).unused() == ()
    assert rg.weights.open(LLAMA, wrapped("language_model.model.")).unused() == ("vision_tower.patch.weight",)


# The other parts ------------------------------------------------------------------------------------------------------


def test_the_block_and_the_head_of_llama() -> None:
    source = llama()
    checkpoint = rg.weights.open(LLAMA, source)
    block, head = checkpoint.block(1), checkpoint.head()
    assert {label: array.shape for label, array in block.items()} == {
        "mlp_norm": (24,),
        "gate_weight": (24, 28),
        "up_weight": (24, 28),
        "down_weight": (28, 24),
    }
    np.testing.assert_array_equal(block["down_weight"], source["model.layers.1.mlp.down_proj.weight"].T)
    assert {label: array.shape for label, array in head.items()} == {"final_norm": (24,), "head_weight": (24, 37)}


def test_a_tied_head_is_the_embedding() -> None:
    tied, source = {**LLAMA, "tie_word_embeddings": True}, llama()
    assert "and the config ties them" in refusal(rg.weights.open(tied, source).head)
    del source["lm_head.weight"]
    checkpoint = rg.weights.open(tied, source)
    np.testing.assert_array_equal(checkpoint.head()["head_weight"], source["model.embed_tokens.weight"].T)
    assert set(checkpoint.head(resolve_tied=False)) == {"final_norm"}
    assert "has no tensor 'lm_head.weight'" in refusal(rg.weights.open(LLAMA, source).head)


def test_the_dtype_that_is_asked_for() -> None:
    tensors = llama()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(ml_dtypes.bfloat16)
    checkpoint = rg.weights.open(LLAMA, tensors)
    assert {array.dtype.name for array in checkpoint.head().values()} == {"bfloat16", "float32"}
    narrow = rg.weights.open(LLAMA, tensors, dtype="bf16").head()
    assert {array.dtype.name for array in narrow.values()} == {"bfloat16"}
    np.testing.assert_array_equal(narrow["head_weight"], tensors["lm_head.weight"].T.astype(ml_dtypes.bfloat16))


# Memory ---------------------------------------------------------------------------------------------------------------


def test_layers_are_read_one_by_one(tmp_path: Path) -> None:
    """Opening reads no values, and reading a layer needs no memory beside what it returns but for one tensor."""
    wide = {**LLAMA, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 64}
    sizes = {24: 256, 28: 512, 37: 64}
    shards = []
    for shard in range(3):
        tensors = {
            name: np.zeros([sizes[size] for size in value.shape], ml_dtypes.bfloat16)
            for name, value in llama(layers=6).items()
        }
        shards.append({name: value for number, (name, value) in enumerate(tensors.items()) if number % 3 == shard})
    write_shards(tmp_path, shards)
    front_end, block = (4 * 256 * 256 + 256) * 2, (3 * 256 * 512 + 256) * 2
    largest = 256 * 512 * 2
    rg.weights.open(wide, tmp_path).block(0)  # graphs and modules are made once
    tracemalloc.start()
    try:
        checkpoint = rg.weights.open(wide, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < largest
        kept = [(checkpoint.front_end(layer), checkpoint.block(layer)) for layer in range(6)]
        assert tracemalloc.get_traced_memory()[1] <= 6 * (front_end + block) + largest
        del kept
        tracemalloc.reset_peak()
        for layer in range(6):
            checkpoint.block(layer)
        assert tracemalloc.get_traced_memory()[1] <= block + largest
    finally:
        tracemalloc.stop()


# Quantised checkpoints ------------------------------------------------------------------------------------------------

FP8 = {"quant_method": "fp8", "weight_block_size": [16, 16]}
Q = "model.layers.0.self_attn.q_proj.weight"


def test_fp8_with_a_scale_for_every_block() -> None:
    source = llama()
    stored, scale = source[Q].astype(ml_dtypes.float8_e4m3fn), drawn("scale", (2, 2))
    quantised = {**source, Q: stored, f"{Q}_scale_inv": scale}
    config = {**LLAMA, "quantization_config": FP8, "torch_dtype": "float32"}
    read = rg.weights.open(config, quantised).front_end(0)
    blocks = np.repeat(np.repeat(scale, 16, 0), 16, 1)[:24, :24]
    np.testing.assert_array_equal(read["q_weight"], (stored.astype(np.float32) * blocks).T)
    np.testing.assert_array_equal(read["k_weight"], source[Q.replace("q_proj", "k_proj")].T)


@pytest.mark.parametrize("shape", [(), (1,), (24, 1), (24,)])
def test_int8_with_a_scale_for_the_weight_or_for_every_output(shape: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).integers(-128, 128, (24, 24)).astype(np.int8)
    scale = np.abs(drawn("scale", shape)) + np.float32(0.5)
    source = {**llama(), Q: stored, f"{Q}_scale": scale, Q.replace("weight", "input_scale"): np.ones(1, np.float32)}
    method = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    read = rg.weights.from_hf({**LLAMA, "quantization_config": method}, source, dtype="f32")
    outputs = np.broadcast_to(scale.reshape(-1, 1) if scale.ndim == 1 else scale, (24, 24))
    np.testing.assert_array_equal(read["q_weight"], (stored.astype(np.float32) * outputs).T)
    half = rg.weights.from_hf({**LLAMA, "quantization_config": method}, source)
    assert half["q_weight"].dtype == ml_dtypes.bfloat16  # what the hub's configs state, and the usual type without it


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, ["'gptq'", "int8 and fp8"]),
        ({"quant_method": "mxfp4"}, ["'mxfp4'"]),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, ["'pack-quantized'"]),
        ({"quant_method": "fp8", "weight_block_size": [128]}, ["weight_block_size"]),
        ("fp8", ["quantization_config is 'fp8'"]),
    ],
)
def test_other_quantisations_are_refused_by_name(stated: object, words: list[str]) -> None:
    said = refusal(rg.weights.open, {**LLAMA, "quantization_config": stated}, llama())
    for word in words:
        assert word in said


def test_quantised_weights_need_their_scales_and_their_config() -> None:
    source = {**llama(), Q: llama()[Q].astype(ml_dtypes.float8_e4m3fn)}
    assert "no quantization_config" in refusal(rg.weights.open, LLAMA, source)
    config = {**LLAMA, "quantization_config": FP8}
    assert f"{Q}_scale is not there" in refusal(rg.weights.open, config, source)
    wrong = {**source, f"{Q}_scale_inv": np.ones((3, 2), np.float32)}
    assert "scales of shape (3, 2)" in refusal(rg.weights.open(config, wrong).front_end, 0)


# What is wrong is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"layers.1.self_attn.q_proj.weight": None},
            ["model.layers.1.self_attn.q_proj.weight", "q_weight", "did you mean"],
        ),
        (
            {"layers.1.self_attn.q_proj.weight": None, "layers.1.self_attn.q_prj.weight": drawn("q", (24, 24))},
            ["q_weight", "did you mean 'model.layers.1.self_attn.q_prj.weight'"],
        ),
        (
            {"layers.1.self_attn.q_proj.bias": drawn("b", (24,))},
            ["'model.layers.1.self_attn.q_proj.bias'", "does not read"],
        ),
        ({"layers.2.input_layernorm.weight": drawn("n", (24,))}, ["'model.layers.2.input_layernorm.weight'"]),
        ({"layers.0.self_attn.k_proj.weight": drawn("k", (12, 24))}, ["(12, 24)", "(24, 24)"]),
        ({"layers.0.mlp.down_proj.weight": drawn("d", (28, 24))}, ["down_proj", "(28, 24)", "(24, 28)"]),
        ({"embed_tokens.weight": drawn("e", (36, 24))}, ["embed_tokens", "(36, 24)", "(37, 24)"]),
        ({"layers.0.self_attn.k_proj.weight": np.ones((24, 24), np.int32)}, ["k_proj", "int32", "bf16"]),
        ({"layers.0.self_attn.k_proj.weight": np.ones((24, 24), np.uint8)}, ["k_proj", "uint8"]),
    ],
)
def test_tensors_that_do_not_fit_the_config(changes: dict[str, np.ndarray | None], words: list[str]) -> None:
    said = refusal(rg.weights.open, LLAMA, llama(**changes))
    for word in words:
        assert word in said


def test_tensors_under_other_names() -> None:
    said = refusal(rg.weights.from_hf, LLAMA, {"q_weight": drawn("q", (24, 24))})
    for word in ("begins with model.layers.0.", "it has q_weight", "names that the hub has"):
        assert word in said
    assert "none at all" in refusal(rg.weights.open, LLAMA, {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": 2}, ["layer 2 of a model of 2"]),
        ({"layer": -1}, ["layer -1"]),
        ({"start": "hiden"}, ["'hiden'", "did you mean 'hidden'"]),
        ({"start": 3}, ["start"]),
        ({"dtype": "i32"}, ["dtype is i32"]),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], words: list[str]) -> None:
    said = refusal(rg.weights.from_hf, LLAMA, llama(), **arguments)
    for word in words:
        assert word in said


def test_models_without_a_head_or_a_declaration() -> None:
    assert "does not know how checkpoints" in refusal(
        rg.weights.open,
        {"model_type": "transformer", "d_model": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 3},
        {},
    )


def test_layer_norms_of_bert_under_their_older_names() -> None:
    config = CONFIGS["bert"]
    shapes = {
        "embeddings.word_embeddings.weight": (37, 24),
        "embeddings.position_embeddings.weight": (32, 24),
        "embeddings.token_type_embeddings.weight": (2, 24),
        "embeddings.LayerNorm.gamma": (24,),
        "embeddings.LayerNorm.beta": (24,),
        **{
            f"encoder.layer.0.attention.{role}.{part}": (24, 24)[: 2 if part == "weight" else 1]
            for role in ("self.query", "self.key", "self.value", "output.dense")
            for part in ("weight", "bias")
        },
    }
    source = {f"bert.{name}": drawn(name, shape) for name, shape in shapes.items()}
    read = rg.weights.from_hf(config, source, start="ids")
    np.testing.assert_array_equal(read["embedding_norm"], source["bert.embeddings.LayerNorm.gamma"])
    np.testing.assert_array_equal(read["embedding_norm_bias"], source["bert.embeddings.LayerNorm.beta"])
