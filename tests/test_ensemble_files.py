"""Ensembles in one file: what is saved is what is loaded, and what is no ensemble is refused."""

import json
import os
import re
import zipfile

import numpy as np
import pytest

import fastnn as fnn
from tests.test_damaged_files import assert_refused_unread, bomb, check
from tests.test_ensemble import members, model
from tests.user_code import UserReLU


def savable(loss="cross_entropy"):
    models = members(loss)
    return fnn.Ensemble([models[0], models[1], models[3]])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ensemble.npz"
    savable().save(path)
    return path


@pytest.mark.parametrize("loss", ["cross_entropy", fnn.CrossEntropy(0.2), fnn.Huber(0.5), None], ids=repr)
def test_one_file(loss, tmp_path, rng, backend):
    ensemble, X = savable(loss), rng.normal(size=(700, 4))
    ensemble.save(str(tmp_path / "e"))
    for load in (fnn.load, fnn.Ensemble.load):
        same = load(str(tmp_path / "e"))
        assert type(same) is fnn.Ensemble
        assert repr(same) == repr(ensemble)
        assert [repr(member.loss) for member in same] == [repr(member.loss) for member in ensemble]
        np.testing.assert_array_equal(same.outputs(X, each=True), ensemble.outputs(X, each=True))
        np.testing.assert_array_equal(same.outputs(X), ensemble.outputs(X))
    if isinstance(loss, fnn.CrossEntropy):
        y = np.arange(700) % 3
        assert same.evaluate(X, y) == ensemble.evaluate(X, y)


def test_the_file_is_plain_npz(path):
    with np.load(path, allow_pickle=False) as archive:
        names, header = set(archive), json.loads(str(archive["header"]))
    linear = {f"{place}.{name}" for place in ("0/0", "0/2", "1/0", "2/1", "2/4") for name in ("weight", "bias")}
    assert names == {"header", "2/0.weight", "2/0.bias"} | linear
    assert header["format"] == 4
    assert [member["dtype"] for member in header["members"]] == ["float32", "float64", "float64"]


def test_a_file_of_one_model_is_no_ensemble(path):
    model().save(path)
    assert isinstance(fnn.load(path), fnn.Sequential)
    with pytest.raises(ValueError, match=r"ensemble\.npz holds one model, no ensemble: use fastnn\.load$"):
        fnn.Ensemble.load(path)


@pytest.mark.parametrize("load", [fnn.load, fnn.Ensemble.load], ids=["load", "Ensemble.load"])
def test_files_that_are_none(load, path):
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"ensemble\.npz is no \.npz file"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(path.parent / "none.npz")
    with pytest.raises(TypeError, match="PathLike"):
        load(3)


def test_what_cannot_be_saved_leaves_the_earlier_file(path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"^models\[1\]: layer 0, .*UserReLU.*, is not built in: save knows"):
        fnn.Ensemble([model(), fnn.Sequential(UserReLU(), fnn.Linear(4, 3))]).save(path)
    ensemble = savable()
    ensemble[1].layers[0].bias[0] = np.nan
    with pytest.raises(ValueError, match=r"^1/0\.bias holds NaN or infinite values"):
        ensemble.save(path)
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(path.parent / "none" / "e.npz")))):
        savable().save(path.parent / "none" / "e.npz")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def change(path, edit):
    """Rewrite the file after edit(header, arrays)."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays.pop("header")))
    edit(header, arrays)
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h, a: h.update(format=7), "has format 7, but this version of fastnn reads up to 6: update fastnn"),
        (lambda h, a: h.update(members=[]), "is not a valid model: models is empty, expected at least one Sequential"),
        (lambda h, a: h.update(members=3), "is not a valid model: 'int' object is not iterable"),
        (lambda h, a: h.update(members="abc"), r"is not a valid model: models\[0\]: string indices must be"),
        (lambda h, a: h.update(members=[[]]), r"is not a valid model: models\[0\]: list indices must be"),
        (lambda h, a: h.pop("members"), "is not a valid model: 'layers' is missing"),
        (lambda h, a: h["members"][1].pop("layers"), r"is not a valid model: models\[1\]: 'layers' is missing"),
        (
            lambda h, a: h["members"][1].update(layers=[]),
            r"is not a valid model: models\[1\]: a Sequential needs at least",
        ),
        (
            lambda h, a: h["members"][1].update(loss="hinge"),
            r"is not a valid model: models\[1\]: loss is 'hinge', expected",
        ),
        (
            lambda h, a: h["members"][1].update(dtype="float16"),
            r"is not a valid model: models\[1\]: dtype is 'float16'",
        ),
        (
            lambda h, a: h["members"][1].update(loss="huber"),
            r"is not a valid model: models\[1\] was trained with Huber",
        ),
        (lambda h, a: h["members"].pop(0), r"is not a valid model: 0/0.weight has shape \(4, 7\), expected \(4, 3\)"),
        (lambda h, a: a.pop("2/4.bias"), "is not a valid model: '2/4.bias' is missing"),
        (
            lambda h, a: a.update({"1/0.bias": np.zeros(4)}),
            r"is not a valid model: 1/0.bias has shape \(4,\), expected \(3,\)",
        ),
        (
            lambda h, a: a.update({"1/0.weight": np.full((4, 3), np.nan)}),
            r"is not a valid model: models\[1\]: weight holds NaN or inf",
        ),
    ],
)
def test_wrong_content(path, edit, message):
    change(path, edit)
    for load in (fnn.load, fnn.Ensemble.load):
        with pytest.raises(ValueError, match=rf"ensemble\.npz {message}"):
            load(path)


def test_damaged(path, rng):
    def parameters(path):
        return [p for member in fnn.load(path) for p in member.parameters()]

    check(path, parameters, rng, step=41)


def test_weights_that_do_not_fit_are_not_inflated(path):
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    contents["2/4.bias.npy"] = bomb((1 << 21,))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    message = "ensemble.npz is not a valid model: 2/4.bias has shape (2097152,), expected (3,)"
    assert_refused_unread(fnn.load, path, message)
