"""Metrics: by hand and against scikit-learn's, in fit, fit_many and evaluate, and what they refuse."""

import copy

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training.metrics import BY_NAME, OfClasses, check_metrics, measure
from tests.many import assert_as_alone, small
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network
from tests.user_code import UserCrossEntropy, UserReLU

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}
CLASSES = [name for name, known in BY_NAME.items() if isinstance(known, OfClasses)]
VALUES = [name for name in BY_NAME if name not in CLASSES]


@pytest.fixture
def data(rng):
    return labelled(rng)


def of(name, y, outputs, v=None, loss=None):
    loss = loss or (fnn.CrossEntropy() if name in CLASSES else fnn.SquaredError())
    return measure(check_metrics([name]), loss, np.array(y), [np.array(outputs, float)], v)[name]


class TestByHand:
    """Labels 0 0 0 1 2, of which 0 0 1 1 1 are predicted."""

    scores = np.eye(3)[[0, 0, 1, 1, 1]]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("accuracy", 3 / 5), ("balanced_accuracy", (2 / 3 + 1 + 0) / 3), ("f1", (4 / 5 + 2 / 4 + 0) / 3)],
    )
    def test_classes(self, name, expected):
        assert of(name, [0, 0, 0, 1, 2], self.scores) == pytest.approx(expected)
        assert of(name, np.eye(3)[[0, 0, 0, 1, 2]], self.scores) == pytest.approx(expected)

    def test_a_class_that_is_nowhere_counts_nowhere(self):
        scores = np.pad(self.scores, ((0, 0), (0, 4)), constant_values=-1)
        for name in CLASSES:
            assert of(name, [0, 0, 0, 1, 2], scores) == pytest.approx(of(name, [0, 0, 0, 1, 2], self.scores))

    @pytest.mark.parametrize(
        ("name", "expected"), [("mse", 13 / 4), ("rmse", (2 + 5**0.5 / 2**0.5) / 2), ("mae", 7 / 4)]
    )
    def test_values(self, name, expected):
        assert of(name, [[0, 1], [4, 2]], [[2, 2], [2, 0]]) == pytest.approx(expected)

    def test_share_of_the_variance(self):
        assert of("r2", [[0], [2], [4]], [[1], [2], [3]]) == pytest.approx(1 - 2 / 8)
        assert of("r2", [[3], [3]], [[3], [3]]) == 1
        assert of("r2", [[3], [3]], [[3], [4]]) == 0
        assert np.isnan(of("r2", [[3]], [[3]]))


class TestBinaryByHand:
    """Two outputs: 1 1 0 0 of which 1 0 0 0 are predicted, and 0 0 0 0 of which 1 0 0 0 are."""

    y, scores = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], float), np.array([[1, 2], [-1, -1], [0, -2], [-3, 0]])

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("accuracy", 6 / 8), ("balanced_accuracy", ((1 / 2 + 1) / 2 + 3 / 4) / 2), ("f1", (2 / 3 + 0) / 2)],
    )
    def test_classes(self, name, expected):
        assert of(name, self.y, self.scores, loss=fnn.BinaryCrossEntropy()) == pytest.approx(expected)

    def test_nothing_there_and_nothing_predicted(self):
        assert of("f1", np.zeros((3, 1)), -np.ones((3, 1)), loss=fnn.BinaryCrossEntropy()) == 0


@pytest.mark.parametrize("weighted", [False, True])
class TestAgainstScikitLearn:
    def test_classes(self, weighted, rng):
        theirs = pytest.importorskip("sklearn.metrics")
        y, scores = rng.integers(0, 4, 60), rng.normal(size=(60, 5))
        v = rng.uniform(size=60) if weighted else None
        labels = scores.argmax(axis=1)
        expected = {
            "accuracy": theirs.accuracy_score(y, labels, sample_weight=v),
            "balanced_accuracy": theirs.recall_score(y, labels, labels=range(4), average="macro", sample_weight=v),
            "f1": theirs.f1_score(y, labels, average="macro", sample_weight=v),
        }
        assert {name: of(name, y, scores, v) for name in CLASSES} == pytest.approx(expected, rel=1e-12)

    def test_binary_outputs(self, weighted, rng):
        theirs = pytest.importorskip("sklearn.metrics")
        y, scores = rng.integers(0, 2, (60, 3)), rng.normal(size=(60, 3))
        v = rng.uniform(size=60) if weighted else None
        columns = list(zip(y.T, (scores > 0).astype(int).T, strict=True))
        expected = {
            "accuracy": np.mean([theirs.accuracy_score(*pair, sample_weight=v) for pair in columns]),
            "balanced_accuracy": np.mean([theirs.balanced_accuracy_score(*pair, sample_weight=v) for pair in columns]),
            "f1": theirs.f1_score(y, scores > 0, average="macro", sample_weight=v),
        }
        found = {name: of(name, y.astype(float), scores, v, fnn.BinaryCrossEntropy()) for name in CLASSES}
        assert found == pytest.approx(expected, rel=1e-12)

    def test_values(self, weighted, rng):
        theirs = pytest.importorskip("sklearn.metrics")
        y, pred = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
        y[:, 2] = 1.5
        v = rng.uniform(size=60) if weighted else None
        expected = {
            "mse": theirs.mean_squared_error(y, pred, sample_weight=v),
            "rmse": theirs.root_mean_squared_error(y, pred, sample_weight=v),
            "mae": theirs.mean_absolute_error(y, pred, sample_weight=v),
            "r2": theirs.r2_score(y, pred, sample_weight=v),
        }
        assert {name: of(name, y, pred, v) for name in VALUES} == pytest.approx(expected, rel=1e-12)


