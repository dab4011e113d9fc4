"""The FMA peak of the cores at hand, to be timed in turns with what is compared to it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def peak_task(dtype: str, cores: int) -> tuple[Callable[[], object], int]:
    """Multiply-adds in the registers of all cores at once, compiled, and how many operations they are."""
    from fastnn.kernels.machine import fma_task

    alone, operations = fma_task(np.dtype(dtype))
    alone()
    if cores == 1:
        return alone, operations
    pool = ThreadPoolExecutor(cores)

    def together() -> None:
        for done in [pool.submit(alone) for _ in range(cores)]:
            done.result()

    return together, cores * operations
