"""Epochs of one network on many processes: the gradient of each update over all samples of its batches, or means.

Every process forms the gradients of its own stripes, compiled where a layer takes nothing of the whole batch, and the
sum of all is exchanged in one array, with a flag for a loss that is not finite. Then each makes the same update.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from ..backend import active
from ..nn.dropout import draw_seed
from ..nn.embedding import Embedding
from ..nn.layers import BuiltIn
from ..nn.lowering import Batches, OptimizerSpec, aligned_zeros
from ..nn.stack import Stack, no_lap
from ..nn.sums import Moves
from ..transaction import Copies
from ..validation import Array
from .arrays import ARRAYS, check_again
from .compiled import CompiledEpoch, Epoch
from .evaluation import Means, Validation, measured, outputs_of
from .layerwise import layerwise_epoch
from .metrics import left_of, measure
from .plan import Plan
from .ranks import Ranks
from .stripes import Stripes
from .supply import Supply, Trainer
from .united import Pass, Task, folded, own_places

_ALIGNED = 16


class World(Supply):
    """The processes that train a network, and the stripes of the samples of all.

    Attributes
    ----------
    has_samples, has_validation : whether this process has any of each
    weights : of each batch of the epoch, None where it is the number of its samples
    """

    runs_layers = True

    def __init__(
        self, ranks: Ranks, stripes: Stripes, sync: str, arguments: dict[str, Any], has_validation: bool
    ) -> None:
        self.ranks, self.stripes, self._sync, self._arguments = ranks, stripes, sync, arguments
        mine = slice(stripes.first, stripes.first + stripes.own)
        self.has_samples, self.has_validation = sum(stripes.sizes[mine]) > 0, has_validation
        self.weights: Array | None = None

    def samples(self, plan: Plan) -> int:
        """Return how many samples an epoch has, of all processes."""
        return self.stripes.total

    def described(self, plan: Plan) -> dict[str, Any]:
        """Return what a checkpoint tells the data of all processes by."""
        return self._arguments

    def trainer(self, stack: Stack, plan: Plan, most: int) -> "RankTrainer":
        """Return what trains."""
        epoch = StripedEpoch if self._sync == "step" else AveragedEpoch
        return RankTrainer(stack, plan, self, epoch(stack, plan, self))

    def added(self, rows: Array) -> Array:
        """Return the sum (n,) of the rows (stripes, n) of all processes; those of this one are overwritten."""
        total = folded(rows, np.add)
        self.ranks.sum(total)
        return total

    def values_after(self, stack: Stack, plan: Plan) -> dict[str, float]:
        """Return the values of an epoch beside its loss, the same in all processes."""
        values: dict[str, float] = {}
        if plan.metrics:
            own = (plan.y, outputs_of(stack, plan.x, None)) if self.has_samples else None
            values = self._measured(plan, own, {})
        data = plan.validation
        if data is None:
            return values
        assert isinstance(data, Validation), "a source was refused"
        found = None
        if self.has_validation:
            found = len(data.x), measured(Means(stack, plan.loss, False), data.x, data.y, None, data.name)
        parts = [part for part in self.ranks.gather(found) if part is not None]
        samples = sum(m for m, _ in parts)
        means = {name: sum(m * part[name] for m, part in parts) / samples for name in parts[0][1]}
        if left_of(plan.metrics, means):
            own = (data.y, outputs_of(stack, data.x, None)) if self.has_validation else None
            means |= self._measured(plan, own, means)
        return values | {f"val_{name}": value for name, value in means.items()}

    def _measured(self, plan: Plan, own: Any, known: dict[str, float]) -> dict[str, float]:
        """Metrics of the targets and outputs of all processes, which the first one computes."""
        parts, values = self.ranks.to_first(own), None
        if parts is not None:
            there = [part for part in parts if part is not None]
            y, blocks = np.concatenate([y for y, _ in there]), [block for _, own in there for block in own]
            values = measure(left_of(plan.metrics, known), plan.loss, y, blocks)
        return self.ranks.from_first(values)  # type: ignore[no-any-return]


class RankTrainer(Trainer):
    """What trains with all processes, in orders that the generator draws, the same in each.

    Parameters
    ----------
    stack : Stack
    plan : Plan
    world : World
    train : StripedEpoch or AveragedEpoch
    """

    def __init__(self, stack: Stack, plan: Plan, world: World, train: Epoch) -> None:
        super().__init__(stack, plan, train)
        self._world = world

    def draw(self) -> range:
        """Shuffle the stripes and return the places of all samples, of which a part stands for those batches."""
        plan, world = self._plan, self._world
        if plan.shuffle:
            world.stripes.shuffle(draw_seed(self._stack.rng))
        if plan.sample_weight is not None:
            batches = -(-world.stripes.total // plan.batch_size)
            own = np.zeros((world.stripes.own, batches))
            for number in range(batches):
                for i, (rows, _) in enumerate(world.stripes.batch(number)):
                    own[i, number] = plan.weight_of(rows)
            world.weights = world.added(own)
        return range(world.stripes.total)

    def check_again(self) -> None:
        """Raise ValueError if parameters or data are why numbers are not finite; the weights are no array of a user."""
        check_again(self._stack, self._plan)

    def replay(self, order: Any, lr: float | Array, last: Copies) -> int:
        """Train an epoch that failed once more, and return the batch where it failed, in every process."""
        batch = super().replay(order, lr, last)
        self._world.ranks.agree()
        return batch

    def values_after(self) -> dict[str, float]:
        """Return the values of an epoch beside its loss, the same in all processes."""
        return self._world.values_after(self._stack, self._plan)


class StripedEpoch:
    """What trains for an epoch, with an exchange for each update."""

    def __init__(self, stack: Stack, plan: Plan, world: World) -> None:
        network = stack.seeded()
        self._stack, self._plan, self._world, self._network = stack, plan, world, network
        own = stack.user_parameters()
        self._tables = [
            (i, leaf, name, shape[0])
            for i, leaf in enumerate(stack.leaves)
            if isinstance(leaf, Embedding)
            for name, shape in leaf.shapes().items()
        ]
        places = own_places(stack)
        self._user = [(slice(places[id(p)], places[id(p)] + p.size), p.shape, p.dtype) for p in own]
        self._marks = stack.params.size + sum(p.size for p in own)
        self._flags = self._marks + sum(rows for *_, rows in self._tables)
        width = -(-(self._flags + plan.accumulate) // _ALIGNED) * _ALIGNED
        dtype = np.result_type(stack.dtype, *(p.dtype for p in own))
        self._buffer = aligned_zeros((world.stripes.own, width), dtype)
        takes_all = any(leaf.sums for leaf in stack.built_in)
        self._objective = plan.objective._replace(l2=0.0) if plan.compiled and not takes_all else None
        stack.forget_gradients()  # those of an earlier pass are the user's
        seed = network.seed if network is not None else draw_seed(stack.rng) if stack.draws else 0
        self._pass = Pass(stack, plan, world.ranks, seed)

    @property
    def seed(self) -> int | None:
        """What decides which units a dropout drops, None where nothing does."""
        return self._pass.seed if self._stack.draws else None

    @seed.setter
    def seed(self, seed: int) -> None:
        self._pass.seed = seed

    def weight_of(self, part: range) -> float:
        """Return Σ of the weights of the samples of some batches, or how many they are."""
        size = self._plan.batch_size
        return float(sum(self._weight(number) for number in range(part.start // size, -(-part.stop // size))))

    def _weight(self, number: int) -> float:
        weights = self._world.weights
        return float(self._world.stripes.rows(number) if weights is None else weights[number])

    def __call__(self, order: range, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of the batches that these places stand for, and the one that failed, or -1."""
        plan, stack, size = self._plan, self._stack, self._plan.accumulate
        first, end = order.start // plan.batch_size, -(-order.stop // plan.batch_size)
        found = np.zeros((self._world.stripes.own, end - first))
        penalties, weights = np.zeros(end - first), np.array([self._weight(number) for number in range(first, end)])
        for update, start in enumerate(range(first, end, size)):
            group = range(start, min(start + size, end))
            part = slice(start - first, group.stop - first)
            penalties[part] = plan.l2 * stack.sum_of_squares() if plan.l2 else 0.0
            weight, self._buffer[...] = float(weights[part].sum()), 0
            for place, number in enumerate(group):
                draw = (step + update) * size + place + 1
                own = self._add(number, 1 / weight if weight else 0.0, draw, place, penalties[part][0])
                found[:, number - first] = own
            total = self._world.added(self._buffer)
            flags = total[self._flags : self._flags + size] != 0
            if flags.any():
                return math.nan, start - first + int(flags.argmax())
            self._move(total, lr if isinstance(lr, float) else float(lr[update]), step + update + 1)
        values = self._world.added(found)
        values = np.divide(values, weights, out=np.zeros_like(values), where=weights != 0) + penalties
        return (float(values @ weights / weights.sum()) if weights.any() else 0.0), -1

    def _add(self, number: int, factor: float, draw: int, place: int, penalty: float) -> list[float]:
        """Add the gradients of a batch, and return the sum of each stripe's losses."""
        plan, stack, buffer = self._plan, self._stack, self._buffer
        parts = self._world.stripes.batch(number)
        weights = [plan.weight_of(rows) if len(rows) else 0.0 for rows, _ in parts]
        if self._objective is None:
            tasks = [Task(rows, at, w * factor) for (rows, at), w in zip(parts, weights, strict=True)]
            means = self._pass.add_gradients(tasks, draw, self._world.stripes.rows(number), buffer)
        else:
            network = stack.network
            assert network is not None
            means = []
            for i, (rows, at) in enumerate(parts):
                if not len(rows):
                    means.append(0.0)
                    continue
                # The rule adds so many times the weight of a batch times its gradient to the slot.
                slot = buffer[i : i + 1, : stack.params.size]
                rule, batch = OptimizerSpec("accumulate", (factor,), slot, draw - 1), (rows, len(rows))
                batches = Batches(plan.x, plan.y, plan.sample_weight, *batch)
                part = network._replace(scales=None, seed=self._pass.seed, row=at)
                mean, failed = active().train_epoch(part, stack.params, batches, self._objective, rule, None)
                means.append(math.nan if failed >= 0 else float(mean))
        for i, (rows, _) in enumerate(parts):
            if len(rows) and not math.isfinite(means[i] + penalty):
                buffer[i, self._flags + place] = 1
            if len(rows):
                self._mark(i, rows)
        return [mean * w if w else 0.0 for mean, w in zip(means, weights, strict=True)]

    def _mark(self, i: int, rows: Array) -> None:
        """Note the rows of tables that the samples of a stripe have codes of."""
        at = self._marks
        if not self._tables:
            return
        x = np.ascontiguousarray(self._plan.x[rows], self._stack.dtype)
        for _, leaf, name, count in self._tables:
            self._buffer[i, at + leaf.rows(x)[name]] = 1
            at += count

    def _move(self, total: Array, lr: float, t: int) -> None:
        """Make update t by the gradient of all samples."""
        stack, plan, at = self._stack, self._plan, self._marks
        met: dict[int, dict[str, Array]] = {}
        for i, _, name, rows in self._tables:
            met.setdefault(i, {})[name] = np.flatnonzero(total[at : at + rows])
            at += rows
        user = [total[span].reshape(shape).astype(dtype, copy=False) for span, shape, dtype in self._user]
        stack.own_gradient()
        with stack.summed(Moves(total[: stack.params.size], user, stack.moves(met))):
            for leaf, rate in zip(stack.leaves, stack.rates, strict=True):
                if plan.l2 and rate is not None and isinstance(leaf, BuiltIn):
                    for name in leaf.penalised:
                        gradient = getattr(leaf, f"{name}_grad")
                        gradient += gradient.dtype.type(2 * plan.l2) * getattr(leaf, name)
            plan.optimizer.update(stack, lr, t)