def largest(y, outputs):
    return outputs.max()


@pytest.mark.usefixtures("backend")
class TestFit:
    @pytest.mark.parametrize("layer", [fnn.ReLU, UserReLU], ids=["compiled", "layer by layer"])
    def test_they_are_those_of_the_model_after_the_epoch(self, layer, data):
        X, y = data
        model = fnn.Sequential(fnn.Linear(6, 9), layer(), fnn.Dropout(0.3), fnn.Linear(9, 3), dtype="float64")
        model._stack.block = 7
        held_out = X[:20], y[:20]
        history = model.fit(X, y, metrics=["f1", "accuracy", largest], validation_data=held_out, **SHORT)
        names = ["loss", "f1", "accuracy", "largest", "val_loss", "val_accuracy", "val_f1", "val_largest"]
        assert list(history) == names
        for prefix, (x, t) in (("", data), ("val_", held_out)):
            scores = model.forward(x)
            expected = {name: of(name, t, scores) for name in ("f1", "accuracy")} | {"largest": scores.max()}
            assert {name: history[prefix + name][-1] for name in expected} == pytest.approx(expected, rel=1e-12)
        assert [len(values) for values in history.values()] == [3] * len(names)

    def test_they_change_nothing_else(self, data):
        model, expected = network(), network()
        history = model.fit(*data, metrics=["f1"], validation_data=data, sample_weight=np.linspace(0, 1, 50), **SHORT)
        plain = expected.fit(*data, validation_data=data, sample_weight=np.linspace(0, 1, 50), **SHORT)
        assert_same_weights(model, expected, rtol=0)
        assert {name: history[name] for name in plain} == plain
        assert history["f1"] == history["val_f1"]  # no weights

    def test_of_values_and_of_the_samples_that_count(self, data):
        X = data[0]
        model = fnn.Sequential(fnn.Linear(6, 1), dtype="float64", seed=2)
        target = X[:, 0] ** 2
        history = model.fit(X, target, loss="squared_error", metrics=VALUES, validation_split=0.4, **SHORT)
        assert list(history) == ["loss", *VALUES, "val_loss", *[f"val_{name}" for name in VALUES]]
        assert history["val_mse"] == pytest.approx(history["val_loss"])
        mean = 0.6 * history["mse"][-1] + 0.4 * history["val_mse"][-1]
        assert mean == pytest.approx(np.mean((model.forward(X)[:, 0] - target) ** 2))

    def test_after_binary_cross_entropy(self, data):
        X, y = data
        model = fnn.Sequential(fnn.Linear(6, 1), dtype="float64", seed=2)
        settings = {"metrics": ["f1", "accuracy"], "validation_split": 0.4}
        history = model.fit(X, y == 0, loss="binary_cross_entropy", **settings, **SHORT)
        assert list(history) == ["loss", "f1", "accuracy", "val_loss", "val_accuracy", "val_f1"]
        right = np.mean((model.forward(X)[:, 0] > 0) == (y == 0))
        assert 0.6 * history["accuracy"][-1] + 0.4 * history["val_accuracy"][-1] == pytest.approx(right)

    def test_predictions_and_not_outputs_are_compared(self, data):
        """After Poisson's loss, whose outputs are logarithms."""
        X, y = data
        model = fnn.Sequential(fnn.Linear(6, 1), dtype="float64", seed=2)
        history = model.fit(X, y, loss="poisson", metrics=["mae"], **SHORT)
        assert history["mae"][-1] == pytest.approx(np.mean(np.abs(np.exp(model.forward(X)[:, 0]) - y)))

    def test_names_of_ones_own(self, data):
        history = network().fit(*data, metrics={"hits": "accuracy", "top": lambda y, s: s.max()}, **SHORT)
        assert list(history) == ["loss", "hits", "top"]

    def test_a_loss_of_ones_own(self, data):
        history = network().fit(*data, loss=UserCrossEntropy(), metrics=["f1"], validation_data=data, **SHORT)
        assert history["f1"] == history["val_f1"]

    def test_callbacks_may_watch_them(self, data):
        stopping = fnn.EarlyStopping(patience=2, monitor="val_f1")
        plateau = fnn.ReduceOnPlateau(patience=1, monitor="largest", mode="max")
        history = network().fit(
            *data,
            metrics=["f1", largest],
            validation_split=0.3,
            callbacks=[stopping, plateau],
            **{**SHORT, "epochs": 30},
        )
        assert stopping.best_value == max(history["val_f1"])
        best = np.maximum.accumulate(history["largest"])
        assert plateau.reductions == [i + 1 for i in range(1, len(best)) if best[i] == best[i - 1]]

    def test_one_that_raises_leaves_the_last_whole_epoch(self, data):
        def fails(y, outputs):
            calls.append(1)
            if len(calls) == 3:
                raise KeyError("mine")
            return 0.0

        calls, model, expected = [], network(), network()
        with pytest.raises(KeyError, match="mine"):
            model.fit(*data, metrics=[fails], **{**SHORT, "epochs": 5})
        expected.fit(*data, metrics=[lambda y, s: 0.0], **{**SHORT, "epochs": 2})
        assert_same_weights(model, expected, rtol=0)
        assert {name: len(values) for name, values in model.history.items()} == {"loss": 2, "fails": 2}

    def test_functions_only_read(self, data):
        def writes(y, outputs):
            with pytest.raises(ValueError, match="read-only"):
                y[0] = 10**9
            with pytest.raises(ValueError, match="read-only"):
                outputs[0] = 0
            return 1

        X, y = data
        y = y.astype(np.int64)
        assert network().fit(X, y, metrics=[writes], **SHORT)["writes"] == [1.0] * 3
        assert y.flags.writeable

    def test_many_as_each_alone(self, data):
        models = [small(seed) for seed in range(4)]
        metrics = [["accuracy"], {"top": largest}, None, [largest, "f1"]]
        settings = [{"metrics": each, "validation_data": data, **SHORT} for each in metrics]
        for one in settings:
            one.pop("verbose")
        histories = assert_as_alone(models, *data, settings)
        assert [list(history)[1] for history in histories] == ["accuracy", "top", "val_loss", "largest"]

    def test_many_with_the_same(self, data):
        models = [small(0), small(1)]
        own = [{"metrics": ["f1", largest], "epochs": 3}] * 2
        histories = assert_as_alone(models, *data, own, {"metrics": ["f1", largest], "epochs": 3})
        assert [[*map(len, history.values())] for history in histories] == [[3, 3, 3]] * 2

    def test_one_of_many_that_raises(self, data):
        def fails(y, outputs):
            raise KeyError("mine")

        models = [small(0), small(1)]
        before = copy.deepcopy(models[0]).parameters()
        with pytest.warns(UserWarning, match=r"ended the training of models\[0\], .* KeyError: 'mine'"):
            histories = fnn.fit_many(models, *data, metrics=[[fails], None], **SHORT)
        assert isinstance(histories[0].error, KeyError)
        assert len(histories[1]["loss"]) == 3
        assert all(map(np.array_equal, models[0].parameters(), before))


