"""The CPU that Numba compiles for, and the one table of vector widths and register tiles.

The tile is ``rows`` times ``vectors`` accumulators; with ``vectors`` vectors of B and one broadcast element of A they
fill the register file: 14 * 2 + 2 + 1 of AVX-512's 32 registers, 6 * 2 + 2 + 1 of AVX2's 16.
"""

import os
from typing import NamedTuple

from numba.core.registry import cpu_target


class Isa(NamedTuple):
    """Vector width and register tile of an instruction set."""

    name: str
    bits: int  # vector width; 0 means one element at a time
    rows: int  # most rows of the register tile
    vectors: int  # most vectors in a row of the register tile
    cheap_masks: bool  # a masked load costs no more than a plain one
    estimates: bool = False  # there is an instruction for about 1 / √x

    def lanes(self, size: int) -> int:
        """How many elements of ``size`` bytes a vector holds."""
        return max(1, self.bits // (8 * size))


TABLE = {
    isa.name: isa
    for isa in (
        Isa("avx512", 512, rows=14, vectors=2, cheap_masks=True, estimates=True),
        Isa("avx2", 256, rows=6, vectors=2, cheap_masks=False),
        Isa("neon", 128, rows=12, vectors=2, cheap_masks=False),
        Isa("sse2", 128, rows=6, vectors=2, cheap_masks=False),
        Isa("scalar", 0, rows=3, vectors=3, cheap_masks=False),
    )
}


def target() -> tuple[str, str, str]:
    """Triple, CPU name and features that Numba compiles for, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES included."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, cpu, features


def detect() -> Isa:
    """The widest row of the table that this CPU has, or the one that FASTNN_SIMD names."""
    forced = os.environ.get("FASTNN_SIMD")
    if forced:
        if forced not in TABLE:
            raise ValueError(f"FASTNN_SIMD is {forced!r}, expected one of {', '.join(TABLE)}")
        return TABLE[forced]
    triple, _, features = target()
    names = set(features.split(","))
    if "+avx512f" in names:
        return TABLE["avx512"]
    if "+avx2" in names:
        return TABLE["avx2"]
    if triple.startswith(("x86_64", "amd64")):
        return TABLE["sse2"]
    if triple.startswith(("aarch64", "arm64")):
        return TABLE["neon"]
    return TABLE["scalar"]


ISA = detect()
