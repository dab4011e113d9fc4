"""What fastnn.sklearn replaces of scikit-learn's, or does itself in its place, is what it was written against.

A digest stands for the code of a function, without docstring, comments and layout, in one release or several.
"""

import ast
import hashlib
import importlib
import inspect
import sys
import textwrap

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import train_test_split
from sklearn.utils import shuffle

import fastnn.sklearn as ours
from tests.sklearn.pairs import ESTIMATORS

PERCEPTRON = "_multilayer_perceptron"
OPTIMIZERS = "_stochastic_optimizers"
FUNCTIONS = "_base"

# Module, function, the file of fastnn/sklearn/ that replaces it or relies on it, and its digests from 1.6 on.
GUARDED = [
    (PERCEPTRON, "BaseMultilayerPerceptron._fit", "_perceptron", "70b91d6a 4781d096"),
    (PERCEPTRON, "BaseMultilayerPerceptron._initialize", "_perceptron", "99ea0f20 58ee0088"),
    (PERCEPTRON, "BaseMultilayerPerceptron._init_coef", "_perceptron", "d96d5ad9"),
    (PERCEPTRON, "BaseMultilayerPerceptron._fit_stochastic", "_training", "6a385ce7 7e91d0f6"),
    (PERCEPTRON, "BaseMultilayerPerceptron._update_no_improvement_count", "_training", "adfb2529 798dd710"),
    (PERCEPTRON, "BaseMultilayerPerceptron._score_with_function", "_estimators", "c79e2918 1935adf9 048dd8f4"),
    (PERCEPTRON, "BaseMultilayerPerceptron._fit_lbfgs", "_perceptron", "b574d288 d1728b9f"),
    (PERCEPTRON, "BaseMultilayerPerceptron._loss_grad_lbfgs", "_lbfgs", "ab8b6c3f 83c47442"),
    (PERCEPTRON, "BaseMultilayerPerceptron._unpack", "_perceptron", "994845f9"),
    (PERCEPTRON, "BaseMultilayerPerceptron._backprop", "_objective", "d95b5e8d 1d8116aa"),
    (PERCEPTRON, "BaseMultilayerPerceptron._compute_loss_grad", "_objective", "564bf5a4 ecf22ba0"),
    (PERCEPTRON, "BaseMultilayerPerceptron._forward_pass", "_perceptron", "789a6ef3"),
    (PERCEPTRON, "BaseMultilayerPerceptron._forward_pass_fast", "_perceptron", "39e2d962"),
    (PERCEPTRON, "BaseMultilayerPerceptron.fit", "_perceptron", "71046cd8 be6561fb"),
    (PERCEPTRON, "MLPClassifier._validate_input", "_perceptron", "264553e9"),
    (PERCEPTRON, "MLPClassifier.predict", "_estimators", "649f0d5b"),
    (PERCEPTRON, "MLPClassifier._predict", "_estimators", "f50886d0"),
    (PERCEPTRON, "MLPClassifier._score", "_estimators", "1a36664e 439f1744"),
    (PERCEPTRON, "MLPClassifier.partial_fit", "_estimators", "dfafe100 7ae855b3"),
    (PERCEPTRON, "MLPClassifier.predict_proba", "_estimators", "2f35d9b4"),
    (PERCEPTRON, "MLPRegressor._validate_input", "_perceptron", "5fd94bcd"),
    (PERCEPTRON, "MLPRegressor.predict", "_estimators", "649f0d5b"),
    (PERCEPTRON, "MLPRegressor._predict", "_estimators", "fe5fd632"),
    (PERCEPTRON, "MLPRegressor._score", "_estimators", "d1d92d4c a5238388"),
    (PERCEPTRON, "MLPRegressor.partial_fit", "_estimators", "e047b303 de04c5cf"),
    (OPTIMIZERS, "BaseOptimizer.update_params", "_moments", "9a19b256"),
    (OPTIMIZERS, "SGDOptimizer.__init__", "_moments", "f47f24f9"),
    (OPTIMIZERS, "SGDOptimizer.iteration_ends", "_training", "54d20fd9"),
    (OPTIMIZERS, "SGDOptimizer.trigger_stopping", "_training", "79a1e401"),
    (OPTIMIZERS, "SGDOptimizer._get_updates", "_moments", "13c8282a"),
    (OPTIMIZERS, "AdamOptimizer.__init__", "_moments", "d3394d96"),
    (OPTIMIZERS, "AdamOptimizer._get_updates", "_moments", "593d8fb4"),
    (FUNCTIONS, "inplace_softmax", "_network", "14e9a72c"),
    (FUNCTIONS, "inplace_logistic", "_network", "961ec2b0"),
    (FUNCTIONS, "inplace_exp", "_network", "- cd58ccf7"),
    (FUNCTIONS, "inplace_relu_derivative", "_network", "41d53af3"),
    (FUNCTIONS, "squared_loss", "_objective", "54891e58 b483ebf1"),
    (FUNCTIONS, "poisson_loss", "_objective", "- fcaedde0"),
    (FUNCTIONS, "log_loss", "_objective", "5dbc7e4d 236154af"),
    (FUNCTIONS, "binary_log_loss", "_objective", "4813e62d d3ec44a1"),
]


