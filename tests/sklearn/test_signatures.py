"""What an editor, ``help`` and scikit-learn's tools see of the two estimators, under each release of scikit-learn."""

import ast
import importlib
import inspect
import pydoc
import typing

import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network as theirs
from sklearn.base import clone

import fastnn.sklearn as ours
from fastnn.sklearn import _estimators
from tests.processes import run
from tests.sklearn.pairs import RELEASE, every_estimator

OF_BOTH = {
    "dropout": 0.0,
    "dtype": None,
    "callbacks": None,
    "n_threads": None,
    "optimizer": None,
    "weight_decay": 0.01,
    "clip_norm": None,
    "layer_norm": False,
    "batch_norm": False,
}
OWN = {
    "MLPClassifier": {"class_weight": None, "label_smoothing": 0.0, "stratify": False} | OF_BOTH,
    "MLPRegressor": OF_BOTH,
}


def written(name, method):
    """The parameters of a method as they are written in the file, which is what editors read, and their defaults."""
    tree = ast.parse(inspect.getsource(_estimators))
    (cls,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    (function,) = (node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == method)
    first, named = function.args.args[1:], function.args.kwonlyargs
    defaults = [ast.literal_eval(node) for node in [*function.args.defaults, *function.args.kw_defaults]]
    assert all(argument.annotation is not None for argument in [*first, *named])
    return dict(zip([argument.arg for argument in [*first, *named]], defaults, strict=True)), len(first)


@every_estimator
class TestInit:
    def test_is_that_of_scikit_learn_with_more_keywords(self, name):
        expected = inspect.signature(getattr(theirs, name))
        mine = inspect.signature(getattr(ours, name))
        shown = [p.replace(annotation=p.empty) for p in mine.parameters.values()]
        own = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in OWN[name].items()]
        assert shown == [*expected.parameters.values(), *own]
        assert all(p.annotation is not p.empty for p in mine.parameters.values())

    def test_is_written_out(self, name):
        found, positional = written(name, "__init__")
        expected = {p.name: p.default for p in inspect.signature(getattr(theirs, name)).parameters.values()} | OWN[name]
        if RELEASE < (1, 7) and name == "MLPRegressor":
            expected, positional = {"loss": "squared_error"} | expected, positional - 1
        assert found == expected
        assert list(found) == list(expected)
        kinds = [p.kind for p in inspect.signature(getattr(theirs, name)).parameters.values()]
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == positional

    def test_names_are_literal_types(self, name):
        types = typing.get_type_hints(getattr(ours, name).__init__)
        names = {"activation": "leaky_relu", "solver": "lbfgs", "learning_rate": "adaptive", "dtype": "float32"}
        for parameter, value in names.items():
            assert value in str(types[parameter]), parameter

    def test_every_parameter_can_be_set_and_read(self, name):
        cls = getattr(ours, name)
        values = {parameter: object() for parameter in inspect.signature(cls).parameters}
        for model in (cls(**values), cls().set_params(**values), clone(cls(**dict.fromkeys(values, 7)))):
            assert model.get_params().keys() == values.keys()
        assert cls(**values).get_params() == cls().set_params(**values).get_params() == values
        shown = ", ".join(f"{own}=7" for own in sorted(OWN[name]))
        assert " ".join(repr(cls(**dict.fromkeys(OWN[name], 7))).split()) == f"{name}({shown})"

    def test_defaults_hold_without_init(self, name):
        bare = getattr(ours, name).__new__(getattr(ours, name))
        assert {parameter: getattr(bare, parameter) for parameter in OWN[name]} == OWN[name]

    def test_a_subclass_has_a_signature_of_its_own(self, name):
        class Mine(getattr(ours, name)):
            def __init__(self, extra=1, *, dropout=0.25):
                super().__init__(hidden_layer_sizes=(3,), dropout=dropout)
                self.extra = extra

        assert clone(Mine(extra=2)).get_params() == {"extra": 2, "dropout": 0.25}
        assert Mine().hidden_layer_sizes == (3,)


@pytest.mark.skipif(RELEASE >= (1, 7), reason="this scikit-learn has the loss of a regressor")
def test_what_the_release_lacks_is_refused_by_name():
    with pytest.raises(TypeError, match="unexpected keyword argument 'loss'"):
        ours.MLPRegressor(loss="poisson")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample_weight'"):
        ours.MLPRegressor().fit([[0.0], [1.0]], [0.0, 1.0], sample_weight=[1.0, 2.0])


@every_estimator
def test_fit(name):
    shown = list(inspect.signature(getattr(ours, name).fit).parameters)
    expected = list(inspect.signature(getattr(theirs, name).fit).parameters)
    assert shown == [*expected, "validation_data", "X_val", "y_val"]
    requests = inspect.signature(getattr(ours, name)().set_fit_request).parameters
    assert requests.keys() == set(shown) - {"X", "y"}


@every_estimator
class TestDocstring:
    def sections(self, name):
        docscrape = pytest.importorskip("sklearn.externals._numpydoc.docscrape")
        return docscrape.NumpyDocString(inspect.getdoc(getattr(ours, name)))

    def test_describes_every_parameter_once_in_order(self, name):
        described = self.sections(name)["Parameters"]
        assert [entry.name for entry in described] == list(inspect.signature(getattr(ours, name)).parameters)
        assert all(entry.type and entry.desc for entry in described)

    def test_describes_every_attribute(self, name):
        described = {entry.name for entry in self.sections(name)["Attributes"]}
        X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]
        model = getattr(ours, name)(max_iter=1, tol=1e3, early_stopping=True, validation_fraction=0.5)
        with pytest.warns(Warning, match="Maximum iterations"):
            model.fit(X, y, validation_data=(X, y))
        assert {n for n in vars(model) if n.endswith("_")} <= described

    def test_has_every_parameter(self, name):
        for parameter in inspect.signature(getattr(ours, name)).parameters:
            assert f"\n\n{parameter} : " in getattr(ours, name).__doc__.replace("---\n", "\n\n"), parameter

    def test_help_shows_it(self, name):
        text = pydoc.plain(pydoc.render_doc(getattr(ours, name)))
        assert "'leaky_relu', returns f(x)" in text
        for parameter, words in (("dropout", "dropped in training"), ("alpha", "Strength of the L2 regularization")):
            assert f"{parameter} : float" in text
            assert words in text


def test_without_docstrings():
    code = (
        "from fastnn.sklearn import MLPClassifier, MLPRegressor\n"
        "print(MLPClassifier.__doc__, MLPRegressor.__doc__, MLPClassifier.fit.__doc__)\n"
        "print(MLPClassifier((3,), dropout=0.5), MLPRegressor(n_threads=1))\n"
    )
    expected = "None None None\nMLPClassifier(dropout=0.5, hidden_layer_sizes=(3,)) MLPRegressor(n_threads=1)\n"
    assert run(code, PYTHONOPTIMIZE=2) == (expected, "")


@pytest.mark.skipif(RELEASE < (1, 9), reason="this scikit-learn shows no descriptions of parameters")
def test_a_notebook_shows_it():
    html = importlib.import_module("sklearn.utils._repr_html.common")
    assert "dropped in training" in html.get_docstring(ours.MLPClassifier, "Parameters", "dropout")
