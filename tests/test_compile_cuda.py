"""Compilation for NVIDIA's GPUs without a GPU: kernels against the gate, executables in artifacts, and their report.

Tests that compile need `pip install "jax[cuda13]" nvidia-cuda-nvdisasm`, as the lane `gpu` of `tests/run.py` installs
it. They need no GPU. The other tests run everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from independent import draw_inputs
from interpreted_gpu import CASES, GRADIENT, LARGE, Case
from ropegen.templates.attend import mosaic_gpu
from ropegen.templates.attend.cotangents import bias_is_whole
from ropegen.templates.attend.form_gpu import COLUMNS, HOPPER, POLYNOMIALS
from ropegen.templates.attend.limits_gpu import generation_of, left_to_xla
from ropegen.templates.rope import mosaic_gpu as rope_gpu
from test_rope_gpu import CASES as ROTATIONS

import ropegen as rg
from ropegen import cli, masks
from ropegen.compilers import cuda
from ropegen.compilers.gate import MOST_ON_BLACKWELL, faults
from ropegen.compilers.machine_code import KernelCode
from ropegen.compilers.process import Compilation
from ropegen.emit.artifact import capability, executables, read
from ropegen.emit.artifact.manifest import ExecutableEntry, ExecutableStage, Stages
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import TensorType, numpy_dtype

FORMS = {**CASES, **LARGE}
BESIDE = [
    *(name for name, case in LARGE.items() if not any(mosaic_gpu.declines(case.site, Target.parse("gpu:h100")))),
    *(GRADIENT + name for name, case in FORMS.items() if not any(left_to_xla(case.site, HOPPER))),
]
# What is compiled without `--exhaustive`: an ordinary gradient.
FIRST = (GRADIENT + "interleaved, grouped heads of a batch, tails", "h100")
# What is compiled for Blackwell: with `--exhaustive`, every form that it takes.
BLACKWELL_FORMS = [
    name for name, case in FORMS.items() if not any(mosaic_gpu.declines(case.site, Target.parse("gpu:b200")))
]
FIRST_ON_BLACKWELL = (
    "causal, more tiles than slots, halves rotated in the kernel",
    "everything and five comparisons, 128 features",
)


def attention() -> Graph:
    """An attention that the kernels for Hopper and Blackwell accept; a weight before it needs preparation."""
    b = Builder("attention")
    x = b.input("x", (1, 512, 128), "bf16")
    q, k, v = (b.split_heads(b.project(x, b.parameter(f"{n}_weight", (128, 128), "bf16")), 1) for n in "qkv")
    at = b.positions(512)
    rope = rg.Rope(10_000.0, pairing="half")
    return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=masks.causal))


# With the compilers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compilers() -> None:
    try:
        cuda.tools()
    except RopegenError as error:
        pytest.skip(str(error))


def module_of(name: str, chip: str) -> bytes:
    """The module of a case, or of the gradient of one."""
    forward = name.removeprefix(GRADIENT)
    case = FORMS[forward]
    target = Target.parse(f"gpu:{chip}")
    generation = generation_of(target)
    assert generation is not None
    kernel = mosaic_gpu.build(
        case.site, Tile.of(q=generation.block(case.value_width or case.width), kv=case.kv_tile), target
    )

    def shaped(types: Iterable[TensorType]) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in types)

    operands = shaped(case.site.closed.input_types.values())
    if forward == name:
        exported = jax.export.export(jax.jit(kernel.forward), platforms=["cuda"])(*operands)
        return bytes(exported.serialize())
    results = shaped(node.type for _, node in case.site.closed.outputs)
    labels = case.site.closed.input_types
    # The gradient of a bias that several scores share is left to XLA.
    wanted = [
        jax.numpy.issubdtype(x.dtype, jax.numpy.floating) and (label != "bias" or bias_is_whole(case.site))
        for label, x in zip(labels, operands, strict=True)
    ]

    def backward(*given: tuple[Any, ...]) -> Any:
        pulled = kernel.backward(*given, wanted)
        assert pulled is not None
        return pulled

    exported = jax.export.export(jax.jit(backward), platforms=["cuda"])(operands, results, results)
    return bytes(exported.serialize())


@pytest.fixture(scope="module")
def kernels(compilers: None) -> Compilation[KernelCode]:
    return cuda.compile_modules({name: module_of(name, "h100") for name in CASES}, "h100", seconds=900)


@pytest.mark.parametrize("chip", ["h100", "h200"])
@pytest.mark.parametrize("name", BESIDE)
def test_a_form_holds_its_values_in_registers(
    name: str, chip: str, compilers: None, request: pytest.FixtureRequest
) -> None:
    """Gradients, and forms that need more registers than those that are interpreted."""
    if (name, chip) != FIRST and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive compiles every form for both chips")
    done = cuda.compile_modules({name: module_of(name, chip)}, chip, seconds=900)
    assert not done.errors
    kernels = done.modules[name].kernels
    assert len(kernels) >= (2 if name.startswith(GRADIENT) else 1)
    for kernel in kernels:
        assert (kernel.spilled, kernel.local, kernel.advisories) == (0, 0, ())
        assert kernel.registers <= 255


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_passes_the_gate(name: str, kernels: Compilation[KernelCode]) -> None:
    assert name not in kernels.errors
    (kernel,) = kernels.modules[name].kernels
    assert kernel.product_loops
    assert (kernel.name, kernel.architecture, kernel.warpgroups) == ("ropegen_attend", "sm_90a", 2)
    case = CASES[name]
    widths = [case.site.sources[label].type.shape[-1] for label in ("q", "v")]
    op = case.site.op
    is_altered = op.softcap is not None or op.score != masks.identity or "bias" in op.given
    # The limit is for a loop over full tiles that only multiplies and weighs, with at most 128 features.
    is_plain = len(kernel.product_loops) == 2 and max(widths) <= 128 and not is_altered
    assert list(faults(kernel, most_instructions=600 if is_plain else None)) == []
    # Both products of a tile: 64 queries of a warpgroup, the keys of a tile, and the features in whole steps of 16.
    for loop in kernel.product_loops:
        assert loop.product_cycles == 2 * 64 * case.kv_tile * sum(-(-width // 16) * 16 for width in widths) / 4096


def is_simple(case: Case) -> bool:
    """Whether a tile's scores are only products, of which a tile has 128 keys."""
    op = case.site.op
    return case.kv_tile == 128 and op.softcap is None and op.score == masks.identity and "bias" not in op.given


