"""A forward pass of networks side by side over the same samples: the bits of each are those of ``forward``."""

from typing import NamedTuple

import numpy as np

from ...codes import INPUTS, OUTPUTS
from ..compiler.jit import inline, kernel
from ..network.inference import is_finite
from ..network.layers import Input, gather_row
from ..network.memory import VALUES
from ..simd.subnormals import flushed
from ..simd.table import cell, tables
from ..simd.transpose import lanes_to_rows
from ..simd.vector import get, lanes, pointer, shift, splat, store
from ..softmax import softmax_row
from .layers import forward
from .memory import PARAMS, node
from .steps import pack_numbers

# Samples that pass at a time.
ROWS = 64


class Places(NamedTuple):
    """The tables of networks and of where their outputs go, a lane each."""

    each: np.ndarray
    counts: np.ndarray
    outs: np.ndarray


@kernel
def forward_side_by_side(net, each, counts, samples, memory, outs, count, m, softmax):
    """Write the outputs (m, n_out) of ``count`` networks to where ``outs`` says; whether all samples are finite."""
    source = Input(samples[0], samples[1], samples[2], samples[3], samples[4])
    places = Places(each, counts, outs)
    return flushed(_forward, (tables(net), tables(places), source, tables(memory), count, m, softmax))


@inline
def _forward(net, places, source, memory, count, m, softmax):
    width, last, finite = lanes(net.params.p), net.ops.rows, True
    n_in, n_out = cell(net.ops, 0, INPUTS), cell(net.ops, last - 1, OUTPUTS)
    pack_numbers(net, places.each, PARAMS, net.params.p, memory.places.p)
    for start in range(0, m, ROWS):
        rows = min(ROWS, m - start)
        x, y = node(memory, 0, VALUES), node(memory, last, VALUES)
        for r in range(rows):
            gather_row(source, start + r, n_in, memory.rows.p)
            finite &= is_finite(memory.rows.p, n_in)
            for c in range(n_in):
                store(x.p, r * x.row + c * width, splat(x.p, get(memory.rows.p, c)))
        for i in range(last):
            forward(net, i, rows, memory, places.each, places.counts)
        for r in range(rows):
            at = (start + r) * n_out
            for c in range(0, n_out, width):
                lanes_to_rows(shift(y.p, r * y.row + c * width), min(width, n_out - c), places.outs.p, at + c)
            if softmax:
                for lane in range(count):
                    row = shift(pointer(get(places.outs.p, lane), x.p), at)
                    softmax_row(row, row, n_out)
    return finite
