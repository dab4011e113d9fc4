"""Networks side by side, a network in each lane of a vector; what trains them is loaded when first needed."""

import functools
import importlib
from typing import Any

import numpy as np

from ..codes import INPUTS, OUTPUTS
from ..loading import undisturbed
from .compiler.cpu import ISA
from .gemm.product import INNER_BYTES


def count_lanes(dtype: np.dtype) -> int:
    """How many networks go side by side."""
    return ISA.lanes(dtype.itemsize)


def lane_key(job: Any) -> tuple[Any, ...] | None:
    """What jobs have in common that train side by side, or None; see ``fastnn.reference.side_by_side``.

    Inner dimensions that a product takes in blocks do not come in lanes, nor does a rule of the user's.
    """
    network, params, (batches, *_), objective, (rule, *_) = job
    longest = max(batches.batch_size, int(network.ops[:, INPUTS : OUTPUTS + 1].max()))
    if hasattr(rule.name, "functions") or longest * params.dtype.itemsize > INNER_BYTES:
        return None
    return (
        network.ops.tobytes(), network.spans.tobytes(), network.names, params.dtype, batches.y.ndim, objective.loss,
        objective.reduction[2:], rule.name,
    )  # fmt: skip


def train_lanes(jobs: Any) -> list[tuple[list[float], bool]]:
    """Train up to ``count_lanes`` networks of the same ``lane_key``; see ``fastnn.reference.side_by_side``."""
    trained: list[tuple[list[float], bool]] = _jobs().train_lanes(jobs)
    return trained


@functools.cache
def _jobs() -> Any:
    return undisturbed(lambda: importlib.import_module("fastnn.kernels.lanes.jobs"))
