"""Networks that ask for epochs, as the compiled epoch of networks side by side takes them."""

import functools
import math
import threading
from typing import Any, NamedTuple

import numpy as np

from ...codes import INPUTS, LENGTH, OP, OUTPUTS, START, WEIGHT
from ..compiler.jit import Shared
from ..losses import LOSSES
from ..network.layers import addressed, describe
from ..network.memory import plan_of
from ..operations import OPERATIONS
from ..side_by_side import count_lanes
from ..simd.address import address
from ..updates import FUSED, PER_STEP, RULES
from .epoch import train_side_by_side
from .layers import COUNTS, DONE, FIELDS, PARAMS, Memory, Net
from .losses import LANE_LOSSES
from .objectives import REALS, Counts, Objective, Rows
from .product import FIELDS as PANEL_FIELDS
from .product import LANE_TILES, TILES_AT
from .steps import BLOCK, Step

# More bytes are not kept from call to call.
_KEEP = 1 << 26
_LINE = 64
# Elements of a gradient of each network that are formed at once, at least.
_PIECE = 256
_local = threading.local()


class _Room(NamedTuple):
    """The memory of a call, and for which calls it does."""

    key: tuple[Any, ...]
    net: Net
    memory: Memory
    rows: Rows
    slots: np.ndarray
    block: np.ndarray


def train_lanes(jobs: Any) -> list[tuple[list[float], bool]]:
    """Train up to ``count_lanes`` networks of the same ``lane_key``; see ``fastnn.reference.side_by_side``."""
    first = jobs[0]
    dtype = first.params.dtype
    width, epochs = count_lanes(dtype), max(len(job.batches) for job in jobs)
    batch = max(min(job.batches[0].batch_size, len(job.batches[0].order)) for job in jobs)
    room = _room(first, batch, width)
    each, losses = np.zeros((width, FIELDS), np.int64), np.zeros((epochs, width))
    orders = [_describe(job, row) for job, row in zip(jobs, each, strict=False)]
    counts = Counts(np.zeros((width, COUNTS), np.int64), np.zeros((REALS, width)), losses, np.zeros(width, np.int64))
    counts.whole[len(jobs) :, DONE] = 1
    settings = _side_by_side([job.network.settings for job in jobs], width)
    net = room.net._replace(settings=settings, settings_of_each=np.ascontiguousarray(settings.T))
    train_side_by_side(
        net, each, _objective(jobs, width), _step(jobs, room, epochs, width), room.memory, room.rows, counts
    )
    del orders
    return [
        ([float(loss) for loss in losses[: len(job.batches), lane]], not counts.failed[lane])
        for lane, job in enumerate(jobs)
    ]


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
    own = _in_lanes(first.loss)
    settings = _side_by_side([job.objective.settings for job in jobs], width)
    l2 = np.zeros(width)
    l2[: len(jobs)] = [job.objective.l2 for job in jobs]
    return Objective(
        own.address(dtype) if own else 0,
        0 if own else LOSSES[first.loss].address(dtype),
        settings,
        np.ascontiguousarray(settings.T),
        l2,
        *first.reduction[2:],
    )


def _in_lanes(loss: Any) -> Shared | None:
    """The loss in lanes, if it has such a form."""
    return None if hasattr(loss, "functions") else LANE_LOSSES.get(loss)


def _step(jobs: Any, room: _Room, epochs: int, width: int) -> Step:
    rule = jobs[0].rules[0]
    settings, made = np.ones((epochs, len(rule.settings), width)), np.zeros((epochs, width), np.int64)
    for lane, job in enumerate(jobs):
        for epoch, each in enumerate(job.rules):
            settings[epoch, :, lane], made[epoch, lane] = each.settings, each.step
    prepare, update = RULES[rule.name].addresses(jobs[0].params.dtype)
    return Step(
        fused=rule.name in FUSED,
        prepare=prepare,
        update=update,
        settings=settings.reshape(-1),
        n_settings=len(rule.settings),
        slots=room.slots,
        n_slots=len(rule.slots),
        made=made,
        prepared=np.zeros((PER_STEP, width)),
        places=np.zeros(1 + len(rule.slots), np.int64),
        block=room.block,
    )


def _room(job: Any, batch: int, width: int) -> _Room:
    """The calling thread's memory for networks like this one, kept from call to call."""
    ops, names, dtype = job.network.ops.tobytes(), job.network.names, job.params.dtype
    slots, has_labels, loss = len(job.rules[0].slots), job.batches[0].y.ndim == 1, job.objective.loss
    key = ops, job.network.spans.tobytes(), names, dtype, batch, slots, has_labels, loss
    kept: _Room | None = getattr(_local, "room", None)
    if kept is not None and kept.key == key:
        return kept
    _local.room = None
    made = _make_room(key, job.network, job.params.size, width)
    if made.memory.nodes.nbytes + made.memory.rows.nbytes + made.net.params.nbytes * (1 + slots) <= _KEEP:
        _local.room = made
    return made


def _make_room(key: tuple[Any, ...], network: Any, n_params: int, width: int) -> _Room:
    shape, _, names, dtype, batch, slots, has_labels, loss = key
    ops, size = network.ops, dtype.itemsize
    plan, places = plan_of(shape, batch, size, width)
    widest, n_out = int(ops[:, INPUTS : OUTPUTS + 1].max()), int(ops[-1, OUTPUTS])
    row_ld = -(-widest // 16) * 16
    of_operations = [int((span[START] + span[LENGTH]) - ops[span[OP], WEIGHT]) for span in network.spans]
    own_ld = -(-max([_PIECE, *of_operations]) // 16) * 16
    calls_each = any(bool(name) and not OPERATIONS[name].is_elementwise for name in names) or _in_lanes(loss) is None
    matrices = 4 * batch if calls_each else 1
    aligned = functools.partial(_aligned, dtype=dtype)
    panel = np.zeros(PANEL_FIELDS, np.int64)
    panel[TILES_AT] = LANE_TILES.address(dtype)
    memory = Memory(
        plan=plan,
        nodes=aligned((places["zeros_at"],)),
        zeros=aligned((max(widest, 1) * width,)),
        factors=aligned((2, width)),
        panel=panel,
        rows=aligned((matrices * width * row_ld,)),
        row_ld=row_ld,
        lane_ld=batch * row_ld,
        own=aligned((width * own_ld,)),
        own_ld=own_ld,
        places=np.zeros((batch, width), np.int64),
    )
    rows = Rows(
        samples=np.zeros((batch, width), np.int64),
        labels=aligned((batch, width)),
        targets=aligned((0 if has_labels else batch * n_out * width,)),
        shares=np.zeros(batch * width + batch),
        losses=aligned((batch, width)),
        terms=aligned((batch, width)),
        sums=aligned((max(2 * width * width, 2 * batch),)),
        squares=aligned((width, width)),
    )
    net = Net(
        _with_kinds(shape, names, dtype), network.spans, np.empty((0, 0)), np.empty((0, 0)), aligned((n_params, width))
    )
    block = aligned((max(BLOCK, max(widest, own_ld) * width),))
    return _Room(key, net, memory, rows, aligned((max(1, slots) * n_params, width)), block)


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that start on a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


@functools.lru_cache(maxsize=64)
def _with_kinds(shape: bytes, names: tuple[str, ...], dtype: np.dtype) -> np.ndarray:
    """The ops with their addresses, and whether they map element by element."""
    ops = addressed(shape, names, dtype, True)
    kinds = [int(bool(name) and OPERATIONS[name].is_elementwise) for name in names]
    return np.hstack([ops, np.array(kinds, np.int64).reshape(-1, 1)])
