"""Files with flipped bits, cut off, or made to lie: what was saved comes back, or a ValueError that names the file.

Nothing large is inflated before it is refused.
"""

import gzip
import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastnn as fnn
from fastnn.datasets import load_csv, load_idx, load_npz
from fastnn.npz import opened
from tests.test_datasets import write_idx

X, Y = np.arange(6, dtype=np.float32).reshape(3, 2) - 0.5, np.array([2, 0, 1])


def damaged(content, rng, step):
    """One flipped bit in each byte, or in one of ``step``, and the file cut off there."""
    for at in range(int(rng.integers(step)), len(content), step):
        bit = int(rng.integers(8))
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        yield f"bit {bit} of byte {at}", bytes(flipped)
        yield f"cut off at {at}", content[:at]


def check(path, load, rng, step=1):
    """Load every damaged version of a file."""
    expected, messages = load(path), []
    for what, content in damaged(path.read_bytes(), rng, step):
        path.unlink()  # some file systems wait for the disk where a file is written over
        path.write_bytes(content)
        try:
            found = load(path)
        except ValueError as error:
            messages.append(str(error))
            continue
        for array, right in zip(found, expected, strict=True):
            assert (array.dtype, array.shape) == (right.dtype, right.shape), what
            np.testing.assert_array_equal(array, right, err_msg=what)
    assert len(messages) > 60
    assert all(path.name in message for message in messages)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save, rng):
    save(tmp_path / "a.npz", X=X, y=Y)
    check(tmp_path / "a.npz", load_npz, rng)


def test_model(tmp_path, rng):
    model = fnn.Sequential(fnn.Linear(2, 3), fnn.ReLU(), fnn.Linear(3, 2))
    model.loss = "squared_error"
    model.save(tmp_path / "m.npz")
    check(tmp_path / "m.npz", lambda path: fnn.load(path).parameters(), rng, step=5)


@pytest.mark.parametrize("labels", ["123", "xyz"])
def test_gzipped_csv(tmp_path, labels, rng):
    rows = "".join(f"{x},{label}\n" for x, label in zip((0.5, 2, -7e-1), labels, strict=True))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n" + rows.encode() * 9))
    check(tmp_path / "a.csv.gz", load_csv, rng)


