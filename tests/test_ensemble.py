"""Ensembles: the members' means against NumPy and scipy on what each member says by itself."""

import copy
import doctest
import pickle

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

import fastnn as fnn
import fastnn.ensemble
from tests.test_tables import cells
from tests.user_code import AbsoluteError, Pairs, UserCrossEntropy, UserReLU

FLOATS = {"float32": 1e-6, "float64": 1e-14}


def members(loss="cross_entropy", dtypes=("float32", "float64"), n_out=3, scale=1.0):
    """Models of several architectures, one of them with a layer of a user's."""
    layers = [
        [fnn.Linear(4, 7), fnn.Tanh(), fnn.Linear(7, n_out)],
        [fnn.Linear(4, n_out)],
        [fnn.Linear(4, 6), UserReLU(), fnn.Linear(6, n_out)],
        [fnn.LayerNorm(4), fnn.Linear(4, 5), fnn.GELU(), fnn.Dropout(0.5), fnn.Linear(5, n_out)],
    ]
    models = [fnn.Sequential(*each, dtype=dtypes[i % len(dtypes)], seed=i) for i, each in enumerate(layers)]
    for model in models:
        if loss is not None:
            model.loss = loss
        for p in model.parameters():
            p *= scale
    return models


@pytest.fixture
def X(rng):
    return rng.normal(size=(700, 4))


def outputs_of(models, X):
    return np.array([model.forward(X).astype(np.float64) for model in models])


@pytest.mark.parametrize("dtypes", [("float32",), ("float64",), ("float32", "float64")], ids="-".join)
def test_means(dtypes, X, backend):
    models = members(dtypes=dtypes)
    ensemble, each = fnn.Ensemble(models), outputs_of(models, X)
    tolerance = FLOATS["float32" if "float32" in dtypes else "float64"]
    assert ensemble.dtype == max(dtypes)
    p = np.array([model.predict_proba(X).astype(np.float64) for model in models])
    np.testing.assert_allclose(p, softmax(each, axis=-1), rtol=10 * tolerance)
    for found, expected in (
        (ensemble.outputs(X), each.mean(axis=0)),
        (ensemble.predict_proba(X), p.mean(axis=0)),
        (ensemble.std(X), np.sqrt(np.square(p - p.mean(axis=0)).mean(axis=0))),
    ):
        assert found.dtype == ensemble.dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance / 10)
    for found, expected in ((ensemble.outputs(X, each=True), each), (ensemble.predict_proba(X, each=True), p)):
        assert found.dtype == ensemble.dtype
        np.testing.assert_array_equal(found, expected.astype(ensemble.dtype))
    labels = ensemble.predict(X)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, p.mean(axis=0).argmax(axis=1))


@pytest.mark.parametrize(
    ("scores", "label"),
    [([[12, 0, 0], [0, 0.4, 0], [0, 0.4, 0]], 0), ([[0, -30, 0], [0, 1, 0], [0, 1, 0]], 1)],
    ids=["a vote says 1", "the mean score says 0"],
)
def test_the_label_is_that_of_the_mean_probability(scores, label, backend):
    models = [model(1, 3, "cross_entropy") for _ in scores]
    for each, bias in zip(models, scores, strict=True):
        each.layers[0].bias[...] = bias
    assert fnn.Ensemble(models).predict([[0]]) == [label]
    assert softmax(scores, axis=1).mean(axis=0).argmax() == label
    assert fnn.Ensemble(models).evaluate([[0]], [label])["accuracy"] == 1


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_of_values_the_outputs_count(loss, X, rng, backend):
    models, y, v = members(loss), rng.normal(size=(700, 3)), rng.random(700)
    ensemble, each = fnn.Ensemble(models), outputs_of(models, X)
    np.testing.assert_array_equal(ensemble.predict(X), ensemble.outputs(X))
    np.testing.assert_allclose(ensemble.predict(X), each.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ensemble.std(X), each.std(axis=0), rtol=1e-6, atol=1e-7)
    r = np.abs(each.mean(axis=0) - y)
    expected = {"squared_error": r**2, "huber": np.where(r <= 1, r**2 / 2, r - 0.5)}[loss].sum(axis=1)
    assert ensemble.evaluate(X, y) == {"loss": pytest.approx(expected.mean(), rel=1e-6)}
    assert ensemble.evaluate(X, y, v) == {"loss": pytest.approx(np.average(expected, weights=v), rel=1e-6)}


