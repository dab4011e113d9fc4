"""What variables of the environment ask of the kernels, and what is said where they cannot have it."""

import os
import platform

import pytest

from fastnn.kernels.threading import team
from tests.processes import finish, run, start

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

x86_only = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names CPUs of one family")

NONE = dict.fromkeys(("FASTNN_BACKEND", "FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"))
ERROR = """
import fastnn as fnn

try:
    fnn.relu([1.0])
except ValueError as error:
    print(error)
with fnn.use_backend("numpy"):
    assert fnn.relu([1.0]) == 1
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 64),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": " 3 , 2"}, 3),
        ({"OMP_NUM_THREADS": "1000"}, 64),
        ({"OMP_NUM_THREADS": "0"}, 64),
        ({"OMP_NUM_THREADS": "some"}, 64),
        ({"NUMBA_NUM_THREADS": "1"}, 1),
        ({"NUMBA_NUM_THREADS": "1000"}, 64),
        ({"NUMBA_NUM_THREADS": "0"}, 64),
        ({"NUMBA_NUM_THREADS": ""}, 64),
        ({"NUMBA_NUM_THREADS": "some"}, 64),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": ""}, 2),
        ({"OMP_NUM_THREADS": "1", "FASTNN_NUM_THREADS": "5"}, 5),
        ({"NUMBA_NUM_THREADS": "1", "FASTNN_NUM_THREADS": "5"}, 5),
        ({"FASTNN_NUM_THREADS": " 1024 "}, 1024),
    ],
    ids=str,
)
def test_the_share_of_a_worker(environment, expected, monkeypatch):
    """Dask and Ray give it in OMP_NUM_THREADS, joblib in NUMBA_NUM_THREADS too; what asks for fastnn itself counts."""
    for name, value in {**NONE, **environment}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    assert team._initial_threads() == expected


@pytest.mark.parametrize("text", ["0", "1025", "two"])
def test_no_number_of_threads(text, monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"^FASTNN_NUM_THREADS is '{text}', expected a whole number from 1 to 1024$"):
        team._initial_threads()


def test_from_the_environment_to_the_threads_that_there_are():
    code = "import fastnn as fnn; print(fnn.get_num_threads(), fnn.relu(1.0))"
    one, wrong = start(code, **{**NONE, "OMP_NUM_THREADS": "1"}), start(code, **{**NONE, "FASTNN_NUM_THREADS": "two"})
    assert finish(one)[0] == "1 1.0\n"
    assert "FASTNN_NUM_THREADS is 'two', expected" in wrong.communicate(timeout=120)[1]
    assert wrong.returncode == 1


def test_numba_that_must_not_compile():
    out, _ = run(ERROR, **{**NONE, "NUMBA_DISABLE_JIT": "1"})
    assert out == (
        "NUMBA_DISABLE_JIT is 1, but kernels run compiled only: unset it, or run their twins with "
        "FASTNN_BACKEND=numpy\n"
    )


@x86_only
def test_vectors_that_the_cpu_lacks():
    """LLVM would end the process, not raise."""
    haswell = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}
    running = {name: start(ERROR, **{**NONE, **haswell, "FASTNN_SIMD": name}) for name in ("avx512", "neon")}
    for name, process in running.items():
        message = f"FASTNN_SIMD is '{name}', expected one of avx2, sse2, scalar on this CPU, haswell\n"
        assert finish(process)[0] == message
