"""What a fresh process waits for: the import, and the first epoch from an empty and from a primed cache of kernels."""

import subprocess
import sys

from .common import BACKENDS, DTYPES, benchmark

MODULES = {"numba": ("numba", "fastnn.kernels"), "numpy": ("numpy", "fastnn.reference")}
FIRST_EPOCH = """
import fastnn as fnn
x, y = fnn.datasets.load_digits({dtype!r})
model = fnn.Sequential(fnn.Linear(64, 128), fnn.ReLU(), fnn.Linear(128, 10), dtype={dtype!r}, seed=0)
with fnn.use_backend({backend!r}):
    model.fit(x, y, epochs=1, verbose=0)
"""
# Runs before the clock does; the folder goes with the process.
EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""
FEW = {"repeat": (1, 5, 5.0)}
ONCE = {"repeat": 1, "rounds": 1, "warmup_time": 0}


@benchmark("import of numba or numpy alone", {"backend": BACKENDS}, **FEW)
def timeraw_import_base(backend):
    return lambda: f"import {MODULES[backend][0]}"


@benchmark("import of fastnn and its backend", {"backend": BACKENDS}, **FEW)
def timeraw_import(backend):
    return lambda: f"import fastnn, {MODULES[backend][1]}"


@benchmark("import to first epoch, empty cache", {"backend": BACKENDS, "dtype": DTYPES}, **ONCE)
def timeraw_first_epoch_empty_cache(backend, dtype):
    return lambda: (FIRST_EPOCH.format(backend=backend, dtype=dtype), EMPTY_CACHE)


@benchmark("import to first epoch, primed cache", {"backend": BACKENDS, "dtype": DTYPES}, **FEW)
def timeraw_first_epoch_primed_cache(backend, dtype):
    epoch = FIRST_EPOCH.format(backend=backend, dtype=dtype)
    subprocess.run([sys.executable, "-c", epoch], check=True, capture_output=True)
    return lambda: epoch
