"""What is refused: parameters one by one and together, data, and a scikit-learn that does not do."""

import importlib
import sys
import types
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from fastnn import EarlyStopping, ModelCheckpoint, ReduceOnPlateau
from fastnn.sklearn import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (5, 4), "max_iter": 2, "random_state": 0}


@pytest.fixture
def not_imported(monkeypatch):
    for name in [name for name in sys.modules if name.partition("fastnn.sklearn")[1]]:
        monkeypatch.delitem(sys.modules, name)
    return monkeypatch


class TestImport:
    def test_without_scikit_learn(self, not_imported):
        not_imported.setitem(sys.modules, "sklearn", None)
        with pytest.raises(ImportError, match=r"needs scikit-learn 1\.6 or later: pip install 'fastnn\[sklearn\]'"):
            importlib.import_module("fastnn.sklearn")

    @pytest.mark.parametrize("version", ["0.24.2", "1.5.2"])
    def test_with_one_that_is_too_old(self, not_imported, version):
        old = types.ModuleType("sklearn")
        old.__version__ = version
        not_imported.setitem(sys.modules, "sklearn", old)
        with pytest.raises(ImportError, match=rf"1\.6 or later, but {version} is installed: pip install -U 'fastnn\["):
            importlib.import_module("fastnn.sklearn")


class TestOneParameter:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("activation", "swish"),
            ("activation", 3),
            ("class_weight", "even"),
            ("label_smoothing", 1.0),
            ("label_smoothing", -0.1),
            ("stratify", "yes"),
            ("dropout", 1.0),
            ("dropout", "half"),
            ("dtype", "float16"),
            ("dtype", np.int64),
            ("callbacks", print),
            ("n_threads", 0),
            ("n_threads", 1025),
        ],
    )
    def test_out_of_its_range(self, name, value):
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPClassifier must be"):
            MLPClassifier(**{name: value}).fit(X, Y)

    @pytest.mark.parametrize("name", ["class_weight", "label_smoothing", "stratify"])
    def test_that_only_a_classifier_has(self, name):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            MLPRegressor(**{name: None})

    def test_that_nobody_has(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
            MLPClassifier(epochs=3)

    def test_of_scikit_learn_itself(self):
        with pytest.raises(InvalidParameterError, match="The 'alpha' parameter of MLPRegressor must be a float"):
            MLPRegressor(alpha=-1.0).fit(X, Y)


class TestTogether:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"activation": ["relu"]}, "activation has 1 names, but there are 2 hidden layers: give one name for each"),
            ({"activation": ["relu", "swish"]}, "activation holds 'swish', expected names out of 'identity', "),
            ({"dropout": [0.1, 0.2, 0.3]}, "dropout has 3 rates, but there are 2 hidden layers: give one rate for"),
            ({"dropout": [0.1, 1.0]}, "dropout holds 1.0, expected rates with 0 <= rate < 1"),
            ({"dropout": [0.1, "a"]}, "dropout holds 'a', expected rates with 0 <= rate < 1"),
            (
                {"solver": "lbfgs", "dropout": 0.5},
                "solver 'lbfgs' has no epochs, so dropout does not apply: use solver",
            ),
            ({"solver": "lbfgs", "callbacks": [print]}, "solver 'lbfgs' has no epochs, so callbacks does not apply"),
            ({"class_weight": [{0: 1.0}]}, "class_weight is a list, which is for several labels a sample: pass a dict"),
            ({"class_weight": {0: 2.0, 7: 1.0}}, "are not in class_weight"),
        ],
    )
    def test_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**SMALL | settings).fit(X, Y)

    def test_a_callback_that_cannot_be_called(self):
        message = r"callbacks holds 'stop', expected functions callback\(estimator, epoch, values\)"
        with pytest.raises(TypeError, match=message):
            MLPRegressor(**SMALL, callbacks=["stop"]).fit(X, Y)

    def test_lbfgs_has_no_use_for_validation_data(self):
        with pytest.raises(
            ValueError, match="no epochs, so validation_data does not apply: use solver 'adam' or 'sgd'"
        ):
            MLPClassifier(**SMALL, solver="lbfgs").fit(X, Y, validation_data=(X, Y))

    def test_balanced_classes_in_parts(self):
        with pytest.raises(
            ValueError, match=r"class_weight 'balanced' is unknown to partial_fit.*compute_class_weight"
        ):
            MLPClassifier(**SMALL, class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])

    def test_early_stopping_in_parts(self):
        with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
            MLPClassifier(**SMALL, early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])

    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_a_refusal_changes_nothing(self):
        model = MLPClassifier(**SMALL).fit(X, Y)
        before, expected = dict(vars(model)), model.predict_proba(X)
        model.dropout = [0.5]
        with pytest.raises(ValueError, match="dropout has 1 rates"):
            model.fit(X, Y)
        assert vars(model) == before | {"dropout": [0.5]}
        np.testing.assert_array_equal(model.predict_proba(X), expected)


