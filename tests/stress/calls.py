"""Calls of all that is public, with arguments of which some are wrong.

A call returns a result, or raises ValueError or TypeError (OSError for files, DivergenceError for training); one of an
estimator may raise what scikit-learn's raises. It never warns, never changes what it was given but to write into it,
changes nothing when it raises, and both backends do alike.
"""

import importlib
import inspect
import os
import re
import resource
import warnings

import numpy as np

import fastnn as fnn
from tests.stress import grammar, values
from tests.stress.core import CHANGED, HELD, RAISED, WRONG, Broken
from tests.stress.subjects import NETWORKS, OPTIMIZERS, Control, fingerprint, state

PER_CHILD = 400
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2"}

ALLOWED = (ValueError, TypeError, OSError, MemoryError, fnn.DivergenceError)
_MEMORY = 8 << 30  # what nobody means seriously does not go through
_LIBRARIES = {}
_MOVED = ("optimizer", "callbacks", "model", "loss", "*0", "*1", "*2")  # what a call may change
_NAMES = {name: getattr(values, name) for name in values.__all__}
CONTROL = Control()


def prepare(folder):
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(folder)  # a path may be any text
    (folder / "table.csv").write_text("a,b,c\n1,2,0\n3,4,1\n")
    np.savez(folder / "new.npz", X=np.zeros((3, 2)), y=np.arange(3))
    _NAMES["folder"] = folder
    _LIBRARIES.update(ours=importlib.import_module("fastnn.sklearn"), theirs=_Theirs())
    fnn.warmup()
    CONTROL.remember()


def draw(rng):
    text = grammar.Text(rng)
    table = text.one(grammar.FUNCTIONS, grammar.METHODS, grammar.METHODS, grammar.MAKERS, grammar.ESTIMATORS)
    name = text.one(*table)
    given = _arguments(text, table[name], share=0.5)
    case = {"setup": [], "call": name, "given": given}
    if table is grammar.METHODS:
        case["setup"] = _model(text)
    if table is grammar.ESTIMATORS:
        case["setup"] = _estimator(text)
    written = [name.strip("?") for name, kind in table[name].items() if getattr(kind, "written", False)]
    return case | {"written": written} if written else case


def _arguments(text, kinds, share, most_wrong=2):
    """Texts of the arguments, some of which are wrong; those that may be left out are given at a share."""
    names = [name for name in kinds if not name.endswith("?") or text.chance(share)]
    wrong = {text.one(*names) for _ in range(min(most_wrong, text.one(0, 1, 1, 2)))} if names else ()
    return [[name.strip("?"), kinds[name].wrong(text) if name in wrong else kinds[name].right(text)] for name in names]


def _model(text):
    network, d, k = text.one(*NETWORKS), text.sizes["d"], text.sizes["k"]
    setup = [
        f"model = build({network!r}, {d}, {k}, {text.one('float32', 'float64')!r})",
        f"optimizer = OPTIMIZERS[{text.one(*OPTIMIZERS)!r}]()",
    ]
    x, y = f"arr((20, {d}))", f"arr((20,), 'i8', {k})"
    more = [
        "model.loss = 'cross_entropy'", "model.loss = 'squared_error'", f"model.forward({x}, training=True)",
        f"model.fit({x}, {y}, optimizer=optimizer, epochs=1, verbose=0)",
        f"model.backward(fnn.cross_entropy_backward(model.forward({x}, training=True), {y}))",
    ]  # fmt: skip
    return setup + [line for line in more if text.chance(0.3)]


def _estimator(text):
    kind = text.one("MLPClassifier", "MLPClassifier", "MLPRegressor")
    known = [name for name in grammar.SETTINGS if kind == "MLPClassifier" or name not in grammar.OF_CLASSIFIERS]
    settings = {name: grammar.SETTINGS[name] for name in known if text.chance(0.2)}
    given = _arguments(text, settings, share=1, most_wrong=int(text.chance(0.3)))
    setup = [f"MLP = library.{kind}({_joined([*given, ['max_iter', '2']])})"]
    if text.chance(0.6):
        setup.append(f"MLP.fit(arr((20, {text.sizes['d']})), arr((20,), 'i8', {text.sizes['k']}))")
    return setup


def _joined(given):
    return ", ".join(text if name.startswith("*") else f"{name}={text}" for name, text in given)


def text_of(case):
    """The case as a program."""
    return "; ".join(["from tests.stress.values import *", *case["setup"], f"{case['call']}({_joined(case['given'])})"])


