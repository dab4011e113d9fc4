"""Networks that ask for epochs, as the compiled epoch of networks side by side takes them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...codes import ROW
from ..losses import LOSSES
from ..network.layers import describe
from ..network.whole import pieces_of
from ..side_by_side import count_lanes
from ..simd.address import address, aligned_zeros
from ..updates import FUSED, PER_STEP, RULES
from .epoch import train_side_by_side
from .inference import ROWS, forward_side_by_side
from .memory import COUNTS, DONE, FIELDS, PARAMS
from .objectives import REALS, Counts, Objective
from .room import Room, Use, loss_in_lanes, room_for
from .steps import Step
from .whole import Whole, train_whole_side_by_side


def train_lanes(jobs: Any) -> Iterable[tuple[list[float], bool]]:
    """Train up to ``count_lanes`` networks of the same ``lane_key``; see ``fastnn.reference.side_by_side``."""
    first = jobs[0]
    dtype = first.params.dtype
    width, epochs = count_lanes(dtype), max(len(job.batches) for job in jobs)
    batch = max(min(job.batches[0].batch_size, len(job.batches[0].order)) for job in jobs)
    use = Use(batch, len(first.rules[0].slots), first.objective.loss, first.batches[0].y.ndim == 1)
    room = room_for(first.network, first.params, width, use)
    each, losses = np.zeros((width, FIELDS), np.int64), np.zeros((epochs, width))
    orders = [_describe(job, row) for job, row in zip(jobs, each, strict=False)]
    counts = Counts(np.zeros((width, COUNTS), np.int64), np.zeros((REALS, width)), losses, np.zeros(width, np.int64))
    counts.whole[len(jobs) :, DONE] = 1
    settings = _side_by_side([job.network.settings for job in jobs], width)
    net = room.net._replace(settings=settings, settings_of_each=np.ascontiguousarray(settings.T))
    # Nothing that needs memory comes after the training, which nobody could repeat.
    results = ((losses[: len(job.batches), lane].tolist(), not counts.failed[lane]) for lane, job in enumerate(jobs))
    objective, step = _objective(jobs, width), _step(jobs, room, epochs, width)
    if first.rules[0].clip_norm is None and step.accumulate == 1:
        train_side_by_side(net, each, objective, step, room.memory, room.rows, counts)
    else:
        whole = _whole(jobs, width)
        train_whole_side_by_side(net, each, objective, step, whole, room.memory, room.rows, counts)
    del orders
    return results


def forward_lanes(jobs: Any, x: np.ndarray, out: np.ndarray, softmax: bool = False) -> bool:
    """Run up to ``count_lanes`` networks of the same ops on every sample; see ``fastnn.reference.side_by_side``.

    Lanes without a network do once more what the first does.
    """
    network, params = jobs[0]
    width = count_lanes(params.dtype)
    room = room_for(network, params, width, Use(min(ROWS, len(x)), 0, "", True))
    each, outs = np.zeros((width, FIELDS), np.int64), np.zeros(width, np.int64)
    each[:, PARAMS] = [address(params) for _, params in jobs] + [address(params)] * (width - len(jobs))
    outs[:] = [address(part) for part in out] + [address(out[0])] * (width - len(jobs))
    settings = _side_by_side([network.settings for network, _ in jobs], width)
    net = room.net._replace(settings=settings, settings_of_each=np.ascontiguousarray(settings.T))
    samples = np.array(describe(x, params.dtype), np.int64)
    counts = np.zeros((width, COUNTS), np.int64)
    return bool(forward_side_by_side(net, each, counts, samples, room.memory, outs, len(jobs), len(x), softmax))


def _describe(job: Any, row: np.ndarray) -> np.ndarray:
    """Fill in a network's row of the table, and return what it points to that nobody else keeps."""
    batches = job.batches[0]
    orders = np.concatenate([batches.order for batches in job.batches])
    has_labels = batches.y.ndim == 1
    weights = batches.sample_weight
    row[:PARAMS] = (
        *describe(batches.x, job.params.dtype),
        address(batches.y) if has_labels else 0,
        0 if has_labels else address(batches.y),
        0 if weights is None else address(weights),
        address(orders),
        len(batches.order),
        min(batches.batch_size, len(batches.order)),
        len(job.batches),
        int(job.network.seed),
    )
    row[PARAMS : PARAMS + 1 + len(job.rules[0].slots)] = [address(job.params), *map(address, job.rules[0].slots)]
    return orders


