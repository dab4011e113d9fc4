"""Products that compiled code shares out without going back to Python."""

import numpy as np
import pytest

from fastnn import kernels, use_matmul_precision
from fastnn.kernels.compiler.amx import has_amx
from fastnn.kernels.threading import team
from fastnn.kernels.threading.crew import CREW, SHARE_AT
from fastnn.precision import WAS_LESS
from tests import processes
from tests.judge import assert_product

THREADS = 1, 2, 3, 5


@pytest.fixture(autouse=True)
def nothing_chosen():
    """As in a process where nobody has limited threads or asked for less precision."""
    marks, threads = (team.WAS_LIMITED, WAS_LESS), team.get_num_threads()
    before = [mark[0] for mark in marks]
    for mark in marks:
        mark[0] = 0
    yield
    for mark, value in zip(marks, before, strict=True):
        mark[0] = value
    team.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(100, 70, 120), (14, 260, 1030), (160, 160, 160), (257, 300, 129)], ids=str)
def test_the_same_bits_at_any_number_of_threads(shape, rng, dtype):
    m, k, n = shape
    a, b, v = (rng.normal(size=size).astype(dtype) for size in [(m, k), (k, n), n])
    found = []
    for threads in THREADS:
        team.set_num_threads(threads)
        kernels.matmul(a, b, np.empty((m, n), dtype))  # after which everything is at hand
        kernels.linear(a, b, v, np.empty((m, n), dtype))
        sharing = CREW[0, SHARE_AT]
        CREW[0, SHARE_AT] = 0 if threads == 1 else sharing  # as before there was any helper: a call would be the end
        found.append((kernels.quick.matmul(a, b), kernels.quick.linear(a, b, v)))
        CREW[0, SHARE_AT] = sharing
    (product, linear), *more = found
    assert_product(product, a, b)
    assert_product(linear, np.hstack([a, np.ones((m, 1), dtype)]), np.vstack([b, v]))
    for results in more:
        for result, expected in zip(results, (product, linear), strict=True):
            np.testing.assert_array_equal(result, expected)


# Prints for 2 and for 3 threads whether the quick way takes a product before and after others have, and whether that is
# right; then the same of a child of the process, which has no helpers.
OPENING = """
import os
import numpy as np
from fastnn import kernels
from fastnn.kernels.threading import team

a, out = np.ones((200, 200)), np.empty((200, 200))
other, of_other = a.astype("float32"), out.astype("float32")

def quick():
    return kernels.quick.matmul(a, a) is not None

for threads in (2, 3):
    team.set_num_threads(threads)
    kernels.matmul(other, other, of_other)  # after which the helpers are there
    print(quick())
    kernels.matmul(a, a, out)
    print(quick(), (out == 200).all(), flush=True)
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        is_quick = quick()
        kernels.matmul(a, a, out)
        os._exit(0 if not is_quick and (out == 200).all() else 1)
    print(os.waitpid(child, 0)[1] == 0)
"""


def test_a_process_without_the_helpers_or_the_memory_leaves_it_to_python():
    out, _ = processes.run(OPENING)
    assert out.split()[:6] == ["False", "True", "True"] * 2
    assert set(out.split()[6:]) <= {"True"}


def test_what_holds_for_some_calls_only_is_left_to_python(rng):
    for n in (130, 160):  # the larger one on the matrix unit, where there is one
        a, out = rng.normal(size=(n, n)).astype(np.float32), np.empty((n, n), np.float32)
        kernels.matmul(a, a, out)
        np.testing.assert_array_equal(kernels.quick.matmul(a, a), out)
    with use_matmul_precision("medium"):
        assert (kernels.quick.matmul(a, a) is None) == has_amx()
    WAS_LESS[0] = 0
    with team.limit_threads(1):
        assert kernels.quick.matmul(a, a) is None
