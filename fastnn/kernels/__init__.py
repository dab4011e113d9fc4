"""Every compiled function, and the only folder that imports numba; :mod:`fastnn.reference` is its twin."""

from .activations import (
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
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
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from .dropout import dropout
from .embedding import embedding, embedding_backward, embedding_rows
from .layer_norm import layer_norm, layer_norm_backward
from .losses import cross_entropy, cross_entropy_backward, huber, huber_backward, squared_error, squared_error_backward
from .matmul import linear, linear_backward, matmul
from .network.epoch import train_epoch
from .network.inference import forward
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
    "adam_update",
    "adamw_update",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "count_lanes",
    "cross_entropy",
    "cross_entropy_backward",
    "draw_orders",
    "dropout",
    "embedding",
    "embedding_backward",
    "embedding_rows",
    "forward",
    "forward_lanes",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
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
    "momentum_update",
    "nesterov_update",
    "own",
    "own_backward",
    "own_check",
    "own_loss",
    "own_update",
    "relu",
    "relu_backward",
    "rmsprop_momentum_update",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "squared_error",
    "squared_error_backward",
    "standardize",
    "standardize_backward",
    "tanh",
    "tanh_backward",
    "train_epoch",
    "train_lanes",
]
