"""What the candidates of a search have in common: samples of a split and fitted transformers, where that is certain."""

import gc
import weakref

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_matrix
from sklearn import decomposition, feature_selection, impute, model_selection, preprocessing
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import FeatureUnion, make_pipeline

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier
from fastnn.sklearn._certainty import Uncertain, frozen, leaves_samples_alone, recipe
from fastnn.training import memory
from tests.sklearn.test_searches import SETTINGS, assert_same_results, samples

pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")

X, Y = samples("classifier")
ALPHAS = {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0]}


def counted(fit, count):
    """A method ``fit`` that notes whose it was."""
    return lambda self, *args, **kwargs: count.append(self) or fit(self, *args, **kwargs)


@pytest.fixture
def fits(monkeypatch):
    """The number of fits of the transformers of the tests."""
    count = []
    for name in ("StandardScaler", "MinMaxScaler", "PolynomialFeatures"):
        kind = getattr(preprocessing, name)
        fit = kind.fit
        monkeypatch.setattr(
            kind, "fit", lambda self, *args, fit=fit, **kw: count.append(self) or fit(self, *args, **kw)
        )
    return count


def search(pipeline, grid=ALPHAS, x=X, **settings):
    """The search, after a look at scikit-learn's with the same estimator."""
    settings = {"cv": 4, "refit": False, **settings}
    same = model_selection.GridSearchCV(pipeline, grid, **settings).fit(x, Y)
    return ours.GridSearchCV(pipeline, grid, **settings), same


