"""Columns of a table as features, targets and weights: what the sources that read with pyarrow have in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..libraries import library
from ..validation import Array
from ._checks import check_list, real_dtype

Categories: TypeAlias = Mapping[str, Sequence[Any] | Literal["find"]] | Literal["find"]

_BLOCK_ELEMENTS = 1 << 16  # become rows at a time, within the cache
_MOST_SHOWN = 20


class Columns(ABC):
    """A source of chunks (X, y) or (X, y, sample_weight), or X alone, that are rows of a table in files.

    Attributes
    ----------
    columns : tuple of str
        The features, in the order of the columns of X.
    categories : dict of str to tuple
        The categories of each feature that has some, in the order of their codes 1, 2, ...; 0 is any other value.
    codes : dict of int to int
        How many codes there are in each such column of X, the 0 included, as an :class:`fastnn.Embedding` is told.
    numbers : list of int
        The other columns of X, as :meth:`fastnn.Standardize.adapt` is told.
    """

    def __init__(
        self,
        target: str | Sequence[str] | None,
        columns: Sequence[str] | None,
        categories: Categories | None,
        sample_weight: str | None,
        dtype: DTypeLike,
    ) -> None:
        self._dtype = real_dtype(dtype)
        if target is not None:
            check_list("target", target)
        elif sample_weight is not None:
            raise ValueError(f"sample_weight is {sample_weight!r}, but there is no target: give both, or none")
        if columns is not None:
            check_list("columns", columns)
        self._twice: set[str] = set()  # names that several columns have
        self._has_target, self._is_flat, self._weight = target is not None, isinstance(target, str), sample_weight
        self._targets = [target] if isinstance(target, str) else list(target or ())
        self._types: dict[str, Any] = self._schema()
        others = {*self._targets, sample_weight}
        if isinstance(columns, str):
            raise TypeError(f"columns is {columns!r}, expected a list of names")
        chosen = [name for name in self._types if name not in others] if columns is None else list(columns)
        self.columns: tuple[str, ...] = tuple(chosen)
        self._check_names()
        given = self._declared(categories)
        found = self._found([name for name, values in given.items() if values is None])
        self.categories: dict[str, tuple[Any, ...]] = {
            name: found[name] if values is None else values for name, values in given.items()
        }
        places = {name: i for i, name in enumerate(self.columns)}
        self.codes: dict[int, int] = {places[name]: 1 + len(values) for name, values in self.categories.items()}
        self.numbers: list[int] = [i for i in range(len(self.columns)) if i not in self.codes]
        self._sets = {name: self._set(name, values) for name, values in self.categories.items()}

    def _module(self, name: str) -> Any:
        """Return a module of pyarrow, which nothing else needs."""
        return library(name, "data", type(self).__name__)

    @property
    def _pa(self) -> Any:
        return self._module("pyarrow")

    @property
    def _compute(self) -> Any:
        return self._module("pyarrow.compute")

    @abstractmethod
    def _schema(self) -> dict[str, Any]:
        """The type of each column, by its name."""

    def _by_name(self, schema: Any) -> dict[str, Any]:
        self._twice |= {name for name, n in Counter(schema.names).items() if n > 1}
        return {field.name: field.type for field in schema}

    @abstractmethod
    def _tables(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield some columns of all rows, chunk by chunk."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The files, for messages."""

    def features(self) -> Iterator[Array]:
        """Yield the X of each chunk, and read nothing else."""
        return map(self._x, self._tables(self.columns))

    def labels(self) -> Iterator[Array]:
        """Yield the y of each chunk, and read nothing else."""
        return map(self._y, self._tables(self._targets))

    @property
    def _used(self) -> list[str]:
        """All columns that are read."""
        return list(dict.fromkeys([*self.columns, *self._targets, *([self._weight] if self._weight else [])]))

    def _chunk(self, table: Any) -> tuple[Array, ...]:
        x = self._x(table)
        if not self._has_target:
            return (x,)
        y = self._y(table)
        return (x, y) if self._weight is None else (x, y, self._numbers(table, self._weight))

    def _x(self, table: Any) -> Array:
        columns = [self._codes(table, n) if n in self._sets else self._numbers(table, n) for n in self.columns]
        x = np.empty((table.num_rows, len(columns)), self._dtype)
        block = np.empty((len(columns), max(16, _BLOCK_ELEMENTS // len(columns))), self._dtype)
        with np.errstate(over="ignore"):  # whoever takes the numbers refuses infinite ones
            for start in range(0, len(x), block.shape[1]):
                m = min(block.shape[1], len(x) - start)
                for place, column in enumerate(columns):
                    block[place, :m] = column[start : start + m]
                x[start : start + m] = block[:, :m].T
        return x

    def _y(self, table: Any) -> Array:
        if not self._is_flat:
            return np.stack([self._numbers(table, name) for name in self._targets], axis=1).astype(self._dtype)
        (name,) = self._targets
        if self._is_text(name):
            self._check_whole(table, name)
            return np.array(table.column(name).to_pylist(), object)
        y = self._numbers(table, name)
        return y.astype(np.int64 if y.dtype.kind in "iub" else self._dtype)

    def _numbers(self, table: Any, name: str) -> Array:
        self._check_whole(table, name)
        array: Array = table.column(name).to_numpy()
        return array

    def _codes(self, table: Any, name: str) -> Array:
        column = self._plain(table.column(name), name)
        places = self._compute.index_in(column, value_set=self._sets[name])
        codes: Array = self._compute.add(self._compute.fill_null(places, -1), 1).to_numpy()
        return codes

    def _check_whole(self, table: Any, name: str) -> None:
        missing = table.column(name).null_count
        if missing:
            raise ValueError(
                f"column {name!r} of {self._where} misses {missing} of {table.num_rows} values: fill them in the file, "
                "or leave out the rows or the column"
            )

    def _set(self, name: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._pa.array(values, self._type(name))
        except (self._pa.ArrowInvalid, self._pa.ArrowTypeError, OverflowError) as error:
            raise ValueError(
                f"categories[{name!r}] is {[*values][:_MOST_SHOWN]}, but the column holds {self._kind(name)}: {error}"
            ) from error

    def _type(self, name: str) -> Any:
        """The type of a column's values, which a dictionary may hold."""
        found = self._types[name]
        return found.value_type if self._pa.types.is_dictionary(found) else found

    def _plain(self, column: Any, name: str) -> Any:
        return column.cast(self._type(name)) if self._pa.types.is_dictionary(self._types[name]) else column

    def _is_text(self, name: str) -> bool:
        types, found = self._pa.types, self._type(name)
        return bool(types.is_string(found) or types.is_large_string(found) or str(found) == "string_view")

    def _is_number(self, name: str) -> bool:
        types, found = self._pa.types, self._types[name]
        return bool(types.is_integer(found) or types.is_floating(found) or types.is_boolean(found))

    def _kind(self, name: str) -> str:
        return "text" if self._is_text(name) else f"{self._types[name]} values"

    def _check_names(self) -> None:
        if not self.columns or (self._has_target and not self._targets):
            what = "columns" if not self.columns else "target"
            raise ValueError(f"{what} is empty: expected the name of at least one column of {self._where}")
        for name in self._used:
            if name not in self._types or name in self._twice:
                if name in self._twice:
                    raise ValueError(f"{self._where} has several columns {name!r}: give each a name of its own")
                shown = ", ".join(map(repr, [*self._types][:_MOST_SHOWN]))
                raise ValueError(f"{self._where} has no column {name!r}: it has {shown}")
        both = [name for name in self.columns if name in (*self._targets, self._weight)]
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if both or twice:
            why = f"{both[0]!r}, which is a target or weight too" if both else f"{twice[0]!r} twice"
            raise ValueError(f"columns holds {why}: expected other columns than those")
        numbers = [*self._targets, *([self._weight] if self._weight else [])]
        for name in numbers:
            if not (self._is_number(name) or (self._is_flat and name != self._weight and self._is_text(name))):
                raise ValueError(f"column {name!r} of {self._where} holds {self._kind(name)}: expected numbers")

    def _declared(self, categories: Any) -> dict[str, tuple[Any, ...] | None]:
        """The categories of each column that has some, None for those that are to be found."""
        if categories is None:
            categories = {}
        if isinstance(categories, str):
            if categories != "find":
                raise ValueError(f"categories is {categories!r}, expected 'find' or a dict by columns")
            categories = {name: "find" for name in self.columns if self._is_text(name)}
        if not isinstance(categories, Mapping):
            raise TypeError(f"categories is {categories!r}, expected 'find' or a dict by columns")
        declared: dict[str, tuple[Any, ...] | None] = {}
        for name, values in categories.items():
            if name not in self.columns:
                raise ValueError(f"categories has the key {name!r}, but the columns are {', '.join(self.columns)}")
            if isinstance(values, str):
                if values != "find":
                    raise ValueError(f"categories[{name!r}] is {values!r}, expected 'find' or a list of values")
                declared[name] = None
                continue
            check_list(f"categories[{name!r}]", values)
            found = declared[name] = tuple(getattr(values, "tolist", lambda v=values: v)())
            if not found or len(set(found)) < len(found):
                why = "holds a value twice" if found else "is empty"
                raise ValueError(f"categories[{name!r}] {why}: expected the values of the column, each once")
        for name in self.columns:
            if name not in declared and not self._is_number(name):
                how = (
                    f"give categories={{{name!r}: [...]}}, or 'find' in their place, or " if self._is_text(name) else ""
                )
                raise ValueError(
                    f"column {name!r} of {self._where} holds {self._kind(name)}: {how}leave it out of columns"
                )
        return {name: declared[name] for name in self.columns if name in declared}

    def _found(self, names: list[str]) -> dict[str, tuple[Any, ...]]:
        """All values of some columns, sorted, from one pass over these."""
        if not names:
            return {}
        seen: dict[str, set[Any]] = {name: set() for name in names}
        for table in self._tables(names):
            for name, values in seen.items():
                values.update(self._compute.unique(self._plain(table.column(name), name)).to_pylist())
        return {name: tuple(sorted(values - {None})) for name, values in seen.items()}
