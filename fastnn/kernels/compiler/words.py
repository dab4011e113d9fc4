"""Functions that deal in words of 8 bytes alone, written straight down: numbers, addresses, and what lies there.

Numba types and lowers each instruction, however trivial, which for hundreds of them takes longer than the loops of a
kernel. What is written here LLVM does not optimise, so a word that is needed twice is read once.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir

from .text import Writer

_WORD, _BOOL = ir.IntType(64), ir.IntType(1)


class Word:
    """A number, an address, or whether something holds; Python's operators write instructions."""

    def __init__(self, code: "Words", value: Any) -> None:
        self._code, self.value = code, value

    def _with(self, instruction: str, other: Any, kind: Any = None) -> "Word":
        return self._code.instruction(instruction, self, other, kind or self.value.type)

    def __add__(self, other: Any) -> "Word":
        return self._with("add", other)

    def __sub__(self, other: Any) -> "Word":
        return self._with("sub", other)

    def __mul__(self, other: Any) -> "Word":
        return self._with("mul", other)

    def __and__(self, other: Any) -> "Word":
        return self._with("and", other)

    def __or__(self, other: Any) -> "Word":
        return self._with("or", other)

    def __lshift__(self, other: Any) -> "Word":
        return self._with("shl", other)

    def __rshift__(self, other: Any) -> "Word":
        return self._with("ashr", other)

    def __invert__(self) -> "Word":
        return self._with("xor", -1)

    def __eq__(self, other: Any) -> "Word":  # type: ignore[override]
        return self._with("icmp eq", other, _BOOL)

    def __ne__(self, other: Any) -> "Word":  # type: ignore[override]
        return self._with("icmp ne", other, _BOOL)

    def __lt__(self, other: Any) -> "Word":
        return self._with("icmp slt", other, _BOOL)

    def __gt__(self, other: Any) -> "Word":
        return self._with("icmp sgt", other, _BOOL)


class Words(Writer):
    """Writes one function, of words that gives a word, and calls others: a word where C has a pointer or an int.

    The conventions of all 64-bit systems hand over the three alike.
    """

    def __init__(self, module: Any, name: str, count: int) -> None:
        super().__init__(ir.Function(module, ir.FunctionType(_WORD, [_WORD] * count), name))
        self.arguments = [Word(self, argument) for argument in self.function.args]

    def _value(self, word: Any, kind: Any = _WORD) -> Any:
        return word.value if isinstance(word, Word) else ir.Constant(kind, word)

    def number(self, value: int) -> Word:
        """A constant."""
        return Word(self, self._value(value))

    def instruction(self, name: str, a: Word, b: Any, kind: Any) -> Word:
        """Write down what two words make."""
        return Word(self, self._two(name, kind, a.value, self._value(b, a.value.type)))

    def _place(self, place: Any, i: int) -> Any:
        at = self._value(place + 8 * i if i else place)
        return self._new(_WORD.as_pointer(), f"inttoptr i64 {at.get_reference()} to ptr")

    def read(self, place: Word, i: int = 0) -> Word:
        """Word i from an address on."""
        return Word(self, self.load(self._place(place, i)))

    def write(self, place: Word, i: int, word: Any) -> None:
        """Word i from an address on = word."""
        self.store(self._value(word), self._place(place, i))

    def memory(self, count: int) -> Word:
        """Where so many words can be kept until the function ends; to be asked for first of all."""
        place = self._new(_WORD.as_pointer(), f"alloca [{count} x i64]")
        return Word(self, self._new(_WORD, f"ptrtoint ptr {place.get_reference()} to i64"))

    def run(self, function: Any, *arguments: Any) -> Word:
        """What is given by the function written by another of these, of a name in C, or at an address."""
        if isinstance(function, str):
            kind = ir.FunctionType(_WORD, [_WORD] * len(arguments))
            code = self.module.globals.get(function) or ir.Function(self.module, kind, function)
        elif isinstance(function, Words):
            code = function.function
        else:
            code = self._place(function, 0)
        given = ", ".join(self._typed(self._value(argument)) for argument in arguments)
        return Word(self, self._new(_WORD, f"call i64 {code.get_reference()}({given})"))

    def give(self, word: Any) -> None:
        """Return."""
        self.block.lines.append(f"ret {self._typed(self._value(word))}")

    @contextlib.contextmanager
    def when(self, condition: Word) -> Iterator[None]:
        """Write what is done only where the condition holds, which may be to return."""
        yes, behind = self.append_basic_block("when"), self.append_basic_block("behind")
        self.cbranch(condition.value, yes, behind)
        self.position_at_end(yes)
        yield
        if not (self.block.lines and str(self.block.lines[-1]).startswith("ret ")):
            self.branch(behind)
        self.position_at_end(behind)

    def choose(self, condition: Word, yes: Any, no: Any) -> Word:
        """One word where the condition holds, else another, and neither takes anything to have."""
        return Word(self, self.select(condition.value, self._value(yes), self._value(no)))

    def either(self, condition: Word, yes: Callable[[], Any], no: Callable[[], Any]) -> Word:
        """What is computed where the condition holds, else what is computed there."""
        blocks = [self.append_basic_block("either"), self.append_basic_block("or")]
        behind, found = self.append_basic_block("behind"), []
        self.cbranch(condition.value, *blocks)
        for block, compute in zip(blocks, (yes, no), strict=True):
            self.position_at_end(block)
            found.append((self._value(compute()), self.block))
            self.branch(behind)
        self.position_at_end(behind)
        result = self.phi(_WORD)
        for value, block in found:
            result.add_incoming(value, block)
        return Word(self, result)

    def fold(self, count: Word, start: tuple[Any, ...], step: Callable[..., tuple[Word, ...]]) -> list[Word]:
        """What becomes of some words by ``step``, which takes 0, 1, ... before ``count`` and them."""
        before, loop, body, done = self.block, *map(self.append_basic_block, ("fold", "step", "folded"))
        self.branch(loop)
        self.position_at_end(loop)
        phis = [self.phi(_WORD) for _ in (0, *start)]
        i, *words = (Word(self, phi) for phi in phis)
        self.cbranch((i < count).value, body, done)
        self.position_at_end(body)
        following = (i + 1, *step(i, *words))
        for phi, first, value in zip(phis, (0, *start), following, strict=True):
            phi.add_incoming(self._value(first), before)
            phi.add_incoming(value.value, self.block)
        self.branch(loop)
        self.position_at_end(done)
        return words
