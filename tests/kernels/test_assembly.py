"""The table's tiles stay in the registers of each CPU, whatever LLVM makes of them: see ``assembly``."""

import pytest

from .assembly import CPUS, spills, tiles


@pytest.mark.parametrize("cpu", CPUS)
def test_tiles_stay_in_registers(cpu):
    """The tallest tile, and those just below it that the rows of a product are shared among."""
    found = spills(cpu, tiles(cpu, [-2, -1, 0]))
    assert not {str(tile): lines for tile, lines in found.items() if lines}


@pytest.mark.parametrize("cpu", ["neoverse-n1", "apple-m1", "skylake-avx512"])
def test_a_tile_too_tall_spills(cpu):
    """Three rows more fill the registers with sums alone; so the test above would notice."""
    assert all(spills(cpu, tiles(cpu, [3])).values())
