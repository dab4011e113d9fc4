"""Embeddings as a layer: what categories are, as rows of numbers that training finds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, natural, positive_int
from .layers import BuiltIn, built_in, checked

# Codes beyond are not exact in float32, in which they come out of an array of that dtype.
_MOST_CATEGORIES = 1 << 24
# What the kernel keeps for each sample beside the elements of a row, see ``kernels.operations.gradients_at``.
_ROWS_KEPT = 32


@built_in
class Embedding(BuiltIn):
    """Codes in some columns become rows of tables, which are trained; the other columns are passed on as they are.

    A column of a table of data that holds a category, as an integer from 0 on, is no quantity: each category gets
    ``width`` numbers of its own instead. The output holds the other columns in their order, and behind them, in the
    order of the columns, the rows that belong to the codes. It is the first layer, or follows a
    :class:`Standardize` that leaves the codes alone (``adapt(X, columns=...)``).

    Parameters
    ----------
    columns : mapping of int to (int, int)
        For each column that holds codes, its categories and the width: ``{3: (12, 4)}`` makes 4 numbers of each code
        0..11 in column 3.
    trainable, lr_scale
        As of :class:`Linear`.

    Attributes
    ----------
    tables : dict of int to ndarray (categories, width)
        The rows of each column's codes; views into the model's parameters. At first they are drawn from a normal
        distribution with the standard deviation 1/√width. They are not penalised.
    table_grads : dict of int to ndarray (categories, width), empty before the first ``model.backward``

    Raises
    ------
    ValueError
        If there is no column, a number is out of its range, or the data turn out to have fewer columns; by ``fit`` and
        prediction, if a code is none.
    TypeError
        If ``columns`` is no such mapping.

    Notes
    -----
    A batch moves the rows of its own codes alone: those of others keep their values and the optimizer's state of them,
    whatever the rule, and cost nothing. Source: C. Guo and F. Berkhahn, Entity embeddings of categorical variables,
    arXiv 1604.06737, 2016.

    Examples
    --------
    >>> import fastnn as fnn
    >>> embedding = fnn.Embedding({0: (3, 2)})  # behind two other columns
    >>> model = fnn.Sequential(embedding, fnn.Linear(4, 1), seed=0)
    >>> model.forward([[2, 0.5, 0.5]]).shape
    (1, 1)
    """

    operation = "embedding"
    arguments = ("columns",)
    keeps = "x"
    format = 5
    _SAVED = ("_x", "_x_of_gradients")
    _x: Array | None = None
    _x_of_gradients: Array | None = None

    def __init__(
        self, columns: Mapping[int, tuple[int, int]], *, trainable: bool = True, lr_scale: float = 1.0
    ) -> None:
        self.trainable, self.lr_scale = trainable, lr_scale
        self._columns = _checked_columns(columns)
        self.n_in = self.n_out = None

    @property
    def columns(self) -> dict[int, tuple[int, int]]:
        """The categories and the width of each column of codes, fixed when the layer is made."""
        return dict(self._columns)

    @property
    def kept(self) -> int:  # type: ignore[override]  # a class's constant elsewhere
        """What the kernel needs to gather gradients of rows."""
        return _ROWS_KEPT + max(width for _, width in self._columns.values())

    @property
    def tables(self) -> dict[int, Array]:
        """The rows of the codes of each column, views into the model's parameters."""
        return {column: self.read(name) for column, name in zip(self._columns, self.shapes(), strict=True)}

    @property
    def table_grads(self) -> dict[int, Array]:
        """Their gradients from the last ``model.backward``, 0 for rows of other codes."""
        found = self._gradients or {}
        return {column: found[name] for column, name in zip(self._columns, self.shapes(), strict=True) if name in found}

    def row_widths(self) -> dict[str, int]:
        """Return the elements of a row of each table, by its name."""
        return {name: shape[1] for name, shape in self.shapes().items()}

    def rows(self, x: Array) -> dict[str, Array]:
        """Return the rows of each table, by its name, that samples hold codes of."""
        return {name: active().embedding_rows(x, which, *self.numbers()) for which, name in enumerate(self.shapes())}

    @property
    def touched(self) -> dict[str, Array]:
        """The rows of each table, by its name, that the last backward pass has found a gradient for."""
        return {} if self._x_of_gradients is None else self.rows(self._x_of_gradients)

    def outputs_for(self, width: int | None) -> int | None:
        """Return the outputs for so many inputs."""
        if width is None:
            return None
        last = max(self._columns)
        if last >= width:
            raise ValueError(f"{self!r} takes codes from column {last}, but there are {width} columns")
        return width - len(self._columns) + sum(n for _, n in self._columns.values())

    def inputs_for(self, width: int | None) -> int | None:
        """Return the inputs for so many outputs."""
        return None if width is None else width - sum(n for _, n in self._columns.values()) + len(self._columns)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each table."""
        return {f"table{column}": shape for column, shape in self._columns.items()}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return normal numbers."""
        return {name: rng.normal(size=shape) / np.sqrt(shape[1]) for name, shape in self.shapes().items()}

    def read(self, name: str) -> Any:
        """Return the table of that name."""
        if self._views is None:
            raise ValueError(f"{self!r} has no tables yet: they are made when a Sequential is built of it")
        return self._views[name]

    def assign(self, name: str, value: ArrayLike) -> None:
        """Write the values of a table."""
        view = self.read(name)
        view[...] = checked(name, value, view.shape, view.dtype)

    def parameters(self) -> list[Array]:
        """Return the tables."""
        return [self.read(name) for name in self.shapes()]

    def numbers(self) -> tuple[float, ...]:
        """Return how many tables there are, and the column, the categories and the width of each."""
        each = [float(n) for column, shape in self._columns.items() for n in (column, *shape)]
        return float(len(self._columns)), *each

    def config(self) -> dict[str, Any]:
        """Return what makes such a layer, in lists, as files have them."""
        return {"columns": [[column, *shape] for column, shape in self._columns.items()]}

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return (m, n_out) for x (m, n_in), NaN for what is no code."""
        x = np.ascontiguousarray(x)
        out = np.empty((len(x), self.outputs_for(x.shape[1]) or 0), x.dtype)
        active().embedding(x, *(table.ravel() for table in self.parameters()), *self.numbers(), out)
        if training:
            self._x = x
        return out

    def backward(self, dy: Array) -> Array:
        """Return dx (m, n_in) from dy (m, n_out), 0 for codes, and keep the gradients of the tables."""
        if self._x is None:
            raise ValueError(f"{self!r} has no input to go back to: call forward(x, training=True) first")
        tables = [table.ravel() for table in self.parameters()]
        dx, gradients = np.empty_like(self._x), [np.empty_like(table) for table in tables]
        active().embedding_backward(np.ascontiguousarray(dy), self._x, *tables, *self.numbers(), dx, *gradients)
        named = zip(self.shapes().items(), gradients, strict=True)
        self.keep_gradients(**{name: gradient.reshape(shape) for (name, shape), gradient in named})
        self._x_of_gradients = self._x
        return dx

    def check_codes(self, x: Array, name: str, chosen: Array | None = None) -> None:
        """Raise ValueError for the first number in a column of codes that is none, of the rows ``chosen`` alone."""
        for column, (categories, _) in self._columns.items():
            values = x[:, column] if chosen is None else x[chosen, column]
            with np.errstate(invalid="ignore"):
                wrong = ~((values >= 0) & (values < categories) & (values == np.floor(values)))
            if wrong.any():
                place = int(np.argmax(wrong))
                row = place if chosen is None else int(chosen[place])
                raise ValueError(
                    f"{name} holds {values[place]:g} in row {row} of column {column}, but {self!r} has the codes "
                    f"0..{categories - 1} there: expected one of them, or an Embedding with more categories"
                )

    def __repr__(self) -> str:
        return f"Embedding({self._columns})"


def _checked_columns(columns: Any) -> dict[int, tuple[int, int]]:
    """{column: (categories, width)} in the order of the columns, of a mapping or the lists of a file."""
    if isinstance(columns, list) and all(isinstance(entry, list) and len(entry) == 3 for entry in columns):
        columns = {entry[0]: tuple(entry[1:]) for entry in columns}
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns is {columns!r}, expected a mapping such as {{3: (12, 4)}}: column, categories, width")
    if not columns:
        raise ValueError("columns is empty, expected at least one column of codes, such as {3: (12, 4)}")
    found = {}
    for column, shape in columns.items():
        place = natural("column", column)
        if not isinstance(shape, (tuple, list)) or len(shape) != 2:
            raise TypeError(f"columns[{column}] is {shape!r}, expected (categories, width)")
        categories = positive_int(f"categories of column {column}", shape[0])
        if categories > _MOST_CATEGORIES:
            raise ValueError(f"categories of column {column} are {categories}, expected at most {_MOST_CATEGORIES}")
        found[place] = categories, positive_int(f"width of column {column}", shape[1])
    return {column: found[column] for column in sorted(found)}
