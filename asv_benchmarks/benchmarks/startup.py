"""What a fresh process waits for: the import, and the first epoch from an empty and from a primed cache."""

import os
import subprocess
import sys
import tempfile

from .common import BACKENDS

FIRST_EPOCH = """
import fastnn as fnn
x, y = fnn.datasets.load_digits()
fnn.Sequential(fnn.Linear(64, 128), fnn.ReLU(), fnn.Linear(128, 10)).fit(x, y, epochs=1, verbose=0)
"""


class Import:
    timeout = 120

    def timeraw_numpy(self):
        return "import numpy"

    def timeraw_fastnn(self):
        return "import fastnn"


class _FirstEpoch:
    """The digits, 64-128-10; the import and the loading of the data are part of the time."""

    params = (BACKENDS,)
    param_names = ("backend",)
    timeout = 600
    number = 1

    def setup(self, backend):
        self.folder = tempfile.TemporaryDirectory()
        os.environ |= {"FASTNN_BACKEND": backend, "NUMBA_CACHE_DIR": self.folder.name}

    def teardown(self, backend):
        self.folder.cleanup()


class EmptyCache(_FirstEpoch):
    repeat = 2

    def timeraw_first_epoch(self, backend):
        set_up = f"import os, tempfile\nos.environ['NUMBA_CACHE_DIR'] = tempfile.mkdtemp(dir={self.folder.name!r})"
        return FIRST_EPOCH, set_up


class PrimedCache(_FirstEpoch):
    def setup(self, backend):
        super().setup(backend)
        subprocess.run([sys.executable, "-c", FIRST_EPOCH], check=True, capture_output=True)

    def timeraw_first_epoch(self, backend):
        return FIRST_EPOCH