def test_gzipped_idx(tmp_path, rng):
    write_idx(tmp_path, gzipped=True)
    check(tmp_path / "train-images-idx3-ubyte.gz", lambda path: load_idx(path.parent)[0], rng)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_npz(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def replaced(old, new):
    """The bytes of X with other text, as long, in its header."""
    content = npy(X)
    assert old in content
    return content.replace(old, new.ljust(len(old)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (replaced(b"(3, 2), }", b"(3, 9), }"), r"its header promises float32 \(3, 9\), 236 bytes, it holds 152"),
        (replaced(b"(3, 2), }", b"(3, 1), }"), r"its header promises float32 \(3, 1\), 140 bytes, it holds 152"),
        (replaced(b"(3, 2), }", b"(-3,-2),}"), r"its header promises float32 \(-3, -2\), 152 bytes, it holds 152"),
        (replaced(b"(3, 2), }   ", b"(9**9, 2), }"), "shape is not valid|malformed node"),
        (replaced(b"(3, 2), }   ", b"(3, 2), (  }"), "."),
        (replaced(b"(3, 2), }   ", b"(3L, 2L), '}"), "."),
        (replaced(b"'<f4'", b"'<O4'"), "."),
        (replaced(b"'<f4'", b"'|O' "), "holds pickled data, which could run code and is never loaded"),
        (replaced(b"'<f4', ", b"'" + b"-" * 5), "."),
        (replaced(b"NUMPY\1", b"NUMPY\7"), "."),
        (npy(X)[:-1], ".* 152 bytes, it holds 151"),
        (npy(X) + b"\0", ".* 152 bytes, it holds 153"),
        (npy(X)[:80], "."),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{" + b"-" * 200, "."),
        (b"\x93NUMPY\1\0\xff\x1f" + b"-" * 0x1FFF, "."),
        (b"\x93NUMPY\1\0\xff\x1f" + b"(" * 0x1FFF, "."),
        (b"", "."),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie(tmp_path, content, message, compression):
    write_npz(tmp_path / "a.npz", compression, X=content, y=npy(Y))
    with pytest.raises(ValueError, match=rf"a\.npz (is damaged or was cut off: array 'X' cannot be read: )?{message}"):
        load_npz(tmp_path / "a.npz")


def test_every_version_of_the_format_and_both_orders(tmp_path):
    for version in ((1, 0), (2, 0), (3, 0)):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.asfortranarray(X), version)
        path = write_npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, X=file.getvalue(), y=npy(Y))
        for found, expected in zip(load_npz(path), (X, Y), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    path = write_npz(tmp_path / "a.npz", compression, X=npy(X), y=npy(Y))
    with pytest.raises(ValueError, match=r"a\.npz .* it cannot hold the 152 bytes that its directory promises"):
        load_npz(path)


def npy_header(shape, dtype="<f8"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_larger_than_its_archive(tmp_path, compression):
    """A directory that promises gigabytes in a file of some hundred bytes, as the header does."""
    header = npy_header((2**29 - 18,))
    path = write_npz(tmp_path / "a.npz", compression, X=header, y=npy(Y))
    promised = len(header) + 8 * (2**29 - 18)
    content = path.read_bytes().replace(len(header).to_bytes(4, "little"), promised.to_bytes(4, "little"))
    path.write_bytes(content)
    assert_refused_unread(load_npz, path, f"it cannot hold the {promised} bytes that its directory promises")


def test_a_reader_that_is_not_asked_first_checks_all_the_same(tmp_path):
    path = write_npz(tmp_path / "a.npz", X=npy_header((2**30,)))

    def read(path):
        with opened(path) as archive:
            archive.read("X")

    assert_refused_unread(read, path, "its header promises float64 (1073741824,), 8589934720 bytes, it holds 128")


def bomb(shape, dtype="<f8"):
    """An array of zeros, deflated to a thousandth of its size."""
    return npy_header(shape, dtype) + bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)


def assert_refused_unread(load, path, message):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_arrays_that_do_not_fit_together_are_not_inflated(tmp_path):
    path = write_npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, X=bomb((1 << 18, 8)), y=npy(Y))
    assert path.stat().st_size < 1 << 15
    assert_refused_unread(load_npz, path, "X has shape (262144, 8) and y has shape (3,), expected as many rows in both")


def test_weights_that_do_not_fit_the_model_are_not_inflated(tmp_path):
    fnn.Sequential(fnn.Linear(2, 3, bias=False)).save(tmp_path / "m.npz")
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        header = archive.read("header.npy")
    members = {"header": header, "0.weight": bomb((1 << 18, 8)), "unknown": bomb((1 << 18, 8))}
    write_npz(tmp_path / "m.npz", zipfile.ZIP_DEFLATED, **members)
    message = "m.npz is not a valid model: 0.weight has shape (262144, 8), expected (2, 3)"
    assert_refused_unread(fnn.load, tmp_path / "m.npz", message)
    for dtype in ("<U99999", "|V999999"):
        write_npz(tmp_path / "m.npz", zipfile.ZIP_DEFLATED, **(members | {"0.weight": bomb((2, 3), dtype)}))
        message = f"m.npz is not a valid model: 0.weight holds {dtype} values, expected real numbers"
        assert_refused_unread(fnn.load, tmp_path / "m.npz", message)


def test_a_header_of_a_model_that_is_too_long_is_not_inflated(tmp_path):
    write_npz(tmp_path / "m.npz", zipfile.ZIP_DEFLATED, header=bomb((), "<U20000000"))
    assert_refused_unread(fnn.load, tmp_path / "m.npz", "m.npz is not a saved fastnn model: it has no header")
