"""The way around layers: by hand, in every place, on both paths of training, and side by side."""

import numpy as np
import pytest

import fastnn as fnn
from tests.many import assert_as_alone, labelled
from tests.training import assert_same_weights
from tests.user_code import UserLinear, UserReLU


def test_by_hand(backend):
    """y = x + 2 x, and dx = dy + 2 dy."""
    block = fnn.Residual(fnn.Linear(2, 2, init=2 * np.eye(2)))
    model = fnn.Sequential(block)
    np.testing.assert_array_equal(model.forward([[1.0, -2.0]]), [[3, -6]])
    model.forward([[1.0, -2.0]], training=True)
    np.testing.assert_array_equal(model.backward([[1.0, 10.0]]), [[3, 30]])
    np.testing.assert_array_equal(block.layers[0].weight_grad, [[1, 10], [-2, -20]])
    assert [p.shape for p in block.parameters()] == [g.shape for g in block.gradients()] == [(2, 2), (2,)]


# Where a way begins and ends: at the input and at the output, at, before and behind rectifiers, within another one,
# around nothing that runs, and two that begin or end together.
NETWORKS = {
    "input": lambda r: [fnn.Residual(fnn.Linear(6, 6), r()), fnn.Linear(6, 3)],
    "output": lambda r: [fnn.Linear(6, 3), r(), fnn.Residual(fnn.Linear(3, 3), fnn.LayerNorm(3))],
    "rectifiers": lambda r: [
        fnn.Linear(6, 7), r(), fnn.Residual(fnn.Linear(7, 9), r(), fnn.Linear(9, 7), r()), r(), fnn.Linear(7, 3)
    ],
    "begins with a rectifier": lambda r: [
        fnn.Linear(6, 7), fnn.Residual(r(), fnn.Linear(7, 7), r(), fnn.Linear(7, 7)), fnn.Tanh(), fnn.Linear(7, 3)
    ],
    "elementwise alone": lambda r: [fnn.Linear(6, 7), fnn.Residual(r(), fnn.Tanh(), fnn.Sigmoid()), fnn.Linear(7, 3)],
    "nothing that runs": lambda r: [fnn.Linear(6, 7), fnn.Residual(fnn.Identity()), r(), fnn.Linear(7, 3)],
    "begin together": lambda r: [
        fnn.Linear(6, 7), fnn.Residual(fnn.Residual(fnn.Linear(7, 7), r()), fnn.Linear(7, 7)), r(), fnn.Linear(7, 3)
    ],
    "end together": lambda r: [
        fnn.Linear(6, 7), fnn.Residual(fnn.Linear(7, 7), fnn.Residual(fnn.Tanh(), fnn.Sigmoid())), fnn.Linear(7, 3)
    ],
    "one after the other": lambda r: [
        fnn.Linear(6, 7), *(fnn.Residual(fnn.Linear(7, 7), r()) for _ in range(4)), fnn.Linear(7, 3)
    ],
    "batch norm": lambda r: [
        fnn.Linear(6, 7), fnn.Residual(fnn.BatchNorm(7), r(), fnn.Linear(7, 7)), fnn.BatchNorm(7), r(), fnn.Linear(7, 3)
    ],
}  # fmt: skip


def built(kind, dtype="float64", seed=1, rectifier=fnn.ReLU):
    return fnn.Sequential(*NETWORKS[kind](rectifier), dtype=dtype, seed=seed)


@pytest.mark.parametrize("kind", NETWORKS)
def test_compiled_and_layer_by_layer_train_alike(kind, backend, rng):
    X, y = labelled(rng)
    models = [built(kind), built(kind, rectifier=UserReLU)]
    for model in models:
        assert fnn.check_gradients(model, X[:9], y[:9], l2=0.1) < 1e-6
        model.fit(X, y, l2=0.01, epochs=3, batch_size=16, verbose=0)
    assert models[0]._stack.network is not None
    assert_same_weights(*models)
    np.testing.assert_allclose(*(model.forward(X) for model in models), rtol=1e-8, atol=1e-12)


def test_networks_side_by_side_have_the_bits_of_one_alone(rng):
    X, y = labelled(rng)
    models = [built(kind, dtype, seed) for kind in NETWORKS for dtype in ("float32", "float64") for seed in range(3)]
    assert_as_alone(models, X, y, [{"batch_size": 16, "optimizer": "adam", "epochs": 2}] * len(models))


def test_it_is_saved_and_copied(rng, tmp_path):
    X, y = labelled(rng)
    for kind in NETWORKS:
        model = built(kind, "float32")
        model.fit(X, y, epochs=1, batch_size=16, verbose=0)
        model.save(tmp_path / "m.npz")
        loaded = fnn.load(tmp_path / "m.npz")
        np.testing.assert_array_equal(loaded.forward(X), model.forward(X))
        assert repr(loaded) == repr(model)


def test_members_of_an_ensemble_answer_alike(rng):
    X = rng.normal(size=(40, 6))
    models = [built("begin together", "float32", seed) for seed in range(20)]
    expected = np.array([model.forward(X) for model in models]).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(fnn.Ensemble(models).outputs(X), expected, rtol=1e-6)


def test_layers_of_the_user_may_be_among_them(rng):
    X, y = labelled(rng)
    model = fnn.Sequential(fnn.Residual(UserLinear(np.eye(6), np.zeros(6)), UserReLU()), fnn.Linear(6, 3))
    before = model.layers[0].layers[0].weight.copy()
    model.fit(X, y, epochs=1, verbose=0)
    assert (model.layers[0].layers[0].weight != before).any()


def test_the_profile_adds_up_its_parts(rng):
    X, y = labelled(rng)
    model = built("rectifiers")
    parts = fnn.profile(model, X, y, seconds=0.01).parts
    assert [part.layer for part in parts if part.phase == "forward"] == [0, 1, 2, 2, 2, 3, 4]
    assert [part.name for part in parts if part.layer == 2 and part.phase == "forward"][-1] == "x + f(x)"
    assert sum(part.share_of_step for part in parts) == pytest.approx(1)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ((), ValueError, "a Residual needs at least one layer"),
        ((fnn.Linear(3, 4),), ValueError, "have 3 inputs and 4 outputs: they must be equal"),
        ((fnn.Linear(3, 4), fnn.Linear(5, 3)), ValueError, "layer 1, .* has 5 inputs, but layer 0 has 4 outputs"),
        (([fnn.Linear(3, 3)],), TypeError, r"not as a list: Residual\(\*layers\)"),
        ((fnn.Linear,), TypeError, "layer 0 is the class Linear"),
    ],
)
def test_refusals(layers, error, message):
    with pytest.raises(error, match=message):
        fnn.Residual(*layers)


def test_a_layer_belongs_to_one_place():
    layer = fnn.Linear(3, 3)
    with pytest.raises(ValueError, match="layer 1 is an object that comes earlier too"):
        fnn.Sequential(layer, fnn.Residual(layer))
    fnn.Sequential(layer)
    with pytest.raises(ValueError, match="belongs to another model already"):
        fnn.Residual(layer)


def test_widths_that_a_users_layers_turn_out_to_have():
    class Half(fnn.Layer):
        def forward(self, x, training=False):
            return x[:, ::2]

        def backward(self, dy):
            return dy

    with pytest.raises(ValueError, match=r"return shape \(5, 2\) for \(5, 4\): they must be equal"):
        fnn.Sequential(fnn.Residual(Half())).forward(np.ones((5, 4)))
