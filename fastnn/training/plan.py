"""What a fit was asked for, checked before anything changes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ..chunks import is_source
from ..nn import losses, optimizers
from ..nn.lowering import Objective
from ..nn.optimizer import Optimizer
from ..nn.stack import Stack
from ..validation import (
    FLOAT64,
    Array,
    depth,
    flag,
    number,
    positive_int,
)
from .arrays import ARRAYS
from .callbacks import Callback, check_callbacks
from .evaluation import Validation, ValidationChunks, validation_chunks
from .given import Given, Once, always
from .labels import check_number
from .metrics import Metric, check_metrics, suit
from .resuming import Checkpoint, opened
from .rows import ALL, Rows
from .sources import Form
from .splitting import share_of, split
from .supply import Supply

if TYPE_CHECKING:
    from .distributed import Meeting


@dataclass
class Plan:
    """The checked arguments of a fit.

    Its arrays are views of its own where they are not copies: a callback or a thread that gives its array another shape
    or dtype moves nothing here. With ``rows`` the samples are those of x, y and ``sample_weight``, in which nothing
    else counts. ``classes`` are what the labels of y stand for where they are no integers, and ``flat`` says that there
    is one output for targets (m,). ``make_weights`` makes ``sample_weight`` again where it is of one network alone.
    ``supply`` is where the samples of an epoch come from, which need not be those arrays.
    """

    x: Array
    y: Array
    sample_weight: Array | None
    rows: Array | None
    outputs: int
    loss: Any
    optimizer: Optimizer
    lr: float | Array
    epochs: int
    l2: float
    batch_size: int
    accumulate: int
    shuffle: bool
    validation: Validation | ValidationChunks | None
    verbose: bool
    compiled: bool
    callbacks: tuple[Callback, ...]
    metrics: tuple[Metric, ...] = ()
    classes: Array | None = None
    flat: bool = False
    make_weights: Callable[[], Array | None] | None = None
    checkpoint: "Checkpoint | Meeting | None" = None
    supply: Supply = ARRAYS

    @property
    def samples(self) -> int:
        """The samples of the arrays."""
        return len(self.x) if self.rows is None else len(self.rows)

    @property
    def all_samples(self) -> int:
        """The samples of an epoch, wherever they come from."""
        return self.supply.samples(self)

    @property
    def updates(self) -> int:
        """The updates of an epoch."""
        return -(-self.all_samples // (self.batch_size * self.accumulate))

    def weight_of(self, rows: Array) -> float:
        """Return Σ of the weights of some samples, or how many they are."""
        return float(len(rows) if self.sample_weight is None else self.sample_weight[rows].sum(dtype=FLOAT64))

    @property
    def objective(self) -> Objective:
        """What the compiled epoch minimises."""
        return Objective(self.loss.operation, self.l2, losses.smoothing(self.loss, self.y), numbers=self.loss.numbers())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values of an epoch."""
        metrics = [metric.name for metric in self.metrics]
        own = metrics if self.supply.measures_training else []
        if self.validation is None:
            return "loss", *own
        measured = "loss", *losses.measured(self.loss)
        return "loss", *own, *(f"val_{name}" for name in dict.fromkeys([*measured, *metrics]))


