"""Several threads, forks and signals at once, each in a process of its own: everywhere the bits of a plain call."""

import os
import signal
import sys

import pytest

from tests.processes import finish, run, start

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# A model's weights, predictions and scores, as bytes; work is shared among threads however small it is.
COMMON = """
import logging, os, signal, sys, threading, time
sys.modules["scipy"] = None  # Numba would load it, for nothing here

import numpy as np
import fastnn as fnn
from fastnn.kernels.network import epoch
from fastnn.kernels.threading import team

logging.getLogger("fastnn").setLevel("ERROR")  # kernels may have to be compiled
team.GRAIN, team.WAKING_GRAIN, epoch.STEP_GRAIN = 1, 1, 1
X, y = fnn.datasets.load_digits()

def fit(epochs=2, verbose=0):
    model = fnn.Sequential(fnn.Linear(64, 50), fnn.ReLU(), fnn.Linear(50, 10), seed=0)
    model.fit(X, y, optimizer=fnn.Adam(), l2=1e-4, epochs=epochs, batch_size=300, verbose=verbose)
    return model

def bits(_=None):
    model = fit()
    arrays = [*model.parameters(), model.predict_proba(X), model.predict(X), model.forward(X)]
    return b"".join(a.tobytes() for a in arrays) + repr([model.evaluate(X, y), model.history["loss"]]).encode()
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def passes(code, **environment):
    """Run COMMON and the code, which must end well and silently."""
    out, err = run(COMMON + code, FASTNN_BACKEND="numba", FASTNN_NUM_THREADS=2, **environment)
    assert err == ""
    return out


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_eight_threads_at_once(layer):
    """The threading layers of Numba stay out of it: one of them would end the process, another a forked child."""
    passes(
        """
from concurrent.futures import ThreadPoolExecutor
import numba

team.set_num_threads(1)
expected = bits()
team.set_num_threads(3)
with ThreadPoolExecutor(8) as pool:
    assert set(pool.map(bits, range(16))) == {expected}
try:
    numba.threading_layer()
except ValueError:
    pass
else:
    raise AssertionError("a threading layer of Numba was started")
assert not {"numba.np.ufunc." + name for name in ("workqueue", "omppool", "tbbpool")} & set(sys.modules)
""",
        NUMBA_THREADING_LAYER=layer,
    )


@needs_fork
def test_multiprocessing_with_fork():
    passes("""
import multiprocessing, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of any fork beside threads
expected = bits()
assert threading.active_count() > 1
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(bits, range(4)) == [expected] * 4
assert bits() == expected
""")


def test_joblib(tmp_path):
    """Its workers start afresh, are forked, or are threads."""
    pytest.importorskip("joblib")
    module = tmp_path / "common.py"
    module.write_text(COMMON)
    code = f"""
import sys, warnings
sys.path.insert(0, {str(tmp_path)!r})
import joblib
from common import bits

warnings.simplefilter("ignore", DeprecationWarning)
expected = bits()
for backend in {["loky", "multiprocessing", "threading"] if hasattr(os, "fork") else ["loky", "threading"]}:
    assert joblib.Parallel(2, backend=backend)(joblib.delayed(bits)() for _ in range(4)) == [expected] * 4, backend
"""
    run(code, FASTNN_BACKEND="numba", FASTNN_NUM_THREADS=2)


@needs_fork
def test_forks_while_other_threads_compute():
    passes("""
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
expected, stop = bits(), threading.Event()

def train():
    while not stop.is_set():
        fit()

others = [threading.Thread(target=train) for _ in range(2)]
for other in others:
    other.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        os._exit(0 if bits() == expected else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
stop.set()
for other in others:
    other.join()
assert bits() == expected
""")


@needs_fork
def test_a_fork_while_another_thread_compiles():
    """The child compiles what it needs itself, and does not wait for a thread that it has not got."""
    passes("""
import warnings
from numba.core.compiler_lock import global_compiler_lock

warnings.simplefilter("ignore", DeprecationWarning)
compiles = threading.Event()

def compile():
    with global_compiler_lock:
        compiles.set()
        time.sleep(0.3)

threading.Thread(target=compile).start()
compiles.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if len(bits()) > 0 else 1)
assert os.waitpid(child, 0)[1] == 0
""")


def test_the_end_of_the_interpreter_while_helpers_work():
    out = passes("""
