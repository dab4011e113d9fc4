"""Functions in LLVM's language written straight down as text: llvmlite keeps an object for each word of it.

A ``Writer`` has those methods of llvmlite's builder that the tiles of products and ``words`` use, and takes its
types, constants, arguments and functions. What it writes becomes the body of one of llvmlite's functions.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from llvmlite import ir

_BOOL = ir.IntType(1)


class _Value:
    """The result of an instruction."""

    def __init__(self, kind: Any, name: str) -> None:
        self.type, self.name = kind, name

    def get_reference(self) -> str:
        """How instructions name it."""
        return self.name


class _Phi(_Value):
    """What stands in a register depends on where control came from."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(kind, name)
        self._incoming: list[str] = []

    def add_incoming(self, value: Any, block: "_Block") -> None:
        """Take the value when control comes from the block."""
        self._incoming.append(f"[{value.get_reference()}, %{block.name}]")

    def __str__(self) -> str:
        return f"{self.name} = phi {self.type} {', '.join(self._incoming)}"


class _Switch:
    """A jump to the block of a number."""

    def __init__(self, value: Any, other: "_Block") -> None:
        self._start, self._cases = f"switch {value.type} {value.get_reference()}, label %{other.name} [", ""

    def add_case(self, number: Any, block: "_Block") -> None:
        """Go to the block for the number, a constant."""
        self._cases += f" {number.type} {number.get_reference()}, label %{block.name}"

    def __str__(self) -> str:
        return f"{self._start}{self._cases} ]"


class _Block:
    """A basic block, as llvmlite's functions have them."""

    def __init__(self, name: str) -> None:
        self.name, self.lines = name, []  # type: str, list[Any]

    def descr(self, buffer: list[str]) -> None:
        """Add the block to the text of its function."""
        buffer.append(f"{self.name}:\n")
        buffer.extend(f"  {line}\n" for line in self.lines)


