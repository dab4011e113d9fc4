"""By which product each linear op computes: with multiply-adds, or on the matrix unit where its shapes gain by that.

What decides is the shape of the whole product, so every thread, and every batch of an epoch, does the same. A product
that gains is so large that its network never trains side by side with others, see ``lanes_pay``.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from ...codes import INPUTS, KIND, LINEAR, OUTPUTS, SUMS
from ..compiler.cpu import ISA
from ..gemm.product import PRODUCT
from ..gemm.tile import BLOCK
from ..matrix_unit import gains, unit_product
from .layers import BACKWARD_AT, FORWARD_AT, GATHER, GATHER_AT, GRADIENT_AT, UNIT_OF_BATCH, UNIT_OF_WEIGHT, addressed


class Products(NamedTuple):
    """The ops with all addresses and units, and whether any of their products is computed on the matrix unit."""

    ops: np.ndarray
    on_unit: bool


@functools.lru_cache(maxsize=64)
def with_products(
    shape: bytes, names: tuple[str, ...], dtype: np.dtype, training: bool, batch: int, level: str
) -> Products:
    """The ops, given as bytes, with the addresses of their functions in this process behind them.

    ``batch`` rows go through at a time, and ``level`` is the precision on the matrix unit, nothing for none. Rows of
    the batch, and of each weight, go to threads in multiples of a unit.
    """
    ops = np.hstack([addressed(shape, names, dtype, training), np.zeros((len(names), 3), np.int64)])
    ops[:, GATHER_AT] = GATHER.address(dtype)
    usual = PRODUCT.address(dtype)
    unit = usual_unit = ISA.rows(dtype.itemsize)
    for op in ops:
        op[UNIT_OF_WEIGHT] = usual_unit
        if op[KIND] != LINEAR:
            continue
        n_in, n_out = int(op[INPUTS]), int(op[OUTPUTS])
        shapes = {
            FORWARD_AT: (batch, n_out, n_in),
            BACKWARD_AT: (batch, n_in, n_out),
            GRADIENT_AT: (n_in, n_out, batch),
        }
        fast = {column for column, sizes in shapes.items() if gains(level, *sizes)}
        for column in shapes:
            op[column] = unit_product(level) if column in fast else usual
        if GRADIENT_AT in fast:
            op[UNIT_OF_WEIGHT] = BLOCK
        if fast - {GRADIENT_AT}:
            unit = BLOCK
    # What is summed over the batch is summed up in blocks of as many rows as a tile has.
    ops[:, UNIT_OF_BATCH] = math.lcm(unit, usual_unit) if ops[:, SUMS].any() else unit
    return Products(ops, bool((ops[:, UNIT_OF_WEIGHT] == BLOCK).any()) or unit == BLOCK)
