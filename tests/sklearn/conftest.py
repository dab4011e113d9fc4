"""The estimators are tested where scikit-learn is installed."""

import importlib.util
import sys
import threading
import warnings
from pathlib import Path

import pytest

import fastnn as fnn

pytest.register_assert_rewrite("tests.sklearn.pairs")

if importlib.util.find_spec("sklearn") is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    # scikit-learn 1.6 passes an option that SciPy 1.16 deprecates.
    deprecated = pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp`:DeprecationWarning")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(deprecated)


@pytest.fixture
def nothing_is_left():
    """Find Python, joblib, scikit-learn and fastnn after a test as they were before, and no thread of tasks."""
    before, filters = _around(), list(warnings.filters)
    yield
    assert _around() == before
    assert warnings.filters == filters
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn task")] == []


def _around():
    import joblib
    import sklearn

    used, n_jobs = joblib.parallel.get_active_backend()
    of_python = id(warnings.filters), warnings.showwarning, sys.stdout
    return of_python, sklearn.get_config(), type(used), n_jobs, fnn.get_num_threads()
