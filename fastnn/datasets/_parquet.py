"""Parquet files as a source of chunks."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from ..validation import Array
from ._checks import check_list, existing_file
from ._columns import Categories, Columns

_MOST_OPEN = 64  # files in a thread: a process may hold some hundreds open


class ParquetSource(Columns):
    """Parquet files for :meth:`fastnn.Sequential.fit`, a row group a chunk; needs pyarrow, the extra ``data``.

    Parameters
    ----------
    path : path, or list of paths
        A file, a folder of files that end in ``.parquet``, or several of both.
    target : str, or list of str, optional
        The column that is y, of numbers or text, or those that are y (m, k). Without it the chunks are (X,), as
        :meth:`fastnn.Sequential.predict` takes them.
    columns : list of str, optional
        The features, in the order of X; all other columns by default.
    categories : dict of str to list, or "find", optional
        The values of columns that hold categories, which X holds as codes 1, 2, ..., or 0 for a value that is none of
        them or missing. "find", for a column or for all that hold text, takes those that there are, sorted, from one
        pass over the column.
    sample_weight : str, optional
        The column of weights.
    dtype : {"float32", "float64"}
        The dtype of X.

    Attributes
    ----------
    columns : tuple of str
        The features, in the order of the columns of X.
    categories : dict of str to tuple
        The categories of each feature that has some, in the order of their codes.
    codes : dict of int to int
        How many codes there are in each such column of X, the 0 included:
        ``fnn.Embedding({place: (n, 3) for place, n in source.codes.items()})``.
    numbers : list of int
        The other columns of X: ``fnn.Standardize(len(source.columns)).adapt(source, source.numbers)``.

    Raises
    ------
    ImportError
        Without pyarrow.
    FileNotFoundError
        There is no such file.
    ValueError
        A column is not there, has another type in another file, or is no feature: text without categories, dates,
        lists and so on; or a setting is not as described. Later, if a value is missing.
    TypeError
        If an argument is of another kind.

    Notes
    -----
    A row group is read, and held, as a whole: write files with ``row_group_size=`` some ten thousands of rows.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        target: str | Sequence[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        categories: Categories | None = None,
        sample_weight: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._module("pyarrow.parquet")
        self._files = _files(path)
        self._open = threading.local()  # a file that is open belongs to the thread that reads it
        super().__init__(target, columns, categories, sample_weight, dtype)

    def __len__(self) -> int:
        """How many row groups there are."""
        return len(self._groups)

    def __getitem__(self, place: int) -> tuple[Array, ...]:
        """Return (X, y) or (X, y, sample_weight) of a row group, or (X,) without a target."""
        return self._chunk(self._table(place, self._used))

    @property
    def _where(self) -> str:
        return str(self._files[0]) + (f" and {len(self._files) - 1} more" if len(self._files) > 1 else "")

    def _schema(self) -> dict[str, Any]:
        types: dict[str, Any] = {}
        self._groups: list[tuple[Path, int]] = []
        for file in self._files:
            with self._opened(file) as opened:
                own = self._by_name(opened.schema_arrow)
                self._groups += [
                    (file, i) for i in range(opened.num_row_groups) if opened.metadata.row_group(i).num_rows
                ]
            types = types or own
            for name, found in types.items():
                if own.get(name) != found:
                    has = f"column {name!r} as {own[name]}" if name in own else f"no column {name!r}"
                    raise ValueError(f"{file} has {has}, but {self._files[0]} as {found}: give files of one kind")
        if not self._groups:
            raise ValueError(f"{self._where} holds no rows")
        return types

    def _tables(self, columns: Sequence[str]) -> Iterator[Any]:
        return (self._table(place, columns) for place in range(len(self)))

    def _table(self, place: int, columns: Sequence[str]) -> Any:
        file, group = self._groups[place]
        opened = vars(self._open).setdefault("files", {})
        if file not in opened:
            if len(opened) == _MOST_OPEN:
                opened.pop(next(iter(opened))).close()
            opened[file] = self._opened(file)
        return opened[file].read_row_group(group, columns=list(columns), use_threads=False)

    def _opened(self, file: Path) -> Any:
        try:
            return self._module("pyarrow.parquet").ParquetFile(file)
        except self._pa.ArrowInvalid as error:
            raise ValueError(f"{file} is no readable Parquet file: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=threading.local())

    def __repr__(self) -> str:
        return f"ParquetSource({self._where!r}, {len(self)} row groups, {len(self.columns)} columns)"


def _files(path: Any) -> list[Path]:
    if isinstance(path, str | os.PathLike):
        path = [path]
    check_list("path", path)
    given = list(path)
    files: list[Path] = []
    for each in given:
        within = sorted(Path(each).glob("*.parquet")) if Path(each).is_dir() else [existing_file(each)]
        if not within:
            raise FileNotFoundError(f"{each} holds no file that ends in .parquet")
        files += within
    if not files:
        raise ValueError("path is empty: expected at least one file")
    return files
