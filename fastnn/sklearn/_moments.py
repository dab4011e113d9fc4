"""scikit-learn's optimizer objects as rules of the compiled epoch."""

from typing import Any

import numpy as np
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

from ..nn.lowering import OptimizerSpec, aligned_zeros
from ._network import Weights, arrays_of, copy


class Moments:
    """An SGDOptimizer or AdamOptimizer whose velocities or moments are views into one flat array.

    The optimizer holds what scikit-learn's own loop would leave in it, so training goes on from it as usual.

    Raises
    ------
    ValueError
        If the optimizer was made for other layers.
    """

    def __init__(self, optimizer: Any, weights: Weights) -> None:
        self._optimizer, self._weights = optimizer, weights
        self._adam = isinstance(optimizer, AdamOptimizer)
        self._names = ("ms", "vs") if self._adam else ("velocities",)
        self._slots = aligned_zeros((len(self._names), weights.layout.size), weights.dtype)
        self._lists = []
        for name, row in zip(self._names, self._slots, strict=True):
            coefs, intercepts, norms = weights.layout.views(row)
            views = coefs + intercepts + arrays_of(norms)
            there, wanted = ([np.shape(a) for a in arrays] for arrays in (getattr(optimizer, name), views))
            if there != wanted:
                raise ValueError(
                    f"coefs_ and intercepts_ have shapes {wanted}, but the optimizer was made for {there}: use fit, "
                    "which makes another"
                )
            copy(views, getattr(optimizer, name))
            self._lists.append(views)
            setattr(optimizer, name, self._lists[-1])

    def belong_to(self, optimizer: Any, weights: Weights) -> bool:
        """Return whether these are still the moments of the optimizer for these weights."""
        if optimizer is not self._optimizer or weights is not self._weights:
            return False
        return all(getattr(optimizer, name) is views for name, views in zip(self._names, self._lists, strict=True))

    def rule(self, samples_seen: int, updates: int = 0, decay: float | None = None) -> OptimizerSpec:
        """Return the rule of the next epoch, or of one that comes after so many more updates.

        With a ``decay`` of the weights it is AdamW, which scikit-learn does not have.
        Only Adam counts its updates; elsewhere the samples seen before make every update a number of its own, from
        which dropout draws its masks.
        """
        o = self._optimizer
        if self._adam:
            settings = o.learning_rate_init, o.beta_1, o.beta_2, o.epsilon
            if decay is not None:
                return OptimizerSpec("adamw", (*settings, decay), self._slots, o.t + updates)
            return OptimizerSpec("plain_adam", settings, self._slots, o.t + updates)
        name = "nesterov" if o.nesterov else "momentum"
        return OptimizerSpec(name, (o.learning_rate, o.momentum), self._slots, samples_seen)

    def count(self, updates: int) -> None:
        """Note that so many updates were made."""
        o = self._optimizer
        if self._adam:
            o.t += updates
            o.learning_rate = o.learning_rate_init * np.sqrt(1 - o.beta_2**o.t) / (1 - o.beta_1**o.t)
