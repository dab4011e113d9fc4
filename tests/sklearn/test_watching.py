"""What watches training: callbacks, validation data, a limit on threads, the bar and the picture of the losses."""

import io
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csc_matrix, csr_matrix
from scipy.special import xlogy
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error
from sklearn.preprocessing import scale

import fastnn as fnn
from fastnn.sklearn import MLPClassifier, MLPRegressor
from tests.sklearn.pairs import RELEASE

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

X, Y = scale(load_iris().data), load_iris().target
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 4, "random_state": 0}


class TestCallbacks:
    def test_every_epoch(self):
        seen = []
        model = MLPClassifier(**SMALL, callbacks=[lambda *args: seen.append(args)]).fit(X, Y)
        assert [(estimator, epoch) for estimator, epoch, _ in seen] == [(model, i) for i in (1, 2, 3, 4)]
        assert [values for *_, values in seen] == [{"loss": loss} for loss in model.loss_curve_]

    def test_what_is_known(self):
        seen = []
        model = MLPClassifier(**SMALL, early_stopping=True, callbacks=[lambda *args: seen.append(args[2])])
        model.fit(X, Y, validation_data=(X[::2], Y[::2]))
        curves = (model.loss_curve_, model.validation_loss_curve_, model.validation_scores_)
        names = ("loss", "validation_loss", "validation_score")
        assert seen == [dict(zip(names, values, strict=True)) for values in zip(*curves, strict=True)]

    @pytest.mark.filterwarnings("error")
    def test_true_stops(self):
        first, second = [], []
        callbacks = (lambda e, epoch, v: first.append(epoch) or epoch == 3, lambda e, epoch, v: second.append(epoch))
        model = MLPClassifier(**SMALL | {"max_iter": 50}, callbacks=callbacks).fit(X, Y)
        assert first == second == [1, 2, 3]
        assert model.n_iter_ == len(model.loss_curve_) == 3

    def test_true_of_numpy_stops(self):
        assert MLPClassifier(**SMALL, callbacks=[lambda m, *_: m.loss_ < np.inf]).fit(X, Y).n_iter_ == 1

    def test_what_is_not_true_does_not(self):
        assert MLPClassifier(**SMALL, callbacks=[lambda *args: "go on"]).fit(X, Y).n_iter_ == 4

    def test_training_is_the_same(self):
        plain, watched = (MLPClassifier(**SMALL, callbacks=c).fit(X, Y) for c in (None, [lambda *args: None]))
        np.testing.assert_array_equal(plain.coefs_[0], watched.coefs_[0])

    def test_a_checkpoint_of_every_epoch(self):
        kept = []

        def keep(estimator, epoch, values):
            kept.append(pickle.dumps(estimator.set_params(callbacks=None)))
            estimator.callbacks = callbacks

        callbacks = [keep]
        MLPClassifier(**SMALL, callbacks=callbacks).fit(X, Y, validation_data=(X, Y))
        for epoch, saved in enumerate(kept, 1):
            expected = MLPClassifier(**SMALL | {"max_iter": epoch}).fit(X, Y)
            np.testing.assert_array_equal(pickle.loads(saved).predict_proba(X), expected.predict_proba(X))


class TestThreads:
    @pytest.fixture(autouse=True)
    def three(self):
        before = fnn.get_num_threads()
        fnn.set_num_threads(3)
        yield
        fnn.set_num_threads(before)

    @pytest.mark.parametrize(("n_threads", "expected"), [(1, 1), (2, 2), (100, 3), (None, 3)])
    def test_a_limit_while_it_trains(self, n_threads, expected):
        seen = []
        callbacks = [lambda *args: seen.append(fnn.get_num_threads())]
        MLPClassifier(**SMALL, n_threads=n_threads, callbacks=callbacks).fit(X, Y)
        assert seen == [expected] * 4
        assert fnn.get_num_threads() == 3

    def test_and_after_an_error(self):
        def fail(*args):
            raise RuntimeError("from a callback")

        with pytest.raises(RuntimeError, match="from a callback"):
            MLPClassifier(**SMALL, n_threads=1, callbacks=[fail]).fit(X, Y)
        assert fnn.get_num_threads() == 3

    def test_the_limit_is_that_of_the_calling_thread(self):
        seen = []
        with ThreadPoolExecutor(1) as other:
            callbacks = [lambda *args: seen.append(other.submit(fnn.get_num_threads).result())]
            MLPClassifier(**SMALL, n_threads=1, callbacks=callbacks).fit(X, Y)
        assert seen == [3] * 4


