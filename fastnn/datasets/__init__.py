"""Data as NumPy arrays: the digits that come with the package, and files, loaded as a whole or as sources of chunks."""

from ._csv import load_csv
from ._csv_source import CsvSource
from ._digits import load_digits
from ._idx import load_idx
from ._npz import load_npz
from ._parquet import ParquetSource

__all__ = ["CsvSource", "ParquetSource", "load_csv", "load_digits", "load_idx", "load_npz"]
