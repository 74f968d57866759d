"""Which config fields a family knows. Any other field is refused, because it may change what the model computes."""

from __future__ import annotations

from collections.abc import Mapping

from ropegen.errors import RopegenError, nearest
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd

# Fields of transformers' base class, and what earlier releases saved beside them. No layer computes with them.
COMMON = frozenset(
    [
        "_attn_implementation",
        "_attn_implementation_internal",
        "_commit_hash",
        "_name_or_path",
        "add_cross_attention",
        "architectures",
        "attn_implementation",
        "auto_map",
        "cache_implementation",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "dtype",
        "finetuning_task",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "prefix",
        "problem_type",
        "return_dict",
        "return_dict_in_generate",
        "task_specific_params",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
    ]
)
# Fields of generation, which older releases kept in config.json. They choose tokens, and no layer reads them.
GENERATION = frozenset(
    [
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "eos_token_id",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "max_new_tokens",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "pad_token_id",
        "remove_invalid_values",
        "repetition_penalty",
        "sep_token_id",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    ]
)
# What every family reads.
_READ = frozenset(
    (
        "hidden_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "layer_types",
        "is_causal",
        "pruned_heads",
    )
)
# The parts of a config that holds several models.
_PARTS = frozenset(("text_config", "vision_config", "audio_config"))


def known_fields(config: Config) -> frozenset[str]:
    """Every field that a config of this family may have, under all of its names."""
    family = config.family
    names = {*COMMON, *GENERATION, *_READ, *family.defaults, *family.unread}
    if isinstance(family.front_end, FrontEnd):
        names |= family.front_end.fields
    if family.rotary is not None:
        names |= family.rotary.named
    if (block := config.block) is not None:
        names |= block.fields
    return frozenset(names | {spelling for spellings in family.spellings.values() for spelling in spellings})


def check_fields(config: Config) -> None:
    """Refuses every field that the family does not list, unless it is null, which says nothing.

    Fields named rope_* and rotary_* are left to `rope_parameters`.

    Raises:
      RopegenError: there is such a field, or the weights are stored in a quantised form.
    """
    for stated in (config.given, config.around):
        if stated.get("quantization_config") is not None:
            raise config.refuse(
                "quantization_config says that the checkpoint holds its weights in another form",
                "load them with rg.weights, which says what it can undo, and leave quantization_config out here",
            )
    if config.given.get("pruned_heads"):
        raise config.refuse("pruned_heads names heads that some layers lack", "that is not supported")
    _refuse_unknown(config.model_type, config.given, known_fields(config))
    if config.around:
        outer = str(config.around.get("model_type"))
        _refuse_unknown(outer, config.around, {*COMMON, *GENERATION, *_PARTS, *config.around_known})


def _refuse_unknown(model_type: str, given: Mapping[str, object], known: frozenset[str] | set[str]) -> None:
    for name, value in given.items():
        if name not in known and value is not None and not name.startswith(("rope_", "rotary_")):
            hint = nearest(name, known)
            close = f"; {hint}" if hint.startswith("did you mean") else ""
            raise RopegenError(
                f"{model_type} config: {model_type} is not known to have the field {name!r}, which may change what it "
                f"computes{close}; leave it out if the model's code does not read it"
            )
