"""Which products go through the CPU's matrix unit; what it needs is loaded when first used."""

import ctypes
import functools
import importlib
import threading
from typing import Any

import numpy as np

from ..loading import undisturbed
from ..precision import get_matmul_precision
from .compiler.amx import has_amx
from .gemm.product import workspace
from .gemm.shares import Shares, shares
from .gemm.tile import BLOCK, STEP, UNIT_AT
from .simd.address import aligned_empty

# The fewest multiply-adds with which the unit is faster, and the fewest for each element that is split or stored: at
# "highest", and where fewer products gain more. Measured: products of 160 x 160 with 160 x 160 (53) are a fifth faster,
# of 784 x 64 with 64 x 128 (40) level on one thread, and a half slower on two, which both split all of one operand.
LEAST_WORK, LEAST_USE = 2_000_000, {"highest": 48, "high": 36, "medium": 32}
_FLOAT32 = np.dtype(np.float32)
_local = threading.local()
_memory: list[np.ndarray] = []


def level_of_unit(dtype: np.dtype) -> str:
    """The precision at which the unit computes products of this dtype now, or nothing where it computes none."""
    return get_matmul_precision() if dtype == _FLOAT32 and has_amx() else ""


def gains(level: str, m: int, n: int, k: int) -> bool:
    """Whether a product (m, k) (k, n) is faster on the unit."""
    work, elements = m * n * k, m * n + m * k + n * k
    return bool(level) and work >= LEAST_WORK and k >= STEP and work >= LEAST_USE[level] * elements


def least_use(dtype: np.dtype) -> int:
    """The least use at "highest" with which the unit computes products of this dtype, or 0 where it never does."""
    return LEAST_USE["highest"] if level_of_unit(dtype) else 0


def unit_product(level: str) -> int:
    """The address of the product on the unit."""
    address: int = _products().UNIT_PRODUCTS[level].address(_FLOAT32)
    return address


def with_unit(prepared: np.ndarray) -> np.ndarray:
    """The workspace, which now knows the memory of the calling thread for the unit."""
    prepared[: 2 * (UNIT_AT + 1)].view(np.int64)[UNIT_AT] = _products().unit_memory()
    return prepared


def shares_of_unit(level: str, work: int) -> Shares:
    """How to share out so many multiply-adds on the unit, in whole blocks of it."""
    return shares(work, unit_product(level), BLOCK, _workspace(), _products().UNIT_MEMORY)


def unit_orders(own: int) -> tuple[int, int, int]:
    """The product on the unit at "highest", its blocks, and the elements beyond each workspace, for those of others.

    The workspace at an address, always the same, gets memory for the unit, which stays: it may be in use.
    """
    if not _memory:
        _memory.append(aligned_empty(_products().UNIT_MEMORY, _FLOAT32))
        ctypes.c_int64.from_address(own + 8 * UNIT_AT).value = _memory[0].ctypes.data
    return unit_product("highest"), BLOCK, _products().UNIT_MEMORY


def _workspace() -> np.ndarray:
    """The calling thread's workspace for products on the unit."""
    kept = workspace(_FLOAT32)
    if getattr(_local, "prepared", None) is not kept:
        _local.prepared = with_unit(kept)
    return kept


@functools.cache
def _products() -> Any:
    return undisturbed(lambda: importlib.import_module("fastnn.kernels.gemm.amx_product"))
