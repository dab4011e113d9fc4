"""Whatever scikit-learn takes as X, y and weights: sparse, narrow, strange in memory, of any labels."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from sklearn import datasets

from tests.sklearn.pairs import (
    ACTIVATIONS,
    CLASSIFIER,
    REGRESSOR,
    RELEASE,
    assert_same_answers,
    data,
    every_estimator,
    multilabel,
    outcome,
    pair,
    same,
    same_fit,
)

DATA = {CLASSIFIER: "wine", REGRESSOR: "linnerud"}
SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05, "max_iter": 5},
    "adam": {"solver": "adam", "max_iter": 5},
    "lbfgs": {"solver": "lbfgs", "max_iter": 5},
}
RTOL = {"sgd": 1e-9, "adam": 1e-9, "lbfgs": 1e-6}

every_solver = pytest.mark.parametrize("solver", SOLVERS)
since_1_7 = pytest.mark.skipif(RELEASE < (1, 7), reason="new in scikit-learn 1.7")


class TestSampleWeight:
    @since_1_7
    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("batch_size", ["auto", 7])
    @every_solver
    @every_estimator
    def test_of_fit(self, name, solver, batch_size, early_stopping, rng):
        X, y = data(DATA[name])
        weights = rng.integers(1, 4, len(X)) * rng.uniform(0.1, 5)
        both = pair(name, batch_size=batch_size, early_stopping=early_stopping, **SOLVERS[solver])
        same_fit(both, X, y, RTOL[solver], sample_weight=weights)

    @since_1_7
    @pytest.mark.parametrize("weights", [np.zeros(178), np.arange(178) % 2, np.arange(178) < 100, 2, [1.5] * 178])
    def test_of_any_kind(self, weights):
        both, (X, y) = pair(CLASSIFIER, max_iter=3), data("wine")
        same(both, lambda estimator: estimator.fit(X, y, sample_weight=weights))

    @since_1_7
    def test_a_batch_of_no_weight_is_refused(self):
        both, (X, y) = pair(CLASSIFIER, max_iter=3, batch_size=10, shuffle=False), data("wine")
        result = same(both, lambda estimator: estimator.fit(X, y, sample_weight=np.arange(178) // 10 > 0))
        assert result.error == (ZeroDivisionError, "Weights sum to zero, can't be normalized")

    @since_1_7
    @every_estimator
    def test_of_partial_fit(self, name, rng):
        both, (X, y) = pair(name), data(DATA[name])
        classes = {"classes": np.unique(y)} if name == CLASSIFIER else {}
        for _ in range(3):
            weights = rng.uniform(0.1, 2, len(X))
            same(both, lambda e, weights=weights: e.partial_fit(X, y, sample_weight=weights, **classes))

    @since_1_7
    def test_of_several_labels(self, rng):
        X, y = multilabel()
        same_fit(pair(CLASSIFIER, max_iter=5), X, y, sample_weight=rng.uniform(0, 2, len(X)))

    def test_where_scikit_learn_knows_none(self):
        result = same(pair(CLASSIFIER, max_iter=2), lambda e: e.fit(*data("iris"), sample_weight=np.ones(149)))
        assert result.error


class TestPoisson:
    @since_1_7
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @every_solver
    def test_of_counts(self, solver, activation, weighted, rng):
        X, _ = data("diabetes")
        y = rng.poisson(np.exp(X[:, 0])).astype(float)
        arguments = {"sample_weight": rng.uniform(0.5, 2, len(X))} if weighted else {}
        both = pair(REGRESSOR, loss="poisson", activation=activation, **SOLVERS[solver])
        same_fit(both, X, y, RTOL[solver], **arguments)
        assert (both.ours.predict(X) > 0).all()

    @since_1_7
    def test_of_several_outputs(self, rng):
        X, _ = data("linnerud")
        both = pair(REGRESSOR, loss="poisson", max_iter=20, early_stopping=True, validation_fraction=0.3)
        same_fit(both, X, rng.poisson(2.0, (len(X), 3)).astype(float))


class TestTargets:
    @every_solver
    def test_several_labels(self, solver):
        same_fit(pair(CLASSIFIER, **SOLVERS[solver]), *multilabel(), RTOL[solver])

    def test_several_labels_as_a_sparse_matrix(self):
        X, y = multilabel()
        both = pair(CLASSIFIER, max_iter=3)
        same(both, lambda estimator: estimator.fit(X, scipy.sparse.csr_array(y)))

    def test_one_label_of_several(self):
        X, y = multilabel()
        same_fit(pair(CLASSIFIER, max_iter=3), X, y[:, :2])

    @every_solver
    def test_several_outputs(self, solver):
        X, y = data("diabetes")
        Y = np.column_stack([y, X[:, 0], 100 * X[:, 1]])
        same_fit(pair(REGRESSOR, **SOLVERS[solver]), X, Y, RTOL[solver])

    @pytest.mark.parametrize(
        "labels",
        [
            np.array(["red", "green", "blue"]),
            np.array(["no", "yes", "yes"]),
            np.array(["b", "a", "c"], dtype=object),
            np.array([10, -3, 7], dtype=np.int8),
            np.array([2.0, 1.0, 5.0]),
            np.array([True, False, True]),
            np.array([4, 4, 4]),
        ],
        ids=lambda labels: f"{labels.dtype}-{len(set(labels))}",
    )
    def test_labels_of_any_kind(self, labels):
        X, y = data("iris")
        both = pair(CLASSIFIER, max_iter=4)
        same_fit(both, X, labels[y])
        assert set(both.ours.predict(X)) <= set(labels)

    @every_estimator
    def test_a_column(self, name):
        X, y = data("diabetes")
        y = (y > 0)[:, None] if name == CLASSIFIER else y[:, None]
        result = same_fit(pair(name, max_iter=3), X, y)
        assert "A column-vector y was passed" in result.warned[0][1]

    def test_integers_and_lists(self):
        X, _ = data("linnerud")
        same_fit(pair(REGRESSOR, max_iter=3), X, np.arange(len(X)))
        same_fit(pair(REGRESSOR, max_iter=3), X.tolist(), list(range(len(X))))


class TestSparse:
    @pytest.mark.parametrize("index", [np.int32, np.int64])
    @pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "csr_array", "csc_array", "coo_matrix"])
    @every_solver
    def test_of_classes(self, solver, kind, index, rng):
        X, y = thinned("wine", rng)
        sparse = getattr(scipy.sparse, kind)(X)
        if hasattr(sparse, "indptr"):
            sparse.indices, sparse.indptr = sparse.indices.astype(index), sparse.indptr.astype(index)
        both = pair(CLASSIFIER, **SOLVERS[solver])
        same_fit(both, sparse, y, RTOL[solver])
        assert_same_answers(both, X, RTOL[solver])

    @pytest.mark.parametrize("settings", [{"shuffle": False}, {"early_stopping": True}, {"batch_size": 17}])
    @every_estimator
    def test_other_settings(self, name, settings, rng):
        X, y = thinned("breast_cancer" if name == CLASSIFIER else "diabetes", rng)
        for kind in (scipy.sparse.csr_array, scipy.sparse.csc_array):
            same_fit(pair(name, max_iter=4, **settings), kind(X), y)

    def test_dense_after_sparse_and_back(self, rng):
        X, y = thinned("iris", rng)
        both = pair(CLASSIFIER)
        for matrix in (scipy.sparse.csr_array(X), X, scipy.sparse.csc_array(X)):
            same(both, lambda e, matrix=matrix: e.partial_fit(matrix, y, classes=np.arange(3)))
            assert_same_answers(both, matrix)

    def test_entries_out_of_order_and_twice(self):
        both, (_, y) = pair(CLASSIFIER, max_iter=3), data("iris")
        rows = np.repeat(np.arange(150), 4)
        columns = np.tile([3, 0, 3, 1], 150)
        values = np.cos(np.arange(600.0))
        matrix = scipy.sparse.csr_matrix((values, columns, np.arange(0, 601, 4)), shape=(150, 4))
        assert not matrix.has_canonical_format
        same_fit(both, matrix, y)
        dense = np.zeros((150, 4))
        np.add.at(dense, (rows, columns), values)
        assert_same_answers(both, dense)

    @pytest.mark.parametrize("settings", [{"early_stopping": True}, {"solver": "lbfgs"}], ids=["adam", "lbfgs"])
    @pytest.mark.parametrize("kind", ["csr", "csc"])
    @every_estimator
    def test_it_is_never_dense_as_a_whole(self, name, kind, settings):
        X = scipy.sparse.random(5000, 1000, 1e-3, kind, random_state=0)
        first, model = (pair(name, hidden_layer_sizes=(4,), max_iter=1, **settings).ours for _ in range(2))
        outcome(lambda: first.fit(X[:1000], np.arange(1000) % 2))  # compiles, or loads, what would count as well
        first.predict(X[:1000])
        tracemalloc.start()
        try:
            outcome(lambda: model.fit(X, np.arange(5000) % 2))
            model.predict(X)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < X.shape[0] * X.shape[1] * 8 / 3  # a block of rows may be


def thinned(name, rng):
    """The data with seven entries in ten set to zero."""
    X, y = data(name)
    return np.where(rng.random(X.shape) < 0.3, X, 0), y


class TestArrays:
    @every_solver
    @every_estimator
    def test_float32(self, name, solver):
        X, y = data(DATA[name])
        y = y if name == CLASSIFIER else y.astype(np.float32)
        both = pair(name, **SOLVERS[solver])
        same_fit(both, X.astype(np.float32), y, rtol=1e-3 if solver == "lbfgs" else 1e-4)
        # SciPy's L-BFGS leaves float64 behind.
        assert both.ours.coefs_[0].dtype == (np.float64 if solver == "lbfgs" else np.float32)

    @pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8, bool, object])
    def test_dtypes(self, dtype):
        X, y = datasets.load_digits(return_X_y=True)
        same_fit(pair(CLASSIFIER, max_iter=2), X[:300].astype(dtype), y[:300])

    @pytest.mark.parametrize("change", [np.asfortranarray, lambda X: X.repeat(2, axis=1)[:, ::2], lambda X: X[::-1]])
    @every_estimator
    def test_layouts(self, name, change):
        X, y = data(DATA[name])
        same_fit(pair(name, max_iter=3), change(X), y)
        same_fit(pair(name, max_iter=3, shuffle=False), change(X), y)

    @pytest.mark.parametrize("rows", [1, 2, 10_000])
    @every_estimator
    def test_prediction_of_any_number_of_rows(self, name, rows, rng):
        both, (X, y) = pair(name, max_iter=2), data(DATA[name])
        same_fit(both, X, y)
        X = rng.normal(size=(rows, X.shape[1]))
        assert_same_answers(both, X)
        assert_same_answers(both, np.asfortranarray(X))
        assert_same_answers(both, X.astype(np.float32), rtol=1e-5)
        assert_same_answers(both, X.tolist())

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_few_samples(self, rows):
        both = pair(REGRESSOR, max_iter=3)
        same_fit(both, np.arange(2.0 * rows).reshape(rows, 2), np.arange(float(rows)))

    @pytest.mark.parametrize("sizes", [5, [5], np.array([4, 3]), (1,), (1, 1, 1), range(3, 5)])
    def test_sizes_of_layers(self, sizes):
        same_fit(pair(CLASSIFIER, hidden_layer_sizes=sizes, max_iter=3), *data("iris"))

    @every_estimator
    def test_scores(self, name, rng):
        both, (X, y) = pair(name, max_iter=5), data(DATA[name])
        same_fit(both, X, y)
        same(both, lambda estimator: estimator.score(X, y))
        weights = rng.uniform(0, 1, len(X))
        same(both, lambda estimator: estimator.score(X, y, sample_weight=weights))

    def test_log_probabilities(self):
        both, (X, y) = pair(CLASSIFIER, max_iter=5), data("iris")
        same_fit(both, X, y)
        same(both, lambda estimator: estimator.predict_log_proba(X))


class TestPandas:
    def test_feature_names(self):
        pandas = pytest.importorskip("pandas")
        X, y = data("wine")
        names = datasets.load_wine().feature_names
        frame, labels = pandas.DataFrame(X, columns=names), pandas.Series(y).map({0: "a", 1: "b", 2: "c"})
        # Before scikit-learn 1.9 early stopping cannot compare str.
        both = pair(CLASSIFIER, max_iter=4, early_stopping=RELEASE >= (1, 9))
        same_fit(both, frame, labels)
        assert list(both.ours.feature_names_in_) == names
        same(both, lambda estimator: estimator.predict(X))
        result = same(both, lambda estimator: estimator.predict(frame[names[::-1]]))
        assert "feature names" in result.error[1].lower()
        same(both, lambda estimator: estimator.partial_fit(frame, labels))

    def test_frames_of_several_dtypes_and_targets(self):
        pandas = pytest.importorskip("pandas")
        X, Y = data("linnerud")
        frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(np.float32), "c": np.arange(len(X))})
        same_fit(pair(REGRESSOR, max_iter=4), frame, pandas.DataFrame(Y))
