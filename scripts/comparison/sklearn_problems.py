"""What `compare_sklearn.py` trains and predicts: its data, the two estimators, and the check that they agree."""

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
import peers
from comparison.problems import Network, learnable
from comparison.settings import Settings as CommonSettings

THEIRS = "scikit-learn"
DIGITS, MNIST, TABLE, WINE = "digits", "MNIST", "20 features", "wine"


@dataclass(frozen=True)
class Settings(CommonSettings):
    """With MNIST's folder; without it, random data of the same size takes its place."""

    mnist: Path | None = None

    def named(self, data: str) -> str:
        """The name of the data in a table."""
        return "MNIST-sized" if data == MNIST and not self.mnist else data


def load(data: str, dtype: str, settings: Settings) -> tuple[NDArray, NDArray]:
    """X (m, d) in the dtype and its labels (m,)."""
    x, y = _load(data, dtype, settings.mnist)
    return (x[:500], y[:500]) if settings.quick else (x, y)


@functools.lru_cache(maxsize=1)
def _load(data: str, dtype: str, folder: Path | None) -> tuple[NDArray, NDArray]:
    if data == DIGITS:
        return fnn.datasets.load_digits(dtype)
    if data == TABLE:
        from sklearn.datasets import make_classification

        x, y = make_classification(2000, 20, n_informative=10, random_state=0)
        return x.astype(dtype), y
    if data == WINE:
        from sklearn.datasets import load_wine

        x, y = load_wine(return_X_y=True)
        return x.astype(dtype), y
    if folder:
        return fnn.datasets.load_idx(folder, dtype)[0]
    problem = learnable(Network((784, 10), batch=200, steps=300), dtype)
    return problem.x, problem.y


def estimators(hidden: tuple[int, ...], **settings: Any) -> dict[str, Any]:
    """The classifier of each library, with its defaults but for these settings."""
    import sklearn.neural_network

    import fastnn.sklearn

    settings |= {"hidden_layer_sizes": hidden, "random_state": 0}
    return {
        peers.OURS: fastnn.sklearn.MLPClassifier(**settings),
        THEIRS: sklearn.neural_network.MLPClassifier(**settings),
    }


@contextmanager
def ended_early() -> Iterator[None]:
    """Say nothing of training that ends before it has converged, as training that is timed does."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def check(what: str, found: Mapping[str, Any], tolerance: float) -> None:
    """Compare what both came to, relatively to the largest of it.

    Raises
    ------
    ValueError
        If scikit-learn's differs from fastnn's.
    """
    ours, theirs = (np.asarray(found[name], np.float64) for name in (peers.OURS, THEIRS))
    apart = np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)) if ours.shape == theirs.shape else np.inf
    if not apart <= tolerance:
        raise ValueError(
            f"{what}: fastnn and scikit-learn are {apart:.1e} apart, but they must agree within {tolerance:g}, or they "
            "do not do the same work"
        )
