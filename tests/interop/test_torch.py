"""Modules of PyTorch as models, and models as modules."""

import copy

import numpy as np
import pytest

import fastnn as fnn
from fastnn.interop import from_torch, to_torch

from .networks import every_layer

torch = pytest.importorskip("torch")
nn = torch.nn


def outputs(module, X):
    with torch.no_grad():
        return module.eval()(torch.from_numpy(X)).numpy()


def assert_close(found, wanted):
    assert found.dtype == wanted.dtype
    rtol = 2e-5 if wanted.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * abs(wanted).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_there_and_back(dtype):
    model, X = every_layer(dtype)
    model.layers[2].trainable = False
    module = to_torch(model)
    assert not module.training
    assert not module[2].weight.requires_grad
    assert module[-3].layers[1].weight.requires_grad
    assert_close(outputs(module, X), model.forward(X))
    back = from_torch(module)
    assert repr(back) == repr(model)
    assert (back.forward(X) == model.forward(X)).all()

    other, _ = every_layer(dtype)
    for parameter in other.parameters():
        parameter[...] = 0
    assert from_torch(module.state_dict(), into=other) is other
    assert (other.forward(X) == model.forward(X)).all()


def test_batch_norm_trains_alike():
    """The same running statistics after a batch: momentum and eps mean the same."""
    rng = np.random.default_rng(0)
    X = rng.normal(2, 3, size=(20, 4))
    model = fnn.Sequential(fnn.BatchNorm(4, momentum=0.3, eps=0.1), dtype="float64")
    module = to_torch(model).train()
    module(torch.from_numpy(X))
    model.forward(X, training=True)
    back = from_torch(module)
    assert back.layers[0].momentum == 0.3
    np.testing.assert_allclose(back.layers[0].running_mean, model.layers[0].running_mean, rtol=1e-12)
    np.testing.assert_allclose(back.layers[0].running_variance, model.layers[0].running_variance, rtol=1e-12)


def test_modules_as_people_write_them():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8, eps=1e-3), nn.ReLU(inplace=True))
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(5, 8), nn.Softplus(), body, nn.Dropout(0.1), nn.Linear(8, 3), nn.Softmax(dim=1)
    )
    X = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    module(torch.from_numpy(X) * 3)  # running statistics
    model = from_torch(module)
    assert repr(model) == (
        "Sequential(Linear(5, 8), Softplus(), Linear(8, 8, bias=False), BatchNorm(8, 0.1, 0.001), ReLU(), "
        "Dropout(0.1), Linear(8, 3), dtype='float32')"
    )
    assert_close(model.predict_proba(X), outputs(module, X))
    half = from_torch(nn.Sequential(nn.Linear(5, 2)).to(torch.bfloat16))
    assert half.dtype == np.float32


def test_what_has_no_counterpart_is_named():
    class Own(nn.Module):
        def forward(self, x):
            return x

    partly = nn.Linear(2, 2)
    partly.bias.requires_grad_(False)
    for module, error, message in (
        (
            nn.Sequential(nn.Linear(2, 2), nn.Conv1d(1, 1, 1)),
            TypeError,
            r"module 1 is Conv1d.*, for which fastnn has no",
        ),
        (nn.Sequential(nn.Sequential(Own())), TypeError, r"module 0\.0 is Own\(\), for which fastnn has no layer"),
        (nn.Sequential(nn.Softmax(1), nn.Linear(2, 2)), TypeError, r"module 0 is Softmax\(dim=1\), for which"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(0)), ValueError, r"module 1 has dim=0, expected 1"),
        (Own(), TypeError, "source is a Own, whose forward is its own"),
        (3, TypeError, "source is int, expected a torch.nn.Sequential or a state_dict"),
        (nn.Sequential(), ValueError, "source has no modules"),
        (
            nn.Sequential(nn.LayerNorm(3, bias=False)),
            ValueError,
            "but a LayerNorm has one dimension, a weight and a bias",
        ),
        (nn.Sequential(nn.BatchNorm1d(3, momentum=None)), ValueError, "but a BatchNorm has weight, bias, running"),
        (nn.Sequential(nn.Softplus(beta=2)), ValueError, "but a Softplus has beta=1 and no threshold"),
        (nn.Sequential(partly), ValueError, "module 0 has parameters of which some are frozen"),
        (nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)), TypeError, r"module 0\.bias holds complex64"),
    ):
        with pytest.raises(error, match=message):
            from_torch(module)
    with pytest.raises(ValueError, match="into is for a state_dict"):
        from_torch(nn.Sequential(nn.Linear(2, 2)), into=fnn.Sequential(fnn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"model is 3, expected a Sequential or an estimator of fastnn\.sklearn"):
        to_torch(3)

    class OwnLayer(fnn.ReLU):
        pass

    with pytest.raises(TypeError, match=r"layer 1, OwnLayer\(\), has no counterpart in PyTorch"):
        to_torch(fnn.Sequential(fnn.Linear(2, 2), OwnLayer()))


def test_state_dicts_that_do_not_fit_change_nothing():
    model = fnn.Sequential(fnn.Standardize(3, 1.0), fnn.Linear(3, 4), fnn.ReLU(), fnn.Linear(4, 2))
    before = copy.deepcopy(model.parameters())
    fits = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()
    for change, error, message in (
        ({"2.weight": None}, ValueError, r"layer 3, Linear\(4, 2\), takes weight, bias, but source holds bias of 2 in"),
        ({"2.weight": None, "2.bias": None}, ValueError, r"layer 3, .*, finds no arrays in source"),
        ({"4.weight": torch.ones(2)}, ValueError, r"source holds 4\.weight, for which the model has no layer"),
        ({"2.weight": torch.ones(4, 2)}, ValueError, r"2\.weight has shape \(4, 2\), but layer 3, .*, takes \(2, 4\)"),
        ({"2.bias": torch.full((2,), torch.nan)}, ValueError, r"2\.bias holds NaN"),
        ({"2.bias": torch.ones(2, dtype=torch.bool)}, TypeError, r"2\.bias holds bool, expected real numbers"),
    ):
        state = {name: value for name, value in {**fits, **change}.items() if value is not None}
        with pytest.raises(error, match=message):
            from_torch(state, into=model)
        assert all((a == b).all() for a, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(TypeError, match="into is None, expected a Sequential: a state_dict does not say"):
        from_torch(fits)
    from_torch(fits, into=model)
    np.testing.assert_array_equal(model.layers[3].weight, fits["2.weight"].numpy().T)
