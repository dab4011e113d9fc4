"""SciPy's functions of rows, in scipy.special."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

NAME = "SciPy"


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s."""
    index = np.arange(len(y))

    def loss_and_gradient() -> tuple[float, NDArray]:
        out = special.log_softmax(s, axis=1)
        loss = -out[index, y].mean()
        np.exp(out, out=out)
        out[index, y] -= 1
        out /= len(y)
        return float(loss), out

    return {
        "softmax": lambda: special.softmax(s, axis=1),
        "log-softmax": lambda: special.log_softmax(s, axis=1),
        "log-sum-exp": lambda: special.logsumexp(s, axis=1),
        "cross-entropy and gradient": loss_and_gradient,
    }
