"""Tables of numbers as text."""

import csv
import gzip
import itertools
import math
import operator
import os
import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import DTypeLike

from ..validation import Array, DType
from ._checks import existing_file, real_dtype

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
LARGEST_LABEL = 2**53
DELIMITERS = ",;\t|"

Line = tuple[int, list[str]]


class _Table(NamedTuple):
    """What stands where in a file: its rows come after `skip` lines and have `width` fields, one of them the label."""

    file: Path
    delimiter: str
    skip: int
    width: int
    label: int
    has_text_labels: bool


def load_csv(
    path: str | os.PathLike[str],
    label: int | str = -1,
    delimiter: str = ",",
    header: bool | None = None,
    dtype: DTypeLike = "float32",
) -> tuple[Array, Array]:
    """Load a table of numbers in which one column is the label, a number or text.

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
        The label's column: int64 where every value is whole and below 2^53, whatever dtype is, else dtype; or text,
        which ``names, y = np.unique(y, return_inverse=True)`` numbers.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        label is neither a whole number nor text.
    ValueError
        A row is ragged or holds text beside the label, an empty field, NaN or infinity, or one label is text and
        another a number (the message names the line); the file has no rows or a single column, or is damaged; the
        label's column is not there; delimiter is no single character; dtype is neither of the two.
    """
    real = real_dtype(dtype)
    if not isinstance(label, str):
        label = _position(label)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"delimiter is {delimiter!r}, expected one character, no quote and no end of a line")
    file = existing_file(path)
    with closing(_lines(file, delimiter)) as lines:
        number, names = next(lines, (0, []))
        has_header = _is_header(names) if header is None else header
        column = _label_column(file, label, names, has_header)
        _, first = next(lines, (0, [])) if has_header else (number, names)
    has_text_labels = len(first) == len(names) > 1 and _is_text(first[column])
    x, labels = _parse(_Table(file, delimiter, number if has_header else 0, len(names), column, has_text_labels), real)
    y = labels if has_text_labels else _numbers(labels, real)
    if not (np.isfinite(x).all() and (y.dtype.kind != "f" or np.isfinite(y).all())):
        raise ValueError(f"{file} holds a number too large for {real}: pass dtype='float64'")
    return x, y


def _parse(table: _Table, dtype: DType) -> tuple[Array, Array]:
    """Features and labels, by NumPy's reader; its faults are then looked for line by line.

    The fields of a row are the features before the label, the label, and the features after it. Labels are read as
    text, or in float64, which holds every whole number below 2^53.
    """
    file = table.file
    widths = {"before": table.label, "after": table.width - table.label - 1}
    features = [name for name, count in widths.items() if count > 0]
    fields: list[tuple[str, DType, tuple[int, ...]]] = [(name, dtype, (widths[name],)) for name in features]
    fields.insert(table.label > 0, ("label", np.dtype(object if table.has_text_labels else np.float64), ()))
    try:
        with _text(file) as text, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            # An open file and not its path, which NumPy would decompress where it ends in .bz2 or .xz.
            rows = np.loadtxt(
                text,
                dtype=fields,
                comments=None,
                delimiter=table.delimiter,
                skiprows=table.skip,
                ndmin=1,
                encoding="utf-8",
                quotechar='"',
            )
    except (ValueError, *DAMAGED) as error:
        _find_fault(table)
        raise ValueError(f"{file} is no table of numbers: {error}") from error
    if rows.size == 0:
        raise ValueError(f"{file} holds no rows of numbers")
    if table.width < 2:
        raise ValueError(
            f"{file} has a single column, expected features and a label: is delimiter={table.delimiter!r} right?"
        )
    x, labels = np.concatenate([rows[name] for name in features], axis=1), rows["label"]
    if table.has_text_labels:
        are_right = all(map(_is_text, labels))
        labels = np.array([label.strip() for label in labels])
    else:
        are_right = np.isfinite(labels).all()
    if not (are_right and np.isfinite(x).all()):
        _find_fault(table)
    return x, labels


def _find_fault(table: _Table) -> None:
    """Raise for the first row that is ragged, holds anything but finite numbers, or has a label of another kind."""
    file = table.file
    comment = "comments are not read, remove the line"
    header_line = 0
    for number, fields in _lines(file, table.delimiter):
        is_comment = fields[0].lstrip().startswith("#")
        if number <= table.skip:
            header_line = number if is_comment else 0
            continue
        if len(fields) != table.width:
            if header_line:
                raise ValueError(f"{file}, line {header_line} starts with '#': {comment}")
            hint = f"; {comment}" if is_comment else ""
            raise ValueError(
                f"{file}, line {number}: {len(fields)} fields, expected {table.width} as in the first line{hint}"
            )
        for position, field in enumerate(fields):
            place = f"{file}, line {number}, column {position + 1}"
            if table.has_text_labels and position == table.label:
                if not _is_text(field):
                    hint = "" if table.skip else "; if the first line names the columns, pass header=True"
                    raise ValueError(f"{place}: {field!r} is no text, but the labels before it are{hint}")
            elif not math.isfinite(_number(field)):
                hint = f"; {comment}" if is_comment else _hint(field, table, number == 1, position == table.label)
                raise ValueError(f"{place}: {field!r} is no finite number{hint}")


def _hint(field: str, table: _Table, is_first: bool, is_label: bool) -> str:
    """What may be meant by a field that is no finite number."""
    for other in DELIMITERS:
        if other in field and other != table.delimiter:
            return f"; pass delimiter={other!r} if that is what stands between the columns"
    hint = "; if it names the columns, pass header=True" if is_first else ""
    if is_label and _is_text(field):
        hint += "; labels are numbers in every row, or text in every row"
    return hint


@contextmanager
def _text(file: Path) -> Iterator[TextIO]:
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8-sig", newline="") as text:
        yield text


def _lines(file: Path, delimiter: str) -> Generator[Line]:
    """Every line that is not empty, with its number."""
    try:
        with _text(file) as text:
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


def _is_text(field: str) -> bool:
    """Whether a field may name a class: it is neither empty nor a number."""
    try:
        float(field)
    except ValueError:
        return bool(field.strip())
    return False


def _is_header(fields: list[str]) -> bool:
    return all(math.isnan(_number(field)) for field in fields)


def _position(label: object) -> int:
    try:
        if isinstance(label, (bool, np.bool_)):
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


def _numbers(column: Array, dtype: DType) -> Array:
    """Labels as integers where all are whole and exact, else as `dtype`."""
    whole = np.array_equal(column, np.trunc(column)) and np.abs(column).max() < LARGEST_LABEL
    with np.errstate(over="ignore"):
        return column.astype(np.int64 if whole else dtype)
