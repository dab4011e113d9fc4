"""The loss, the accuracy and other metrics, of data that a network is not trained on, and of those that it is."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn import losses
from ..nn.stack import Stack
from ..validation import Array
from .metrics import Metric, left_of, measure

if TYPE_CHECKING:
    from .plan import Plan


def validated(stack: Stack, plan: "Plan") -> dict[str, float]:
    """Return what is measured of the validation data, if there are any."""
    data = plan.validation
    if data is None:
        return {}
    measured = evaluate(stack, plan.loss, data.x, data.y, None, data.name, data.rows, plan.metrics)
    return {f"val_{name}": value for name, value in measured.items()}


def trained(stack: Stack, plan: "Plan") -> dict[str, float]:
    """Return the metrics of the training data, without weights."""
    rows = plan.rows
    outputs = outputs_of(stack, plan.x, rows)
    return measure(plan.metrics, plan.loss, plan.y if rows is None else plan.y[rows], outputs)


def outputs_of(stack: Stack, x: Array, rows: Array | None) -> list[Array]:
    """Return the outputs for x, or for the rows of it, block by block."""
    parts = [slice(start, start + stack.block) for start in range(0, len(x if rows is None else rows), stack.block)]
    return [stack.outputs(x[part if rows is None else rows[part]]) for part in parts]


def evaluate(
    stack: Stack,
    loss: Any,
    x: Array,
    y: Array,
    sample_weight: Array | None,
    name: str = "y",
    chosen: Array | None = None,
    metrics: Sequence[Metric] = (),
) -> dict[str, float]:
    """Return the loss of checked data and what else it measures, block by block under a built-in loss.

    Of x and y only the rows at ``chosen`` count where they are given, for which there are no weights. For metrics all
    outputs are held.
    """
    m = len(x) if chosen is None else len(chosen)
    rows = stack.block if losses.is_built_in(loss) else m
    totals = dict.fromkeys(("loss", *losses.measured(loss)), 0.0)
    weights = 0.0
    kept: list[Array] = []
    for start in range(0, m, rows):
        part = slice(start, start + rows) if chosen is None else chosen[start : start + rows]
        v = None if sample_weight is None else sample_weight[part]
        outputs, targets = stack.outputs(x[part]), y[part]
        if metrics:
            kept.append(outputs)
        share = len(outputs) if v is None else float(v.sum(dtype=np.float64))
        totals["loss"] += share * losses.value(loss, outputs, targets, v)
        if losses.measured(loss):
            for name_of, values in loss.measures(
                loss.predictions(outputs.copy() if metrics else outputs), targets
            ).items():
                totals[name_of] += share * mean_of(values, v) if share else 0.0
        weights += share
    if not math.isfinite(totals["loss"]):
        losses.check_again(loss, y if chosen is None else y[chosen], outputs.shape[1], stack.dtype, name)
    measured = {name_of: total / weights for name_of, total in totals.items()}
    y, v = (y, sample_weight) if chosen is None or not metrics else (y[chosen], None)
    return measured | measure(left_of(metrics, measured), loss, y, kept, v)


def mean_of(values: Array, sample_weight: Array | None) -> float:
    """Return the mean over the samples, weighted where there are weights."""
    return float(values.mean() if sample_weight is None else np.average(values, weights=sample_weight))
