"""Where the time of a training step goes: layer by layer, phase by phase, beside what the machine could do at most."""

import copy
import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..backend import MODULES, active, get_num_threads
from ..codes import ADD, FROZEN, KEEPS, KIND, LINEAR, OP, TRAINED
from ..errors import DivergenceError
from ..model import Sequential
from ..nn.layers import BuiltIn
from ..nn.loss import Loss
from ..nn.losses import LossName
from ..nn.optimizer import Optimizer
from ..nn.optimizers import OptimizerName
from ..nn.stack import Stack
from ..tables import Row, Table
from ..training.compiled import Epoch, epoch_of
from ..training.plan import Plan, prepare
from ..validation import Array, number

# Seconds of a round: many short ones, of which some meet no other program.
_ROUND = 0.01
_STEP = "step"  # the name of what belongs to no layer


class Part(NamedTuple):
    """One phase of one layer, in a training step.

    Attributes
    ----------
    layer : int or None
        Where the layer stands in ``model.layers``; None for what belongs to no layer.
    name : str
        The layer, with the activation that runs as part of it, or "step".
    phase : str
        Of a layer: "forward"; "backward", the gradient at its input; "update", the gradient of its parameters and the
        step of the optimizer. Of the step: "gather", the samples of the batch; "loss", with its gradient; "rest", the
        penalty, waiting for other threads, bookkeeping. Where the model runs layer by layer, "backward" is both
        gradients, and "update" belongs to the step.
    seconds : float
    flops : int
        Floating-point operations of matrix products, 2 m n k for (m, k) times (k, n). Everything else, a layer of your
        own included, counts none.
    flops_per_second : float
    share_of_peak : float
        Of the peak of the cores that kernels may use.
    share_of_step : float
    """

    layer: int | None
    name: str
    phase: str
    seconds: float
    flops: int
    flops_per_second: float
    share_of_peak: float
    share_of_step: float


@dataclass(frozen=True, repr=False)
class Profile:
    """What :func:`fastnn.profile` found; ``print`` it for a table, which prompts and notebooks show as well.

    Attributes
    ----------
    parts : tuple of Part
        Named tuples, layer by layer and then the step's own: ``pandas.DataFrame(profile.parts)`` is a table of them.
    peak : float
        The floating-point operations a second that ``threads`` cores did in fused multiply-adds alone.
    threads : int
        The most threads that kernels may use. A step too small to gain from them runs on one all the same.
    batch_size, steps : int
        Samples of a step, and how many steps the figures are the mean of.
    dtype, backend : str
    """

    parts: tuple[Part, ...]
    peak: float
    threads: int
    batch_size: int
    steps: int
    dtype: str
    backend: str

    @property
    def seconds(self) -> float:
        """The time of a step."""
        return sum(part.seconds for part in self.parts)

    @property
    def flops(self) -> int:
        """The floating-point operations of a step's matrix products."""
        return sum(part.flops for part in self.parts)

    @property
    def flops_per_second(self) -> float:
        """Those operations over the whole time of a step."""
        return self.flops / self.seconds

    @property
    def share_of_peak(self) -> float:
        """The share of the peak that a whole step reaches."""
        return self.flops_per_second / self.peak

    def __str__(self) -> str:
        return self._table().text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        cores = "1 thread" if self.threads == 1 else f"up to {self.threads} threads"
        title = (
            f"one training step of {self.batch_size} samples, {self.dtype}, {self.backend}, {cores}, FMA peak "
            f"{self.peak / 1e9:,.0f} GFLOP/s"
        )
        header = ("layer", "phase", "µs", "of the step", "MFLOP", "GFLOP/s", "of the peak")
        rows: list[Row] = []
        before = None
        for part in self.parts:
            shown = "" if (part.layer, part.name) == before else part.name
            before = part.layer, part.name
            rows.append((shown, part.phase, *_cells(part.seconds, part.share_of_step, part.flops, part.share_of_peak)))
        total = ("total", "", *_cells(self.seconds, 1.0, self.flops, self.share_of_peak))
        return Table(header, rows, 2, title, total)


