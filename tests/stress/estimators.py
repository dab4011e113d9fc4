"""Estimators whose attributes somebody changes: between calls, or by a callback while they train.

Between calls scikit-learn's own estimator gets the same change: where it refuses the shapes of weights ours does too,
and where both go on they give the same answer. No change makes memory but the arrays' own be read or written.
"""

import contextlib
import copy
import importlib
import pickle
import warnings

import numpy as np

import fastnn as fnn
from tests.stress.core import HELD, RAISED, WRONG, Broken
from tests.stress.subjects import FORMS, Control, guarded, problem, reform

PER_CHILD = 30
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2"}

M, D, K = 60, 8, 4
_GIVEN = {}
CONTROL = Control()

# What becomes of one array of weights.
ARRAYS = {
    "twice the rows": lambda a: np.concatenate([a] * 2),
    "twice the columns": lambda a: np.concatenate([a] * 2, axis=-1),
    "fewer rows": lambda a: a[:-1],
    "fewer columns": lambda a: a[..., :-1],
    "no rows": lambda a: a[:0],
    "transposed": np.transpose,
    "one dimension": np.ravel,
    "three dimensions": lambda a: a[None],
    "no dimensions": lambda a: np.array(1.0),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "fortran": lambda a: np.asfortranarray(a.copy()),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "integers": lambda a: np.ones(a.shape, int),
    "guarded": guarded,
    "nan": lambda a: np.full_like(a, np.nan),
    "infinite": lambda a: np.full_like(a, np.inf),
    "copy": np.copy,
}
# What becomes of the list of them.
LISTS = {
    "one less": lambda arrays: arrays[:-1],
    "one more": lambda arrays: [*arrays, arrays[-1]],
    "backwards": lambda arrays: arrays[::-1],
    "none": lambda arrays: [],
    "tuple": tuple,
    "the same": list,
}
# Those that mean the same, or what any number may mean.
HARMLESS = ("strided", "fortran", "read-only", "float16", "float32", "integers", "guarded", "nan", "infinite", "copy",
            "tuple", "the same")  # fmt: skip
REFUSALS = (ValueError, TypeError, AttributeError, IndexError, KeyError)
ATTRIBUTES = {
    "activation": ("tanh", "logistic", "identity", "nonsense", None),
    "out_activation_": ("identity", "softmax", "logistic", "relu", "nonsense"),
    "hidden_layer_sizes": ((6,), (5, 5), (), (9,), 5, (10**3,)),
    "classes_": (np.arange(K - 1), np.arange(K + 2), np.arange(K)[::-1], None),
    "n_outputs_": (1, K - 1, K + 3, 0, -1, None),
    "n_features_in_": (D - 1, D + 5, None),
    "batch_size": (1, 7, M, 10**9),
    "t_": (0, 10**6),
    "alpha": (0.0, 1e-2),
    "learning_rate_init": (1e-2,),
    "loss": ("log_loss", "squared_error", "nonsense"),
    "random_state": (3, "nonsense"),
    "_random_state": (None, np.random.RandomState(2)),
    "_label_binarizer": (None,),
    "_optimizer": (None,),
    "_no_improvement_count": (0, 100, None),
    "best_loss_": (np.inf, 0.0, None),
}
UNCOMPARED = ("n_outputs_",)  # which ours does not read
CALLS = ("predict", "predict", "predict_proba", "partial_fit", "fit", "score", "pickle", "copy")


def prepare(folder):
    _GIVEN["X"], _GIVEN["y"] = problem(M, D, K, "float64")
    _GIVEN["ours"] = importlib.import_module("fastnn.sklearn")
    _GIVEN["theirs"] = importlib.import_module("sklearn.neural_network")
    fnn.warmup()
    CONTROL.remember()


def draw(rng):
    def one(options):
        return options[rng.integers(len(options))]

    case = {
        "kind": one(["MLPClassifier", "MLPClassifier", "MLPRegressor"]),
        "settings": {"solver": one(["adam", "sgd", "lbfgs"]), "warm_start": bool(rng.random() < 0.7),
                     "hidden_layer_sizes": one([(5,), (6, 5), ()]), "batch_size": one([20, 200])},
        "outputs": one([1, 1, 2]),
        "in_callback": bool(rng.random() < 0.2),
    }  # fmt: skip
    what = one(["array", "array", "array", "list", "attribute", "deleted", "data"])
    if what == "data":
        case["in_callback"], case["settings"]["solver"] = True, one(["adam", "sgd"])
        change = {"of": one(["X", "y"]), "form": one([*FORMS, None])}
    elif what == "array":
        change = {
            "of": one(["coefs_", "coefs_", "intercepts_"]),
            "number": int(rng.integers(3)),
            "to": one(list(ARRAYS)),
        }
    elif what == "list":
        change = {"of": one(["coefs_", "intercepts_"]), "to": one(list(LISTS))}
    else:
        name = one(list(ATTRIBUTES))
        change = {"of": name, "value": int(rng.integers(len(ATTRIBUTES[name]))) if what == "attribute" else None}
    return {**case, "change": change, "calls": [one(CALLS) for _ in range(rng.integers(1, 4))]}


