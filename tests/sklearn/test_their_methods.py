"""What else people do with scikit-learn's perceptrons beyond its documentation, done with fastnn's.

Methods overridden, labels and optimizers of their own, objects that no constructor made.
"""

import contextlib

import numpy as np
import pytest
import sklearn
from scipy.special import softmax
from sklearn import neural_network as theirs
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.preprocessing import LabelBinarizer

import fastnn.sklearn as ours
from fastnn.sklearn._objective import has_one_label
from tests.sklearn.pairs import (
    CLASSIFIER,
    REGRESSOR,
    RELEASE,
    Pair,
    assert_close,
    assert_same_answers,
    data,
    ends_early,
    every_estimator,
    outcome,
    pair,
    same,
    same_fit,
)
from tests.sklearn.subclasses import SMALL, instances, subclasses

X, Y = data("iris")

# scikit-learn's own code runs into overflows, of which NumPy tells.
pytestmark = ends_early


class TestTargetsAndOptimizers:
    def test_a_share_of_every_class(self):
        shares = softmax(2 * X[:, :3], axis=1)

        def validate(base):
            def method(self, x, y, incremental, reset):
                return base._validate_input(self, x, y, incremental, reset)[0], shares

            return method

        both = instances(subclasses(CLASSIFIER, {"_validate_input": validate}), max_iter=10)
        same_fit(both, X, Y)
        assert both.ours.loss_ > 0.3

    @pytest.mark.parametrize(
        ("rows", "single"),
        [
            ([[1, 0, 0], [0, 0, 1]], True),
            ([[1, 1, 0], [0, 0, 1]], False),
            ([[1, 1, 0], [0, 0, 0]], False),
            ([[0, 0, 0], [0, 0, 1]], False),
            ([[0.5, 0, 0], [0, 0, 1]], False),
            ([[0.5, 0.5, 0], [0, 0, 1]], False),
            ([[-1, 0, 0], [0, 0, 1]], False),
        ],
    )
    def test_what_one_label_is(self, rows, single):
        assert has_one_label(np.array(rows)) == single

    def test_an_optimizer(self):
        class Slower(AdamOptimizer):
            def _get_updates(self, grads):
                return [0.1 * update for update in super()._get_updates(grads)]

        both = pair(REGRESSOR)
        for model in both:
            model.partial_fit(X, Y)
            model._optimizer = Slower(model.coefs_ + model.intercepts_)
        for _ in range(2):
            same(both, lambda model: model.partial_fit(X, Y))
        same_fit(both, X, Y)


