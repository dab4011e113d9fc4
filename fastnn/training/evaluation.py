"""The loss and the accuracy of data that a network is not trained on."""

import math
from typing import Any

import numpy as np

from ..nn import losses
from ..nn.stack import Stack
from ..validation import Array
from .plan import Validation


def validated(stack: Stack, loss: Any, data: Validation | None) -> dict[str, float]:
    """Return the values of the validation data, if there are any."""
    if data is None:
        return {}
    measured = evaluate(stack, loss, data.x, data.y, None, data.name, data.rows)
    return {f"val_{name}": value for name, value in measured.items()}


def evaluate(
    stack: Stack,
    loss: Any,
    x: Array,
    y: Array,
    sample_weight: Array | None,
    name: str = "y",
    chosen: Array | None = None,
) -> dict[str, float]:
    """Return the loss of checked data and what else it measures, block by block under a built-in loss.

    Of x, y and ``sample_weight`` only the rows at ``chosen`` count where that is given.
    """
    m = len(x) if chosen is None else len(chosen)
    rows = stack.block if losses.is_built_in(loss) else m
    totals = dict.fromkeys(("loss", *losses.measured(loss)), 0.0)
    weights = 0.0
    for start in range(0, m, rows):
        part = slice(start, start + rows) if chosen is None else chosen[start : start + rows]
        v = None if sample_weight is None else sample_weight[part]
        outputs, targets = stack.outputs(x[part]), y[part]
        share = len(outputs) if v is None else float(v.sum(dtype=np.float64))
        totals["loss"] += share * losses.value(loss, outputs, targets, v)
        if losses.measured(loss):
            for name_of, values in loss.measures(loss.predictions(outputs), targets).items():
                totals[name_of] += share * mean_of(values, v) if share else 0.0
        weights += share
    if not math.isfinite(totals["loss"]):
        losses.check_again(loss, y if chosen is None else y[chosen], outputs.shape[1], stack.dtype, name)
    return {name_of: total / weights for name_of, total in totals.items()}


def mean_of(values: Array, sample_weight: Array | None) -> float:
    """Return the mean over the samples, weighted where there are weights."""
    return float(values.mean() if sample_weight is None else np.average(values, weights=sample_weight))