def smaller(case):
    """Cases with less in them."""
    for part in ("given", "setup"):
        for i in range(len(case[part])):
            yield {**case, part: case[part][:i] + case[part][i + 1 :]}
    for i, (name, text) in enumerate(case["given"]):
        for plain in (re.sub(r", '[^']*'\)$", ")", text), re.sub(r", [^,]*, [^,]*\)$", ")", text)):
            if plain != text:
                yield {**case, "given": [*case["given"][:i], [name, plain], *case["given"][i + 1 :]]}


def attempt(case):
    ours = _outcome(case, "ours", "numba")
    if case["call"].startswith("MLP"):
        if (
            ours not in ("ValueError", "TypeError")
            and not ours.startswith(HELD)
            and ours != _outcome(case, "theirs", "numba")
        ):
            raise Broken(WRONG, f"raised {ours}, which scikit-learn does not")
    else:
        twin = _outcome(case, "ours", "numpy")
        if ours != twin and "DivergenceError" not in (ours, twin):
            raise Broken(WRONG, f"the kernels end with {ours}, their twins with {twin}")
    return HELD if ours.startswith(HELD) else RAISED


def _outcome(case, library, backend):
    """What a call comes to: the kind of its result, or the name of its error."""
    names = dict(_NAMES, library=_LIBRARIES[library])
    threads = fnn.get_num_threads()
    is_estimator = case["call"].startswith("MLP")
    with warnings.catch_warnings(), fnn.use_backend(backend):
        warnings.simplefilter("ignore")
        try:
            for line in case["setup"]:
                exec(line, names)
            function = eval(case["call"], names)
        except Exception as error:
            if is_estimator:
                return _judged(case, error, True)
            raise
        given = {name: eval(text, names) for name, text in case["given"] if name in _taken(case, library)}
        if not is_estimator:
            warnings.simplefilter("error")
        outcome = _watched_call(case, names, function, given)
    if fnn.get_num_threads() != threads and case["call"] != "fnn.set_num_threads":
        raise Broken(CHANGED, "another number of threads than before")
    fnn.set_num_threads(threads)
    return outcome


def _watched_call(case, names, function, given):
    """Make the call and compare all that it was given, and the model and the optimizer, with what they were before."""

    def watched():
        data = [value for name, value in given.items() if name not in (*case.get("written", ()), *_MOVED)]
        moved = [value for name, value in given.items() if name in _MOVED]
        models = [state(names["model"], names["optimizer"])] if "model" in names else []
        return fingerprint(data), [fingerprint(moved), *models]

    before = watched()
    positional = [value for name, value in given.items() if name.startswith("*")]
    named = {name: value for name, value in given.items() if not name.startswith("*")}
    try:
        result = function(*positional, **named)
        if hasattr(result, "__enter__"):
            with result:
                pass
    except Exception as error:
        return _judged(case, error, before == watched())
    if watched()[0] != before[0]:
        raise Broken(WRONG, "wrote into what it was given to read")
    return f"{HELD} {_described(result)}"


def _judged(case, error, unchanged):
    """The name of an error, if it may be raised."""
    name = type(error).__name__
    if case["call"].startswith("MLP"):
        return next((kind.__name__ for kind in (ValueError, TypeError) if isinstance(error, kind)), name)
    if not isinstance(error, ALLOWED) or (isinstance(error, OSError) and not re.search("load|save", case["call"])):
        raise error
    if not str(error):
        raise Broken(WRONG, f"{name} without a message")
    if not unchanged:
        raise Broken(CHANGED, f"raised {name} and changed something")
    return name


def _taken(case, library):
    """The names of the arguments that a library takes."""
    given = [name for name, _ in case["given"]]
    ours = ("validation_data", "X_val", "y_val") if library == "theirs" else ()
    return [name for name in given if name not in ours]


def _described(result):
    if isinstance(result, np.ndarray):
        return f"{result.dtype} {result.shape}"
    if isinstance(result, tuple):
        return f"({', '.join(map(_described, result))})"
    return type(result).__name__


class _Theirs:
    """scikit-learn's estimators, which are not told of what they do not know."""

    def __getattr__(self, name):
        kind = getattr(importlib.import_module("sklearn.neural_network"), name)
        known = inspect.signature(kind).parameters
        return lambda **settings: kind(**{name: value for name, value in settings.items() if name in known})
