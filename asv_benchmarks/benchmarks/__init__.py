"""One thread each: asv --python=same leaves out the variables of asv.conf.json, so they are set here, before NumPy."""

import os

for name in ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
