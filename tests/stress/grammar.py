"""What can be called, with which arguments, as texts: right ones, and a few that are not."""

from tests.stress.values import DTYPES, FILLS, HARMLESS, JUNK, LAYOUTS, NONSENSE


class Text:
    """Draws texts with one generator; m samples, d inputs and k outputs are those of a whole call."""

    def __init__(self, rng):
        self._rng = rng
        self.sizes = {"m": self.one(1, 2, 7, 33), "d": self.one(1, 3, 8, 17), "k": self.one(1, 2, 5, 16)}
        self.floats = self.one("f4", "f8")

    def one(self, *options):
        """One of the options."""
        return options[self._rng.integers(len(options))]

    def chance(self, share):
        """Whether something happens that does in a share of all cases."""
        return bool(self._rng.random() < share)

    def shape(self, dims):
        """The sizes of the letters in ``dims``."""
        return tuple(self.sizes[dim] for dim in dims)

    def hostile_array(self, dims):
        """An array of which anything may be wrong."""
        shape = list(self.shape(dims))
        if self.chance(0.4):
            shape = self.one([], shape[::-1], [n + 1 for n in shape], [*shape, 1], [0, *shape[1:]], shape[:-1],
                             [max(0, n - 1) for n in shape], [1, *shape], [*shape[:-1], 0])  # fmt: skip
        dtype = self.one(*DTYPES) if self.chance(0.4) else self.floats
        fill = self.one(*FILLS, 2, 300) if self.chance(0.6) else "normal"
        layout = self.one(*LAYOUTS) if self.chance(0.6) else "plain"
        return f"arr({tuple(shape)}, {dtype!r}, {fill!r}, {layout!r})"


class Array:
    """An array of these dimensions."""

    def __init__(self, dims, fill="normal", dtype=None, written=False):
        self.dims, self.fill, self.dtype, self.written = dims, fill, dtype, written

    def right(self, text):
        fill = text.sizes.get(self.fill, self.fill)
        layouts = ("plain", "strided", "unaligned", "guarded", "fortran") if self.written else HARMLESS
        layout = text.one(*layouts) if text.chance(0.5) else "plain"
        return f"arr({text.shape(self.dims)}, {self.dtype or text.floats!r}, {fill!r}, {layout!r})"

    def wrong(self, text):
        return text.one(*JUNK) if text.chance(0.2) else text.hostile_array(self.dims)


class One:
    """One of these texts; anything else is wrong, but for numbers that would take too long where it is ``dear``."""

    def __init__(self, *options, dear=False):
        self.options, self.dear = options, dear

    def right(self, text):
        return text.one(*self.options)

    def wrong(self, text):
        if text.chance(0.1) and not self.dear:
            return text.hostile_array("m")
        return text.one(*(NONSENSE if self.dear else JUNK))


class Fixed(One):
    """One of these texts, and never another."""

    def wrong(self, text):
        return self.right(text)


class Or:
    """One kind of argument or another."""

    def __init__(self, *kinds):
        self.kinds = kinds

    def right(self, text):
        return text.one(*self.kinds).right(text)

    def wrong(self, text):
        return text.one(*self.kinds).wrong(text)


