"""Networks side by side, a network in each lane of a vector; what trains them is loaded when first needed."""

import functools
import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..codes import INPUTS, LENGTH, OUTPUTS, ROW
from ..loading import undisturbed
from .compiler.cpu import ISA
from .network.layers import multiply_adds

# Multiply-adds that take as long as a step does besides them, for elements of one byte.
_ALONE, _IN_LANES = 380_000, 45_000
# Elements of tables that are copied in the time of a sample.
_COPIED = 256
# The most bytes of a layer's width or of a batch's column: what is larger is at its best alone.
_WIDEST = 4096


def count_lanes(dtype: np.dtype) -> int:
    """How many networks go side by side."""
    return ISA.lanes(dtype.itemsize)


def lane_key(job: Any) -> tuple[Any, ...] | None:
    """What jobs have in common that train side by side, or None; see ``fastnn.reference.side_by_side``.

    Wide layers and large batches do not come in lanes, nor does a rule of the user's. Where gradients are summed over
    batches, networks side by side have as many batches.
    """
    network, params, (batches, *others), objective, (rule, *_), *_ = job
    longest = max(min(batches.batch_size, len(batches.order)), int(network.ops[:, INPUTS : OUTPUTS + 1].max()))
    if hasattr(rule.name, "functions") or longest * params.dtype.itemsize > _WIDEST:
        return None
    if any(len(other.order) != len(batches.order) for other in others):
        return None
    return (
        network.ops.tobytes(), network.spans.tobytes(), network.names, params.dtype, batches.y.ndim, objective.loss,
        len(objective.settings), objective.reduction[2:], rule.name,
        rule.clip_norm is None, rule.accumulate,
        -(-len(batches.order) // batches.batch_size) if rule.accumulate > 1 else 0,
    )  # fmt: skip


def lanes_pay(network: Any, dtype: np.dtype, passes: int, count: int) -> bool:
    """Whether so many networks like this one run faster side by side than alone, for samples times passes in a step.

    A step alone costs its multiply-adds and much besides, one in lanes a little more for each and little besides, but
    lanes that are left empty cost as much. Measured with networks from 10-16-2 to 54-64-64-7. Tables of which a sample
    takes a row are copied as a whole, which few samples are not worth.
    """
    if network.spans[network.spans[:, ROW] != 0, LENGTH].sum() > _COPIED * passes:
        return False
    size, work = dtype.itemsize, multiply_adds(network.ops) * passes
    return count * (_ALONE // size + work) > ISA.lanes(size) * (_IN_LANES // size + 1.05 * work)


def train_lanes(jobs: Any) -> Iterable[tuple[list[float], bool]]:
    """Train up to ``count_lanes`` networks of the same ``lane_key``; see ``fastnn.reference.side_by_side``."""
    trained: Iterable[tuple[list[float], bool]] = _jobs().train_lanes(jobs)
    return trained


def forward_lanes(jobs: Any, x: np.ndarray, out: np.ndarray, softmax: bool = False) -> bool:
    """Run up to ``count_lanes`` networks of the same ops on every sample; see ``fastnn.reference.side_by_side``."""
    is_finite: bool = _jobs().forward_lanes(jobs, x, out, softmax)
    return is_finite


@functools.cache
def _jobs() -> Any:
    return undisturbed(lambda: importlib.import_module("fastnn.kernels.lanes.jobs"))
