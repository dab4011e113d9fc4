"""The machinery of a model: layers over one flat buffer of parameters, run compiled or layer by layer.

Everything here takes arguments that were checked before.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..codes import FROZEN, KEEPS, KIND, LINEAR, STRIDE
from ..transaction import Attributes, Place
from ..validation import (
    FLOAT32,
    FLOAT64,
    Array,
    DType,
    any_array,
    are_finite,
    computed,
    features,
    finite,
    real_array,
)
from .chain import call_list, check_layers, coded
from .dropout import draw_seed
from .layers import BuiltIn, back, flattened, is_built_in, rates_of
from .lowering import Network, aligned_zeros, input_width, layout, lower, views
from .sums import Moves, Sums

# Called as a phase of a layer is over, or of a training step for None.
Lap = Callable[[int | None, str], None]

_BLOCK_ELEMENTS = 1 << 19


class Identity:
    """Which model it is: an object of its own for each, which copies and pickles carry along.

    The optimizer refers to it, so the two stay together where they are copied in one go, and no longer than that.
    """


def no_lap(layer: int | None, phase: str) -> None:
    """Take no time."""


class Stack:
    """Layers one after the other.

    Attributes
    ----------
    layers : tuple of layers
    leaves : the layers with those in the place of one that is made of layers, which spans and networks count
    built_in : the leaves that are ours, or of a class that extends one of ours
    coded : the leaves that take codes from columns of X, each with those before it
    draws : whether one of them draws from the generator in training
    widths : the outputs of each layer, None where it is not known
    n_in : the inputs of the first layer, or None
    identity : what an optimizer knows the model by
    rng : the generator of initial weights, of the order of samples, and of dropout
    inference : the layers as data, without what is for training alone, or None where they must run one by one
    seed : what that generator was made from
    params, gradient : the flat buffers; gradient is None before the first backward pass
    block : how many rows go through at once, so that memory stays bounded
    guest : the thread whose callbacks may train the model while it is held, or None
    """

    guest: int | None = None
    _sums: Sums | Moves | None = None

    def __init__(self, layers: tuple[Any, ...], dtype: DType, rng: np.random.Generator) -> None:
        self.widths = check_layers(layers)
        self.layers = layers
        self.leaves = flattened(layers)
        self.built_in = [layer for layer in self.leaves if isinstance(layer, BuiltIn)]
        self._has_users = not all(map(is_built_in, self.leaves))
        self._is_plain = not self._has_users and not any(layer.parts for layer in layers)
        self.coded = coded(self.leaves)
        self.draws = any(layer.draws for layer in self.built_in)
        self.identity = Identity()
        self.dtype = dtype
        self.rng = rng
        self.seed = rng.bit_generator.seed_seq.entropy  # type: ignore[attr-defined]
        self.n_in = input_width(layers)
        self.spans, size = layout(self.leaves)
        self._network: tuple[list[float | None], Network | None] | None = None
        self.inference = lower(layers, self.spans, self.n_in, training=False)
        self.block = max(32, _BLOCK_ELEMENTS // max(w or 1 for w in [self.n_in, *self.widths]))
        self.trained_shape: tuple[int, ...] | None = None
        self._lock = threading.Lock()
        for layer in layers:
            if isinstance(layer, BuiltIn):
                layer.hold(False)
        initial = {i: self.leaves[i].initial_values(rng) for i in self.spans}
        try:
            self.bind(aligned_zeros(size, dtype))
            for i, values in initial.items():
                for name, value in values.items():
                    self.leaves[i].assign(name, value)
        except BaseException:
            self._release()
            raise

    def bind(self, params: Array) -> None:
        """Make ``params`` the parameters: every layer of ours gets views into it, and the generator if it draws."""
        self.params = params
        self.dtype = params.dtype
        # What the quick ways to the outputs and to their softmax take, known after the first.
        self._ready: list[tuple[Array, ...] | None] = [None, None]
        self.gradient: Array | None = None
        for i, layer in enumerate(self.leaves):
            if isinstance(layer, BuiltIn):
                layer.bind(views(layer, self.spans.get(i, {}), params), self.rng)

    def _release(self) -> None:
        """Let the layers belong to no model."""
        for layer in self.built_in:
            layer.bind(None, None)

    @property
    def places(self) -> list[int]:
        """Where each leaf stands among the layers."""
        return [i for i, layer in enumerate(self.layers) for _ in flattened([layer])]

    def outputs(self, X: ArrayLike, softmax: bool = False) -> Array:
        """Return the outputs (m, n_out) for X (m, n_in), or their softmax; see ``validation.features`` for X."""
        if self.inference is None:
            x = self.features(X)
            blocks = [x[i : i + self.block] for i in range(0, len(x), self.block)]
            outputs = np.concatenate([self.forward(block, training=False) for block in blocks])
            if softmax:
                active().softmax(outputs, outputs)
            return outputs
        ready = self._ready[softmax]
        if ready is not None:
            result: Array | None = active().quick.forward(self.params, X, *ready)
            if result is not None:
                return result
        x = self.features(X, check_finite=False)
        out = np.empty((len(x), self.widths[-1] or 0), self.dtype)
        if not active().forward(self.inference, self.params, x, out, softmax):
            finite("X", x, self.dtype)
        if ready is None and not self.coded:
            self._ready[softmax] = active().forward_arguments(self.inference, self.dtype, softmax)
        return out

    def features(self, X: ArrayLike, check_finite: bool = True) -> Array:
        """Return X (m, n_in) as the first layer takes it, see ``validation.features``."""
        x = features(X, self.n_in, self.dtype, check_finite=check_finite)
        self.check_codes(x)
        return x

    def check_codes(self, x: Array, name: str = "X", chosen: Array | None = None) -> None:
        """Raise ValueError where x, of which the rows ``chosen`` count, or all, holds a number that is no code."""
        for layer, passed in self.coded:
            for earlier in passed:
                earlier.leaves_alone(layer.columns)
            layer.check_codes(x, name, chosen)

    def held(self, guest: int | None) -> AbstractContextManager[Any]:
        """Return the context in which one training alone has the parameters, but for those in callbacks of ``guest``.

        Raises
        ------
        ValueError
            If another one has them at this moment.
        """
        if self._lock.locked():
            if guest is not None and guest == self.guest:
                return nullcontext()
            raise ValueError("the model is busy training at this moment: wait until that is over, or train a copy")
        self.guest = guest
        return self._lock  # see Optimizer.held

    @property
    def rates(self) -> list[float | None]:
        """The factor of the learning rate for each leaf at the moment, None for frozen ones."""
        if self._is_plain:
            return [layer._lr_scale if layer._trainable else None for layer in self.layers]
        return rates_of(self.layers)

    @property
    def network(self) -> Network | None:
        """The layers as data, as they learn at the moment, or None where they must run one by one."""
        rates, lowered = self.rates, self._network
        if lowered is None or lowered[0] != rates:
            self._network = lowered = rates, lower(self.layers, self.spans, self.n_in)
        return lowered[1]

    @property
    def starts_linear(self) -> bool:
        """Whether the first layer is linear and not frozen: whatever is not finite spoils its weights."""
        network = self.network
        return network is not None and bool(network.ops[0, KIND] == LINEAR and not network.ops[0, KEEPS] & FROZEN)

    @property
    def is_frozen(self) -> bool:
        """Whether there are parameters, and all of them are frozen."""
        rates = self.rates
        if None not in rates:
            return False
        found = [rate for rate, leaf in zip(rates, self.leaves, strict=True) if call_list(leaf, "parameters")]
        return bool(found) and all(rate is None for rate in found)

    def output_width(self, x: Array) -> int:
        """Return the number of outputs a sample, found with the first row of x where no layer says it."""
        width = self.widths[-1]
        return width if width is not None else self.outputs(x[:1]).shape[1]

    def forward(self, x: Array, training: bool, lap: Lap = no_lap) -> Array:
        """Return the outputs, layer by layer."""
        x = x.astype(self.dtype, copy=False)
        for i, (layer, width) in enumerate(zip(self.layers, self.widths, strict=True)):
            x = computed("forward", layer, layer.forward(x, training), len(x), width, self.dtype)
            lap(i, "forward")
        if training:
            self.trained_shape = x.shape
        return x

    def training_pass(self, x: Array) -> Array:
        """Return the outputs of a pass that :meth:`backward` can follow; one that fails has changed nothing."""
        for layer in self.built_in:
            if layer.learns and len(x) < layer.least_samples:
                least = layer.least_samples
                raise ValueError(f"X has {len(x)} sample, but in training {layer!r} needs at least {least}")
        before = Attributes([(self, ("trained_shape",)), *((layer, layer._SAVED) for layer in self.built_in)])
        params = self.params.copy() if any(layer.sums for layer in self.built_in) else None
        drawn = self.rng.bit_generator.state if self.draws else None
        try:
            return self.forward(x, training=True)
        except BaseException:
            before.restore()
            if params is not None:
                self.params[...] = params
            if drawn is not None:
                self.rng.bit_generator.state = drawn
            raise

    def backward(self, dy: Array, l2: float, lap: Lap = no_lap, first: int = 0) -> Array:
        """Return dx from dy, the gradients of the loss, and leave the gradients of the parameters in the layers.

        It goes back as far as layer ``first``. Where it fails there are no gradients, not even earlier ones: an
        optimizer must not take a step along half of them.
        """
        try:
            self.own_gradient()
            for i, layer in reversed([*enumerate(self.layers)][first:]):
                dx = back(layer, dy, l2)
                width = self.widths[i - 1] if i else self.n_in
                dy = computed("backward", layer, dx, len(dy), width, self.dtype)
                lap(i, "backward")
        except BaseException:
            self.forget_gradients()
            raise
        return dy

    def own_gradient(self) -> Array:
        """Return the flat gradient, zeros before the first backward pass, into which the layers write theirs."""
        if self.gradient is None:
            gradient = aligned_zeros(self.params.size, self.dtype)
            for i, span in self.spans.items():
                self.leaves[i].bind_gradient(views(self.leaves[i], span, gradient))
            self.gradient = gradient
        return self.gradient

    @property
    def first_trained(self) -> int:
        """The layer at which the way back ends in training: those before it are frozen, or ours without parameters."""
        rates = self.rates
        if None not in rates:
            return 0
        for place, leaf, rate in zip(self.places, self.leaves, rates, strict=True):
            if rate is not None and not (is_built_in(leaf) and not leaf.parameters()):
                return place
        return len(self.layers)

    @contextmanager
    def summed(self, sums: Sums | Moves | None) -> Iterator[None]:
        """Let the gradients be those of several passes in the meantime, where there are any."""
        try:
            if sums is not None and self.gradient is not None:
                self.gradient[...], self._sums = sums.gradient, sums
            yield
        finally:
            self._sums = None

    def forget_gradients(self) -> None:
        """Let the next backward pass write into new arrays."""
        self.gradient = None
        for i in self.spans:
            self.leaves[i].bind_gradient(None)

    def changing(self) -> list[Place]:
        """Return the attributes that passes in training change, those of a user's layers left out."""
        return [(self, ("gradient", "trained_shape")), *((layer, layer.transient) for layer in self.built_in)]

    def check_finite(self) -> None:
        """Raise ValueError naming the first layer that has a parameter which is not finite."""
        if not are_finite([self.params, *self.user_parameters()]):
            for i, layer in enumerate(self.layers):
                for p in call_list(layer, "parameters"):
                    finite(f"layer {i}, {layer!r},", p, p.dtype)

    def user_parameters(self) -> list[Array]:
        """Return the parameters of the layers that are not built in.

        Raises
        ------
        TypeError
            If one of them is not a writeable float32 or float64 array, which training could not change.
        ValueError
            If it is an array with masked values, which training would change under the mask.
        """
        return [p for p, _ in self.user_moves()]

    def user_moves(self) -> list[tuple[Array, float | None]]:
        """Return :meth:`user_parameters`, each with its factor of the learning rate, None where it is frozen."""
        found: list[tuple[Array, float | None]] = []
        if not self._has_users:
            return found
        for layer, rate in zip(self.leaves, self.rates, strict=True):
            for p in call_list(layer, "parameters") if not is_built_in(layer) else ():
                if not isinstance(p, np.ndarray) or p.dtype not in (FLOAT32, FLOAT64) or not p.flags.writeable:
                    raise TypeError(f"parameters of {layer!r} must be writeable float32 or float64 arrays, not {p!r}")
                any_array(f"parameters of {layer!r}", p)
                if not self._owns(p):
                    found.append((p, rate))
        return found

    def user_gradients(self) -> list[Array]:
        """Return the gradients of :meth:`user_parameters` that are not frozen, in the dtype of each.

        Raises
        ------
        ValueError
            If a layer does not give one of the right shape for each of its parameters.
        """
        if self._sums is not None:
            return self._sums.user
        found = []
        for layer, rate in zip(self.leaves, self.rates, strict=True):
            if is_built_in(layer) or rate is None:
                continue
            parameters, gradients = call_list(layer, "parameters"), call_list(layer, "gradients")
            if [np.shape(g) for g in gradients] != [p.shape for p in parameters]:
                raise ValueError(
                    f"gradients of {layer!r} have shapes {[np.shape(g) for g in gradients]}, but its parameters have "
                    f"{[p.shape for p in parameters]}: they must be equal after backward"
                )
            pairs = zip(gradients, parameters, strict=True)
            name = f"gradients of {layer!r}"
            found += [np.asarray(real_array(name, g), p.dtype, order="C") for g, p in pairs if not self._owns(p)]
        return found

    def moves(self, met: dict[int, dict[str, Array]] | None = None) -> list[tuple[slice, float]]:
        """Return the parts of the flat buffer that rules update, each with its factor of the learning rate.

        ``met`` are the rows of tables that there is a gradient for, by leaf and name; those of the last backward pass
        by default.
        """
        if self._sums is not None:
            return self._sums.moves
        found: list[tuple[slice, float]] = []
        rates = self.rates
        for i, spans in self.spans.items():
            rate, layer = rates[i], self.leaves[i]
            shapes, widths = layer.shapes(), layer.row_widths()
            touched = layer.touched if met is None else met.get(i, {})
            for name, start in spans.items():
                if rate is None or name in layer.buffers:
                    continue
                if name in touched:
                    width = widths[name]
                    found += [(slice(start + row * width, start + (row + 1) * width), rate) for row in touched[name]]
                    continue
                end = start + -(-math.prod(shapes[name]) // STRIDE) * STRIDE
                if found and found[-1][0].stop == start and found[-1][1] == rate:
                    start = found.pop()[0].start
                found.append((slice(start, end), rate))
        return found

    def sum_of_squares(self) -> float:
        """Return Σ W² over the parameters that are penalised, the weights of linear layers."""
        return sum(float(np.square(w, dtype=np.float64).sum()) for w, _ in self.penalised())

    def penalised(self) -> list[tuple[Array, float]]:
        """Return the weights of linear layers that penalties and decay are for, with their learning rates' factors."""
        return [
            (getattr(layer, name), rate)
            for layer, rate in zip(self.leaves, self.rates, strict=True)
            if isinstance(layer, BuiltIn) and rate is not None
            for name in layer.penalised
        ]

    def user_layers(self) -> list[Any]:
        """Return the layers that are not built in."""
        return [layer for layer in self.leaves if not is_built_in(layer)]

    def seeded(self) -> Network | None:
        """Return the network with a seed of its own, drawn if there is dropout: without, nothing is drawn."""
        network = self.network
        if network is None or not self.draws:
            return network
        return network._replace(seed=draw_seed(self.rng))

    def _owns(self, parameter: Array) -> bool:
        return self.params.size > 0 and np.may_share_memory(parameter, self.params)

    def __getstate__(self) -> dict[str, Any]:
        passing = "_network", "_ready", "_sums", "gradient", "trained_shape", "guest"
        state = {**vars(self), **dict.fromkeys(passing)}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())
        params = aligned_zeros(self.params.size, self.dtype)
        params[:] = self.params
        self.bind(params)
