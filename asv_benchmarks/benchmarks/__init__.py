"""One thread each: asv --python=same leaves out the variables of asv.conf.json, so they are set here, before NumPy."""

import os

LIBRARIES = ("FASTNN", "MKL", "NUMBA", "OMP", "OPENBLAS")

for library in LIBRARIES:
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
