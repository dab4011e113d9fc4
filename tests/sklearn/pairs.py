"""An estimator of fastnn beside scikit-learn's own: the data that both get, and what must then be equal."""

import functools
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn
import sklearn.neural_network as theirs
from sklearn import datasets
from sklearn.preprocessing import scale

import fastnn.sklearn as ours

CLASSIFIER, REGRESSOR = ESTIMATORS = ("MLPClassifier", "MLPRegressor")
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
# Trainings that are as short as tests are, of which scikit-learn warns.
ends_early = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge")
DATASETS = {
    "digits": CLASSIFIER,
    "iris": CLASSIFIER,
    "breast_cancer": CLASSIFIER,
    "wine": CLASSIFIER,
    "diabetes": REGRESSOR,
    "linnerud": REGRESSOR,
}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
RELEASE = tuple(map(int, sklearn.__version__.split(".")[:2]))


class Pair(NamedTuple):
    """The same estimator twice."""

    ours: Any
    theirs: Any


def pair(name: str, **settings: Any) -> Pair:
    """Both estimators with the same settings; small and seeded unless these say otherwise."""
    settings = {"hidden_layer_sizes": (12, 7), "random_state": 3} | settings
    return Pair(*(getattr(module, name)(**settings) for module in (ours, theirs)))


@functools.cache
def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """X, scaled as users do, and y, scaled where it is to be regressed."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X, y = scale(X), scale(y) if DATASETS[name] == REGRESSOR else y
    X.flags.writeable = y.flags.writeable = False
    return X, y


@functools.cache
def multilabel(rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Samples of 8 features with any number of 4 labels each."""
    return datasets.make_multilabel_classification(rows, 8, n_classes=4, random_state=0)


@dataclass
class Outcome:
    """What a call returned or raised, and what it said."""

    value: Any
    error: tuple[type, str] | None
    warned: list[tuple[type, str]]
    printed: str


def outcome(call: Callable[[], Any], stdout: io.StringIO | None = None) -> Outcome:
    """Run a call to its end, whatever that is.

    NumPy's warnings of overflow are left out: they tell of scikit-learn's arithmetic, not of its answers.
    """
    value, error = None, None
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(stdout or io.StringIO()) as printed:
        warnings.simplefilter("always")
        try:
            value = call()
        except (Exception, KeyboardInterrupt) as raised:
            error = type(raised), str(raised)
    warned = [(w.category, str(w.message)) for w in caught if not issubclass(w.category, RuntimeWarning)]
    return Outcome(value, error, warned, printed.getvalue())


def same(both: Pair, act: Callable[[Any], Any], rtol: float = 1e-9) -> Outcome:
    """Let both act, and compare what they return, raise, warn of and print, and their fitted attributes."""
    mine, expected = (outcome(lambda estimator=estimator: act(estimator)) for estimator in both)
    assert mine.error == expected.error
    assert mine.warned == expected.warned
    assert mine.printed == expected.printed
    if expected.value is not both.theirs:
        assert_close(mine.value, expected.value, rtol, "what is returned")
    else:
        assert mine.value is both.ours
    assert_same_state(both, rtol)
    return expected


def same_fit(both: Pair, X: Any, y: Any, rtol: float = 1e-9, **arguments: Any) -> Outcome:
    """Fit both and compare all that comes of it, answers included."""
    result = same(both, lambda estimator: estimator.fit(X, y, **arguments), rtol)
    if result.error is None:
        assert_same_answers(both, X, rtol)
    return result


def assert_same_answers(both: Pair, X: Any, rtol: float = 1e-9) -> None:
    """Predictions, and probabilities where there are any."""
    methods = ["predict", "predict_proba"] if hasattr(both.theirs, "predict_proba") else ["predict"]
    for method in methods:
        assert_close(*(getattr(estimator, method)(X) for estimator in both), rtol, method)


def assert_same_state(both: Pair, rtol: float) -> None:
    """Every public fitted attribute of scikit-learn's object is there, with the same type and value."""
    for name, expected in vars(both.theirs).items():
        if name.endswith("_") and not name.startswith("_"):
            assert hasattr(both.ours, name), name
            assert_close(getattr(both.ours, name), expected, rtol, name)


def assert_close(mine: Any, expected: Any, rtol: float, name: str) -> None:
    """The same type; floats equal within rtol, relative to the largest of an array; all else exactly."""
    assert type(mine) is type(expected), f"{name}: {type(mine)}, expected {type(expected)}"
    if isinstance(expected, list | tuple):
        assert len(mine) == len(expected), name
        for i, (a, b) in enumerate(zip(mine, expected, strict=True)):
            assert_close(a, b, rtol, f"{name}[{i}]")
    elif isinstance(expected, np.ndarray):
        assert mine.dtype == expected.dtype, name
        assert mine.shape == expected.shape, name
        if expected.dtype.kind == "f":
            largest = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
            np.testing.assert_allclose(mine, expected, rtol, rtol * largest, err_msg=name)
        else:
            np.testing.assert_array_equal(mine, expected, err_msg=name)
    elif isinstance(expected, float | np.floating):
        np.testing.assert_allclose(mine, expected, rtol, err_msg=name)
    else:
        assert mine == expected, name
