"""What works over eight devices: every way to split a call, for every call, axis and direction.

`python tests/devices.py` prints one line of JSON for every cell of the table in docs/devices.md: the largest error
against the plain formula, the collectives in the compiled program, or the message that refuses the call. It simulates
eight devices on CPU. `tests/test_mesh.py` runs it in a process of its own, because the number of devices is fixed when
JAX starts.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from independent import draw_inputs, formula
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

import ropegen as rg
from ropegen.ir.axes import axes_of
from ropegen.ir.graph import Graph, label_of

Values = dict[str, Any]
Call = Callable[[Values], Any]

WAYS = ("jit, automatic axes", "jit, `sharding=`", "jit, explicit axes", "`shard_map`", "`shard_map`, some axes")
SPLITS = {"batch": "data", "heads": "model", "sequence": "seq"}
DIRECTIONS = ("forward", "gradient")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")

BATCH, ROWS, HEADS, KEY_HEADS, WIDTH = 4, 8, 4, 2, 4
ROPE = rg.Rope(500.0, pairing="half")


@dataclass(frozen=True)
class Subject:
    """A call, the formula that it must equal, its inputs, and what the axes of inputs and results are."""

    run: Callable[[Values, Any], Any]
    """The call on the inputs; the second argument is its `sharding`, or None."""
    plain: Call
    inputs: Values
    axes: Mapping[str, tuple[str, ...]]
    out: tuple[str, ...]
    spec: tuple[str, ...]
    """The axes that `sharding=` lists."""
    partial: bool = False
    """Whether the result is a sum over the heads."""
    stated: bool = False
    """Whether it is made for a split that is stated, also where axes are explicit."""
    known: dict[str, Any] = field(default_factory=dict[str, Any])


def attention() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], rope=ROPE, mask=rg.masks.causal, sharding=sharding)

    def plain(x: Values) -> Any:
        q, k = (turned(x[name], jnp.arange(ROWS)) for name in "qk")
        k, v = (jnp.repeat(y, HEADS // KEY_HEADS, axis=2) for y in (k, x["v"]))
        score = jnp.einsum("bqhd,bkhd->bhqk", q, k, precision="highest") / np.sqrt(WIDTH)
        score = jnp.where(np.tri(ROWS, dtype=bool), score, -jnp.inf)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score, axis=-1), v, precision="highest")

    axes = ("batch", "sequence", "heads", "")
    inputs = {name: drawn(BATCH, ROWS, heads, WIDTH) for name, heads in zip("qkv", (4, 2, 2), strict=True)}
    return Subject(run, plain, inputs, dict.fromkeys("qkv", axes), axes, axes[:3])


def rope() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.rope(x["x"], x.get("positions"), ROPE, sharding=sharding)

    axes = ("batch", "sequence", "heads", "")
    at = jnp.arange(ROWS, dtype=jnp.int32)
    inputs = {"x": drawn(BATCH, ROWS, HEADS, WIDTH), "positions": at}
    return Subject(
        run, lambda x: turned(x["x"], x["positions"]), inputs, {"x": axes, "positions": axes[1:2]}, axes, axes[:3]
    )


def embed() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.embed(x["ids"], x["table"], sharding=sharding)

    ids = jnp.asarray(RANDOM.integers(0, 32, (BATCH, ROWS)), jnp.int32)
    axes = {"ids": ("batch", "sequence"), "table": ("", "heads")}
    inputs = {"ids": ids, "table": drawn(32, HEADS * WIDTH)}
    return Subject(run, lambda x: x["table"][x["ids"]], inputs, axes, ("batch", "sequence", "heads"), axes["ids"])


def front_end(
    x: tuple[int, ...] = (BATCH, ROWS, HEADS * WIDTH), heads: int = HEADS, key_heads: int = KEY_HEADS
) -> Graph:
    """Projections of q, k and v, rotations, attention, and the projection of its result, for x (B, S, features)."""
    b = rg.Builder("front")
    given = b.input("x", x, "f32")
    q, k, v = (
        b.split_heads(b.project(given, weight(b, f"w{name}", x[-1], count * WIDTH)), count, WIDTH)
        for name, count in (("q", heads), ("k", key_heads), ("v", key_heads))
    )
    at = b.positions(x[1])
    q, k = (b.rope(y, at, ROPE) for y in (q, k))
    seen = b.attend(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)
    return b.build(out=b.project(b.merge_heads(seen), weight(b, "wo", heads * WIDTH, x[-1])))


def weight(b: rg.Builder, label: str, rows: int, columns: int) -> Any:
    return b.input(label, (rows, columns), "f32", role="parameter")


def front_end_for(x: Values) -> Graph:
    """The front-end of these inputs, which inside `shard_map` are those of one device."""
    return front_end(x["x"].shape, *(x[name].shape[1] // WIDTH for name in ("wq", "wk")))


def plan() -> Subject:
    return of_front_end(lambda x, sharding: rg.plan(front_end_for(x), "cpu").compile(sharding=sharding)(**x))


def artifact() -> Subject:
    made = of_front_end(lambda x, sharding: exported(front_end_for(x), sharding)(**x))
    return dataclasses.replace(made, stated=True)


@functools.cache
def exported(graph: Graph, sharding: NamedSharding | None) -> rg.Artifact:
    """The artifact of a graph; with `sharding`, on an abstract mesh, as on a machine without the devices. Without, it has
    a gradient.

    It is built in a thread, where JAX traces nothing and no mesh is set, as artifacts are built before they are called.
    """
    if sharding is not None:
        mesh = AbstractMesh(sharding.mesh.axis_sizes, sharding.mesh.axis_names, axis_types=(AxisType.Auto,) * 3)
        sharding = NamedSharding(mesh, sharding.spec)
    folder = tempfile.mkdtemp(dir=FOLDER.name)
    with ThreadPoolExecutor(1) as alone:
        options = {"targets": "cpu", "sharding": sharding, "grad": sharding is None}
        return alone.submit(rg.export, graph, folder, **options).result()


FOLDER = tempfile.TemporaryDirectory(prefix="ropegen-devices-")


def of_front_end(run: Callable[[Values, Any], Any]) -> Subject:
    graph = front_end()
    names = axes_of(graph).names
    axes = {label_of(value): names[value] for value in graph.inputs}
    out = ("batch", "sequence", "")
    inputs = {label: jnp.asarray(value) for label, value in draw_inputs(graph).items()}
    return Subject(run, lambda x: formula(graph, x)["out"], inputs, axes, out, ("batch", "sequence", "heads"), True)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "attention": attention,
    "rope": rope,
    "embed": embed,
    "plan": plan,
    "artifact": artifact,
}

RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)


def turned(x: Any, positions: Any) -> Any:
    """The rotation of x (B, S, H, D) by halves."""
    half = WIDTH // 2
    angles = positions[:, None, None] * 500.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate(
        [first * jnp.cos(angles) - second * jnp.sin(angles), second * jnp.cos(angles) + first * jnp.sin(angles)], -1
    )


def collectives(text: str) -> dict[str, int]:
    """How many collectives of each kind a compiled program has."""
    counts = Counter(re.findall(rf"\b({'|'.join(COLLECTIVES)})(?:-start)?\(", text))
    return dict(sorted(counts.items()))


def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((2, 2, 2), tuple(SPLITS.values()), axis_types=(kind,) * 3)


def over(names: tuple[str, ...], split: str) -> PartitionSpec:
    return PartitionSpec(*(SPLITS[split] if name == split else None for name in names))


def called(subject: Subject, way: str, split: str, mesh: Mesh) -> Call:
    """The call, as it is written in this way."""
    specs = {label: over(names, split) for label, names in subject.axes.items()}
    if way in ("jit, `sharding=`", "processes") or (way == "jit, explicit axes" and subject.stated):
        return lambda x: subject.run(x, NamedSharding(mesh, over(subject.spec, split)))
    if "shard_map" not in way:
        return lambda x: subject.run(x, None)

    def part(x: Values) -> Any:
        made = subject.run(x, None)
        return jax.lax.psum(made, SPLITS[split]) if subject.partial and split == "heads" else made

    some = {"axis_names": {SPLITS[split]}} if "some" in way else {}
    return jax.shard_map(part, mesh=mesh, in_specs=(specs,), out_specs=over(subject.out, split), **some)


def cell(subject: Subject, way: str, split: str, direction: str) -> dict[str, Any]:
    """What happens: {"error": ..., "collectives": ...}, or {"refused": the message}."""
    mesh = mesh_of(AxisType.Explicit if "explicit" in way else AxisType.Auto)
    laid = {
        label: laid_out(subject.inputs[label], NamedSharding(mesh, over(names, split)))
        for label, names in subject.axes.items()
    }
    with jax.set_mesh(mesh):
        program = in_direction(called(subject, way, split, mesh), direction)
        try:
            compiled = jax.jit(program).lower(laid).compile()
        except rg.RopegenError as error:
            return {"refused": str(error)}
        errors = jax.tree.map(relative, compiled(laid), expected(subject, direction))
    return {"error": max(jax.tree.leaves(errors)), "collectives": collectives(compiled.as_text())}


def laid_out(value: Any, sharding: NamedSharding) -> Any:
    """The array over the devices of all processes, of which every process knows the whole."""
    return jax.make_array_from_callback(value.shape, sharding, np.asarray(value).__getitem__)


def in_direction(call: Call, direction: str) -> Call:
    """The call, or the gradient of a loss of its result in every floating input."""

    def loss(moving: Values, x: Values) -> Any:
        return jnp.sum(jnp.sin(call({**x, **moving})))

    def gradient(x: Values) -> Any:
        return jax.grad(loss)({label: y for label, y in x.items() if jnp.issubdtype(y.dtype, jnp.floating)}, x)

    return call if direction == "forward" else gradient


def expected(subject: Subject, direction: str) -> Any:
    """The result of the plain formula, on one device."""
    if direction not in subject.known:
        subject.known[direction] = jax.tree.map(np.asarray, in_direction(subject.plain, direction)(subject.inputs))
    return subject.known[direction]


def relative(made: Any, wanted: Any) -> float:
    """The largest difference in the parts of this process, over the largest number that is expected."""
    parts = [(np.asarray(part.data, np.float64), wanted[part.index]) for part in made.addressable_shards]
    return float(max(np.max(np.abs(part - its)) for part, its in parts) / np.max(np.abs(wanted)))


# Checks that are no cell -----------------------------------------------------------------------------------------------


def refusal(run: Callable[[], Any]) -> str:
    """The message of the RopegenError that a call must raise."""
    try:
        run()
    except rg.RopegenError as error:
        return str(error)
    raise AssertionError("the call was not refused")


def within(function: Callable[..., Any], spec: PartitionSpec, *arguments: Any, **options: Any) -> Any:
    """The function inside a shard_map that splits all arguments and results alike."""
    mapped = jax.shard_map(
        function, mesh=mesh_of(AxisType.Auto), in_specs=(spec,) * len(arguments), out_specs=spec, **options
    )
    return jax.jit(mapped)(*arguments)


def heads_of(*counts: int, rows: int = ROWS) -> list[Any]:
    return [drawn(BATCH, rows, count, WIDTH) for count in counts]


SEQUENCE, MODEL, DATA = PartitionSpec(None, "seq"), PartitionSpec(None, None, "model"), PartitionSpec("data")


def check_positions() -> None:
    """A sequence that shard_map splits needs positions; a batch that it splits does not."""
    x, q, k, v = heads_of(4, 4, 2, 2)

    def rope(x: Any, at: Any = None) -> Any:
        return rg.rope(x, at, ROPE)

    def attend(q: Any, k: Any, v: Any) -> Any:
        return rg.attention(q, k, v, mask=rg.masks.causal)

    at = np.arange(ROWS // 2)
    for options in ({}, {"check_vma": False}):
        for call in (rope, lambda x: rope(x, at), lambda x: rope(x, at[::-1].copy())):
            message = refusal(lambda call=call, options=options: within(call, SEQUENCE, x, **options))
            assert "axis_index('seq') * 4 + jax.numpy.arange(4)" in message
        assert "splits the sequence" in refusal(lambda options=options: within(attend, SEQUENCE, q, k, v, **options))
        for spec in (DATA, MODEL):
            assert relative(within(attend, spec, q, k, v, **options), np.asarray(attend(q, k, v))) < 1e-6
            assert relative(within(rope, spec, x, **options), np.asarray(rope(x))) < 1e-6
    own = lambda x: rope(x, jax.lax.axis_index("seq") * 4 + jnp.arange(4))  # noqa: E731
    assert relative(within(own, SEQUENCE, x), np.asarray(rope(x))) < 1e-6


def check_places() -> None:
    """A mask that reads `head` or `batch` counts over the whole, or is refused."""
    q, k, v = heads_of(4, 2, 2)

    def attend(q: Any, k: Any, v: Any, **options: Any) -> Any:
        return rg.attention(
            q, k, v, mask=lambda q_pos, kv_pos, head, batch: q_pos + head + 2 * batch >= kv_pos, **options
        )

    def alibi(q: Any, k: Any, v: Any, **options: Any) -> Any:
        return rg.attention(q, k, v, score=rg.masks.alibi(rg.masks.alibi_slopes(4)), **options)

    both = NamedSharding(mesh_of(AxisType.Auto), PartitionSpec("data", None, "model"))
    for call in (attend, alibi):
        wanted = np.asarray(call(q, k, v))
        assert relative(call(q, k, v, sharding=both), wanted) < 1e-6
        laid = [jax.device_put(x, NamedSharding(both.mesh, both.spec)) for x in (q, k, v)]
        assert relative(jax.jit(call)(*laid), wanted) < 1e-6
    # The number of heads of a part differs from the number of slopes, so this is refused sooner.
    assert "4 values and q has 2 heads" in refusal(lambda: within(alibi, MODEL, q, k, v))
    assert "reads `head`" in refusal(lambda: within(attend, MODEL, q, k, v))
    assert "reads `batch`" in refusal(lambda: within(attend, DATA, q, k, v))


def check_dropout() -> None:
    """Dropout counts over the whole: a split call drops what one device drops, and equal keys in shard_map are refused."""
    q, k, v = heads_of(4, 2, 2)
    key = jax.random.key(3)

    def attend(q: Any, k: Any, v: Any, key: Any = key, **options: Any) -> Any:
        return rg.attention(q, k, v, dropout=0.5, dropout_key=key, **options)

    def apart(q: Any, k: Any, v: Any) -> Any:
        return attend(q, k, v, jax.random.fold_in(key, jax.lax.axis_index("data")))

    wanted = np.asarray(attend(q, k, v))
    both = NamedSharding(mesh_of(AxisType.Auto), PartitionSpec("data", None, "model"))
    assert relative(jax.jit(functools.partial(attend, sharding=both))(q, k, v), wanted) < 1e-6
    laid = [jax.device_put(x, both) for x in (q, k, v)]
    assert relative(jax.jit(attend)(*laid), wanted) < 1e-6
    for spec, axis in ((MODEL, "model"), (DATA, "data")):
        for options in ({}, {"check_vma": False}):
            message = refusal(lambda spec=spec, options=options: within(attend, spec, q, k, v, **options))
            assert f"jax.random.fold_in(key, jax.lax.axis_index('{axis}'))" in message
    parts = within(apart, DATA, q, k, v)
    size = mesh_of(AxisType.Auto).shape["data"]
    for index in range(size):
        part = slice(index * BATCH // size, (index + 1) * BATCH // size)
        alone = attend(q[part], k[part], v[part], jax.random.fold_in(key, index))
        assert relative(alone, np.asarray(parts)[part]) < 1e-6
    sequence = NamedSharding(both.mesh, PartitionSpec(None, "seq"))
    assert "leave the sequence whole" in refusal(lambda: attend(q, k, v, sharding=sequence))


def check_side_by_side() -> None:
    """Under automatic axes, every option is split over batch and heads, in every direction, with no exchange but sums."""
    mesh, rows = mesh_of(AxisType.Auto), 24
    ids = np.sort(RANDOM.integers(0, 3, (BATCH, rows)), axis=1).astype(np.int32)
    x = dict(zip("qkv", heads_of(4, 2, 2, rows=rows), strict=True))
    x |= {"sinks": drawn(4), "bias": drawn(BATCH, 1, rows, rows)}
    spec = PartitionSpec("data", None, "model")
    specs = dict.fromkeys("qkv", spec) | {"sinks": PartitionSpec("model"), "bias": PartitionSpec("data")}
    laid = {name: jax.device_put(value, NamedSharding(mesh, specs[name])) for name, value in x.items()}

    def attend(x: Values) -> Any:
        return rg.attention(
            *(x[name] for name in "qkv"),
            mask=rg.masks.causal & rg.masks.segments,
            score=lambda score, head: score / (1 + head),
            sinks=x["sinks"],
            bias=x["bias"],
            q_segments=ids,
            kv_segments=ids,
            tile={"attend/xla": {"q": 8, "kv": 8}},
        )

    def tangent(x: Values) -> Any:
        return jax.jvp(attend, (x,), (x,))[1]

    def repeated(x: Values) -> Any:
        def layer(q: Any, _: None) -> tuple[Any, None]:
            return jax.checkpoint(attend)({**x, "q": q}), None

        return jax.lax.scan(layer, x["q"], None, length=2)[0]

    for function in (attend, tangent, in_direction(attend, "gradient"), in_direction(repeated, "gradient")):
        compiled = jax.jit(function).lower(laid).compile()
        # The tolerance is that of gradients, because a tangent subtracts numbers that are about equal.
        errors = jax.tree.map(lambda made, its: relative(made, np.asarray(its)), compiled(laid), jax.jit(function)(x))
        assert max(jax.tree.leaves(errors)) < 5e-6, errors
        assert set(collectives(compiled.as_text())) <= {"all-reduce"}
    stacked = jnp.stack([x["q"], 2 * x["q"]])
    mapped = jax.jit(jax.vmap(lambda q: attend({**laid, "q": q})))
    compiled = mapped.lower(jax.device_put(stacked, NamedSharding(mesh, PartitionSpec(None, *spec)))).compile()
    assert not collectives(compiled.as_text())


def check_grouped_heads() -> None:
    """Fewer key heads than parts are read by several devices; other sizes are refused."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    lies = NamedSharding(mesh, PartitionSpec(None, None, "model"))

    def attend(x: Values, sharding: Any = None) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], mask=rg.masks.causal, sharding=sharding)

    for key_heads in (1, 2):
        x = dict(zip("qkv", heads_of(8, key_heads, key_heads), strict=True))
        for direction in DIRECTIONS:
            made = in_direction(lambda x: attend(x, lies), direction)(x)
            wanted = in_direction(attend, direction)(x)
            errors = jax.tree.map(lambda made, its: relative(made, np.asarray(its)), made, wanted)
            assert max(jax.tree.leaves(errors)) < 5e-6, errors
    x = dict(zip("qkv", heads_of(6, 3, 3), strict=True))
    assert "heads is split into 4 parts over model" in refusal(lambda: attend(x, lies))
    with jax.set_mesh(mesh):
        assert "only the axes (batch, sequence, heads)" in refusal(
            lambda: attend(x, PartitionSpec(None, None, None, "model"))
        )
        assert "did you mean 'model'" in refusal(lambda: attend(x, PartitionSpec("modle")))
    assert "jax.set_mesh(mesh)" in refusal(lambda: attend(x, PartitionSpec("model")))


