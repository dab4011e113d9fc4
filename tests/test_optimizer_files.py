"""Optimizers in the files of their models, and files that are open already: training goes on as if nothing had been."""

import io

import numpy as np
import pytest

import fastnn as fnn
from fastnn.nn import optimizer_files

pytestmark = pytest.mark.usefixtures("backend")

OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(0.1),
    "nesterov": lambda: fnn.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=0.5),
    "adam": lambda: fnn.Adam(fnn.schedules.cosine(0.01, 20, warmup=2, per="step")),
    "adamw": lambda: fnn.AdamW(fnn.schedules.piecewise([0.01, 0.001], [3]), weight_decay=0.1),
    "rmsprop": lambda: fnn.RMSprop(fnn.schedules.linear_warmup(fnn.schedules.exponential_decay(0.1, 0.9), 3)),
}


@pytest.fixture
def data(rng):
    return rng.normal(size=(60, 6)), rng.integers(0, 3, 60)


def network(dtype="float32"):
    layers = fnn.Linear(6, 9), fnn.BatchNorm(9), fnn.Residual(fnn.Linear(9, 9), fnn.ReLU()), fnn.Linear(9, 3)
    return fnn.Sequential(*layers, seed=1, dtype=dtype)


def rewound(target):
    """An open file at its start, or a path."""
    if isinstance(target, io.BytesIO):
        target.seek(0)
    return target


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_go_on(name, as_file, data, tmp_path, dtype):
    model, optimizer = network(np.dtype(dtype).name), OPTIMIZERS[name]()
    settings = {"epochs": 2, "shuffle": False, "verbose": 0}
    model.fit(*data, optimizer=optimizer, **settings)
    target = io.BytesIO() if as_file else tmp_path / "both.npz"
    model.save(target, optimizer=optimizer)
    again, its_optimizer = fnn.load(rewound(target), optimizer=True)
    assert repr(its_optimizer) == repr(optimizer)
    assert (its_optimizer.steps, its_optimizer.epoch) == (optimizer.steps, optimizer.epoch) == (4, 2)
    assert isinstance(fnn.load(rewound(target)), fnn.Sequential)
    for each, its in ((model, optimizer), (again, its_optimizer)):
        each.fit(*data, optimizer=its, **settings)
    np.testing.assert_array_equal(again._stack.params, model._stack.params)
    for one, other in zip(its_optimizer.state(), optimizer.state(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_ensemble_in_an_open_file(data):
    members, target = fnn.Ensemble([network() for _ in range(2)]), io.BytesIO()
    members.save(target)
    X = data[0]
    np.testing.assert_array_equal(fnn.Ensemble.load(rewound(target)).outputs(X), members.outputs(X))
    with pytest.raises(ValueError, match=r"holds no optimizer: save both with model\.save\("):
        fnn.load(rewound(target), optimizer=True)


def test_what_is_refused(data, tmp_path):
    path, model, optimizer = tmp_path / "both.npz", network(), fnn.Adam()
    with pytest.raises(ValueError, match=r"optimizer is Adam\(.*, which has not trained this model: give the one that"):
        model.save(path, optimizer=optimizer)
    with pytest.raises(TypeError, match=r"optimizer is 'adam', but a file holds SGD, Adam, AdamW, RMSprop.*: pickle"):
        model.save(path, optimizer="adam")
    optimizer.lr = lambda epoch: 0.1
    model.fit(*data, optimizer=optimizer, epochs=1, verbose=0)
    with pytest.raises(TypeError, match=r"lr of the optimizer is <function .*, but a file holds numbers and the sched"):
        model.save(path, optimizer=optimizer)
    assert not path.exists()
    model.save(path)
    with pytest.raises(ValueError, match=r"both\.npz holds no optimizer"):
        fnn.load(path, optimizer=True)
    with pytest.raises(TypeError, match="optimizer is 1, expected True or False"):
        fnn.load(path, optimizer=1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"class": "Lion"}, "the optimizer is 'Lion', which this version of fastnn does not know"),
        ({"steps": -1}, "steps of the optimizer is -1, expected a number of them"),
        ({"settings": {"lr": -1.0}}, "lr"),
        ({"settings": {"lr": {"schedule": "ABC", "settings": {}}}}, "the schedule is 'ABC', which this version"),
        ({"settings": {"lr": 0.1, "beta": 3}}, "beta"),
    ],
)
def test_files_of_nobodys_making(edit, message, data, tmp_path, monkeypatch):
    model, optimizer, path = network(), fnn.Adam(), tmp_path / "both.npz"
    model.fit(*data, optimizer=optimizer, epochs=1, verbose=0)
    describe = optimizer_files.describe
    monkeypatch.setattr(optimizer_files, "describe", lambda *given: describe(*given) | edit)
    model.save(path, optimizer=optimizer)
    with pytest.raises(ValueError, match=rf"both\.npz is not a valid model: .*{message}"):
        fnn.load(path, optimizer=True)
