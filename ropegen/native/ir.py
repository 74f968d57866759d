"""A typed writer of LLVM IR: values that know their types, loops, conditions, vectors, and folding of constants.

A `Module` holds functions, and a `Function` writes its instructions in the order of the Python calls. A `Value` is a
constant or the result of an instruction. Its operators write instructions, and two values of an operator have one type;
a Python number takes the type of the other operand. Integers are used as signed numbers in comparisons, and as unsigned
numbers in `//`, `%` and `>>`.
"""

from __future__ import annotations

import ctypes
import itertools
import operator
import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from ropegen.errors import RopegenError

Kind = Literal["int", "float", "bfloat", "pointer"]
_FLOATS = {16: "half", 32: "float", 64: "double"}


@dataclass(frozen=True, slots=True)
class Type:
    """An LLVM type: a scalar, or a vector of `lanes` scalars."""

    kind: Kind
    bits: int
    lanes: int = 0
    """0 for a scalar."""

    @property
    def element(self) -> Type:
        return replace(self, lanes=0)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.bits // 8 * max(1, self.lanes)

    @property
    def is_float(self) -> bool:
        return self.kind in ("float", "bfloat")

    def vector(self, lanes: int) -> Type:
        return replace(self, lanes=lanes)

    def __str__(self) -> str:
        match self.kind:
            case "int":
                text = f"i{self.bits}"
            case "float":
                text = _FLOATS[self.bits]
            case "bfloat":
                text = "bfloat"
            case "pointer":
                text = "ptr"
        return f"<{self.lanes} x {text}>" if self.lanes else text


