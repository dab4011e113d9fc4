"""The user's own validation set in two parts, ``fit(X, y, X_val=..., y_val=...)``, which a Pipeline can transform."""

import inspect

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

ALL = load_iris().data * [1, 10, 100, 1000], load_iris().target
X, Y, X_VAL, Y_VAL = ALL[0][::2], ALL[1][::2], ALL[0][1::2], ALL[1][1::2]
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 4, "random_state": 0}

every_estimator = pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("form", [np.asarray, csr_matrix])
def test_the_same_as_the_pair(estimator, early_stopping, form):
    pair, parts = (estimator(**SMALL, early_stopping=early_stopping) for _ in range(2))
    pair.fit(form(X), Y, validation_data=(form(X_VAL), Y_VAL))
    assert parts.fit(form(X), Y, X_val=form(X_VAL), y_val=Y_VAL) is parts
    assert len(parts.validation_loss_curve_) == 4
    assert parts.validation_loss_curve_ == pair.validation_loss_curve_
    assert parts.validation_scores_ == pair.validation_scores_
    np.testing.assert_array_equal(parts.coefs_[0], pair.coefs_[0])


class TestPipeline:
    """With metadata routing, ``transform_input`` names what the steps before the last are to transform too."""

    @pytest.fixture(autouse=True)
    def routed(self):
        with config_context(enable_metadata_routing=True):
            yield

    @every_estimator
    def test_it_is_transformed(self, estimator):
        last = estimator(**SMALL).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("mlp", last)], transform_input=["X_val"])
        pipeline.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
        if estimator is MLPClassifier:
            expected = log_loss(Y_VAL, pipeline.predict_proba(X_VAL))
        else:
            expected = mean_squared_error(Y_VAL, pipeline.predict(X_VAL)) / 2
        assert pipeline[-1].validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)
        unscaled = clone(last).fit(pipeline[0].transform(X), Y, X_val=X_VAL, y_val=Y_VAL)
        assert unscaled.validation_loss_curve_[-1] != pytest.approx(expected, rel=1e-2)

    @every_estimator
    def test_the_pair_is_refused_and_not_left_as_it_is(self, estimator):
        last = estimator(**SMALL).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), last, transform_input=["X_val"])
        with pytest.raises(TypeError, match=r"unexpected argument\(s\) {'validation_data'}"):
            pipeline.fit(X, Y, validation_data=(X_VAL, Y_VAL))

    def test_a_search_hands_it_on(self):
        search = GridSearchCV(MLPClassifier(**SMALL).set_fit_request(X_val=True, y_val=True), {"alpha": [0.1]}, cv=2)
        search.fit(X, Y, X_val=X_VAL[:9], y_val=Y_VAL[:9])
        assert len(search.best_estimator_.validation_loss_curve_) == 4

    @every_estimator
    def test_requests_know_the_names(self, estimator):
        assert {"X_val", "y_val"} <= inspect.signature(estimator().set_fit_request).parameters.keys()
        requests = estimator().set_fit_request(X_val="X_new", y_val=False).get_metadata_routing().fit.requests
        assert (requests["X_val"], requests["y_val"]) == ("X_new", False)

    def test_a_subclass_may_fit_without_it(self):
        class Plain(MLPClassifier):
            def fit(self, X, y):
                return super().fit(X, y)

        pipeline = make_pipeline(StandardScaler(), Plain(**SMALL)).fit(X, Y)
        assert pipeline[-1].n_iter_ == 4


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"validation_data": (X_VAL, Y_VAL), "X_val": X_VAL, "y_val": Y_VAL},
                "^validation_data and X_val came at once: pass validation_data, or X_val with y_val$",
            ),
            ({"validation_data": (X_VAL, Y_VAL), "y_val": Y_VAL}, "^validation_data and y_val came at once"),
            ({"X_val": X_VAL}, "^X_val came without y_val: pass both, or neither$"),
            ({"y_val": Y_VAL}, "^y_val came without X_val: pass both, or neither$"),
            (
                {"X_val": X_VAL[:, :3], "y_val": Y_VAL},
                "^X_val with y_val: X has 3 features, but MLPClassifier is",
            ),
            (
                {"X_val": X_VAL, "y_val": Y_VAL[1:]},
                "^X_val with y_val: Found input variables with inconsistent",
            ),
            ({"X_val": X_VAL, "y_val": Y_VAL + 1}, "^X_val with y_val: y holds label 3, but training has the classes"),
        ],
    )
    def test_what_does_not_fit(self, arguments, message):
        model = MLPClassifier(**SMALL).fit(X, Y)
        before, expected = set(vars(model)), model.predict_proba(X)
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, **arguments)
        assert set(vars(model)) == before
        np.testing.assert_array_equal(model.predict_proba(X), expected)

    def test_targets_that_are_no_numbers(self):
        with pytest.raises(TypeError, match=r"^y_val holds <U1, expected numbers: use y_val\.astype"):
            MLPRegressor(**SMALL).fit(X, Y, X_val=X_VAL, y_val=np.array(["a", "b", "c"])[Y_VAL])

    def test_other_outputs(self):
        with pytest.raises(ValueError, match=r"^X_val with y_val: y has 3 outputs, but 2 are trained"):
            MLPRegressor(**SMALL).fit(X, X[:, :2], X_val=X_VAL, y_val=X_VAL[:, :3])

    def test_lbfgs(self):
        with pytest.raises(ValueError, match="no epochs, so X_val with y_val does not apply: use solver 'adam' or"):
            MLPClassifier(**SMALL, solver="lbfgs").fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