def test_a_loss_of_a_users_measures_the_mean_outputs(X, rng, backend):
    ensemble, y = fnn.Ensemble(members(AbsoluteError(), n_out=1)), rng.normal(size=700)
    expected = np.abs(outputs_of(ensemble, X).mean(axis=0)[:, 0] - y).mean()
    assert ensemble.evaluate(X, y) == {"loss": pytest.approx(expected, rel=1e-6)}


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1, 30, 1000])
def test_cross_entropy_of_the_mean_probability(smoothing, weighted, scale, X, rng, backend):
    """With a scale of 1000 every probability of a wrong label is zero in float32, and most are in float64."""
    models = members(fnn.CrossEntropy(smoothing), dtypes=("float32",), scale=scale)
    y, v = rng.integers(3, size=700), rng.random(700) if weighted else None
    log_p = logsumexp(log_softmax(outputs_of(models, X), axis=-1), axis=0) - np.log(len(models))
    labels = np.mean([model.predict_proba(X) for model in models], axis=0).argmax(axis=1)  # half of them may be certain
    targets = rng.dirichlet([1, 1, 1], size=700)
    ensemble = fnn.Ensemble(models)
    for given, t in ((y, np.eye(3)[y]), (targets, targets)):
        smooth = (1 - smoothing) * t + smoothing / 3
        expected = {
            "loss": pytest.approx(np.average(-(smooth * log_p).sum(axis=1), weights=v), rel=1e-5),
            "accuracy": pytest.approx(np.average(labels == t.argmax(axis=1), weights=v), abs=1e-6),
        }
        assert ensemble.evaluate(X, given, v) == expected
    assert np.isfinite(ensemble.evaluate(X, y)["loss"])
    assert ensemble.evaluate(X, y)["accuracy"] == np.mean(ensemble.predict(X) == y)


ALIKE = {
    "ReLU": lambda i: [fnn.Linear(4, 9), fnn.ReLU(), fnn.Linear(9, 5), fnn.Tanh(), fnn.Linear(5, 3)],
    "settings": lambda i: [
        fnn.Linear(4, 9),
        fnn.LeakyReLU(0.1 * (i % 3)),
        fnn.LayerNorm(9, 10.0 ** -(i % 2)),
        fnn.Linear(9, 3),
    ],
    "GELU": lambda i: [fnn.LayerNorm(4), fnn.Linear(4, 9), fnn.GELU("tanh" if i % 2 else "none"), fnn.Linear(9, 3)],
    "dropout": lambda i: [
        fnn.Dropout(0.1 + i / 100),
        fnn.Linear(4, 9, bias=i % 2 > 0),
        fnn.Sigmoid(),
        fnn.Linear(9, 3),
    ],
}


@pytest.mark.parametrize("rows", [1, 5, 700])
@pytest.mark.parametrize("layers", ALIKE)
def test_many_members_that_are_alike_say_what_each_says(layers, rows, X, backend):
    """To the bit: they may answer side by side."""
    models = [fnn.Sequential(*ALIKE[layers](i), dtype=("float32", "float64")[i % 5 == 4], seed=i) for i in range(40)]
    ensemble = fnn.Ensemble(models)
    for given in (X[:rows], X[:rows].astype(np.float32), (10 * X[:rows]).astype(np.uint8)):
        for found, method in (
            (ensemble.outputs(given, each=True), "forward"),
            (ensemble.predict_proba(given, each=True), "predict_proba"),
        ):
            assert found.dtype == np.float64
            for i, model in enumerate(models):
                np.testing.assert_array_equal(found[i], getattr(model, method)(given).astype(np.float64))