I1, I8, I16, I32, I64 = (Type("int", bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = (Type("float", bits) for bits in (16, 32, 64))
BF16 = Type("bfloat", 16)
POINTER = Type("pointer", 64)

Number: TypeAlias = "Value | int | float"


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A constant, a parameter, or the result of an instruction."""

    function: Function
    type: Type
    text: str
    constant: int | float | None = None
    """The number, if it is known; every lane of a vector has it."""

    def __add__(self, other: Number) -> Value:
        return self.function.binary("add", self, other)

    def __radd__(self, other: Number) -> Value:
        return self.function.binary("add", self, other)

    def __sub__(self, other: Number) -> Value:
        return self.function.binary("sub", self, other)

    def __rsub__(self, other: Number) -> Value:
        return self.function.binary("sub", self._like(other), self)

    def __mul__(self, other: Number) -> Value:
        return self.function.binary("mul", self, other)

    def __rmul__(self, other: Number) -> Value:
        return self.function.binary("mul", self, other)

    def __truediv__(self, other: Number) -> Value:
        return self.function.binary("div", self, other)

    def __floordiv__(self, other: Number) -> Value:
        return self.function.binary("udiv", self, other)

    def __mod__(self, other: Number) -> Value:
        return self.function.binary("urem", self, other)

    def __and__(self, other: Number) -> Value:
        return self.function.binary("and", self, other)

    def __or__(self, other: Number) -> Value:
        return self.function.binary("or", self, other)

    def __xor__(self, other: Number) -> Value:
        return self.function.binary("xor", self, other)

    def __lshift__(self, other: Number) -> Value:
        return self.function.binary("shl", self, other)

    def __rshift__(self, other: Number) -> Value:
        return self.function.binary("lshr", self, other)

    def __neg__(self) -> Value:
        if self.type.is_float:
            return self.function.instruction(self.type, f"fneg {self.type} {self.text}")
        return self._like(0) - self

    def __invert__(self) -> Value:
        return self ^ -1

    def __lt__(self, other: Number) -> Value:
        return self.function.compare("<", self, other)

    def __le__(self, other: Number) -> Value:
        return self.function.compare("<=", self, other)

    def __gt__(self, other: Number) -> Value:
        return self.function.compare(">", self, other)

    def __ge__(self, other: Number) -> Value:
        return self.function.compare(">=", self, other)

    def equals(self, other: Number) -> Value:
        return self.function.compare("==", self, other)

    def differs(self, other: Number) -> Value:
        """Whether the two differ; true if one is NaN."""
        return self.function.compare("!=", self, other)

    def __bool__(self) -> bool:
        raise TypeError(f"the value {self.text} is computed at run time; use `when`, `branch` or `select`")

    def _like(self, number: Number) -> Value:
        return self.function.value(self.type, number)


_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "udiv": lambda a, b: a // b,
    "urem": lambda a, b: a % b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
# The right operands that change nothing, and the operations whose operands may change places.
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "udiv": 1, "shl": 0, "lshr": 0, "or": 0, "xor": 0}
_SYMMETRIC = ("add", "mul", "and", "or", "xor")
# LLVM's names of comparisons: signed integers, and floats that are ordered; only != is true for NaN.
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_FOLD_COMPARISON: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def _is_known(*values: Value) -> bool:
    return all(isinstance(value.constant, int) and value.type.kind == "int" for value in values)


def float_text(number: float) -> str:
    """A float32 or float64 constant as LLVM writes it: the bits of the number in float64."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def rounded_to_f32(number: float) -> float:
    """The nearest float32; infinity for a number beyond its range."""
    return ctypes.c_float(number).value


def _wrapped(number: int, bits: int) -> int:
    """The signed integer of some bits that is equal to the number modulo 2**bits."""
    number %= 1 << bits
    return number - (1 << bits) if number >> (bits - 1) else number


Body: TypeAlias = Callable[..., "Sequence[Value] | None"]


class Function:
    """A function whose body is being written; `parameters` are its parameters by name."""

    def __init__(
        self, module: Module, name: str, returns: Type | None, parameters: Sequence[tuple[str, Type]], attributes: str
    ) -> None:
        self.module, self.name, self.returns, self.attributes = module, name, returns, attributes
        self.parameters = {label: Value(self, kind, f"%{label}") for label, kind in parameters}
        self._lines: list[str] = []
        self._count = itertools.count()
        self._block = "entry"

    def __str__(self) -> str:
        parameters = ", ".join(f"{value.type} {value.text}" for value in self.parameters.values())
        head = f"define {self.returns or 'void'} @{self.name}({parameters}) {self.attributes} {{"
        return "\n".join([head, "entry:", *self._lines, "}"])

    @property
    def address(self) -> Value:
        """The function as a pointer; a user is of the same module."""
        return Value(self, POINTER, f"@{self.name}")

    # Instructions -----------------------------------------------------------------------------------------------------

    def write(self, instruction: str) -> None:
        """Adds an instruction without a result."""
        self._lines.append(f"  {instruction}")

    def instruction(self, kind: Type, text: str) -> Value:
        """Adds an instruction with a result of a type."""
        name = f"%v{next(self._count)}"
        self.write(f"{name} = {text}")
        return Value(self, kind, name)

    def value(self, kind: Type, number: Number) -> Value:
        """The number as a constant of a type; a value is returned as it is.

        Raises:
          RopegenError: the value has another type.
        """
        if isinstance(number, Value):
            if number.type != kind:
                raise RopegenError(f"{self.name}: {number.text} is {number.type}; {kind} is needed")
            return number
        if kind.is_float:
            number = rounded_to_f32(number) if kind.bits == 32 else float(number)
            text = float_text(number)
        elif kind == POINTER:
            text = "null"
        elif kind.bits == 1:
            number = bool(int(number) & 1)
            text = str(number).lower()
        else:
            number = _wrapped(int(number), kind.bits)
            text = str(number)
        return Value(self, kind, f"splat ({kind.element} {text})" if kind.lanes else text, number)

    def i64(self, number: Number) -> Value:
        return self.value(I64, number)

    def zero(self, kind: Type) -> Value:
        return self.value(kind, 0)

    def lanes(self, kind: Type, numbers: Sequence[int | float]) -> Value:
        """A constant vector with these numbers."""
        single = kind.element
        return Value(self, kind, f"<{', '.join(f'{single} {self.value(single, number).text}' for number in numbers)}>")

    def binary(self, operation: str, left: Value, right: Number) -> Value:
        kind = left.type
        right = self.value(kind, right)
        if operation in _SYMMETRIC and left.constant is not None:
            left, right = right, left
        if operation in _FOLD and _is_known(left, right):
            first, second = (int(value.constant or 0) % (1 << kind.bits) for value in (left, right))
            return self.value(kind, _FOLD[operation](first, second))
        if kind.kind == "int" and right.constant is not None:
            if _NEUTRAL.get(operation) == right.constant:
                return left
            ones = -1 if kind.bits > 1 else True
            if operation == "and" and right.constant == ones:
                return left
            if {"mul": 0, "and": 0, "or": ones}.get(operation) == right.constant:
                return right
        name = f"f{operation}" if kind.is_float else operation
        return self.instruction(kind, f"{name} {kind} {left.text}, {right.text}")

    def compare(self, sign: str, left: Value, right: Number) -> Value:
        kind = left.type
        right = self.value(kind, right)
        word = _COMPARISONS[sign]
        result = I1.vector(kind.lanes)
        if _is_known(left, right):
            return self.value(result, _FOLD_COMPARISON[sign](int(left.constant or 0), int(right.constant or 0)))
        if kind.is_float:
            return self.instruction(
                result, f"fcmp {'u' if sign == '!=' else 'o'}{word} {kind} {left.text}, {right.text}"
            )
        signed = "" if sign in ("==", "!=") else "s"
        return self.instruction(result, f"icmp {signed}{word} {kind} {left.text}, {right.text}")

    def select(self, condition: Value, chosen: Value, otherwise: Number) -> Value:
        """`chosen` where the condition is true; the condition is one for all lanes, or one for every lane."""
        otherwise = self.value(chosen.type, otherwise)
        if condition.constant is not None:
            return chosen if condition.constant else otherwise
        return self.instruction(
            chosen.type,
            f"select {condition.type} {condition.text}, {chosen.type} {chosen.text}, {chosen.type} {otherwise.text}",
        )

    def minimum(self, left: Value, right: Number) -> Value:
        """The smaller; for floats, the right one if one is NaN."""
        right = self.value(left.type, right)
        if _is_known(left, right):
            return left if int(left.constant or 0) <= int(right.constant or 0) else right
        return self.select(left < right, left, right)

    def maximum(self, left: Value, right: Number) -> Value:
        """The larger; for floats, the right one if one is NaN."""
        right = self.value(left.type, right)
        if _is_known(left, right):
            return left if int(left.constant or 0) >= int(right.constant or 0) else right
        return self.select(left > right, left, right)

    def call(self, name: str, returns: Type | None, *operands: Value) -> Value:
        """A call of a function of the module, or of an external function or intrinsic, which is declared."""
        types = ", ".join(str(operand.type) for operand in operands)
        self.module.declare(name, f"declare {returns or 'void'} @{name}({types})")
        return self.call_pointer(f"@{name}", returns, *operands)

    def call_pointer(self, pointer: Value | str, returns: Type | None, *operands: Value) -> Value:
        text = pointer if isinstance(pointer, str) else pointer.text
        given = ", ".join(f"{operand.type} {operand.text}" for operand in operands)
        if returns is None:
            self.write(f"call void {text}({given})")
            return self.value(I1, 0)
        return self.instruction(returns, f"call {returns} {text}({given})")

    def fma(self, left: Value, right: Value, addend: Value) -> Value:
        """Left * right + addend with one rounding."""
        return self.call(f"llvm.fma.{_suffix(left.type)}", left.type, left, right, addend)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """An elementwise LLVM intrinsic over operands of one type, such as `sqrt`."""
        return self.call(f"llvm.{name}.{_suffix(operands[0].type)}", operands[0].type, *operands)

    def convert(self, value: Value, kind: Type, *, signed: bool = True) -> Value:
        """The value as another type with the same number of lanes: numbers are rounded, integers cut or extended."""
        source = value.type
        if source == kind:
            return value
        if value.constant is not None:
            unsigned = not signed and not source.is_float
            return self.value(kind, value.constant % (1 << source.bits) if unsigned else value.constant)
        if source.is_float and kind.is_float:
            name = "fpext" if kind.bits > source.bits else "fptrunc"
        elif source.is_float:
            name = "fptosi"
        elif kind.is_float:
            name = "sitofp" if signed and source.bits > 1 else "uitofp"
        elif kind.bits < source.bits:
            name = "trunc"
        else:
            name = "sext" if signed and source.bits > 1 else "zext"
        return self.instruction(kind, f"{name} {source} {value.text} to {kind}")

    def truncate(self, value: Value, kind: Type) -> Value:
        """Floats as integers, rounded towards zero; the nearest integer of the type if it has none, and 0 for NaN."""
        return self.call(f"llvm.fptosi.sat.{_suffix(kind)}.{_suffix(value.type)}", kind, value)

    def bitcast(self, value: Value, kind: Type) -> Value:
        """The same bits as another type of the same size."""
        return self.instruction(kind, f"bitcast {value.type} {value.text} to {kind}")

    # Vectors ----------------------------------------------------------------------------------------------------------

    def splat(self, value: Value, lanes: int) -> Value:
        """A vector with the scalar in every lane."""
        kind = value.type.vector(lanes)
        if value.constant is not None:
            return self.value(kind, value.constant)
        first = self.instruction(kind, f"insertelement {kind} poison, {value.type} {value.text}, i64 0")
        return self.shuffle(first, first, [0] * lanes)

    def shuffle(self, left: Value, right: Value, indices: Sequence[int]) -> Value:
        """The lanes of `left`, then of `right`, that the indices name."""
        kind = left.type.element.vector(len(indices))
        picked = ", ".join(f"i32 {index}" for index in indices)
        return self.instruction(
            kind,
            f"shufflevector {left.type} {left.text}, {right.type} {right.text}, <{len(indices)} x i32> <{picked}>",
        )

    def extract(self, vector: Value, lane: int) -> Value:
        return self.instruction(vector.type.element, f"extractelement {vector.type} {vector.text}, i64 {lane}")

    def insert(self, vector: Value, scalar: Value, lane: int) -> Value:
        return self.instruction(
            vector.type, f"insertelement {vector.type} {vector.text}, {scalar.type} {scalar.text}, i64 {lane}"
        )

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """The columns of a square of vectors, in log2(lanes) rounds that exchange blocks."""
        lanes, rows, half = rows[0].type.lanes, list(rows), 1
        while half < lanes:
            for row in range(lanes):
                if row & half:
                    continue
                first, second = rows[row], rows[row | half]
                low = [lane if not lane & half else (lane ^ half) + lanes for lane in range(lanes)]
                high = [lane | half if not lane & half else lane + lanes for lane in range(lanes)]
                rows[row], rows[row | half] = self.shuffle(first, second, low), self.shuffle(first, second, high)
            half *= 2
        return rows

    def reduce(self, operation: str, vector: Value) -> Value:
        """All lanes combined by `add` (in a fixed order), `maximum` or `minimum`, in log2(lanes) steps."""
        lanes = vector.type.lanes
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(vector, vector, range(lanes))
            high = self.shuffle(vector, vector, range(lanes, 2 * lanes))
            vector = low + high if operation == "add" else getattr(self, operation)(low, high)
        return self.extract(vector, 0)

    # Memory -----------------------------------------------------------------------------------------------------------

    def offset(self, pointer: Value, index: Number, kind: Type = I8) -> Value:
        """The pointer, moved by a number of elements of the type."""
        index = self.i64(index)
        if index.constant == 0:
            return pointer
        return self.instruction(POINTER, f"getelementptr inbounds {kind.element}, ptr {pointer.text}, i64 {index.text}")

    def load(self, kind: Type, pointer: Value, index: Number = 0, *, align: int = 0) -> Value:
        """A scalar or vector that begins `index` elements after the pointer; `align` defaults to that of an element."""
        at = self.offset(pointer, index, kind)
        return self.instruction(kind, f"load {kind}, ptr {at.text}, align {align or kind.element.size}")

    def store(self, value: Value, pointer: Value, index: Number = 0, *, align: int = 0, streams: bool = False) -> None:
        """Stores a value. With `streams` it bypasses the caches, the place is a multiple of the value's size, and the
        function ends with a `fence`.
        """
        at, kind = self.offset(pointer, index, value.type), value.type
        align = kind.size if streams else align or kind.element.size
        bypass = f", !nontemporal {self.module.metadata('!{i32 1}')}" if streams else ""
        self.write(f"store {kind} {value.text}, ptr {at.text}, align {align}{bypass}")

    def fence(self) -> None:
        """Makes all stores before it, those that bypass the caches too, visible before what follows."""
        self.write("fence seq_cst")

    def integer(self, pointer: Value) -> Value:
        """The address as an i64."""
        return self.instruction(I64, f"ptrtoint ptr {pointer.text} to i64")

    def load_masked(self, kind: Type, pointer: Value, index: Number, shown: Value) -> Value:
        """A vector of the lanes that `shown` has; the others are 0, and their memory is not read."""
        at, name = self.offset(pointer, index, kind), f"llvm.masked.load.{_suffix(kind)}.p0"
        self.module.declare(name, f"declare {kind} @{name}(ptr, {shown.type}, {kind})")
        zero = self.zero(kind).text
        return self.instruction(
            kind,
            f"call {kind} @{name}(ptr align {kind.element.size} {at.text}, {shown.type} {shown.text}, {kind} {zero})",
        )

    def store_masked(self, value: Value, pointer: Value, index: Number, shown: Value) -> None:
        """Stores the lanes that `shown` has, and leaves the memory of the others."""
        kind = value.type
        named = shown.text.strip("<>").split(", ")
        if named.count("i1 true") == 1 and len(named) == kind.lanes:
            # With AVX-512, LLVM 22 would store the whole 32 bits of such a lane if its 16 bits were cut from them.
            lane = named.index("i1 true")
            self.store(self.extract(value, lane), self.offset(pointer, index, kind), lane)
            return
        at, name = self.offset(pointer, index, kind), f"llvm.masked.store.{_suffix(kind)}.p0"
        self.module.declare(name, f"declare void @{name}({kind}, ptr, {shown.type})")
        self.write(
            f"call void @{name}({kind} {value.text}, ptr align {kind.element.size} {at.text}, {shown.type} {shown.text})"
        )

    def gather(self, kind: Type, pointer: Value, indices: Value) -> Value:
        """A vector of the elements that lie at these indices (a vector of i32) after the pointer."""
        pointers, every = POINTER.vector(kind.lanes), self.value(I1.vector(kind.lanes), 1)
        at = self.instruction(
            pointers, f"getelementptr inbounds {kind.element}, ptr {pointer.text}, {indices.type} {indices.text}"
        )
        name = f"llvm.masked.gather.{_suffix(kind)}.{_suffix(pointers)}"
        self.module.declare(name, f"declare {kind} @{name}({pointers}, {every.type}, {kind})")
        given = f"{pointers} align {kind.element.size} {at.text}, {every.type} {every.text}, {kind} poison"
        return self.instruction(kind, f"call {kind} @{name}({given})")

    def array(self, kind: Type, count: int, align: int = 64) -> Value:
        """Memory of the running call for `count` elements. Write it at the start of a function, outside of loops."""
        return self.instruction(POINTER, f"alloca [{count} x {kind}], align {align}")

    def atomic_add(self, pointer: Value, number: Number, order: str = "monotonic") -> Value:
        """Adds to an i64 in memory, and returns what was there before."""
        return self.instruction(I64, f"atomicrmw add ptr {pointer.text}, i64 {self.i64(number).text} {order}")

    def atomic_load(self, pointer: Value) -> Value:
        """An i64 in memory; what its writer wrote before is visible afterwards."""
        return self.instruction(I64, f"load atomic i64, ptr {pointer.text} acquire, align 8")

    # Control ----------------------------------------------------------------------------------------------------------

    def label(self) -> str:
        return f"b{next(self._count)}"

    def begin(self, label: str) -> None:
        """Begins the block of a label; the block before must have ended with a jump or a return."""
        self._lines.append(f"{label}:")
        self._block = label

    def jump(self, label: str) -> None:
        self.write(f"br label %{label}")

    def jump_if(self, condition: Value, label: str, otherwise: str) -> None:
        self.write(f"br i1 {condition.text}, label %{label}, label %{otherwise}")

    def give_back(self, value: Value | None = None) -> None:
        """Returns from the function."""
        self.write("ret void" if value is None else f"ret {value.type} {value.text}")

    def _phi(self, kind: Type, sources: Sequence[tuple[Value, str]]) -> Value:
        listed = ", ".join(f"[{value.text}, %{label}]" for value, label in sources)
        return self.instruction(kind, f"phi {kind} {listed}")

    def loop(self, start: Number, stop: Number, step: int, body: Body, carried: Sequence[Value] = ()) -> list[Value]:
        """For i in range(start, stop, step): carried = body(i, *carried). Returns what the last round carried out."""
        start, stop = self.i64(start), self.i64(stop)
        if _is_known(start, stop) and int(start.constant or 0) >= int(stop.constant or 0):
            return list(carried)
        head, after, before = self.label(), self.label(), self._block
        runs_once = _is_known(start, stop)
        if runs_once:
            self.jump(head)
        else:
            self.jump_if(start < stop, head, after)
        self.begin(head)
        place = len(self._lines)
        index = Value(self, I64, f"%v{next(self._count)}")
        inside = [Value(self, value.type, f"%v{next(self._count)}") for value in carried]
        new = list(body(index, *inside) or ())
        if [value.type for value in new] != [value.type for value in carried]:
            raise RopegenError(f"{self.name}: a loop carries {len(carried)} values, and its body returns other ones")
        last, following = self._block, self.instruction(I64, f"add i64 {index.text}, {step}")
        self.jump_if(following < stop, head, after)
        rows = [f"  {index.text} = phi i64 [{start.text}, %{before}], [{following.text}, %{last}]"]
        for value, first, again in zip(inside, carried, new, strict=True):
            rows.append(f"  {value.text} = phi {value.type} [{first.text}, %{before}], [{again.text}, %{last}]")
        self._lines[place:place] = rows
        self.begin(after)
        if runs_once:
            return new
        return [
            self._phi(first.type, [(first, before), (again, last)]) for first, again in zip(carried, new, strict=True)
        ]

    @contextmanager
    def range(self, start: Number, stop: Number, step: int = 1) -> Generator[Value]:
        """`with f.range(0, n) as i:` runs its block for every i; nothing is carried from one round to the next."""
        start, stop = self.i64(start), self.i64(stop)
        head, inside, after, before = self.label(), self.label(), self.label(), self._block
        self.jump(head)
        self.begin(head)
        place = len(self._lines)
        index = Value(self, I64, f"%v{next(self._count)}")
        self.jump_if(index < stop, inside, after)
        self.begin(inside)
        yield index
        following = index + step
        last = self._block
        self._lines.insert(place, f"  {index.text} = phi i64 [{start.text}, %{before}], [{following.text}, %{last}]")
        self.jump(head)
        self.begin(after)

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """`with f.when(condition):` runs its block if the condition is true."""
        inside, after = self.label(), self.label()
        self.jump_if(condition, inside, after)
        self.begin(inside)
        yield
        self.jump(after)
        self.begin(after)

    def branch(self, condition: Value, then: Body, otherwise: Body) -> list[Value]:
        """The values that `then()` returns if the condition is true, and those of `otherwise()` if not."""
        yes, no, after = self.label(), self.label(), self.label()
        self.jump_if(condition, yes, no)
        self.begin(yes)
        first, first_end = list(then() or ()), self._block
        self.jump(after)
        self.begin(no)
        second, second_end = list(otherwise() or ()), self._block
        self.jump(after)
        self.begin(after)
        return [
            self._phi(left.type, [(left, first_end), (right, second_end)])
            for left, right in zip(first, second, strict=True)
        ]


def _suffix(kind: Type) -> str:
    """The suffix of an overloaded intrinsic, such as v8f32."""
    name = {"int": f"i{kind.bits}", "float": f"f{kind.bits}", "bfloat": f"bf{kind.bits}", "pointer": "p0"}[kind.kind]
    return f"v{kind.lanes}{name}" if kind.lanes else name


@dataclass
class Module:
    """A unit of compilation: functions, constants, and the external functions that they call."""

    functions: list[Function] = field(default_factory=list[Function])
    _declared: dict[str, str] = field(default_factory=dict[str, str])
    _constants: dict[str, str] = field(default_factory=dict[str, str])
    """The names of constants by their text."""
    _metadata: list[str] = field(default_factory=list[str])

    def function(
        self,
        name: str,
        returns: Type | None,
        parameters: Sequence[tuple[str, Type]],
        attributes: str = "nounwind",
    ) -> Function:
        self.functions.append(Function(self, name, returns, parameters, attributes))
        return self.functions[-1]

    def declare(self, name: str, declaration: str) -> None:
        self._declared.setdefault(name, declaration)

    def external(self, name: str) -> str:
        """A variable of 8 bytes outside of the module; returns its name, which can stand for a pointer."""
        self.declare(name, f"@{name} = external global i64, align 8")
        return f"@{name}"

    def text_constant(self, text: str) -> str:
        """A text that ends with a zero byte; returns its name, which can stand for a pointer."""
        data = text.encode()
        escaped = "".join(f"\\{byte:02x}" for byte in (*data, 0))
        return self._constant("text", f'[{len(data) + 1} x i8] c"{escaped}"')

    def table(self, kind: Type, numbers: Sequence[int | float]) -> str:
        """A constant array; returns its name, which can stand for a pointer."""

        def written(number: int | float) -> str:
            return (
                float_text(rounded_to_f32(number) if kind.bits == 32 else number) if kind.is_float else str(int(number))
            )

        listed = ", ".join(f"{kind} {written(number)}" for number in numbers)
        return self._constant("table", f"[{len(numbers)} x {kind}] [{listed}], align 64")

    def _constant(self, title: str, text: str) -> str:
        """The name of a constant; equal constants have one name."""
        return self._constants.setdefault(f"private constant {text}", f"@{title}{len(self._constants)}")

    def metadata(self, text: str) -> str:
        """The name of a metadata node."""
        if text not in self._metadata:
            self._metadata.append(text)
        return f"!{self._metadata.index(text)}"

    def __str__(self) -> str:
        """The module in LLVM's text form."""
        defined = {function.name for function in self.functions}
        declarations = [text for name, text in self._declared.items() if name not in defined]
        constants = [f"{name} = {text}" for text, name in self._constants.items()]
        metadata = [f"!{index} = {text}" for index, text in enumerate(self._metadata)]
        return "\n".join([*constants, *declarations, *map(str, self.functions), *metadata, ""])
