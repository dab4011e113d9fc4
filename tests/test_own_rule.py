"""Update rules of a user's own: a scalar function of a parameter, its gradient, slots, lr, t and settings."""

import copy
import os
import pickle

import numpy as np
import pytest

import fastnn as fnn
from tests import user_functions as own
from tests.judge import eps
from tests.training import assert_same_weights
from tests.user_code import UserLinear, UserReLU

# The rule, and the built-in optimizer that it is.
PAIRS = {
    "sgd": (lambda lr: fnn.UpdateRule(own.sgd, lr=lr), lambda lr: fnn.SGD(lr)),
    "momentum": (
        lambda lr: fnn.UpdateRule(own.momentum, lr=lr, slots=1, settings={"momentum": 0.8}),
        lambda lr: fnn.SGD(lr, momentum=0.8),
    ),
    "adam": (
        lambda lr: fnn.UpdateRule(own.adam, lr=lr, slots=2, settings={"eps": 1e-3, "beta1": 0.9, "beta2": 0.99}),
        lambda lr: fnn.Adam(lr, beta1=0.9, beta2=0.99, eps=1e-3),
    ),
}


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 6)), rng.integers(3, size=50)


def network(*layers, dtype="float64", hidden=33):
    return fnn.Sequential(
        fnn.Linear(6, hidden), *layers, fnn.LayerNorm(hidden), fnn.Linear(hidden, 3), dtype=dtype, seed=5
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_training_is_that_of_the_built_in_one(pair, backend, data, dtype):
    """Weights with a penalty, biases, and the parameters of an operation, and the learning rate of a schedule."""
    models, losses = [], []
    for make in PAIRS[pair]:
        models.append(network(fnn.Tanh(), dtype=dtype))
        optimizer = make(fnn.schedules.step_decay(0.05, every=1))
        losses.append(models[-1].fit(*data, optimizer=optimizer, l2=0.01, epochs=3, batch_size=16, verbose=0)["loss"])
        assert (optimizer.steps, optimizer.epoch) == (12, 3)
    np.testing.assert_allclose(*losses, rtol=100 * eps(dtype))
    assert_same_weights(*models, rtol=2000 * eps(dtype))


@pytest.mark.parametrize("pair", PAIRS)
def test_step_by_step_and_layer_by_layer(pair, backend, data):
    X, y = data

    def stepped(optimizer):
        model = network(fnn.ReLU())
        for _ in range(3):
            scores = model.forward(X, training=True)
            model.backward(fnn.cross_entropy_backward(scores, y), 0.01)
            optimizer.step(model)
        return model

    def fitted(optimizer, *layers):
        model = network(*layers)
        model.fit(X, y, optimizer=optimizer, l2=0.01, epochs=3, batch_size=50, shuffle=False, verbose=0)
        return model

    def with_parameters(optimizer):
        rng = np.random.default_rng(1)
        layer = UserLinear(rng.normal(size=(33, 33)).astype(np.float32), rng.normal(size=33))
        fitted(optimizer, fnn.Tanh(), layer)
        return [layer.weight, layer.bias]

    mine, theirs = PAIRS[pair]
    expected = stepped(theirs(0.1))
    for model in (stepped(mine(0.1)), fitted(mine(0.1), fnn.ReLU()), fitted(mine(0.1), UserReLU())):
        assert_same_weights(expected, model, rtol=1e-9)
    for one, other in zip(with_parameters(mine(0.1)), with_parameters(theirs(0.1)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_three_slots(backend, rng, dtype):
    """g, a and b are the last three gradients, and c is t; by hand, for parameters past the end of a vector."""
    model, optimizer = (
        fnn.Sequential(fnn.Linear(1, 37, bias=False), dtype=dtype),
        fnn.UpdateRule(own.three_slots, lr=0.5, slots=3),
    )
    w, gradients = model.layers[0].weight.copy(), []
    for _ in range(4):
        dy = rng.normal(size=(1, 37)).astype(dtype)
        model.forward([[1.0]], training=True)
        model.backward(dy)
        optimizer.step(model)
        gradients = [dy, *gradients][:3]
        w = w - 0.5 * np.sum(gradients, axis=0) / 3
    np.testing.assert_allclose(model.layers[0].weight, w, rtol=20 * eps(dtype), atol=20 * eps(dtype))
    slots = optimizer.state()[0][:, :37]
    np.testing.assert_array_equal(slots, np.concatenate([*gradients[:2], np.full((1, 37), 4)]).astype(dtype))


@pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")
def test_all_numbers_of_threads_train_alike(rng):
    X, y = rng.normal(size=(600, 6)), rng.integers(3, size=600)
    found, before = [], fnn.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fnn.set_num_threads(threads)
            model = network(fnn.Tanh(), dtype="float32", hidden=700)
            with fnn.use_backend("numba"):
                model.fit(X, y, optimizer=PAIRS["adam"][0](0.01), l2=1e-3, epochs=2, batch_size=300, verbose=0)
            found.append(model.parameters())
    finally:
        fnn.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_copies_go_on(backend, data):
    model, optimizer = network(fnn.Tanh()), PAIRS["adam"][0](0.01)
    model.fit(*data, optimizer=optimizer, epochs=1, verbose=0)
    pairs = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    for one, its in [(model, optimizer), *pairs]:
        one.fit(*data, optimizer=its, epochs=1, verbose=0)
        assert (its.steps, repr(its)) == (4, "UpdateRule(adam, lr=0.01, beta1=0.9, beta2=0.99, eps=0.001)")
        assert_same_weights(model, one, rtol=0)
    assert copy.copy(optimizer).settings == {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3}
    with pytest.raises(TypeError, match=r"update .*<lambda> cannot be saved or pickled"):
        pickle.dumps(fnn.UpdateRule(lambda w, g, lr, t: w, lr=0.1))
    assert any(part.phase == "update" for part in fnn.profile(model, *data, optimizer=optimizer, seconds=0.001).parts)


def test_what_it_shows_and_keeps():
    rule = fnn.UpdateRule(own.momentum, lr=0.5, slots=1, settings={"momentum": 0.8}, name="heavy_ball")
    assert repr(rule) == "UpdateRule(heavy_ball, lr=0.5, momentum=0.8)"
    assert (rule.update_function, rule.n_slots, rule.name) == (own.momentum, 1, "heavy_ball")
    rule.settings["momentum"] = 7
    assert rule.settings == {"momentum": 0.8}
    with pytest.raises(ValueError, match="name is 'heavy_ball', which another rule has"):
        fnn.UpdateRule(own.sgd, lr=0.5, name="heavy_ball")
    again = fnn.UpdateRule(own.momentum, lr=0.1, slots=1, settings={"momentum": 0.5}, name="heavy_ball")
    assert again.rule_name == rule.rule_name


REFUSED = [
    (
        {"update": 5, "lr": 0.1},
        TypeError,
        r"update is 5, expected a function made by def or lambda: update\(w, g, lr, t\)",
    ),
    ({"update": own.momentum, "lr": 0.1}, TypeError, r"takes \(w, g, v, lr, t, momentum\), expected \(w, g, lr, t\)"),
    (
        {"update": own.momentum, "lr": 0.1, "slots": 1, "settings": {"rho": 0.8}},
        *(ValueError, "settings are rho, but behind t update momentum takes momentum: they must be equal"),
    ),
    ({"update": own.sgd, "lr": 0}, ValueError, "lr is 0, expected a finite number > 0"),
    ({"update": own.sgd, "lr": "1"}, TypeError, "lr is '1', expected"),
    ({"update": own.sgd, "lr": 1, "slots": -1}, ValueError, "slots is -1, expected"),
    ({"update": own.sgd, "lr": 1, "slots": 1.5}, TypeError, "slots is 1.5, expected"),
    ({"update": own.sgd, "lr": 1, "settings": [1]}, TypeError, r"settings are \[1\], expected a mapping such as"),
    (
        {"update": own.momentum, "lr": 1, "slots": 1, "settings": {"momentum": np.nan}},
        ValueError,
        r"settings\['momentum'\] is nan",
    ),
    (
        {"update": own.sgd, "lr": 1, "settings": dict.fromkeys("abcdefg", 1)},
        ValueError,
        "settings are 7, expected at most 6",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_when_it_is_made(arguments, error, message):
    with pytest.raises(error, match=message):
        fnn.UpdateRule(**arguments)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda w, g, v, lr, t: w, r"update <lambda> returns .*, expected a tuple of 2 real numbers"),
        (lambda w, g, v, lr, t: (w, v, v), r"update <lambda> returns .*, expected a tuple of 2 real numbers"),
        (lambda w, g, v, lr, t: (w, "a"), r"update <lambda> returns .*, expected a tuple of 2 real numbers"),
        (lambda w, g, v, lr, t: (w.x, v), r"update <lambda> (does not compile|fails for)"),
    ],
)
def test_refused_before_anything_changes(update, message, backend, data):
    model, rule = network(fnn.Tanh()), fnn.UpdateRule(update, lr=0.1, slots=1)
    before = [p.copy() for p in model.parameters()]
    with pytest.raises(TypeError, match=message):
        model.fit(*data, optimizer=rule, epochs=1, verbose=0)
    scores = model.forward(data[0], training=True)
    model.backward(fnn.cross_entropy_backward(scores, data[1]))
    with pytest.raises(TypeError, match=message):
        rule.step(model)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p, old)
    assert (rule.steps, rule._owner) == (0, None)
