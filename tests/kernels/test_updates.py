import numpy as np
import pytest

from fastnn import kernels, reference
from tests.cases import LENGTHS
from tests.judge import assert_within, eps, written

# name: (the number of slots, the arguments after the arrays)
UPDATES = {
    "sgd_update": (0, (0.05,)),
    "momentum_update": (1, (0.05, 0.9)),
    "nesterov_update": (1, (0.05, 0.9)),
    "adam_update": (2, (0.05, 0.9, 0.999, 1e-8, 3)),
    "rmsprop_update": (1, (0.05, 0.9, 1e-8)),
    "rmsprop_momentum_update": (2, (0.05, 0.9, 1e-8, 0.5)),
}


def updated(module, name, w, dw, slots):
    """w and the slots after one update, nothing written around any of them."""
    arrays = [w, *slots]

    def nested(guarded):
        if len(guarded) == len(arrays):
            for inside, array in zip(guarded, arrays, strict=True):
                inside[...] = array
            getattr(module, name)(guarded[0], dw, *guarded[1:], *UPDATES[name][1])
            return []
        inner = []
        result = written(lambda out: inner.extend(nested([*guarded, out])), w.shape, w.dtype)
        return [result, *inner]

    return nested([])


def problem(name, shape, rng, dtype):
    """w, dw and slots that an update may have left: means of squares are not negative."""
    w, dw, *slots = rng.normal(size=(2 + UPDATES[name][0], *shape)).astype(dtype)
    squares = {"adam_update": 1, "rmsprop_update": 0, "rmsprop_momentum_update": 0}.get(name)
    if squares is not None:
        slots[squares] = np.square(slots[squares])
    return w, dw, slots


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize(
    "shapes", [[(n,) for n in LENGTHS], [(3, 7), (17, 33), (2, 3, 5), (0, 4)]], ids=["flat", "shaped"]
)
def test_updates(name, shapes, rng, dtype):
    for shape in shapes:
        w, dw, slots = problem(name, shape, rng, dtype)
        results = updated(kernels, name, w, dw, slots)
        expected = updated(
            reference, name, *(a.astype(np.longdouble) for a in (w, dw)), [s.astype(np.longdouble) for s in slots]
        )
        for before, result, exact in zip([w, *slots], results, expected, strict=True):
            assert result.dtype == dtype
            # Every term is at most a few times the old value, the new one, the gradient or the step.
            bound = 4 * eps(dtype) * (np.abs(before) + np.abs(exact) + np.abs(dw) + 1)
            assert_within(result, exact.astype(np.float64), bound.astype(np.float64))


@pytest.mark.parametrize("name", UPDATES)
def test_many_updates_stay_with_the_reference(name, rng, dtype):
    w, _, _ = problem(name, (37,), rng, dtype)
    slots = [np.zeros_like(w) for _ in range(UPDATES[name][0])]
    twin, twin_slots = w.astype(np.float64), [s.astype(np.float64) for s in slots]
    for t in range(1, 30):
        dw = rng.normal(size=37).astype(dtype)
        arguments = UPDATES[name][1][:4] + ((t,) if name == "adam_update" else ())
        getattr(kernels, name)(w, dw, *slots, *arguments)
        getattr(reference, name)(twin, dw.astype(np.float64), *twin_slots, *arguments)
    np.testing.assert_allclose(w, twin, rtol=100 * eps(dtype), atol=100 * eps(dtype))


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_gradient_reaches_its_own_weight_alone(name, value, rng, dtype):
    for length in (1, 16, 37):
        w, dw, slots = problem(name, (length,), rng, dtype)
        dw[length // 2] = value
        results = updated(kernels, name, w, dw, slots)
        expected = updated(reference, name, w, dw, slots)
        for result, exact in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, exact, rtol=16 * eps(dtype), atol=16 * eps(dtype))


def test_adam_keeps_a_parameter_without_a_gradient(dtype):
    w, m, v = np.full(16, 3, dtype), np.zeros(16, dtype), np.zeros(16, dtype)
    kernels.adam_update(w, np.zeros(16, dtype), m, v, 0.1, 0.9, 0.999, 1e-8, 1)
    np.testing.assert_array_equal(w, 3)


def test_adam_at_a_late_step(rng, dtype):
    """β^t underflows, and both corrections are 1."""
    w, m, v = np.ones(5, dtype), np.full(5, 0.5, dtype), np.full(5, 0.25, dtype)
    kernels.adam_update(w, np.full(5, 0.5, dtype), m, v, 0.5, 0.5, 0.5, 0.0, 10**6)
    np.testing.assert_array_equal(w, np.full(5, 0.5, dtype))


@pytest.mark.parametrize("name", UPDATES)
def test_a_read_only_gradient(name, rng, dtype):
    w, dw, slots = problem(name, (20,), rng, dtype)
    expected = updated(kernels, name, w, dw, slots)
    dw.flags.writeable = False
    for result, exact in zip(updated(kernels, name, w, dw, slots), expected, strict=True):
        np.testing.assert_array_equal(result, exact)
