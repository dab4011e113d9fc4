"""Models, estimators and pipelines as ONNX."""

import os
from typing import Any

from .. import files
from ..ensemble import Ensemble
from ..libraries import library
from ..model import Sequential
from ..validation import FloatType, float_dtype
from .onnx_ensemble import of_ensemble
from .onnx_layers import of_model
from .onnx_message import message_of
from .onnx_sklearn import of_estimator


def to_onnx(
    model: Any, path: str | os.PathLike[str] | None = None, *, scores: bool = False, dtype: FloatType | None = None
) -> Any:
    """Return a model or an ensemble, or an estimator of fastnn.sklearn or a pipeline that ends in one, as ONNX.

    Runtimes of ONNX then predict without fastnn, to rounding. The input is "X" (m, n_in), and what comes out is that of
    ``predict`` and ``predict_proba``: after a cross-entropy "label" and "probabilities", else "outputs" as ``predict``
    has them. Estimators have the outputs that skl2onnx gives those of scikit-learn, with ``zipmap`` off: "label" (m,),
    as int64 or strings as in ``classes_``, and "probabilities" (m, k), or "variable" (m, k) for regressors.

    Parameters
    ----------
    model : Sequential, Ensemble, estimator, Pipeline or search
        Of an ensemble it is the mean, as its ``predict`` has it, and of a search the best estimator. StandardScaler,
        MinMaxScaler and MaxAbsScaler before an estimator are written here; with any other step the pipeline is left to
        skl2onnx, which has to be installed.
    path : path, optional
        A file to write too, replaced whole or not at all.
    scores : bool
        Of a model: whether the only output is "scores", what ``forward`` returns, or ``outputs`` of an ensemble.
    dtype : {"float32", "float64"}, optional
        Of the input and of all numbers, those of the model unless given.

    Returns
    -------
    onnx.ModelProto
        Of operator set 17, which has passed ONNX's checker.

    Raises
    ------
    ImportError
        If onnx is missing, or skl2onnx where it is needed.
    TypeError
        If it is no such model, or a layer is not built in: that has no form in ONNX.
    ValueError
        If an estimator is not fitted, a weight is not finite, the width of the input is not known, or the message were
        larger than 2 GiB.

    Notes
    -----
    A column of codes that an :class:`Embedding` takes must hold codes: ``predict`` checks them, but there a number with
    a fraction is cut. The error function of ``GELU()`` is computed in float32, since runtimes have no other.

    Examples
    --------
    >>> import fastnn as fnn
    >>> from fastnn.interop import to_onnx
    >>> model = fnn.Sequential(fnn.Linear(4, 8), fnn.ReLU(), fnn.Linear(8, 3))
    >>> to_onnx(model, "model.onnx")  # doctest: +SKIP
    """
    onnx = library("onnx", "onnx", "to_onnx")
    wanted = None if dtype is None else float_dtype(dtype)
    if isinstance(model, Sequential):
        message = message_of(onnx, *of_model(model, wanted, scores))
    elif isinstance(model, Ensemble):
        message = message_of(onnx, *of_ensemble(model, wanted, scores))
    else:
        if scores:
            raise ValueError(
                "scores is True, which is for a Sequential or an Ensemble: an estimator gives labels and probabilities"
            )
        made = of_estimator(model, wanted)
        message = message_of(onnx, *made) if isinstance(made, tuple) else made
    if path is not None:
        data = message.SerializeToString()
        files.replace(path, lambda file: file.write(data))
    return message
