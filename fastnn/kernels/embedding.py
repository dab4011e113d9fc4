"""Embeddings: codes in some columns become rows of tables, behind the other columns; the twin is of the same name.

A batch has a gradient for those rows of a table alone that it holds codes of, which are found here, and their
gradients summed in the order of the samples. A code that is none gives NaN, and nothing is read or written for it.
"""

import numpy as np

from .compiler.jit import Shared, inline
from .operations import (
    OPERATIONS,
    Operation,
    aligned,
    apply_to,
    back_through,
    backward_signature,
    forward_signature,
    gradient_of,
    gradient_signature,
    gradients_at,
)
from .simd.vector import get, lanes, load_part, pointer, put, shift, store_part

# Settings: how many columns hold codes, and for each, from the first on, the column, its categories, and the width.
COLUMN, CATEGORIES, WIDTH = range(3)
PER_TABLE = 3


@inline
def _setting(settings, table, what):
    return int(get(settings, 1 + PER_TABLE * table + what))


@inline
def _code(value, categories):
    """The category that a number stands for, -1 for none."""
    if not 0.0 <= value < categories:  # NaN included
        return -1
    code = int(value)
    return code if float(code) == value else -1


@inline
def _plain(rows, n_in, x, x_ld, y, y_ld, settings):
    """Copy the columns without codes, one beside the other, and return how many they are."""
    to, table, count = 0, 0, int(get(settings, 0))
    for j in range(n_in):
        if table < count and _setting(settings, table, COLUMN) == j:
            table += 1
        else:
            for r in range(rows):
                put(y, r * y_ld + to, get(x, r * x_ld + j))
            to += 1
    return to


def _forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    vector, to, start = lanes(x), _plain(rows, n_in, x, x_ld, y, y_ld, settings), 0
    for table in range(int(get(settings, 0))):
        column, categories = _setting(settings, table, COLUMN), _setting(settings, table, CATEGORIES)
        width = _setting(settings, table, WIDTH)
        for r in range(rows):
            code, out = _code(get(x, r * x_ld + column), categories), shift(y, r * y_ld + to)
            source = shift(params, start + max(0, code) * width)
            for j in range(0, width, vector):
                n = min(vector, width - j)
                values = load_part(source, j, n, 0.0)
                store_part(out, j, n, values if code >= 0 else values * np.nan)
        start += aligned(categories * width)
        to += width


def _backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    """The gradient at a code is 0."""
    at, table, count = 0, 0, int(get(settings, 0))
    for j in range(n_in):
        holds_codes = table < count and _setting(settings, table, COLUMN) == j
        for r in range(rows):
            put(dx, r * dx_ld + j, 0.0 if holds_codes else get(d, r * d_ld + at))
        table, at = (table + 1, at) if holds_codes else (table, at + 1)


def _gradient(m, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, kept, params, settings, step, which, first, count, out):
    """Of a table: all of its rows that the batch holds, into ``kept``, for first < 0; else some elements of it."""
    count_of_tables = int(get(settings, 0))
    column, categories = _setting(settings, which, COLUMN), _setting(settings, which, CATEGORIES)
    width, at = _setting(settings, which, WIDTH), n_in - count_of_tables
    for table in range(which):
        at += _setting(settings, table, WIDTH)
    if first < 0:
        _gather(m, shift(x, column), x_ld, categories, shift(d, at), d_ld, width, kept)
        return
    for i in range(count):
        put(out, i, 0.0)
    for r in range(m):
        code = _code(get(x, r * x_ld + column), categories)
        if code >= 0:
            start = code * width - first
            for j in range(max(0, -start), min(width, count - start)):
                put(out, start + j, get(out, start + j) + get(d, r * d_ld + at + j))


@inline
def _gather(m, x, x_ld, categories, d, d_ld, width, kept):
    """The rows of a table that m samples hold codes of, in the order of the first of each, and their gradients.

    They stand in ``kept`` as ``operations.gradients_at`` has it. The row of a code is found by a table of hashes, the
    codes' places plus one, of two to four times as many places as samples.
    """
    codes, gradients, vector = pointer(kept, np.int64(0)), shift(kept, gradients_at(m)), lanes(d)
    hashes, size = shift(codes, 1 + m), 1
    while size < 2 * m:
        size *= 2
    for i in range(size):
        put(hashes, i, 0)
    n = 0
    for r in range(m):
        code = _code(get(x, r * x_ld), categories)
        if code < 0:
            continue
        place = (code * 2654435761 >> 7) & (size - 1)
        while get(hashes, place) != 0 and get(codes, get(hashes, place)) != code:
            place = (place + 1) & (size - 1)
        source = shift(d, r * d_ld)
        if get(hashes, place) == 0:
            n += 1
            put(hashes, place, n)
            put(codes, n, code)
            total = shift(gradients, (n - 1) * width)
            for j in range(0, width, vector):
                count = min(vector, width - j)
                store_part(total, j, count, load_part(source, j, count, 0.0))
        else:
            total = shift(gradients, (get(hashes, place) - 1) * width)
            for j in range(0, width, vector):
                count = min(vector, width - j)
                store_part(total, j, count, load_part(total, j, count, 0.0) + load_part(source, j, count, 0.0))
    put(codes, 0, n)


OPERATIONS["embedding"] = EMBEDDING = Operation(
    Shared(_forward, forward_signature, name="embedding"),
    Shared(_backward, backward_signature, name="embedding_backward"),
    Shared(_gradient, gradient_signature, name="embedding_gradient"),
)


def embedding(x: np.ndarray, *arguments: np.ndarray | float) -> None:
    """out (m, k) = the columns without codes, then for each column of codes its rows of a table.

    The arguments are the tables, the settings, and ``out``; see ``fastnn.reference.embedding``.
    """
    (*tables, out), settings = _parted(arguments)
    apply_to(EMBEDDING, x, out, np.empty(0, x.dtype), tuple(tables), *settings)


def embedding_backward(dy: np.ndarray, x: np.ndarray, *arguments: np.ndarray | float) -> None:
    """dx (m, n), 0 for codes, and the gradients of the tables, from dy (m, k).

    The arguments are the tables, the settings, dx, and the gradients.
    """
    arrays, settings = _parted(arguments)
    count = int(settings[0])
    tables, (dx, *gradients) = tuple(arrays[:count]), arrays[count:]
    kept = np.empty(0, x.dtype)
    back_through(EMBEDDING, dy, x, dx, kept, tables, *settings)
    for which, gradient in enumerate(gradients):
        gradient_of(EMBEDDING, which, dy, x, gradient, kept, tables, *settings)


def embedding_rows(x: np.ndarray, which: int, *settings: float) -> np.ndarray:
    """The rows of a table that x holds codes of."""
    column, categories, _ = (int(number) for number in settings[1 + PER_TABLE * which :][:PER_TABLE])
    codes = x[:, column]
    return np.unique(codes[(codes >= 0) & (codes < categories) & (codes == np.floor(codes))]).astype(np.int64)


def _parted(arguments: tuple[np.ndarray | float, ...]) -> tuple[list[np.ndarray], list[float]]:
    """Arrays and numbers, each in their order."""
    arrays = [value for value in arguments if isinstance(value, np.ndarray)]
    return arrays, [float(value) for value in arguments if not isinstance(value, np.ndarray)]