class AveragedEpoch:
    """What trains each stripe by itself for an epoch, from the same start, and takes the means of what they come to.

    A stripe makes about as many updates as all together would, of as many samples as fall to it in a batch.
    """

    def __init__(self, stack: Stack, plan: Plan, world: World) -> None:
        self._stack, self._plan, self._world = stack, plan, world
        self._compiled = CompiledEpoch(stack, plan, None) if plan.compiled else None
        self.seed: int | None = draw_seed(stack.rng) if stack.draws else None

    def weight_of(self, part: range) -> float:
        """Return how many samples they are."""
        return float(len(part))

    def __call__(self, order: range, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of the updates that these places stand for, and the batch that failed, or -1."""
        plan, stack, world = self._plan, self._stack, self._world
        size = plan.batch_size * plan.accumulate
        first, end = order.start // size, -(-order.stop // size)
        arrays = [stack.params, *plan.optimizer.state(), *stack.user_parameters()]
        start = [array.copy() for array in arrays]
        n = sum(array.size for array in arrays)
        means, failed = np.zeros((world.stripes.own, n + 2)), -1
        for i in range(world.stripes.own):
            rows = world.stripes.order(i)
            batch_size = batch_size_of(len(rows), plan)
            rows = rows[first * batch_size * plan.accumulate : end * batch_size * plan.accumulate]
            if not len(rows):
                continue
            loss, at = self._train(i, batch_size)(rows, lr, step)
            failed = max(failed, at)
            weight = plan.weight_of(rows)
            means[i, :n] = weight * np.concatenate([array.ravel() for array in arrays])
            means[i, n:] = weight * loss, weight
            for array, before in zip(arrays, start, strict=True):
                array[...] = before
        failed = max(world.ranks.gather(failed))
        total = world.added(means)
        if failed >= 0:
            return math.nan, failed
        weight, at = float(total[-1]), 0
        for array in arrays if weight else ():
            array[...] = (total[at : at + array.size] / weight).reshape(array.shape)
            at += array.size
        return (float(total[-2]) / weight if weight else 0.0), -1

    def _train(self, i: int, batch_size: int) -> Epoch:
        """What trains stripe i, with units of its own that are dropped."""
        alone = dataclasses.replace(self._plan, supply=ARRAYS, batch_size=batch_size)
        if self._compiled is None:
            return self._layerwise(i, layerwise_epoch(self._stack, alone, no_lap))
        train = self._compiled.planned(alone)
        if self.seed is not None:
            train.seed = (self.seed + self._world.stripes.first + i) % 2**63
        return train

    def _layerwise(self, i: int, train: Epoch) -> Epoch:
        """What trains stripe i layer by layer, and leaves the generator as it was: the same in all processes."""
        bits, seed = self._stack.rng.bit_generator, self.seed
        if seed is None:
            return train

        def drawn(rows: Array, lr: float | Array, step: int) -> tuple[float, int]:
            before = bits.state
            bits.state = np.random.PCG64([seed, self._world.stripes.first + i, step]).state
            try:
                return train(rows, lr, step)
            finally:
                bits.state = before

        return drawn


def batch_size_of(n: int, plan: Plan) -> int:
    """Return the samples of a batch of a stripe of n, with which it makes no more updates than all together would."""
    return max(1, -(-n // (plan.updates * plan.accumulate)))


def check_sync(sync: Any) -> str:
    """Return when the processes exchange what they have found."""
    if sync not in ("step", "epoch"):
        raise ValueError(f"sync is {sync!r}, expected 'step' or 'epoch'")
    return str(sync)
