"""Saved models: the same bits back, and a clear error for every file that is none."""

import json
import os
import pickle
import stat

import numpy as np
import pytest

import fastnn as fnn
from tests.user_code import AbsoluteError, UserReLU


def network(dtype="float32"):
    layers = fnn.Linear(4, 6), fnn.LeakyReLU(0.2), fnn.Linear(6, 5, bias=False), fnn.Tanh(), fnn.Sigmoid()
    return fnn.Sequential(*layers, fnn.Linear(5, 3), fnn.Identity(), fnn.ReLU(), dtype=dtype, seed=3)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.npz"
    model = network()
    model.loss = "cross_entropy"
    model.save(path)
    return path


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_round_trip(loss, dtype, tmp_path, rng, backend):
    model, X = network(dtype), rng.normal(size=(20, 4))
    y = np.eye(3)[rng.integers(3, size=20)]
    model.fit(X, y, loss=loss, epochs=2, verbose=0)
    model.save(str(tmp_path / "model"))
    same = fnn.load(str(tmp_path / "model"))
    assert repr(same) == repr(model)
    assert same.dtype == dtype
    assert type(same.loss) is type(model.loss)
    for ours, theirs in zip(model.parameters(), same.parameters(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))
    same.fit(X, y, loss=loss, epochs=1, verbose=0)


def test_a_model_without_a_loss_or_with_a_users_has_none(tmp_path):
    model = network()
    for _ in range(2):
        model.save(tmp_path / "m.npz")
        assert fnn.load(tmp_path / "m.npz").loss is None
        model.loss = AbsoluteError()


def test_the_file_is_plain_npz(path):
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive) == {"header", "0.weight", "0.bias", "2.weight", "5.weight", "5.bias"}
        header = json.loads(str(archive["header"]))
    assert header["format"] == 1
    assert header["layers"][1] == {"class": "LeakyReLU", "slope": 0.2}


def test_a_failed_save_leaves_the_earlier_file_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        network().save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_permissions_are_those_of_any_new_file(path):
    other = path.parent / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_link_stays_a_link(path):
    link = path.parent / "link.npz"
    link.symlink_to(path)
    network().save(link)
    assert link.is_symlink()
    assert fnn.load(path).loss is None


def test_a_users_layer_cannot_be_saved(tmp_path):
    class MyLinear(fnn.Linear):
        pass

    for layer in (UserReLU(), MyLinear(2, 2)):
        with pytest.raises(TypeError, match=r"layer 1, .*, is not built in: save knows Linear, Identity, ReLU"):
            fnn.Sequential(fnn.Linear(2, 2), layer).save(tmp_path / "m.npz")
    assert os.listdir(tmp_path) == []


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "none.npz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_off(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model.npz (is damaged or was cut off|is not a saved fastnn model)"):
        fnn.load(path)


def test_every_flipped_byte_is_found_or_harmless(path, rng):
    content, model = bytearray(path.read_bytes()), network()
    for at in rng.integers(len(content), size=200):
        damaged = content.copy()
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        try:
            loaded = fnn.load(path)
        except ValueError:
            continue
        for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_pickled_data(path):
    np.savez(path, header=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match=r"model.npz holds pickled data, which could run code and is never loaded"):
        fnn.load(path)


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"", b"hello", b"\x93NUMPY\x01\x00"])
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.npz is not a saved fastnn model: it is no .npz file"):
        fnn.load(path)


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
        (lambda h, a: h.update(format=2), "has format 2, but this version of fastnn reads up to 1: update fastnn"),
        (lambda h, a: h.update(kind="other"), "is not a saved fastnn model: its header is that of something else"),
        (lambda h, a: h.pop("format"), "is not a saved fastnn model: its header is that of something else"),
        (lambda h, a: h.pop("layers"), "is not a valid model: 'layers' is missing"),
        (lambda h, a: h.update(layers=[]), "is not a valid model: a Sequential needs at least one layer"),
        (lambda h, a: h.update(layers=3), "is not a valid model: 'int' object is not iterable"),
        (lambda h, a: h.update(dtype="float16"), "is not a valid model: dtype is 'float16', expected"),
        (lambda h, a: h.update(loss="hinge"), "is not a valid model: loss is 'hinge', expected"),
        (lambda h, a: h["layers"][1].update({"class": "Swish"}), "layer 1 has the class 'Swish', which this version"),
        (lambda h, a: h["layers"][1].update(slope=-1), "is not a valid model: slope is -1, expected a finite number"),
        (
            lambda h, a: h["layers"][0].update(n_in=5),
            r"is not a valid model: init has shape \(4, 6\), expected \(5, 6\)",
        ),
        (lambda h, a: h["layers"].pop(0), "is not a valid model: '1.weight' is missing"),
        (lambda h, a: a.pop("5.bias"), "is not a valid model: '5.bias' is missing"),
        (
            lambda h, a: a.update({"5.bias": np.zeros(4)}),
            r"is not a valid model: bias has shape \(4,\), expected \(3,\)",
        ),
        (lambda h, a: a.update({"0.weight": np.full((4, 6), np.nan)}), "is not a valid model: init holds NaN or inf"),
        (lambda h, a: a.update({"0.weight": np.full((4, 6), "a")}), "is not a valid model: init holds <U1 values"),
    ],
)
def test_wrong_content(path, edit, message):
    change(path, edit)
    with pytest.raises(ValueError, match=f"model.npz {message}" if message[:3] != "lay" else message):
        fnn.load(path)


@pytest.mark.parametrize("arrays", [{"x": np.zeros(3)}, {"header": np.array("not json")}, {"header": np.array("3")}])
def test_npz_of_something_else(path, arrays):
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"model.npz is not a saved fastnn model: (it has no|its) header"):
        fnn.load(path)
