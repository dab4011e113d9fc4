"""A forward pass over a network that is data, see ``epoch``."""

import numpy as np

from . import activations
from .dropout import dropout, key_of
from .matmul import linear
from .softmax import softmax as softmax_of_rows

ACTIVATIONS = [
    (activations.identity, activations.identity_backward),
    (activations.relu, activations.relu_backward),
    (activations.leaky_relu, activations.leaky_relu_backward),
    (activations.tanh, activations.tanh_backward),
    (activations.sigmoid, activations.sigmoid_backward),
]
LEAKY_RELU = 2
DROPOUT = 2
# Elements of a node that pass at a time, so that the memory for it does not grow with the data.
BLOCK = 1 << 18


@np.errstate(all="ignore")
def forward(network, params, x, out, softmax=False):
    """out (m, outputs of the last op) = the network's output for x (m, inputs of the first op), any strides.

    Nothing is dropped. With ``softmax`` it is the softmax of the output. Returns whether x is finite in the dtype of
    ``params``; if it is not, the rows of ``out`` that belong to it are not either, or are nothing to rely on.
    """
    rows = max(32, BLOCK // int(network.ops[:, 1:3].max()))
    finite = True
    for start in range(0, len(x), rows):
        block = x[start : start + rows].astype(params.dtype, copy=False)
        finite &= bool(np.isfinite(block).all())
        *_, y = values(network, params, block)
        if softmax:
            softmax_of_rows(y, out[start : start + rows])
        else:
            out[start : start + rows] = y
    return finite


def values(network, params, x, t=0):
    """The output of every op for the samples x of the batch that update t takes; for t = 0 nothing is dropped."""
    for i, (op, slope) in enumerate(zip(network.ops, network.slopes, strict=True)):
        kind, _, n_out, _, _, activation = op
        y = np.empty((len(x), n_out), params.dtype)
        if kind == 0:
            linear(x, *weight_and_bias(op, params), y)
        elif kind == DROPOUT and t > 0:
            dropout(x, slope, key_of(network.seed, t, i), y)
        else:
            np.copyto(y, x)
        ACTIVATIONS[activation][0](y, *slope_of(activation, slope), y)
        yield y
        x = y


def weight_and_bias(op, params):
    """The weight (d, k) and the bias (k,) of a linear op as views; a missing bias is zeros."""
    _, n_in, n_out, w_at, b_at, _ = op
    bias = params[b_at : b_at + n_out] if b_at >= 0 else np.zeros(n_out, params.dtype)
    return params[w_at : w_at + n_in * n_out].reshape(n_in, n_out), bias


def slope_of(activation, slope):
    """The one argument that only the leaky ReLU has."""
    return (slope,) if activation == LEAKY_RELU else ()