class TestData:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ((X[:, :3], Y), "validation_data: X has 3 features, but MLPClassifier is expecting 4 features"),
            ((X, Y[:-1]), "validation_data: Found input variables with inconsistent numbers of samples"),
            ((X * np.nan, Y), "validation_data: Input X contains NaN"),
            ((X, Y + 1), "validation_data: y holds label 3, but training has the classes"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_validation_data_that_does_not_fit(self, data, message):
        model = MLPClassifier(**SMALL).fit(X, Y)
        before, expected = set(vars(model)), model.predict_proba(X)
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, validation_data=data)
        assert set(vars(model)) == before
        np.testing.assert_array_equal(model.predict_proba(X), expected)

    def test_validation_data_with_other_outputs(self):
        with pytest.raises(ValueError, match="validation_data: y has 3 outputs, but 2 are trained"):
            MLPRegressor(**SMALL).fit(X, X[:, :2], validation_data=(X, X[:, :3]))

    def test_validation_data_with_several_labels(self):
        several = make_multilabel_classification(len(X), n_classes=3, random_state=0)[1]
        with pytest.raises(ValueError, match="validation_data: The object was not fitted with multilabel input"):
            MLPClassifier(**SMALL).fit(X, Y, validation_data=(X, several))

    @pytest.mark.parametrize("data", [X, (X,), "Xy"])
    def test_validation_data_that_is_no_pair(self, data):
        got = "a tuple of 1" if isinstance(data, tuple) else type(data).__name__
        with pytest.raises(TypeError, match=rf"validation_data is {got}, expected a pair \(X, y\)"):
            MLPClassifier(**SMALL).fit(X, Y, validation_data=data)

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_weights_that_sum_to_zero(self, solver):
        model = MLPClassifier(**SMALL, solver=solver, class_weight={0: 0.0, 1: 0.0, 2: 0.0})
        with pytest.raises(ZeroDivisionError, match="Weights sum to zero, can't be normalized"):
            model.fit(X, Y)

    def test_values_beyond_the_dtype(self):
        with pytest.raises(ValueError, match=r"Input X contains infinity or a value too large for dtype\('float32'\)"):
            MLPRegressor(**SMALL, dtype="float32").fit(X * 1e39, Y)

    @pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_new_samples(self, estimator):
        model = estimator(**SMALL)
        with pytest.raises(NotFittedError):
            model.predict(X)
        model.fit(X, Y)
        large = X > 7
        for wrong, message in [
            (X[:, :3], "X has 3 features, but MLP.* is expecting 4 features as input"),
            (X[0], "Expected 2D array, got 1D array instead"),
            (X[:0], r"Found array with 0 sample\(s\)"),
            (np.where(large, np.nan, X), "Input X contains NaN"),
            (np.where(large, -np.inf, X), "Input X contains infinity"),
            (X.astype(str).astype(object) + "a", "could not convert string to float"),
        ]:
            with pytest.raises(ValueError, match=message):
                model.predict(wrong)

    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_weights_that_do_not_fit_each_other(self):
        model = MLPClassifier(**SMALL).fit(X, Y)
        model.coefs_[1] = model.coefs_[1][:1]
        message = r"coefs_ have shapes \[\(4, 5\), \(1, 4\), \(4, 3\)\], but the columns of one must be the rows of the"
        with pytest.raises(ValueError, match=message):
            model.predict(X)

    def test_training_that_leaves_the_finite_numbers(self):
        model = MLPRegressor(
            hidden_layer_sizes=(5,), solver="sgd", learning_rate_init=1e30, max_iter=20, random_state=0
        )
        with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"), pytest.warns():
            model.fit(X, X * 1e10)
        assert np.isnan(model.loss_curve_[-1])


