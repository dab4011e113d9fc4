"""Passes over the training samples: which come in which order, and one compiled call for each pass."""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from ..backend import active
from ..nn.lowering import Batches, Network, OptimizerSpec
from ..training.gathering import ask, current
from ..training.together import Request
from ..validation import FLOAT32, FLOAT64, Array
from ._objective import Task

WEIGHTS_CANCEL = "Weights sum to zero, can't be normalized"


class Samples(NamedTuple):
    """The samples of a fit, and how they pass.

    x (n, d) dense or sparse, y (n, k), the weights (n,) or None, the size of a batch, and the rates of dropout with
    their seed, or None.
    """

    x: Any
    y: Array
    sample_weight: Array | None
    batch_size: int
    dropout: tuple[list[float], int] | None


class SampleOrder:
    """The samples in the order of training, drawn from a RandomState exactly as scikit-learn draws it.

    Parameters
    ----------
    rows : ndarray (m,) int64
        The samples to train on.
    random_state : RandomState, or None to keep the order
    """

    def __init__(self, rows: Array, random_state: Any) -> None:
        self._rows, self._random_state = rows, random_state
        if random_state is not None:
            self._places, self._spare = np.arange(len(rows), dtype=np.int64), np.empty_like(rows)
            self._shuffled = self._places.copy()

    def next(self) -> Array:
        """Return the order of the next epoch, valid until the call after it."""
        if self._random_state is not None:
            self._shuffle()
            np.take(self._rows, self._shuffled, out=self._spare, mode="clip")
            self._rows, self._spare = self._spare, self._rows
        return self._rows

    def several(self, epochs: int) -> list[Array]:
        """Return the orders of so many epochs to come."""
        if self._random_state is None:
            return [self._rows] * epochs
        orders = []
        for _ in range(epochs):
            self._shuffle()
            orders.append(self._rows.take(self._shuffled, mode="clip"))
            self._rows = orders[-1]
        self._rows = orders[-1].copy()  # which the next one may write into
        return orders

    def _shuffle(self) -> None:
        np.copyto(self._shuffled, self._places)
        self._random_state.shuffle(self._shuffled)


