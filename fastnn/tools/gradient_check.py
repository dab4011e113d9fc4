"""Central differences against backward, to see whether gradients are right, a user's own layers and loss included."""

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..model import Sequential
from ..nn import losses
from ..nn.loss import Loss
from ..nn.losses import LossName
from ..nn.lowering import aligned_zeros
from ..nn.stack import Stack
from ..training.labels import coded
from ..validation import FLOAT64, Array, features, number, positive_int


def check_gradients(
    model: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: LossName | Loss | None = None,
    l2: float = 0.0,
    n_checks: int = 1000,
) -> float:
    """Compare the gradients of backward with central differences and return the largest relative error.

    A copy of the model in float64 is compared, so the model itself is left alone. Right gradients give about 1e-8, or
    1e-5 where a ReLU's kink lies close; a wrong one gives 1e-3 and more.

    Parameters
    ----------
    model : Sequential
        :class:`Dropout` drops the same units in each pass. Layers of your own must give the same result each time;
        float32 arrays that they hold as attributes are widened to float64.
    X : array_like (m, n_in)
    y : array_like (m,) or (m, n_out)
    loss : name, or an object with forward and backward methods, optional
        As of :meth:`Sequential.fit`; the model's own by default, or cross-entropy where it has none yet.
    l2 : float
        The factor λ >= 0 of the penalty Σ W².
    n_checks : int
        How many numbers at most are compared in each array: spread evenly, first and last included.

    Returns
    -------
    float
        The largest, over all parameters and X itself, of |backward - difference| / largest gradient of that array;
        an array whose gradients are all below a thousandth of the model's largest counts against that thousandth.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as ``fit`` takes it.

    Notes
    -----
    (f(w + h) - f(w - h)) / 2h with h = ∛eps max(1, |w|), whose error is of order h².
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model is {model!r}, expected a Sequential")
    loss = losses.resolve(loss if loss is not None else model.loss or "cross_entropy")
    l2, n_checks = number("l2", l2, least=0), positive_int("n_checks", n_checks)
    stack = _widened(model)
    x = np.array(features(X, stack.n_in, FLOAT64), np.float64)
    y = coded(y, model.classes_)[0] if losses.takes_names(loss) else y
    targets = losses.targets(loss, y, len(x), stack.output_width(x), FLOAT64)

    drawn = stack.rng.bit_generator.state

    def outputs() -> Array:
        stack.rng.bit_generator.state = drawn
        return stack.forward(x, training=True)

    def objective() -> float:
        return losses.value(loss, outputs(), targets, None) + l2 * stack.sum_of_squares()

    _, dy = losses.value_and_gradient(loss, outputs(), targets, None)
    dx = stack.backward(dy, l2)
    ours = [stack.leaves[i] for i in stack.spans]
    pairs = [(p, g) for layer in ours for p, g in zip(layer.parameters(), layer.gradients(), strict=True)]
    trained = [p for p, rate in stack.user_moves() if rate is not None]
    pairs += [*zip(trained, stack.user_gradients(), strict=True), (x, dx)]
    pairs = [(p, np.array(g, np.float64)) for p, g in pairs]
    floor = max(float(np.abs(g).max()) for _, g in pairs if g.size) / 1000
    return max(_relative_error(objective, p, g, floor, n_checks) for p, g in pairs if g.size)


def _relative_error(objective: Any, p: Array, gradient: Array, floor: float, n_checks: int) -> float:
    largest, scale = 0.0, max(float(np.abs(gradient).max()), floor)
    for flat in np.unique(np.linspace(0, p.size - 1, n_checks).astype(np.int64)):
        at = np.unravel_index(flat, p.shape)
        kept = p[at]
        h = p.dtype.type(np.cbrt(np.finfo(p.dtype).eps) * max(1.0, abs(float(kept))))
        p[at] = kept + h
        above, step = objective(), float(p[at])
        p[at] = kept - h
        below, step = objective(), step - float(p[at])
        p[at] = kept
        difference = (above - below) / step
        error = abs(float(gradient[at]) - difference)
        scale = max(scale, abs(difference))
        largest = max(largest, error)
    return largest / scale if largest else 0.0


def _widened(model: Sequential) -> Stack:
    """Return a float64 copy of the layers of ``model``."""
    stack = copy.deepcopy(model._stack)
    params = aligned_zeros(stack.params.size, FLOAT64)
    params[:] = stack.params
    stack.bind(params)
    for layer in stack.user_layers():
        for name, value in list(getattr(layer, "__dict__", {}).items()):
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                setattr(layer, name, value.astype(np.float64))
    return stack
