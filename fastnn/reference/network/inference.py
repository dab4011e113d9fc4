"""A forward pass over a network that is data, see ``epoch``."""

import importlib

import numpy as np

from ...codes import (
    ADD,
    BIAS_AT,
    INPUTS,
    KEEPS,
    KIND,
    LINEAR,
    N_SETTINGS,
    OUTPUTS,
    SETTINGS,
    SLOPE_AT,
    SOURCE,
    TAKES_KEY,
    WEIGHT,
)
from ..activations import leaky_relu
from ..dropout import key_of
from ..matmul import linear
from ..softmax import softmax as softmax_of_rows

# Elements of a node that pass at a time, so that the memory for it does not grow with the data.
BLOCK = 1 << 18


@np.errstate(all="ignore")
def forward(network, params, x, out, softmax=False):
    """out (m, outputs of the last op) = the network's output for x (m, inputs of the first op), any strides.

    Nothing is dropped. With ``softmax`` it is the softmax of the output. Returns whether x is finite in the dtype of
    ``params``; if it is not, the rows of ``out`` that belong to it are not either, or are nothing to rely on.
    """
    rows = max(32, BLOCK // int(network.ops[:, [INPUTS, OUTPUTS]].max()))
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


def forward_arguments(network, dtype, softmax=False):
    """What a quick way forward takes beside samples and parameters: there is none."""
    return None


def values(network, params, x, t=0):
    """The output of every op for the samples x of the batch that update t takes."""
    sources = {int(op[SOURCE]) for op in network.ops if op[KIND] == ADD}
    nodes = {}
    for i, op in enumerate(network.ops):
        if i in sources:
            nodes[i] = x
        y = np.empty((len(x), op[OUTPUTS]), params.dtype)
        if op[KIND] == ADD:
            np.add(x, nodes[int(op[SOURCE])], out=y)
        elif op[KIND] == LINEAR:
            linear(x, *weight_and_bias(op, params), y)
            if op[SLOPE_AT] >= 0:
                leaky_relu(y, network.settings[op[SLOPE_AT]], y)
        else:
            twins(network.names[i])[0](x, *parameters_of(network, i, params), *arguments_of(network, i, t), y)
        yield y
        x = y


def twins(name):
    """The function of that name and its gradient; what has no gradient of its own is linear and its own.

    A name that is none of ours has the functions along.
    """
    package = importlib.import_module(__package__.rpartition(".")[0])
    if not hasattr(package, name):
        return lambda *arrays: package.own(name, *arrays), lambda *arrays: package.own_backward(name, *arrays)
    function = getattr(package, name)
    return function, getattr(package, f"{name}_backward", function)


def rows_of(name):
    """The function that tells which rows of a parameter a batch has a gradient for."""
    return getattr(importlib.import_module(__package__.rpartition(".")[0]), f"{name}_rows")


def arguments_of(network, i, t):
    """What the twin of an operation takes besides arrays: its settings, and a key where it draws random numbers."""
    op = network.ops[i]
    settings = network.settings[op[SETTINGS] :][: op[N_SETTINGS]].tolist()
    return [*settings, key_of(network.seed, t, i) + network.row] if op[KEEPS] & TAKES_KEY else settings


def parameters_of(network, i, params):
    """The parameters of an operation as flat views."""
    return [params[start : start + size] for op, _, start, size, *_ in network.spans if op == i]


def weight_and_bias(op, params):
    """The weight (d, k) and the bias (k,) of a linear op as views; a missing bias is zeros."""
    n_in, n_out, w_at, b_at = op[[INPUTS, OUTPUTS, WEIGHT, BIAS_AT]]
    bias = params[b_at : b_at + n_out] if b_at >= 0 else np.zeros(n_out, params.dtype)
    return params[w_at : w_at + n_in * n_out].reshape(n_in, n_out), bias