def code(function):
    """The source of a function without what does not run."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    body = tree.body[0].body
    if ast.get_docstring(tree.body[0]) is not None:
        del body[0]
    return ast.unparse(tree)


def digest(function):
    return hashlib.sha256(code(function).encode()).hexdigest()[:8]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its ast writes code with other parentheses")
@pytest.mark.parametrize(("module", "name", "file", "digests"), GUARDED, ids=[row[1] for row in GUARDED])
def test_the_code_is_known(module, name, file, digests):
    function = importlib.import_module(f"sklearn.neural_network.{module}")
    for part in name.split("."):
        function = getattr(function, part, None)
    if function is None:
        assert "-" in digests.split(), (
            f"scikit-learn {sklearn.__version__} has no sklearn.neural_network.{module}.{name} any more: see what took "
            f"its place there, and what fastnn/sklearn/{file}.py has to do instead"
        )
        return
    assert digest(function) in digests.split(), (
        f"scikit-learn {sklearn.__version__} has changed sklearn.neural_network.{module}.{name}: compare it with the "
        f"release before, bring fastnn/sklearn/{file}.py to the same answers, and add {digest(function)} to its row"
    )


class Plain:
    """A class with nothing but what Python gives to every class."""

    annotated: int


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_replaced_method_is_guarded(name):
    estimator = getattr(ours, name)
    own = [cls for cls in estimator.__mro__ if cls.__module__.startswith("fastnn.")]
    others = [cls for cls in estimator.__mro__ if cls.__module__.startswith("sklearn.neural_network.")]
    replaced = {method for cls in own for method in vars(cls) if any(method in vars(other) for other in others)}
    guarded = {row[1].split(".")[-1] for row in GUARDED}
    made_by_python = {*vars(Plain), "__init__", "__abstractmethods__", "_abc_impl"}
    made_by_python |= {"__slotnames__"}  # once an object was pickled
    made_by_scikit_learn = {"set_fit_request", "set_partial_fit_request", "set_score_request", "_parameter_constraints"}
    assert replaced - made_by_python - made_by_scikit_learn <= guarded


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_guarded_attribute_of_a_fitted_estimator_is_there(name):
    model = getattr(importlib.import_module("sklearn.neural_network"), name)(max_iter=2, tol=1e3, n_iter_no_change=1)
    X = np.arange(12.0).reshape(6, 2)
    model.partial_fit(X, [0, 1, 0, 1, 0, 1], **({"classes": [0, 1]} if name == "MLPClassifier" else {}))
    private = {"_random_state", "_optimizer", "_no_improvement_count", "_best_coefs", "_best_intercepts"}
    missing = private - vars(model).keys()
    assert not missing, f"scikit-learn {sklearn.__version__} keeps no {missing}, which fastnn/sklearn/_training.py uses"
    assert {"learning_rate_init", "learning_rate", "beta_1", "beta_2", "epsilon", "t", "ms", "vs"} <= vars(
        model._optimizer
    ).keys()


def test_indices_are_shuffled_as_a_generator_shuffles_them():
    expected = np.arange(50)
    for seed in range(3):
        np.random.RandomState(seed).shuffle(expected)
    found = np.arange(50)
    for seed in range(3):
        found = shuffle(found, random_state=np.random.RandomState(seed))
    np.testing.assert_array_equal(found, expected, err_msg="see fastnn/sklearn/_epochs.py, Order")


@pytest.mark.parametrize("stratified", [False, True])
def test_rows_are_split_like_samples(stratified):
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    settings = {"test_size": 0.2, "stratify": y if stratified else None}
    samples = train_test_split(X, y, random_state=np.random.RandomState(4), **settings)
    rows = train_test_split(np.arange(60), random_state=np.random.RandomState(4), **settings)
    for part, which in zip(samples[:2], rows, strict=True):
        np.testing.assert_array_equal(part, X[which], err_msg="see fastnn/sklearn/_training.py")
