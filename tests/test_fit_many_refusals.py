"""fit_many: what it refuses, with nothing changed, and what its lists mean."""

import copy
import threading

import numpy as np
import pytest

import fastnn as fnn
from tests import many
from tests.faults import contents, fingerprint
from tests.many import assert_as_alone, small
from tests.user_code import UserCrossEntropy, UserReLU

pytestmark = pytest.mark.usefixtures("backend")

SHORT = {"epochs": 3, "batch_size": 16}
X, Y = many.labelled(np.random.default_rng(0))
MASK = np.arange(60) % 2 == 0


class Begun:
    """A callback that was begun where all should have been refused, or ended as often as that."""

    def __init__(self):
        self.begun = self.ended = 0

    def begin(self, model, names):
        self.begun += 1

    def __call__(self, model, epoch, values):
        raise AssertionError("a training has begun")

    def end(self, model):
        self.ended += 1


DEFAULT = object()


def refuse(error, message, models=DEFAULT, x=X, y=Y, begins=False, **settings):
    """Three models, whose optimizers and callbacks nothing has touched."""
    models = [small(seed) for seed in range(3)] if models is DEFAULT else models
    own = [model for model in models if isinstance(model, fnn.Sequential)] if isinstance(models, list) else []
    optimizers, callback = [fnn.Adam() for _ in range(3)], Begun()
    settings = {"optimizer": optimizers, "callbacks": [[callback], [], []], "verbose": 0, **settings}
    before = [fingerprint(model, optimizers[0]) for model in own]
    with pytest.raises(error, match=f"^{message}"):
        fnn.fit_many(models, x, y, **settings)
    assert [fingerprint(model, optimizers[0]) for model in own] == before
    assert not any(optimizer._lock.locked() for optimizer in optimizers)
    assert callback.begun == callback.ended
    assert callback.begun == 0 or begins
    for model in {id(model): model for model in own}.values():
        model.fit(X[:, : model.layers[0].n_in], Y, epochs=1, verbose=0)


class TestModels:
    @pytest.mark.parametrize("models", [None, 3, "models", small(), [small(), None], [fnn.Linear(6, 3)]], ids=repr)
    def test_what_are_none(self, models):
        refuse(TypeError, r"models(\[\d\])? is .*, expected a (list of )?Sequential", models)

    def test_none_at_all(self):
        refuse(ValueError, "models is empty, expected at least one Sequential", [])

    def test_one_twice(self):
        one = small()
        refuse(ValueError, r"models\[2\] is the model that models\[0\] is", [one, small(), one])

    def test_layers_in_common(self):
        layer = UserReLU()
        pair = [fnn.Sequential(fnn.Linear(6, 3), layer) for _ in range(2)]
        refuse(
            ValueError,
            r"models\[2\] has the layer .*UserReLU.* in common with models\[0\]",
            [pair[0], small(), pair[1]],
        )
        one = small()
        refuse(
            ValueError, r"models\[1\] has the layer Linear\(6, 5\) in common with models\[0\]", [one, copy.copy(one)]
        )

    @pytest.mark.parametrize("together", [False, True])
    def test_one_in_training_elsewhere(self, together):
        class Waiting(UserCrossEntropy):
            def forward(self, scores, y, *weights):
                entered.set()
                assert leave.wait(60)
                return super().forward(scores, y)

        entered, leave, busy = threading.Event(), threading.Event(), small(1)
        settings = {"loss": Waiting(), "epochs": 1, "verbose": 0}

        def train():
            fnn.fit_many([small(9), busy], X, Y, **settings) if together else busy.fit(X, Y, **settings)

        thread = threading.Thread(target=train)
        thread.start()
        try:
            assert entered.wait(60)
            message = "the model is busy training at this moment"
            others = [small(0), small(2)]
            before = [contents(model, fnn.SGD()) for model in others]
            with pytest.raises(ValueError, match=rf"^models\[1\]: {message}"):
                fnn.fit_many([others[0], busy, others[1]], X, Y, verbose=0)
            assert [contents(model, fnn.SGD()) for model in others] == before
            with pytest.raises(ValueError, match=f"^{message}"):
                busy.fit(X, Y, verbose=0)
        finally:
            leave.set()
            thread.join()
        assert len(busy.history["loss"]) == 1
        fnn.fit_many([busy, *others], X, Y, verbose=0)

    def test_one_in_training_by_the_caller(self):
        """Within a callback fit may be called for the same model, but not fit_many, nor fit for one of the others."""

        def inner(model, epoch, values):
            with pytest.raises(ValueError, match=r"^models\[1\]: the model is busy training"):
                fnn.fit_many([small(), model], X, Y, verbose=0)
            with pytest.raises(ValueError, match=r"^the model is busy training"):
                other.fit(X, Y, verbose=0)
            model.fit(X, Y, epochs=1, verbose=0)

        model, other = small(0), small(1)
        assert_as_alone([model, other], X, Y, [{"callbacks": [inner_fit], **SHORT}, SHORT])
        fnn.fit_many([model, other], X, Y, epochs=[3, 99], callbacks=[[inner], None], verbose=0)


