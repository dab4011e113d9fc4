"""The tests; what they start inherits their environment."""

import os

# Before NumPy is imported: products as small as those here are no faster for its threads, which wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
