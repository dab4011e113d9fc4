"""Which precision holds for whom."""

import threading

import numpy as np
import pytest

import fastnn as fnn
from tests.processes import finish, start


def test_blocks_nest_and_a_thread_starts_with_the_default():
    before = fnn.get_matmul_precision()
    seen = []
    try:
        fnn.set_matmul_precision("high")
        with fnn.use_matmul_precision("medium"):
            assert fnn.get_matmul_precision() == "medium"
            with fnn.use_matmul_precision("highest"):
                assert fnn.get_matmul_precision() == "highest"
            with pytest.raises(RuntimeError, match="inside"), fnn.use_matmul_precision("highest"):
                raise RuntimeError("inside")
            assert fnn.get_matmul_precision() == "medium"
            thread = threading.Thread(target=lambda: seen.append(fnn.get_matmul_precision()))
            thread.start()
            thread.join()
        assert [fnn.get_matmul_precision(), *seen] == ["high", "high"]
    finally:
        fnn.set_matmul_precision(before)


@pytest.mark.parametrize("name", ["low", "", None, 3])
def test_unknown_precisions(name):
    message = r"precision is .*, expected one of 'highest', 'high', 'medium'"
    before = fnn.get_matmul_precision()
    with pytest.raises(ValueError, match=message):
        fnn.set_matmul_precision(name)
    with pytest.raises(ValueError, match=message), fnn.use_matmul_precision(name):
        pass
    assert fnn.get_matmul_precision() == before


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_float64_and_the_twins_are_always_exact(precision, rng):
    a, b = rng.normal(size=(150, 160)), rng.normal(size=(160, 170))
    expected = fnn.matmul(a, b)
    with fnn.use_backend("numpy"):
        single = fnn.matmul(a.astype(np.float32), b.astype(np.float32))
    with fnn.use_matmul_precision(precision):
        np.testing.assert_array_equal(fnn.matmul(a, b), expected)
        with fnn.use_backend("numpy"):
            np.testing.assert_array_equal(fnn.matmul(a.astype(np.float32), b.astype(np.float32)), single)


PRINT = """
import fastnn as fnn, numpy as np
try:
    a = np.ones((200, 200), np.float32)
    print(fnn.get_matmul_precision(), fnn.matmul(a, a)[0, 0])
    from fastnn.kernels.compiler.amx import has_amx
    print(has_amx())
except ValueError as error:
    print(error)
"""


def test_what_the_environment_asks_for():
    """No matrix unit, no vectors, no such precision, no such choice."""
    cases = [
        ({"FASTNN_MATMUL_PRECISION": "high", "FASTNN_AMX": "0"}, "high 200.0\nFalse\n"),
        ({"FASTNN_SIMD": "scalar", "FASTNN_MATMUL_PRECISION": ""}, "highest 200.0\nFalse\n"),
        (
            {"FASTNN_MATMUL_PRECISION": "low"},
            "FASTNN_MATMUL_PRECISION is 'low', expected one of 'highest', 'high', 'medium'\n",
        ),
        ({"FASTNN_AMX": "yes"}, "FASTNN_AMX is 'yes', expected 0 for the CPU without its matrix unit, or 1\n"),
    ]
    running = [start(PRINT, **{"FASTNN_BACKEND": None, "FASTNN_AMX": None, **environment}) for environment, _ in cases]
    assert [finish(process)[0] for process in running] == [expected for _, expected in cases]
