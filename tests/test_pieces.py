"""The pieces of one's own training loop: flat buffers, gradients that are set, states, and a call after a batch."""

import json
import pickle

import numpy as np
import pytest

import fastnn as fnn
from tests.training import labelled, network, weights
from tests.user_code import UserLinear, UserReLU

pytestmark = pytest.mark.usefixtures("backend")
OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(0.1),
    "momentum": lambda: fnn.SGD(0.1, momentum=0.9, clip_norm=0.5),
    "adam": lambda: fnn.Adam(fnn.schedules.cosine(0.01, 20)),
}


def of_a_users():
    rng = np.random.default_rng(0)
    own = UserLinear(rng.normal(size=(9, 5)), np.zeros(5))
    return fnn.Sequential(fnn.Linear(6, 9), fnn.BatchNorm(9), own, fnn.Linear(5, 3), dtype="float64", seed=1)


def gradient_step(model, X, y, optimizer):
    scores = model.forward(X, training=True)
    model.backward(fnn.cross_entropy_backward(scores, y))
    optimizer.step(model)


def test_flat_views(rng):
    X, y = labelled(rng)
    model = network()
    flat, gradient = model.flat_parameters(), model.flat_gradient()
    assert flat.shape == gradient.shape
    assert not gradient.any()
    model.backward(fnn.cross_entropy_backward(model.forward(X, training=True), y))
    assert np.shares_memory(gradient, model.layers[0].weight_grad)
    for p, g in zip(model.parameters(), model.gradients(), strict=True):
        at = (p.ctypes.data - flat.ctypes.data) // flat.itemsize
        assert at % 16 == 0
        np.testing.assert_array_equal(flat[at : at + p.size], p.ravel())
        np.testing.assert_array_equal(gradient[at : at + p.size], g.ravel())
    flat[:] = 0
    assert not any(p.any() for p in model.parameters())


def test_a_views_shape_is_its_owners(rng):
    """What a user does to a view moves nothing here."""
    model = network()
    flat, gradient = model.flat_parameters(), model.flat_gradient()
    flat.shape, gradient.shape = (1, -1), (1, -1)
    assert model.flat_parameters().ndim == model.flat_gradient().ndim == 1


def test_gradients_of_two_halves_make_those_of_all(rng):
    """As over two processes: the mean of the gradients of two equal parts, set before the step."""
    X, y = labelled(rng)
    whole, parted = network(), network()
    optimizers = fnn.Adam(0.01), fnn.Adam(0.01)
    gradient_step(whole, X, y, optimizers[0])
    total = np.zeros_like(parted.flat_parameters())
    for part in (slice(0, 25), slice(25, 50)):
        parted.backward(fnn.cross_entropy_backward(parted.forward(X[part], training=True), y[part]))
        total += parted.flat_gradient() / 2
    parted.flat_gradient()[:] = total
    optimizers[1].step(parted)
    np.testing.assert_allclose(weights(whole), weights(parted), rtol=1e-9, atol=1e-12)


def test_a_gradient_of_ones_own_before_any_pass():
    model = network()
    before = weights(model)
    model.flat_gradient()[:] = 1
    fnn.SGD(0.5).step(model)
    np.testing.assert_allclose(weights(model), before - 0.5, rtol=1e-15)
    model.layers[0].weight_grad = np.full((6, 9), 2.0)
    assert (model.flat_gradient()[: 6 * 9] == 2).all()


def test_gradients_that_cannot_be_assigned():
    model = network()
    with pytest.raises(ValueError, match=r"no weight_grad yet: call model.backward\(dy\) or model.flat_gradient\(\)"):
        model.layers[0].weight_grad = np.ones((6, 9))
    model.flat_gradient()
    with pytest.raises(ValueError, match=r"weight_grad has shape \(2,\), expected \(6, 9\)"):
        model.layers[0].weight_grad = np.ones(2)


