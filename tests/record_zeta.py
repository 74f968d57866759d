"""Write golden/vectors/zeta.json: the results of zeta's SinusoidalEmbeddings, rotate_half and apply_rotary_pos_emb.

Run it by hand, where torch is installed: pip install --no-deps zetascale==2.8.8, pip install einops, then
python tests/record_zeta.py. The same versions on the same kind of CPU write the same bytes. zeta's package imports much
that this one file does not need, so `module` loads the file alone. The live comparison in test_seed_zeta.py calls
`module` too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "zeta.json"

VERSION = "2.8.8"
DIMS = (6, 32, 64, 96, 128)
LENGTH, QUERIES, FAR = 7, 3, 4096
SCALE_BASE = 4.0  # small, so that few positions show the decay


def module() -> ModuleType:
    """zeta's file with the three symbols. It raises PackageNotFoundError if zetascale is not installed."""
    installed = importlib.metadata.distribution("zetascale")
    path = str(installed.locate_file("zeta/nn/embeddings/sinusoidal.py"))
    spec = importlib.util.spec_from_file_location("zeta_sinusoidal", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def drawn(*shape: int, start: int) -> torch.Tensor:
    """Multiples of 1/64 from -2 to 2 in a fixed order. Every element type holds them exactly."""
    count = torch.Size(shape).numel()
    return (((torch.arange(count) * 37 + start) % 257 - 128) / 64).reshape(shape)


def numbers(values: torch.Tensor) -> Any:
    """Values by the shortest decimals that read back as the same float32."""
    if values.ndim:
        return [numbers(row) for row in values]
    return float(str(values.float().numpy()))


def of_dim(zeta: ModuleType, dim: int) -> dict[str, Any]:
    """The angles, magnitudes, and rotated queries and keys of one width."""
    plain, xpos = zeta.SinusoidalEmbeddings(dim), zeta.SinusoidalEmbeddings(dim, SCALE_BASE, use_xpos=True)
    q, k = drawn(1, QUERIES, dim, start=0), drawn(1, LENGTH, dim, start=19)
    freqs, one = plain(k)
    assert torch.equal(one, torch.ones(1))
    again, scale = xpos(k)
    assert torch.equal(again, freqs)
    for half in (q.bfloat16(), k.bfloat16()):  # the angles do not depend on the type of the input
        assert torch.equal(plain(half)[0], freqs[: half.shape[-2]])
    turned = zeta.apply_rotary_pos_emb(q, k, freqs, one)
    in_half = zeta.apply_rotary_pos_emb(q.bfloat16(), k.bfloat16(), freqs, one)
    assert all(
        torch.equal(a, b) for a, b in zip(turned, in_half, strict=True)
    )  # the results are float32 again, with the same values
    with_scale = zeta.apply_rotary_pos_emb(q, k, freqs, scale)
    return {
        "inv_freq": numbers(plain.inv_freq),
        "scale_buffer": numbers(xpos.scale),
        "freqs": numbers(freqs),
        "far": numbers(plain(torch.zeros(FAR, 1))[0][-1]),
        "scale": numbers(scale),
        "q": numbers(turned[0]),
        "k": numbers(turned[1]),
        "q_xpos": numbers(with_scale[0]),
        "k_xpos": numbers(with_scale[1]),
    }


def all_in_half(zeta: ModuleType, dim: int) -> dict[str, Any]:
    """The results of a bfloat16 module for bfloat16 queries and keys: every step rounds, the angles too."""
    embeddings = zeta.SinusoidalEmbeddings(dim).bfloat16()
    q, k = drawn(1, QUERIES, dim, start=0).bfloat16(), drawn(1, LENGTH, dim, start=19).bfloat16()
    freqs, one = embeddings(k)
    assert freqs.dtype == torch.bfloat16
    turned = zeta.apply_rotary_pos_emb(q, k, freqs, one.bfloat16())
    assert {x.dtype for x in turned} == {torch.bfloat16}
    far = embeddings(torch.zeros(FAR, 1))[0][-1]
    return {"freqs": numbers(freqs), "far": numbers(far), "q": numbers(turned[0]), "k": numbers(turned[1])}


def mistakes(zeta: ModuleType) -> dict[str, Any]:
    """What zeta returns where ropegen does not follow it, and the errors that zeta raises."""
    plain = zeta.SinusoidalEmbeddings(8)
    x = drawn(1, 4, 8, start=0)
    xpos = zeta.SinusoidalEmbeddings(8, SCALE_BASE, use_xpos=True)
    underflow = zeta.SinusoidalEmbeddings(64, 512.0, use_xpos=True)(torch.zeros(131_072, 1))[1][-1]
    return {
        "default_scale": raised(lambda: zeta.apply_rotary_pos_emb(x, x, plain(x)[0])),
        "rank_one": raised(lambda: zeta.rotate_half(torch.ones(4))),
        "odd_half": raised(lambda: zeta.rotate_half(torch.ones(2, 5))),
        "no_scale_base": raised(lambda: zeta.SinusoidalEmbeddings(8, use_xpos=True)),
        "other_length": raised(lambda: zeta.apply_rotary_pos_emb(x, x, plain(x)[0][:3], torch.ones(1))),
        "no_sequence": raised(lambda: plain(torch.ones(8))),
        "odd_dim": list(zeta.SinusoidalEmbeddings(7)(x)[0].shape),
        "scale_of_4": numbers(xpos(torch.zeros(4, 1))[1]),
        "scale_of_8": numbers(xpos(torch.zeros(8, 1))[1]),
        "underflow": float(underflow.min()),
    }


def raised(call: Any) -> list[str]:
    """The names of the exception that a call raises and of its bases."""
    try:
        call()
    except (AttributeError, AssertionError, RuntimeError, IndexError) as error:
        return [kind.__name__ for kind in type(error).__mro__[:-2]]
    raise AssertionError("zeta raises no error any more")


def main() -> None:
    """Runs zeta and replaces the file."""
    zeta = module()
    versions = {
        "zetascale": importlib.metadata.version("zetascale"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    assert versions["zetascale"] == VERSION
    half = drawn(2, 3, 6, start=5)
    cases = {
        "rotate_half": numbers(zeta.rotate_half(half)),
        "bf16": all_in_half(zeta, 32),
        "mistakes": mistakes(zeta),
        **{str(dim): of_dim(zeta, dim) for dim in DIMS},
    }
    lines = [f'"versions": {json.dumps(versions)}']
    lines += [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in cases.items()]
    aside = VECTORS.with_suffix(".new")
    aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(aside, VECTORS)
    print(f"{VECTORS.name}: {VECTORS.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main()
