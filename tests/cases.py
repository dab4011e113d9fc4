"""The one table of cases: sizes, layouts, dtypes, scores and networks, for the tests and the benchmarks."""

import numpy as np

DTYPES = (np.float32, np.float64)

# Both sides of the edges of every register tile: 4, 6 or 14 rows by 1, 2 or 3 vectors of 2 to 16 elements.
EDGES = (0, 1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 28, 31, 32, 33, 47, 48, 49, 64, 100)
# Both sides of the cache blocks along the inner dimension.
INNER_EDGES = (255, 256, 257, 511, 513, 1023, 1025, 2049)

# (m, k, n) of a (m, k) times a (k, n) product, each pair of edges (m, n) with an inner size of its own.
EDGE_PRODUCTS = [
    (m, EDGES[(3 * i + 5 * j + 1) % len(EDGES)], n) for i, m in enumerate(EDGES) for j, n in enumerate(EDGES)
]
DEEP_PRODUCTS = [(m, k, n) for k in INNER_EDGES for m, n in [(1, 1), (1, 100), (15, 33), (64, 10), (100, 49)]]
WIDE_PRODUCTS = [(300, 70, 520), (520, 33, 300), (3, 5, 2049), (2049, 5, 3), (129, 257, 1025)]
TRAINING_PRODUCTS = [(64, 784, 128), (784, 64, 128), (64, 128, 784), (128, 784, 10), (784, 128, 10), (1, 64, 100)]

# Rows and columns of scores: the width of a vector and of its tail, one row, one column, rows longer than a page.
SCORE_SHAPES = [
    (0, 3),
    (1, 1),
    (3, 1),
    (1, 2),
    (5, 7),
    (64, 10),
    (17, 16),
    (33, 31),
    (2, 33),
    (4, 100),
    (3, 1000),
    (2, 5003),
]
# Lengths of flat arrays for elementwise kernels.
LENGTHS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000)


def _embedded(values, rows, columns):
    """The values as the view [rows, columns] of a larger array of NaN."""
    m, n = values.shape
    big = np.full((3 * m + 5, 3 * n + 5), np.nan, values.dtype)
    view = big[rows, columns][:m, :n]
    view[...] = values
    return view


def _read_only(values):
    view = values.copy()
    view.flags.writeable = False
    return view


def _shifted(values):
    """C-contiguous, but starting one element after a multiple of the vector width."""
    flat = np.full(values.size + 17, np.nan, values.dtype)
    start = (-flat.ctypes.data // values.itemsize) % 16 + 1
    view = flat[start : start + values.size].reshape(values.shape)
    view[...] = values
    return view


def _field(values):
    """A column of packed records: strides that are no multiple of the element, and addresses off its alignment."""
    records = np.zeros(len(values), [("key", np.uint8), ("values", values.dtype, values.shape[1:])])
    records["values"] = values
    return records["values"]


def _memmap(values, folder):
    if values.size == 0:
        return values
    path = folder / f"{values.shape}-{values.dtype}-{values.ctypes.data}.dat"
    values.tofile(path)
    return np.memmap(path, values.dtype, "r", shape=values.shape)


# name: (values, a folder for files) -> an array with the same values in that layout.
LAYOUTS = {
    "c": lambda values, folder: np.ascontiguousarray(values),
    "fortran": lambda values, folder: np.asfortranarray(values),
    "rows of a wider array": lambda values, folder: _embedded(values, slice(1, None), slice(2, None)),
    "every second column": lambda values, folder: _embedded(values, slice(None), slice(1, None, 2)),
    "every third row": lambda values, folder: _embedded(values, slice(2, None, 3), slice(None)),
    "transposed view": lambda values, folder: _embedded(values.T, slice(1, None, 2), slice(3, None)).T,
    "backwards": lambda values, folder: _embedded(values, slice(None, None, -1), slice(None, None, -1)),
    "backwards rows": lambda values, folder: _embedded(values, slice(None, None, -2), slice(1, None)),
    "read-only": lambda values, folder: _read_only(values),
    "off the vector width": lambda values, folder: _shifted(values),
    "field of packed records": lambda values, folder: _field(values),
    "memmap": _memmap,
}

# name: one row of scores with a result that scipy.special defines, every one wider than a vector once it is tiled.
SCORE_ROWS = {
    "plain": [1.0, 2.0, 3.0],
    "shifted far up": [10001.0, 10002.0, 10003.0],
    "shifted far down": [-10001.0, -10002.0, -10003.0],
    "one -inf": [-np.inf, 1.0, 2.0],
    "all -inf": [-np.inf, -np.inf, -np.inf],
    "one +inf": [1.0, np.inf, 2.0],
    "two +inf": [np.inf, np.inf, 0.0],
    "+inf and a large score": [np.inf, 800.0, 1.0],
    "both infinities": [np.inf, -np.inf, 0.0],
    "NaN": [1.0, np.nan, 2.0],
    "NaN first": [np.nan, 1.0, 2.0],
    "NaN and +inf": [np.inf, np.nan, 0.0],
    "NaN and -inf": [-np.inf, np.nan, -np.inf],
    "the range of the type": [1e38, -3e38, 3e38],
    "subnormal results": [0.0, -90.0, -100.0],
    "zeros": [0.0, -0.0, 0.0],
}

# name: input width and layers. An int is a Linear of that width, a pair (width, False) one without bias, a word an
# activation, and leaky_relu carries its slope.
NETWORKS = {
    "linear": (7, [3]),
    "linear without bias": (7, [(3, False)]),
    "one wide": (1, [1, "tanh", 1]),
    "one hidden layer": (20, [32, "relu", 2]),
    "two hidden layers": (13, [17, "tanh", 33, "sigmoid", 5]),
    "linear after linear": (6, [15, 4, 3]),
    "leading activation": (9, ["tanh", 14, "relu", 4]),
    "leading activations": (9, ["sigmoid", ("leaky_relu", 0.2), 3]),
    "consecutive activations": (8, [16, "tanh", "sigmoid", "relu", 3]),
    "closing activation": (8, [16, ("leaky_relu", 0.1), 4, "tanh"]),
    "closing activations": (8, [5, "sigmoid", "identity", "tanh"]),
    "no bias": (12, [(31, False), "relu", (3, False)]),
    "activation alone": (4, ["tanh"]),
    "past the vector width": (65, [49, ("leaky_relu", 0.01), 100, "identity", 17]),
    "wide": (130, [257, "relu", 10]),
    "more weights than a block of gradients": (300, [257, "relu", 3]),
    "more outputs than a block of gradients": (15, [4800, "tanh", 2]),
    "past the cache blocks": (1060, [20, ("leaky_relu", 0.1), 1030, "relu", 3]),
}
