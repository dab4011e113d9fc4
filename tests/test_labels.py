"""Labels that are strings or other objects, and outputs for targets (m,), in fit and predict."""

import copy
import json
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training.labels import as_classes, coded
from tests.many import assert_as_alone, small
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}
NAMES = np.array(["ham", "eggs", "spam"])  # codes 1, 0, 2
CODES = np.array([1, 0, 2])
KINDS = {
    "str": lambda y: NAMES[y],
    "list": lambda y: NAMES[y].tolist(),
    "object": lambda y: NAMES[y].astype(object),
    "bytes": lambda y: NAMES[y].astype("S"),
    "tuples": lambda y: as_objects([(int(i), "x") for i in CODES[y]]),
    "integers": lambda y: as_objects([10 * int(i) for i in CODES[y]]),
}


def as_objects(items):
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


@pytest.fixture
def data(rng):
    X, y = labelled(rng)
    y[:3] = [0, 1, 2]
    return X, y


class TestCoded:
    @pytest.mark.parametrize("kind", KINDS)
    def test_by_their_order(self, kind):
        y = np.array([2, 0, 0, 1, 2])
        codes, classes = coded(KINDS[kind](y), None)
        np.testing.assert_array_equal(codes, CODES[y])
        assert codes.dtype == np.int64
        given = list(KINDS[kind](y))
        assert [classes.tolist()[code] for code in codes] == given
        assert classes.tolist() == sorted(set(given))
        assert classes.dtype.kind == ("U" if isinstance(given[0], str) else "O")

    @pytest.mark.parametrize("y", [[0, 2], [0.5, 1.0], [[1, 0], [0, 1]], [[["a"]], [["b"]]], np.eye(2).astype(object)])
    def test_others_stay_as_they_are(self, y):
        same, classes = coded(y, None)
        assert same is y
        assert classes is None

    def test_names_that_such_an_array_does_not_keep(self):
        labels = ["a", "a\0"]
        codes, classes = coded(as_objects(labels), None)
        assert classes.tolist() == labels
        assert codes.tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("y", "error", "message"),
        [
            (["a", None, "b"], ValueError, "y holds None in row 1, where a label is missing: leave the sample out"),
            (as_objects(["a", "b", np.nan]), ValueError, "y holds nan in row 2, where a label is missing"),
            (as_objects(["a", 3]), TypeError, r"y holds labels that have no order \('<' not supported .*: use strings"),
            (as_objects(["a", {"b": 1}]), TypeError, r"y holds {'b': 1} in row 1, expected labels that have a hash"),
        ],
    )
    def test_refused(self, y, error, message):
        with pytest.raises(error, match=message):
            coded(np.array(y, object) if isinstance(y, list) else y, None)

    def test_missing_ones_of_pandas(self):
        pandas = pytest.importorskip("pandas")
        with pytest.raises(ValueError, match="y holds <NA> in row 1, where a label is missing"):
            coded(pandas.Series(["a", pandas.NA], dtype="string"), None)

    def test_classes_cannot_be_written_to(self):
        for labels in (["a", "b"], [3, 4]):
            with pytest.raises(ValueError, match="read-only"):
                as_classes(labels)[0] = "c"