class TestTransformers:
    def test_once_for_each_fold(self, fits):
        mine, same = search(make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS)))
        fits.clear()
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        assert len(fits) == 4

    def test_once_for_each_prefix_and_fold(self, fits):
        polynomial = preprocessing.PolynomialFeatures()
        pipeline = make_pipeline(preprocessing.StandardScaler(), polynomial, MLPClassifier(**SETTINGS))
        grid = {"polynomialfeatures__degree": [1, 2], "standardscaler__with_mean": [True, False], **ALPHAS}
        mine, same = search(pipeline, grid)
        fits.clear()
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        kinds = [type(transformer).__name__ for transformer in fits]
        assert (kinds.count("StandardScaler"), kinds.count("PolynomialFeatures")) == (2 * 4, 2 * 2 * 4)

    def test_other_steps(self, fits):
        steps = [preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), "passthrough", None]
        mine, same = search(
            make_pipeline("passthrough", MLPClassifier(**SETTINGS)),
            {"passthrough": steps, **ALPHAS},
            scoring="neg_log_loss",
        )
        fits.clear()
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        assert len(fits) == 2 * 4

    def test_of_several_columns(self, fits):
        columns = ColumnTransformer(
            [("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.MinMaxScaler(), slice(2, 4))]
        )
        union = FeatureUnion([("all", columns), ("best", feature_selection.SelectKBest(k=2))])
        mine, same = search(
            make_pipeline(union, MLPClassifier(**SETTINGS)), {**ALPHAS, "featureunion__all__a__copy": [True]}
        )
        fits.clear()
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        assert len(fits) == 2 * 4

    def test_a_table(self, fits):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(X, columns=list("abcd"))
        with sklearn.config_context(transform_output="pandas"):
            mine, same = search(make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS)), x=table)
            fits.clear()
            mine.fit(table, Y)
        assert_same_results(mine.cv_results_, same.cv_results_)
        assert len(fits) == 4

    def test_sparse_samples(self, fits):
        scaler = preprocessing.StandardScaler(with_mean=False)
        mine, same = search(make_pipeline(scaler, MLPClassifier(**SETTINGS)), x=csr_matrix(X))
        fits.clear()
        assert_same_results(mine.fit(csr_matrix(X), Y).cv_results_, same.cv_results_)
        assert len(fits) == 4

    def test_halving_takes_other_samples_in_each_round(self, fits):
        pipeline = make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS))
        settings = {"cv": 3, "random_state": 0, "min_resources": 30, "refit": False}
        mine = ours.HalvingGridSearchCV(pipeline, ALPHAS, **settings).fit(X, Y)
        assert len(fits) == 3 * mine.n_iterations_
        same = model_selection.HalvingGridSearchCV(pipeline, ALPHAS, **settings).fit(X, Y)
        assert_same_results(mine.cv_results_, same.cv_results_)

    def test_each_candidate_has_a_transformer_of_its_own(self):
        pipeline, found = make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS)), []

        def spoil(estimator, x, y):
            value = estimator.score(x, y)
            found.append(estimator[0])
            estimator[0].mean_ += 100.0
            return value

        mine, same = (
            module.GridSearchCV(pipeline, ALPHAS, cv=4, scoring=spoil, refit=False).fit(X, Y)
            for module in (ours, model_selection)
        )
        assert_same_results(mine.cv_results_, same.cv_results_)
        assert len(set(map(id, found))) == 24

    @pytest.mark.parametrize(
        "transformer",
        [
            preprocessing.StandardScaler(copy=False),
            preprocessing.FunctionTransformer(lambda x: np.multiply(x, 2, out=x)),
            preprocessing.QuantileTransformer(n_quantiles=10, random_state=np.random.RandomState(0)),
            decomposition.PCA(2, svd_solver="randomized", random_state=np.random.RandomState(3)),
            make_pipeline(preprocessing.StandardScaler(copy=False)),
            FeatureUnion([("scaled", preprocessing.MinMaxScaler(copy=False))]),
        ],
    )
    def test_what_is_not_certain_is_done_for_each(self, transformer):
        pipeline = make_pipeline(transformer, MLPClassifier(**SETTINGS))
        before = X.copy()
        mine, same = search(pipeline)
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        np.testing.assert_array_equal(X, before)

    def test_drawing_transformers_are_fitted_for_each(self, monkeypatch):
        count, fit = [], decomposition.PCA.fit_transform
        monkeypatch.setattr(decomposition.PCA, "fit_transform", lambda *args: count.append(1) or fit(*args))
        for state, expected in ((None, 12), (np.random.RandomState(0), 12), (5, 4)):
            count.clear()
            pipeline = make_pipeline(decomposition.PCA(2, random_state=state), MLPClassifier(**SETTINGS))
            ours.GridSearchCV(pipeline, ALPHAS, cv=4, refit=False).fit(X, Y)
            assert len(count) == expected

    def test_one_of_the_users(self):
        count = []

        class Scaler(TransformerMixin, BaseEstimator):
            def fit(self, X, y=None):
                count.append(X.flags.writeable)
                return self

            def transform(self, X):
                X *= 2
                return X

        mine, same = search(make_pipeline(Scaler(), MLPClassifier(**SETTINGS)))
        count.clear()
        assert_same_results(mine.fit(X, Y).cv_results_, same.cv_results_)
        assert count == [True] * 12

    def test_a_memory_of_the_users(self, tmp_path, fits):
        pipeline = make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS), memory=str(tmp_path))
        mine = ours.GridSearchCV(pipeline, ALPHAS, cv=4, refit=False).fit(X, Y)
        assert len(fits) == 4
        assert mine.estimator.memory == str(tmp_path)
        assert list(tmp_path.iterdir())

    def test_a_pipeline_that_tells_what_it_does(self, capsys):
        shown = []
        for module in (ours, model_selection):
            pipeline = make_pipeline(preprocessing.StandardScaler(), MLPClassifier(**SETTINGS), verbose=True)
            module.GridSearchCV(pipeline, ALPHAS, cv=4, refit=False).fit(X, Y)
            shown.append(capsys.readouterr().out.count("Processing standardscaler"))
        assert shown == [12, 12]

    @pytest.mark.filterwarnings("ignore:Scoring failed")
    def test_one_that_cannot_be_fitted(self):
        wrong = make_pipeline(preprocessing.StandardScaler(), "nothing", MLPClassifier(**SETTINGS))
        polynomial = make_pipeline(preprocessing.PolynomialFeatures(degree=-1), MLPClassifier(**SETTINGS))
        for pipeline in (wrong, polynomial):
            with pytest.raises(ValueError, match="fits failed"):
                ours.cross_validate(pipeline, X, Y, return_estimator=True)


