"""The tests; what they start inherits their environment."""

import os

# Before NumPy is imported: products as small as those here are no faster for its threads, which wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Each of the many processes that they start would compile fastnn's sources again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
