"""Training on data that come in pieces: what ``fit`` does where it is given a source of chunks in the place of arrays.

An epoch goes through the chunks in an order of their own, store by store. The samples in a store are shuffled and train
by the epoch that arrays are trained by; those that do not fill an update go over to the next store. So batches are as
large as those of arrays, and a source of one chunk trains to the bits of its arrays.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..chunks import Source, is_array
from ..nn import losses
from ..nn.stack import Stack
from ..transaction import Copies
from ..validation import Array, any_array, depth, features, own_view, positive_int, sample_weights
from .arrays import ARRAYS, check_again
from .class_weights import check_labels, of_classes
from .compiled import epoch_of
from .evaluation import refuse_beside
from .labels import NAMES
from .plan import Plan, check_batches, prepare
from .reading import Reading, Store
from .replay import find_batch
from .resuming import opened
from .sources import Chunk, Form, names_in
from .supply import Supply, Trainer

_BYTES = 1 << 27  # of a buffer whose size is not given


class Pieces(Supply):
    """The samples of a source.

    Parameters
    ----------
    source : Source
    form : Form
    buffer : int
        How many samples are held, half of which train while the other half are read.
    of_classes : ndarray (outputs,) or None
        The weights of classes.

    Attributes
    ----------
    counts : tuple of int or None
        The chunks and the samples of the last epoch, None before the first.
    """

    measures_training = False  # that would take the data once more

    def __init__(self, source: Source, form: Form, buffer: int, of_classes: Array | None) -> None:
        self.source, self.form, self.buffer, self._of_classes = source, form, buffer, of_classes

    def samples(self, plan: Plan) -> int:
        """Return how many samples the last epoch had, 0 before the first."""
        return 0 if self.counts is None else self.counts[1]

    def described(self, plan: Plan) -> dict[str, Any]:
        """Return what a checkpoint tells the data by."""
        x, y = self.form.described()
        return {
            "X": ["chunks", *x],
            "y": ["chunks", *y],
            "buffer": self.buffer,
            "sample_weight": self.form.is_weighted,
            "class_weight": self._of_classes,
            "validation data": plan.validation and plan.validation.described(),
        }

    def trainer(self, stack: Stack, plan: Plan, most: int) -> "PieceTrainer":
        """Return what trains."""
        return PieceTrainer(stack, plan, self)


def prepared(stack: Stack, x: Any, y: Any, *, buffer: Any, **settings: Any) -> Plan:
    """Check the arguments of a fit on arrays, or where there is no y on a source of chunks, and change nothing."""
    if y is None and not is_array(x):
        return prepare_stream(stack, x, buffer=buffer, **settings)
    refuse_beside(x, y)
    if buffer is not None:
        raise ValueError(f"buffer is {buffer!r}, but X and y are arrays, of which nothing is held: leave it out")
    return prepare(stack, x, y, check_later=True, **settings)


def prepare_stream(
    stack: Stack,
    source: Any,
    *,
    buffer: int | None,
    batch_size: int,
    accumulate: int,
    validation_split: Any,
    sample_weight: Any,
    class_weight: Any,
    metrics: Any,
    checkpoint: Any,
    checkpoint_every: Any,
    classes: Array | None,
    **settings: Any,
) -> Plan:
    """Check the arguments of a fit on a source of chunks, of which it looks at the first; nothing is changed.

    All are read where labels are names that are not known yet, or class weights are to be balanced.
    """
    given = Source(source)
    if sample_weight is not None:
        raise ValueError("sample_weight is given beside a source: let each of its chunks be (X, y, sample_weight)")
    if validation_split is not None:
        raise ValueError("validation_split needs arrays: leave chunks out of the source, and give validation_data")
    if metrics and settings["validation_data"] is None:
        raise ValueError(
            "metrics of a source are those of validation data, since others would read all chunks once more: give "
            "validation_data"
        )
    batch_size, accumulate = positive_int("batch_size", batch_size), positive_int("accumulate", accumulate)
    held = None if buffer is None else positive_int("buffer", buffer)
    first = given.first()
    with given.at(0):  # or nothing would say that it is of a chunk
        features(first[0], stack.n_in, stack.dtype)
    loss = losses.resolve(settings["loss"])
    y = own_view(first[1])
    is_named = losses.takes_names(loss) and depth(y) == 1 and any_array("y", y).dtype.kind in NAMES
    counts: Array | None = None
    if is_named and classes is None:
        classes, counts = names_in(given)
    plan = prepare(
        stack,
        first[0],
        y,
        batch_size=batch_size,
        accumulate=accumulate,
        sample_weight=None,
        metrics=metrics,
        classes=classes,
        in_pieces=True,
        **settings,
    )
    weights: Array | None = None
    if class_weight is not None:
        check_labels(loss, plan.y)
        if counts is None:
            counts = np.zeros(plan.outputs)
            if isinstance(class_weight, str) and class_weight == "balanced":
                counts = Form(stack, loss, plan.outputs, plan.classes).counts(given)
        weights = of_classes(class_weight, counts, plan.outputs, plan.classes)
    form = Form(stack, loss, plan.outputs, plan.classes, weights)
    with given.at(0):
        form.checked(first)
    plan.x, plan.y, plan.sample_weight = form.empty
    plan.batch_size, plan.accumulate = batch_size, accumulate
    if held is None:
        sample = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in form.empty if a is not None)
        held = max(2 * batch_size * accumulate, _BYTES // max(sample, 1))
    plan.supply = Pieces(given, form, held, weights)
    kept = plan.checkpoint = opened(checkpoint, checkpoint_every)
    if kept is not None:
        kept.check(stack, plan)
    return plan


class PieceTrainer(Trainer):
    """What trains for an epoch, store by store.

    The plan that it trains by is one of arrays, which are set to the samples of some chunks after others.

    Parameters
    ----------
    stack : Stack
    plan : Plan
    pieces : Pieces
    """

    def __init__(self, stack: Stack, plan: Plan, pieces: Pieces) -> None:
        part = dataclasses.replace(plan, supply=ARRAYS)
        super().__init__(stack, part, epoch_of(stack, part))
        self._pieces, self._accumulate = pieces, plan.accumulate
        self._rng = stack.rng if plan.shuffle else None
        self._group = plan.batch_size * plan.accumulate
        self._half = max(1, pieces.buffer // 2)
        self._stores = [Store(pieces.form.empty, self._half) for _ in range(2)]

    def draw(self) -> Array:
        """Return the order of the chunks of an epoch."""
        return self._pieces.source.draw(self._rng)

    def __call__(self, order: Array, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of an epoch after ``step`` updates, chunks in this order, and the batch that failed, or -1.

        Raises
        ------
        ValueError, TypeError
            If a chunk is not like the first one, there are not as many as in the epoch before, the last batch is too
            small for a layer, or all weights are zero.
        """
        part = self._plan
        losses_of, shares = [], []
        made = batches = 0
        with self._reading(order) as reading:
            for rows in self._rows_in_turn(reading):
                rates = self._rates(lr, step, made, len(rows))
                loss, failed = self._heard(rows, rates, step + made)
                if failed >= 0:
                    return loss, batches + failed
                losses_of.append(loss)
                shares.append(part.weight_of(rows))
                made += -(-len(rows) // self._group)
                batches += -(-len(rows) // part.batch_size)
            self._count(reading)
        total = sum(shares)
        if total == 0:
            raise ValueError("the weights in all chunks of the source are zero, expected at least one that is positive")
        return (losses_of[0] if len(losses_of) == 1 else float(np.dot(losses_of, shares) / total)), -1

    def replay(self, order: Array, lr: float | Array, last: Copies) -> int:
        """Train an epoch that failed once more, as :func:`find_batch` does, and return the batch that it finds."""
        part, step, made, batches = self._plan, self._plan.optimizer.steps, 0, 0
        with self._reading(order) as reading:
            for rows in self._rows_in_turn(reading):
                rates = self._rates(lr, step, made, len(rows))
                is_found, batch = find_batch(self._train, part, rows, rates, last)
                if is_found:
                    break
                made += -(-len(rows) // self._group)
                batches += batch + 1
                batch = -1
        return batches + batch

    def check_again(self) -> None:
        """Raise ValueError if parameters or data are why numbers are not finite; all weights here may be zero."""
        check_again(self._stack, self._plan)
        v = self._plan.sample_weight
        if v is not None and v.any():
            sample_weights(v, len(v), self._stack.dtype)

    def _reading(self, order: Array) -> Reading:
        return Reading(self._pieces.source, order, self._pieces.form, self._stores, self._half)

    def _rows_in_turn(self, reading: Reading) -> Iterator[Array]:
        """Set the plan to some samples after others, and yield their order: whole updates, but for the last."""
        rest: Chunk | None = None
        for held, is_last in reading.stores():
            if is_last:
                samples = reading.samples
                check_batches(self._stack, samples, min(self._plan.batch_size, samples))
            rows = np.arange(len(held.x))
            if self._rng is not None:
                self._rng.shuffle(rows)
            if rest is not None:
                missing = self._group - len(rest.x)
                rest, rows = rest.followed_by(held.part(rows[:missing])), rows[missing:]
                if len(rest.x) == self._group or is_last:
                    self._set(rest)
                    yield np.arange(len(rest.x))
                    rest = None
            if rest is None:
                end = len(rows) - (0 if is_last else len(rows) % self._group)
                if end:
                    self._set(held, end)
                    yield rows[:end]
                if end < len(rows):
                    rest = held.part(rows[end:])

    def _set(self, held: Chunk, n: int | None = None) -> None:
        part = self._plan
        part.x, part.y, part.sample_weight = held
        n = len(held.x) if n is None else n
        part.accumulate = min(self._accumulate, -(-n // part.batch_size))

    def _rates(self, lr: float | Array, step: int, made: int, n: int) -> float | Array:
        """The learning rate, or those of the updates that n samples make, where ``made`` have been made."""
        count = -(-n // self._group)
        if isinstance(lr, float) or len(lr) >= made + count:
            return lr if isinstance(lr, float) else lr[made : made + count]
        # In the first epoch nobody knows how many there will be.
        optimizer = self._plan.optimizer
        return optimizer.rates(optimizer.epoch, step + made, count)

    def _count(self, reading: Reading) -> None:
        before, now = self._pieces.counts, (reading.chunks, reading.samples)
        if before is not None and before != now:
            raise ValueError(
                f"the source gave {now[0]} chunks with {now[1]} samples, but {before[0]} with {before[1]} in the epoch "
                "before: it must give the same ones in each epoch"
            )
        self._pieces.counts = now
