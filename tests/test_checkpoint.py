"""Models that are saved while they train."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from tests.many import small
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network
from tests.user_code import UserReLU

SHORT = {"epochs": 8, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def follow(callback, values, model=None):
    """Feed values as fit does, and return the files after each epoch."""
    model, seen = model or fnn.Sequential(fnn.Linear(1, 1)), []
    callback.begin(model, ("loss", "val_loss", "val_accuracy"))
    for epoch, value in enumerate(values, 1):
        assert callback(model, epoch, {callback.monitor: value, "loss": 1 / 3}) is None
        seen.append(sorted(os.listdir()))
    callback.end(model)
    return seen


class TestSequences:
    def test_only_the_best(self, here):
        callback = fnn.ModelCheckpoint("{epoch}.npz")
        seen = follow(callback, [np.nan, 3, 3, 2, 4, 1])
        assert seen[0] == []
        assert seen[-1] == ["2.npz", "4.npz", "6.npz"]
        assert (callback.best_epoch, callback.best_value, callback.saved) == (6, 1, "6.npz")
        follow(callback, [9])
        assert (callback.best_epoch, callback.best_value, callback.saved) == (1, 9, "1.npz")

    def test_each_epoch(self, here):
        callback = fnn.ModelCheckpoint(Path("{epoch:02d}.npz"), save_best_only=False)
        assert follow(callback, [2, 1, 3])[-1] == ["01.npz", "02.npz", "03.npz"]
        assert (callback.best_epoch, callback.saved) == (2, "03.npz")

    def test_what_gets_better_as_it_rises(self, here):
        assert follow(fnn.ModelCheckpoint("{epoch}.npz", "val_accuracy"), [0.5, 0.4, 0.6])[-1] == ["1.npz", "3.npz"]

    def test_values_in_the_name(self, here):
        assert follow(fnn.ModelCheckpoint("{{{loss:.2f}}} {val_loss}.npz"), [0.5])[-1] == ["{0.33} 0.5.npz"]


@pytest.mark.usefixtures("backend")
class TestFit:
    def test_the_file_is_the_model_of_its_epoch(self, data, here):
        callback, stopping = fnn.ModelCheckpoint("best.npz"), fnn.EarlyStopping(patience=8)
        model = network()
        names = np.array(["a", "b", "c"])[data[1]]
        model.fit(data[0], names, validation_split=0.3, callbacks=[callback, stopping], **SHORT)
        assert (callback.best_epoch, callback.best_value) == (stopping.best_epoch, stopping.best_value)
        loaded = fnn.load("best.npz")
        assert_same_weights(loaded, model, rtol=0)  # which the other callback has restored
        assert loaded.predict(data[0]).tolist() == model.predict(data[0]).tolist()
        assert os.listdir() == ["best.npz"]

    def test_without_validation_data(self, data, here):
        network().fit(*data, callbacks=[fnn.ModelCheckpoint("{epoch}.npz", save_best_only=False)], **SHORT)
        assert sorted(os.listdir()) == [f"{i}.npz" for i in range(1, 9)]

    def test_each_of_many(self, data, here):
        models = [small(seed) for seed in range(3)]
        callback = fnn.ModelCheckpoint("model {model}.npz", monitor="loss")
        fnn.fit_many(models, *data, callbacks=[callback], **SHORT)
        for i, model in enumerate(models):
            assert_same_weights(fnn.load(f"model {i}.npz"), model, rtol=0)
        own = [[fnn.ModelCheckpoint("own {model}.npz", monitor="loss")], [fnn.ModelCheckpoint("b.npz", "loss")], None]
        fnn.fit_many(models, *data, callbacks=own, **SHORT)
        assert_same_weights(fnn.load("own 0.npz"), models[0], rtol=0)
        assert_same_weights(fnn.load("b.npz"), models[1], rtol=0)
        assert own[1][0].saved == "b.npz"

    @pytest.mark.parametrize(
        ("callback", "error", "message"),
        [
            (fnn.ModelCheckpoint("a.npz"), ValueError, "monitor is 'val_loss', but the history will hold 'loss': give"),
            (
                fnn.ModelCheckpoint("{val_loss}.npz", "loss"),
                ValueError,
                r"path is '{val_loss}.npz', which holds {val_loss}: expected {epoch}, {model}, {loss}$",
            ),
            (
                fnn.ModelCheckpoint("{loss:d}.npz", "loss"),
                ValueError,
                "path is '{loss:d}.npz', which cannot be filled in: Unknown format code 'd'",
            ),
            (
                fnn.ModelCheckpoint(os.path.join("none", "a.npz"), "loss"),
                ValueError,
                "path is '.*', but there is no folder 'none': make it first",
            ),
        ],
    )
    def test_refused_before_anything_changes(self, callback, error, message, data, here):
        model = network()
        before = state(model)
        with pytest.raises(error, match=message):
            model.fit(*data, callbacks=[callback], **SHORT)
        assert state(model) == before

    def test_one_path_for_many(self, data, here):
        with pytest.raises(ValueError, match=r"models\[0\]: path is 'a.npz' for 2 models: put {model} into it"):
            fnn.fit_many([small(0), small(1)], *data, callbacks=[fnn.ModelCheckpoint("a.npz", "loss")], **SHORT)

    def test_a_model_that_cannot_be_saved(self, data, here):
        model = fnn.Sequential(fnn.Linear(6, 3), UserReLU())
        with pytest.raises(TypeError, match=r"layer 1, .*, is not built in: save knows"):
            model.fit(*data, callbacks=[fnn.ModelCheckpoint("a.npz", "loss")], **SHORT)
        assert model.loss is None

    def test_a_file_that_cannot_be_written(self, data, here):
        os.mkdir("2.npz")
        model = network()
        with pytest.raises(OSError, match=r"2\.npz"):
            model.fit(*data, callbacks=[fnn.ModelCheckpoint("{epoch}.npz", "loss")], **SHORT)
        assert len(model.history["loss"]) == 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"path": 3}, TypeError, "path is 3, expected a str or a path"),
        ({"path": b"a"}, TypeError, "path is b'a', expected a str or a path"),
        ({"path": "{"}, ValueError, "path is '{', whose braces do not fit .*: write {{ for one of its own"),
        ({"path": "{}"}, ValueError, "path is '{}', which holds {}: expected names, such as {epoch}"),
        ({"path": "{epoch.real}"}, ValueError, "path is '{epoch.real}', which holds {epoch.real}: expected names"),
        ({"path": "a", "monitor": "hits"}, ValueError, "monitor is 'hits', expected 'loss'"),
        ({"path": "a", "save_best_only": 1}, TypeError, "save_best_only is 1, expected True or False"),
    ],
)
def test_refused(settings, error, message):
    with pytest.raises(error, match=message):
        fnn.ModelCheckpoint(**settings)


def test_repr():
    shown = "ModelCheckpoint('a.npz', monitor='auc', save_best_only=True, mode='max')"
    assert repr(fnn.ModelCheckpoint("a.npz", "auc", mode="max")) == shown
    assert repr(fnn.ModelCheckpoint("a.npz")) == "ModelCheckpoint('a.npz', monitor='val_loss', save_best_only=True)"