def prepare(
    stack: Stack,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: Any,
    optimizer: Any,
    l2: float,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    validation_data: Any,
    sample_weight: ArrayLike | None,
    verbose: int,
    class_weight: Any = None,
    accumulate: int = 1,
    callbacks: Iterable[Callback] | None = None,
    metrics: Any = None,
    rows: Rows = ALL,
    validation_rows: Rows = ALL,
    validation_split: float | None = None,
    checkpoint: Any = None,
    checkpoint_every: Any = 1,
    classes: Array | None = None,
    check_later: bool = False,
    in_pieces: bool = False,
    once: Once = always,
    total: Callable[[], int] | None = None,
) -> Plan:
    """Check the arguments of a fit, without changing anything.

    ``classes`` are those that the model has from before. With ``check_later`` it may be left to ``run`` to find out
    whether X and y are finite. With ``in_pieces`` more samples are to come, and nothing is said of how many; ``total``
    returns how many an epoch has where others hold some of them.
    """
    loss, optimizer = losses.resolve(loss), optimizers.resolve(optimizer)
    l2, shuffle = number("l2", l2, least=0), flag("shuffle", shuffle)
    epochs, batch_size = positive_int("epochs", epochs), positive_int("batch_size", batch_size)
    accumulate = positive_int("accumulate", accumulate)
    if verbose not in (0, 1):
        raise ValueError(f"verbose is {verbose!r}, expected 0 or 1")
    callbacks, metrics = check_callbacks(callbacks), check_metrics(metrics)
    kept = opened(checkpoint, checkpoint_every)
    seed = stack.seed if kept is None or kept.seed is None else kept.seed
    optimizer.check(stack.dtype)
    if losses.is_built_in(loss):
        loss.check(stack.dtype)
    for layer in stack.built_in:
        layer.check(stack.dtype)
    if stack.is_frozen:
        raise ValueError("all layers with parameters are frozen: set trainable=True for those that are to be trained")
    stack.check_finite()
    compiled = stack.network is not None and losses.is_built_in(loss) and optimizers.is_built_in(optimizer)
    # A first linear layer lets no value that is not finite pass unseen: the first epoch ends with weights that are not
    # finite either. So this check, which takes longer than an epoch of a small network, can wait for such an end.
    check = not (check_later and compiled and stack.starts_linear and validation_split is None)
    given = Given(once, loss, stack.dtype)
    data, x, places = x, *given.features(x, stack.n_in, rows, "X", check)
    stack.check_codes(x, "X", places)
    is_flat = depth(y) == 1
    y, classes = given.coded(y, classes, places)
    k = stack.output_width(x if places is None else x[places[:1]])
    check_number(classes, k, losses.classes_of(loss, k))
    _check_one_validation(validation_data, validation_rows, validation_split)
    validation: Validation | ValidationChunks | None = None
    if validation_data is not None and is_source(validation_data):
        validation = validation_chunks(validation_data, Form(stack, loss, k, classes, n_in=x.shape[1]))
    elif validation_data is not None:
        validation = given.pair(stack, validation_data, x.shape[1], k, classes)
    elif validation_rows.value is not None:
        x_val, chosen = given.features(data, stack.n_in, validation_rows, "X", True)
        stack.check_codes(x_val, "X", chosen)
        validation = Validation(x_val, given.targets(y, len(x_val), k, chosen, "y", True), chosen, "y")
    y = given.targets(y, len(x), k, places, "y", check)
    if validation_split is not None:
        labels = losses.labels_of(loss, y)
        places, chosen = split(share_of(validation_split), len(x), places, labels, seed)
        validation = Validation(x, y, chosen, "y")
    samples = total() if total is not None else len(x) if places is None else len(places)
    if not in_pieces:
        check_batches(stack, samples, min(batch_size, samples))
    suit(metrics, loss, y, k)

    def weights() -> Array | None:
        return given.weights(sample_weight, class_weight, y, k, places, classes)

    weights_of_samples, batch_size = weights(), min(batch_size, samples)
    is_known = optimizer.belongs_to(stack)
    first, step = (optimizer.epoch, optimizer.steps) if is_known else (0, 0)
    accumulate = min(accumulate, -(-samples // batch_size))
    lr = optimizer.rates(first, step, -(-samples // (batch_size * accumulate)))
    plan = Plan(
        x=x,
        y=y,
        sample_weight=weights_of_samples,
        rows=places,
        outputs=k,
        loss=loss,
        optimizer=optimizer,
        lr=lr,
        epochs=epochs,
        l2=l2,
        batch_size=batch_size,
        accumulate=accumulate,
        shuffle=shuffle,
        validation=validation,
        verbose=bool(verbose),
        compiled=compiled,
        callbacks=callbacks,
        metrics=metrics,
        classes=classes,
        flat=is_flat and k == 1,
        make_weights=weights if places is not None and class_weight is not None else None,
        checkpoint=kept,
    )
    if kept is not None:
        kept.check(stack, plan)
    return plan


def check_batches(stack: Stack, samples: int, batch_size: int) -> None:
    """Refuse batches that are too small for a layer, of which the last is the smallest."""
    last = samples % batch_size or batch_size
    for layer in stack.built_in:
        if layer.learns and last < layer.least_samples:
            raise ValueError(
                f"batch_size is {batch_size} for {samples} samples, which leaves {last} to the last batch, but "
                f"{layer!r} needs at least {layer.least_samples}: choose another batch_size"
            )


def _check_one_validation(validation_data: Any, validation_rows: Rows, validation_split: Any) -> None:
    if validation_data is validation_rows.value is validation_split is None:
        return
    given = {
        "validation_data": validation_data,
        validation_rows.name: validation_rows.value,
        "validation_split": validation_split,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"{names[0]} and {names[1]} are both given: expected one of them")
