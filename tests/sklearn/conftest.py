"""The estimators are tested where scikit-learn is installed."""

import importlib.util
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.sklearn.pairs")

if importlib.util.find_spec("sklearn") is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    # scikit-learn 1.6 passes an option that SciPy 1.16 deprecates.
    deprecated = pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp`:DeprecationWarning")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(deprecated)
