"""Several models as one, which says the mean of what they say."""

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import ArrayLike

from . import serialization
from .chunks import Chunks, is_source
from .members import PooledMeans, Together, agree_in_meaning, alike, checked, counted, is_same, outputs_of
from .model import Sequential
from .nn import losses
from .nn.loss import BuiltInLoss, Link
from .tables import Table, TableText
from .training.evaluation import evaluate, of_each_chunk
from .training.labels import as_fitted
from .training.metrics import Metrics
from .validation import Array, DType, flag


class Ensemble(Sequence[Sequential]):
    """Models that answer together: the mean of what their outputs stand for, of probabilities after cross-entropy.

    The members may differ in layers and dtypes. They stay the models that they are: what is trained or set later on
    one of them shows here.

    Parameters
    ----------
    models : iterable of Sequential
        Of as many inputs and outputs, whose losses agree in what outputs stand for: probabilities of classes, of things
        by themselves (binary cross-entropy), logarithms of means (Poisson's loss), or values.

    Attributes
    ----------
    models : tuple of Sequential
    dtype : numpy.dtype
        The widest of the members', which results have.
    classes_ : ndarray or None
        The labels that the members' outputs stand for, as :attr:`Sequential.classes_`.

    Raises
    ------
    ValueError
        If there is no model, one comes twice, or they do not agree.
    TypeError
        If something is not a model.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fnn
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> models = [fnn.Sequential(fnn.Linear(2, 8), fnn.Tanh(), fnn.Linear(8, 2), seed=seed) for seed in range(3)]
    >>> for model in models:
    ...     history = model.fit(X, y, optimizer=fnn.Adam(lr=0.1), epochs=100, verbose=0)
    >>> ensemble = fnn.Ensemble(models)
    >>> ensemble.predict(X)
    array([0, 1, 1, 0])
    >>> ensemble.predict_proba(X).shape, ensemble.predict_proba(X, each=True).shape
    ((4, 2), (3, 4, 2))
    >>> bool(ensemble.std(X).max() < 0.1)
    True
    """

    def __init__(self, models: Iterable[Sequential]) -> None:
        self._models = checked(models)
        self._dtype: DType = np.result_type(*(model.dtype for model in self._models))

    @property
    def models(self) -> tuple[Sequential, ...]:
        """The members, in the order in which they were given."""
        return self._models

    @property
    def dtype(self) -> DType:
        """The dtype of results: the widest of the members'."""
        return self._dtype

    @property
    def classes_(self) -> Array | None:
        """The labels that the members' outputs stand for, as :attr:`Sequential.classes_`."""
        return self._models[0].classes_

    def outputs(self, X: ArrayLike, each: bool = False) -> Array:
        """Return the mean of the members' outputs, scores before any softmax or predictions, or those of each.

        Parameters
        ----------
        X : array_like (m, n_in)
            As in :meth:`Sequential.forward`.
        each : bool
            Whether to return what each member says.

        Returns
        -------
        ndarray (m, n_out), or (members, m, n_out) with ``each``

        Raises
        ------
        ValueError
            If X is empty, has another number of columns, or holds NaN or infinite values, or members have different
            numbers of outputs, where layers of your own do not say so before.
        TypeError
            If X does not hold real numbers, or ``each`` is no bool.
        """
        return self._mean(X, each, "identity")

    def predict(self, X: ArrayLike | Chunks) -> Array:
        """Return what the members say together, as the loss that they were trained with understands their outputs.

        After cross-entropy that are the labels (m,) of the largest mean probability, int64 or the members'
        :attr:`Sequential.classes_`; after binary cross-entropy 1 where the mean probability is above 1/2, else 0
        (m, n_out), int64; after Poisson's loss the mean of e^s, else the mean outputs (m, n_out). One output for which
        all members were fitted to targets (m,) comes as (m,).

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks
            As of :meth:`Sequential.predict`.

        Raises
        ------
        ValueError
            If a member does not know its loss yet, or X is not as in :meth:`outputs`.
        TypeError
            If X does not hold real numbers.
        """
        loss = self._known("predict")
        if type(X) is not np.ndarray and is_source(X, alone=True):
            return of_each_chunk(self.predict, X, "predict(X)")
        means = self._mean(X, False, losses.link(loss))
        decided = loss.decisions(means) if isinstance(loss, BuiltInLoss) else means
        return as_fitted(decided, self.classes_, all(model._flat for model in self._models))

    def predict_proba(self, X: ArrayLike | Chunks, each: bool = False) -> Array:
        """Return the mean of the members' probabilities, or those of each.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks
            As of :meth:`Sequential.predict`.
        each : bool
            Whether to return what each member says.

        Returns
        -------
        ndarray (m, n_out), or (members, m, n_out) with ``each``

        Raises
        ------
        ValueError
            If a member was trained with a loss whose outputs stand for no probabilities, or X is not as in
            :meth:`outputs`.
        TypeError
            If X does not hold real numbers, or ``each`` is no bool.
        """
        link: Link = "softmax"
        for i, model in enumerate(self._models):
            if model.loss is not None:
                link = losses.link(model.loss)
                if link not in ("softmax", "sigmoid"):
                    raise ValueError(
                        f"models[{i}] was trained with {model.loss!r}, so its outputs need not be class scores: use "
                        "outputs"
                    )
        agree_in_meaning(self._models)
        if type(X) is not np.ndarray and is_source(X, alone=True):
            return of_each_chunk(lambda x: self._mean(x, each, link), X, "predict_proba(X)", axis=-2)
        return self._mean(X, each, link)

    def std(self, X: ArrayLike | Chunks) -> Array:
        """Return how far the members are apart: the standard deviation over them of what :meth:`predict` averages.

        That are the probabilities after a cross-entropy, e^s after Poisson's loss, else the outputs. The sum of squares
        is divided by the number of members, so it is zero for one.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks
            As of :meth:`Sequential.predict`.

        Returns
        -------
        ndarray (m, n_out)

        Raises
        ------
        ValueError, TypeError
            As in :meth:`predict`.
        """
        link = losses.link(self._known("std"))
        if type(X) is not np.ndarray and is_source(X, alone=True):
            return of_each_chunk(self.std, X, "std(X)")
        return self._by_blocks(X, link, lambda outputs: outputs.std(axis=0, dtype=np.float64))

    def evaluate(
        self,
        X: ArrayLike | Chunks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> dict[str, float]:
        """Return {"loss"} of the mean and, after a cross-entropy, "accuracy": the share of labels that are predicted.

        After cross-entropy it is the loss of the mean probabilities, -log of that of the label, computed from the
        logarithms of the members' probabilities, so that none is too small for it, and likewise after binary
        cross-entropy; after Poisson's loss it is that of the mean of e^s, and after another one that of the mean
        outputs. There is no penalty in it.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks where y is left out
            As of :meth:`Sequential.evaluate`.
        y : array_like (m,) or (m, n_out)
        sample_weight : array_like (m,), optional
            Finite weights >= 0, not all zero, for both means.
        metrics : list of names and functions, or dict of names to them, optional
            What to return as well, see :meth:`Sequential.evaluate`, of the outputs (m, n_out) that stand for the mean.

        Raises
        ------
        ValueError, TypeError
            If a member does not know its loss, their losses differ, or an argument is not as in
            :meth:`Sequential.evaluate`.
        """
        loss = self._loss()
        classes = self.classes_ if losses.takes_names(loss) else None
        members = Together(self._models, self._dtype)
        return evaluate(members, loss, classes, X, y, sample_weight, metrics, PooledMeans)

    def save(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        """Save all members in one .npz file without pickle, as :meth:`Sequential.save` saves one; see :func:`load`.

        Raises
        ------
        TypeError
            If a layer is not built in, or a function cannot be imported.
        ValueError
            If a weight is NaN or infinite.
        OSError
            If the file cannot be written.
        """
        serialization.write_members(path, [(model._stack, model._meaning) for model in self._models])

    @classmethod
    def load(cls, path: str | os.PathLike[str] | BinaryIO) -> "Ensemble":
        """Load an ensemble that :meth:`save` wrote; :func:`fastnn.load` takes files of one model as well.

        Raises
        ------
        ValueError
            If the file holds one model by itself, or cannot be loaded; see :func:`fastnn.load`.
        TypeError
            If ``path`` is no path.
        OSError
            If it cannot be read.
        """
        content = serialization.read(path)
        if isinstance(content, serialization.Content):
            raise ValueError(f"{path} holds one model, no ensemble: use fastnn.load")
        with serialization.of_content(path):
            return cls(map(Sequential._of, content))

    def summary(self) -> TableText:
        """Return a table of the members, neighbours alike in one row; notebooks show it as HTML."""
        rows = []
        for model, places in alike(self._models):
            numbers = f"{places[0]}" if len(places) == 1 else f"{places[0]}-{places[-1]}"
            rows.append((numbers, model, f"{_parameters(self._models[places[0]]):,}"))
        total = sum(map(_parameters, self._models))
        size = sum(p.nbytes for model in self._models for p in model.parameters())
        note = f"{counted(len(self), 'model')}, {total:,} parameters, {size / 1024:,.1f} KiB"
        table = Table(("members", "model", "parameters of each"), rows, n_names=2, note=note)
        return TableText(table.text(), table.html())

    def __len__(self) -> int:
        return len(self._models)

    @overload
    def __getitem__(self, index: int) -> Sequential: ...
    @overload
    def __getitem__(self, index: slice) -> "Ensemble": ...
    def __getitem__(self, index: int | slice) -> "Sequential | Ensemble":
        """Return a member, or for a slice the ensemble of those in it."""
        if isinstance(index, slice):
            return Ensemble(self._models[index])
        try:
            return self._models[operator.index(index)]
        except IndexError:
            raise IndexError(f"there is no model {index}: the ensemble has {len(self)}") from None

    def __iter__(self) -> Iterator[Sequential]:
        return iter(self._models)

    def __repr__(self) -> str:
        members = ", ".join(f"{len(places)} x {model}" for model, places in alike(self._models))
        return f"<Ensemble of {counted(len(self), 'model')}: {members}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _mean(self, X: Any, each: bool, link: Link) -> Array:
        if flag("each", each):
            return outputs_of(self._models, Together(self._models, self._dtype).features(X), link, self._dtype)
        return self._by_blocks(X, link, lambda outputs: outputs.mean(axis=0, dtype=np.float64))

    def _by_blocks(self, X: Any, link: Link, reduce: Callable[[Array], Array]) -> Array:
        """Return ``reduce`` of the members' outputs (members, rows, k), so many rows at a time that memory is bounded.

        Sums in float64 cost little beside the networks, and do not depend on how many members there are.
        """
        members = Together(self._models, self._dtype)
        x = members.features(X)
        k, rows = members.output_width(x), members.block
        found = np.empty((len(x), k), self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # outputs may overflow, as a single model's
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                found[part] = reduce(outputs_of(self._models, x[part], link, self._dtype))
        return found

    def _known(self, method: str) -> Any:
        """Return a loss that says what the outputs of all members mean; they may have been trained since they came."""
        for i, model in enumerate(self._models):
            if model.loss is None:
                raise ValueError(
                    f"{method} cannot know whether the outputs of models[{i}] are class scores: fit it first, set "
                    "its loss = 'cross_entropy' or 'squared_error', or use outputs"
                )
        agree_in_meaning(self._models)
        return self._models[0].loss

    def _loss(self) -> Any:
        """Return the loss that all members were trained with."""
        first = self._models[0].loss
        for i, model in enumerate(self._models):
            if model.loss is None:
                raise ValueError(f"evaluate needs a loss, but models[{i}] has none: fit it first, or set its loss")
            if not is_same(model.loss, first):
                raise ValueError(
                    f"the loss of models[{i}] is {model.loss!r}, but that of models[0] is {first!r}: set the loss of "
                    "each to the one that is to be measured"
                )
        agree_in_meaning(self._models)
        return first


def _parameters(model: Sequential) -> int:
    return sum(p.size for p in model.parameters())