class Writer:
    """Writes the body of a function of llvmlite that has none yet."""

    def __init__(self, function: Any) -> None:
        self.function, self.module, self._count = function, function.module, 0
        self._names: dict[int, tuple[Any, str]] = {}
        self.block = self.append_basic_block("entry")

    def append_basic_block(self, name: str) -> _Block:
        """A new block at the end of the function."""
        block = _Block(f"{name}{len(self.function.blocks)}")
        self.function.blocks.append(block)
        return block

    def position_at_end(self, block: _Block) -> None:
        """Write on in this block."""
        self.block = block

    def _named(self, kind: Any) -> str:
        """The name of a type, which llvmlite would put together each time."""
        known = self._names.get(id(kind))
        if known is None:
            name = "ptr" if isinstance(kind, ir.PointerType) else str(kind)
            known = self._names[id(kind)] = kind, name  # with the type, or another would get its place
        return known[1]

    def _typed(self, value: Any) -> str:
        return f"{self._named(value.type)} {value.get_reference()}"

    def _new(self, kind: Any, text: str) -> _Value:
        self._count += 1
        value = _Value(kind, f"%v{self._count}")
        self.block.lines.append(f"{value.name} = {text}")
        return value

    def _two(self, name: str, kind: Any, a: Any, b: Any) -> _Value:
        return self._new(kind, f"{name} {self._typed(a)}, {b.get_reference()}")

    def add(self, a: Any, b: Any) -> _Value:
        """a + b."""
        return self._two("add", a.type, a, b)

    def sub(self, a: Any, b: Any) -> _Value:
        """a - b."""
        return self._two("sub", a.type, a, b)

    def mul(self, a: Any, b: Any) -> _Value:
        """a b."""
        return self._two("mul", a.type, a, b)

    def fadd(self, a: Any, b: Any) -> _Value:
        """a + b of floats."""
        return self._two("fadd", a.type, a, b)

    def fmul(self, a: Any, b: Any) -> _Value:
        """a b of floats."""
        return self._two("fmul", a.type, a, b)

    def icmp_signed(self, op: str, a: Any, b: Any) -> _Value:
        """How integers compare."""
        name = {"<": "slt", ">": "sgt", "!=": "ne"}[op]
        return self._two(f"icmp {name}", _compared(a.type), a, b)

    def fcmp_ordered(self, op: str, a: Any, b: Any) -> _Value:
        """How floats compare, false for NaN."""
        name = {"<": "olt", "<=": "ole"}[op]
        return self._two(f"fcmp {name}", _compared(a.type), a, b)

    def fcmp_unordered(self, op: str, a: Any, b: Any) -> _Value:
        """How floats compare, true for NaN."""
        name = {"!=": "une", "uno": "uno"}[op]
        return self._two(f"fcmp {name}", _compared(a.type), a, b)

    def select(self, condition: Any, a: Any, b: Any) -> _Value:
        """A where the condition holds, else b."""
        return self._new(a.type, f"select {self._typed(condition)}, {self._typed(a)}, {self._typed(b)}")

    def bitcast(self, pointer: Any, kind: Any) -> _Value:
        """The same pointer, to another type: to LLVM all are one."""
        return _Value(kind, pointer.get_reference())

    def gep(self, pointer: Any, indices: list[Any]) -> _Value:
        """The pointer so many elements further."""
        (index,) = indices
        element = self._named(pointer.type.pointee)
        return self._new(pointer.type, f"getelementptr {element}, ptr {pointer.get_reference()}, {self._typed(index)}")

    def load(self, pointer: Any, align: int | None = None) -> _Value:
        """What the pointer points to."""
        kind = pointer.type.pointee
        return self._new(kind, f"load {self._named(kind)}, ptr {pointer.get_reference()}{_aligned(align)}")

    def store(self, value: Any, pointer: Any, align: int | None = None) -> None:
        """Write a value where the pointer points to."""
        self.block.lines.append(f"store {self._typed(value)}, ptr {pointer.get_reference()}{_aligned(align)}")

    def insert_element(self, vector: Any, value: Any, index: Any) -> _Value:
        """The vector with one element changed."""
        return self._new(
            vector.type, f"insertelement {self._typed(vector)}, {self._typed(value)}, {self._typed(index)}"
        )

    def extract_element(self, vector: Any, index: Any) -> _Value:
        """One element of a vector."""
        return self._new(vector.type.element, f"extractelement {self._typed(vector)}, {self._typed(index)}")

    def shuffle_vector(self, a: Any, b: Any, mask: Any) -> _Value:
        """The elements of two vectors that a mask chooses."""
        kind = ir.VectorType(a.type.element, mask.type.count)
        return self._new(kind, f"shufflevector {self._typed(a)}, {self._typed(b)}, {self._typed(mask)}")

    def call(self, function: Any, args: list[Any]) -> _Value | None:
        """What a function gives."""
        kind = function.function_type.return_type
        text = f"call {kind} {function.get_reference()}({', '.join(map(self._typed, args))})"
        if isinstance(kind, ir.VoidType):
            self.block.lines.append(text)
            return None
        return self._new(kind, text)

    def opaque(self, value: Any) -> _Value:
        """The same value, of which LLVM shall not find out how it came about."""
        kind = self._named(value.type)
        return self._new(value.type, f'call {kind} asm "", "=r,0"({kind} {value.get_reference()})')

    def phi(self, kind: Any) -> _Phi:
        """A value for each way here."""
        self._count += 1
        phi = _Phi(kind, f"%v{self._count}")
        self.block.lines.append(phi)
        return phi

    def branch(self, block: _Block) -> None:
        """Go to a block."""
        self.block.lines.append(f"br label %{block.name}")

    def cbranch(self, condition: Any, yes: _Block, no: _Block) -> None:
        """Go to one of two blocks."""
        self.block.lines.append(f"br {self._typed(condition)}, label %{yes.name}, label %{no.name}")

    def switch(self, value: Any, other: _Block) -> _Switch:
        """Go to the block of a number, or another."""
        switch = _Switch(value, other)
        self.block.lines.append(switch)
        return switch

    @contextlib.contextmanager
    def if_then(self, condition: Any) -> Iterator[None]:
        """Write what is done only where the condition holds."""
        yes, behind = self.append_basic_block("if"), self.append_basic_block("behind")
        self.cbranch(condition, yes, behind)
        self.position_at_end(yes)
        yield
        self.branch(behind)
        self.position_at_end(behind)

    def ret_void(self) -> None:
        """Return."""
        self.block.lines.append("ret void")


def declared(module: Any, function: Any) -> Any:
    """A function of another module, which is made external, in a module that calls it."""
    function.linkage = "external"
    return module.globals.get(function.name) or ir.Function(module, function.function_type, function.name)


def _compared(kind: Any) -> Any:
    return ir.VectorType(_BOOL, kind.count) if isinstance(kind, ir.VectorType) else _BOOL


def _aligned(align: int | None) -> str:
    return "" if align is None else f", align {align}"
