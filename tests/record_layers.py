"""Write golden/vectors/layers.json: the attention of layer 0 in transformers, for the configs of hub_layers.py.

Run `python tests/record_layers.py` by hand, where torch and transformers are installed. The live comparison in
test_hub_layers.py calls `HubModel` too.
"""

from __future__ import annotations

import copy
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from hub_layers import CONFIGS, IDS, IMAGE, TYPES, drawn

from ropegen.weights import Checkpoint

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "layers.json"


class HubModel:
    """A model of transformers with drawn weights, in float32 and with the plain formula of attention."""

    def __init__(self, config: dict[str, Any]) -> None:
        stated = transformers.AutoConfig.for_model(**copy.deepcopy(config))
        causal = type(stated) in transformers.AutoModelForCausalLM._model_mapping
        make = transformers.AutoModelForCausalLM if causal and not stated.is_encoder_decoder else transformers.AutoModel
        if stated.model_type == "siglip_text_model":  # which no auto class knows
            self.model = transformers.SiglipTextModel._from_config(stated, attn_implementation="eager").eval()
        else:
            self.model = make.from_config(stated, attn_implementation="eager", dtype=torch.float32).eval()
        with torch.no_grad():
            # A head may be tied to the embedding. The name of the embedding decides, so it is drawn later.
            inner = self.model.base_model_prefix + "."
            for name, tensor in sorted(self.model.state_dict().items(), key=lambda item: item[0].startswith(inner)):
                if tensor.dtype.is_floating_point:
                    tensor.copy_(torch.from_numpy(drawn(name, tuple(tensor.shape))))
        self.model.tie_weights()
        self.tensors: dict[str, np.ndarray] = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}

    def attention(self, checkpoint: Checkpoint, **more: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every layer, what goes into it and what its output projection returns, both (1, S, features).

        more: what the model takes beside its usual inputs.
        """
        seen: dict[tuple[str, int], np.ndarray] = {}
        hooks = []
        for layer in range(checkpoint.layers):
            folder = checkpoint.prefix + checkpoint.tensors.layers.format(layer)

            def entered(module, args, kwargs, layer=layer):
                given = args[0] if args else kwargs["hidden_states"]
                seen["in", layer] = given.numpy().copy()

            def projected(module, args, out, layer=layer):
                seen["out", layer] = out.numpy().reshape(seen["in", layer].shape).copy()

            module = self.model.get_submodule(folder.removesuffix("."))
            hooks.append(module.register_forward_pre_hook(entered, with_kwargs=True))
            output = checkpoint.tensors.front_end["o"].names()[0].removesuffix(".weight")
            hooks.append(module.get_submodule(output).register_forward_hook(projected))
        inputs = {"input_ids": torch.from_numpy(IDS).long()}
        if checkpoint.facts.patches:
            inputs = {"pixel_values": torch.from_numpy(IMAGE).permute(0, 3, 1, 2)}
        if checkpoint.facts.token_types:
            inputs["token_type_ids"] = torch.from_numpy(TYPES).long()
        with torch.no_grad():
            self.model(**inputs, **more)
        for hook in hooks:
            hook.remove()
        return [(seen["in", layer], seen["out", layer]) for layer in range(checkpoint.layers)]

    def logits(self) -> np.ndarray:
        """The scores after every token, (1, S, words)."""
        with torch.no_grad():
            return self.model(input_ids=torch.from_numpy(IDS).long()).logits.numpy()


def main() -> None:
    """Run every config and replace the file."""
    import ropegen as rg

    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
    lines = [f'"versions": {json.dumps(versions)}']
    for name, config in CONFIGS.items():
        hub = HubModel(config)
        checkpoint = rg.weights.open(config, hub.tensors)
        ((_, out), *_) = hub.attention(checkpoint)
        first = checkpoint.prefix + checkpoint.tensors.layers.format(0)
        second = checkpoint.prefix + checkpoint.tensors.layers.partition("{}")[0]
        shapes = {
            key: list(value.shape)
            for key, value in hub.tensors.items()
            if key.startswith(first) or (key.startswith(checkpoint.prefix) and not key.startswith(second))
        }
        made = {"config": config, "shapes": shapes, "out": [[float(str(x)) for x in row] for row in out[0]]}
        lines.append(f'"{name}": {json.dumps(made, separators=(",", ":"))}')
    aside = VECTORS.with_suffix(".new")
    aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(aside, VECTORS)
    print(f"{VECTORS.name}: {len(CONFIGS)} models, {VECTORS.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main()
