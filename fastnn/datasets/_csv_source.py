"""A large CSV file as a source of chunks."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from numpy.typing import DTypeLike

from ..files import replace
from ..validation import Array, positive_int
from ._checks import existing_file
from ._columns import Categories, Columns
from ._parquet import ParquetSource


class CsvSource(Columns):
    """A CSV file for :meth:`fastnn.Sequential.fit`, read block by block; needs pyarrow, the extra ``data``.

    Reading text takes longer than training a small network: for many epochs have :meth:`to_parquet` write it once.

    Parameters
    ----------
    path : path
        A file of text, or the same compressed under a name that ends in ``.gz`` or ``.bz2``.
    target, columns, categories, sample_weight, dtype
        As of :class:`ParquetSource`. What a column holds is found out from the first block.
    delimiter : str
        One character, ``","`` by default.
    names : list of str, optional
        The names of the columns, if the first line does not give them.
    block_size : int
        How many bytes are read at once.

    Attributes
    ----------
    columns, categories, codes, numbers
        As of :class:`ParquetSource`.

    Raises
    ------
    ImportError
        Without pyarrow.
    FileNotFoundError
        There is no such file.
    ValueError, TypeError
        As by :class:`ParquetSource`; later, if a row is ragged, or a column holds what it did not in the first block.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | Sequence[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        categories: Categories | None = None,
        sample_weight: str | None = None,
        delimiter: str = ",",
        names: Sequence[str] | None = None,
        block_size: int = 1 << 20,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._module("pyarrow.csv")
        self._file, self._delimiter = existing_file(path), delimiter
        self._names, self._block_size = names, positive_int("block_size", block_size)
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            raise ValueError(f"delimiter is {delimiter!r}, expected one character")
        if isinstance(names, str):
            raise TypeError(f"names is {names!r}, expected a list of names")
        super().__init__(target, columns, categories, sample_weight, dtype)

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        """Yield (X, y) or (X, y, sample_weight) of each block, or (X,) without a target."""
        return map(self._chunk, self._tables(self._used))

    def to_parquet(self, path: str | os.PathLike[str], row_group_size: int = 20_000) -> ParquetSource:
        """Write the columns that are used as a Parquet file, which is read several times as fast; return its source.

        Parameters
        ----------
        path : path
            The file; one of that name is replaced once the new one is whole.
        row_group_size : int
            The rows of a chunk, at least.

        Raises
        ------
        OSError
            If it cannot be written.
        ValueError
            If a row is not as described.
        """
        size, parquet, pa = positive_int("row_group_size", row_group_size), self._module("pyarrow.parquet"), self._pa

        def write(file: BinaryIO) -> None:
            schema = pa.schema([(name, self._types[name]) for name in self._used])
            with parquet.ParquetWriter(file, schema) as writer:
                held: list[Any] = []
                for table in self._tables(self._used):
                    held.append(table)
                    if sum(map(len, held)) >= size:
                        writer.write_table(pa.concat_tables(held), row_group_size=size * 2)
                        held = []
                if held:
                    writer.write_table(pa.concat_tables(held), row_group_size=size * 2)

        replace(path, write)
        return ParquetSource(
            path,
            self._targets[0] if self._is_flat else self._targets if self._has_target else None,
            columns=self.columns,
            categories=self.categories,
            sample_weight=self._weight,
            dtype=self._dtype,
        )

    @property
    def _where(self) -> str:
        return str(self._file)

    def _schema(self) -> dict[str, Any]:
        self._types = {}
        with self._opened(None) as reader:
            types = self._by_name(reader.schema)
        # A number may be whole in the first block and none later, but for labels.
        pa = self._pa
        return {
            name: pa.float64() if pa.types.is_integer(found) and name not in self._targets else found
            for name, found in types.items()
        }

    def _opened(self, columns: Sequence[str] | None) -> Any:
        csv = self._module("pyarrow.csv")
        try:
            return csv.open_csv(
                self._file,
                read_options=csv.ReadOptions(block_size=self._block_size, column_names=self._names, use_threads=False),
                parse_options=csv.ParseOptions(delimiter=self._delimiter),
                convert_options=csv.ConvertOptions(column_types=self._types, include_columns=columns),
            )
        except self._pa.ArrowInvalid as error:
            raise ValueError(f"{self._file} is no readable table: {error}") from error

    def _tables(self, columns: Sequence[str]) -> Iterator[Any]:
        with self._opened(columns) as reader:
            for batch in reader:
                if batch.num_rows:
                    yield self._pa.Table.from_batches([batch])

    def __repr__(self) -> str:
        return f"CsvSource({self._where!r}, {len(self.columns)} columns)"
