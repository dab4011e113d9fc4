"""fastnn: train and run neural networks on the CPU, from NumPy arrays, at the speed of the hardware."""

from . import datasets, initializers, schedules
from .backend import get_num_threads, set_num_threads, use_backend
from .ensemble import Ensemble, load
from .errors import DivergenceError
from .model import Sequential
from .nn.activations import (
    ELU,
    GELU,
    SELU,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from .nn.dropout import Dropout
from .nn.embedding import Embedding
from .nn.layers import Layer
from .nn.linear import Linear
from .nn.losses import CrossEntropy, Huber, Loss, SquaredError
from .nn.normalisation import BatchNorm, LayerNorm
from .nn.optimizer import Optimizer
from .nn.optimizers import SGD, Adam, AdamW, RMSprop
from .nn.own import Activation, ElementwiseLoss, UpdateRule
from .nn.residual import Residual
from .nn.standardize import Standardize
from .ops import (
    adam_update,
    adamw_update,
    cross_entropy,
    cross_entropy_and_gradient,
    cross_entropy_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hard_swish,
    hard_swish_backward,
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
    mish,
    mish_backward,
    momentum_update,
    nesterov_update,
    relu,
    relu_backward,
    rmsprop_momentum_update,
    rmsprop_update,
    selu,
    selu_backward,
    sgd_update,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softplus,
    softplus_backward,
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
    "ELU",
    "GELU",
    "SELU",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "BatchNorm",
    "CrossEntropy",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "ElementwiseLoss",
    "Embedding",
    "Ensemble",
    "HardSwish",
    "History",
    "Huber",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "Mish",
    "ModelCheckpoint",
    "Optimizer",
    "Profile",
    "RMSprop",
    "ReLU",
    "ReduceOnPlateau",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "SquaredError",
    "Standardize",
    "Tanh",
    "UpdateRule",
    "adam_update",
    "adamw_update",
    "check_gradients",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "cross_entropy_backward",
    "datasets",
    "elu",
    "elu_backward",
    "fit_many",
    "gelu",
    "gelu_backward",
    "get_num_threads",
    "hard_swish",
    "hard_swish_backward",
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
    "mish",
    "mish_backward",
    "momentum_update",
    "nesterov_update",
    "profile",
    "relu",
    "relu_backward",
    "rmsprop_momentum_update",
    "rmsprop_update",
    "schedules",
    "selu",
    "selu_backward",
    "set_num_threads",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softplus",
    "softplus_backward",
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