class TestValidationData:
    @pytest.mark.parametrize("classes", [2, 3])
    def test_log_loss(self, classes):
        y = np.minimum(Y, classes - 1)
        model = MLPClassifier(**SMALL | {"max_iter": 1, "warm_start": True}, alpha=10.0)
        for _ in range(3):
            model.fit(X[::2], y[::2], validation_data=(X[1::2], y[1::2]))
            expected = log_loss(y[1::2], model.predict_proba(X[1::2]))
            assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)
        assert len(model.validation_loss_curve_) == 3

    def test_several_labels(self):
        X_, several = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
        model = MLPClassifier(**SMALL).fit(X_[:40], several[:40], validation_data=(X_[40:], several[40:]))
        p, y = model.predict_proba(X_[40:]), several[40:]
        by_hand = -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum(axis=1).mean()
        assert model.validation_loss_curve_[-1] == pytest.approx(by_hand, rel=1e-12)

    @pytest.mark.parametrize("outputs", [1, 2])
    def test_half_the_squared_error(self, outputs):
        y = X[:, 0] if outputs == 1 else X[:, :2]
        model = MLPRegressor(**SMALL, dropout=0.5).fit(X[::2], y[::2], validation_data=(X[1::2], y[1::2]))
        expected = mean_squared_error(y[1::2], model.predict(X[1::2])) / 2
        assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no Poisson loss")
    def test_half_the_poisson_deviance(self):
        model = MLPRegressor(**SMALL, loss="poisson").fit(X[::2], Y[::2], validation_data=(X[1::2], Y[1::2]))
        expected = mean_poisson_deviance(Y[1::2], model.predict(X[1::2])) / 2
        assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)

    def test_training_is_the_same(self):
        plain = MLPClassifier(**SMALL).fit(X, Y)
        assert not hasattr(plain, "validation_loss_curve_")
        watched = MLPClassifier(**SMALL).fit(X, Y, validation_data=(X, Y))
        np.testing.assert_array_equal(plain.coefs_[0], watched.coefs_[0])
        assert set(vars(watched)) - set(vars(plain)) == {"validation_loss_curve_"}
        assert not hasattr(watched.fit(X, Y), "validation_loss_curve_")

    def test_it_decides_early_stopping(self):
        y, settings = np.array(["b", "c", "a"])[Y], {**SMALL, "max_iter": 100, "learning_rate_init": 0.05}
        model = MLPClassifier(**settings, early_stopping=True, n_iter_no_change=3, tol=0.01)
        model.fit(X[::2], y[::2], validation_data=(X[1::2], y[1::2]))
        assert model.n_iter_ < 100
        assert model.t_ == model.n_iter_ * len(X[::2])
        assert model.best_validation_score_ == max(model.validation_scores_) == model.score(X[1::2], y[1::2])

    def test_epochs_without_it_are_gaps_in_the_curve(self):
        model = MLPClassifier(**SMALL, warm_start=True).fit(X, Y)
        model.fit(X, Y, validation_data=(X, Y)).fit(X, Y)
        model.fit(X, Y, validation_data=(X, Y))
        np.testing.assert_array_equal(np.isfinite(model.validation_loss_curve_), [i // 4 % 2 == 1 for i in range(16)])
        assert len(model.loss_curve_) == 16

    def test_of_a_regressor(self):
        X_, y = load_diabetes(return_X_y=True)
        model = MLPRegressor(**SMALL | {"max_iter": 30}, early_stopping=True, learning_rate_init=0.01)
        model.fit(X_[:300], y[:300], validation_data=(X_[300:], y[300:]))
        assert model.best_validation_score_ == pytest.approx(model.score(X_[300:], y[300:]), rel=1e-12)

    def test_sparse(self):
        dense = MLPClassifier(**SMALL).fit(X, Y, validation_data=(X, Y))
        model = MLPClassifier(**SMALL).fit(csr_matrix(X), Y, validation_data=(csc_matrix(X), Y))
        np.testing.assert_allclose(model.validation_loss_curve_, dense.validation_loss_curve_, rtol=1e-12)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgress:
    def fit_on_a_terminal(self, **settings):
        with redirect_stderr(Terminal()) as terminal:
            model = MLPClassifier(**SMALL, **settings).fit(X, Y)
        return model, terminal.getvalue()

    def test_a_bar_under_the_lines(self, capsys):
        pytest.importorskip("tqdm")
        model, shown = self.fit_on_a_terminal(verbose=True)
        lines = [f"Iteration {i}, loss = {loss:.8f}" for i, loss in enumerate(model.loss_curve_, 1)]
        assert capsys.readouterr().out.splitlines() == lines
        assert "0/4" in shown
        assert "epoch" in shown

    def test_it_is_gone_when_a_line_is_printed(self):
        pytest.importorskip("tqdm")
        with redirect_stderr(Terminal()) as terminal, redirect_stdout(terminal):
            MLPClassifier(**SMALL, verbose=True).fit(X, Y)
        lines = [line for line in terminal.getvalue().splitlines() if "Iteration" in line]
        assert "0/4" in terminal.getvalue()
        assert len(lines) == 4
        assert all(line.startswith("Iteration") for line in lines)
        assert terminal.getvalue().rpartition("\r")[2].strip() == ""

    @pytest.mark.parametrize("settings", [{"verbose": False}, {}])
    def test_only_when_asked(self, settings):
        assert self.fit_on_a_terminal(**settings)[1] == ""

    def test_not_for_a_single_epoch(self, capsys):
        with redirect_stderr(Terminal()) as terminal:
            MLPClassifier(**SMALL, verbose=True).partial_fit(X, Y, classes=[0, 1, 2])
        assert terminal.getvalue() == ""
        assert capsys.readouterr().out.startswith("Iteration 1, loss = ")

    def test_only_on_a_terminal(self, capsys):
        MLPClassifier(**SMALL, verbose=True).fit(X, Y)
        assert capsys.readouterr().err == ""

    def test_only_with_tqdm(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        assert self.fit_on_a_terminal(verbose=True)[1] == ""
        assert capsys.readouterr().out.count("Iteration") == 4


class TestPicture:
    @pytest.fixture(autouse=True)
    def pyplot(self):
        pytest.importorskip("matplotlib").use("Agg")
        from matplotlib import pyplot

        yield pyplot
        pyplot.close("all")

    def test_the_loss(self):
        model = MLPClassifier(**SMALL).fit(X, Y)
        (line,) = model.plot_loss_curve().get_lines()
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[1, 2, 3, 4], model.loss_curve_]))

    def test_both_losses_where_one_wants_them(self, pyplot):
        model = MLPRegressor(**SMALL).fit(X, Y, validation_data=(X, Y))
        _, mine = pyplot.subplots()
        ax = model.plot_loss_curve(ax=mine)
        assert ax is mine
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training, with penalty", "validation"]
        for line, curve in zip(ax.get_lines(), (model.loss_curve_, model.validation_loss_curve_), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve)
