"""How losses, weights and rates are counted where no prediction shows it."""

import numpy as np
import pytest
import scipy.sparse

import fastnn.sklearn as ours
from fastnn.sklearn import _lbfgs, _perceptron
from tests.sklearn.pairs import CLASSIFIER, RELEASE, data, ends_early, pair, same, same_fit

X, Y = data("wine")
SPARSE = scipy.sparse.csr_array(np.where(np.cos(np.arange(X.size)).reshape(X.shape) > 0, X, 0))
WEIGHTS = np.linspace(0.1, 3, len(X)) ** 2

pytestmark = ends_early
since_1_7 = pytest.mark.skipif(RELEASE < (1, 7), reason="new in scikit-learn 1.7")


@since_1_7
@pytest.mark.parametrize("samples", [SPARSE, SPARSE.toarray()], ids=["sparse", "dense"])
class TestWeightsOfBatches:
    """178 samples of unequal weight in batches, the last of which is smaller."""

    @pytest.mark.parametrize("batch_size", [40, 177])
    def test_in_an_epoch(self, samples, batch_size):
        both = pair(CLASSIFIER, batch_size=batch_size, max_iter=3, shuffle=False)
        same_fit(both, samples, Y, sample_weight=WEIGHTS)

    def test_in_the_full_loss(self, samples, monkeypatch):
        monkeypatch.setattr(_lbfgs, "_MOST_ROWS", 32)
        same_fit(pair(CLASSIFIER, solver="lbfgs", max_iter=4), samples, Y, rtol=1e-7, sample_weight=WEIGHTS)


def test_the_full_loss_by_size(monkeypatch):
    monkeypatch.setattr(_lbfgs, "_MOST_ROWS", 32)
    same_fit(pair(CLASSIFIER, solver="lbfgs", max_iter=4), SPARSE, Y, rtol=1e-7)


@pytest.mark.parametrize("settings", [{"solver": "adam", "beta_1": 0.8, "beta_2": 0.99}, {"solver": "sgd"}])
def test_the_rate_that_the_optimizer_has_reached(settings):
    both = pair(CLASSIFIER, max_iter=3, batch_size=50, **settings)
    same_fit(both, X, Y)
    assert both.ours._optimizer.learning_rate == pytest.approx(both.theirs._optimizer.learning_rate, rel=1e-12)
    same(both, lambda model: model.partial_fit(X, Y))
    assert both.ours._optimizer.learning_rate == pytest.approx(both.theirs._optimizer.learning_rate, rel=1e-12)
    assert getattr(both.ours._optimizer, "t", None) == getattr(both.theirs._optimizer, "t", None)


@since_1_7
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_poisson_loss_of_a_negative_count_is_undefined(solver):
    counts = np.arange(len(X)) % 4 - 1.0
    both = pair("MLPRegressor", loss="poisson", max_iter=3, solver=solver)
    with np.errstate(invalid="ignore"):
        same(both, lambda model: model.fit(X, counts))
    assert np.isnan(both.ours.loss_)


def test_values_beyond_the_dtype_in_any_block_of_a_sparse_matrix(monkeypatch):
    model = ours.MLPClassifier((6,), max_iter=2, random_state=0, dtype="float32").fit(SPARSE, Y)
    monkeypatch.setattr(_perceptron, "_BLOCK_ELEMENTS", 1)
    for row in (0, 100, 177):
        large = SPARSE.toarray()
        large[row, 0] = 1e40
        with pytest.raises(ValueError, match="X contains infinity or a value too large"):
            model.predict_proba(scipy.sparse.csr_array(large))
    assert model.predict_proba(SPARSE).shape == (178, 3)