def test_one_member_is_the_model(X, rng, backend):
    (model, *_), y = members(dtypes=("float64",)), rng.integers(3, size=700)
    ensemble = fnn.Ensemble([model])
    np.testing.assert_array_equal(ensemble.outputs(X), model.forward(X))
    np.testing.assert_array_equal(ensemble.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(ensemble.predict(X), model.predict(X))
    np.testing.assert_array_equal(ensemble.std(X), 0)
    assert ensemble.evaluate(X, y) == pytest.approx(model.evaluate(X, y), rel=1e-13)


def test_the_loss_of_the_mean_is_below_the_mean_loss(X, rng):
    """Jensen: the logarithm is concave."""
    models, y = members(), rng.integers(3, size=700)
    losses = [model.evaluate(X, y)["loss"] for model in models]
    assert min(losses) - 1 < fnn.Ensemble(models).evaluate(X, y)["loss"] < np.mean(losses)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_blocks_of_rows_change_nothing(loss, X, rng, monkeypatch):
    models, v = members(loss, dtypes=("float64",)), rng.random(700)
    ensemble, y = fnn.Ensemble(models), np.eye(3)[rng.integers(3, size=700)]
    calls = ensemble.outputs, ensemble.predict, ensemble.std
    whole, measured = [call(X) for call in calls], ensemble.evaluate(X, y, v)
    seen, original = [], fastnn.ensemble.outputs_of
    monkeypatch.setattr("fastnn.members._ELEMENTS", 1)
    monkeypatch.setattr("fastnn.ensemble.outputs_of", lambda m, x, *more: seen.append(len(x)) or original(m, x, *more))
    for call, expected in zip(calls, whole, strict=True):
        np.testing.assert_array_equal(call(X), expected)
    assert seen == 3 * [256, 256, 188]
    assert ensemble.evaluate(X, y, v) == pytest.approx(measured, rel=1e-12)
    assert ensemble.outputs(X, each=True).shape == (4, 700, 3)


@pytest.mark.parametrize("form", ["list", "uint8", "int64", "fortran", "strided", "float16"])
def test_forms_of_X(form, rng, backend):
    values = rng.integers(0, 9, size=(40, 4))
    X = {
        "list": values.tolist(),
        "uint8": values.astype(np.uint8),
        "int64": values,
        "fortran": np.asfortranarray(values.astype(np.float32)),
        "strided": np.repeat(values, 2, axis=0)[::2].astype(float),
        "float16": values.astype(np.float16),
    }[form]
    ensemble = fnn.Ensemble(members())
    np.testing.assert_allclose(ensemble.outputs(X), ensemble.outputs(values.astype(float)), rtol=1e-6, atol=1e-6)


def test_what_is_trained_later_shows(X, rng):
    models, y = members(), rng.integers(3, size=700)
    ensemble = fnn.Ensemble(iter(models))
    before = ensemble.predict_proba(X)
    models[1].fit(X, y, epochs=1, verbose=0)
    assert np.abs(ensemble.predict_proba(X) - before).max() > 0
    np.testing.assert_allclose(
        ensemble.predict_proba(X), np.mean([m.predict_proba(X) for m in models], axis=0), rtol=1e-6
    )


def test_a_sequence(X):
    models = members()
    ensemble = fnn.Ensemble(models)
    assert len(ensemble) == 4
    for i in (1, -1, np.int64(2)):
        assert ensemble[i] is models[i]
    assert list(ensemble) == list(ensemble.models) == models
    assert models[2] in ensemble
    part = ensemble[1:3]
    assert isinstance(part, fnn.Ensemble)
    assert list(part) == models[1:3]
    assert list(fnn.Ensemble(ensemble)) == models
    with pytest.raises(IndexError, match=r"there is no model 4: the ensemble has 4$"):
        ensemble[4]
    with pytest.raises(ValueError, match="models is empty"):
        ensemble[4:]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_copies(copied, X):
    ensemble = fnn.Ensemble(members())
    same = copied(ensemble)
    np.testing.assert_array_equal(same.predict_proba(X), ensemble.predict_proba(X))
    same[0].layers[0].weight[...] = 0
    assert np.abs(same.outputs(X) - ensemble.outputs(X)).max() > 0
    assert copy.copy(ensemble)[0] is ensemble[0]


def test_shown():
    models = [fnn.Sequential(fnn.Linear(2, 3), seed=i) for i in range(3)] + [
        fnn.Sequential(fnn.Linear(2, 3, bias=False))
    ]
    ensemble = fnn.Ensemble(models)
    first, last = map(repr, models[-2:])
    assert repr(ensemble) == f"<Ensemble of 4 models: 3 x {first}, 1 x {last}>"
    assert repr(ensemble[3:]) == f"<Ensemble of 1 model: 1 x {last}>"
    text = """\
members  model                                                  parameters of each
----------------------------------------------------------------------------------
0-2      Sequential(Linear(2, 3), dtype='float32')                               9
3        Sequential(Linear(2, 3, bias=False), dtype='float32')                   6
----------------------------------------------------------------------------------
4 models, 33 parameters, 0.1 KiB"""
    assert str(ensemble.summary()) == text
    expected = [
        ["members", "model", "parameters of each"],
        ["0-2", first, "9"],
        ["3", last, "6"],
        ["4 models, 33 parameters, 0.1 KiB"],
    ]
    assert cells(ensemble) == cells(ensemble.summary()) == expected


def model(n_in=4, n_out=3, loss=None, dtype="float32"):
    made = fnn.Sequential(fnn.Linear(n_in, n_out), dtype=dtype)
    if loss is not None:
        made.loss = loss
    return made


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ([], ValueError, "models is empty, expected at least one Sequential"),
        (None, TypeError, "models is None, expected a list of Sequential models"),
        ("models", TypeError, "models is 'models', expected a list"),
        (model(), TypeError, r"models is Sequential\(.*\), expected a list"),
        ([model(), 3], TypeError, r"models\[1\] is 3, expected a Sequential"),
        ([model(), model(), fnn.Sequential], TypeError, r"models\[2\] is <class .*>, expected a Sequential"),
        ([model(), model(5)], ValueError, r"models\[1\] has 5 inputs, but models\[0\] has 4: they must be equal"),
        ([model(n_out=2), model(), model(n_out=1)], ValueError, r"models\[1\] has 3 outputs, but models\[0\] has 2"),
        ([model(), model(n_out=1)], ValueError, r"models\[1\] has 1 output, but models\[0\] has 3"),
        (
            [model(), model(loss="squared_error"), model(loss="cross_entropy")],
            ValueError,
            r"models\[2\] was trained with CrossEntropy\(.*\), but models\[1\] with SquaredError\(\): the outputs",
        ),
        (2 * [model()], ValueError, r"models\[1\] is models\[0\] once more: give each once"),
    ],
)
def test_members_that_do_not_fit_together(models, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fnn.Ensemble(models)


def test_widths_that_only_the_outputs_tell(rng):
    known, unknown = model(4, 2), fnn.Sequential(Pairs())
    assert fnn.Ensemble([unknown, known]).outputs(rng.normal(size=(5, 4))).shape == (5, 2)
    for first, width in ((fnn.Sequential(Pairs()), 2), (model(4, 3), 3)):
        ensemble = fnn.Ensemble([first, fnn.Sequential(Pairs(), Pairs())])
        with pytest.raises(ValueError, match=rf"^models\[1\] has 1 outputs, but models\[0\] has {width}$"):
            ensemble.outputs(rng.normal(size=(5, 4)))


def test_members_without_a_loss(X):
    ensemble = fnn.Ensemble([model(loss="cross_entropy"), model()])
    assert ensemble.outputs(X).shape == ensemble.predict_proba(X).shape == (700, 3)
    for method in ("predict", "std"):
        with pytest.raises(
            ValueError, match=rf"^{method} cannot know whether the outputs of models\[1\] are class scores"
        ):
            getattr(ensemble, method)(X)
    with pytest.raises(
        ValueError, match=r"^evaluate needs a loss, but models\[1\] has none: fit it first, or set its loss"
    ):
        ensemble.evaluate(X, np.zeros(700, int))


def test_losses_that_are_set_later(X):
    ensemble = fnn.Ensemble([model(), model()])
    ensemble[0].loss, ensemble[1].loss = "squared_error", "cross_entropy"
    with pytest.raises(ValueError, match=r"^models\[1\] was trained with CrossEntropy"):
        ensemble.predict(X)
    with pytest.raises(
        ValueError, match=r"^models\[0\] was trained with SquaredError\(\), so its outputs need not be class"
    ):
        ensemble.predict_proba(X)
    ensemble[1].loss = "huber"
    assert ensemble.predict(X).shape == (700, 3)
    with pytest.raises(
        ValueError,
        match=r"^the loss of models\[1\] is Huber\(delta=1\), but that of models\[0\] is SquaredError\(\): set the",
    ):
        ensemble.evaluate(X, np.zeros((700, 3)))
    ensemble[0].loss, ensemble[1].loss = fnn.CrossEntropy(0.1), fnn.CrossEntropy()
    with pytest.raises(ValueError, match=r"^the loss of models\[1\] is CrossEntropy"):
        ensemble.evaluate(X, np.zeros(700, int))
    ensemble[1].loss = fnn.CrossEntropy(0.1)
    ensemble.evaluate(X, np.zeros(700, int))
    ensemble[0].loss, ensemble[1].loss = UserCrossEntropy(), UserCrossEntropy()
    with pytest.raises(ValueError, match=r"^the loss of models\[1\] is <tests"):
        ensemble.evaluate(X, np.zeros(700, int))


@pytest.mark.parametrize("method", ["outputs", "predict", "predict_proba", "std", "evaluate"])
def test_bad_input(method, X):
    ensemble = fnn.Ensemble([model(loss="cross_entropy"), model(loss="cross_entropy", dtype="float64")])
    more = [np.zeros(700, int)] if method == "evaluate" else []

    def call(X):
        return getattr(ensemble, method)(X, *more)

    for bad in (np.nan, np.inf):
        wrong = X.copy()
        wrong[690, 2] = bad
        with pytest.raises(ValueError, match="X holds NaN or infinite values"):
            call(wrong)
    wrong[690, 2] = 1e300
    with pytest.raises(ValueError, match="X holds values beyond the range of float32"):
        call(wrong)
    with pytest.raises(ValueError, match="X has 3 columns, but the model has 4 inputs"):
        call(X[:, :3])
    with pytest.raises(ValueError, match="X is empty"):
        call(X[:0])
    with pytest.raises(TypeError, match="X holds <U1 values"):
        call(np.full((700, 4), "a"))
    call(X)


def test_bad_targets_and_flags(X):
    ensemble = fnn.Ensemble([model(loss="cross_entropy"), model(loss="cross_entropy")])
    with pytest.raises(ValueError, match="y holds label 3, but the model has 3 outputs: labels must be"):
        ensemble.evaluate(X, np.full(700, 3))
    with pytest.raises(ValueError, match="sample_weight has 3 rows, but there are 700 samples"):
        ensemble.evaluate(X, np.zeros(700, int), np.ones(3))
    for method in (ensemble.outputs, ensemble.predict_proba):
        with pytest.raises(TypeError, match="each is 1, expected True or False"):
            method(X, each=1)


def test_the_example_in_the_docstring(backend):
    results = doctest.testmod(fastnn.ensemble)
    assert results.attempted == 9
    assert results.failed == 0