fit()

def train():
    while True:
        fit()

for _ in range(2):
    threading.Thread(target=train, daemon=True).start()
time.sleep(0.3)
print("end")
""")
    assert out == "end\n"


@needs_fork
def test_the_end_of_a_forked_child():
    """By the ordinary way out, with the parent's helpers still in its books."""
    passes("""
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
expected = bits()
child = os.fork()
if child == 0:
    sys.exit(bits() != expected)
assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to a single process there")
def test_ctrl_c_while_helpers_work():
    """It ends a fit after the epoch, and a loop over products at the next one; afterwards all threads are at hand."""
    code = """
a = np.random.default_rng(0).normal(size=(300, 300))
product, expected = fnn.matmul(a, a), bits()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so do its children
assert fit(epochs=3000, verbose=1).history.interrupted
try:
    print("products", flush=True)
    while True:
        fnn.matmul(a, a)
except KeyboardInterrupt:
    pass
sizes = []
team.run(lambda thread, n_threads: sizes.append(n_threads), 10**12)
assert sizes == [2, 2]
assert bits() == expected
np.testing.assert_array_equal(fnn.matmul(a, a), product)
"""
    process = start(COMMON + code, FASTNN_BACKEND="numba", FASTNN_NUM_THREADS=2)
    for sign in ("epoch", "products"):
        next(line for line in process.stdout if line.startswith(sign))
        process.send_signal(signal.SIGINT)
    assert finish(process)[1] == ""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts on this system")
def test_interruptions_of_the_first_loading():
    """At many moments of the imports, then each millisecond while kernels are loaded: all that follows still works."""
    code = """
import signal, sys
sys.modules["scipy"] = None  # Numba would load it, for nothing here

import numpy as np
import fastnn as fnn

X, y = fnn.datasets.load_digits()
trying = False

def predict(dtype):
    model = fnn.Sequential(fnn.Linear(64, 10), fnn.ReLU(), fnn.Linear(10, 10), dtype=dtype, seed=0)
    model.fit(X[:50], y[:50], epochs=1, verbose=0)
    return model.predict_proba(X[:5])

def interrupt(*_):
    global trying
    if trying:
        trying = False
        raise KeyboardInterrupt

def is_interrupted(dtype, *timer):
    global trying
    signal.setitimer(signal.ITIMER_REAL, *timer)
    try:
        trying = True
        predict(dtype)
        trying = False
    except KeyboardInterrupt:
        return True
    return False

signal.signal(signal.SIGALRM, interrupt)
if sys.argv[1:]:
    assert is_interrupted("float32", 0.005)
    for moment in range(10, 600, 15):
        is_interrupted("float32", moment / 1000)
    assert sum(is_interrupted("float64", 0.001, 0.001) for _ in range(100)) > 1
    signal.setitimer(signal.ITIMER_REAL, 0)
print(predict("float32").tobytes(), predict("float64").tobytes())
"""
    undisturbed = run(code, FASTNN_BACKEND="numba")[0]
    assert run(f"import sys; sys.argv.append('interrupt'){code}", FASTNN_BACKEND="numba") == (undisturbed, "")


def test_the_first_call_imports_nothing_where_signals_interrupt():
    """An import that is interrupted can keep the lock of all imports, for which other threads would wait for ever."""
    code = """
import sys
import fastnn as fnn
from fastnn import loading

X, y = fnn.datasets.load_digits()
imported = {True: [], False: []}

class Watch:
    def find_spec(name, path=None, target=None):
        imported[loading._current.is_on].append(name)

sys.meta_path.insert(0, Watch)
model = fnn.Sequential(fnn.Linear(64, 10), fnn.ReLU(), fnn.Linear(10, 10), seed=0)
model.fit(X[:50].tolist(), y[:50].tolist(), epochs=1, verbose=0)
model.predict_proba(X[:5])
assert "numba" in imported[True]
assert not imported[False], imported[False]
"""
    run(code, FASTNN_BACKEND="numba")
