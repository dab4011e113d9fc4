"""The one table of cases: sizes, layouts, dtypes, scores, networks and functions, for the tests and the benchmarks."""

import numpy as np

DTYPES = (np.float32, np.float64)

# Both sides of the edges of every register tile: 4, 6 or 14 rows by 1, 2 or 3 vectors of 2 to 16 elements.
EDGES = (0, 1, 2, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 24, 25, 28, 31, 32, 33, 47, 48, 49, 64, 100)
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
    "activations of their input": (9, ["gelu", 14, "gelu", "gelu_tanh", "tanh", 20, "relu", "gelu_tanh", 4]),
    "smooth activations": (9, [14, "silu", "mish", ("elu", 0.7), 11, "hard_swish", 20, "softplus", "relu", "selu", 4]),
    "no bias": (12, [(31, False), "relu", (3, False)]),
    "activation alone": (4, ["tanh"]),
    "past the vector width": (65, [49, ("leaky_relu", 0.01), 100, "identity", 17]),
    "wide": (130, [257, "relu", 10]),
    "more weights than a block of gradients": (300, [257, "relu", 3]),
    "more outputs than a block of gradients": (15, [4800, "tanh", 2]),
    "past the cache blocks": (1060, [20, ("leaky_relu", 0.1), 1030, "relu", 3]),
}


def _product(rng, m, k, n, view=None):
    """a, b and out; the one that is named is the transpose of a C-contiguous array."""
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    return np.asfortranarray(a) if view == "a.T" else a, np.asfortranarray(b) if view == "b.T" else b, np.zeros((m, n))


def _layer(rng, m, d, k):
    return rng.normal(size=(m, d)), rng.normal(size=(d, k)), rng.normal(size=k)


def _layer_backward(rng, m, d, k):
    return rng.normal(size=(m, k)), rng.normal(size=(m, d)), rng.normal(size=(d, k)), 1e-4


def _scores(rng, *shape):
    return (rng.normal(size=shape),)


def _scores_and_labels(rng, m, k):
    return rng.normal(size=(m, k)), rng.integers(0, k, m)


def _pair(rng, *shape):
    """A gradient and the input or output of an activation, or an output and its target."""
    return rng.normal(size=shape), rng.uniform(-1, 1, shape)


def _gelu(rng, m, n, approximate="none"):
    return rng.normal(size=(m, n)), approximate


def _gelu_backward(rng, m, n, approximate="none"):
    return *_pair(rng, m, n), approximate


def _layer_norm(rng, m, n):
    return rng.normal(size=(m, n)), rng.normal(size=n), rng.normal(size=n)


def _layer_norm_backward(rng, m, n):
    return rng.normal(size=(m, n)), *_layer_norm(rng, m, n)


def _update(slots, *settings):
    def build(rng, size):
        return rng.normal(size=size), rng.normal(size=size), *rng.uniform(0.1, 1, size=(slots, size)), *settings

    return build


def _outputs_and_shares(rng, m, n):
    """Scores, targets that are probabilities or means, and what a 1 weighs."""
    return rng.normal(size=(m, n)), rng.uniform(size=(m, n)), 2.0


def _outputs_and_counts(rng, m, n):
    return _outputs_and_shares(rng, m, n)[:2]


def _quantiles(rng, m, n):
    return *_pair(rng, m, n), 0.3


PRODUCTS = [
    *[(64, 784, 128), (784, 64, 128, "a.T"), (64, 128, 784, "b.T"), (1, 64, 100)],
    *[(n, n, n) for n in (32, 512, 1024)],
]
LAYERS = [(32, 64, 100), (128, 784, 256)]
SCORES = [(256, 1000), (8, 32000), (64, 10)]
OUTPUTS = [(16, 1), (128, 784)]
HIDDEN = [(256, 1000)]
SMOOTH = "silu", "mish", "elu", "selu", "softplus", "hard_swish"
FORMS = [*HIDDEN, (256, 1000, "tanh")]
PARAMETERS = [(100_000,)]

