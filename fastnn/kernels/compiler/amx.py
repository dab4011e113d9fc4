"""Whether this process may use the CPU's matrix unit, Intel's AMX: Linux wants to be asked for permission.

The unit's registers are larger than all others of a thread together, so the kernel saves them for processes alone that
asked. What is granted holds for every thread and for forked children.
"""

import ctypes
import functools
import os
import sys

from .cpu import ISA, target

_NEEDED = {"+amx-tile", "+amx-bf16"}
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), which C libraries have no function for.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def has_amx() -> bool:
    """Whether tiles of bfloat16 can be multiplied here: the CPU compiled for has the unit and the system lets us.

    FASTNN_AMX=0 does without it, and so does a narrower FASTNN_SIMD.
    """
    choice = os.environ.get("FASTNN_AMX", "").strip() or "1"
    if choice not in ("0", "1"):
        raise ValueError(f"FASTNN_AMX is {choice!r}, expected 0 for the CPU without its matrix unit, or 1")
    triple, _, features = target()
    fits = ISA.name == "avx512" and _NEEDED.issubset(features.split(","))
    return choice == "1" and fits and "linux" in triple and _is_permitted()


def _is_permitted() -> bool:
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA)) == 0