@pytest.mark.usefixtures("backend")
def test_evaluate(data):
    X, y = data
    model, v = network(), np.linspace(0, 1, 50)
    model.loss = "cross_entropy"
    measured = model.evaluate(X, y, v, metrics=["f1", "accuracy", largest])
    scores = model.forward(X)
    assert list(measured) == ["loss", "accuracy", "f1", "largest"]
    assert {name: measured[name] for name in ("loss", "accuracy")} == model.evaluate(X, y, v)
    assert measured["f1"] == pytest.approx(of("f1", y, scores, v))
    assert measured["largest"] == scores.max()


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_evaluate_of_an_ensemble(loss, data, monkeypatch):
    monkeypatch.setattr("fastnn.members._FEWEST_ROWS", 8)
    monkeypatch.setattr("fastnn.members._ELEMENTS", 8)
    X, y = data
    y, v = y if loss == "cross_entropy" else np.eye(3)[y], np.linspace(0, 1, 50)
    ensemble = fnn.Ensemble([network(seed=i) for i in range(3)])
    for model in ensemble:
        model.loss = loss
    name = "f1" if loss == "cross_entropy" else "mae"
    measured = ensemble.evaluate(X, y, v, metrics=[name, largest])
    pooled = np.log(ensemble.predict_proba(X)) if loss == "cross_entropy" else ensemble.outputs(X)
    assert measured[name] == pytest.approx(of(name, y, pooled, v))
    assert measured["largest"] == pytest.approx(pooled.max())
    assert {key: measured[key] for key in ensemble.evaluate(X, y, v)} == ensemble.evaluate(X, y, v)
    with pytest.raises(ValueError, match=r"metrics\[0\] is 'auc', expected"):
        ensemble.evaluate(X, y, metrics=["auc"])


