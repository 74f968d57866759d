"""Write golden/vectors/layers.json: the attention of layer 0 in transformers, for the configs of hub_layers.py.

Run `python tests/record_layers.py` by hand, where torch and transformers are installed; names of configs after it record
those again and keep the others. The live comparison in test_hub_layers.py calls `HubModel` too.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from hub_layers import CONFIGS, IDS, IMAGE, TYPES, drawn
from wide_torch import Float64

from ropegen.weights import Checkpoint

# The models are small, and the threads of torch would wait for one another where other programs run.
torch.set_num_threads(1)
VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "layers.json"


class HubModel:
    """A model of transformers with drawn weights and the plain formula of attention. With float64, all of it is float64."""

    def __init__(self, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
        stated = transformers.AutoConfig.for_model(**copy.deepcopy(config))
        causal = type(stated) in transformers.AutoModelForCausalLM._model_mapping
        make = transformers.AutoModelForCausalLM if causal and not stated.is_encoder_decoder else transformers.AutoModel
        if "text_config" in config:
            of_images = transformers.AutoModelForImageTextToText
            is_known = type(stated) in of_images._model_mapping
            make = of_images if is_known else transformers.AutoModelForMultimodalLM
        plain = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": dtype}
        # No auto class knows the text tower of SigLIP.
        is_siglip = stated.model_type == "siglip_text_model"
        build = transformers.SiglipTextModel._from_config if is_siglip else make.from_config
        self.context = Float64 if dtype is torch.float64 else contextlib.nullcontext
        with self.context():
            self.model = build(stated, **plain).eval()
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
        (only,) = self.calls(checkpoint, [IDS], **more)
        return only

    def calls(
        self, checkpoint: Checkpoint, parts: Sequence[np.ndarray], **more: torch.Tensor
    ) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """What `attention` returns, for every call. The parts of a sequence follow one another, each in a call of its own.

        Every call but the first continues a cache. A model that keeps none reads the sequence so far again.
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
        made: list[list[tuple[np.ndarray, np.ndarray]]] = []
        cache, name = None, self.cache_name
        for number, part in enumerate(parts):
            read = part if cache is not None else np.concatenate(parts[: number + 1], axis=1)
            inputs = {"input_ids": torch.from_numpy(read).long()}
            if checkpoint.facts.patches:
                inputs = {"pixel_values": torch.from_numpy(IMAGE).permute(0, 3, 1, 2).to(self.model.dtype)}
            if checkpoint.facts.token_types:
                inputs["token_type_ids"] = torch.from_numpy(TYPES).long()
            if len(parts) > 1:
                inputs |= {name: cache, "use_cache": True} if name else {}
            with torch.no_grad(), self.context():
                results = self.model(**inputs, **more)
            cache = results[name] if name and len(parts) > 1 else None
            last = slice(None) if checkpoint.facts.patches else slice(-part.shape[1], None)
            layers = range(checkpoint.layers)
            made.append([(seen["in", layer][:, last], seen["out", layer][:, last]) for layer in layers])
        for hook in hooks:
            hook.remove()
        return made

    @property
    def cache_name(self) -> str | None:
        """The argument that continues where a call ended, and the field of a result that has it. Early 5.x has the other."""
        names = [
            name for name in ("cache", "past_key_values") if name in inspect.signature(self.model.forward).parameters
        ]
        return names[0] if names else None

    def logits(self) -> np.ndarray:
        """The scores after every token, (1, S, words)."""
        with torch.no_grad(), self.context():
            return self.model(input_ids=torch.from_numpy(IDS).long()).logits.numpy()


def main() -> None:
    """Run every config, or those named, and replace the file."""
    import ropegen as rg

    kept = json.loads(VECTORS.read_text()) if sys.argv[1:] else {}
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
    lines = [f'"versions": {json.dumps(versions)}']
    for name, config in CONFIGS.items():
        if kept and name not in sys.argv[1:]:
            lines.append(f'"{name}": {json.dumps(kept[name], separators=(",", ":"))}')
            continue
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
