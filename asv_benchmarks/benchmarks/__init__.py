"""One thread each: asv --python=same leaves out the variables of asv.conf.json, so they are set here, before NumPy."""

import os

for library in ("FASTNN", "MKL", "NUMBA", "OMP", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
