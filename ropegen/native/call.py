"""What XLA calls: the handler of a native kernel, and the distribution of its items over XLA's own threads.

A kernel is a list of *stages*. A stage is a function of the module that computes one *item*, such as a block of rows.
The stages run once for every *wave*, such as a group of heads. All threads take the items in one order: wave by wave,
and stage by stage. An item begins when the stage before it is complete in the same wave. A kernel says how many waves
may be under way at once, such as two, which use two halves of the scratch memory in turns. The first stage of a wave
begins when the wave so many places before it is complete. A thread waits only for items that another thread has already
begun, so no number of threads can deadlock.

The handler runs items itself, and it asks XLA's pool for more threads. A task that starts late finds nothing to do. The
context of the call is counted: whoever uses it last frees it.

The process keeps one block of scratch memory between calls, the largest that a call has needed, because the system takes
longer to hand out fresh pages than a kernel takes to fill them. A call that finds no block there makes one.

The structures of XLA's foreign function interface are those of `xla/ffi/api/c_api.h` in `jax.ffi.include_dir()`.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

import jax

from ropegen.target import VectorUnit
from ropegen.types import numpy_dtype

from . import machine
from .ir import I1, I8, I32, I64, POINTER, Function, Module, Value

# The offsets of fields in the structures of the interface, in bytes.
OFFSETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "XLA_FFI_CallFrame": {"extension_start": 8, "api": 16, "ctx": 24, "args": 40, "rets": 80},
        "XLA_FFI_Args": {"size": 16, "args": 32},
        "XLA_FFI_Rets": {"size": 16, "rets": 32},
        "XLA_FFI_Buffer": {"dtype": 16, "data": 24, "rank": 32, "dims": 40},
        "XLA_FFI_Api": {
            "XLA_FFI_Error_Create": 48,
            "XLA_FFI_Error_Destroy": 64,
            "XLA_FFI_ThreadPool_Schedule": 136,
            "XLA_FFI_ThreadPool_NumThreads": 144,
        },
        "XLA_FFI_Extension_Base": {"type": 8},
        "XLA_FFI_Metadata_Extension": {"metadata": 24},
        "XLA_FFI_Metadata": {"api_version": 8, "traits": 32},
        "XLA_FFI_Api_Version": {"major_version": 16, "minor_version": 20},
        "XLA_FFI_Error_Create_Args": {"struct_size": 0, "message": 16, "errc": 24},
        "XLA_FFI_Error_Destroy_Args": {"struct_size": 0, "error": 16},
        "XLA_FFI_ThreadPool_Schedule_Args": {"struct_size": 0, "ctx": 16, "task": 24, "data": 32},
        "XLA_FFI_ThreadPool_NumThreads_Args": {"struct_size": 0, "ctx": 16, "num_threads": 24},
    }
)
SIZES: Mapping[str, int] = MappingProxyType(
    {
        "XLA_FFI_Error_Create_Args": 32,
        "XLA_FFI_Error_Destroy_Args": 24,
        "XLA_FFI_ThreadPool_Schedule_Args": 40,
        "XLA_FFI_ThreadPool_NumThreads_Args": 32,
    }
)
# The version of the interface that the handler states. Both ends of the supported jaxlib versions accept it; a version
# that jaxlib refuses would stop the whole CPU backend.
API_VERSION = (0, 3)
METADATA_EXTENSION = 1
INVALID_ARGUMENT = 3
# XLA_FFI_DataType, by ropegen's names of element types.
DATA_TYPES: Mapping[str, int] = MappingProxyType(
    {"i1": 1, "i8": 2, "i16": 3, "i32": 4, "i64": 5, "f16": 10, "f32": 11, "f64": 12, "bf16": 16}
)

# The context of a call: counters on cache lines of their own, then the buffers' addresses, then a counter for every
# stage of every wave.
_NEXT, _FINISHED, _SLOTS, _REFERENCES, _SCRATCH, _BUFFERS = 0, 64, 128, 192, 256, 264
# A block of scratch memory begins with its size, on a page of its own.
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Buffer:
    """An operand or result: its element type by ropegen's name, and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """A function `void name(ptr context, i64 wave, i64 item, i64 slot)` of the module, and its items in one wave.

    `slot` tells the threads of one call apart: it is less than `Kernel.threads`.
    """

    name: str
    items: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A native kernel before its compilation."""

    title: str
    module: Module
    operands: tuple[Buffer, ...]
    results: tuple[Buffer, ...]
    stages: tuple[Stage, ...]
    waves: int = 1
    threads: int = 1
    """The most threads that take part in one call."""
    scratch: int = 0
    """Bytes of scratch memory of a call."""
    at_once: int = 2
    """The most waves that are under way at once."""

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return (*self.operands, *self.results)

    @property
    def items(self) -> int:
        """All items of a call."""
        return self.waves * sum(stage.items for stage in self.stages)