# What is measured and compared with the twin. Public function: its sizes, and (generator, *sizes) -> its arguments.
FUNCTIONS = {
    "matmul": (PRODUCTS, _product),
    "linear": (LAYERS, _layer),
    "linear_backward": (LAYERS, _layer_backward),
    "softmax": (SCORES, _scores),
    "log_softmax": (SCORES, _scores),
    "logsumexp": (SCORES, _scores),
    "cross_entropy": (SCORES, _scores_and_labels),
    "cross_entropy_and_gradient": (SCORES, _scores_and_labels),
    "cross_entropy_backward": (SCORES, _scores_and_labels),
    "huber": (OUTPUTS, _pair),
    "huber_and_gradient": (OUTPUTS, _pair),
    "huber_backward": (OUTPUTS, _pair),
    **{
        f"{name}{part}": (OUTPUTS, build)
        for name, build in (
            ("binary_cross_entropy", _outputs_and_shares),
            ("absolute_error", _pair),
            ("pinball", _quantiles),
            ("poisson", _outputs_and_counts),
        )
        for part in ("", "_and_gradient", "_backward")
    },
    "layer_norm": (HIDDEN, _layer_norm),
    "layer_norm_backward": (HIDDEN, _layer_norm_backward),
    "squared_error": (OUTPUTS, _pair),
    "squared_error_and_gradient": (OUTPUTS, _pair),
    "squared_error_backward": (OUTPUTS, _pair),
    "identity": (HIDDEN, _scores),
    "identity_backward": (HIDDEN, _pair),
    "relu": (HIDDEN, _scores),
    "relu_backward": (HIDDEN, _pair),
    "leaky_relu": (HIDDEN, _scores),
    "leaky_relu_backward": (HIDDEN, _pair),
    "tanh": (HIDDEN, _scores),
    "tanh_backward": (HIDDEN, _pair),
    "sigmoid": (HIDDEN, _scores),
    "sigmoid_backward": (HIDDEN, _pair),
    "gelu": (FORMS, _gelu),
    "gelu_backward": (FORMS, _gelu_backward),
    **dict.fromkeys(SMOOTH, (HIDDEN, _scores)),
    **{f"{name}_backward": (HIDDEN, _pair) for name in SMOOTH},
    "sgd_update": (PARAMETERS, _update(0, 1e-3)),
    "momentum_update": (PARAMETERS, _update(1, 1e-3, 0.9)),
    "nesterov_update": (PARAMETERS, _update(1, 1e-3, 0.9)),
    "adam_update": (PARAMETERS, _update(2, 1e-3, 0.9, 0.999, 1e-8, 1)),
    "adamw_update": (PARAMETERS, _update(2, 1e-3, 0.9, 0.999, 1e-8, 0.01, 1)),
    "rmsprop_update": (PARAMETERS, _update(1, 1e-3, 0.99, 1e-8)),
    "rmsprop_momentum_update": (PARAMETERS, _update(2, 1e-3, 0.99, 1e-8, 0.9)),
}


def label(sizes):
    """As in 784 x 64 x 128, a.T."""
    numbers = " x ".join(str(size) for size in sizes if isinstance(size, int))
    return ", ".join([numbers, *(view for view in sizes if isinstance(view, str))])


def arguments(name, sizes, dtype, rng):
    """The arguments of a public function at one of its sizes, the floats of that dtype."""
    return [
        value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for value in FUNCTIONS[name][1](rng, *sizes)
    ]


def outcome(function, given):
    """The arrays that a call returns, or leaves in its first arguments where it is an update in place."""
    result = function(*given)
    if result is None:
        return [value for value in given if isinstance(value, np.ndarray)]
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


# What is trained: widths, batch size, batches an epoch, and loss.
TRAINING = {
    "20-32-2": ((20, 32, 2), 32, 100, "cross_entropy"),
    "64-100-10": ((64, 100, 10), 32, 100, "cross_entropy"),
    "784-10": ((784, 10), 128, 20, "cross_entropy"),
    "784-128-10": ((784, 128, 10), 64, 20, "cross_entropy"),
    "784-256-256-10": ((784, 256, 256, 10), 128, 20, "cross_entropy"),
    "784-1024-1024-10": ((784, 1024, 1024, 10), 256, 4, "cross_entropy"),
    "13-64-64-1": ((13, 64, 64, 1), 16, 100, "squared_error"),
    "784-256-784": ((784, 256, 784), 128, 20, "squared_error"),
    "784-256-784, Huber": ((784, 256, 784), 128, 20, "huber"),
}
# What predicts, each of the networks each number of rows.
INFERENCE = (("64-100-10", "784-256-256-10"), (1, 10_000))


def each_pair(one, other, in_turn):
    """Each of the one with each of the other, and beside them the third ones in turn, so that all of these meet all."""
    return [(a, b, in_turn[(i + j) % len(in_turn)]) for i, a in enumerate(one) for j, b in enumerate(other)]


def samples(count, widths, loss, dtype, rng):
    """X and what a linear map of X gives: its values, or the number of the largest."""
    x = rng.normal(size=(count, widths[0]))
    y = x @ rng.normal(size=(widths[0], widths[-1])) / np.sqrt(widths[0])
    return x.astype(dtype), y.argmax(axis=1) if loss == "cross_entropy" else y.astype(dtype)
