"""fastnn: train and run neural networks on the CPU, from NumPy arrays, at the speed of the hardware."""

from . import datasets, initializers, schedules
from ._warmup import warmup
from .activations import GELU, Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from .backend import get_num_threads, set_num_threads, use_backend
from .callbacks import EarlyStopping
from .dropout import Dropout
from .errors import DivergenceError
from .gradient_check import check_gradients
from .history import History
from .layers import Layer
from .linear import Linear
from .losses import CrossEntropy, Huber, Loss, SquaredError
from .model import Sequential, load
from .normalisation import LayerNorm
from .ops import (
    adam_update,
    adamw_update,
    cross_entropy,
    cross_entropy_and_gradient,
    cross_entropy_backward,
    gelu,
    gelu_backward,
    huber,
    huber_and_gradient,
    huber_backward,
    identity,
    identity_backward,
    layer_norm,
    layer_norm_backward,
    leaky_relu,
    leaky_relu_backward,
    linear,
    linear_backward,
    log_softmax,
    logsumexp,
    matmul,
    momentum_update,
    nesterov_update,
    relu,
    relu_backward,
    sgd_update,
    sigmoid,
    sigmoid_backward,
    softmax,
    squared_error,
    squared_error_and_gradient,
    squared_error_backward,
    tanh,
    tanh_backward,
)
from .optimizers import SGD, Adam, AdamW, Optimizer
from .profiling import Profile, profile

__version__ = "0.1.0"

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "CrossEntropy",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "History",
    "Huber",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "Optimizer",
    "Profile",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SquaredError",
    "Tanh",
    "adam_update",
    "adamw_update",
    "check_gradients",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "cross_entropy_backward",
    "datasets",
    "gelu",
    "gelu_backward",
    "get_num_threads",
    "huber",
    "huber_and_gradient",
    "huber_backward",
    "identity",
    "identity_backward",
    "initializers",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "load",
    "log_softmax",
    "logsumexp",
    "matmul",
    "momentum_update",
    "nesterov_update",
    "profile",
    "relu",
    "relu_backward",
    "schedules",
    "set_num_threads",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "squared_error",
    "squared_error_and_gradient",
    "squared_error_backward",
    "tanh",
    "tanh_backward",
    "use_backend",
    "warmup",
]


def __dir__() -> list[str]:
    return sorted(__all__)