def inner_fit(model, epoch, values):
    model.fit(X, Y, epochs=1, verbose=0)


class TestLists:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("loss", ["huber"] * 2),
            ("optimizer", [fnn.SGD(), "adam"]),
            ("l2", [0.1] * 4),
            ("epochs", [1]),
            ("batch_size", []),
            ("shuffle", [True, False]),
            ("rows", [MASK, MASK]),
            ("rows", [[1, 2], [3, 4]]),
            ("validation_rows", [None] * 4),
            ("validation_data", [(X, Y)] * 2),
            ("sample_weight", [None, np.ones(60)]),
            ("class_weight", ["balanced"] * 2),
            ("class_weight", [{0: 1.0}]),
            ("callbacks", [[], []]),
            ("callbacks", [None]),
        ],
    )
    def test_of_the_wrong_length(self, name, value):
        refuse(ValueError, rf"{name} is a list of {len(value)}, but there are 3 models: expected one", **{name: value})

    def test_of_data_of_the_wrong_length(self):
        refuse(ValueError, "X is a list of 2, but there are 3 models", x=[X, X], y=[Y, Y, Y])
        refuse(ValueError, "y is a list of 4, but there are 3 models", x=[X] * 3, y=[Y] * 4)
        refuse(ValueError, "y is a list of 2, but there are 3 models", y=[Y] * 2)
        refuse(ValueError, "y is a list of 2, but there are 3 models", y=[[0, 1], [1, 0]])

    def test_of_data_of_another_kind(self):
        refuse(TypeError, r"X\[1\] has no rows and columns, but X\[0\] has", x=[X, Y, X], y=[Y] * 3)
        refuse(ValueError, r"models\[1\]: X has 5 columns, but the model has 6 inputs", x=[X, X[:, :5], X])
        refuse(ValueError, r"models\[2\]: y has 60 rows, but there are 30 samples", x=[X, X, X[:30]], y=[Y] * 3)
        refuse(ValueError, r"models\[1\]: y holds label 3, but the model has 3 outputs", y=[Y, Y + 1, Y])

    def test_y_that_may_be_one_for_each_or_for_all(self):
        models, square = [fnn.Sequential(fnn.Linear(6, 3)) for _ in range(3)], np.eye(3)
        refuse(ValueError, r"y may be 3 times labels \(3,\)", models, X[:3], square.tolist(), loss="squared_error")
        fnn.fit_many(models, X[:3], square, loss="squared_error", verbose=0)
        fnn.fit_many(models, X[:3], [np.arange(3)] * 3, verbose=0)

    @pytest.mark.parametrize("y", [[[0, 1, 2, 0]] * 3, [np.array([0, 1, 2, 0])] * 3], ids=["lists", "arrays"])
    def test_y_one_for_each(self, y):
        one, other = [[small(seed) for seed in range(3)] for _ in range(2)]
        assert fnn.fit_many(one, X[:4], y, verbose=0) == fnn.fit_many(other, X[:4], np.array(y[0]), verbose=0)

    @pytest.mark.parametrize("pairs", [[X, Y], [X, Y, X], [(X, Y), None, (X,)], [(X, Y), 3, None]])
    def test_validation_data_that_are_no_pairs(self, pairs):
        refuse(TypeError, r"validation_data\[\d\] is not a pair, expected \(X, y\)", validation_data=pairs)

    @pytest.mark.parametrize(
        "callbacks", [[[], print, []], [[], "print", []], [[], 3, []], [[], fnn.EarlyStopping(), None]]
    )
    def test_callbacks_that_are_neither_lists_nor_functions(self, callbacks):
        refuse(TypeError, r"callbacks\[1\] is .*, expected a list of functions for each model", callbacks=callbacks)

    def test_callbacks_that_are_none(self):
        refuse(TypeError, "callbacks is EarlyStopping.*, expected a list of functions", callbacks=fnn.EarlyStopping())
        refuse(TypeError, r"callbacks\[0\] is 3, expected a function of", callbacks=[[], [3], []])

    def test_objects_that_are_there_twice(self):
        one, stopping = fnn.Adam(), fnn.EarlyStopping(monitor="loss")
        refuse(
            ValueError, r"optimizer\[2\] is the object that optimizer\[0\] is too, Adam", optimizer=[one, "sgd", one]
        )
        lists = [[print, stopping], [print], [stopping]]
        refuse(ValueError, r"callbacks\[2\] holds the object that callbacks\[0\] holds too, Early", callbacks=lists)

    def test_objects_that_cannot_be_copied(self):
        class Locked:
            def __init__(self):
                self.lock = threading.Lock()

            def __call__(self, *call):
                return 0.1

        refuse(TypeError, r"callbacks\[1\] is .*Locked.*, which cannot be copied", callbacks=[print, Locked()])
        refuse(TypeError, "optimizer is SGD.*, which cannot be copied for each model", optimizer=fnn.SGD(lr=Locked()))


