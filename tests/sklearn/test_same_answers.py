"""scikit-learn's answers on its own data sets: every activation, solver and schedule.

scikit-learn against itself, each initial weight moved by its last bit, keeps 1e-14 over 50 epochs of these and 1e-13
over 5 iterations of L-BFGS, so what is more is a difference.
"""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, Ridge

import fastnn.sklearn as ours
from tests.cases import each_pair
from tests.sklearn.pairs import ACTIVATIONS, DATASETS, data, outcome, pair, same_fit

SGD = {
    "plain": {"momentum": 0.0, "learning_rate_init": 0.1},
    "momentum": {"nesterovs_momentum": False, "learning_rate_init": 0.02},
    "nesterov": {"learning_rate_init": 0.02},
}
# No step improves the loss by 1e3, so the adaptive rate falls after the third and the fifth epoch.
SCHEDULES = {
    "constant": {},
    "invscaling": {"learning_rate": "invscaling", "power_t": 0.2},
    "adaptive": {"learning_rate": "adaptive", "tol": 1e3, "n_iter_no_change": 1},
}
STOCHASTIC = {
    f"{kind}-{schedule}": {"solver": "sgd", **SGD[kind], **SCHEDULES[schedule]}
    for kind in SGD
    for schedule in SCHEDULES
} | {"adam": {"solver": "adam"}}
LONG = {"nesterov": STOCHASTIC["nesterov-constant"], "adam": {"solver": "adam", "beta_1": 0.8, "epsilon": 1e-7}}
LBFGS = {"solver": "lbfgs"}

every_dataset = pytest.mark.parametrize("name", DATASETS)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


@pytest.mark.parametrize(("name", "solver", "activation"), each_pair(DATASETS, STOCHASTIC, ACTIVATIONS))
def test_five_epochs(name, activation, solver):
    """With the activations in turn; for long enough to show more, below, each with each."""
    both = pair(DATASETS[name], activation=activation, max_iter=5, **STOCHASTIC[solver])
    same_fit(both, *data(name), rtol=1e-9)
    assert both.theirs.n_iter_ == 5


@pytest.mark.parametrize("solver", LONG)
@every_activation
@every_dataset
def test_fifty_epochs(name, activation, solver):
    both = pair(DATASETS[name], activation=activation, max_iter=50, n_iter_no_change=50, **LONG[solver])
    same_fit(both, *data(name), rtol=1e-6)
    assert both.theirs.n_iter_ == 50


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_scores_that_saturate(solver):
    """Unscaled, as users often fit it: probabilities round to 1, and their logarithms are those of rounded numbers."""
    X, y = load_breast_cancer(return_X_y=True)
    both = pair("MLPClassifier", activation="identity", solver=solver, hidden_layer_sizes=(20,), max_iter=5)
    same_fit(both, X, y, rtol=1e-6 if solver == "lbfgs" else 1e-9)
    assert np.isin(both.theirs.predict_proba(X), (0, 1)).any() or solver == "lbfgs"


@every_activation
@every_dataset
def test_five_iterations_of_lbfgs(name, activation):
    both = pair(DATASETS[name], activation=activation, max_iter=5, **LBFGS)
    same_fit(both, *data(name), rtol=1e-6)


@every_activation
@every_dataset
def test_fifty_iterations_of_lbfgs(name, activation):
    # Later, two paths that part by a rounding end in other minima, scikit-learn's own too.
    both = pair(DATASETS[name], activation=activation, max_iter=50, alpha=0.1, **LBFGS)
    assert_same_end(both, *data(name))


def assert_same_end(both, X, y):
    for estimator in both:
        outcome(lambda estimator=estimator: estimator.fit(X, y))
    assert both.ours.loss_ == pytest.approx(both.theirs.loss_, rel=1e-4)


class TestNoHiddenLayer:
    @pytest.mark.parametrize("solver", [*LONG, "lbfgs"])
    @every_dataset
    def test_same_answers(self, name, solver):
        settings = LBFGS if solver == "lbfgs" else LONG[solver]
        both = pair(DATASETS[name], hidden_layer_sizes=(), max_iter=5, **settings)
        same_fit(both, *data(name), rtol=1e-6 if solver == "lbfgs" else 1e-9)
        assert len(both.ours.coefs_) == 1

    @every_dataset
    def test_where_lbfgs_ends(self, name):
        assert_same_end(pair(DATASETS[name], hidden_layer_sizes=(), max_iter=5000, alpha=0.1, **LBFGS), *data(name))

    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the last digit of the loss may never come to rest
    @pytest.mark.parametrize("name", ["iris", "breast_cancer"])
    def test_it_meets_logistic_regression(self, name):
        X, y = data(name)
        m, alpha = len(X), 5.0
        penalty = alpha / (2 * m)  # the factor of the sum of squares beside a mean loss
        expected = LogisticRegression(C=1 / (2 * penalty * m), tol=1e-10, max_iter=10_000).fit(X, y)
        model = converged(ours.MLPClassifier, alpha, X, y)
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-6)
        np.testing.assert_allclose(model.coefs_[0].T, expected.coef_, rtol=0, atol=1e-5)

    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_it_meets_ridge_regression(self):
        X, y = data("linnerud")
        expected = Ridge(alpha=3.0).fit(X, y)
        model = converged(ours.MLPRegressor, 3.0, X, y)
        np.testing.assert_allclose(model.coefs_[0].T, expected.coef_, rtol=0, atol=1e-7)
        np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=0, atol=1e-7)


def converged(estimator, alpha, X, y):
    """A linear model that has taken steps along the whole gradient until no digit, or only the last, changed."""
    steps = {"solver": "sgd", "learning_rate_init": 0.1, "batch_size": len(X), "tol": 0.0, "max_iter": 10_000}
    model = estimator(hidden_layer_sizes=(), alpha=alpha, random_state=0, n_iter_no_change=200, **steps)
    return model.fit(X, y)
