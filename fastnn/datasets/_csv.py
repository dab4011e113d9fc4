"""Tables of numbers as text."""

import csv
import gzip
import itertools
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..validation import Array, DType
from ._checks import existing_file, real_dtype

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
LARGEST_LABEL = 2**53

Line = tuple[int, list[str]]


def load_csv(
    path: str | os.PathLike[str],
    label: int | str = -1,
    delimiter: str = ",",
    header: bool | None = None,
    dtype: DTypeLike = "float32",
) -> tuple[Array, Array]:
    """Load a table of numbers in which one column is the label.

    Parameters
    ----------
    path : path
        A text file in UTF-8, or the same gzipped under a name that ends in ``.gz``. Empty lines are skipped.
    label : int or str
        The label's column: its position (-1 is the last), or its name in the header.
    delimiter : str
        One character, ``","`` by default.
    header : bool or None
        Whether the first line names the columns. None finds out: it does when none of its fields is a number.
    dtype : {"float32", "float64"}
        The dtype of X.

    Returns
    -------
    X : (m, d) array of dtype
        Every column but the label's, in the order of the file.
    y : (m,) array
        The label's column: int64 where every value is whole, dtype otherwise.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A row is ragged or holds text, an empty field, NaN or infinity (the message names the line); the file has no
        rows or a single column; the label's column is not there; delimiter is no single character; dtype is neither
        of the two.
    """
    real = real_dtype(dtype)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"delimiter is {delimiter!r}, expected one character")
    file = existing_file(path)
    number, names = next(_lines(file, delimiter), (0, []))
    has_header = _is_header(names) if header is None else header
    column = _label_column(file, label, names, has_header)
    table = _parse(file, delimiter, number if has_header else 0, len(names), real)
    if table.shape[1] < 2:
        raise ValueError(
            f"{file} has a single column, expected features and a label: is delimiter={delimiter!r} right?"
        )
    return np.delete(table, column, axis=1), _labels(table[:, column])


def _parse(file: Path, delimiter: str, skip: int, width: int, dtype: DType) -> Array:
    """The rows after the first `skip` lines, by NumPy's reader; what it rejects is then looked for line by line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            table = np.loadtxt(
                str(file),
                dtype=dtype,
                comments=None,
                delimiter=delimiter,
                skiprows=skip,
                ndmin=2,
                encoding="utf-8-sig",
                quotechar='"',
            )
    except (ValueError, *DAMAGED) as error:
        _find_fault(file, delimiter, skip, width)
        raise ValueError(f"{file} is no table of numbers: {error}") from error
    if table.size == 0:
        raise ValueError(f"{file} holds no rows of numbers")
    if table.shape[1] != width or not np.isfinite(table).all():
        _find_fault(file, delimiter, skip, width)
        raise ValueError(f"{file} holds a number too large for {dtype}: pass dtype='float64'")
    return table


def _find_fault(file: Path, delimiter: str, skip: int, width: int) -> None:
    """Raise for the first row that is ragged or holds anything but finite numbers."""
    for number, fields in _lines(file, delimiter):
        if number <= skip:
            continue
        if len(fields) != width:
            raise ValueError(f"{file}, line {number}: {len(fields)} fields, expected {width} as in the first line")
        for position, field in enumerate(fields, 1):
            if not math.isfinite(_number(field)):
                hint = "; if it names the columns, pass header=True" if number == 1 else ""
                raise ValueError(f"{file}, line {number}, column {position}: {field!r} is no finite number{hint}")


def _lines(file: Path, delimiter: str) -> Iterator[Line]:
    """Every line that is not empty, with its number."""
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            yield from ((reader.line_num, fields) for fields in reader if fields)
    except (UnicodeDecodeError, csv.Error, *DAMAGED) as error:
        raise ValueError(f"{file} is no readable text: {error}") from error


def _number(field: str) -> float:
    """The number that a field holds, NaN for any other text."""
    try:
        return math.nan if "_" in field else float(field)
    except ValueError:
        return math.nan


def _is_header(fields: list[str]) -> bool:
    return all(math.isnan(_number(field)) for field in fields)


def _label_column(file: Path, label: int | str, names: list[str], has_header: bool) -> int:
    if isinstance(label, str):
        stripped = [name.strip() for name in names] if has_header else []
        if label not in stripped:
            shown = ", ".join(itertools.islice(map(repr, stripped), 20))
            raise ValueError(
                f"{file} has no column {label!r}: " + (f"its header names {shown}" if shown else "no header")
            )
        return stripped.index(label)
    if names and not -len(names) <= label < len(names):
        raise ValueError(f"label is column {label}, but {file} has {len(names)} columns: expected 0..{len(names) - 1}")
    return label


def _labels(column: Array) -> Array:
    whole = np.array_equal(column, np.trunc(column)) and np.abs(column).max() < LARGEST_LABEL
    return column.astype(np.int64) if whole else column.copy()