def check_memory() -> None:
    """A split call takes at most 1.1 times the memory of shard_map by hand."""
    mesh = mesh_of(AxisType.Auto)
    lies = NamedSharding(mesh, PartitionSpec("data", None, "model"))
    x = {
        name: jax.ShapeDtypeStruct((4, 512, heads, 32), jnp.float32, sharding=lies)
        for name, heads in zip("qkv", (8, 4, 4), strict=True)
    }

    def attend(x: Values, sharding: Any = None) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], mask=rg.masks.causal, sharding=sharding)

    by_hand = jax.shard_map(attend, mesh=mesh, in_specs=(lies.spec,), out_specs=lies.spec)
    for direction in DIRECTIONS:
        taken = [
            jax.jit(in_direction(call, direction)).lower(x).compile().memory_analysis()
            for call in (by_hand, lambda x: attend(x, lies))
        ]
        hand, split = (its.temp_size_in_bytes + its.output_size_in_bytes for its in taken)
        assert split <= 1.1 * hand


def check_mosaic() -> None:
    """Mosaic kernels: one forward and two with gradients in every way that says how they lie, and a refusal in the other."""
    mesh = AbstractMesh((2, 2, 2), tuple(SPLITS.values()), axis_types=(AxisType.Auto,) * 3)
    lies = NamedSharding(mesh, PartitionSpec("data", None, "model"))
    x = {
        name: jax.ShapeDtypeStruct((2, 256, heads, 128), jnp.bfloat16, sharding=lies)
        for name, heads in zip("qkv", (4, 2, 2), strict=True)
    }

    def attend(x: Values, sharding: Any = None) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], mask=rg.masks.causal, target="tpu:v5e", sharding=sharding)

    def exported(call: Call, direction: str) -> str:
        return str(jax.export.export(jax.jit(in_direction(call, direction)), platforms=["tpu"])(x).mlir_module())

    by_hand = jax.shard_map(attend, mesh=mesh, in_specs=(lies.spec,), out_specs=lies.spec)
    for call, (direction, kernels) in itertools.product(
        (by_hand, lambda x: attend(x, lies)), zip(DIRECTIONS, (1, 2), strict=True)
    ):
        module = exported(call, direction)
        assert module.count("tpu_custom_call") == kernels
        assert not re.search(r"stablehlo\.(all_|collective|reduce_scatter)", module)
    message = refusal(lambda: exported(attend, "forward"))
    assert all(words in message for words in ("attend/mosaic_tpu", "sharding=", "jax.set_mesh(mesh)", "shard_map"))