@pytest.fixture(scope="module")
def on_blackwell(compilers: None, request: pytest.FixtureRequest) -> Compilation[KernelCode]:
    names = BLACKWELL_FORMS if request.config.getoption("--exhaustive") else FIRST_ON_BLACKWELL
    return cuda.compile_modules({name: module_of(name, "b200") for name in names}, "b200", seconds=900)


@pytest.mark.parametrize("name", BLACKWELL_FORMS)
def test_a_kernel_for_blackwell_passes_the_gate(
    name: str, on_blackwell: Compilation[KernelCode], request: pytest.FixtureRequest
) -> None:
    if name not in FIRST_ON_BLACKWELL and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive compiles every form for Blackwell")
    assert name not in on_blackwell.errors
    (kernel,) = on_blackwell.modules[name].kernels
    assert (kernel.name, kernel.architecture, kernel.warpgroups) == ("ropegen_attend", "sm_100a", 2)
    case = FORMS[name]
    is_plain = len(kernel.product_loops) == 2 and is_simple(case)
    assert list(faults(kernel, most_instructions=MOST_ON_BLACKWELL if is_plain else None)) == []
    width = -(-case.width // 16)
    for loop in kernel.product_loops:
        # An instruction for 16 features of queries and keys, and one for the weights of 16 keys.
        assert loop.products == width + case.kv_tile // 16
        # A thread has a row of the tile. A soft-cap has an exponential too.
        assert loop.exponentials <= case.kv_tile * (2 if "tanh" in str(case.score) or case.softcap else 1) + 2
    if is_plain:
        # One for each weight that comes from no polynomial, and one for what is left of a row's sum.
        assert kernel.product_loops[0].exponentials == case.kv_tile * (COLUMNS - POLYNOMIALS) // COLUMNS + 1


def rotations(names: Iterable[str], chip: str) -> Compilation[KernelCode]:
    modules: dict[str, bytes] = {}
    for name in names:
        site = ROTATIONS[name].site
        shapes = [
            jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()
        ]
        forward = rope_gpu.build(site, Tile(), Target.parse(f"gpu:{chip}")).forward
        modules[name] = bytes(jax.export.export(jax.jit(forward), platforms=["cuda"])(*shapes).serialize())
    return cuda.compile_modules(modules, chip, seconds=900)


@pytest.mark.parametrize("chip", ["h100", "b200", "h200"])
def test_rope_reads_and_writes_16_bytes_at_once(chip: str, compilers: None, request: pytest.FixtureRequest) -> None:
    """On Blackwell, the compiler joins two reads of angles. Cosines of float32 neighbours are as few as those of 8 bytes."""
    if chip == "h200" and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive compiles for H200 too, which has the machine code of H100")
    narrow = "a part of the width, in pieces of 8 bytes"
    named = {
        "queries and keys in halves",
        "neighbours, a last block that begins earlier",
        narrow,
        "float32 in both pairings",
    }
    done = rotations(ROTATIONS if request.config.getoption("--exhaustive") else sorted(named), chip)
    assert not done.errors
    for name, module in done.modules.items():
        (kernel,) = module.kernels
        assert (kernel.name, kernel.warpgroups) == ("ropegen_rope", 1)
        assert kernel.architecture == {"b200": "sm_100a"}.get(chip, "sm_90a")
        assert list(faults(kernel)) == []
        assert set(kernel.writes) == {8 if name == narrow else 16}
        site = ROTATIONS[name].site
        kinds = zip(site.sources, site.pairings, strict=True)
        has_few_cosines = any(source.type.dtype == "f32" and pairing == "interleaved" for source, pairing in kinds)
        allowed = {8, 16} if name == narrow or has_few_cosines else {16}
        assert set(kernel.reads) <= allowed | ({32} if chip == "b200" else set())
        assert 16 in kernel.reads


@pytest.fixture(scope="module")
def built(compilers: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "kernels"
    rg.export(attention(), folder, targets=["cpu", "gpu:h100", "gpu:b200"], ahead_of_time=True)
    return folder


def test_an_artifact_has_an_executable_for_each_chip_and_stage(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert list(manifest["executables"]) == ["gpu:h100", "gpu:b200"]
    for chip, capability_of in (("h100", "sm90"), ("b200", "sm100")):
        entry = manifest["executables"][f"gpu:{chip}"]
        assert entry["build"] == cuda.build()
        assert entry["topology"] == capability_of
        assert entry["device_kind"] == Target.parse(f"gpu:{chip}").figures.device_kind
        assert entry["plan"] == manifest["plans"][f"gpu:{chip}"]
        assert entry["stages"].keys() == {"prepare", "module"}
        for stage in entry["stages"].values():
            content = (built / stage["file"]).read_bytes()
            assert manifest["files"][stage["file"]] == hashlib.sha256(content).hexdigest()


def section(target: str, report: str) -> str:
    """What the report says of the kernels for one target."""
    (found,) = re.findall(rf"^{target}, as jax-cuda13-pjrt.*?^$", report, re.MULTILINE | re.DOTALL)
    return found


def test_the_report_counts_tiles_and_predicts_from_the_machine_code(built: Path) -> None:
    both = (built / "report.txt").read_text()
    assert both.count(f"as {cuda.build()} compiled it") == 2
    report = section("gpu:h100", both)
    # 512 positions in tiles of 128: six below the diagonal and four on it, of sixteen.
    assert report.count("16 tiles: 6 full, 4 partial, 6 empty") == 1
    (row,) = re.findall(r"(\d+) +0 +[\d,]+ +[\d.]+%  ropegen_attend, 256 threads, sm_90a", report)
    assert int(row) <= 255
    assert len(re.findall(r"loop at 0x[0-9a-f]+: \d+ instructions, 16 for the tensor cores", report)) == 2
    # Ten tiles take 2048 cycles of the tensor cores each, on four multiprocessors at 1.83 GHz.
    assert "predicted at least 2.8 µs, by the tensor cores, at 1.83 GHz" in report
    assert "fault" not in report


def test_the_executable_for_blackwell_has_a_kernel_of_its_own(built: Path) -> None:
    report = section("gpu:b200", (built / "report.txt").read_text())
    assert "sm100, NVIDIA B200" in report
    assert "ropegen_attend, 256 threads, sm_100a" in report
    # 512 positions in tiles of 256 queries and 128 keys: two below the diagonal and four on it, of eight.
    assert "8 tiles: 2 full, 4 partial, 2 empty" in report
    assert len(re.findall(r"loop at 0x[0-9a-f]+: [\d,]+ instructions, 16 for the tensor cores", report)) == 2
    # Six tiles of 256 queries and 128 keys on two multiprocessors: the tensor cores take 2048 cycles for each, and issuing
    # the instructions of a partial tile takes more.
    assert re.search(r"predicted at least 3\.\d µs, by issue, at 1\.86 GHz", report)
    assert "fault" not in report


def test_elsewhere_the_artifact_runs_and_says_why_the_executables_do_not(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = rg.load(built)
    values = draw_inputs(loaded.graph, 0)
    exact = rg.reference.evaluate(loaded.graph, values)["out"]
    np.testing.assert_allclose(np.asarray(loaded(**values), np.float64), exact, atol=5e-2)
    assert [executable.unused for executable in loaded.executables] == ["this machine runs cpu"] * 2
    assert cli.main(["check", str(built)]) == 0
    assert (
        f"gpu:h100: prepare.gpu-h100.executable, module.gpu-h100.executable by {cuda.build()}"
        in capsys.readouterr().out
    )


def test_a_module_for_another_platform_is_refused_in_the_compiler_s_words(compilers: None) -> None:
    shape = jax.ShapeDtypeStruct((8,), np.float32)
    module = bytes(jax.export.export(jax.jit(lambda x: x + 1), platforms=["tpu"])(shape).serialize())
    done = cuda.compile_modules({"for TPU": module}, "h100")
    assert not done.modules
    assert "tpu" in done.errors["for TPU"]


# Without the compilers -----------------------------------------------------------------------------------------------


def test_missing_compilers_are_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(cuda, "build", lambda: "")
    with pytest.raises(
        RopegenError, match=r'jax-cuda13-pjrt, ptxas, nvdisasm is not installed: `pip install "jax\[cuda13\]"'
    ):
        rg.export(attention(), tmp_path / "x", targets=["gpu:h200"], ahead_of_time=True)
    assert not list(tmp_path.iterdir())


def test_a_chip_must_be_named(tmp_path: Path) -> None:
    for target in ("gpu:any", "gpu:sm90"):
        with pytest.raises(
            RopegenError, match=r"none is among the targets; add e\.g\. --target tpu:v5e, --target gpu:h200"
        ):
            rg.export(attention(), tmp_path / "x", targets=[target], ahead_of_time=True)
    with pytest.raises(RopegenError, match=r"no description of a chip 'any'; .*h200"):
        cuda.compile_modules({}, "any")


@pytest.mark.parametrize("chip", cuda.CHIPS)
def test_the_description_of_a_device_has_the_figures_of_its_target(chip: str) -> None:
    target, described = Target.parse(f"gpu:{chip}"), cuda.description(chip)
    ((major, minor),) = re.findall(r"major: (\d+) minor: (\d+) }\n", described)
    assert f"sm{major}{minor}" == target.capability
    assert f"core_count: {target.figures.multiprocessors} " in described
    (block,) = re.findall(r"shared_memory_per_block_optin: (\d+)", described)
    assert int(block) == target.figures.fast_memory - (1024 if chip == "a100" else 0)


ENTRY = ExecutableEntry(
    platform="cuda",
    device_kind="NVIDIA H200",
    topology="sm90",
    build="jax-cuda13-pjrt 0.12.0.1",
    jax="0.12.0.1",
    plan="",
    stages=Stages(module=ExecutableStage(file="module.gpu-h200.executable", arguments=(), results=("out",))),
)


@pytest.mark.parametrize(
    ("kind", "build", "why"),
    [
        ("NVIDIA H200", "jax-cuda13-pjrt 0.12.0.1", ""),
        (
            "NVIDIA H100 80GB HBM3",
            "jax-cuda13-pjrt 0.12.0.1",
            "it is for a NVIDIA H200, and this is a NVIDIA H100 80GB HBM3",
        ),
        (
            "NVIDIA H200",
            "jax-cuda13-pjrt 0.12.1",
            "its compiler is 'jax-cuda13-pjrt 0.12.0.1', and the runtime here is 'jax-cuda13-pjrt 0.12.1'",
        ),
    ],
)
def test_an_executable_fits_its_chip_and_the_version_of_the_plugin(
    kind: str, build: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "build", lambda: build)
    # CUDA's runtime says only the version of CUDA.
    device = SimpleNamespace(device_kind=kind, client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000"))
    assert executables.unfit(ENTRY, device) == why


def test_an_entry_states_libtpu_or_is_for_cuda() -> None:
    fields: dict[str, Any] = {name: getattr(ENTRY, name) for name in ENTRY.__struct_fields__}
    assert ENTRY.made_by == "jax-cuda13-pjrt 0.12.0.1"
    for wrong in ({"libtpu": "0.0.52"}, {"platform": "tpu"}):
        with pytest.raises(ValueError, match="must state `libtpu` for every platform but cuda"):
            ExecutableEntry(**(fields | wrong))


def test_a_call_on_a_gpu_finds_the_library_of_mosaic_s_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []
    monkeypatch.setattr(capability, "find_runtime", lambda: found.append(True))
    for targets, expected in ((["cpu", "gpu:h200"], [True]), (["cpu", "gpu:a100"], [])):
        loaded = rg.export(attention(), tmp_path / "x", targets=targets)
        loaded._check_platform()
        assert found == []
        with monkeypatch.context() as pretended:
            pretended.setattr(read, "host_platform", lambda: "cuda")
            loaded._check_platform()
        assert found == expected
        found.clear()
