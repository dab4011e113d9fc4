"""The full loss and its gradient as scipy's L-BFGS wants them, in memory that does not grow with the data."""

from typing import Any

import numpy as np

from ..nn.lowering import OptimizerSpec, aligned_zeros
from ..validation import FLOAT32, FLOAT64, Array, DType
from ._epochs import WEIGHTS_CANCEL, Epochs
from ._network import Layout
from ._objective import task

# Rows that are taken at once, fewer of wide samples, so that memory stays bounded.
_MOST_ROWS, _BLOCK_ELEMENTS = 1024, 1 << 19


class FullLoss:
    """The mean loss with its penalty and their gradient, as a function of all coefficients and then all intercepts."""

    def __init__(self, mlp: Any, x: Any, y: Array, sample_weight: Array | None) -> None:
        self._mlp, self._x, self._y, self._sample_weight = mlp, x, y, sample_weight
        self._order = np.arange(len(y), dtype=np.int64)
        self._layout: Layout = mlp._own_weights().layout
        self._total = float(len(y))
        self._block = max(32, min(_MOST_ROWS, _BLOCK_ELEMENTS // max(self._layout.units)))
        if sample_weight is not None:
            self._total = float(sample_weight.sum())
            if self._total == 0:
                raise ZeroDivisionError(WEIGHTS_CANCEL)
            if sample_weight.min() < 0:  # those of a block might cancel
                self._block = len(y)
        self._prepared: DType | None = None

    def __call__(self, packed: Array) -> tuple[np.floating[Any], Array]:
        """Return the loss and the gradient at ``packed`` (n,), in its dtype."""
        if self._prepared is None or packed.dtype != self._prepared:
            self._prepare(FLOAT32 if packed.dtype == FLOAT32 else FLOAT64)
        start = 0
        for array in self._weights:
            array[...] = packed[start : start + array.size].reshape(array.shape)
            start += array.size
        self._slots[...] = 0
        loss = self._epochs.run(self._order, self._rule)
        return loss, np.concatenate([array.ravel() for array in self._gradients])

    def _prepare(self, dtype: DType) -> None:
        buffer = aligned_zeros(self._layout.size, dtype)
        self._slots = aligned_zeros((1, self._layout.size), dtype)
        self._weights, self._gradients = (
            [*coefs, *intercepts] for coefs, intercepts, _ in map(self._layout.views, (buffer, self._slots[0]))
        )
        v = None if self._sample_weight is None else self._sample_weight.astype(dtype, copy=False)
        wanted = task(self._mlp, self._y, dtype, penalty=self._mlp.alpha / (2 * self._total), per_batch=False)
        self._epochs = Epochs(self._layout.scores, buffer, self._x, wanted, v, min(self._block, len(self._y)))
        self._rule = OptimizerSpec("accumulate", (1 / self._total,), self._slots, 0)
        self._prepared = dtype