@pytest.mark.parametrize("make", [network, of_a_users])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("known", [False, True])
def test_a_state_goes_on(known, name, make, rng):
    X, y = labelled(rng)
    settings = {"epochs": 2, "batch_size": 20, "verbose": 0, "shuffle": False}
    model, optimizer = make(), OPTIMIZERS[name]()
    model.fit(X, y, optimizer=optimizer, **settings)
    state = pickle.loads(pickle.dumps(optimizer.state_dict()))
    parameters = [p.copy() for p in model.parameters()]
    model.fit(X, y, optimizer=optimizer, **settings)

    if known:  # goes back to where it was
        again, its = model, optimizer
        its.load_state_dict(state)
    else:
        again, its = make(), OPTIMIZERS[name]()
        its.load_state_dict(state, again)
    assert (its.steps, its.epoch) == (6, 2)
    expected = weights(model)
    for p, value in zip(again.parameters(), parameters, strict=True):
        p[...] = value
    again.fit(X, y, optimizer=its, **settings)
    np.testing.assert_array_equal(weights(again), expected)


def test_a_state_is_a_copy(rng):
    model, optimizer = network(), fnn.Adam(0.01)
    assert optimizer.state_dict()["slots"] is None
    model.fit(*labelled(rng), optimizer=optimizer, epochs=1, verbose=0)
    state = optimizer.state_dict()
    kept = state["slots"].copy()
    model.fit(*labelled(rng), optimizer=optimizer, epochs=1, verbose=0)
    np.testing.assert_array_equal(state["slots"], kept)
    assert {name: value for name, value in state.items() if name not in ("slots", "own_slots")} == {
        "rule": "adam", "settings": [0.9, 0.999, 1e-8, None], "lr": 0.01, "steps": 2, "epoch": 1,
    }  # fmt: skip
    json.dumps({**state, "slots": state["slots"].tolist()})
    optimizer.lr = 0.5
    optimizer.load_state_dict(json.loads(json.dumps({**state, "slots": state["slots"].tolist()})))
    assert optimizer.lr == 0.01