@pytest.mark.usefixtures("backend")
class TestFit:
    @pytest.mark.parametrize("kind", KINDS)
    def test_as_with_their_codes(self, kind, data):
        X, y = data
        labels = KINDS[kind](y)
        model, expected = network(), network()
        settings = {"validation_split": 0.2, "class_weight": "balanced", "metrics": ["f1"], **SHORT}
        history = model.fit(X, labels, **settings)
        assert history == expected.fit(X, CODES[y], **settings)
        assert_same_weights(model, expected, rtol=0)
        assert expected.classes_ is None
        assert model.classes_.tolist() == sorted(set(labels if isinstance(labels, list) else labels.tolist()))
        found = model.predict(X)
        assert [found.shape, found.dtype] == [(50,), model.classes_.dtype]
        assert found.tolist() == [model.classes_.tolist()[code] for code in expected.predict(X)]
        assert model.evaluate(X, labels, metrics=["f1"]) == expected.evaluate(X, CODES[y], metrics=["f1"])
        assert model.evaluate(X, np.eye(3)[CODES[y]])["accuracy"] == model.evaluate(X, labels)["accuracy"]

    def test_later_labels_are_coded_by_the_first(self, data):
        X, y = data
        model, expected = network(), network()
        optimizers = fnn.Adam(), fnn.Adam()
        some = y != 0
        held_out = X[~some], NAMES[y[~some]]
        for rows in (slice(None), some):
            model.fit(X[rows], NAMES[y[rows]], optimizer=optimizers[0], validation_data=held_out, **SHORT)
            expected.fit(
                X[rows], CODES[y[rows]], optimizer=optimizers[1], validation_data=(X[~some], CODES[y[~some]]), **SHORT
            )
        assert model.history == expected.history
        assert_same_weights(model, expected, rtol=0)
        assert model.classes_.tolist() == ["eggs", "ham", "spam"]

    def test_integers_afterwards_are_integers(self, data):
        X, y = data
        model = network()
        model.fit(X, NAMES[y], **SHORT)
        model.fit(X, y, **SHORT)
        assert model.classes_ is None
        assert model.predict(X).dtype == np.int64

    def test_weights_of_classes_by_name(self, data):
        X, y = data
        model, expected = network(), network()
        model.fit(X, NAMES[y], class_weight={"spam": 3.0, "ham": 0.5}, **SHORT)
        expected.fit(X, CODES[y], class_weight={2: 3.0, 1: 0.5}, **SHORT)
        assert_same_weights(model, expected, rtol=0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"validation_data": (np.zeros((2, 6)), ["ham", "tofu"])},
                "y of validation_data holds label 'tofu' in row 1, but the classes are 'eggs', 'ham', 'spam'",
            ),
            (
                {"validation_data": (np.zeros((2, 6)), [0, 1])},
                "y of validation_data holds label 0 in row 0, but the classes are 'eggs'",
            ),
            ({"class_weight": {"tofu": 1}}, "class_weight has the key 'tofu', but the classes are 'eggs', 'ham', 'sp"),
            ({"class_weight": {0: 1}}, "class_weight has the key 0, but the classes are 'eggs'"),
        ],
    )
    def test_refused(self, settings, message, data):
        X, y = data
        model = network()
        before = state(model)
        with pytest.raises(ValueError, match=message):
            model.fit(X, NAMES[y], **settings, **SHORT)
        assert state(model) == before
        assert model.classes_ is None

    def test_refused_of_y(self, data):
        X, y = data
        model = network()
        with pytest.raises(ValueError, match="y holds 2 different labels, but the model has 3 outputs: expected one f"):
            model.fit(X, np.array(["a", "b"])[y % 2], **SHORT)
        with pytest.raises(ValueError, match="y holds 50 different labels, but the model has 3 outputs"):
            model.fit(X, [f"{i}" for i in range(50)], **SHORT)
        with pytest.raises(ValueError, match="y has 49 rows, but there are 50 samples"):
            model.fit(X, NAMES[y[1:]], **SHORT)
        model.fit(X, NAMES[y], **SHORT)
        for call in (model.evaluate, lambda X, y: model.fit(X, y, **SHORT)):
            with pytest.raises(ValueError, match="y holds label 'tofu' in row 49, but the classes are 'eggs'"):
                call(X, [*NAMES[y[:49]], "tofu"])
        with pytest.raises(ValueError, match="y holds label 1 in row 0"):
            model.evaluate(X, CODES[y])

    def test_a_fit_that_fails_leaves_them(self, data):
        def fails(*given):
            raise KeyError("mine")

        X, y = data
        model = network()
        with pytest.raises(KeyError):
            model.fit(X, NAMES[y], metrics=[fails], **SHORT)
        assert model.classes_ is None  # no epoch was whole
        with pytest.raises(KeyError):
            model.fit(X, NAMES[y], callbacks=[fails], **SHORT)
        assert model.classes_.tolist() == ["eggs", "ham", "spam"]

    def test_other_losses_know_none(self, data):
        X, y = data
        with pytest.raises(TypeError, match="y holds <U4 values, expected real numbers"):
            network().fit(X, NAMES[y], loss="squared_error", **SHORT)

    def test_gradients_and_profile(self, data):
        X, y = data
        model = network()
        model.fit(X, NAMES[y], **SHORT)
        assert fnn.check_gradients(model, X[:9], NAMES[y[:9]], n_checks=3) < 1e-5
        fnn.profile(model, X, NAMES[y], seconds=0.01)


@pytest.mark.usefixtures("backend")
class TestMany:
    def test_as_each_alone(self, data):
        X, y = data
        models = [small(seed) for seed in range(3)]
        rows = [None, np.arange(50) % 5 != 3, np.arange(50)[::-1]]
        assert_as_alone(models, X, NAMES[y], [{"rows": each, "epochs": 3} for each in rows])
        assert [model.classes_.tolist() for model in models] == [["eggs", "ham", "spam"]] * 3

    def test_classes_are_those_of_all_labels(self, data):
        """Also where some do not come among the rows, as in a fold of a rare class."""
        X, y = data
        models = [small(seed) for seed in range(2)]
        rows = [y != 2, y != 0]
        fnn.fit_many(models, X, NAMES[y], rows=rows, validation_rows=[y == 2, y == 0], **SHORT)
        expected = [small(seed) for seed in range(2)]
        for model, own, which in zip(models, expected, rows, strict=True):
            own.fit(X[which], CODES[y[which]], **SHORT)
            assert_same_weights(model, own, rtol=0)

    def test_labels_that_are_missing_elsewhere(self, data):
        X, y = data
        labels = NAMES[y].astype(object)
        labels[:5] = None
        models = [small(0), small(0)]
        fnn.fit_many([models[0]], X, labels, rows=np.arange(5, 50), **SHORT)
        fnn.fit_many([models[1]], X[5:], labels[5:], **SHORT)
        assert_same_weights(*models, rtol=0)
        with pytest.raises(ValueError, match=r"models\[0\]: y\[rows\] holds None in row 1, where a label is missing"):
            fnn.fit_many([small(0)], X, labels, rows=[7, 3], **SHORT)

    def test_an_ensemble_answers_with_them(self, data, tmp_path):
        X, y = data
        models = [small(seed) for seed in range(3)]
        fnn.fit_many(models, X, NAMES[y], **SHORT)
        ensemble = fnn.Ensemble(models)
        assert list(ensemble.classes_) == sorted(NAMES)
        expected = models[0].classes_[ensemble.predict_proba(X).argmax(axis=1)]
        np.testing.assert_array_equal(ensemble.predict(X), expected)
        assert ensemble.evaluate(X, NAMES[y])["accuracy"] == np.mean(ensemble.predict(X) == NAMES[y])
        ensemble.save(tmp_path / "ensemble.npz")
        np.testing.assert_array_equal(fnn.load(tmp_path / "ensemble.npz").predict(X), expected)
        other = small(3)
        other.fit(X, y, **SHORT)
        with pytest.raises(
            ValueError, match=r"models\[3\] has the classes 0, 1, ..., but models\[0\] has 'eggs', 'ham'"
        ):
            fnn.Ensemble([*models, other])
        models[1].fit(X, y, **SHORT)
        for call in (ensemble.predict, lambda X: ensemble.evaluate(X, NAMES[y])):
            with pytest.raises(ValueError, match=r"models\[1\] has the classes 0, 1, ..., but models\[0\] has 'eggs'"):
                call(X)


