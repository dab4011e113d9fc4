"""The CPU that Numba compiles for, and the one table of vector widths and register tiles.

The tile is ``rows`` times ``vectors`` accumulators; with ``vectors`` vectors of B and one broadcast element of A they
fill the register file: 14 * 2 + 2 + 1 of AVX-512's 32 registers, 6 * 2 + 2 + 1 of AVX2's 16. Networks side by side
need a vector for each element: 6 * 4 + 4 + 1 and 4 * 2 + 2 + 1.
"""

import functools
import os
from typing import NamedTuple

from numba.core.registry import cpu_target

from ...loading import undisturbed


class Isa(NamedTuple):
    """Vector width and register tile of an instruction set."""

    name: str
    machines: tuple[str, ...]  # how the triples begin of the machines that may have it
    feature: str  # and what the CPU must have besides
    bits: int  # vector width; 0 means one element at a time
    tiles: tuple[tuple[int, int], tuple[int, int]]  # most rows and vectors of the register tile, float32 and float64
    lane_rows: int  # most rows and columns of the tile of networks side by side, whose elements are vectors
    lane_cols: int
    cheap_masks: bool  # a masked load costs little more than a plain one
    estimates: bool = False  # there is an instruction for about 1 / √x
    fuses: bool = True  # a multiply-add is rounded once

    def lanes(self, size: int) -> int:
        """How many elements of ``size`` bytes a vector holds."""
        return max(1, self.bits // (8 * size))

    def rows(self, size: int) -> int:
        """The most rows of the register tile of a product."""
        return self.tiles[size == 8][0]

    def vectors(self, size: int) -> int:
        """The most vectors in a row of it."""
        return self.tiles[size == 8][1]


_X86, _ARM, _ANY = ("x86_64", "amd64"), ("aarch64", "arm64"), ("",)

# Tiles as Isa has them. With 32 registers that of float64 has few rows, so that twice as many steps of the inner
# dimension fit an L1 cache of 48 KB, which is what larger products gain by; small ones of float32, in panels of three
# vectors, would lose as much. It is the same with 16 registers of AVX2, where fewer elements of A are loaded as well.
_WIDE, _TWELVE, _SIX, _THREE = ((14, 2), (8, 3)), ((12, 2), (8, 3)), ((6, 2),) * 2, ((3, 3),) * 2
_SIX_AND_FOUR = (6, 2), (4, 3)
# The widest of each kind of machine comes first.
TABLE = {
    isa.name: isa
    for isa in (
        Isa("avx512", _X86, "+avx512f", 512, _WIDE, lane_rows=6, lane_cols=4, cheap_masks=True, estimates=True),
        Isa("avx2", _X86, "+avx2", 256, _SIX_AND_FOUR, lane_rows=4, lane_cols=2, cheap_masks=False),
        Isa("neon", _ARM, "", 128, _TWELVE, lane_rows=6, lane_cols=4, cheap_masks=False),
        Isa("sse2", _X86, "", 128, _SIX, lane_rows=4, lane_cols=2, cheap_masks=False, fuses=False),
        Isa("scalar", _ANY, "", 0, _THREE, lane_rows=3, lane_cols=3, cheap_masks=False, fuses=False),
    )
}


def target() -> tuple[str, str, str]:
    """Triple, CPU name and features that Numba compiles for, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES included."""
    # What LLVM answers is freed twice where an interruption comes between its release and the note of it.
    triple, cpu, features = undisturbed(lambda: cpu_target.target_context.codegen().magic_tuple())
    return triple, cpu, features


def detect() -> Isa:
    """The widest row of the table that this CPU has, or the one that FASTNN_SIMD names.

    A row that the CPU lacks is refused: LLVM would end the process at the first instruction that it cannot emit.
    """
    triple, cpu, features = target()
    has = {"", *features.split(",")}
    rows = {isa.name: isa for isa in TABLE.values() if triple.startswith(isa.machines) and isa.feature in has}
    name = os.environ.get("FASTNN_SIMD") or next(iter(rows))
    if name not in rows:
        raise ValueError(f"FASTNN_SIMD is {name!r}, expected one of {', '.join(rows)} on this CPU, {cpu}")
    return rows[name]


ISA = detect()

# A cache line.
LINE_BYTES = 64
_L2_SIZE = "/sys/devices/system/cpu/cpu0/cache/index2/size"


@functools.cache
def l2_bytes() -> int:
    """The L2 cache of a core, as Linux tells it; 1.25 MiB elsewhere."""
    try:
        with open(_L2_SIZE, encoding="utf-8") as file:
            return 1024 * int(file.read().strip().removesuffix("K"))
    except (OSError, ValueError):
        return 1_310_720


def available_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
