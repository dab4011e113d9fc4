"""scikit-learn's callbacks, in the releases that have them."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.sklearn import GridSearchCV, MLPClassifier, MLPRegressor

pytest.importorskip("sklearn.callback")
pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.where(X[:, 0] > 0, "yes", "no")


class Listener:
    """A callback that writes down what it is told, and asks to stop after so many epochs."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.told, self.models, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.told.append(("begin", context.task_name, context.task_id))
        self.given = X, y, metadata
        self.subtasks = context.max_subtasks

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.told.append(("end", context.task_name, context.task_id))
        self.models.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def small(kind=MLPClassifier, **parameters):
    return kind(hidden_layer_sizes=(5,), max_iter=3, random_state=0, **parameters)


@pytest.mark.parametrize("parameters", [{}, {"batch_norm": True, "early_stopping": True}, {"solver": "sgd"}])
def test_fit_and_epochs_are_told(parameters):
    listener, alone = Listener(), small(**parameters).fit(X, Y)
    mlp = small(**parameters).set_callbacks(listener)
    weights = {} if parameters.get("early_stopping") else {"sample_weight": np.ones(len(X))}
    mlp.fit(X, Y, **weights)
    epochs = [(when, "epoch", i) for i in range(3) for when in ("begin", "end")]
    assert listener.told == ["setup", ("begin", "fit", 0), *epochs, ("end", "fit", 0), "teardown"]
    assert listener.given[0] is X
    assert listener.given[1] is Y
    assert (listener.given[2] is None) == (not weights)
    np.testing.assert_array_equal(mlp.predict_proba(X), alone.predict_proba(X))
    first = small(**parameters | {"early_stopping": False}).set_params(max_iter=1)
    if not parameters.get("early_stopping"):
        np.testing.assert_array_equal(listener.models[0].predict_proba(X), first.fit(X, Y).predict_proba(X))
    assert (listener.models[0].coefs_[0] != listener.models[2].coefs_[0]).any()
    np.testing.assert_array_equal(listener.models[-1].predict_proba(X), mlp.predict_proba(X))
    assert not {"_fit_task", "_callback_fit_ctx"} & set(vars(mlp))
    if not mlp.batch_norm:
        assert "_skl_callbacks" not in vars(mlp.to_sklearn())
    assert pickle.loads(pickle.dumps(copy.deepcopy(mlp))).n_iter_ == 3


def test_a_callback_may_stop():
    mlp = small(MLPRegressor).set_callbacks(Listener(stop_after=2)).fit(X, X[:, 0])
    assert mlp.n_iter_ == 2
    assert len(mlp.loss_curve_) == 2


def test_lbfgs_tells_of_the_fit_alone():
    listener = Listener()
    small(solver="lbfgs").set_callbacks(listener).fit(X, Y)
    assert listener.told == ["setup", ("begin", "fit", 0), ("end", "fit", 0), "teardown"]


def test_a_pipeline_and_a_search_hand_them_on():
    for outer in (make_pipeline(StandardScaler(), small()), GridSearchCV(small(), {"alpha": [1e-4, 1e-2]}, cv=2)):
        listener = Listener()
        inner = clone(outer)
        outer.set_callbacks(listener).fit(X, Y)
        assert listener.told.count("setup") == 1
        assert sum(each[:2] == ("end", "epoch") for each in listener.told) == (3 if "steps" in vars(outer) else 5 * 3)
        np.testing.assert_array_equal(outer.predict_proba(X), inner.fit(X, Y).predict_proba(X))


def test_partial_fit_tells_nothing_and_errors_are_heard():
    listener = Listener()
    mlp = small().set_callbacks(listener)
    mlp.partial_fit(X, Y, classes=["no", "yes"])
    assert listener.told == []
    with pytest.raises(ValueError, match="NaN"):
        mlp.fit(X * np.nan, Y)
    assert listener.told[-1] == "teardown"
    assert "_fit_task" not in vars(mlp)
    with pytest.raises(TypeError, match="callbacks must be instances following the FitCallback protocol"):
        mlp.set_callbacks(print)
