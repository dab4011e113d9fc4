"""Stochastic training: scikit-learn's loop over epochs, with one compiled call for each.

The state of an estimator, the random numbers it draws and what it prints and warns are those of scikit-learn.
"""

import copy
import warnings
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import _multilayer_perceptron as theirs
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from ..nn.lowering import OptimizerSpec
from ..training.callbacks import asks_to_stop
from ..training.gathering import current
from ..validation import Array
from ._callbacks import begun_epoch
from ._epochs import Epochs, SampleOrder, Samples
from ._moments import Moments
from ._network import Weights, arrays_of
from ._objective import task
from ._parameters import dropout_rates, norm_of
from ._progress import Progress
from ._theirs import WEIGHTED, TheirEpochs, check_their_code, unknown_training
from ._validation import Validation

_MOST_PLACES = 1 << 16  # in the orders that wait for their epochs


def fit_stochastic(mlp: Any, x: Any, y: Array, sample_weight: Array | None, incremental: bool) -> None:
    """Train an initialised perceptron by SGD or Adam.

    Parameters
    ----------
    mlp : estimator
    x : ndarray or sparse matrix (n, d)
    y : ndarray (n, k)
    sample_weight : ndarray (n,) or None
        With the weights of the classes in it.
    incremental : bool
        Whether this is a single epoch of ``partial_fit``.
    """
    _start_optimizer(mlp, incremental)
    if mlp.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    rows, held_out = np.arange(len(y), dtype=np.int64), mlp._validation if mlp.early_stopping else None
    if mlp.early_stopping and held_out is None:
        rows, held_out = _split(mlp, rows, x, y, sample_weight)
    samples = Samples(x, y, sample_weight, _batch_size(mlp, len(rows)), _dropout(mlp))
    _check_batches(mlp, len(rows), samples.batch_size)
    passes, watched, judges = _passes(mlp, samples), _is_watched(mlp), _judges(held_out)
    order = SampleOrder(rows, mlp._random_state if mlp.shuffle else None)
    losses: list[Any] = []
    looks_ahead = not incremental and not watched and _looks_ahead(mlp, x)
    try:
        mlp._held_out = held_out
        mlp.n_iter_ = 0
        with Progress(mlp, 1 if incremental else mlp.max_iter) as progress:
            for _ in range(mlp.max_iter):
                if watched and not passes.suit():
                    passes = _passes(mlp, samples)
                if looks_ahead and not losses and isinstance(passes, _Compiled):
                    losses = passes.run_several(order.several(_certain(mlp, len(rows))))[::-1]
                epoch = begun_epoch(mlp)
                mlp.loss_ = losses.pop() if losses else passes.run(order.next())
                mlp.n_iter_ += 1
                mlp.t_ += len(rows)
                mlp.loss_curve_.append(mlp.loss_)
                is_last = _epoch_ends(mlp, judges, progress)
                if (epoch is not None and epoch.ends()) or is_last or incremental:
                    break
                if mlp.n_iter_ == mlp.max_iter:
                    _warn(
                        f"Stochastic Optimizer: Maximum iterations ({mlp.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                    )
    except KeyboardInterrupt:
        _warn("Training interrupted by user.")
    finally:
        vars(mlp).pop("_held_out", None)
    if mlp.early_stopping:
        mlp.coefs_, mlp.intercepts_ = mlp._best_coefs, mlp._best_intercepts
        if norm_of(mlp):
            mlp.norms_ = mlp._best_norms
    mlp._settle()
    if mlp.early_stopping:
        # scikit-learn goes on with the very arrays of the best epoch, which a warm start then trains in place.
        mlp._best_coefs, mlp._best_intercepts = mlp.coefs_, mlp.intercepts_
        if norm_of(mlp):
            mlp._best_norms = mlp.norms_


def _passes(mlp: Any, samples: Samples) -> "_Compiled | TheirEpochs":
    """Return passes over the samples with what the estimator has of weights, functions and optimizer at the moment."""
    left = unknown_training(mlp, samples.y)
    if left is None:
        return _Compiled(mlp, samples)
    check_their_code(mlp, left, training=True)
    return TheirEpochs(mlp, samples)


def _is_watched(mlp: Any) -> bool:
    """Whether code of the user's runs between epochs, which may put other weights or another optimizer in place."""
    return bool(mlp.callbacks) or "_fit_task" in vars(mlp) or not type(mlp).__module__.startswith("fastnn.")


def _looks_ahead(mlp: Any, x: Any) -> bool:
    """Whether several epochs may be asked for at once, because nothing but their losses counts between them.

    That saves handing the turn on in a gathering; elsewhere it would only put off an interruption.
    """
    if current() is None or mlp.verbose or mlp.early_stopping or mlp._validation is not None or issparse(x):
        return False
    return bool(mlp.solver == "adam" or mlp.learning_rate != "invscaling")


def _certain(mlp: Any, n: int) -> int:
    """Return how many epochs of n samples come in any case, since training ends only after several in vain."""
    epochs = min(mlp.n_iter_no_change - mlp._no_improvement_count + 1, mlp.max_iter - mlp.n_iter_)
    return int(max(1, min(epochs, _MOST_PLACES // n)))


def _judges(held_out: Validation | None) -> tuple[Any, ...]:
    """The samples, labels or values, and weights that scikit-learn hands to what judges an epoch."""
    judges = (None,) * 3 if held_out is None else (held_out.x, held_out.truth, held_out.sample_weight)
    return judges[: 3 if WEIGHTED else 2]


class _Compiled:
    """Compiled passes over the training samples, which update the optimizer too."""

    def __init__(self, mlp: Any, samples: Samples) -> None:
        self._mlp, self._batch_size = mlp, samples.batch_size
        self._weights = weights = mlp._own_weights()
        self._epochs = Epochs(
            weights.layout.scores if samples.dropout is None else weights.layout.with_dropout(*samples.dropout),
            weights.buffer,
            samples.x,
            task(mlp, samples.y, weights.dtype, penalty=mlp.alpha / 2, per_batch=True),
            None if samples.sample_weight is None else samples.sample_weight.astype(weights.dtype, copy=False),
            samples.batch_size,
        )
        self._moments = _moments(mlp, weights)
        self._decay = float(mlp.weight_decay) if mlp.optimizer == "adamw" else None
        self._clip_norm = None if mlp.clip_norm is None else float(mlp.clip_norm)

    def suit(self) -> bool:
        """Return whether the estimator still has the weights and moments that these passes change.

        A callback, or a method that is overridden, may have put others in their place.
        """
        weights = self._mlp._flat_weights()
        return weights is self._weights and self._moments.belong_to(self._mlp._optimizer, weights)

    def run(self, order: Array) -> np.floating[Any]:
        """Train on the samples in this order, and return the loss of the epoch."""
        loss = self._epochs.run(order, self._rule(self._mlp.t_))
        self._moments.count(-(-len(order) // self._batch_size))
        return loss

    def run_several(self, orders: list[Array]) -> list[np.floating[Any]]:
        """Train for several epochs, between which nothing changes but what the optimizer counts."""
        n = len(orders[0])
        updates, seen = -(-n // self._batch_size), self._mlp.t_
        rules = [self._rule(seen + i * n, i * updates) for i in range(len(orders))]
        losses = self._epochs.run_several(orders, rules)
        self._moments.count(len(orders) * updates)
        return losses

    def _rule(self, seen: int, updates: int = 0) -> OptimizerSpec:
        """Return the rule of an epoch, before which so many samples were seen, and updates made since the last call."""
        return self._moments.rule(seen, updates, self._decay)._replace(clip_norm=self._clip_norm)


def _epoch_ends(mlp: Any, judges: tuple[Any, ...], progress: Progress) -> bool:
    """Judge an epoch, report it, and return whether it was the last."""
    values, validation = {"loss": float(mlp.loss_)}, mlp._validation
    if validation is not None:
        unknown = len(mlp.loss_curve_) - 1 - len(mlp.validation_loss_curve_)  # epochs of fits without validation_data
        mlp.validation_loss_curve_ += [np.nan] * unknown + [validation.loss(mlp)]
        values["validation_loss"] = mlp.validation_loss_curve_[-1]
        judge = getattr(mlp._update_no_improvement_count, "__func__", None)
        if judge is not BaseMultilayerPerceptron._update_no_improvement_count:
            validation.outputs = None  # it may change the weights before it has them judged
    with progress.lines():
        if mlp.verbose:
            print(f"Iteration {mlp.n_iter_}, loss = {mlp.loss_:.8f}")
        best = vars(mlp).get("_best_coefs")
        mlp._update_no_improvement_count(mlp.early_stopping, *judges)
        if norm_of(mlp) and mlp._best_coefs is not best:
            mlp._best_norms = copy.deepcopy(mlp.norms_)
        if validation is not None:
            validation.outputs = None
        if mlp.early_stopping:
            values["validation_score"] = mlp.validation_scores_[-1]
        mlp._optimizer.iteration_ends(mlp.t_)
        stop = mlp._no_improvement_count > mlp.n_iter_no_change and _stop_or_slow_down(mlp)
    progress.advance(**values)
    for callback in mlp.callbacks or ():
        stop |= asks_to_stop(callback(mlp, mlp.n_iter_, dict(values)))
    return stop


def _warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn in the name of scikit-learn's module, where filters expect these warnings to come from."""
    line = BaseMultilayerPerceptron._fit_stochastic.__code__.co_firstlineno
    registry = vars(theirs).setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, theirs.__file__, line, theirs.__name__, registry)


def _stop_or_slow_down(mlp: Any) -> bool:
    what = "Validation score" if mlp.early_stopping else "Training loss"
    message = f"{what} did not improve more than tol={mlp.tol:f} for {mlp.n_iter_no_change} consecutive epochs."
    if mlp._optimizer.trigger_stopping(message, mlp.verbose):
        return True
    mlp._no_improvement_count = 0
    return False


def _start_optimizer(mlp: Any, incremental: bool) -> None:
    """Give the perceptron a new optimizer, unless ``partial_fit`` goes on with the one of before."""
    if incremental and hasattr(mlp, "_optimizer"):
        return
    params = mlp.coefs_ + mlp.intercepts_ + (arrays_of(mlp._own_weights().norms) if norm_of(mlp) else [])
    if mlp.solver == "sgd":
        mlp._optimizer = SGDOptimizer(
            params, mlp.learning_rate_init, mlp.learning_rate, mlp.momentum, mlp.nesterovs_momentum, mlp.power_t
        )
    else:
        mlp._optimizer = AdamOptimizer(params, mlp.learning_rate_init, mlp.beta_1, mlp.beta_2, mlp.epsilon)


def _moments(mlp: Any, weights: Weights) -> Moments:
    """Return the moments of the optimizer with which training goes on."""
    kept: Moments | None = vars(mlp).get("_moments")
    if kept is None or not kept.belong_to(mlp._optimizer, weights):
        kept = mlp._moments = Moments(mlp._optimizer, weights)
    return kept


def _dropout(mlp: Any) -> tuple[list[float], int] | None:
    """Return the rates of dropout and a seed from the estimator's generator, or None, for which nothing is drawn."""
    rates = dropout_rates(mlp, len(mlp.coefs_) - 1)
    return (rates, int(mlp._random_state.randint(np.iinfo(np.int64).max, dtype=np.int64))) if any(rates) else None


def _split(mlp: Any, rows: Array, x: Any, y: Array, sample_weight: Array | None) -> tuple[Array, Validation]:
    """Return the rows to train on, and the others as the validation set."""
    stratify = None
    if isinstance(mlp, ClassifierMixin):
        if mlp.n_outputs_ == 1:
            stratify = y
        elif mlp.stratify and mlp.out_activation_ == "softmax":
            stratify = y.argmax(axis=1)
    train, held_out = train_test_split(
        rows, random_state=mlp._random_state, test_size=mlp.validation_fraction, stratify=stratify
    )
    if len(held_out) < 2 and mlp._refuses_small_validation:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    targets = y[held_out]
    truth = mlp._label_binarizer.inverse_transform(targets) if isinstance(mlp, ClassifierMixin) else targets
    v = None if sample_weight is None else sample_weight[held_out]
    return train, Validation(x.tocsr()[held_out] if hasattr(x, "tocsr") else x[held_out], truth, targets, v)


def _check_batches(mlp: Any, n: int, batch_size: int) -> None:
    """Refuse batches of one sample where the layers need the variance of a batch."""
    if mlp.batch_norm and (n % batch_size or batch_size) < 2:
        raise ValueError(
            f"batch_size is {batch_size} for {n} samples, which leaves 1 to the last batch, but batch_norm needs 2: "
            "choose another batch_size"
        )


def _batch_size(mlp: Any, n: int) -> int:
    if mlp.batch_size == "auto":
        return min(200, n)
    if mlp.batch_size > n:
        _warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
    return int(np.clip(mlp.batch_size, 1, n))