def unnamed():
    return __import__("functools").partial(largest)


REFUSED = [
    ("f1", TypeError, "metrics is 'f1', expected a list of names and functions"),
    (largest, TypeError, "metrics is <function .*, expected a list of names"),
    (3, TypeError, "metrics is 3, expected a list of names"),
    (["auc"], ValueError, r"metrics\[0\] is 'auc', expected 'accuracy', .* or a function of \(y, outputs\)"),
    ({"a": "auc"}, ValueError, r"metrics\['a'\] is 'auc', expected 'accuracy', "),
    (["f1", 3], TypeError, r"metrics\[1\] is 3, expected 'accuracy'"),
    ([float], TypeError, r"metrics\[0\] is <class 'float'>, expected 'accuracy'"),
    ([unnamed()], TypeError, r"metrics\[0\] is functools.partial.*, which has no name: give a dict"),
    ({3: largest}, TypeError, r"metrics\[3\] is <function .*, which has no name: give a dict"),
    (["f1", "f1"], ValueError, "metrics holds two that are called 'f1': give a dict"),
    ({"loss": "f1"}, ValueError, "metrics holds one that is called 'loss', as a value of the history is"),
    ({"val_f1": "f1"}, ValueError, "metrics holds one that is called 'val_f1', as a value"),
    (["mse"], ValueError, r"metrics holds 'mse', which needs values \(50, 3\), but the loss is CrossEntropy\(\) and y"),
]


@pytest.mark.parametrize(("metrics", "error", "message"), REFUSED)
def test_refused(metrics, error, message, data):
    model = network()
    model.loss = "cross_entropy"
    before = state(model)
    with pytest.raises(error, match=message):
        model.fit(*data, metrics=metrics, **SHORT)
    with pytest.raises(error, match=message):
        model.evaluate(*data, metrics=metrics)
    assert state(model) == before


def test_refused_of_values(data):
    X, y = data
    with pytest.raises(ValueError, match=r"metrics holds 'f1', which needs classes, but the loss is SquaredError\(\)"):
        network().fit(X, np.eye(3)[y], loss="squared_error", metrics=["f1"], **SHORT)


@pytest.mark.parametrize("value", [None, "0.5", [0.5], 1j, np.zeros(1)])
def test_what_a_function_returns(value, data):
    model = network()
    before = state(model)
    with pytest.raises(TypeError, match=r"the metric mine returned .*, expected a number"):
        model.fit(*data, metrics={"mine": lambda y, outputs: value}, **SHORT)
    assert state(model) == before


@pytest.mark.parametrize(
    ("monitor", "settings", "fix"),
    [
        ("f1", {}, r"give fit metrics=\['f1'\], or monitor='loss'"),
        ("val_f1", {}, "give fit validation_data or validation_split"),
        ("val_f1", {"validation_split": 0.2}, r"give fit metrics=\['f1'\], or monitor='val_accuracy'"),
    ],
)
def test_a_value_that_will_not_come(monitor, settings, fix, data):
    with pytest.raises(ValueError, match=rf"monitor is '{monitor}', but the history will hold .*: {fix}"):
        network().fit(*data, callbacks=[fnn.EarlyStopping(monitor=monitor)], **settings, **SHORT)


def test_repr_of_a_mode():
    assert repr(fnn.EarlyStopping(monitor="auc", mode="max")).endswith("restore_best=True, mode='max')")
    assert repr(fnn.ReduceOnPlateau(monitor="auc", mode="max")).endswith("min_lr=0, mode='max')")