class TestPicture:
    @pytest.mark.filterwarnings("ignore:lbfgs failed to converge", "ignore:.*iprint:DeprecationWarning")
    def test_lbfgs_has_no_curve(self):
        with pytest.raises(ValueError, match="solver 'lbfgs' keeps no loss curve: fit with solver 'adam' or 'sgd'"):
            MLPRegressor(**SMALL, solver="lbfgs").fit(X, Y).plot_loss_curve()

    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"plot_loss_curve needs matplotlib: pip install 'fastnn\[plots\]'"):
            MLPClassifier(**SMALL).fit(X, Y).plot_loss_curve()

    def test_before_fit(self):
        with pytest.raises(NotFittedError):
            MLPClassifier().plot_loss_curve()


class TestWhatScikitLearnRefusesToo:
    def test_targets_that_are_no_numbers(self):
        words = np.array(["1.5"] * len(X))
        with pytest.raises(TypeError, match=r"^y holds <U3, expected numbers: use y\.astype\(float\)"):
            MLPRegressor(**SMALL).fit(X, words)
        with pytest.raises(TypeError, match=r"^y of validation_data holds <U3"):
            MLPRegressor(**SMALL).fit(X, Y, validation_data=(X, words))
        with pytest.raises(TypeError):
            neural_network.MLPRegressor(**SMALL).fit(X, words)

    @pytest.mark.parametrize(("sizes", "error"), [((5, 4, 3), AttributeError), ((5,), IndexError)])
    @pytest.mark.parametrize("base", [MLPClassifier, neural_network.MLPClassifier])
    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_going_on_with_other_layers(self, base, sizes, error):
        model = base(**SMALL, warm_start=True).fit(X, Y)
        message = f"asks for {len(sizes)} hidden layers, but training goes on with 2" if base is MLPClassifier else None
        with pytest.raises(error, match=message):
            model.set_params(hidden_layer_sizes=sizes).fit(X, Y)
        with pytest.raises(error, match=message):
            model.partial_fit(X, Y)


class TestNumbersBeyondTheDtype:
    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_in_float32(self):
        model = MLPClassifier(**SMALL, dtype="float32").fit(X, Y)
        for method in (model.predict, model.predict_proba, lambda x: model.fit(x, Y)):
            with pytest.raises(ValueError, match="X contains infinity or a value too large"):
                method(X * 1e40)


class TestClassWeights:
    @pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "a", None])
    def test_that_are_no_weights(self, weight):
        with pytest.raises(ValueError, match=rf"class_weight\[0\] is {weight!r}, expected a finite number >= 0"):
            MLPClassifier(**SMALL, class_weight={0: weight}).fit(X, Y)

    def test_of_several_labels(self):
        x, y = make_multilabel_classification(50, n_classes=2, random_state=0)
        with pytest.raises(ValueError, match=r"class_weight\[1\] is -2, expected a finite number >= 0"):
            MLPClassifier(**SMALL, class_weight=[{0: 1}, {1: -2}]).fit(x, y)


@pytest.mark.parametrize(
    ("callback", "fix"),
    [
        (EarlyStopping(), "early_stopping=True"),
        (ReduceOnPlateau(), "learning_rate='adaptive'"),
        (ModelCheckpoint("best.npz"), "a function that pickles"),
    ],
)
def test_the_callback_of_the_other_api(callback, fix):
    with pytest.raises(TypeError, match=rf"callbacks holds {type(callback).__name__}\(.*: use {fix}"):
        MLPClassifier(**SMALL, callbacks=[callback]).fit(X, Y)


def test_a_dropout_that_is_an_array_without_axes():
    with pytest.raises(ValueError, match="dropout has 1 rates, but there are 2 hidden layers"):
        MLPClassifier(**SMALL, dropout=np.array(0.2)).fit(X, Y)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 500}], ids=["of the iterations", "of the batch size"])
def test_warnings_come_from_scikit_learns_module(settings):
    """The filter of its own gallery, by module, silences them here too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="sklearn")
        MLPClassifier(**SMALL, **settings).fit(X, Y)


@pytest.mark.parametrize("name", ["_backprop", "_compute_loss_grad", "_forward_pass", "_forward_pass_fast"])
def test_a_subclass_with_passes_of_its_own(name):
    with pytest.raises(TypeError, match=f"^Mine overrides {name}, which compiled kernels replace: extend scikit-learn"):
        type("Mine", (MLPClassifier,), {name: lambda self: None})
