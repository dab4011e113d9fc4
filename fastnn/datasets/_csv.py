"""Tables of numbers as text."""

import csv
import gzip
import itertools
import math
import operator
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
OTHER_DELIMITERS = ";\t|"

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
        A text file in UTF-8, or the same gzipped under a name that ends in ``.gz``. Empty lines are skipped, comments
        are not.
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
        The label's column: int64 where every value is whole and below 2^53, whatever dtype is; dtype otherwise.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        label is neither a whole number nor text.
    ValueError
        A row is ragged or holds text, an empty field, NaN or infinity (the message names the line); the file has no
        rows or a single column; the label's column is not there; delimiter is no single character; dtype is neither
        of the two.
    """
    real = real_dtype(dtype)
    if not isinstance(label, str):
        label = _position(label)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"delimiter is {delimiter!r}, expected one character")
    file = existing_file(path)
    number, names = next(_lines(file, delimiter), (0, []))
    has_header = _is_header(names) if header is None else header
    column = _label_column(file, label, names, has_header)
    x, labels = _parse(file, delimiter, number if has_header else 0, len(names), column, real)
    y = _labels(labels, real)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{file} holds a number too large for {real}: pass dtype='float64'")
    return x, y


def _parse(file: Path, delimiter: str, skip: int, width: int, column: int, dtype: DType) -> tuple[Array, Array]:
    """Features and labels after the first `skip` lines, by NumPy's reader; its faults are then looked for line by line.

    The fields of a row are the features before the label, the label in float64, which holds every whole number below
    2^53, and the features after it.
    """
    widths = {"before": column, "after": width - column - 1}
    features = [name for name, count in widths.items() if count > 0]
    fields: list[tuple[str, DType, tuple[int, ...]]] = [(name, dtype, (widths[name],)) for name in features]
    fields.insert(column > 0, ("label", np.dtype(np.float64), ()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            table = np.loadtxt(
                str(file),
                dtype=fields,
                comments=None,
                delimiter=delimiter,
                skiprows=skip,
                ndmin=1,
                encoding="utf-8-sig",
                quotechar='"',
            )
    except (ValueError, *DAMAGED) as error:
        _find_fault(file, delimiter, skip, width, column)
        raise ValueError(f"{file} is no table of numbers: {error}") from error
    if table.size == 0:
        raise ValueError(f"{file} holds no rows of numbers")
    if width < 2:
        raise ValueError(
            f"{file} has a single column, expected features and a label: is delimiter={delimiter!r} right?"
        )
    x, labels = np.concatenate([table[name] for name in features], axis=1), table["label"]
    if not (np.isfinite(x).all() and np.isfinite(labels).all()):
        _find_fault(file, delimiter, skip, width, column)
    return x, labels


def _find_fault(file: Path, delimiter: str, skip: int, width: int, column: int) -> None:
    """Raise for the first row that is ragged or holds anything but finite numbers."""
    comment = "comments are not read, remove the line"
    header_line = 0
    for number, fields in _lines(file, delimiter):
        is_comment = fields[0].lstrip().startswith("#")
        if number <= skip:
            header_line = number if is_comment else 0
            continue
        if len(fields) != width:
            if header_line:
                raise ValueError(f"{file}, line {header_line} starts with '#': {comment}")
            hint = f"; {comment}" if is_comment else ""
            raise ValueError(
                f"{file}, line {number}: {len(fields)} fields, expected {width} as in the first line{hint}"
            )
        for position, field in enumerate(fields):
            if not math.isfinite(_number(field)):
                hint = f"; {comment}" if is_comment else _hint(field, delimiter, number == 1, position == column)
                raise ValueError(f"{file}, line {number}, column {position + 1}: {field!r} is no finite number{hint}")


def _hint(field: str, delimiter: str, is_first: bool, is_label: bool) -> str:
    """What may be meant by a field that is no finite number."""
    for other in OTHER_DELIMITERS:
        if other in field and other != delimiter:
            return f"; pass delimiter={other!r} if that is what stands between the columns"
    hint = "; if it names the columns, pass header=True" if is_first else ""
    if is_label and any(map(str.isalpha, field)) and field.strip(" +-").lower() not in ("nan", "inf", "infinity"):
        hint += "; text as labels must be numbered first: words, y = np.unique(labels, return_inverse=True)"
    return hint


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


def _position(label: object) -> int:
    try:
        if isinstance(label, bool):
            raise TypeError
        return operator.index(label)  # type: ignore[arg-type]  # that it may be no index is what is asked
    except TypeError:
        raise TypeError(f"label is {label!r}, expected the position of a column, a whole number, or its name") from None


def _label_column(file: Path, label: int | str, names: list[str], has_header: bool) -> int:
    """The label's position, counted from 0."""
    if isinstance(label, str):
        stripped = [name.strip() for name in names] if has_header else []
        if label not in stripped:
            shown = ", ".join(itertools.islice(map(repr, stripped), 20))
            raise ValueError(
                f"{file} has no column {label!r}: " + (f"its header names {shown}" if shown else "no header")
            )
        return stripped.index(label)
    if not names:
        return 0
    if not -len(names) <= label < len(names):
        raise ValueError(f"label is column {label}, but {file} has {len(names)} columns: expected 0..{len(names) - 1}")
    return label % len(names)


def _labels(column: Array, dtype: DType) -> Array:
    whole = np.array_equal(column, np.trunc(column)) and np.abs(column).max() < LARGEST_LABEL
    with np.errstate(over="ignore"):
        return column.astype(np.int64 if whole else dtype)
