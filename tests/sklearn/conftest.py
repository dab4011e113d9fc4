"""The estimators are tested where scikit-learn is installed."""

import importlib.util

import pytest

pytest.register_assert_rewrite("tests.sklearn.pairs")

if importlib.util.find_spec("sklearn") is None:
    collect_ignore_glob = ["test_*.py"]