def profile(
    model: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: LossName | Loss | None = None,
    optimizer: OptimizerName | Optimizer = "sgd",
    l2: float = 0.0,
    batch_size: int = 32,
    sample_weight: ArrayLike | None = None,
    seconds: float = 1.0,
) -> Profile:
    """Train a copy of the model for a moment and return what each layer and each phase of a step costs.

    The model, its history, its random generator and the optimizer stay as they are. The figures are those of the
    fastest of several rounds of steps on the backend in use, each from the weights that the model has now, over samples
    in random order and full batches.

    Parameters
    ----------
    model : Sequential
    X, y, optimizer, l2, batch_size, sample_weight
        As for :meth:`fastnn.Sequential.fit`.
    loss : name, or an object with forward and backward methods, optional
        As of :meth:`Sequential.fit`; the model's own by default, or cross-entropy where it has none yet.
    seconds : float
        About how long to measure, > 0. Kernels are compiled before.

    Returns
    -------
    Profile
        The parts of a step, which add up to all of it.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.
    DivergenceError
        If a loss is not finite: what is timed then is no training.

    Notes
    -----
    The first layer with parameters has no backward phase: nobody needs the gradient at its input. Reading the clock
    takes some tens of nanoseconds for each part.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_digits()
    >>> model = fnn.Sequential(fnn.Linear(64, 100), fnn.ReLU(), fnn.Linear(100, 10))
    >>> result = fnn.profile(model, X, y, seconds=0.05)
    >>> [(part.name, part.phase) for part in result.parts][:2]
    [('Linear(64, 100) + ReLU()', 'forward'), ('Linear(64, 100) + ReLU()', 'update')]
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model is {model!r}, expected a Sequential")
    seconds = number("seconds", seconds, above=0)
    loss = loss if loss is not None else model.loss or "cross_entropy"
    stack, loss, optimizer = copy.deepcopy((model._stack, loss, optimizer))
    plan = prepare(
        stack,
        X,
        y,
        loss=loss,
        optimizer=optimizer,
        l2=l2,
        epochs=1,
        batch_size=batch_size,
        shuffle=True,
        validation_data=None,
        sample_weight=sample_weight,
        classes=model.classes_,
        verbose=0,
    )
    plan.optimizer.bind(stack)
    threads = get_num_threads()
    work, run = (_compiled if plan.compiled else _layer_by_layer)(stack, plan)
    with np.errstate(over="ignore", invalid="ignore"):
        spent, steps, peak = _fastest_round(stack, plan, run, seconds, threads)
    step = sum(spent.values())
    parts = []
    for (layer, name, phase, place), flops in work.items():
        time_of_part = spent[place, phase]
        rate = flops / time_of_part if time_of_part else 0.0
        parts.append(Part(layer, name, phase, time_of_part, flops, rate, rate / peak, time_of_part / step))
    backend = next(name for name, module in MODULES.items() if module == active().__name__)
    return Profile(tuple(parts), peak, threads, plan.batch_size, steps, stack.dtype.name, backend)


# The operations of each part, layer, name, phase and a place of its own, in the order of the table; and a function that
# trains on samples in the order given and returns the seconds of each (place, phase).
Work = dict[tuple[int | None, str, str, int | None], int]
Seconds = dict[tuple[int | None, str], float]
Run = Callable[[Array], Seconds]


def _compiled(stack: Stack, plan: Plan) -> tuple[Work, Run]:
    """The network as data, whose epoch fills a table of seconds, an op a row."""
    network = stack.network
    assert network is not None, "a compiled plan has a network"
    work: Work = {}
    places: dict[tuple[int | None, str], tuple[int, int]] = {}

    def add(layer: int | None, name: str, phase: str, place: tuple[int, int], flops: int = 0) -> None:
        op = None if layer is None else place[0]
        work[layer, name, phase, op] = flops
        places[op, phase] = place

    has_trained = False
    for i, (op, members) in enumerate(zip(network.ops, network.layers, strict=True)):
        layer, name = stack.places[members[0]], " + ".join(repr(stack.leaves[leaf]) for leaf in members)
        name = "x + f(x)" if op[0] == ADD else name
        product = 2 * plan.batch_size * int(op[1] * op[2]) if op[0] == LINEAR else 0
        is_linear = op[KIND] == LINEAR and not op[KEEPS] & FROZEN
        is_trained = is_linear or i in network.spans[network.spans[:, TRAINED] == 1, OP]
        add(layer, name, "forward", (i, 0), product)
        if has_trained:
            add(layer, name, "backward", (i, 1), product)
        if is_trained:
            add(layer, name, "update", (i, 2), product)
        has_trained = has_trained or is_trained
    for column, phase in enumerate(("gather", "loss", "rest")):
        add(None, _STEP, phase, (-1, column))
    table = np.zeros((len(network.ops) + 1, 3))
    train = epoch_of(stack, plan, seconds=table)

    def run(order: Array) -> Seconds:
        table[...] = 0
        _train(train, order, plan)
        return {part: float(table[place]) for part, place in places.items()}

    return work, run


def _layer_by_layer(stack: Stack, plan: Plan) -> tuple[Work, Run]:
    """The layers one by one, where one of them, the loss or the optimizer is a user's own."""
    work: Work = {}
    for i, layer in enumerate(stack.layers):
        name = repr(layer) if isinstance(layer, BuiltIn) else type(layer).__name__
        product = 2 * plan.batch_size * layer.multiply_adds if isinstance(layer, BuiltIn) else 0
        work |= {(i, name, "forward", i): product, (i, name, "backward", i): 2 * product}
    work |= {(None, _STEP, phase, None): 0 for phase in ("gather", "loss", "update", "rest")}
    spent: Seconds = defaultdict(float)
    last = 0.0

    def lap(layer: int | None, phase: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[layer, phase] += now - last
        last = now

    train = epoch_of(stack, plan, lap=lap)

    def run(order: Array) -> Seconds:
        nonlocal last
        spent.clear()
        last = time.perf_counter()
        _train(train, order, plan)
        return {(place, phase): spent[place, phase] for _, _, phase, place in work}

    return work, run


def _train(train: Epoch, order: Array, plan: Plan) -> None:
    _, failed = train(order, float(np.ravel(plan.lr)[0]), 0)
    if failed >= 0:
        raise DivergenceError(0, failed, 1)


def _fastest_round(stack: Stack, plan: Plan, run: Run, seconds: float, threads: int) -> tuple[Seconds, int, float]:
    """The seconds a step of each part in the fastest round, the steps of a round, and the peak between the rounds."""
    fma_peak = importlib.import_module("fastnn.kernels.machine").fma_peak
    arrays = [stack.params, *plan.optimizer.state(), *stack.user_parameters()]
    initial = [array.copy() for array in arrays]
    samples = np.random.default_rng(0).permutation(np.arange(len(plan.x), dtype=np.int64))

    def measure(steps: int) -> tuple[Seconds, float]:
        for array, values in zip(arrays, initial, strict=True):
            array[...] = values
        order = np.resize(samples, steps * plan.batch_size)
        start = time.perf_counter()
        spent = run(order)
        return {part: value / steps for part, value in spent.items()}, time.perf_counter() - start

    measure(1)
    steps, peak, wanted = 1, 0.0, min(seconds, _ROUND)
    while (elapsed := measure(steps)[1]) < wanted / 4:
        steps *= 2
    steps = max(1, round(steps * wanted / elapsed))
    fastest: Seconds | None = None
    end = time.perf_counter() + seconds
    while fastest is None or time.perf_counter() < end:
        spent, _ = measure(steps)
        fastest = spent if fastest is None else min(fastest, spent, key=lambda parts: sum(parts.values()))
        peak = max(peak, fma_peak(stack.dtype, 0.001, threads))
    return fastest, steps, peak


def _cells(seconds: float, share_of_step: float, flops: int, share_of_peak: float) -> tuple[str, ...]:
    """The figures of a row of the table; what has no products has no rate."""
    time_and_share = f"{seconds * 1e6:,.1f}", f"{share_of_step:.1%}"
    if not flops:
        return *time_and_share, "", "", ""
    return (
        *time_and_share,
        f"{flops / 1e6:,.3f}",
        f"{flops / seconds / 1e9 if seconds else 0:.1f}",
        f"{share_of_peak:.1%}",
    )