def check_artifact() -> None:
    """An artifact for eight devices: what it states, its parameters bound once, and its own check."""
    lies = NamedSharding(mesh_of(AxisType.Auto), PartitionSpec("data", None, "model"))
    made = exported(front_end(), lies)
    x = artifact().inputs
    parameters = {label: x[label] for label in made.graph.labels("parameter")}
    assert made.devices == 8
    assert "8 devices" in repr(made)
    assert made.manifest.devices is not None
    assert made.manifest.devices.inputs["wq"] == ((), ("model",))
    assert relative(made.bind(**parameters)(x=x["x"]), expected(plan(), "forward")) < 1e-6
    assert made.check().passed


CHECKS: dict[str, Callable[[], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def main(ways: tuple[str, ...] = WAYS) -> None:
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time is compilation
    for name, make in SUBJECTS.items():
        subject = make()
        for way, split, direction in itertools.product(ways, SPLITS, DIRECTIONS):
            result = cell(subject, way, split, direction)
            print(json.dumps({"name": [way, name, split, direction], **result}), flush=True)


def checks() -> None:
    for name, check in CHECKS.items():
        failed = ""
        try:
            check()
        except (AssertionError, RuntimeError, TypeError, ValueError):
            failed = traceback.format_exc()
        print(json.dumps({"name": name, "failed": failed}), flush=True)


def process(port: str, index: str) -> None:
    """One of two processes of four devices each."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    main(("processes",))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        process(*sys.argv[1:])
    else:
        jax.config.update("jax_num_cpu_devices", 8)
        main()
        checks()
