"""Epochs of networks side by side, a network in each lane of a vector: the bits of each are those of ``train_epoch``.

Their parameters are packed to vectors when a call begins and unpacked when it ends, or when a network is through with
its own batches: every network has its own samples and their order, its own learning rate, penalty and settings. One
that meets a loss that is not finite keeps the parameters it came with and is reported, to be trained alone.
"""

from typing import NamedTuple

import numpy as np

from ..compiler.jit import inline, kernel
from ..network.layers import first_trained, is_updated
from ..network.memory import GRADIENT, VALUES
from ..simd.subnormals import flushed
from ..simd.table import cell, row_of, tables
from ..simd.vector import get, lanes, put
from .layers import add_sources, backward, forward, gather, sum_backward, undo_rectifier
from .memory import APART_AT, BATCH, BATCH_SIZE, COUNT, DONE, EPOCH, EPOCHS, FIRST, SAMPLES, UPDATE, node
from .objectives import SEEN, TOTAL, Group, are_alike, begin_batch, count_loss, has_penalty, loss
from .rows import update_rows
from .steps import pack, prepare, scale_step, square_all, unpack, unpack_all, update_linear, update_operation


class Each(NamedTuple):
    """The table of networks, one row a lane."""

    each: np.ndarray


@kernel
def train_side_by_side(net, each, objective, step, memory, rows, counts):
    """Train every network for its epochs, whose losses are written to ``counts``."""
    arguments = (
        tables(net), tables(Each(each)).each, tables(objective), tables(step), tables(memory), tables(rows),
        tables(counts),
    )  # fmt: skip
    return flushed(_train, arguments)


@inline
def _train(net, each, objective, step, memory, rows, counts):
    pack(net, each, step, memory)
    penalised = has_penalty(objective)
    if penalised:
        square_all(net, rows, counts)
    while True:
        m = to_gradients(net, each, objective, step, Group(0, 1), memory, rows, counts)
        if m == 0:
            break
        prepare(step, each, counts)
        for i in range(net.ops.rows - 1, -1, -1):
            scale_step(step, i, each, counts)
            if is_updated(net.ops, i):
                update_linear(net, step, i, m, memory)
            elif cell(net.ops, i, APART_AT) != 0:
                update_rows(net, step, i, m, memory, counts.whole)
            else:
                update_operation(net, step, i, m, memory, counts.whole)
        if penalised:
            square_all(net, rows, counts)
        finish(net, each, step, memory, counts)
    return 0


@inline
def to_gradients(net, each, objective, step, group, memory, rows, counts):
    """The next batch of every network up to the gradients before all ops, and its rows, 0 at the end of all."""
    m = _next_batch(each, step, group, counts)
    if m != 0:
        alike = are_alike(each, m, counts)
        for lane in range(counts.failed.rows):
            begin_batch(each, objective, lane, m, alike, group, rows, counts)
        gather(net, each, counts.whole, m, memory)
        last = net.ops.rows
        for i in range(last):
            forward(net, i, m, memory, each, counts.whole)
        loss(net, each, objective, m, alike, memory, rows, counts)
        undo_rectifier(net, last - 1, m, node(memory, last, GRADIENT), node(memory, last, VALUES), memory)
        first = first_trained(net)
        for i in range(last - 1, first - 1, -1):
            if i > first:
                backward(net, i, m, memory, each, counts.whole)
                add_sources(net, i, m, memory)
            else:
                sum_backward(net, i, m, memory, each, counts.whole)
        count_loss(each, objective, m, alike, rows, counts)
    return m


@inline
def _next_batch(each, step, group, counts):
    """Let every network begin its next batch, and return the most samples that one of them has, 0 at the end of all."""
    most, width = 0, counts.failed.rows
    for lane in range(width):
        state = row_of(counts.whole, lane)
        m = 0
        if get(state, DONE) == 0:
            if get(state, FIRST) == 0:
                made = cell(step.made, get(state, EPOCH), lane)
                put(state, UPDATE, made)
                put(state, BATCH, made * group.size)
            m = min(cell(each, lane, BATCH_SIZE), cell(each, lane, SAMPLES) - get(state, FIRST))
            put(state, UPDATE, get(state, UPDATE) + (1 if group.place == 0 else 0))
            put(state, BATCH, get(state, BATCH) + 1)
        put(state, COUNT, m)
        most = max(most, m)
    return most


@inline
def finish(net, each, step, memory, counts):
    """Let every network end its batch, its epoch, and the last of them."""
    width = lanes(memory.nodes.p)
    ended = going = 0
    for lane in range(width):
        state = row_of(counts.whole, lane)
        if get(state, COUNT) > 0:
            put(state, FIRST, get(state, FIRST) + cell(each, lane, BATCH_SIZE))
            if get(state, FIRST) >= cell(each, lane, SAMPLES):
                _end_epoch(lane, state, counts)
                if get(state, EPOCH) == cell(each, lane, EPOCHS):
                    put(state, DONE, 1)
                    ended += 1
            going += 1 if get(state, DONE) == 0 else 0
    if ended == width and going == 0 and _none_failed(counts):
        unpack_all(net, each, step, memory)
    elif ended > 0:
        for lane in range(width):
            is_last = cell(counts.whole, lane, COUNT) > 0 and cell(counts.whole, lane, DONE) == 1
            if is_last and get(counts.failed.p, lane) == 0:
                unpack(net, each, step, lane)


@inline
def _none_failed(counts):
    failed = 0
    for lane in range(counts.failed.rows):
        failed += get(counts.failed.p, lane)
    return failed == 0


@inline
def _end_epoch(lane, state, counts):
    width, epoch = counts.losses.cols, get(state, EPOCH)
    total, seen = get(counts.real.p, TOTAL * width + lane), get(counts.real.p, SEEN * width + lane)
    put(counts.losses.p, epoch * width + lane, total / seen if seen != 0.0 else 0.0)
    put(counts.real.p, TOTAL * width + lane, 0.0)
    put(counts.real.p, SEEN * width + lane, 0.0)
    put(state, EPOCH, epoch + 1)
    put(state, FIRST, 0)