class TestOverriddenMethods:
    def hands_over(self, name, **settings):
        """What each of the two hands to an overridden method that judges an epoch."""
        seen = []

        def update(base):
            def method(self, *args):
                seen[-1].append(args)
                base._update_no_improvement_count(self, *args)

            return method

        for model in instances(subclasses(name, {"_update_no_improvement_count": update}), max_iter=3, **settings):
            seen.append([])
            model.fit(X, Y)
        return seen

    @pytest.mark.parametrize("early_stopping", [False, True])
    @every_estimator
    def test_the_judge_gets_what_scikit_learn_hands_over(self, name, early_stopping):
        mine, expected = self.hands_over(name, early_stopping=early_stopping)
        for got, wanted in zip(mine, expected, strict=True):
            assert_close(got, wanted, 0, "arguments")

    def test_a_judge_with_other_weights(self):
        """As those do who keep means of the weights, and have these judged."""

        def update(base):
            def method(self, *args):
                kept = [array.copy() for array in self.coefs_]
                for array in self.coefs_:
                    array *= 0.1
                base._update_no_improvement_count(self, *args)
                for array, before in zip(self.coefs_, kept, strict=True):
                    array[...] = before

            return method

        classes = subclasses(CLASSIFIER, {"_update_no_improvement_count": update})
        both = instances(classes, early_stopping=True, max_iter=8)
        same_fit(both, X, Y)
        held_out = instances(classes, early_stopping=True, max_iter=8).ours.fit(X, Y, validation_data=(X, Y))
        plain = ours.MLPClassifier(**SMALL, early_stopping=True, max_iter=8).fit(X, Y, validation_data=(X, Y))
        assert held_out.validation_loss_curve_ == plain.validation_loss_curve_
        assert held_out.validation_scores_ != plain.validation_scores_

    @every_estimator
    def test_predictions(self, name):
        """Early stopping judges them too."""

        def predict(base):
            def method(self, x, check_input=True):
                return np.sort(base._predict(self, x, check_input))

            return method

        both = instances(subclasses(name, {"_predict": predict}), early_stopping=True, max_iter=6)
        same_fit(both, X, Y)
        plain = getattr(ours, name)(**SMALL, early_stopping=True, max_iter=6).fit(X, Y)
        assert both.ours.validation_scores_ != plain.validation_scores_

    def test_the_loss_of_lbfgs_gets_the_samples(self):
        seen = []

        def loss(base):
            def method(self, packed, x, *rest):
                seen.append(x)
                return base._loss_grad_lbfgs(self, packed, x, *rest)

            return method

        both = instances(subclasses(CLASSIFIER, {"_loss_grad_lbfgs": loss}), solver="lbfgs", max_iter=3)
        same_fit(both, X, Y, rtol=1e-6)
        assert {type(x) for x in seen} == {np.ndarray}

    @pytest.mark.parametrize("name", ["_backprop", "_forward_pass_fast"])
    def test_a_pass_from_a_mixin_is_refused(self, name):
        mixin = type("Mixin", (), {name: lambda self, *args: None})
        with pytest.raises(TypeError, match=f"^Mine overrides {name}, which compiled kernels replace"):
            type("Mine", (mixin, ours.MLPClassifier), {})

    @every_estimator
    def test_the_score_of_any_data(self, name):
        both = pair(name, max_iter=4)
        same_fit(both, X, Y)
        same(both, lambda model: model._score(X, list(Y)))
        same(both, lambda model: model._score(X[:5], Y[:5].astype(float)))


class TestLabels:
    def test_a_binarizer_of_ones_own(self):
        class Names:
            def inverse_transform(self, outputs):
                return np.array(["a", "b", "c"])[outputs.argmax(axis=1)]

        both = pair(CLASSIFIER, max_iter=4)
        same_fit(both, X, Y)
        for model in both:
            model._label_binarizer = Names()
        same(both, lambda model: model.predict(X))
        same(both, lambda model: model.predict(X.tolist()))

    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_binarizer_with_other_marks(self, classes):
        labels = np.minimum(Y, classes - 1)
        both = pair(CLASSIFIER, max_iter=4)
        same_fit(both, X, labels)
        for model in both:
            model._label_binarizer = LabelBinarizer(neg_label=-1).fit(labels)
        same(both, lambda model: model.predict(X))

    @pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b"], ["a"]])
    @pytest.mark.parametrize("classes", [2, 3])
    def test_other_names_for_the_classes(self, classes, names):
        both = pair(CLASSIFIER, max_iter=4)
        same_fit(both, X, np.minimum(Y, classes - 1))
        for model in both:
            model.classes_ = np.array(["d", "e", "f"])
        same(both, lambda model: model.predict(X))
        for model in both:
            model._label_binarizer.classes_ = np.array(names)
        same(both, lambda model: model.predict(X))

    @pytest.mark.parametrize("names", [[0, 1, 2], [2, 0, 1], ["b", "a", "c"]])
    def test_a_series_of_class_weights(self, names):
        pandas = pytest.importorskip("pandas")
        labels, weights = np.sort(names)[Y], pandas.Series([1.0, 5.0, 0.25], index=names)
        mine, expected = (
            ours.MLPClassifier(**SMALL, max_iter=3, class_weight=weight).fit(X, labels)
            for weight in (weights, dict(weights))
        )
        assert_close(mine.coefs_, expected.coefs_, 0, "coefs_")
        plain = ours.MLPClassifier(**SMALL, max_iter=3).fit(X, labels)
        assert not np.array_equal(mine.coefs_[0], plain.coefs_[0])
        assert sklearn.clone(mine).fit(X, labels).loss_ == mine.loss_
        mine.partial_fit(X, labels)

    def test_a_series_that_names_no_class(self):
        pandas = pytest.importorskip("pandas")
        with pytest.raises(ValueError, match="are not in class_weight"):
            ours.MLPClassifier(**SMALL, class_weight=pandas.Series([1.0, 2.0], index=[5, 6])).fit(X, Y)


