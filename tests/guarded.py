"""Memory between pages that no code may touch, and a stand-in for XLA that calls a native kernel over such memory.

A read or write outside of the memory ends the process, so run it in a process of its own.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from native import host

from ropegen.native import machine
from ropegen.native.call import DATA_TYPES, OFFSETS, Buffer, Written
from ropegen.types import numpy_dtype

PAGE = mmap.PAGESIZE
# The bytes of the structures, rounded up.
_STRUCTURE = 256


class Guarded:
    """Memory between two pages that no code may touch; an array in it touches the page before or the page after."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], at_end: bool) -> None:
        size = math.prod(shape) * dtype.itemsize
        inner = -(-size // PAGE) * PAGE
        self.memory = mmap.mmap(-1, inner + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for guard in (start, start + PAGE + inner):
            assert protect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) == 0, ctypes.get_errno()
        offset = PAGE + (inner - size if at_end else 0)
        self.address = start + offset
        self.array = np.frombuffer(self.memory, dtype, math.prod(shape), offset).reshape(shape)


def _words(size: int = _STRUCTURE) -> np.ndarray:
    return np.zeros(size // 8, np.int64)


def _put(memory: np.ndarray, offset: int, number: int) -> None:
    memory[offset // 8] = number


@dataclass
class Pool:
    """The functions of XLA's interface that a kernel calls, over a pool of so many threads."""

    count: int
    threads: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def __post_init__(self) -> None:
        self._functions = {
            "XLA_FFI_Error_Create": self._create,
            "XLA_FFI_Error_Destroy": self._destroy,
            "XLA_FFI_ThreadPool_Schedule": self._schedule,
            "XLA_FFI_ThreadPool_NumThreads": self._number,
        }
        kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        self._callbacks = {name: kind(function) for name, function in self._functions.items()}
        self.api = _words()
        for name, offset in OFFSETS["XLA_FFI_Api"].items():
            address = ctypes.cast(self._callbacks[name], ctypes.c_void_p).value
            assert address is not None
            _put(self.api, offset, address)

    def _create(self, arguments: int) -> int:
        return 1

    def _destroy(self, arguments: int) -> None:
        raise AssertionError("the pool makes no errors")

    def _schedule(self, arguments: int) -> None:
        task, data = (self._read("XLA_FFI_ThreadPool_Schedule_Args", name, arguments) for name in ("task", "data"))
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(task)
        thread = threading.Thread(target=function, args=(data,))
        self.threads.append(thread)
        thread.start()

    def _number(self, arguments: int) -> None:
        offset = OFFSETS["XLA_FFI_ThreadPool_NumThreads_Args"]["num_threads"]
        ctypes.c_int64.from_address(arguments + offset).value = self.count

    @staticmethod
    def _read(structure: str, name: str, arguments: int) -> int:
        return ctypes.c_int64.from_address(arguments + OFFSETS[structure][name]).value

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        self.threads.clear()


@dataclass(frozen=True)
class Handler:
    """A compiled kernel with its operands and bytes of scratch memory."""

    operands: tuple[Buffer, ...]
    results: tuple[Buffer, ...]
    scratch: int
    function: Callable[[int], int | None]

    @staticmethod
    def of(kernel: Written, operands: tuple[Buffer, ...], scratch: int) -> Handler:
        address = machine.load(machine.object_code(kernel.text, host()), kernel.name)
        function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address)
        return Handler(operands, kernel.results, scratch, function)

    def __call__(self, values: Sequence[np.ndarray], at_end: bool, threads: int = 1) -> list[np.ndarray]:
        """The results, whose memory holds only ones before the call.

        All arrays end where a page without access begins, or begin where one ends. The scratch memory begins after a
        page that must keep its bytes, and with `at_end` it ends where a page without access begins.
        """
        buffers = (*self.operands, *self.results)
        guarded = [Guarded(buffer.shape, numpy_dtype(buffer.dtype), at_end) for buffer in buffers]
        for place, value in zip(guarded, values, strict=False):
            place.array[...] = value
        for place in guarded[len(values) :]:
            place.array.view(np.uint8)[...] = 0xFF
        # The handler takes scratch memory that begins a page after the block that the process keeps; the block begins
        # with its size.
        block = Guarded((self.scratch + PAGE,), np.dtype(np.uint8), at_end)
        block.array[...] = 0xFF
        block.array[:8].view(np.int64)[0] = 1 << 40
        kept, machine._kept_block.value = machine._kept_block.value, block.address
        pool = Pool(threads)
        frame, kept_alive = self._frame(guarded, pool)
        error = self.function(frame.ctypes.data)
        pool.join()
        taken, machine._kept_block.value = machine._kept_block.value, kept
        assert error is None, "the kernel refused its buffers"
        assert taken == block.address, "the kernel did not give its scratch memory back"
        assert (block.array[8:PAGE] == 0xFF).all(), "the kernel wrote before its scratch memory"
        for place, value in zip(guarded, values, strict=False):
            assert place.array.tobytes() == np.ascontiguousarray(value).tobytes(), "the kernel changed an operand"
        del kept_alive
        return [place.array.copy() for place in guarded[len(values) :]]

    def _frame(self, guarded: Sequence[Guarded], pool: Pool) -> tuple[np.ndarray, list[np.ndarray]]:
        """The call frame, and all arrays that it points to."""
        frame, kept = _words(), list[np.ndarray]()
        fields = OFFSETS["XLA_FFI_CallFrame"]
        _put(frame, fields["api"], pool.api.ctypes.data)
        places: list[int] = []
        for place, buffer in zip(guarded, (*self.operands, *self.results), strict=True):
            sizes, described = np.array((*buffer.shape, 0), np.int64), _words()
            offsets = OFFSETS["XLA_FFI_Buffer"]
            described.view(np.int32)[offsets["dtype"] // 4] = DATA_TYPES[buffer.dtype]
            for name, number in (("data", place.address), ("rank", len(buffer.shape)), ("dims", sizes.ctypes.data)):
                _put(described, offsets[name], number)
            kept += [sizes, described]
            places.append(described.ctypes.data)
        pointers = np.array(places, np.int64)
        count = len(self.operands)
        for name, structure, first, size in (
            ("args", "XLA_FFI_Args", 0, count),
            ("rets", "XLA_FFI_Rets", count, len(self.results)),
        ):
            start = fields[name]
            _put(frame, start + OFFSETS[structure]["size"], size)
            _put(frame, start + OFFSETS[structure][name], pointers.ctypes.data + 8 * first)
        return frame, [*kept, pointers]
