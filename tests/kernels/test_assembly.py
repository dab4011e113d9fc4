"""The table's tiles stay in the registers of each CPU, whatever LLVM makes of them: see ``assembly``."""

import pytest

from fastnn.kernels.compiler.cpu import TABLE

from .assembly import CPUS, spills, tiles


@pytest.mark.parametrize("cpu", CPUS)
def test_tiles_stay_in_registers(cpu):
    """The tallest tile, and those just below it that the rows of a product are shared among."""
    rows = TABLE[CPUS[cpu][1]].rows
    found = spills(cpu, tiles(cpu, range(rows - 2, rows + 1)))
    assert not {str(tile): lines for tile, lines in found.items() if lines}


@pytest.mark.parametrize("cpu", ["neoverse-n1", "apple-m1", "skylake-avx512"])
def test_a_tile_too_tall_spills(cpu):
    """Three rows more fill the registers with sums alone; so the test above would notice."""
    rows = TABLE[CPUS[cpu][1]].rows
    assert all(spills(cpu, tiles(cpu, [rows + 3])).values())
