"""The calls of XLA into native code: which buffers they accept, how threads share them, and the layout of the interface."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from native import Array, host

from ropegen.native import call as native_call
from ropegen.native.call import DATA_TYPES, OFFSETS, SIZES, Buffer, Kernel, Stage, Written, address, call, registered
from ropegen.native.call import stage as begin_stage
from ropegen.native.ir import F32, I32, Module

# Kernels ------------------------------------------------------------------------------------------------------------


def waves_of_sums(waves: int, items: int, threads: int) -> Written:
    """out[w, i] = x[w, i] + sum(2 * x[w]), by way of scratch memory that holds two waves.

    The first stage writes 2 * x to the half of the scratch memory that the wave before the previous one has used.
    """
    module, last_slot = Module(), threads - 1
    f = begin_stage(module, "double")
    wave, item = f.parameters["wave"], f.parameters["item"]
    at = wave * items + item
    f.store(f.load(F32, address(f, 0), at) * 2.0, address(f, 2), wave % 2 * items + item)
    f.give_back()

    f = begin_stage(module, "sum")
    wave, item, slot = (f.parameters[name] for name in ("wave", "item", "slot"))
    half = f.offset(address(f, 2), wave % 2 * items, F32)
    (total,) = f.loop(0, items, 1, lambda i, total: [total + f.load(F32, half, i)], [f.value(F32, 0.0)])
    f.store(total + f.load(F32, address(f, 0), wave * items + item), address(f, 1), wave * items + item)
    f.store(f.convert((slot >= 0) & (slot <= last_slot), I32), address(f, 3), wave * items + item)
    f.give_back()
    return native_call.written(
        Kernel(
            title="sums",
            module=module,
            operands=(Buffer("x", "f32", (waves, items)),),
            results=(
                Buffer("out", "f32", (waves, items)),
                Buffer("scratch", "f32", (2, items)),
                Buffer("slot_is_valid", "i32", (waves, items)),
            ),
            stages=(Stage("double", items), Stage("sum", items)),
            waves=waves,
            threads=threads,
        )
    )


def drawn(waves: int, items: int, seed: int = 0) -> Array:
    """Small integers, whose sums are exact in float32."""
    return np.random.default_rng(seed).integers(-9, 9, (waves, items)).astype(np.float32)


def sums(x: Array) -> Array:
    return x + 2 * x.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("waves", "items", "threads"), [(1, 1, 1), (1, 40, 4), (7, 5, 3), (40, 3, 8)])
def test_stages_and_waves_wait_for_what_they_read(waves: int, items: int, threads: int) -> None:
    kernel, unit = waves_of_sums(waves, items, threads), host()
    compute = jax.jit(lambda x: call(kernel, unit, [x]))
    for seed in range(20):
        x = drawn(waves, items, seed)
        out, _, slot_is_valid = compute(x)
        np.testing.assert_array_equal(out, sums(x))
        assert np.all(slot_is_valid)


def test_many_threads_call_programs_of_several_kernels_at_once() -> None:
    unit = host()
    first, second = waves_of_sums(5, 8, 4), waves_of_sums(2, 20, 2)

    @jax.jit
    def program(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
        """Four independent calls, and a loop whose rounds call one after the other."""
        calls = [call(first, unit, [x + n])[0] for n in range(2)] + [call(second, unit, [y - n])[0] for n in range(2)]
        looped = jax.lax.fori_loop(0, 5, lambda _, z: call(first, unit, [z % 8])[0], x)
        return (*calls, looped)

    def expected(x: Array, y: Array) -> list[Array]:
        looped = x
        for _ in range(5):
            looped = sums(looped % 8)
        return [sums(x), sums(x + 1), sums(y), sums(y - 1), looped]

    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(25):
                x, y = drawn(5, 8, 100 * seed + step), drawn(2, 20, 100 * seed + step)
                for result, wanted in zip(program(x, y), expected(x, y), strict=True):
                    np.testing.assert_array_equal(result, wanted)
        except AssertionError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not problems


def test_equal_kernels_have_one_name_and_others_have_another() -> None:
    assert waves_of_sums(3, 4, 2).name == waves_of_sums(3, 4, 2).name != waves_of_sums(3, 5, 2).name


OUT, SCRATCH, SLOTS = ((3, 4), jnp.float32), ((2, 4), jnp.float32), ((3, 4), jnp.int32)


@pytest.mark.parametrize(
    ("operands", "results", "message"),
    [
        ([jnp.zeros((3, 5))], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros((4, 3))], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros(12)], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros((1, 3, 4))], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros((3, 4), jnp.int32)], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros((3, 4), jnp.bfloat16)], [OUT, SCRATCH, SLOTS], r"sums: x must be f32\[3,4\]"),
        ([jnp.zeros((3, 4))] * 2, [OUT, SCRATCH, SLOTS], "sums takes 1 operands"),
        ([], [OUT, SCRATCH, SLOTS], "sums takes 1 operands"),
        ([jnp.zeros((3, 4))], [OUT, SCRATCH], "sums takes 3 results"),
        ([jnp.zeros((3, 4))], [OUT, OUT, SLOTS], r"sums: scratch must be f32\[2,4\]"),
        ([jnp.zeros((3, 4))], [OUT, SCRATCH, OUT], r"sums: slot_is_valid must be i32\[3,4\]"),
    ],
)
def test_other_buffers_than_the_kernel_was_compiled_for_are_refused(
    operands: list[jax.Array], results: list[tuple[tuple[int, ...], type]], message: str
) -> None:
    name = registered(waves_of_sums(3, 4, 2), host())
    types = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"INVALID_ARGUMENT.*{message}"):
        jax.block_until_ready(jax.ffi.ffi_call(name, types)(*operands))


# The interface, as jaxlib's header declares it --------------------------------------------------------------------------


@dataclass
class Header:
    """The structures, enumerations and numbers of a C header of 64-bit code."""

    text: str
    offsets: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    """The bytes of every type."""
    alignments: dict[str, int] = field(default_factory=dict[str, int])
    """Those of structures; a number is aligned to its size."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.sizes |= {"size_t": 8, "int64_t": 8, "uint64_t": 8, "int32_t": 4, "uint32_t": 4, "int": 4, "char": 1}
        text = re.sub(r"//[^\n]*", "", self.text)
        self.numbers |= {name: int(number) for name, number in re.findall(r"#define (\w+) (\d+)\n", text)}
        self.sizes |= {name: self.sizes[old] for old, name in re.findall(r"typedef (u?int\d+_t) (\w+);", text)}
        for names, title in re.findall(r"typedef enum \{([^}]*)\} (\w+);", text):
            self.sizes[title] = 4
            self.numbers |= {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", names)}
        for name, body in re.findall(r"struct (\w+) \{([^}]*)\}", text):
            self._lay_out(name, re.sub(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", r"void* \1;", body))

    def _lay_out(self, structure: str, body: str) -> None:
        end, widest, fields = 0, 1, dict[str, int]()
        for declaration in filter(None, map(str.strip, body.split(";"))):
            pointer = re.search(r"\(\*(\w+)\)", declaration)
            name = pointer.group(1) if pointer else re.split(r"[\s*]+", declaration)[-1]
            kind = "size_t" if "*" in declaration else declaration.split()[0]  # a pointer is as large as a size
            alignment = self.alignments.get(kind, self.sizes[kind])
            fields[name] = end = -(-end // alignment) * alignment
            end, widest = end + self.sizes[kind], max(widest, alignment)
        self.offsets[structure], self.alignments[structure] = fields, widest
        self.sizes[structure] = -(-end // widest) * widest


# The new names of structures that a later jaxlib has renamed.
RENAMED = {"XLA_FFI_Extension_Base": "XLA_FFI_InternalExtension"}


@pytest.fixture(scope="module")
def header() -> Header:
    return Header((Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text())


@pytest.mark.parametrize(("structure", "name"), [(s, name) for s, fields in OFFSETS.items() for name in fields])
def test_a_field_lies_where_the_handler_looks_for_it(header: Header, structure: str, name: str) -> None:
    fields = header.offsets.get(structure) or header.offsets[RENAMED[structure]]
    assert OFFSETS[structure][name] == fields[name]


def test_sizes_and_numbers_are_those_of_the_header(header: Header) -> None:
    assert {name: header.sizes[name] for name in SIZES} == SIZES
    major, minor = native_call.API_VERSION
    assert header.numbers["XLA_FFI_API_MAJOR"] == major
    assert header.numbers["XLA_FFI_API_MINOR"] >= minor
    assert header.numbers["XLA_FFI_Extension_Metadata"] == native_call.METADATA_EXTENSION
    assert header.numbers["XLA_FFI_Error_Code_INVALID_ARGUMENT"] == native_call.INVALID_ARGUMENT
    for name, number in DATA_TYPES.items():
        title = "PRED" if name == "i1" else name.replace("i", "s").upper()
        assert header.numbers[f"XLA_FFI_DataType_{title}"] == number


def test_the_layout_follows_the_rules_of_c() -> None:
    example = Header(
        "struct A {\n  char a;\n  int b;  // out\n};\nstruct B {\n  int32_t x;\n  A y;\n  void (*z)(int);\n};"
    )
    assert example.offsets == {"A": {"a": 0, "b": 4}, "B": {"x": 0, "y": 4, "z": 16}}
    assert (example.sizes["A"], example.sizes["B"]) == (8, 24)
