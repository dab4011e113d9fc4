"""Models, one or several, from a file."""

import os
from typing import Any, BinaryIO

from . import serialization
from .ensemble import Ensemble
from .model import Sequential
from .nn.optimizer_files import restore
from .validation import flag


def load(path: str | os.PathLike[str] | BinaryIO, optimizer: bool = False) -> Sequential | Any:
    """Load what :meth:`Sequential.save` or :meth:`Ensemble.save` wrote; it predicts the same bits.

    Functions of your own, as in :class:`Activation`, are imported from the modules that the file names, and none is
    called. To import a module runs its code: take a file with such functions from those alone whom you trust with it.

    Parameters
    ----------
    path : str, path-like or binary file
    optimizer : bool
        Whether to return the optimizer as well that was saved with the model.

    Returns
    -------
    Sequential or Ensemble, or (Sequential, Optimizer)
        For type checkers a Sequential, or anything: :meth:`Ensemble.load` is an Ensemble for them too.

    Raises
    ------
    ValueError
        If the file is damaged or cut off, is no saved model, has a newer format, does not fit together, holds pickled
        data, or names a function that cannot be imported; or if the optimizer is wanted and there is none.
    TypeError
        If ``path`` is neither a path nor a file.
    OSError
        If it cannot be read.
    """
    content = serialization.read(path, flag("optimizer", optimizer))
    if isinstance(content, serialization.Content):
        model = Sequential._of(content)
        return model if content.optimizer is None else (model, restore(content.optimizer, model._stack))
    with serialization.of_content(path):
        return Ensemble(map(Sequential._of, content))
