"""The contenders, one module each, which imports its library.

A module has a NAME and what its library can do of these:

- `Trainer(problem)`, with `prepare()`, `run()`, `layers()` and `moments()`, and `FlushingTrainer`, which does the same
  with subnormal numbers taken for zero, where the library can be told to; `trains(network)`, where there are networks
  that the library cannot train,
- `at_precision(level)`, a context in which products of float32 are less exact, where the library has that,
- `product(a, b)`, `rows(s, y)` and `predictor(layers, x)`, which return what is to be timed.
"""

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType
from typing import Any

OURS = "fastnn"

# Key on the command line: the modules that it needs, and what to say where they are missing.
_TORCH = "pip install torch, from PyTorch's CPU index to spare yourself the CUDA build"
_ONNX = (("onnx", "onnxruntime"), "pip install onnx onnxruntime")
PEERS: dict[str, tuple[tuple[str, ...], str]] = {
    "numpy": (("numpy",), "pip install numpy"),
    "twin": (("numpy",), "pip install numpy"),
    "scipy": (("scipy",), "pip install scipy"),
    "sklearn": (("sklearn",), "pip install scikit-learn"),
    "torch": (("torch",), _TORCH),
    "torch_compile": (("torch",), _TORCH),
    "jax": (("jax",), "pip install jax"),
    "onnxruntime": _ONNX,
    "onnxruntime_bound": _ONNX,
}


def missing(key: str) -> str | None:
    """What to install for a peer, or None where nothing is missing."""
    needs, advice = PEERS[key]
    return None if all(importlib.util.find_spec(module) for module in needs) else advice


def load(keys: Iterable[str], ability: str) -> list[ModuleType]:
    """fastnn's module and those of the peers, as far as they have the ability."""
    return [module for key in ("ours", *keys) if hasattr(module := load_one(key), ability)]


def load_trainers(keys: Iterable[str], network: Any) -> list[ModuleType]:
    """Those that train this network."""
    return [module for module in load(keys, "Trainer") if not hasattr(module, "trains") or module.trains(network)]


def load_one(key: str) -> ModuleType:
    """The module of a contender."""
    return importlib.import_module(f"{__name__}.{key}")


def key_of(module: ModuleType) -> str:
    """What `load_one` takes."""
    return module.__name__.removeprefix(f"{__name__}.")