def change(estimator, how, x, y):
    """Make the change, as any user can."""
    if "form" in how:
        array = {"X": x, "y": y}[how["of"]]
        if how["form"]:
            reform(array, how["form"])
        else:
            array[-1] = np.nan
    elif "value" in how:
        if how["value"] is None:
            delattr(estimator, how["of"])
        else:
            setattr(estimator, how["of"], copy.deepcopy(ATTRIBUTES[how["of"]][how["value"]]))
    elif "number" in how:
        arrays = getattr(estimator, how["of"])
        arrays[how["number"] % len(arrays)] = ARRAYS[how["to"]](arrays[how["number"] % len(arrays)])
    else:
        arrays = getattr(estimator, how["of"])
        setattr(estimator, how["of"], LISTS[how["to"]](arrays))


def attempt(case):
    if case["in_callback"] and case["settings"]["solver"] != "lbfgs":
        outcome = _changed_in_a_callback(case)
    else:
        ours, theirs = (_changed_between_calls(case, library) for library in ("ours", "theirs"))
        outcome = _compare(case, ours, theirs)
    CONTROL.check()
    return outcome


def _fitted(case, library, **more):
    settings = {**case["settings"], "max_iter": 3, "random_state": 0, **more}
    estimator = getattr(_GIVEN[library], case["kind"])(**settings)
    y = _GIVEN["y"] if case["kind"] == "MLPClassifier" else _GIVEN["y"] / K
    return estimator, np.column_stack([y, y[::-1]]) if case["outputs"] == 2 and case["kind"] == "MLPRegressor" else y


def _changed_between_calls(case, library):
    """The results of the calls after the change, the last of which may be an exception."""
    estimator, y = _fitted(case, library)
    results = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of training that has not converged, of values that overflow
        estimator.fit(_GIVEN["X"], y)
        try:
            change(estimator, case["change"], None, None)
            for name in case["calls"]:
                estimator, result = _call(estimator, name, y)
                results.append(result)
        except Exception as error:
            results.append(error)
    return results


def _call(estimator, name, y):
    """The estimator afterwards, and what a call gives."""
    if name == "pickle":
        return pickle.loads(pickle.dumps(estimator)), None
    if name == "copy":
        return copy.deepcopy(estimator), None
    if name in ("fit", "partial_fit"):
        getattr(estimator, name)(_GIVEN["X"], y)
        return estimator, float(estimator.loss_)
    if name == "score":
        return estimator, estimator.score(_GIVEN["X"], y)
    return estimator, getattr(estimator, name)(_GIVEN["X"])


def _compare(case, ours, theirs):
    harmless, shapes = case["change"].get("to") in HARMLESS, case["change"]["of"] in ("coefs_", "intercepts_")
    for our, their in zip(ours, theirs, strict=False):
        if isinstance(our, Exception):
            if harmless and not isinstance(their, Exception):
                raise Broken(WRONG, f"raised {our!r}, where scikit-learn went on")
            if not isinstance(our, (*REFUSALS, type(their))):
                raise Broken(WRONG, f"raised {our!r}, scikit-learn gave {their!r}")
            return RAISED
        if isinstance(their, Exception):
            if shapes and not harmless and not _is_one_number(case):
                raise Broken(WRONG, f"went on where scikit-learn raised {their!r}")
            return HELD
        if case["change"]["of"] in UNCOMPARED or _is_one_number(case):
            continue
        if not _are_close(our, their):
            raise Broken(WRONG, "another result than scikit-learn's")
    return HELD


def _is_one_number(case):
    """Whether an intercept may have become one for all units, which scikit-learn takes here and refuses there."""
    how = case["change"]
    return how["of"] == "intercepts_" and how.get("to") in ("no dimensions", "fewer columns", "fewer rows")


def _are_close(our, their):
    if our is None:
        return True
    return np.shape(our) == np.shape(their) and np.allclose(our, their, rtol=1e-2, atol=1e-3, equal_nan=True)


def _changed_in_a_callback(case):
    """Whatever happens, it happens without a crash."""
    x = guarded(_GIVEN["X"])
    estimator, y = _fitted(case, "ours", max_iter=5)
    y = guarded(y.astype(float))
    estimator.callbacks = [lambda mlp, epoch, _: epoch == 2 and change(mlp, case["change"], x, y)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            estimator.fit(x, y)
            for name in case["calls"]:
                with contextlib.suppress(pickle.PicklingError, AttributeError):
                    estimator, _ = _call(estimator, name, y)
        except REFUSALS:
            return RAISED
    return HELD
