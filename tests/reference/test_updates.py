import math

import numpy as np
import pytest

from fastnn import reference


def test_sgd_by_hand(dtype):
    w = np.array([1, 2], dtype)
    reference.sgd_update(w, np.array([4, -2], dtype), 0.25)
    np.testing.assert_array_equal(w, [0, 2.5])


def test_momentum_by_hand(dtype):
    """v = -0.5, w = 0.5, then v = -0.25 - 0.5, w = -0.25."""
    w, v, dw = np.array([1], dtype), np.zeros(1, dtype), np.array([2], dtype)
    for expected_v, expected_w in [(-0.5, 0.5), (-0.75, -0.25)]:
        reference.momentum_update(w, dw, v, 0.25, 0.5)
        assert (v[0], w[0]) == (expected_v, expected_w)


def test_nesterov_by_hand(dtype):
    """v = -0.5 and w = 1 - 0.25 - 0.5, then v = -0.25 - 0.5 and w = 0.25 - 0.375 - 0.5."""
    w, v, dw = np.array([1], dtype), np.zeros(1, dtype), np.array([2], dtype)
    for expected_v, expected_w in [(-0.5, 0.25), (-0.75, -0.625)]:
        reference.nesterov_update(w, dw, v, 0.25, 0.5)
        assert (v[0], w[0]) == (expected_v, expected_w)


def test_nesterov_is_the_paper_seen_from_the_looked_ahead_point():
    """Sutskever et al. 2013, equations 3 and 4: v' = μ v - ε ∇f(θ + μ v), θ' = θ + v', with w = θ + μ v."""
    lr, momentum = 0.1, 0.9
    theta, velocity = 2.0, 0.0
    w, v = np.array([2.0]), np.zeros(1)
    for _ in range(20):
        velocity = momentum * velocity - lr * 3 * (theta + momentum * velocity)
        theta += velocity
        reference.nesterov_update(w, 3 * w, v, lr, momentum)
        assert w[0] == pytest.approx(theta + momentum * velocity, rel=1e-12)


def test_adam_by_hand(dtype):
    """Two updates with dw = 2, then 4, worked through algorithm 1 of Kingma & Ba with β1 = 0.5, β2 = 0.75, eps = 0.

    m = 1, v = 1, m̂ = 2, v̂ = 4: the step is lr.
    m = 2.5, v = 4.75, m̂ = 2.5 / 0.75, v̂ = 4.75 / 0.4375: the step is lr · 3.3333 / 3.2950.
    """
    w, m, v = np.array([1], dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    reference.adam_update(w, np.array([2], dtype), m, v, 0.125, 0.5, 0.75, 0.0, 1)
    assert (m[0], v[0]) == (1, 1)
    assert w[0] == pytest.approx(0.875, rel=1e-6)
    reference.adam_update(w, np.array([4], dtype), m, v, 0.125, 0.5, 0.75, 0.0, 2)
    assert (m[0], v[0]) == (2.5, 4.75)
    assert w[0] == pytest.approx(0.875 - 0.125 * (2.5 / 0.75) / math.sqrt(4.75 / 0.4375), rel=1e-6)


def test_adam_is_algorithm_1_of_the_paper(rng):
    """The unfolded form, whose eps stands outside the correction of v̂."""
    lr, beta1, beta2, eps = 0.01, 0.9, 0.999, 1e-3
    gradients = rng.normal(size=(50, 4)) * [1e-4, 1e-2, 1, 100]
    w, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    expected, first, second = np.ones(4), np.zeros(4), np.zeros(4)
    for t, g in enumerate(gradients, start=1):
        reference.adam_update(w, g, m, v, lr, beta1, beta2, eps, t)
        first = beta1 * first + (1 - beta1) * g
        second = beta2 * second + (1 - beta2) * g**2
        expected = expected - lr * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + eps)
        np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_adam_keeps_an_untouched_parameter(dtype):
    w, m, v = np.array([3], dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    reference.adam_update(w, np.zeros(1, dtype), m, v, 0.1, 0.9, 0.999, 1e-8, 1)
    assert (w[0], m[0], v[0]) == (3, 0, 0)


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_updates_pass_infinities_on_in_silence(slots, dtype):
    w, dw, state = np.zeros(2, dtype), np.array([np.inf, np.nan], dtype), np.zeros((slots, 2), dtype)
    if slots == 0:
        reference.sgd_update(w, dw, 0.1)
    elif slots == 1:
        reference.nesterov_update(w, dw, *state, 0.1, 0.9)
    else:
        reference.adam_update(w, dw, *state, 0.1, 0.9, 0.999, 1e-8, 1)
    assert not np.isfinite(w).any()
