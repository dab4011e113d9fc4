"""Class weights are sample weights: by hand, beside scikit-learn's formula, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight

import fastnn as fnn
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network
from tests.user_code import AbsoluteError, UserReLU

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    return labelled(rng)


def user_network(**settings):
    return fnn.Sequential(fnn.Linear(6, 5), UserReLU(), fnn.Linear(5, 3), **{"dtype": "float64", **settings})


@pytest.mark.parametrize("make", [network, user_network])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [{0: 0.5, 2: 3}, {}, "balanced", [0.5, 1, 3], np.array([0, 1, 3])], ids=str)
def test_as_sample_weights(make, weighted, class_weight, data):
    X, y = data
    v = np.linspace(0.1, 2, 50) if weighted else None
    of_class = dict(enumerate(class_weight)) if isinstance(class_weight, (list, np.ndarray)) else class_weight
    of_sample = compute_sample_weight(of_class, y) * (1 if v is None else v)
    settings = {"epochs": 3, "batch_size": 16, "validation_data": data, "verbose": 0}
    model, expected = make(), make()
    model.fit(X, y, class_weight=class_weight, sample_weight=v, **settings)
    expected.fit(X, y, sample_weight=of_sample, **settings)
    for name, values in expected.history.items():
        assert model.history[name] == pytest.approx(values)
    assert_same_weights(model, expected)


def test_the_loss_by_hand():
    """Losses of log 2 and log 4 - log 3 with the weights 3 and 1, of which class 0 has three samples."""
    model = fnn.Sequential(fnn.Linear(1, 2, init=[[0, np.log(3)]], bias=False), dtype="float64")
    settings = {"optimizer": fnn.SGD(1e-12), "epochs": 1, "verbose": 0}
    X, y = [[0], [1]], [0, 1]
    expected = (3 * np.log(2) + np.log(4) - np.log(3)) / 4
    assert model.fit(X, y, class_weight={0: 3}, **settings)["loss"] == [pytest.approx(expected)]


@given(st.lists(st.sampled_from([0, 2, 3]), min_size=1, max_size=30))
def test_balanced_classes_weigh_the_same(labels):
    """Whatever the labels, zero scores lose log 4 each, and the gradient of the biases is that of equal classes."""
    model = fnn.Sequential(fnn.Linear(1, 4, init="zeros"), dtype="float64")
    X = np.zeros((len(labels), 1))
    history = model.fit(X, labels, class_weight="balanced", optimizer=fnn.SGD(1.0), epochs=1, batch_size=100, verbose=0)
    assert history["loss"] == [pytest.approx(np.log(4))]
    present = np.isin(np.arange(4), labels)
    np.testing.assert_allclose(model.layers[0].bias, present / present.sum() - 0.25, atol=1e-12)


BAD = [
    ("even", ValueError, r"class_weight is 'even', expected 'balanced', a dict or an array \(3,\)"),
    ([1, 2], ValueError, r"class_weight has shape \(2,\), but the model has 3 outputs: expected \(3,\)"),
    (2.0, ValueError, r"class_weight has shape \(\), but the model has 3 outputs"),
    ([1, -1, 1], ValueError, "class_weight holds -1, expected weights >= 0"),
    ([1, np.nan, 1], ValueError, "class_weight holds NaN or infinite values"),
    ([0, 0, 0], ValueError, "class_weight sums to zero, expected at least one positive weight"),
    (["a", "b", "c"], TypeError, "class_weight holds <U1 values, expected real numbers"),
    ({3: 1.0}, ValueError, "class_weight has the key 3, but the model has 3 outputs: labels are 0..2"),
    ({-1: 1.0}, ValueError, "class_weight has the key -1, but the model has 3 outputs"),
    ({"a": 1.0}, TypeError, "class_weight has the key 'a', expected integer labels 0..2"),
    ({1: -1.0}, ValueError, r"class_weight\[1\] is -1, expected a finite number >= 0"),
    ({1: "x"}, TypeError, r"class_weight\[1\] is 'x', expected a finite number >= 0"),
    ({0: 0, 1: 0, 2: 0}, ValueError, "class_weight sums to zero, expected at least one positive weight"),
    ({0: 1e308, 1: 1e308}, ValueError, "class_weight has a sum beyond the range of float64"),
]


@pytest.mark.parametrize(("class_weight", "error", "message"), BAD)
def test_refused(class_weight, error, message, data):
    refuse(network(), *data, error, message, class_weight=class_weight)


def refuse(model, X, y, error, message, **settings):
    before = state(model)
    with pytest.raises(error, match=message):
        model.fit(X, y, verbose=0, **settings)
    assert state(model) == before


def test_refused_with_sample_weights(data):
    X, y = data
    message = "class_weight times sample_weight sums to zero, expected at least one positive weight"
    refuse(network(), X, y, ValueError, message, class_weight={0: 0}, sample_weight=(y == 0) * 1.0)
    message = "sample_weight has 3 rows, but there are 50 samples"
    refuse(network(), X, y, ValueError, message, class_weight="balanced", sample_weight=np.ones(3))


def test_refused_without_classes(data):
    X, y = data
    for loss in ("squared_error", AbsoluteError()):
        message = r"class_weight needs classes, but the loss is .*: use sample_weight"
        refuse(network(), X, np.eye(3)[y], ValueError, message, loss=loss, class_weight="balanced")
    message = r"BinaryCrossEntropy\(.*\): use sample_weight, or its pos_weight"
    refuse(network(), X, np.eye(3)[y], ValueError, message, loss="binary_cross_entropy", class_weight="balanced")
    message = r"class_weight needs integer labels, but y holds targets \(50, 3\): use sample_weight"
    refuse(network(), X, np.eye(3)[y], ValueError, message, class_weight="balanced")