def _side_by_side(numbers: Any, width: int) -> np.ndarray:
    """The numbers (n,) of each network as (n, width); lanes without one have those of the first."""
    rows = np.array([*numbers, *[numbers[0]] * (width - len(numbers))], np.float64)
    return np.ascontiguousarray(rows.T)


def _objective(jobs: Any, width: int) -> Objective:
    first = jobs[0].objective
    dtype = jobs[0].params.dtype
    own = loss_in_lanes(first.loss)
    settings = _side_by_side([job.objective.settings for job in jobs], width)
    l2 = np.zeros(width)
    l2[: len(jobs)] = [job.objective.l2 for job in jobs]
    return Objective(
        own.address(dtype) if own else 0,
        0 if own else LOSSES[first.loss].address(dtype),
        settings,
        np.ascontiguousarray(settings.T),
        l2,
        first.reduction.value,
        first.reduction.gradient,
        first.reduction.penalty_per_batch,
        first.reduction.mean_over_rows,
    )


def _step(jobs: Any, room: Room, epochs: int, width: int) -> Step:
    rule = jobs[0].rules[0]
    settings, made = np.ones((epochs, len(rule.settings), width)), np.zeros((epochs, width), np.int64)
    for lane, job in enumerate(jobs):
        for epoch, each in enumerate(job.rules):
            settings[epoch, :, lane], made[epoch, lane] = each.settings, each.step
    prepare, update = RULES[rule.name].addresses(jobs[0].params.dtype)
    rates = _rates(jobs, epochs, width)
    return Step(
        fused=rule.name in FUSED,
        prepare=prepare,
        update=update,
        settings=settings.reshape(-1),
        n_settings=len(rule.settings),
        rates=rates.reshape(-1),
        n_rates=rates.shape[1],
        scales=_scales(jobs, width),
        slots=room.slots,
        n_slots=len(rule.slots),
        made=made,
        accumulate=rule.accumulate,
        given=np.zeros((len(rule.settings), width)),
        prepared=np.zeros((PER_STEP, width)),
        own=np.zeros(PER_STEP),
        places=np.zeros(1 + len(rule.slots), np.int64),
        block=room.block,
    )


def _whole(jobs: Any, width: int) -> Whole:
    """The memory for the gradients of all networks, and their greatest norms."""
    params, spans = jobs[0].params, jobs[0].network.spans
    gradient, factors = (aligned_zeros(shape, params.dtype) for shape in ((params.size, width), (width,)))
    clips = jobs[0].rules[0].clip_norm is not None
    norms = np.ones(width)
    if clips:
        norms[: len(jobs)] = [job.rules[0].clip_norm for job in jobs]
    factors[:] = 1
    return Whole(
        clips=clips,
        gradient=gradient,
        touched=np.zeros((params.size if spans[:, ROW].any() else 0, width), np.int64),
        heads=np.zeros((width, len(spans)), np.int64),
        pieces=pieces_of(spans, params.size),
        norms=norms,
        factors=factors,
        sums=np.zeros((width, width)),
    )


def _rates(jobs: Any, epochs: int, width: int) -> np.ndarray:
    """The learning rates (epochs, n, lanes) of all updates, of which there are none where each epoch has one."""
    most = max(0 if rule.rates is None else len(rule.rates) for job in jobs for rule in job.rules)
    if most:
        most = max(-(-len(batches.order) // batches.batch_size) for job in jobs for batches in job.batches)
    rates = np.ones((epochs, most, width))
    for lane, job in enumerate(jobs if most else ()):
        for epoch, rule in enumerate(job.rules):
            count = most if rule.rates is None else len(rule.rates)
            rates[epoch, :count, lane] = rule.settings[0] if rule.rates is None else rule.rates
    return rates


def _scales(jobs: Any, width: int) -> np.ndarray:
    """The factor of the learning rate of each op (n_ops, lanes), of which there are none where all are 1."""
    networks = [job.network for job in jobs]
    if all(network.scales is None for network in networks):
        return np.empty((0, width))
    ones = np.ones(len(networks[0].ops))
    return _side_by_side([ones if network.scales is None else network.scales for network in networks], width)