class TestRows:
    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            ([0, 59, 60], ValueError, "holds 60, but X has 60 rows: rows must be 0..59"),
            ([5, -1], ValueError, "holds -1, but X has 60 rows: rows must be 0..59"),
            (np.array([2**63], np.uint64), ValueError, "holds 9223372036854775808, but X has 60 rows"),
            (np.empty(0, int), ValueError, "is empty: expected at least one row of X"),
            ((), ValueError, "is empty: expected at least one row of X"),
            (np.zeros(60, bool), ValueError, "is empty: expected at least one row of X"),
            (np.array([0.5, 1]), ValueError, r"holds fractions or NaN, expected integers 0..59"),
            (np.array([np.nan, 1]), ValueError, r"holds fractions or NaN, expected integers 0..59"),
            (
                np.array([0.0, 1]),
                ValueError,
                r"holds float64 numbers, expected integers 0..59: use .*rows.*\.astype\(int\)",
            ),
            (np.ones(59, bool), ValueError, "is a mask of 59, but X has 60 rows: they must be equal"),
            (np.ones((60, 1), bool), ValueError, r"has shape \(60, 1\), expected the places \(m,\) of rows in X"),
            (np.zeros((2, 2), int), ValueError, r"has shape \(2, 2\), expected the places \(m,\) of rows in X"),
            (3, ValueError, r"has shape \(\), expected the places \(m,\) of rows in X"),
            (
                np.array([1, 2], object),
                TypeError,
                r"holds object values, expected integers 0..59: use .*\.astype\(int\)",
            ),
            (np.array(["a"]), TypeError, "holds <U1 values, expected real numbers"),
        ],
    )
    @pytest.mark.parametrize("name", ["rows", "validation_rows"])
    def test_that_are_none(self, name, rows, error, message):
        refuse(error, rf"models\[0\]: {name} {message}", **{name: rows})
        if not isinstance(rows, list):
            refuse(error, rf"models\[2\]: {name}\[2\] {message}", **{name: [None, MASK, rows]})

    def test_of_data_of_each(self):
        message = r"models\[1\]: rows\[1\] holds 40, but X has 40 rows"
        refuse(ValueError, message, x=[X, X[:40], X], y=[Y, Y[:40], Y], rows=[[40], [40], None])

    def test_with_validation_data_too(self):
        message = r"models\[1\]: validation_data and validation_rows\[1\] are both given"
        refuse(ValueError, message, validation_data=(X, Y), validation_rows=[None, MASK, None])

    @pytest.mark.parametrize("n_in", [6, None])
    def test_what_is_wrong_in_them(self, n_in):
        x, y, v = X.copy(), Y.copy(), np.ones(60)
        x[40], y[41], v[:20] = np.nan, 7, 0
        y_strings = np.array(["a"] * 60)
        refuse(ValueError, r"models\[1\]: X holds NaN or infinite values", x=x, rows=[MASK ^ True, MASK, [1]])
        refuse(ValueError, r"models\[1\]: y holds label 7", y=y, rows=[MASK, MASK ^ True, [1]])
        refuse(ValueError, r"models\[2\]: sample_weight sums to zero", sample_weight=v, rows=[MASK, MASK, [1, 2]])
        refuse(ValueError, r"models\[0\]: sample_weight has 50 rows, but there are 60", sample_weight=v[:50], rows=MASK)
        refuse(ValueError, r"models\[0\]: y has 50 rows, but there are 60 samples", y=Y[:50], rows=[1, 2])
        refuse(ValueError, r"models\[0\]: y holds 1 different labels, but the", y=y_strings, rows=[1, 2])
        refuse(
            ValueError,
            r"models\[1\]: class_weight .*sums to zero",
            class_weight=[None, {0: 0, 1: 0, 2: 0}, None],
            rows=MASK,
        )


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value", "error", "message"),
        [
            ("l2", -1, ValueError, "l2 is -1"),
            ("epochs", 0, ValueError, "epochs is 0"),
            ("batch_size", 2.5, TypeError, "batch_size is 2.5"),
            ("shuffle", 1, TypeError, "shuffle is 1"),
            ("loss", "hinge", ValueError, "loss is 'hinge'"),
            ("optimizer", "lbfgs", ValueError, "optimizer is 'lbfgs'"),
            ("optimizer", fnn.SGD, TypeError, "optimizer is"),
            ("class_weight", "even", ValueError, "class_weight is 'even'"),
            ("sample_weight", -np.ones(60), ValueError, "sample_weight holds -1"),
            ("validation_data", (X[:, 1:], Y), ValueError, "X of validation_data has 5 columns"),
        ],
    )
    def test_of_one_or_all(self, name, value, error, message):
        fine = {"l2": 0.0, "epochs": 1, "batch_size": 9, "shuffle": True, "loss": "cross_entropy", "optimizer": "sgd"}
        refuse(error, rf"models\[0\]: {message}", **{name: value})
        refuse(error, rf"models\[1\]: {message}", **{name: [fine.get(name), value, fine.get(name)]})

    def test_verbose(self):
        refuse(ValueError, "verbose is 2, expected 0 or 1", verbose=2)

    def test_data(self):
        refuse(ValueError, r"models\[0\]: X holds NaN or infinite values", x=np.full_like(X, np.nan))
        refuse(ValueError, r"models\[0\]: X has 5 columns", x=X[:, 1:])

    def test_parameters_that_are_not_finite(self):
        models = [small(seed) for seed in range(3)]
        models[1].layers[0].bias[2] = np.inf
        with pytest.raises(ValueError, match=r"^models\[1\]: layer 0, Linear\(6, 5\), holds NaN or infinite"):
            fnn.fit_many(models, X, Y, verbose=0)
        assert all(model.history == {} for model in models)

    def test_a_busy_optimizer(self):
        optimizers = [fnn.SGD(), fnn.SGD(), fnn.SGD()]
        with optimizers[1].held(), pytest.raises(ValueError, match=r"^models\[1\]: SGD.* is busy training a model"):
            fnn.fit_many([small(seed) for seed in range(3)], X, Y, optimizer=optimizers, verbose=0)
        assert not any(optimizer._lock.locked() for optimizer in optimizers)

    def test_a_callback_that_will_not_begin(self):
        """Those that have begun are ended."""
        first, stopping = Begun(), fnn.EarlyStopping()
        lists = [[first], [stopping], []]
        refuse(ValueError, r"models\[1\]: monitor is 'val_loss', but the history will hold 'loss'", callbacks=lists)
        assert (first.begun, first.ended) == (1, 1)
