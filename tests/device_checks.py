"""Checks over eight simulated devices that are no cell of the table in docs/devices.md.

`python tests/device_checks.py` prints one line of JSON for every check: its name, and the traceback if it failed.
`tests/test_mesh.py` runs it in a process of its own, because the number of devices is fixed when JAX starts.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from devices import (
    BATCH,
    DIRECTIONS,
    RANDOM,
    ROPE,
    ROWS,
    SPLITS,
    SUBJECTS,
    WIDTH,
    Call,
    Subject,
    Values,
    artifact,
    collectives,
    drawn,
    expected,
    exported,
    front_end,
    in_direction,
    mesh_of,
    over,
    plan,
    relative,
)
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import ropegen as rg


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


def check_positions_in_bodies() -> None:
    """Positions are missed in the bodies of loops, `jax.checkpoint`, `jit` and `jax.vmap` too, and only where they matter."""
    q, k, v = heads_of(4, 2, 2)
    at = np.arange(ROWS // 2)

    def attend(q: Any, k: Any, v: Any) -> Any:
        return rg.attention(q, k, v, mask=rg.masks.causal)

    def told(q: Any, k: Any, v: Any) -> Any:
        return rg.attention(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)

    def looped(call: Call) -> Call:
        return lambda q, k, v: jax.lax.scan(lambda q, _: (call(q, k, v), None), q, None, length=2)[0]

    def alone(call: Call) -> Call:
        return jax.vmap(call)

    def deep(call: Call) -> Call:
        return looped(jax.checkpoint(jax.jit(call)))

    def counted(call: Call) -> Call:
        return lambda q, k, v: jax.lax.fori_loop(0, 2, lambda _, q: call(q, k, v), q)

    def pulled(call: Call) -> Call:
        return lambda q, k, v: jax.grad(lambda q: call(q, k, v).sum())(q)

    for around in (looped, alone, deep, counted, jax.checkpoint, jax.jit, pulled):
        for call in (attend, told):
            assert "splits the sequence" in refusal(
                lambda call=call, around=around: within(around(call), SEQUENCE, q, k, v)
            )
        wanted = np.asarray(around(attend)(q, k, v))
        for spec in (DATA, MODEL):
            assert relative(within(around(attend), spec, q, k, v), wanted) < 5e-6

    def own(q: Any, k: Any, v: Any) -> Any:
        here = jax.lax.axis_index("seq") * (ROWS // 2) + jnp.arange(ROWS // 2)
        return rg.rope(q, here, ROPE)

    assert (
        relative(
            within(deep(own), SEQUENCE, q, k, v), np.asarray(deep(lambda q, k, v: rg.rope(q, None, ROPE))(q, k, v))
        )
        < 1e-6
    )


def floating(x: Values) -> Values:
    return {label: y for label, y in x.items() if jnp.issubdtype(y.dtype, jnp.floating)}


def tangent(call: Call, x: Values) -> Any:
    """The tangent of a call, whose inputs move by their own values."""
    return jax.jvp(lambda y: call({**x, **y}), (floating(x),), (floating(x),))[1]


def check_transformations() -> None:
    """In a shard_map as JAX has it by default, gradients taken inside and outside, tangents, `vmap` and `checkpoint`."""
    mesh = mesh_of(AxisType.Auto)
    for (name, make), split in itertools.product(SUBJECTS.items(), ("batch", "heads")):
        if name == "artifact":
            continue  # it has the transformations of a plan
        subject = make()
        specs = {label: over(names, split) for label, names in subject.axes.items()}
        out = over(subject.out, split)

        def part(x: Values, subject: Subject = subject, split: str = split) -> Any:
            made = subject.run(x, None)
            return jax.lax.psum(made, SPLITS[split]) if subject.partial and split == "heads" else made

        def mapped(call: Call, specs: Any = specs, out: Any = out) -> Call:
            return jax.shard_map(call, mesh=mesh, in_specs=(specs,), out_specs=out)

        of_moving = {label: specs[label] for label in floating(subject.inputs)}
        gradient = expected(subject, "gradient")
        taken = {
            "inside": mapped(in_direction(part, "gradient"), out=of_moving),
            "outside": in_direction(mapped(part), "gradient"),
            "again": in_direction(mapped(jax.checkpoint(part)), "gradient"),
        }
        for way, call in taken.items():
            if way == "inside" and subject.partial and split == "heads":
                continue  # every device would have the loss of the whole
            errors = jax.tree.map(relative, jax.jit(call)(subject.inputs), gradient)
            assert max(jax.tree.leaves(errors)) <= 5e-6, (name, split, way, errors)
        moved = np.asarray(tangent(subject.plain, subject.inputs))
        assert relative(jax.jit(functools.partial(tangent, mapped(part)))(subject.inputs), moved) <= 5e-6, (name, split)
        assert relative(jax.jit(mapped(functools.partial(tangent, part)))(subject.inputs), moved) <= 5e-6, (name, split)
        twice = jax.tree.map(lambda x: jnp.stack([x, x]), subject.inputs)
        several = mapped(
            jax.vmap(part),
            {label: PartitionSpec(None, *spec) for label, spec in specs.items()},
            PartitionSpec(None, *out),
        )
        wanted = np.stack([expected(subject, "forward")] * 2)
        assert relative(jax.jit(several)(twice), wanted) <= 1e-6, (name, split)


def check_doors() -> None:
    """The layers of other libraries over a batch that shard_map splits."""
    import test_doors

    weights = {name: np.asarray(drawn(32, 32)) / 5 for name in ("query", "key", "value", "output")}
    x = drawn(test_doors.BATCH, test_doors.LENGTH, test_doors.FEATURES)
    for door in test_doors.DOORS:
        layer = door(weights)
        mapped = jax.shard_map(layer, mesh=mesh_of(AxisType.Auto), in_specs=DATA, out_specs=DATA)
        for direction in DIRECTIONS:
            made, wanted = (
                jax.jit(in_direction(lambda x, call=call: call(x["x"]), direction))({"x": x})
                for call in (mapped, layer)
            )
            errors = jax.tree.map(lambda made, its: relative(made, np.asarray(its)), made, wanted)
            assert max(jax.tree.leaves(errors)) <= 5e-6, (door, direction, errors)


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

    def shared(q: Any, k: Any, v: Any) -> Any:
        return rg.context_parallel(q, k, v, mask=lambda q_pos, kv_pos, head, batch: q_pos + head + 2 * batch >= kv_pos)

    for spec, name in ((PartitionSpec(None, "seq", "model"), "head"), (PartitionSpec("data", "seq"), "batch")):
        assert f"reads `{name}`" in refusal(lambda spec=spec: within(shared, spec, q, k, v))
    assert relative(within(shared, SEQUENCE, q, k, v), np.asarray(attend(q, k, v))) < 1e-6


def check_dropout() -> None:
    """Dropout counts over the whole: a split call drops what one device drops, and equal keys in shard_map are refused."""
    q, k, v = heads_of(4, 2, 2)
    key = jax.random.key(3)

    def attend(q: Any, k: Any, v: Any, key: Any = key, **options: Any) -> Any:
        return rg.attention(q, k, v, dropout=0.5, dropout_key=key, **options)

    def by_device(q: Any, k: Any, v: Any) -> Any:
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
    parts = within(by_device, DATA, q, k, v)
    size = mesh_of(AxisType.Auto).shape["data"]
    for index in range(size):
        part = slice(index * BATCH // size, (index + 1) * BATCH // size)
        alone = attend(q[part], k[part], v[part], jax.random.fold_in(key, index))
        assert relative(alone, np.asarray(parts)[part]) < 1e-6
    sequence = NamedSharding(both.mesh, PartitionSpec(None, "seq"))
    assert "leave the sequence whole" in refusal(lambda: attend(q, k, v, sharding=sequence))


def apart(made: Any, its: Any) -> float:
    """The relative error of a gradient, or the largest number of one that must be zero."""
    wanted = np.asarray(its)
    return relative(made, wanted) if np.any(wanted) else float(np.max(np.abs(made)))


def check_side_by_side() -> None:
    """Under automatic axes, every option is split over batch and heads, in every direction, with no exchange but sums."""
    mesh, rows = mesh_of(AxisType.Auto), 24
    ids = np.sort(RANDOM.integers(0, 3, (BATCH, rows)), axis=1).astype(np.int32)
    x = dict(zip("qkv", heads_of(4, 2, 2, rows=rows), strict=True))
    x |= {"sinks": drawn(4), "slopes": drawn(4), "bias": drawn(BATCH, 1, rows, rows), "keys": drawn(1, 1, 1, rows)}
    spec = PartitionSpec("data", None, "model")
    specs = dict.fromkeys("qkv", spec) | {"sinks": PartitionSpec("model"), "bias": PartitionSpec("data")}
    specs |= dict.fromkeys(("slopes", "keys"), PartitionSpec())
    laid = {name: jax.device_put(value, NamedSharding(mesh, specs[name])) for name, value in x.items()}

    def attend(x: Values) -> Any:
        return rg.attention(
            *(x[name] for name in "qkv"),
            mask=rg.masks.causal & rg.masks.segments,
            score=lambda score, head: score * x["slopes"][head],
            sinks=x["sinks"],
            bias=x["bias"],
            q_segments=ids,
            kv_segments=ids,
            tile={"attend/xla": {"q": 8, "kv": 7}},
        )

    def of_keys(x: Values) -> Any:
        """A bias with one row, and rows that see no key."""
        options: dict[str, Any] = {"bias": x["keys"], "masked_row": "mean", "tile": {"attend/xla": {"q": 5, "kv": 8}}}
        return rg.attention(*(x[name] for name in "qkv"), mask=lambda q_pos, kv_pos: kv_pos > q_pos + 1, **options)

    def tangent(x: Values) -> Any:
        return jax.jvp(attend, (x,), (x,))[1]

    def repeated(x: Values) -> Any:
        def layer(q: Any, _: None) -> tuple[Any, None]:
            return jax.checkpoint(attend)({**x, "q": q}), None

        return jax.lax.scan(layer, x["q"], None, length=2)[0]

    pulled = [in_direction(call, "gradient") for call in (attend, repeated, of_keys)]
    for function in (attend, tangent, of_keys, *pulled):
        compiled = jax.jit(function).lower(laid).compile()
        # The tolerance is that of gradients, because a tangent subtracts numbers that are about equal.
        errors = jax.tree.map(apart, compiled(laid), jax.jit(function)(x))
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
    """A split call takes at most 1.1 times the memory of shard_map by hand, with `sharding=` and with nothing said."""

    def attend(x: Values, sharding: Any = None) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], mask=rg.masks.causal, sharding=sharding)

    def memory(call: Call, x: Values) -> int:
        taken = jax.jit(call).lower(x).compile().memory_analysis()
        return taken.temp_size_in_bytes + taken.output_size_in_bytes

    jax.config.update("jax_disable_most_optimizations", False)  # they decide what is held in memory
    try:
        for sizes, spec in (((8, 1), DATA), ((1, 8), MODEL), ((4, 2), PartitionSpec("data", None, "model"))):
            mesh = jax.make_mesh(sizes, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
            lies = NamedSharding(mesh, spec)
            x = {
                name: jax.ShapeDtypeStruct((8, 512, heads, 32), jnp.float32, sharding=lies)
                for name, heads in zip("qkv", (16, 8, 8), strict=True)
            }
            by_hand = jax.shard_map(attend, mesh=mesh, in_specs=(spec,), out_specs=spec)
            for direction in DIRECTIONS:
                hand, stated, alone = (
                    memory(in_direction(call, direction), x)
                    for call in (by_hand, functools.partial(attend, sharding=lies), attend)
                )
                assert stated <= 1.1 * hand, (spec, direction, stated / hand)
                assert alone <= 1.1 * hand, (spec, direction, alone / hand)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


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


def check_artifact_for_two_platforms() -> None:
    """An artifact whose module has a branch for every platform, over a mesh with an axis of one device."""
    mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    graph = front_end((8, *artifact().inputs["x"].shape[1:]))
    made = exported(graph, NamedSharding(mesh, PartitionSpec("data", None, "model")), ("cpu", "tpu:v5e"))
    assert made.check().passed


CHECKS: dict[str, Callable[[], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def main() -> None:
    for name, check in CHECKS.items():
        failed = ""
        try:
            check()
        except (AssertionError, RuntimeError, TypeError, ValueError):
            failed = traceback.format_exc()
        print(json.dumps({"name": name, "failed": failed}), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time is compilation
    main()