class TestWithoutTheConstructor:
    @every_estimator
    def test_a_subclass_with_one_of_its_own(self, name):
        parameters = getattr(theirs, name)(**SMALL, max_iter=4).get_params()

        def init(base):
            def method(self, alpha=0.1):
                vars(self).update(parameters, alpha=alpha, loss=base().loss)

            return method

        both = Pair(*(cls() for cls in subclasses(name, {"__init__": init})))
        same_fit(both, X, Y)
        same(both, lambda model: model.partial_fit(X, Y))
        assert repr(both.ours) == repr(both.theirs)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @every_estimator
    def test_an_object_whose_class_is_set(self, name, solver):
        both = Pair(*(getattr(theirs, name)(**SMALL, solver=solver, max_iter=4).fit(X, Y) for _ in range(2)))
        both.ours.__class__ = getattr(ours, name)
        assert_same_answers(both, X)
        assert repr(both.ours) == repr(both.theirs)
        if solver == "adam":
            same(both, lambda model: model.partial_fit(X, Y))
        same_fit(both, X, Y, rtol=1e-6)
        assert both.ours.get_params()["dropout"] == 0.0

    def test_arrays_set_by_hand(self):
        rng = np.random.default_rng(0)
        both = pair(CLASSIFIER)
        coefs, intercepts = [rng.normal(size=(4, 5)), rng.normal(size=(5, 3))], [rng.normal(size=5), rng.normal(size=3)]
        for model in both:
            model.coefs_, model.intercepts_ = [w.copy() for w in coefs], [b.copy() for b in intercepts]
            model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 3, "softmax"
            model._label_binarizer = LabelBinarizer().fit(Y)
        assert_same_answers(both, X)
        result = outcome(lambda: both.ours.predict(X[:, :3]))
        assert result.error == (ValueError, "X has 3 features, but coefs_[0] has 4 rows: they must be equal")


class TestGradients:
    """``_loss_grad_lbfgs`` as scikit-learn's tests, and others, call it."""

    @pytest.mark.parametrize("settings", [{}, {"activation": "tanh"}], ids=["relu", "tanh"])
    def test_of_any_weights(self, settings):
        both = pair(CLASSIFIER, solver="lbfgs", max_iter=2, **settings)
        same_fit(both, X, Y, rtol=1e-6)
        y, results = LabelBinarizer().fit_transform(Y), []
        packed = np.random.default_rng(0).normal(size=sum(a.size for a in both.theirs.coefs_ + both.theirs.intercepts_))
        for model in both:
            room = [X, None, None, None], [None] * 3, [None] * 3, [None] * 3
            results.append(model._loss_grad_lbfgs(packed, X, y, *([None] if RELEASE >= (1, 7) else []), *room))
        assert_close(*results, 1e-12, "loss and gradient")
        assert_same_answers(both, X)

    def test_of_an_activation_that_scikit_learn_lacks(self):
        model = ours.MLPClassifier(**SMALL, solver="lbfgs", activation="leaky_relu", max_iter=2).fit(X, Y)
        with pytest.raises(
            ValueError, match=r"_loss_grad_lbfgs is left to .* code, which has no activation 'leaky_relu'"
        ):
            model._loss_grad_lbfgs(np.zeros(3), X, Y, [], [], [], [])


def test_nothing_is_kept_of_a_fit():
    model = ours.MLPClassifier(**SMALL, early_stopping=True, max_iter=3)
    with contextlib.suppress(RuntimeError):
        model.set_params(callbacks=[lambda *_: (_ for _ in ()).throw(RuntimeError)]).fit(X, Y, validation_data=(X, Y))
    assert not {"_held_out", "_validation", "_validation_data"} & vars(model).keys()
