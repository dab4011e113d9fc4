"""A search that goes on: what its folder holds is not fitted again, and the results are those of a search without."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import model_selection
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier
from tests.sklearn.test_searches import GRID, SEARCHES, SETTINGS, assert_same_results, every_search, samples

pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")

FITTED = []


class Counted(MLPClassifier):
    """Counts its fits."""

    def fit(self, X, y):
        FITTED.append(self.alpha)
        return super().fit(X, y)


@pytest.fixture
def grid(tmp_path):
    """A search, and how often its estimators were fitted in the course of it."""
    X, y = samples("classifier")
    defaults = {"cv": 3, "return_train_score": True, "refit": False, "checkpoint": tmp_path / "search"}

    def search(estimator=None, tried=GRID, X=X, y=y, **settings):
        FITTED.clear()
        estimator = Counted(**SETTINGS) if estimator is None else estimator
        made = ours.GridSearchCV(estimator, tried, **defaults | settings).fit(X, y)
        return made.cv_results_, len(FITTED)

    return search


@every_search
def test_results_are_those_of_a_search_without(name, tmp_path):
    X, y = samples("classifier")
    settings = SEARCHES[name] | {"return_train_score": True}
    expected = getattr(ours, name)(MLPClassifier(**SETTINGS), **settings).fit(X, y)
    for times in range(2):
        search = getattr(ours, name)(Counted(**SETTINGS), **settings, checkpoint=str(tmp_path / "it"))
        FITTED.clear()
        search.fit(X, y)
        assert len(FITTED) == (1 if times else len(os.listdir(tmp_path / "it")) + 1)  # the last is the best, to all
        assert_same_results(search.cv_results_, expected.cv_results_)
        np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


def test_what_is_missing_is_made(grid, tmp_path):
    expected, n = grid()
    assert n == 12
    for name in sorted(os.listdir(tmp_path / "search"))[:5]:
        os.remove(tmp_path / "search" / name)
    found, n = grid()
    assert n == 5
    assert_same_results(found, expected)
    assert grid(tried=GRID | {"alpha": [1e-4, 1.0, 2.0]})[1] == 6
    assert grid()[1] == 0
    assert grid(n_jobs=2, verbose=1)[1] == 0


def test_what_the_scores_depend_on_is_made_anew(grid):
    X, y = samples("classifier")
    grid()
    changed = X.copy()
    changed[3, 1] += 1e-9
    others = [
        {"X": changed},
        {"y": np.roll(y, 1)},
        {"cv": model_selection.KFold(3, shuffle=True, random_state=0)},
        {"scoring": "neg_log_loss"},
        {"return_train_score": False},
        {"estimator": Counted(**SETTINGS | {"max_iter": 5}), "scoring": "neg_log_loss"},  # the default holds it too
    ]
    for other in others:
        assert grid(**other)[1] == 12, other
        assert grid(**other)[1] == 0, other


def test_a_pipeline(grid):
    steps = make_pipeline(StandardScaler(), Counted(**SETTINGS))
    expected, n = grid(steps, {"counted__alpha": [0.1, 0.2]})
    assert n == 6
    found, n = grid(steps, {"counted__alpha": [0.1, 0.2]})
    assert n == 0
    assert_same_results(found, expected)


def test_estimators_of_others(grid, tmp_path):
    X, y = samples("classifier")
    for _ in range(2):
        found, _ = grid(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]})
    same = model_selection.GridSearchCV(
        LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=3, return_train_score=True, refit=False
    ).fit(X, y)
    assert_same_results(found, same.cv_results_)
    assert len(os.listdir(tmp_path / "search")) == 6


def test_what_failed_is_tried_again(grid):
    for n in (6, 3):
        with (
            pytest.warns(FitFailedWarning, match="3 fits failed"),
            pytest.warns(UserWarning, match="test scores are non-finite"),
            pytest.warns(UserWarning, match="train scores are non-finite"),
        ):
            assert grid(tried={"alpha": [0.1, -1.0]})[1] == n
    assert grid(tried={"alpha": [0.1]})[1] == 0


def test_a_damaged_file_is_made_again(grid, tmp_path):
    expected, _ = grid()
    path = tmp_path / "search" / sorted(os.listdir(tmp_path / "search"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="this fit is made again"):
        found, n = grid()
    assert n == 1
    assert_same_results(found, expected)
    assert grid()[1] == 0


def test_a_killed_search_goes_on(grid, tmp_path):
    script = (
        "from tests.sklearn.test_kept import *\nfrom tests.sklearn.test_searches import *\n"
        "GridSearchCV = ours.GridSearchCV\n"
        "GridSearchCV(Counted(**SETTINGS), GRID, cv=3, return_train_score=True, refit=False, scoring=dying, "
        f"checkpoint={str(tmp_path / 'search')!r}).fit(*samples('classifier'))\n"
    )
    environment = os.environ | {"FASTNN_TEST_DIES": "15"}
    status = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, check=False).returncode
    assert status == 9
    found, n = grid(scoring=dying)
    assert 0 < n < 12
    assert_same_results(found, grid(scoring=dying, checkpoint=None)[0])


def dying(estimator, X, y, calls=[]):  # noqa: B006
    """A score; a process that is to die does so at one of the calls."""
    calls.append(0)
    if len(calls) == int(os.environ.get("FASTNN_TEST_DIES", 0)):
        os._exit(9)
    return estimator.score(X, y)


@pytest.mark.parametrize(
    ("checkpoint", "error", "message"),
    [
        (3, TypeError, "checkpoint is 3, expected a str or a path"),
        (b"x", TypeError, "checkpoint is b'x', expected a str or a path"),
        (__file__, ValueError, "which is a file: give a folder, that holds a file for each fit"),
        ("/none/of/these", ValueError, "there is no folder '/none/of': make it first"),
    ],
)
def test_what_is_no_folder(checkpoint, error, message, grid):
    with pytest.raises(error, match=message):
        grid(checkpoint=checkpoint)


def test_what_cannot_be_told_from_others(grid):
    with pytest.raises(ValueError, match=r"cannot be pickled .*: functions must be found in a module"):
        grid(scoring=lambda estimator, X, y: 0.0)