class Pair:
    """A tuple of two arguments."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def right(self, text):
        return f"({self.first.right(text)}, {self.second.right(text)})"

    def wrong(self, text):
        if text.chance(0.3):
            return text.one(*JUNK, "(arr((2, 3)),)", "(None, None)")
        kinds = (self.first.wrong, self.second.right) if text.chance(0.5) else (self.first.right, self.second.wrong)
        return "({}, {})".format(*(kind(text) for kind in kinds))


X, SCORES, WEIGHTS = Array("md"), Array("mk"), Array("m", "positive")
LABELS = Array("m", "k", "i8")
CLASSES = Or(LABELS, LABELS, Array("mk", "shares"))
NUMBER = One("0.1", "1e-3", "0.5", "np.float32(0.25)", "1", "np.array(0.1)")
SHARE = One("0.0", "0.5", "0.9", "np.float64(0.25)", "0")
COUNT = One("1", "2", "np.int64(3)", "5", dear=True)
FLAG = One("True", "False", "np.True_")
AXIS = One("-1", "0", "1", "None", "(0, 1)", "np.int64(1)")
DTYPE = One("'float32'", "'float64'", "np.float32", "np.dtype('f8')")
LOSS = One("'cross_entropy'", "fnn.CrossEntropy()", "fnn.CrossEntropy(0.1)", "OwnLoss()", "fnn.Huber(0.5)",
           "'absolute_error'", "fnn.BinaryCrossEntropy(2)", "fnn.Pinball(0.3)", "'poisson'")  # fmt: skip
OPTIMIZER = One(
    "'sgd'",
    "'adam'",
    "fnn.AdamW(0.01)",
    "fnn.SGD(0.1, 0.9, True)",
    "fnn.Adam(0.01)",
    "optimizer",
    "OPTIMIZERS['schedule']()",
)
PER = One("'epoch'", "'step'")
METRICS = One("None", "['f1']", "['mae', 'r2']", "{'mine': lambda y, outputs: outputs.sum()}", "[]")
CALLBACKS = One("None", "[]", "[lambda *given: None]", "[fnn.EarlyStopping(1, monitor='loss')]", "()")
CLASS_WEIGHT = One("'balanced'", "{0: 2.0}", "None", "{}")
BUILT = One("fnn.ReLU()", "fnn.Linear(3, 4)", "fnn.Tanh()", "fnn.Dropout(0.1)", "UserReLU()", "fnn.LeakyReLU(0.2)",
            "fnn.GELU()", "fnn.LayerNorm(4)", "fnn.SiLU()", "fnn.ELU(0.5)")  # fmt: skip
PATH = One("folder / 'new.npz'", "str(folder / 'new.npz')", "folder / 'nowhere' / 'new.npz'", "folder")
MODEL = One("model")

_loss = {"scores": SCORES, "y": CLASSES, "sample_weight?": WEIGHTS}
_squares = {"pred": SCORES, "y": Array("mk"), "sample_weight?": WEIGHTS}
_elementwise = {"x": X}
_gate = {"dy": X, "y": X}
_w = {name: Array("dk", written=True) for name in ("w", "v", "m")}
_training = {
    "X": X, "y": CLASSES, "loss?": LOSS, "optimizer?": OPTIMIZER, "l2?": NUMBER, "batch_size?": COUNT,
    "sample_weight?": WEIGHTS,
}  # fmt: skip

# Each call, and its arguments; those with a question mark may be left out, those before a star go by position.
FUNCTIONS = {
    "fnn.matmul": {"a": Array("md"), "b": Array("dk"), "out?": Array("mk", written=True)},
    "fnn.linear": {"x": X, "w": Array("dk"), "b": Array("k")},
    "fnn.linear_backward": {"dy": SCORES, "x": X, "w": Array("dk"), "l2?": NUMBER},
    **{f"fnn.{name}": {"s": Or(X, Array("mdk"), Array("d")), "axis?": AXIS}
       for name in ("softmax", "log_softmax", "logsumexp")},
    **{f"fnn.cross_entropy{end}": _loss for end in ("", "_backward", "_and_gradient")},
    **{f"fnn.squared_error{end}": _squares for end in ("", "_backward", "_and_gradient")},
    **{f"fnn.{name}": _elementwise for name in ("identity", "relu", "tanh", "sigmoid")},
    **{f"fnn.{name}_backward": _gate for name in ("identity", "relu", "tanh", "sigmoid")},
    "fnn.leaky_relu": {**_elementwise, "slope?": NUMBER},
    "fnn.leaky_relu_backward": {**_gate, "slope?": NUMBER},
    "fnn.sgd_update": {"w": _w["w"], "dw": Array("dk"), "lr": NUMBER},
    **{f"fnn.{name}_update": {"w": _w["w"], "dw": Array("dk"), "v": _w["v"], "lr": NUMBER, "momentum": SHARE}
       for name in ("momentum", "nesterov")},
    "fnn.adam_update": {"w": _w["w"], "dw": Array("dk"), "m": _w["m"], "v": _w["v"], "lr?": NUMBER, "beta1?": SHARE,
                        "beta2?": SHARE, "eps?": NUMBER, "t?": One("1", "2", "10**6")},
    "fnn.rmsprop_update": {"w": _w["w"], "dw": Array("dk"), "s": _w["v"], "lr?": NUMBER, "alpha?": SHARE,
                           "eps?": NUMBER},
    "fnn.CrossEntropy(0.1).forward": _loss,
    "fnn.CrossEntropy(0.1).backward": _loss,
    "fnn.SquaredError().backward": {k.replace("scores", "pred"): v for k, v in _squares.items()},
    "fnn.ReLU().forward": {"x": X, "training?": FLAG},
}  # fmt: skip
MAKERS = {
    "fnn.Linear": {"n_in": COUNT, "n_out": COUNT, "init?": Or(One("'he'", "'zeros'", "fnn.initializers.glorot"),
                                                                Array("dk")), "bias?": Or(FLAG, Array("k"))},
    "fnn.LeakyReLU": {"slope?": NUMBER},
    "fnn.Dropout": {"rate?": SHARE},
    "fnn.SGD": {"lr?": NUMBER, "momentum?": SHARE, "nesterov?": FLAG},
    "fnn.Adam": {"lr?": NUMBER, "beta1?": SHARE, "beta2?": SHARE, "eps?": NUMBER},
    "fnn.CrossEntropy": {"label_smoothing?": SHARE},
    "fnn.EarlyStopping": {"patience?": COUNT, "min_delta?": NUMBER, "monitor?": One("'loss'", "'val_accuracy'"),
                          "restore_best?": FLAG},
    "fnn.Sequential": {"*0": BUILT, "*1?": BUILT, "*2?": BUILT, "dtype?": DTYPE, "seed?": One("0", "None", "2**40")},
    "fnn.schedules.step_decay": {"lr": NUMBER, "factor?": NUMBER, "every?": COUNT},
    "fnn.schedules.cosine_decay": {"lr": NUMBER, "epochs": COUNT, "final?": NUMBER},
    "fnn.schedules.linear_warmup": {"schedule": Or(NUMBER, One("lambda epoch: 0.1")), "epochs": COUNT},
    "fnn.schedules.cosine": {"lr": NUMBER, "length": COUNT, "final?": NUMBER, "warmup?": COUNT, "per?": PER},
    "fnn.schedules.one_cycle": {"lr": NUMBER, "length": COUNT, "start?": NUMBER, "warmup?": COUNT, "per?": PER},
    "fnn.schedules.step": {"lr": NUMBER, "factor?": NUMBER, "every?": COUNT, "warmup?": COUNT, "per?": PER},
    "fnn.schedules.piecewise": {"rates": One("[0.1, 0.01]", "(1, 2)"), "boundaries": One("[3]", "(8,)"), "per?": PER},
    "fnn.ModelCheckpoint": {"path": PATH, "monitor?": One("'loss'", "'val_f1'"), "save_best_only?": FLAG},
    "fnn.ReduceOnPlateau": {"factor?": SHARE, "patience?": COUNT, "min_delta?": NUMBER,
                            "monitor?": One("'loss'", "'val_accuracy'"), "min_lr?": NUMBER},
    "fnn.set_num_threads": {"n": One("1", "2", "np.int64(2)", dear=True)},
    "fnn.use_backend": {"name": One("'numpy'", "'numba'")},
    "fnn.warmup": {"dtypes?": One("['float32']", "('float64',)", "[]")},
    "fnn.load": {"path": PATH},
    "fnn.datasets.load_npz": {"path": PATH, "x?": One("'X'", "'y'"), "y?": One("'X'", "'y'")},
    "fnn.datasets.load_csv": {"path": One("folder / 'table.csv'", "str(folder / 'table.csv')"), "label?":
                              One("-1", "0", "'b'", "np.int64(1)"), "delimiter?": One("','", "';'"),
                              "header?": One("None", "True", "False"), "dtype?": DTYPE},
    "fnn.datasets.load_idx": {"folder": One("folder"), "dtype?": DTYPE},
    "fnn.datasets.load_digits": {"dtype?": Or(DTYPE, One("'uint8'"))},
}  # fmt: skip
METHODS = {
    "model.fit": {**_training, "epochs?": COUNT, "accumulate?": COUNT, "shuffle?": FLAG, "class_weight?": CLASS_WEIGHT,
                  "validation_data?": Pair(X, CLASSES), "validation_split?": SHARE, "callbacks?": CALLBACKS,
                  "metrics?": METRICS, "verbose?": One("0")},
    "model.forward": {"X": X, "training?": FLAG},
    "model.backward": {"dy": SCORES, "l2?": NUMBER},
    "model.predict": {"X": X},
    "model.predict_proba": {"X": X},
    "model.evaluate": {"X": X, "y": CLASSES, "sample_weight?": WEIGHTS, "metrics?": METRICS},
    "model.save": {"path": PATH},
    "optimizer.step": {"model": MODEL},
    "model.layers[0].forward": {"x": X},
    "model.layers[-1].backward": {"dy": SCORES},
    "model.__setattr__": {"*0": Fixed("'loss'"), "*1": LOSS},
    "optimizer.__setattr__": {"*0": Fixed("'lr'"), "*1": NUMBER},
    "fnn.Sequential(fnn.Linear(3, 2)).layers[0].__setattr__": {"*0": Fixed("'weight'", "'bias'"), "*1": Array("dk")},
    "fnn.check_gradients": {"model": MODEL, "X": X, "y": CLASSES, "loss?": LOSS, "l2?": NUMBER, "n_checks?": COUNT},
    "fnn.profile": {"model": MODEL, **_training, "seconds?": One("0.001", dear=True)},
}  # fmt: skip
ESTIMATORS = {
    "MLP.fit": {
        "X": X,
        "y": LABELS,
        "sample_weight?": WEIGHTS,
        "validation_data?": Pair(X, LABELS),
        "X_val?": X,
        "y_val?": LABELS,
    },
    "MLP.partial_fit": {"X": X, "y": LABELS},
    "MLP.predict": {"X": X},
    "MLP.score": {"X": X, "y": LABELS},
}
# Settings of an estimator, of which some are wrong.
SETTINGS = {
    "hidden_layer_sizes": One("(5,)", "(4, 3)", "()", "3", "[7]", dear=True),
    "activation": One("'relu'", "'tanh'", "'logistic'", "'leaky_relu'", "'silu'", "('relu',)"),
    "solver": One("'adam'", "'sgd'", "'lbfgs'"), "alpha": NUMBER, "batch_size": One("'auto'", "3", "200", dear=True),
    "learning_rate": One("'constant'", "'adaptive'", "'invscaling'"), "learning_rate_init": NUMBER,
    "shuffle": FLAG, "random_state": One("0", "None", "np.random.RandomState(1)"), "tol": NUMBER, "warm_start": FLAG,
    "momentum": SHARE, "nesterovs_momentum": FLAG, "early_stopping": FLAG, "validation_fraction": One("0.1", "0.5"),
    "beta_1": SHARE, "beta_2": SHARE, "epsilon": NUMBER, "n_iter_no_change": COUNT, "dropout": SHARE,
    "dtype": One("None", "'float32'", "'float64'"), "callbacks": CALLBACKS, "n_threads": One("None", "1", "2"),
    "class_weight": CLASS_WEIGHT, "label_smoothing": SHARE, "stratify": FLAG, "max_fun": COUNT,
    "optimizer": One("None", "'adamw'"), "weight_decay": SHARE, "clip_norm": Or(NUMBER, One("None")),
    "layer_norm": FLAG, "batch_norm": FLAG,
}  # fmt: skip
OF_CLASSIFIERS = ("class_weight", "label_smoothing", "stratify")