def stage(kernel_module: Module, name: str) -> Function:
    """Begins the function of a stage. Its parameters are `context`, `wave`, `item` and `slot`."""
    parameters = [("context", POINTER), ("wave", I64), ("item", I64), ("slot", I64)]
    return kernel_module.function(name, None, parameters, "nounwind noinline")


def address(f: Function, index: int) -> Value:
    """The address of a buffer, which `index` counts over the operands, then the results."""
    return f.load(POINTER, f.offset(f.parameters["context"], _BUFFERS + 8 * index))


def scratch(f: Function) -> Value:
    """The address of the scratch memory of the call; it begins on a page. Its bytes may have any value."""
    return f.load(POINTER, f.offset(f.parameters["context"], _SCRATCH))


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel as LLVM IR. Equal kernels have equal names: the name holds a hash of all of the code."""

    name: str
    text: str
    results: tuple[Buffer, ...]


def written(kernel: Kernel) -> Written:
    """The whole module of a kernel: its stages, the loop of a thread, and the handler that has the kernel's name."""
    run = _write_run(kernel)
    drop = _write_drop(kernel.module)
    task = _write_task(kernel.module)
    handler = _write_handler(kernel, run, drop, task)
    digest = hashlib.sha256(str(kernel.module).encode()).hexdigest()[:24]
    handler.name = f"ropegen_{kernel.title}_{digest}"
    return Written(handler.name, str(kernel.module), kernel.results)


def target_of(kernel: str, unit: str) -> str:
    """The target of the custom call of a kernel, by the kernel's name and that of the vector unit."""
    return f"{kernel}_{unit}"


# The custom calls that XLA knows. It keeps the first code of a name, and the name holds a hash of the code.
_registered: set[str] = set()
_registering = threading.Lock()


def register(kernel: str, unit: str, code: Callable[[], bytes]) -> None:
    """Loads the object code of a kernel, unless the process has it already, and tells XLA about it."""
    name = target_of(kernel, unit)
    with _registering:
        if name not in _registered:
            handler = ctypes.cast(machine.load(code(), kernel), ctypes.CFUNCTYPE(None))
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
            _registered.add(name)


def registered(kernel: Written, unit: VectorUnit) -> str:
    """Compiles a kernel once in a process and tells XLA about it; returns the target of its custom call."""
    register(kernel.name, unit.name, lambda: machine.object_code(kernel.text, unit))
    return target_of(kernel.name, unit.name)


@dataclass(frozen=True, slots=True)
class Called:
    """A kernel that a program calls, and the vector unit that it is for."""

    kernel: Written
    unit: VectorUnit


