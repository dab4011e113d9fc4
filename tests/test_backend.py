"""Which twin runs, for whom, and what an import costs."""

import os
import subprocess
import sys
import threading

import pytest

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.backend import active


def python(code, **environment):
    """Run code in a fresh interpreter and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    return result.stdout.strip() + result.stderr.strip()


def test_import_loads_no_numba():
    assert python("import sys, fastnn; print('numba' in sys.modules)") == "False"


def test_environment_chooses_the_default():
    code = "import fastnn.backend as b; print(b.active().__name__)"
    assert python(code, FASTNN_BACKEND="numpy") == "fastnn.reference"
    assert (
        python("import sys, fastnn; fastnn.relu([1.0]); print('numba' in sys.modules)", FASTNN_BACKEND="numpy")
        == "False"
    )


def test_unknown_name_in_the_environment():
    message = python("import fastnn; fastnn.relu([1.0])", FASTNN_BACKEND="cuda")
    assert "ValueError: FASTNN_BACKEND is 'cuda', but the backends are 'numba', 'numpy'" in message


def test_use_backend_nests_and_restores():
    before = active()
    with fnn.use_backend("numba"):
        with fnn.use_backend("numpy"):
            assert active() is reference
        assert active() is kernels
        with pytest.raises(RuntimeError, match="inside"), fnn.use_backend("numpy"):
            raise RuntimeError("inside")
        assert active() is kernels
    assert active() is before


@pytest.mark.parametrize("name", ["cuda", "", None, 3])
def test_unknown_name(name):
    with (
        pytest.raises(ValueError, match=r"backend is .*, but the backends are 'numba', 'numpy'"),
        fnn.use_backend(name),
    ):
        pass


def test_a_thread_has_a_choice_of_its_own():
    inside = threading.Event()
    leave = threading.Event()

    def other():
        with fnn.use_backend("numpy"):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    before = active()
    thread.start()
    inside.wait()
    assert active() is before
    leave.set()
    thread.join()


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_number_of_threads_is_checked(n, error):
    with pytest.raises(error, match=r"n is .*, expected a positive integer"):
        fnn.set_num_threads(n)


def test_too_many_threads():
    before = fnn.get_num_threads()
    with pytest.raises(ValueError, match="n is 1025, expected at most 1024 threads"):
        fnn.set_num_threads(1025)
    assert fnn.get_num_threads() == before


def test_number_of_threads_round_trips():
    before = fnn.get_num_threads()
    fnn.set_num_threads(1)
    assert fnn.get_num_threads() == 1
    fnn.set_num_threads(before)
