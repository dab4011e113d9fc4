"""fastnn: train and run neural networks on the CPU, from NumPy arrays, at the speed of the hardware."""

from . import datasets, initializers, schedules
from .backend import get_num_threads, set_num_threads, use_backend
from .ensemble import Ensemble, load
from .errors import DivergenceError
from .model import Sequential
from .nn.activations import GELU, Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from .nn.dropout import Dropout
from .nn.layers import Layer
from .nn.linear import Linear
from .nn.losses import CrossEntropy, Huber, Loss, SquaredError
from .nn.normalisation import LayerNorm
from .nn.optimizers import SGD, Adam, AdamW, Optimizer
from .nn.own import Activation, ElementwiseLoss, UpdateRule
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
from .tools.gradient_check import check_gradients
from .tools.profile import Profile, profile
from .tools.warmup import warmup
from .training.callbacks import EarlyStopping
from .training.checkpoint import ModelCheckpoint
from .training.fit_many import fit_many
from .training.history import History
from .training.watching import ReduceOnPlateau

__version__ = "0.1.0"

__all__ = [
    "GELU",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "CrossEntropy",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "ElementwiseLoss",
    "Ensemble",
    "History",
    "Huber",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "ModelCheckpoint",
    "Optimizer",
    "Profile",
    "ReLU",
    "ReduceOnPlateau",
    "Sequential",
    "Sigmoid",
    "SquaredError",
    "Tanh",
    "UpdateRule",
    "adam_update",
    "adamw_update",
    "check_gradients",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "cross_entropy_backward",
    "datasets",
    "fit_many",
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