class TestKept:
    @pytest.mark.parametrize("kind", ["str", "object", "integers"])
    def test_in_a_file(self, kind, data, tmp_path):
        X, y = data
        model = network()
        model.fit(X, KINDS[kind](y), **SHORT)
        model.save(tmp_path / "model.npz")
        loaded = fnn.load(tmp_path / "model.npz")
        assert loaded.classes_.dtype == model.classes_.dtype
        np.testing.assert_array_equal(loaded.classes_, model.classes_)
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        with np.load(tmp_path / "model.npz") as archive:
            assert json.loads(str(archive["header"]))["format"] == 5

    @pytest.mark.parametrize("kind", ["bytes", "tuples"])
    def test_not_in_a_file(self, kind, data, tmp_path):
        X, y = data
        model = network()
        model.fit(X, KINDS[kind](y), **SHORT)
        with pytest.raises(TypeError, match=r"classes_ are \[.*, but a file holds labels that are all strings, or all"):
            model.save(tmp_path / "model.npz")
        assert not (tmp_path / "model.npz").exists()

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_copies(self, kind, data):
        X, y = data
        model = network()
        model.fit(X, KINDS[kind](y), **SHORT)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(twin.predict(X), model.predict(X))


@pytest.mark.usefixtures("backend")
class TestFlat:
    """One output for targets (m,) is predicted as (m,)."""

    @staticmethod
    def model(seed=0, **settings):
        return fnn.Sequential(fnn.Linear(6, 4), fnn.Tanh(), fnn.Linear(4, 1), seed=seed, **settings)

    @pytest.mark.parametrize("loss", ["squared_error", "huber"])
    def test_as_the_target_was(self, loss, data, tmp_path):
        X = data[0]
        for y, shape in ((X[:, 0], (50,)), (X[:, 0].tolist(), (50,)), (X[:, :1], (50, 1))):
            model = self.model()
            model.fit(X, y, loss=loss, **SHORT)
            assert model.predict(X).shape == shape
            np.testing.assert_array_equal(model.predict(X).ravel(), model.forward(X).ravel())
            model.save(tmp_path / "model.npz")
            for twin in (fnn.load(tmp_path / "model.npz"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                assert twin.predict(X).shape == shape
            with np.load(tmp_path / "model.npz") as archive:
                header = json.loads(str(archive["header"]))
            assert ("flat" in header) == (header["format"] == 5) == (shape == (50,))

    def test_the_last_fit_decides(self, data):
        X, model = data[0], self.model()
        model.loss = "squared_error"
        assert model.predict(X).shape == (50, 1)
        for y, shape in ((X[:, 0], (50,)), (X[:, :1], (50, 1))):
            model.fit(X, y, loss="squared_error", **SHORT)
            assert model.predict(X).shape == shape

    def test_of_many_and_their_ensemble(self, data, tmp_path):
        X = data[0]
        models = [self.model(seed) for seed in range(3)]
        fnn.fit_many(models, X, [X[:, 0], X[:, 0], X[:, :1]], loss="squared_error", **SHORT)
        assert [model.predict(X).shape for model in models] == [(50,), (50,), (50, 1)]
        assert fnn.Ensemble(models).predict(X).shape == (50, 1)
        ensemble = fnn.Ensemble(models[:2])
        ensemble.save(tmp_path / "ensemble.npz")
        for each in (ensemble, fnn.load(tmp_path / "ensemble.npz")):
            np.testing.assert_array_equal(each.predict(X), ensemble.outputs(X)[:, 0])

    def test_of_several_outputs_never(self, data):
        X, y = data
        model = network()
        model.fit(X, np.eye(3)[y], loss="squared_error", **SHORT)
        assert model.predict(X).shape == (50, 3)
