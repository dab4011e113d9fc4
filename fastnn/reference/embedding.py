"""Embeddings: codes in some columns become rows of tables, behind the other columns.

Among the arguments are as many tables (categories x width,) as columns hold codes, and after them numbers: how many
columns that are, and for each the column, from the first on, its categories, and the width.
"""

import numpy as np


@np.errstate(all="ignore")
def embedding(x, *arguments):
    """out (m, k) = the columns without codes, then for each column of codes its rows of a table; NaN for no code.

    The arguments are the tables, the settings, and ``out``.
    """
    (*tables, out), settings = _parted(arguments)
    columns, parts = _columns(settings), [np.delete(x, [column for column, *_ in _columns(settings)], axis=1)]
    for table, (column, categories, width) in zip(tables, columns, strict=True):
        codes, known = _codes(x[:, column], categories)
        parts.append(np.where(known[:, None], table.reshape(categories, width)[codes], np.nan))
    np.copyto(out, np.hstack(parts))


@np.errstate(all="ignore")
def embedding_backward(dy, x, *arguments):
    """dx (m, n), 0 for codes, and the gradients of the tables, from dy (m, k).

    The arguments are the tables, the settings, dx, and the gradients.
    """
    arrays, settings = _parted(arguments)
    columns = _columns(settings)
    dx, *gradients = arrays[len(columns) :]
    plain = np.delete(np.arange(x.shape[1]), [column for column, *_ in columns])
    dx[...] = 0
    dx[:, plain] = dy[:, : len(plain)]
    at = len(plain)
    for gradient, (column, categories, width) in zip(gradients, columns, strict=True):
        codes, known = _codes(x[:, column], categories)
        gradient[...] = 0
        np.add.at(gradient.reshape(categories, width), codes[known], dy[known, at : at + width])
        at += width


def embedding_rows(x, which, *settings):
    """The rows of a table that x holds codes of: a batch moves no other, whatever the rule."""
    column, categories, _ = _columns(settings)[which]
    codes, known = _codes(x[:, column], categories)
    return np.unique(codes[known])


def _columns(settings):
    """(column, categories, width) of each table."""
    return [tuple(map(int, settings[at : at + 3])) for at in range(1, len(settings), 3)]


def _codes(values, categories):
    """Numbers as codes, 0 for what is none, and which are codes."""
    known = (values >= 0) & (values < categories) & (values == np.floor(values))
    return np.where(known, values, 0).astype(np.int64), known


def _parted(arguments):
    """Arrays and numbers, each in their order."""
    is_array = [isinstance(value, np.ndarray) for value in arguments]
    arrays = [value for value, array in zip(arguments, is_array, strict=True) if array]
    return arrays, [float(value) for value, array in zip(arguments, is_array, strict=True) if not array]
