"""The model: layers one after the other, trained, asked and saved."""

import os
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import serialization
from .chunks import Chunks, is_source
from .nn import losses
from .nn.layered import Layered
from .nn.loss import Loss, linked
from .nn.losses import LossName
from .nn.optimizer import Optimizer
from .nn.optimizers import OptimizerName
from .training import distributed
from .training.callbacks import Callback, begun
from .training.evaluation import evaluate, of_each_chunk
from .training.fit import run
from .training.history import History
from .training.labels import as_fitted
from .training.metrics import Metrics
from .training.streaming import prepared
from .validation import (
    Array,
    FloatType,
)


class Sequential(Layered):
    """A neural network: layers one after the other.

    Parameters
    ----------
    *layers : Layer
        Built-in layers, or objects of your own with ``forward`` and ``backward`` methods (see :class:`fastnn.Layer`).
    dtype : {"float32", "float64"}
        The dtype of all parameters and outputs.
    seed : int or None
        Where the initial weights, the order of the samples and the units that :class:`Dropout` drops come from; None
        for another one each time.

    Attributes
    ----------
    layers : tuple of layers
    dtype : numpy.dtype
    history : History
        Of the last ``fit``, as far as it came.
    classes_ : ndarray or None
        The labels that outputs stand for, sorted, if ``fit`` got any that are strings or objects.

    Raises
    ------
    ValueError
        If there is no layer, widths do not meet, a layer is used twice, or the dtype is another one.
    TypeError
        If something is not a layer.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fnn
    >>> model = fnn.Sequential(fnn.Linear(2, 8), fnn.Tanh(), fnn.Linear(8, 2), seed=1)
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> history = model.fit(X, y, optimizer=fnn.Adam(lr=0.1), epochs=100, verbose=0)
    >>> model.predict(X)
    array([0, 1, 1, 0])
    """

    def __init__(self, *layers: Any, dtype: FloatType = "float32", seed: int | None = 0) -> None:
        self._loss: Any = None
        self._classes: Array | None = None
        self._flat = False
        self.history = History()
        super().__init__(*layers, dtype=dtype, seed=seed)  # last: from then on the layers belong to it

    @property
    def loss(self) -> Loss | None:
        """The loss that the outputs are meant for, which decides what ``predict`` returns and ``evaluate`` measures.

        ``fit`` sets it. Set it yourself, by name or as an object, after training step by step.
        """
        result: Loss | None = self._loss
        return result

    @loss.setter
    def loss(self, loss: LossName | Loss) -> None:
        self._loss = losses.resolve(loss)

    @property
    def classes_(self) -> Array | None:
        """The labels that outputs stand for, sorted, if ``fit`` got any that are strings or objects, else None."""
        return self._classes

    def fit(
        self,
        X: ArrayLike | Chunks,
        y: ArrayLike | None = None,
        *,
        loss: LossName | Loss = "cross_entropy",
        optimizer: OptimizerName | Optimizer = "sgd",
        l2: float = 0.0,
        epochs: int = 10,
        batch_size: int = 32,
        accumulate: int = 1,
        shuffle: bool = True,
        validation_data: tuple[ArrayLike, ArrayLike] | Chunks | None = None,
        validation_split: float | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | ArrayLike | None = None,
        callbacks: Iterable[Callback] | None = None,
        metrics: Metrics | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int | timedelta = 1,
        buffer: int | None = None,
        comm: Any = None,
        stripes: int | None = None,
        sync: Literal["step", "epoch"] = "step",
        verbose: int = 1,
    ) -> History:
        """Train the model: minimise mean(loss_i) + l2 Σ W² over batches of the samples.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks where y is left out
            Finite numbers. float32, float64 and uint8 in any memory layout, memory maps included, are never copied. A
            source is a list, an object that can be iterated again and again, or a function that returns an iterator,
            of chunks (X, y) or (X, y, sample_weight) of one kind, as many each time. Chunks are read one after the
            other in another thread and held for a moment only.
        y : array_like (m,) or (m, n_out)
            Labels or targets whose rows sum to 1 for cross-entropy; values for other losses, 0 to 1 for the binary
            cross-entropy and counts >= 0 for Poisson's. Integer labels are 0..n_out-1, held as int64, and targets are
            held in the model's dtype: another dtype costs a copy. Labels that are strings or objects name the outputs
            in their order, see :attr:`classes_`: there is one output for each, or a single one for two under binary
            cross-entropy. :meth:`predict` returns them, and they stay those names in further fits with such labels.
        loss : name, or an object with forward and backward methods
            "cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "pinball" or "poisson";
            an object such as ``CrossEntropy(label_smoothing=0.1)``, or of your own (see :class:`ElementwiseLoss` and
            :class:`Loss`).
        optimizer : {"sgd", "adam", "adamw", "rmsprop"}, SGD, Adam, AdamW, RMSprop or UpdateRule
            An object keeps its state, so fitting the same model again with it continues. A function as learning rate
            is called before each epoch, for the first one before anything changes. A subclass of your own makes its
            own updates, layer by layer.
        l2 : float
            The factor λ >= 0 of the sum of all squared weights of linear layers; biases are not penalised.
        epochs, batch_size, accumulate : int
            An update takes the gradient of ``accumulate`` batches, as if they were one. The last may be smaller.
        shuffle : bool
            Whether each epoch takes the samples in another order: of a source the chunks, where it has a length and
            can be indexed, and then the samples among those that are held.
        validation_data : (X, y), or a source of chunks, optional
            Evaluated after each epoch, without the penalty. The chunks of a source are read once more for it, one at a
            time, and weighted where they hold weights; see :meth:`evaluate`.
        validation_split : float, optional
            Instead of ``validation_data``, the share of the samples to set aside for it, > 0 and < 1: drawn at random,
            of each class where y holds integer labels, of which each keeps a sample to train on. Nothing is copied.
            The model's seed decides which samples these are, so they are the same in the next ``fit`` with these data.
        sample_weight : array_like (m,), optional
            Finite weights >= 0, not all zero.
        class_weight : dict, "balanced" or array_like (n_out,), optional
            For labels under cross-entropy: the weight >= 0 of each class, which that of each of its samples is
            multiplied by. A dict by labels, or a series of pandas by its index, leaves out classes of weight 1;
            "balanced" gives class c the weight m / (k · m_c), for m samples of k classes, m_c of them in c. Validation
            data are not weighted.
        callbacks : iterable of functions, such as [:class:`EarlyStopping`], optional
            Each is called after each epoch as ``callback(model, epoch, values)``, with the epoch from 1 and the values
            that the history got for it; if one returns True, training stops there. An object that is called may have
            more methods: ``begin(model, names)`` is called before anything changes, with the names of the values to
            come, and also with ``optimizer=``, the one that is used, where it takes an argument of that name;
            ``end(model)`` is called however the training ends; ``after_batch(model, epoch, batch, loss)`` is called
            after each update, both counted from 1, and costs a compiled call an update in place of one an epoch. With
            ``state_dict()`` and ``load_state_dict(state)`` a ``checkpoint`` keeps what it needs to go on: numbers,
            texts, arrays, and lists and dicts of these.
        metrics : list of names and functions, or dict of names to them, optional
            What the history holds beside the losses: the value for the training data, computed after the epoch and
            without weights, and, with "val_" before its name, that for the validation data. After a cross-entropy
            "accuracy", "balanced_accuracy" and "f1", the mean over the classes, or over binary outputs, of which it is
            that of 1; else "mse", "rmse", "mae" and "r2" of what :meth:`predict` returns, means over the outputs. A
            function is called as ``function(y, outputs)``, with integer labels (m,) or targets (m, n_out) and what
            :meth:`forward` returns, which it may only read, and returns a number.
        checkpoint : path, optional
            A file from which the same call goes on, should this one not come to its end: with the weights, the state
            of the optimizer and of callbacks, the generator and the history, so to the same bits. ``epochs`` may be
            larger then, any other argument must be as it was. A training that is over is there at once.
        checkpoint_every : int or datetime.timedelta
            After how many epochs, or after how much time, it is written; at the end and after Ctrl-C it always is.
        buffer : int, optional
            How many samples of a source are held in memory: half of them train, shuffled, while the others are read. By
            default as many as take 128 MiB. A chunk is never divided.
        comm : mpi4py.MPI.Comm, optional
            The processes that train this model together, each with a share of the samples, of any size, and of the
            validation data. ``batch_size`` is that of all, and all other arguments must be the same. They begin with
            the model and the optimizer of the first and have the same bits at all times. What one raises ends all.
        stripes : int, optional
            With ``comm``, into how many parts all samples are cut, a power of two: the result is then the same to the
            bit on any number of processes that divides it, see :func:`fastnn.rank_rows`.
        sync : {"step", "epoch"}
            With ``comm``, whether gradients are added up for every update, or each process trains by itself for an
            epoch, after which the means of all parameters are taken.
        verbose : {0, 1}
            1 shows a bar with the values of the last epoch, with tqdm on a terminal or in a notebook, else a line an
            epoch.

        Returns
        -------
        History
            history["loss"] is the mean over the batches of an epoch, each at the weights it was computed with and
            penalty included; "val_loss" and, after a cross-entropy, "val_accuracy" are there with validation data, and
            whatever ``metrics`` ask for.

        Raises
        ------
        OSError
            If the checkpoint cannot be read, or, after an epoch, written.
        RankError
            If another process raised something else than ValueError and TypeError, which come with its number.
        ValueError, TypeError
            If an argument is not as described, the model or the optimizer is busy training, parameters are not finite,
            or the checkpoint is damaged or that of a call with other arguments, which are named; later, if a learning
            rate turns out wrong before its epoch, or the loss is not finite because the arrays given were changed to
            what is refused above.
        DivergenceError
            If a loss or a parameter is no longer finite; the model keeps the last finite weights.

        Notes
        -----
        Whatever else is raised within the first epoch, MemoryError and exceptions of your own layers, loss and metrics
        included, has changed nothing: not the model, its history and random generator, and not the optimizer. What is
        raised later leaves all of them as at the end of the last whole epoch, and an exception of a callback as it
        found them.

        Ctrl-C ends the training after the current epoch, with ``history.interrupted`` true. A second one raises
        KeyboardInterrupt as soon as Python hears it: at once among layers of your own, in validation and callbacks, but
        not within a compiled epoch, after which all that came meanwhile counts as one. ``history.stopped`` tells
        whether a callback ended the training.
        """
        settings: dict[str, Any] = {
            "loss": loss,
            "optimizer": optimizer,
            "l2": l2,
            "epochs": epochs,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "shuffle": shuffle,
            "validation_data": validation_data,
            "validation_split": validation_split,
            "sample_weight": sample_weight,
            "class_weight": class_weight,
            "callbacks": callbacks,
            "metrics": metrics,
            "checkpoint": checkpoint,
            "checkpoint_every": checkpoint_every,
            "buffer": buffer,
            "verbose": verbose,
        }
        if comm is not None:
            return distributed.fit(self, X, y, comm, stripes, sync, settings)
        distributed.needs_comm(stripes, sync)
        plan = prepared(self._stack, X, y, classes=self._classes, **settings)
        alone = self._stack.held(threading.get_ident())
        with alone, plan.optimizer.held(), begun(self, plan) as should_stop:
            return run(self, plan, should_stop)

    def predict(self, X: ArrayLike | Chunks) -> Array:
        """Return what the outputs mean, as the loss that the model was trained with says.

        After cross-entropy that are the labels (m,) of the largest scores, int64 or those of :attr:`classes_`; after
        binary cross-entropy 1 or 0 for each output (m, n_out), int64; after Poisson's loss the means e^s (m, n_out),
        else the outputs (m, n_out). One output for which ``fit`` got targets (m,) comes as (m,).

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks
            As of :meth:`forward`. A source is what :meth:`fit` takes, or an iterator: it is gone through once, and its
            targets and weights are not looked at. Its chunks may also be arrays X without any, and the answers to all
            come one after the other.

        Raises
        ------
        ValueError
            If the model does not know its loss yet, because it was neither fitted nor told (``model.loss = ...``), or
            X is not as in :meth:`forward`, or a source gives no chunk.
        TypeError
            If X does not hold real numbers.
        """
        if self._loss is None:
            raise ValueError(
                "predict cannot know whether the outputs are class scores: fit the model first, set "
                "model.loss = 'cross_entropy' or 'squared_error', or use forward"
            )
        if type(X) is not np.ndarray and is_source(X, alone=True):
            return of_each_chunk(self.predict, X, "predict(X)")
        outputs = self._stack.outputs(X)  # type: ignore[arg-type]  # which is no source
        return as_fitted(losses.predictions(self._loss, outputs), self._classes, self._flat)

    def predict_proba(self, X: ArrayLike | Chunks) -> Array:
        """Return the probability (m, n_out) of each class: the softmax of the outputs.

        After binary cross-entropy that of a 1: the sigmoid of each output, in one column where there is one output.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks
            As of :meth:`predict`.

        Raises
        ------
        ValueError
            If the model was trained with a loss whose outputs stand for no probabilities, or X is not as in
            :meth:`forward`.
        TypeError
            If X does not hold real numbers.
        """
        link = losses.of_probabilities(self._loss)
        if type(X) is not np.ndarray and is_source(X, alone=True):
            return of_each_chunk(self.predict_proba, X, "predict_proba(X)")
        outputs = self._stack.outputs(X, softmax=link == "softmax")  # type: ignore[arg-type]  # which is no source
        return linked(link, outputs)

    def evaluate(
        self,
        X: ArrayLike | Chunks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> dict[str, float]:
        """Return {"loss"} and, after a cross-entropy, "accuracy": the share of samples whose label is predicted.

        The loss is that of :attr:`loss` without the penalty. Where y holds targets (m, k) of classes the label is the
        largest; after binary cross-entropy it is the share of outputs that are right.

        Parameters
        ----------
        X : array_like (m, n_in), or a source of chunks where y is left out
            A source is what :meth:`fit` takes, or an iterator: it is gone through once. The means are those over all
            of its samples, which may be more than fit into memory.
        y : array_like (m,) or (m, n_out)
        sample_weight : array_like (m,), optional
            Finite weights >= 0, not all zero, for both means.
        metrics : list of names and functions, or dict of names to them, optional
            What to return as well, see :meth:`fit`; those that are named are weighted too. They are of all samples
            together, so of a source targets and outputs are held.

        Raises
        ------
        ValueError, TypeError
            If the model does not know its loss (see :meth:`predict`), or an argument is not as in :meth:`fit`.
        """
        if self._loss is None:
            raise ValueError("evaluate needs a loss: fit the model first, or set model.loss = 'cross_entropy'")
        classes = self._classes if losses.takes_names(self._loss) else None
        return evaluate(self._stack, self._loss, classes, X, y, sample_weight, metrics)

    def save(self, path: str | os.PathLike[str] | BinaryIO, optimizer: Optimizer | None = None) -> None:
        """Save layers, weights, dtype and loss as an .npz file without pickle; see :func:`fastnn.load`.

        Parameters
        ----------
        path : str, path-like or binary file
            Where to. A file object is written to as it is, and must be able to seek.
        optimizer : Optimizer, optional
            The one that trained the model, whose state is saved too: ``fnn.load(path, optimizer=True)`` returns both.

        The file is written beside ``path`` and renamed, so an interrupted save leaves an earlier file whole and nothing
        else; what a killed process left of its own goes with the next save into that folder. The random generator is
        not saved: to go on to the same bits give :meth:`fit` a ``checkpoint``, or pickle model and optimizer together.

        Raises
        ------
        TypeError
            If a layer is not built in: only its own code could build it again; or if a function of an
            :class:`Activation` or an :class:`ElementwiseLoss` cannot be imported, as a lambda; or if labels are neither
            strings nor integers; or if the optimizer is not built in, or its rate a function of your own.
        ValueError
            If a weight is NaN or infinite, which :func:`fastnn.load` would not take, or the optimizer has not trained
            this model, or is training it.
        OSError
            If the file cannot be written.
        """
        serialization.write(path, self._stack, self._meaning, optimizer)

    @classmethod
    def _of(cls, content: serialization.Content) -> "Sequential":
        """Return a model as a file describes it."""
        model = cls(*content.layers, dtype=np.dtype(content.dtype))
        model._meaning = content.meaning
        return model

    @property
    def _meaning(self) -> serialization.Meaning:
        """What the outputs are meant for."""
        return serialization.Meaning(self._loss, self._classes, self._flat)

    @_meaning.setter
    def _meaning(self, meaning: serialization.Meaning) -> None:
        self._loss, self._classes, self._flat = meaning

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))}, dtype='{self.dtype}')"
