"""scikit-learn's callbacks, from 1.9 on: what they are told of the fit of a perceptron and of its epochs.

In releases without them, and in those whose own perceptrons tell them, nothing here does anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

try:
    from sklearn.callback import CallbackSupportMixin as _Theirs
except ImportError:  # before 1.9
    _Theirs = None


class _Nothing:
    """In the place of scikit-learn's mixin."""


_IS_OURS = _Theirs is not None and not issubclass(BaseMultilayerPerceptron, _Theirs)
CallbackSupport: Any = _Theirs if _IS_OURS else _Nothing


class Task:
    """An epoch, or a fit, in which callbacks listen."""

    def __init__(self, mlp: Any, context: Any, told: dict[str, Any]) -> None:
        self._mlp, self._context, self._told = mlp, context, told
        context.call_on_fit_task_begin(estimator=mlp, **told)

    def epoch(self) -> "Task":
        """Return the next epoch of a fit."""
        return Task(self._mlp, self._context.subcontext(task_name="epoch"), self._told)

    def ends(self) -> bool:
        """Tell that it is over, and return whether a callback asks to stop."""
        stop = self._context.call_on_fit_task_end(
            estimator=self._mlp, **self._told, reconstruction_attributes=lambda: _fitted(self._mlp)
        )
        return bool(stop)


@contextmanager
def fit_task(mlp: Any, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Iterator[None]:
    """Tell the callbacks of an estimator that its fit begins, and that it has ended."""
    if incremental or not _IS_OURS or not getattr(mlp, "_skl_callbacks", None):
        yield
        return
    context = mlp._init_callback_context(max_subtasks=0 if mlp.solver == "lbfgs" else mlp.max_iter)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    task = mlp._fit_task = Task(mlp, context, {"X": X, "y": y, "metadata": metadata})
    try:
        yield
        task.ends()
    finally:
        del mlp._fit_task


def begun_epoch(mlp: Any) -> Task | None:
    """Tell the callbacks that an epoch begins; None where nobody listens."""
    task: Task | None = vars(mlp).get("_fit_task")
    return None if task is None else task.epoch()


def _fitted(mlp: Any) -> dict[str, Any]:
    """What a copy of the estimator has of its own, to predict as of now."""
    own = {name: [array.copy() for array in getattr(mlp, name)] for name in ("coefs_", "intercepts_")}
    if hasattr(mlp, "norms_"):
        own["norms_"] = [{name: array.copy() for name, array in norm.items()} for norm in mlp.norms_]
    return own
