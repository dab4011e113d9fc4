"""Functions of rows, in parts that threads share: several for each, so that one that is disturbed takes fewer."""

from typing import Any, NamedTuple

import numpy as np

from ..compiler.jit import Shared, inline
from ..simd.vector import get, integer, pointer, put
from .crew import ADDRESS, ALONE
from .team import part, plan_for

# An element takes as long as about this many multiply-adds, and a row that much longer as so many elements.
_ELEMENT, _ROW = 32, 16
_PARTS_A_THREAD = 4
# The numbers of a job; what else one needs comes behind these.
_S, _OUT, _M, _N, ROWS_JOB = range(5)


class RowsOfPart(NamedTuple):
    """Rows ``first`` to ``end`` of the m of s (m, n), and the function's result."""

    s: Any
    out: Any
    m: int
    n: int
    first: int
    end: int


@inline
def put_rows(job, s, out, m, n):
    """Write down what a function of the rows of s (m, n) works on."""
    put(job, _S, integer(s))
    put(job, _OUT, integer(out))
    put(job, _M, m)
    put(job, _N, n)


@inline
def rows_of_part(like, job, which, parts):
    """What was written down, and the rows of one of the parts."""
    m = get(job, _M)
    first, end = part(m, 1, which, parts)
    return RowsOfPart(pointer(get(job, _S), like), pointer(get(job, _OUT), like), m, get(job, _N), first, end)


@inline
def parts_of_rows(m, plan):
    """Into how many parts m rows go."""
    return 1 if plan <= ALONE else min(m, _PARTS_A_THREAD * (plan >> 1))


@inline
def work_of_rows(size, m):
    """The multiply-adds that take as long as a function of ``size`` elements in m rows."""
    return (size + _ROW * m) * _ELEMENT


def shares_of_rows(task: Shared, s: np.ndarray) -> tuple[int, int, int]:
    """Where a task is that goes over the rows of s, and all else that ``share`` takes before the job."""
    return task.address(s.dtype), ADDRESS, plan_for(work_of_rows.py_func(s.size, len(s)))