class TestSamples:
    def test_candidates_of_a_fold_have_the_same(self, monkeypatch):
        seen = {}
        fit = MLPClassifier.fit
        monkeypatch.setattr(
            MLPClassifier, "fit", lambda self, x, y: seen.setdefault(id(x), []).append((x, y)) or fit(self, x, y)
        )
        ours.GridSearchCV(MLPClassifier(**SETTINGS), {"alpha": [0.1, 0.2, 0.3]}, cv=4, refit=False).fit(X, Y)
        assert [len(same) for same in seen.values()] == [3] * 4
        for (x, y), *others in seen.values():
            assert not x.flags.writeable
            assert not y.flags.writeable
            assert all(other is y for _, other in others)

    def test_those_of_a_subclass_may_be_written_to(self):
        class Scaling(MLPClassifier):
            def fit(self, X, y):
                X -= X.mean(axis=0)
                return super().fit(X, y)

        mine, same = (
            module.GridSearchCV(Scaling(**SETTINGS), {"alpha": [0.1, 1.0]}, cv=3).fit(X.copy(), Y)
            for module in (ours, model_selection)
        )
        assert_same_results(mine.cv_results_, same.cv_results_)

    def test_nothing_is_kept(self):
        kept = []
        fit = MLPClassifier.fit

        def watched(self, x, y):
            kept.append(weakref.ref(x))
            return fit(self, x, y)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MLPClassifier, "fit", watched)
            ours.GridSearchCV(MLPClassifier(**SETTINGS), {"alpha": [0.1, 1.0]}, cv=3, refit=False).fit(X, Y)
        gc.collect()
        assert [reference() for reference in kept] == [None] * 6


class TestMemory:
    def test_as_long_as_somebody_uses_it(self, monkeypatch):
        monkeypatch.setattr(memory, "MOST_KEPT_BYTES", 100)
        kept, made = memory.Memory(), []

        def get(n, what="it"):
            (array, rest), _ = kept.get(what, (X,), lambda: made.append(n) or (np.zeros(n), "rest"))
            assert rest == "rest"
            return array

        small, large = get(10), get(20, "another")
        assert get(10) is small
        assert get(20, "another") is large
        del small, large
        get(10)  # which is kept
        get(20, "another")  # which is too large
        get(5, "third")  # which takes the place of the first
        get(10)
        assert made == [10, 20, 20, 5, 10]

    def test_sources_are_told_apart(self):
        kept, others = memory.Memory(), [np.zeros(3), np.zeros(3)]
        results = [kept.get("it", (x,), lambda x=x: (x.copy(),))[0][0] for x in [*others, *others]]
        assert results[0] is results[2] is not results[1] is results[3]

    def test_what_cannot_be_watched(self):
        kept = memory.Memory()
        assert [kept.get("it", (X,), lambda: ([1],)) for _ in range(2)] == [(([1],), False)] * 2

    @pytest.mark.parametrize(("array", "size"), [(csr_matrix(np.eye(30)), 480), (np.eye(30), 7200), ([1], 1 << 29)])
    def test_sizes(self, array, size):
        assert memory._size(array) == pytest.approx(size, rel=0.5)


class TestCertainty:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 1.0),
            (1, True),
            (0.0, -0.0),
            ([1], (1,)),
            ({"a": 1}, {"a": 2}),
            (np.zeros(2), np.zeros(2, "float32")),
            (slice(1, 2), slice(1, 3)),
            (np.log, np.exp),
            ("a", b"a"),
        ],
    )
    def test_values_that_differ(self, one, other):
        assert frozen(one) == frozen(one)
        assert frozen(one) != frozen(other)
        assert hash(frozen(one)) == hash(frozen(one))

    @pytest.mark.parametrize(
        "value", [np.nan, {"a": [np.arange(3), None]}, feature_selection.f_classif, np.float64, ...]
    )
    def test_values_that_do_not(self, value):
        assert frozen(value) == frozen(value)

    @pytest.mark.parametrize(
        "value",
        [{1}, lambda x: x, np.array([None]), object(), np.zeros(1 << 18), MLPClassifier(), np.random.RandomState()],
    )
    def test_values_that_are_not_known(self, value):
        with pytest.raises(Uncertain):
            frozen(value)

    def test_transformers(self):
        scaler = preprocessing.StandardScaler
        assert recipe(scaler()) == recipe(scaler()) != recipe(scaler(with_std=False))
        assert recipe(scaler()) != recipe(scaler().set_output(transform="default"))
        assert recipe(impute.SimpleImputer()) == recipe(impute.SimpleImputer())
        for uncertain in (decomposition.FastICA(random_state=0), decomposition.PCA(), MLPClassifier(), None):
            with pytest.raises(Uncertain):
                recipe(uncertain)

    def test_which_leave_their_samples_alone(self):
        mlp = MLPClassifier()
        assert leaves_samples_alone(mlp)
        assert leaves_samples_alone(make_pipeline(preprocessing.StandardScaler(), mlp))
        assert not leaves_samples_alone(make_pipeline(decomposition.FastICA(), mlp))
        assert not leaves_samples_alone(make_pipeline(mlp, preprocessing.StandardScaler()))
        assert not leaves_samples_alone(preprocessing.StandardScaler())
