"""Fixtures that every folder of tests shares."""

import zlib

import numpy as np
import pytest
from hypothesis import settings

from tests.cases import DTYPES

settings.register_profile("fastnn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fastnn")


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
