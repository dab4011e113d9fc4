"""The machine code of register tiles for CPUs that need not be at hand, and what its inner loop does on the stack.

    python -m tests.kernels.assembly [cpu ...]

prints how many vectors the loop of each tile of the table stores to the stack or loads from it. LLVM builds for every
architecture wherever it runs, where Numba builds for this machine alone; what tiles are made of is not optimised.
"""

import re
import sys
from typing import Any, NamedTuple
from unittest.mock import patch

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from fastnn.kernels.compiler.cpu import TABLE
from fastnn.kernels.gemm.tile import _Emitter
from fastnn.kernels.simd import vector as vectors_of_this_cpu

X86, ARM, APPLE = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"
# CPUs by LLVM's names, and the row of the table that each takes.
CPUS = {
    "neoverse-n1": (ARM, "neon"),
    "neoverse-v1": (ARM, "neon"),
    "cortex-a72": (ARM, "neon"),
    "apple-m1": (APPLE, "neon"),
    "generic": (X86, "sse2"),
    "haswell": (X86, "avx2"),
    "skylake-avx512": (X86, "avx512"),
    "znver4": (X86, "avx512"),
}


class Tile(NamedTuple):
    """A register tile."""

    dtype: Any
    rows: int
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.vectors} of {self.dtype}"


def tiles(cpu, beyond):
    """The tiles of so many rows beyond the most that the table allows, and as wide as it allows."""
    isa = TABLE[CPUS[cpu][1]]
    return [
        Tile(dtype, isa.rows(size) + more, isa.vectors(size))
        for dtype, size in ((types.float32, 4), (types.float64, 8))
        for more in beyond
        if isa.rows(size) + more > 0
    ]


def spills(cpu, wanted):
    """For each tile, the instructions of its inner loops that move a vector register to the stack or back."""
    triple, isa = CPUS[cpu]
    module = ir.Module()
    module.triple = triple
    names = {}
    with patch.object(vectors_of_this_cpu, "ISA", TABLE[isa]):
        for tile in wanted:
            # The masks of ragged tiles are branches on some CPUs, whose loops are lost anyway.
            function = _Emitter(*tile, masked=False).function(module)
            function.linkage = "external"
            names[tile] = function.name
    bodies = _bodies(assembly(module, cpu))
    return {tile: [line for line in _loop(bodies[name]) if _moves_a_spill(line)] for tile, name in names.items()}


def assembly(module, cpu):
    """The assembly of a module as it is, see ``finished_module``, for Numba's own options of the machine."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu=cpu, opt=3, codemodel="jitdefault", jit=True)
    parsed = llvm.parse_assembly(str(module))
    parsed.data_layout = str(machine.target_data)
    return machine.emit_assembly(parsed)


_LABEL = re.compile(r"(\.?LBB\w+):")
_JUMP = re.compile(r"(j\w+|b|b\.\w+|cbn?z|tbn?z)\s.*?(\.?LBB\w+)$")
_VECTOR = re.compile(r"%[xyz]mm\d|\b[qdsv]\d")
_STACK = re.compile(r"\(%rsp|\[sp\b")


def _moves_a_spill(line):
    return bool(_VECTOR.search(line) and _STACK.search(line))


def _bodies(assembly):
    """The lines of each tile's function."""
    bodies, lines = {}, []
    for line in map(str.strip, assembly.splitlines()):
        if start := re.match(r"_?(tile_\w+):", line):
            lines = bodies.setdefault(start[1], [])
        lines.append(line)
    return bodies


def _loop(lines):
    """The instructions from which control can come back to themselves."""
    blocks, labels = [[]], {}
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(blocks)
            blocks.append([])
        else:
            blocks[-1].append(line)
            if _JUMP.match(line):
                blocks.append([])
    ways = [_ways(block, number + 1, labels) for number, block in enumerate(blocks)]
    return [line for number, block in enumerate(blocks) if number in _reached(number, ways) for line in block]


def _ways(block, following, labels):
    """The numbers of the blocks that control can go to from the end of one."""
    last = block[-1] if block else ""
    jump = _JUMP.match(last)
    ways = {labels[jump[2]]} if jump else set()
    ends = last.startswith("ret") or (jump and jump[1] in ("jmp", "b"))
    return ways if ends else ways | {following}


def _reached(start, ways):
    """Every block that control can come to from the end of ``start``."""
    reached, ahead = set(), set(ways[start])
    while ahead:
        block = ahead.pop()
        reached.add(block)
        ahead |= (ways[block] if block < len(ways) else set()) - reached
    return reached


def _print_spills(names):
    for cpu in names or CPUS:
        print(cpu)
        for tile, lines in spills(cpu, tiles(cpu, range(-14, 1))).items():
            print(f"{len(lines):6}  {tile}")


if __name__ == "__main__":
    _print_spills(sys.argv[1:])
