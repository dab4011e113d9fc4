"""Fixtures that every folder of tests shares."""

import collections
import os
import zlib

import numpy as np
import pytest
from hypothesis import settings

from tests.cases import DTYPES

settings.register_profile("fastnn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fastnn")


def pytest_collection_modifyitems(config, items):
    """With FASTNN_SAMPLE=n one in n of the cases of each test, and of each at least one."""
    n = int(os.environ.get("FASTNN_SAMPLE", 1))
    cases, kept, left = collections.Counter(), [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        # The start differs from test to test, or all would leave out the same dtype.
        (kept if cases[name] == 0 or (cases[name] + zlib.crc32(name.encode())) % n == 0 else left).append(item)
        cases[name] += 1
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


@pytest.fixture
def rng(request):
    """A generator whose seed is the name of the test, so that no test depends on which others ran."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    return request.param


@pytest.fixture(params=["numba", "numpy"])
def backend(request):
    """Run the test once on each twin."""
    import fastnn

    with fastnn.use_backend(request.param):
        yield request.param
