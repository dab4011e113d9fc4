"""Models in the formats of others: ONNX, PyTorch, Keras, safetensors; callbacks for MLflow, TensorBoard and Optuna.

Each function imports its library when it is called, and says which extra of fastnn installs it. Nothing here is
imported by ``import fastnn``.
"""

from typing import TYPE_CHECKING

from ..libraries import on_demand

if TYPE_CHECKING:
    from .keras import from_keras
    from .loggers import MLflowLogger, OptunaPruning, TensorBoardLogger
    from .onnx_read import from_onnx
    from .onnx_sklearn import register_converters
    from .onnx_write import to_onnx
    from .tensors import from_safetensors, to_safetensors
    from .torch_read import from_torch
    from .torch_write import to_torch

_MODULES = {
    "keras": ("from_keras",),
    "loggers": ("MLflowLogger", "OptunaPruning", "TensorBoardLogger"),
    "onnx_read": ("from_onnx",),
    "onnx_sklearn": ("register_converters",),
    "onnx_write": ("to_onnx",),
    "tensors": ("from_safetensors", "to_safetensors"),
    "torch_read": ("from_torch",),
    "torch_write": ("to_torch",),
}

__all__ = [
    "MLflowLogger",
    "OptunaPruning",
    "TensorBoardLogger",
    "from_keras",
    "from_onnx",
    "from_safetensors",
    "from_torch",
    "register_converters",
    "to_onnx",
    "to_safetensors",
    "to_torch",
]

__getattr__, __dir__ = on_demand(globals(), _MODULES)