_collected: ContextVar[dict[str, Called] | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Generator[dict[str, Called]]:
    """Collects the kernels of the programs that are lowered inside, by the targets of their custom calls.

    They are neither compiled nor registered, so they can be for any machine, and the module is for other processes.
    """
    kernels: dict[str, Called] = {}
    token = _collected.set(kernels)
    try:
        yield kernels
    finally:
        _collected.reset(token)


def is_collecting() -> bool:
    """Whether `collected` is active."""
    return _collected.get() is not None


def call(kernel: Written, unit: VectorUnit, operands: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Calls a kernel in a traced program; the process compiles it once. Returns all results."""
    types = [jax.ShapeDtypeStruct(result.shape, numpy_dtype(result.dtype)) for result in kernel.results]
    kernels = _collected.get()
    if kernels is None:
        target = registered(kernel, unit)
    else:
        target = target_of(kernel.name, unit.name)
        kernels[target] = Called(kernel, unit)
    return tuple(jax.ffi.ffi_call(target, types)(*operands))


# The code of a call ---------------------------------------------------------------------------------------------------


def _counter(f: Function, kernel: Kernel, context: Value, wave: Value, position: int) -> Value:
    """The counter of the complete items of a stage in a wave."""
    first = _BUFFERS + 8 * len(kernel.buffers)
    return f.offset(context, (wave * len(kernel.stages) + position) * 8 + first)


def _context_size(kernel: Kernel) -> int:
    return _BUFFERS + 8 * len(kernel.buffers) + 8 * kernel.waves * len(kernel.stages)


def _wait_until(f: Function, counter: Value, count: int) -> None:
    """Waits for other threads until a counter has its last value."""
    check, wait, done = f.label(), f.label(), f.label()
    f.jump(check)
    f.begin(check)
    f.jump_if(f.atomic_load(counter).equals(count), done, wait)
    f.begin(wait)
    f.call("sched_yield", I32)
    f.jump(check)
    f.begin(done)


def _write_run(kernel: Kernel) -> Function:
    """The loop of a thread: takes the next item until none is left."""
    f = kernel.module.function("run", None, [("context", POINTER)], "nounwind")
    context = f.parameters["context"]
    slot = f.atomic_add(f.offset(context, _SLOTS), 1)
    following, work, end = f.label(), f.label(), f.label()
    f.jump(following)
    f.begin(following)
    taken = f.atomic_add(f.offset(context, _NEXT), 1)
    f.jump_if(taken < kernel.items, work, end)
    f.begin(work)
    of_wave = sum(stage.items for stage in kernel.stages)
    wave, place = taken // of_wave, taken % of_wave
    first = 0
    for position, stage in enumerate(kernel.stages):
        with f.when((place >= first) & (place < first + stage.items)):
            if position:
                _wait_until(f, _counter(f, kernel, context, wave, position - 1), kernel.stages[position - 1].items)
            else:
                with f.when(wave >= kernel.at_once):
                    last = len(kernel.stages) - 1
                    before = _counter(f, kernel, context, wave - kernel.at_once, last)
                    _wait_until(f, before, kernel.stages[last].items)
            f.call_pointer(f"@{stage.name}", None, context, wave, place - first, slot)
            f.atomic_add(_counter(f, kernel, context, wave, position), 1, "release")
        first += stage.items
    f.atomic_add(f.offset(context, _FINISHED), 1, "release")
    f.jump(following)
    f.begin(end)
    f.give_back()
    return f


def _write_drop(module: Module) -> Function:
    """Gives up one reference to the context, and frees the context if it was the last."""
    f = module.function("drop", None, [("context", POINTER)], "nounwind")
    context = f.parameters["context"]
    before = f.atomic_add(f.offset(context, _REFERENCES), -1, "acq_rel")
    with f.when(before.equals(1)):
        f.call("free", None, context)
    f.give_back()
    return f


def _write_task(module: Module) -> Function:
    """What a thread of the pool runs."""
    f = module.function("task", None, [("context", POINTER)], "nounwind")
    f.call_pointer("@run", None, f.parameters["context"])
    f.call_pointer("@drop", None, f.parameters["context"])
    f.give_back()
    return f


@dataclass(frozen=True, slots=True)
class _Frame:
    """The call frame of a handler, and the functions of XLA's interface."""

    f: Function
    pointer: Value
    arguments: Value
    """Memory for the arguments of one function of the interface."""

    def field(self, structure: str, name: str, base: Value) -> Value:
        return self.f.offset(base, OFFSETS[structure][name])

    def read(self, structure: str, name: str, base: Value) -> Value:
        return self.f.load(POINTER, self.field(structure, name, base))

    def call(self, function: str, structure: str, fields: Mapping[str, Value], *, returns: bool = True) -> Value:
        """Calls a function of the interface; returns its error, or null."""
        f, arguments = self.f, self.arguments
        for index in range(SIZES[structure] // 8):
            f.store(f.i64(0), arguments, index)
        f.store(f.i64(SIZES[structure]), arguments)
        for name, value in fields.items():
            f.store(value, self.field(structure, name, arguments))
        api = self.read("XLA_FFI_CallFrame", "api", self.pointer)
        pointer = self.read("XLA_FFI_Api", function, api)
        return f.call_pointer(pointer, POINTER if returns else None, arguments)

    def error(self, message: str) -> Value:
        """A new error with a message."""
        f = self.f
        text = Value(f, POINTER, f.module.text_constant(message))
        fields = {"message": text, "errc": f.value(I32, INVALID_ARGUMENT)}
        return self.call("XLA_FFI_Error_Create", "XLA_FFI_Error_Create_Args", fields)

    def destroy(self, error: Value) -> None:
        fields = {"error": error}
        self.call("XLA_FFI_Error_Destroy", "XLA_FFI_Error_Destroy_Args", fields, returns=False)


def _write_handler(kernel: Kernel, run: Function, drop: Function, task: Function) -> Function:
    """The function that XLA calls: answers the query for metadata, checks the buffers, and runs the items."""
    # The name is a hash of the module, so the module is written with this one first.
    f = kernel.module.function("handler", POINTER, [("frame", POINTER)], "nounwind")
    frame = _Frame(f, f.parameters["frame"], f.array(I64, max(SIZES.values()) // 8, 8))
    thread_count = f.array(I64, 1, 8)
    _answer_metadata(frame)
    addresses = _check_buffers(frame, kernel)
    context = f.call("malloc", POINTER, f.i64(_context_size(kernel)))
    f.call("llvm.memset.p0.i64", None, context, f.value(I8, 0), f.i64(_context_size(kernel)), f.value(I1, 0))
    for index, data in enumerate(addresses):
        f.store(data, context, _BUFFERS // 8 + index)
    block = _take_scratch(f, kernel) if kernel.scratch else f.zero(POINTER)
    f.store(f.offset(block, _PAGE), context, _SCRATCH // 8)
    references = f.offset(context, _REFERENCES)
    most = min(kernel.threads, kernel.items)
    if most > 1:
        f.store(f.i64(1), thread_count)
        of_call = frame.read("XLA_FFI_CallFrame", "ctx", frame.pointer)
        fields = {"ctx": of_call, "num_threads": thread_count}
        problem = frame.call("XLA_FFI_ThreadPool_NumThreads", "XLA_FFI_ThreadPool_NumThreads_Args", fields)
        with f.when(problem.differs(f.zero(POINTER))):
            frame.destroy(problem)
        threads = f.minimum(f.maximum(f.load(I64, thread_count), 1), most)
        f.store(threads, references)
        with f.range(1, threads):
            fields = {"ctx": of_call, "task": task.address, "data": context}
            problem = frame.call("XLA_FFI_ThreadPool_Schedule", "XLA_FFI_ThreadPool_Schedule_Args", fields)
            with f.when(problem.differs(f.zero(POINTER))):
                frame.destroy(problem)
                f.atomic_add(references, -1, "acq_rel")
    else:
        f.store(f.i64(1), references)
    f.call_pointer(run.address, None, context)
    _wait_until(f, f.offset(context, _FINISHED), kernel.items)
    if kernel.scratch:
        _keep_scratch(f, block)
    f.call_pointer(drop.address, None, context)
    f.give_back(f.zero(POINTER))
    return f


def _take_scratch(f: Function, kernel: Kernel) -> Value:
    """A block with enough scratch memory: the one that the process keeps, or a new one."""
    kept = _exchange(f, f.zero(POINTER))
    needed = -(-kernel.scratch // _PAGE) * _PAGE + _PAGE
    size = f.branch(kept.equals(f.zero(POINTER)), lambda: [f.i64(0)], lambda: [f.load(I64, kept)])[0]

    def made() -> list[Value]:
        f.call("free", None, kept)
        block = f.call("aligned_alloc", POINTER, f.i64(_PAGE), f.i64(needed))
        f.store(f.i64(needed), block)
        return [block]

    return f.branch(size < needed, made, lambda: [kept])[0]


def _keep_scratch(f: Function, block: Value) -> None:
    """Keeps the block for the next call. Of two blocks, the larger is kept, and the other one is freed."""
    other = _exchange(f, block)
    with f.when(other.differs(f.zero(POINTER))):
        smaller = f.load(I64, other) <= f.load(I64, block)
        f.call("free", None, f.branch(smaller, lambda: [other], lambda: [_exchange(f, other)])[0])


def _exchange(f: Function, block: Value) -> Value:
    """Puts a block, or null, in the place of the block that the process keeps."""
    place = f.module.external(machine.KEPT_BLOCK)
    return f.instruction(POINTER, f"atomicrmw xchg ptr {place}, ptr {block.text} acq_rel")


def _answer_metadata(frame: _Frame) -> None:
    """Answers the query that asks for the version of the interface. The query comes without arguments."""
    f = frame.f
    extension = frame.read("XLA_FFI_CallFrame", "extension_start", frame.pointer)
    look, answer, normal = f.label(), f.label(), f.label()
    f.jump_if(extension.equals(f.zero(POINTER)), normal, look)
    f.begin(look)
    kind = f.load(I32, frame.field("XLA_FFI_Extension_Base", "type", extension))
    f.jump_if(kind.equals(METADATA_EXTENSION), answer, normal)
    f.begin(answer)
    metadata = frame.read("XLA_FFI_Metadata_Extension", "metadata", extension)
    version = frame.field("XLA_FFI_Metadata", "api_version", metadata)
    for name, number in zip(("major_version", "minor_version"), API_VERSION, strict=True):
        f.store(f.value(I32, number), frame.field("XLA_FFI_Api_Version", name, version))
    f.store(f.value(I32, 0), frame.field("XLA_FFI_Metadata", "traits", metadata))
    f.give_back(f.zero(POINTER))
    f.begin(normal)


def _check_buffers(frame: _Frame, kernel: Kernel) -> list[Value]:
    """Refuses buffers that the kernel was not compiled for; returns the addresses of the others' data."""
    f, addresses = frame.f, list[Value]()
    for buffers, structure, listed, word in (
        (kernel.operands, "XLA_FFI_Args", "args", "operands"),
        (kernel.results, "XLA_FFI_Rets", "rets", "results"),
    ):
        base = frame.field("XLA_FFI_CallFrame", listed, frame.pointer)
        count = f.load(I64, frame.field(structure, "size", base))
        _refuse_if(frame, count.differs(len(buffers)), f"{kernel.title} takes {len(buffers)} {word}")
        pointers = frame.read(structure, listed, base)
        for index, buffer in enumerate(buffers):
            given = f.load(POINTER, pointers, index)
            message = f"{kernel.title}: {buffer.name} must be {buffer.dtype}[{','.join(map(str, buffer.shape))}]"
            kind = f.load(I32, frame.field("XLA_FFI_Buffer", "dtype", given))
            rank = f.load(I64, frame.field("XLA_FFI_Buffer", "rank", given))
            _refuse_if(frame, kind.differs(DATA_TYPES[buffer.dtype]) | rank.differs(len(buffer.shape)), message)
            sizes = frame.read("XLA_FFI_Buffer", "dims", given)
            for axis, size in enumerate(buffer.shape):
                _refuse_if(frame, f.load(I64, sizes, axis).differs(size), message)
            addresses.append(frame.read("XLA_FFI_Buffer", "data", given))
    return addresses


def _refuse_if(frame: _Frame, condition: Value, message: str) -> None:
    f = frame.f
    bad, good = f.label(), f.label()
    f.jump_if(condition, bad, good)
    f.begin(bad)
    f.give_back(frame.error(message))
    f.begin(good)
