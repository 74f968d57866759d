"""Write golden/vectors/models.json: what whole models of transformers compute for the configs of hub_models.py.

Run `python tests/record_models.py` by hand, where torch and transformers are installed; names of models after it record
those again and keep the others. The live comparison in
test_model.py calls `run` too.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from hub_models import CONFIGS, PROMPT, STEPS, drawn
from wide_torch import Float64

# The models are small, and the threads of torch would wait for one another where other programs run.
torch.set_num_threads(1)
VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "models.json"


def hub_model(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """The model of transformers with drawn weights and the plain formula of attention."""
    stated = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    model = transformers.AutoModelForCausalLM.from_config(
        stated, attn_implementation="eager", experts_implementation="eager", dtype=dtype
    ).eval()
    with torch.no_grad():
        for name, tensor in own_tensors(model).items():
            tensor.copy_(torch.from_numpy(drawn(name, tuple(tensor.shape))))
    return model


def own_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The tensors that a checkpoint of the model holds: those of `state_dict`, without copies of tied ones."""
    tied = model.all_tied_weights_keys if model.config.tie_word_embeddings else {}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in tied and tensor.dtype.is_floating_point
    }


def run(config: dict[str, Any]) -> dict[str, Any]:
    """The shapes of the checkpoint, the scores after every token of the prompt, and the greedy tokens after it.

    The scores are those of a model that is float64 throughout, so that all of a difference is ropegen's; the tokens are those of float32.
    `own_error` is how far the scores of the float32 model are from them, relative to the largest.
    """
    model = hub_model(config)
    with torch.no_grad(), Float64():
        logits = hub_model(config, torch.float64)(torch.from_numpy(PROMPT).long()).logits
    with torch.no_grad():
        own = model(torch.from_numpy(PROMPT).long()).logits.double()
        tokens = model.generate(
            torch.from_numpy(PROMPT).long(), max_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return {
        "shapes": {name: list(tensor.shape) for name, tensor in own_tensors(model).items()},
        "own_error": float(f"{(own - logits).abs().max() / logits.abs().max():.2g}"),
        "logits": [[[float(str(x)) for x in row] for row in rows] for rows in logits.float().numpy()],
        "tokens": tokens[:, PROMPT.shape[1] :].tolist(),
    }


def main() -> None:
    """Run every config, or those named, and replace the file."""
    kept = json.loads(VECTORS.read_text()) if sys.argv[1:] else {}
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
    lines = [f'"versions": {json.dumps(versions)}']
    for name, config in CONFIGS.items():
        print(name, flush=True)
        said = kept[name] if kept and name not in sys.argv[1:] else {"config": config, **run(config)}
        made = json.dumps(said, separators=(",", ":"))
        lines.append(f'"{name}": {made}')
    aside = VECTORS.with_suffix(".new")
    aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(aside, VECTORS)
    print(f"{VECTORS.name}: {len(CONFIGS)} models, {VECTORS.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main()
