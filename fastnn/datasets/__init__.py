"""Data as NumPy arrays: the digits that come with the package, and loaders for IDX folders, CSV and NPZ files."""

from ._csv import load_csv
from ._digits import load_digits
from ._idx import load_idx
from ._npz import load_npz

__all__ = ["load_csv", "load_digits", "load_idx", "load_npz"]
