"""The contenders, one module each, which imports its library.

A module has a NAME and whatever of these its library can do: `Trainer` (an object with prepare, run and layers).
"""

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

OURS = "fastnn"

# Key on the command line: the modules that it needs, and what to say where they are missing.
_TORCH = "pip install torch, from PyTorch's CPU index to spare yourself the CUDA build"
PEERS = {
    "numpy": (("numpy",), "pip install numpy"),
    "sklearn": (("sklearn",), "pip install scikit-learn"),
    "torch": (("torch",), _TORCH),
    "torch_compile": (("torch",), _TORCH),
    "jax": (("jax",), "pip install jax"),
}


def missing(key: str) -> str | None:
    """What to install for a peer, or None where nothing is missing."""
    needs, advice = PEERS[key]
    return None if all(importlib.util.find_spec(module) for module in needs) else advice


def load(keys: Iterable[str]) -> list[ModuleType]:
    """fastnn's module and those of the peers."""
    return [importlib.import_module(f"peers.{key}") for key in ("ours", *keys)]