class Epochs:
    """Compiled passes over samples (n, d) in batches; those of a sparse matrix become dense a batch at a time.

    Whatever its owner makes of the array ``x`` or of the structure of a sparse one, the kernels go by what they were
    here.

    Parameters
    ----------
    network, params : what is trained, as the kernels take it
    x : ndarray or sparse matrix (n, d)
    task : the targets of all n samples and what is minimised
    sample_weight : ndarray (n,) in the dtype of ``params``, or None
    batch_size : int

    Raises
    ------
    ValueError
        If ``x``, the targets and the weights are not as long as one another, or not as wide as the network.
    """

    def __init__(
        self, network: Network, params: Array, x: Any, task: Task, sample_weight: Array | None, batch_size: int
    ) -> None:
        self._network, self._params, self._task = network, params, task
        self._sample_weight, self._batch_size = sample_weight, batch_size
        self._by_size = task.objective.reduction.mean_over_rows
        self._may_cancel = sample_weight is not None and self._by_size and bool((sample_weight <= 0).any())
        self._sparse = issparse(x)
        self._x: Any = _own_rows(x) if self._sparse else _as_kernels_read(x, params)
        n, n_in, n_out = len(task.targets), int(network.ops[0, 1]), int(network.ops[-1, 2])
        if self._x.shape != (n, n_in) or task.outputs != n_out:
            raise ValueError(
                f"X has shape {self._x.shape} and y {(n, task.outputs)}, but coefs_ lead from {n_in} features to "
                f"{n_out} outputs"
            )
        if sample_weight is not None and sample_weight.shape != (n,):
            raise ValueError(f"sample_weight has shape {sample_weight.shape}, expected ({n},)")
        self._kept: dict[Any, Any] = {}
        if self._sparse:
            self._dense = np.empty((batch_size, x.shape[1]), x.dtype)
            self._rooms: dict[int, Batches] = {}

    def run(self, order: Array, rule: OptimizerSpec) -> np.floating[Any]:
        """Train on the samples in this order, and return the loss of the epoch.

        Raises
        ------
        ZeroDivisionError
            If the weights of a batch sum to 0, before anything has changed.
        """
        self._check(order)
        loss = self._run_sparse(order, rule) if self._sparse else self._train(self._batches(order), rule)
        return self._number(loss)

    def run_several(self, orders: list[Array], rules: list[OptimizerSpec]) -> list[np.floating[Any]]:
        """Train on dense samples in one order after the other, as ``run`` does, and return the losses."""
        for order in orders:
            self._check(order)
        losses: list[float] = []
        while len(losses) < len(orders):
            n = len(losses)  # an epoch that diverges ends a request, but not the training
            batches = tuple(map(self._batches, orders[n:]))
            losses += self._asked(batches, tuple(rules[n:]))
        return [self._number(loss) for loss in losses]

    def _check(self, order: Array) -> None:
        if self._may_cancel:
            assert self._sample_weight is not None
            starts = np.arange(0, len(order), self._batch_size, dtype=np.int64)
            if not np.add.reduceat(self._sample_weight[order], starts).all():
                raise ZeroDivisionError(WEIGHTS_CANCEL)

    def _batches(self, order: Array) -> Batches:
        return Batches(self._x, self._task.targets, self._sample_weight, order, self._batch_size)

    def _number(self, loss: float) -> np.floating[Any]:
        return self._task.number(np.nan if self._task.undefined else loss)

    def _run_sparse(self, order: Array, rule: OptimizerSpec) -> float:
        total = shares = 0.0
        targets = self._task.targets
        for number, start in enumerate(range(0, len(order), self._batch_size)):
            rows = order[start : start + self._batch_size]
            m = len(rows)
            batches = self._room(m)
            x, y, v, *_ = batches
            self._x[rows].toarray(out=x)
            np.take(targets, rows, axis=0, out=y, mode="clip")
            if (weights := self._sample_weight) is not None:
                np.take(weights, rows, out=v, mode="clip")
            loss = self._train(batches, rule._replace(step=rule.step + number))
            share = m if v is None or self._by_size else float(v.sum(dtype=np.float64))
            total, shares = total + share * loss, shares + share
        return total / shares

    def _room(self, m: int) -> Batches:
        """Memory for a batch of m samples: the same for all of them, so that what they have in common is kept."""
        if m not in self._rooms:
            y = np.empty((m, *self._task.targets.shape[1:]), self._task.targets.dtype)
            v = None if self._sample_weight is None else np.empty(m, self._sample_weight.dtype)
            self._rooms[m] = Batches(self._dense[:m], y, v, np.arange(m, dtype=np.int64), self._batch_size)
        return self._rooms[m]

    def _train(self, batches: Batches, rule: OptimizerSpec) -> float:
        """Train for an epoch: with those of other fits where they are gathered."""
        if current() is not None:
            return self._asked((batches,), (rule,))[0]
        what = self._network, self._params, batches, self._task.objective, rule
        loss, _ = active().train_epoch(*what, kept=self._kept)
        return float(loss)

    def _asked(self, batches: tuple[Batches, ...], rules: tuple[OptimizerSpec, ...]) -> list[float]:
        outcome = ask(Request(self._network, self._params, batches, self._task.objective, rules))
        if outcome.error is not None:
            raise outcome.error
        return outcome.losses


def _as_kernels_read(x: Array, params: Array) -> Array:
    """A view of the samples, whose shape and strides nobody else can set, or a copy in a dtype that kernels read."""
    return x.view() if x.dtype in (FLOAT32, FLOAT64) else x.astype(params.dtype)


def _own_rows(x: Any) -> Any:
    """A copy in rows of a sparse matrix, whose indices are checked: scipy trusts them."""
    rows = x.tocsr(copy=True)
    rows.check_format()
    return rows