REFUSED = {
    "nothing": (None, TypeError, "state is None, expected what state_dict"),
    "a name": (lambda s: {k: v for k, v in s.items() if k != "steps"}, ValueError, "state has no 'steps'"),
    "a rule": ({"rule": "adam"}, ValueError, "state has rule='adam', but SGD.* has 'momentum': make the optimizer"),
    "a setting": ({"settings": [0.5, None]}, ValueError, r"settings=\[0.5, None\], but SGD.* has \[0.9, None\]"),
    "a rate": ({"lr": None}, ValueError, "taken with a function as lr, but lr is 0.1"),
    "a wrong rate": ({"lr": -1.0}, ValueError, "lr is -1, expected a finite number > 0"),
    "a count": ({"steps": -1}, ValueError, "steps is -1"),
    "a shape": ({"slots": np.zeros((1, 16))}, ValueError, r"slots of the state have shape \(1, 16\), but the"),
    "no list of their own": ({"own_slots": None}, TypeError, "own_slots is None, expected a list of arrays"),
    "their own": ({"own_slots": [np.zeros((1, 1))]}, ValueError, "own_slots holds 1 arrays, but the model's own"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_states_that_do_not_fit(name, rng):
    change, error, message = REFUSED[name]
    model, optimizer = network(), fnn.SGD(0.1, momentum=0.9)
    model.fit(*labelled(rng), optimizer=optimizer, epochs=1, verbose=0)
    state = optimizer.state_dict()
    bad = change(state) if callable(change) else None if change is None else {**state, **change}
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(bad)
    after = optimizer.state_dict()
    np.testing.assert_array_equal(after.pop("slots"), state.pop("slots"))
    assert after == state


def test_a_state_for_no_model(rng):
    model, optimizer = network(), fnn.Adam(0.01)
    model.fit(*labelled(rng), optimizer=optimizer, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"has no model yet: give the one that is to be trained"):
        fnn.Adam(0.01).load_state_dict(optimizer.state_dict())
    with pytest.raises(TypeError, match="model is 3, expected a Sequential"):
        optimizer.load_state_dict(optimizer.state_dict(), 3)
    own = of_a_users()
    own.fit(*labelled(rng), optimizer=optimizer, epochs=1, verbose=0)
    state = optimizer.state_dict()
    state["own_slots"][0] = np.zeros((2, 1, 1))
    with pytest.raises(ValueError, match=r"own_slots\[0\] of the state have shape \(2, 1, 1\)"):
        optimizer.load_state_dict(state, own)
    with pytest.raises(ValueError, match=r"own_slots holds 0 arrays, but the model's own layers have 2"):
        optimizer.load_state_dict({**state, "own_slots": []}, own)


class Listening:
    def __init__(self, breaks=None):
        self.heard, self.breaks = [], breaks

    def __call__(self, model, epoch, values):
        self.heard.append((epoch, values["loss"]))

    def after_batch(self, model, epoch, batch, loss):
        self.heard.append((epoch, batch, loss))
        if (epoch, batch) == self.breaks:
            raise RuntimeError("as a user's code may")


def with_dropout(*more):
    layers = fnn.Linear(6, 9), fnn.BatchNorm(9), fnn.ReLU(), fnn.Dropout(0.3), *more, fnn.Linear(9, 3)
    return fnn.Sequential(*layers, dtype="float64", seed=1)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("make", [with_dropout, lambda: with_dropout(UserReLU())], ids=["compiled", "layer by layer"])
def test_a_call_after_each_batch(make, accumulate, rng):
    """The same bits as without one; what it hears are the means that make the loss of the epoch."""
    X, y = labelled(rng)
    listening, settings = Listening(), {"optimizer": "adam", "epochs": 2, "batch_size": 12, "l2": 0.01, "verbose": 0}
    models = make(), make()
    plain = models[0].fit(X, y, accumulate=accumulate, **settings)
    history = models[1].fit(X, y, accumulate=accumulate, callbacks=[listening], **settings)
    np.testing.assert_array_equal(weights(models[0]), weights(models[1]))
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-12)
    updates = -(-5 // accumulate)
    places = [(e, *(() if b > updates else (b,))) for e in (1, 2) for b in range(1, updates + 2)]
    assert [entry[:-1] for entry in listening.heard] == places
    sizes = [12, 12, 12, 12, 2] if accumulate == 1 else [24, 24, 2]
    assert np.average([entry[-1] for entry in listening.heard[:updates]], weights=sizes) == pytest.approx(
        history["loss"][0], rel=1e-12
    )


def test_a_call_after_each_batch_of_a_source(rng):
    X, y = labelled(rng)
    chunks, settings = [(X[:20], y[:20]), (X[20:], y[20:])], {"epochs": 2, "batch_size": 12, "verbose": 0}
    listening, models = Listening(), (with_dropout(), with_dropout())
    plain = models[0].fit(chunks, buffer=40, **settings)
    history = models[1].fit(chunks, buffer=40, callbacks=[listening], **settings)
    np.testing.assert_array_equal(weights(models[0]), weights(models[1]))
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-12)
    assert [entry[:-1] for entry in listening.heard] == [(e, *b) for e in (1, 2) for b in ([1], [2], [3], [4], [5], [])]


def test_what_a_call_after_a_batch_raises(rng):
    X, y = labelled(rng)
    models = network(), network()
    models[0].fit(X, y, epochs=1, batch_size=12, verbose=0)
    listening = Listening(breaks=(2, 2))
    with pytest.raises(RuntimeError, match="as a user's"):
        models[1].fit(X, y, epochs=3, batch_size=12, callbacks=[listening], verbose=0)
    np.testing.assert_array_equal(weights(models[0]), weights(models[1]))


def test_divergence_where_batches_are_heard(rng):
    X, _ = labelled(rng)
    errors = []
    for callbacks in ([], [Listening()]):
        with pytest.raises(fnn.DivergenceError) as error:
            network().fit(X * 1e6, X[:, :3] * 1e6, loss="squared_error", optimizer=fnn.SGD(1e4), batch_size=5,
                          callbacks=callbacks, verbose=0)  # fmt: skip
        errors.append((error.value.epoch, error.value.batch))
    assert errors[0] == errors[1]


def test_many_networks_hear_of_their_batches(rng):
    X, y = labelled(rng)
    models, alone = [network(seed=seed) for seed in range(3)], [network(seed=seed) for seed in range(3)]
    heard = [Listening(), Listening(), None]
    callbacks = [[] if one is None else [one] for one in heard]
    fnn.fit_many(models, X, y, callbacks=callbacks, epochs=2, batch_size=25, verbose=0)
    for one, other in zip(models, alone, strict=True):
        other.fit(X, y, epochs=2, batch_size=25, verbose=0)
        np.testing.assert_array_equal(weights(one), weights(other))
    assert [len(one.heard) for one in heard if one] == [6, 6]
