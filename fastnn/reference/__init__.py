"""The NumPy twin of every kernel: the same file names, functions and arguments as :mod:`fastnn.kernels`.

It says what a kernel must compute, one formula a line, and imports nothing but NumPy, so the oracle shares no code
with what it judges. Like the kernels it writes into ``out``, checks nothing, and passes inf and NaN on in silence.
"""

from .activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    hard_swish,
    hard_swish_backward,
    identity,
    identity_backward,
    leaky_relu,
    leaky_relu_backward,
    mish,
    mish_backward,
    relu,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from .dropout import dropout
from .elementwise_losses import (
    absolute_error,
    absolute_error_backward,
    binary_cross_entropy,
    binary_cross_entropy_backward,
    pinball,
    pinball_backward,
    poisson,
    poisson_backward,
)
from .embedding import embedding, embedding_backward, embedding_rows
from .entries import quick as quick
from .layer_norm import layer_norm, layer_norm_backward
from .losses import cross_entropy, cross_entropy_backward, huber, huber_backward, squared_error, squared_error_backward
from .matmul import linear, linear_backward, matmul
from .network.epoch import train_epoch
from .network.inference import forward, forward_arguments
from .orders import draw_orders
from .own import own, own_backward, own_check, own_loss, own_update
from .side_by_side import count_lanes, forward_lanes, lane_key, lanes_pay, train_lanes
from .softmax import log_softmax, logsumexp, softmax
from .standardize import standardize, standardize_backward
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
    "absolute_error",
    "absolute_error_backward",
    "adam_update",
    "adamw_update",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "count_lanes",
    "cross_entropy",
    "cross_entropy_backward",
    "draw_orders",
    "dropout",
    "elu",
    "elu_backward",
    "embedding",
    "embedding_backward",
    "embedding_rows",
    "forward",
    "forward_arguments",
    "forward_lanes",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "hard_swish",
    "hard_swish_backward",
    "huber",
    "huber_backward",
    "identity",
    "identity_backward",
    "lane_key",
    "lanes_pay",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "logsumexp",
    "matmul",
    "mish",
    "mish_backward",
    "momentum_update",
    "nesterov_update",
    "own",
    "own_backward",
    "own_check",
    "own_loss",
    "own_update",
    "pinball",
    "pinball_backward",
    "poisson",
    "poisson_backward",
    "relu",
    "relu_backward",
    "rmsprop_momentum_update",
    "rmsprop_update",
    "selu",
    "selu_backward",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softplus",
    "softplus_backward",
    "squared_error",
    "squared_error_backward",
    "standardize",
    "standardize_backward",
    "tanh",
    "tanh_backward",
    "train_epoch",
    "train_lanes",
]
