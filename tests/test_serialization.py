"""Saved models: the same bits back, and a clear error for every file that is none."""

import contextlib
import errno
import json
import os
import pickle
import re
import stat
import zipfile
import zlib

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


def test_saves_at_once_do_not_meet(tmp_path, monkeypatch):
    sources = []

    def replace(source, target):
        sources.append(source)
        if len(sources) == 1:
            network("float64").save(tmp_path / "m.npz")
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr("os.replace", replace)
    network("float32").save(tmp_path / "m.npz")
    assert len(set(sources)) == 2
    assert fnn.load(tmp_path / "m.npz").dtype == "float32"
    assert os.listdir(tmp_path) == ["m.npz"]


def test_a_failed_save_names_the_path_that_was_given(tmp_path):
    given = tmp_path / "none" / "m.npz"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(given)))) as caught:
        network().save(given)
    assert caught.value.filename == str(given)
    with pytest.raises(IsADirectoryError, match=re.escape(repr(str(tmp_path)))):
        network().save(tmp_path)


def test_a_name_as_long_as_any(tmp_path):
    network().save(tmp_path / ("m" * 255))
    assert fnn.load(tmp_path / ("m" * 255)).dtype == "float32"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_could_not_be_loaded_are_not_saved(path, value):
    before, model = path.read_bytes(), network()
    model.layers[2].weight[0, 0] = value
    with pytest.raises(ValueError, match=r"2.weight holds NaN or infinite values"):
        model.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_permissions_are_those_of_any_new_file(path):
    other = path.parent / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_link_stays_a_link(path):
    link = path.parent / "link.npz"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("links need a right that this user has not got")
    network().save(link)
    assert link.is_symlink()
    assert fnn.load(path).loss is None


def test_a_users_layer_cannot_be_saved(tmp_path):
    class MyLinear(fnn.Linear):
        pass

    for layer in (UserReLU(), MyLinear(2, 2)):
        with pytest.raises(TypeError, match=r"layer 1, .*, is not built in: save knows .*Linear"):
            fnn.Sequential(fnn.Linear(2, 2), layer).save(tmp_path / "m.npz")
    assert os.listdir(tmp_path) == []


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "none.npz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_off(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model.npz is (damaged or was cut off|no .npz file)"):
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


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("File is encrypted, password required"),
        NotImplementedError("compression type 99"),
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("too large to convert"),
        MemoryError("Parser stack overflowed"),
        zlib.error("incorrect data check"),
        OSError("Invalid data stream"),
        ValueError("cannot reshape array"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_damaged_bytes_raise(path, error, monkeypatch):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("numpy.lib.format.read_magic", fails)
    message = f"model.npz is damaged or was cut off: array 'header' cannot be read: {error}$"
    with pytest.raises(ValueError, match=message):
        fnn.load(path)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError("Unable to allocate")])
def test_a_failing_disk_and_too_little_memory_are_no_damage(path, error, monkeypatch):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("numpy.lib.format.read_array", fails)
    with pytest.raises(type(error), match=str(error.args[-1])):
        fnn.load(path)


def test_every_bit_of_the_directory(path):
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    for at in range(start, start + 46):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            with contextlib.suppress(ValueError):
                fnn.load(path)


def test_an_array_larger_than_any_memory(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("header.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**58,)})
    with pytest.raises(ValueError, match=r"model.npz is damaged or was cut off"):
        fnn.load(path)


def test_pickled_data(path):
    np.savez(path, header=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match=r"model.npz holds pickled data, which could run code and is never loaded"):
        fnn.load(path)


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"", b"hello", b"\x93NUMPY\x01\x00"])
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.npz is no .npz file"):
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
        (lambda h, a: h.update(format=7), "has format 7, but this version of fastnn reads up to 6: update fastnn"),
        (lambda h, a: h.update(kind="other"), "is not a saved fastnn model: its header is that of something else"),
        (lambda h, a: h.pop("format"), "is not a saved fastnn model: its header is that of something else"),
        (lambda h, a: h.pop("layers"), "is not a valid model: 'layers' is missing"),
        (lambda h, a: h.update(layers=[]), "is not a valid model: a Sequential needs at least one layer"),
        (lambda h, a: h.update(layers=3), "is not a valid model: 'int' object is not iterable"),
        (
            lambda h, a: h.update(classes="abc"),
            "is not a valid model: classes are 'abc', expected a different label for",
        ),
        (lambda h, a: h.update(classes=["a", "b"]), r"is not a valid model: classes are .*for each of 3 classes"),
        (lambda h, a: h.update(classes=["a", "b", "a"]), r"is not a valid model: classes are .*, expected a different"),
        (
            lambda h, a: h.update(classes=["a", "b", 3]),
            r"is not a valid model: classes_ are .*, but a file holds labels",
        ),
        (lambda h, a: h.update(classes=[[1], [2], [3]]), r"is not a valid model: classes_ are .*, but a file holds"),
        (lambda h, a: h.update(dtype="float16"), "is not a valid model: dtype is 'float16', expected"),
        (lambda h, a: h.update(loss="hinge"), "is not a valid model: loss is 'hinge', expected"),
        (lambda h, a: h["layers"][1].update({"class": "Swish"}), "layer 1 has the class 'Swish', which this version"),
        (lambda h, a: h["layers"][1].update(slope=-1), "is not a valid model: slope is -1, expected a finite number"),
        (
            lambda h, a: h["layers"][0].update(n_in=5),
            r"is not a valid model: 0.weight has shape \(4, 6\), expected \(5, 6\)",
        ),
        (
            lambda h, a: h["layers"][0].update(n_in=10**30),
            r"is not a valid model: n_in is more than 2\*\*63 - 1, expected a positive integer",
        ),
        (lambda h, a: h["layers"][1].update(slope=10**400), "is not a valid model: slope is inf, expected a finite"),
        (lambda h, a: h["layers"].pop(0), "is not a valid model: '1.weight' is missing"),
        (lambda h, a: a.pop("5.bias"), "is not a valid model: '5.bias' is missing"),
        (
            lambda h, a: a.update({"5.bias": np.zeros(4)}),
            r"is not a valid model: 5.bias has shape \(4,\), expected \(3,\)",
        ),
        (lambda h, a: a.update({"0.weight": np.full((4, 6), np.nan)}), "is not a valid model: weight holds NaN or inf"),
        (lambda h, a: a.update({"0.weight": np.full((4, 6), "a")}), "is not a valid model: 0.weight holds <U1 values"),
    ],
)
def test_wrong_content(path, edit, message):
    change(path, edit)
    with pytest.raises(ValueError, match=f"model.npz {message}" if message[:3] != "lay" else message):
        fnn.load(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros(3)},
        {"header": np.array("not json")},
        {"header": np.array("3")},
        {"header": np.array("[" * 200_000)},
    ],
    ids=["no header", "no json", "a number", "nested too deeply"],
)
def test_npz_of_something_else(path, arrays):
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"model.npz is not a saved fastnn model: (it has no|its) header"):
        fnn.load(path)
