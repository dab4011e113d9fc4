"""The public functions: check, allocate, call the twin that the backend chose, return.

They take floats of one precision: float32 stays float32 and everything else is computed in float64. Values that are not
finite pass through: NaN in, NaN out.
"""

from .activations import (
    gelu,
    gelu_backward,
    identity,
    identity_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from .layer_norm import layer_norm, layer_norm_backward
from .losses import (
    cross_entropy,
    cross_entropy_and_gradient,
    cross_entropy_backward,
    huber,
    huber_and_gradient,
    huber_backward,
    squared_error,
    squared_error_and_gradient,
    squared_error_backward,
)
from .matmul import linear, linear_backward, matmul
from .softmax import log_softmax, logsumexp, softmax
from .updates import (
    adam_update,
    adamw_update,
    momentum_update,
    nesterov_update,
    rmsprop_momentum_update,
    rmsprop_update,
    sgd_update,
)

__all__ = [
    "adam_update",
    "adamw_update",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "cross_entropy_backward",
    "gelu",
    "gelu_backward",
    "huber",
    "huber_and_gradient",
    "huber_backward",
    "identity",
    "identity_backward",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "logsumexp",
    "matmul",
    "momentum_update",
    "nesterov_update",
    "relu",
    "relu_backward",
    "rmsprop_momentum_update",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "squared_error",
    "squared_error_and_gradient",
    "squared_error_backward",
    "tanh",
    "tanh_backward",
]
