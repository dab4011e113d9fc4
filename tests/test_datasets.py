"""The loaders, on files that the tests write themselves byte by byte."""

import gzip
import struct
import zipfile

import numpy as np
import pytest

from fastnn.datasets import load_digits, load_idx, load_npz

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4) * 11
LABELS = np.array([7, 0, 9], np.uint8)


def idx_bytes(array, type_code=0x08):
    return bytes([0, 0, type_code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, joint="-", gzipped=False, **replaced):
    """The four files of an IDX folder: three training images, the first two of them as test images."""
    contents = {
        "train-images": idx_bytes(IMAGES),
        "train-labels": idx_bytes(LABELS),
        "t10k-images": idx_bytes(IMAGES[:2]),
        "t10k-labels": idx_bytes(LABELS[:2]),
    } | {name.replace("_", "-"): content for name, content in replaced.items()}
    for stem, content in contents.items():
        path = folder / f"{stem}{joint}idx{3 if 'images' in stem else 1}-ubyte{'.gz' if gzipped else ''}"
        path.write_bytes(gzip.compress(content) if gzipped else content)
    return folder


class TestDigits:
    def test_equals_scikit_learns_copy(self):
        source = pytest.importorskip("sklearn.datasets").load_digits()
        x, y = load_digits("uint8")
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        np.testing.assert_array_equal(x, source.data)
        np.testing.assert_array_equal(y, source.target)

    @pytest.mark.parametrize("dtype", ["float32", "float64", np.float64])
    def test_floats_are_sixteenths(self, dtype):
        x, _ = load_digits(dtype)
        assert x.dtype == dtype
        assert x.shape == (1797, 64)
        np.testing.assert_array_equal(x * 16, load_digits("uint8")[0])

    def test_float32_is_the_default(self):
        assert load_digits()[0].dtype == np.float32

    @pytest.mark.parametrize("dtype", ["int8", "no dtype", None.__class__])
    def test_rejects_other_dtypes(self, dtype):
        with pytest.raises(ValueError, match=r"dtype is .*, expected one of float32, float64, uint8"):
            load_digits(dtype)


class TestIdx:
    @pytest.mark.parametrize("gzipped", [False, True])
    @pytest.mark.parametrize("joint", ["-", "."])
    def test_both_spellings_plain_and_gzipped(self, tmp_path, joint, gzipped):
        (x, y), (xt, yt) = load_idx(write_idx(tmp_path, joint, gzipped), dtype="uint8")
        np.testing.assert_array_equal(x, IMAGES.reshape(3, 8))
        np.testing.assert_array_equal(y, [7, 0, 9])
        np.testing.assert_array_equal(xt, IMAGES[:2].reshape(2, 8))
        np.testing.assert_array_equal(yt, [7, 0])
        assert x.dtype == np.uint8
        assert y.dtype == np.int64

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floats_are_correctly_rounded_quotients(self, tmp_path, dtype):
        (x, _), _ = load_idx(write_idx(tmp_path), dtype)
        assert x.dtype == dtype
        expected = [[np.dtype(dtype).type(int(byte) / 255) for byte in image] for image in IMAGES.reshape(3, 8)]
        np.testing.assert_array_equal(x, expected)

    def test_float32_is_the_default(self, tmp_path):
        assert load_idx(write_idx(tmp_path))[0][0].dtype == np.float32

    def test_reads_in_chunks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("fastnn.datasets._idx.CHUNK", 5)
        (x, _), _ = load_idx(write_idx(tmp_path, gzipped=True), "uint8")
        np.testing.assert_array_equal(x, IMAGES.reshape(3, 8))

    def test_images_that_compress_well(self, tmp_path):
        blank = {
            "train_images": idx_bytes(np.zeros((50, 99, 99), np.uint8)),
            "train_labels": idx_bytes(LABELS[[1] * 50]),
        }
        (x, _), _ = load_idx(write_idx(tmp_path, gzipped=True, **blank))
        assert x.shape == (50, 99 * 99)
        assert not x.any()

    def test_no_images(self, tmp_path):
        none = {"t10k_images": idx_bytes(IMAGES[:0]), "t10k_labels": idx_bytes(LABELS[:0])}
        _, (x, y) = load_idx(write_idx(tmp_path, **none))
        assert x.shape == (0, 8)
        assert y.shape == (0,)

    def test_rejects_other_dtypes(self, tmp_path):
        with pytest.raises(ValueError, match="dtype is 'int32', expected one of float32, float64, uint8"):
            load_idx(tmp_path, "int32")

    def test_missing_file_names_what_was_looked_for(self, tmp_path):
        (write_idx(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
        names = r"t10k-labels-idx1-ubyte, t10k-labels\.idx1-ubyte, t10k-labels-idx1-ubyte\.gz, t10k-labels\.idx1"
        with pytest.raises(FileNotFoundError, match=f"holds none of {names}"):
            load_idx(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "starts with nothing, expected 00 00 08 03: an IDX file of unsigned bytes, ndim 3"),
            (b"\x89PNG....", "starts with 89 50 4e 47, expected 00 00 08 03"),
            (idx_bytes(IMAGES, type_code=0x0D), "starts with 00 00 0d 03, expected 00 00 08 03"),
            (idx_bytes(IMAGES)[:9], "ends within its header"),
            (idx_bytes(IMAGES)[:-1], r"promises 24 bytes"),
            (idx_bytes(IMAGES) + b"\0", "too long: its header promises 24 bytes, and more follow"),
            (idx_bytes(IMAGES[:2]), "holds 2 images, but train-labels-idx1-ubyte.* holds 3 labels"),
        ],
    )
    @pytest.mark.parametrize("gzipped", [False, True])
    def test_rejects_other_contents(self, tmp_path, content, message, gzipped):
        with pytest.raises(ValueError, match=message):
            load_idx(write_idx(tmp_path, gzipped=gzipped, train_images=content))

    def test_labels_have_one_dimension(self, tmp_path):
        with pytest.raises(ValueError, match="expected 00 00 08 01: an IDX file of unsigned bytes, ndim 1"):
            load_idx(write_idx(tmp_path, train_labels=idx_bytes(IMAGES)))

    def test_truncated_contents_name_what_is_there(self, tmp_path):
        with pytest.raises(ValueError, match="is truncated: its header promises 24 bytes, it holds 20"):
            load_idx(write_idx(tmp_path, gzipped=True, train_images=idx_bytes(IMAGES)[:-4]))

    @pytest.mark.parametrize("gzipped", [False, True])
    def test_a_lying_header_allocates_nothing(self, tmp_path, gzipped):
        lie = idx_bytes(IMAGES)[:4] + struct.pack(">3I", 2**32 - 1, 2**16, 2**16)
        with pytest.raises(ValueError, match="more than the file can hold"):
            load_idx(write_idx(tmp_path, gzipped=gzipped, train_images=lie))

    @pytest.mark.parametrize("damage", ["shorter", "wrong block type", "wrong checksum"])
    def test_rejects_damaged_gzip(self, tmp_path, damage):
        path = write_idx(tmp_path, gzipped=True) / "train-images-idx3-ubyte.gz"
        content = bytearray(path.read_bytes())
        if damage == "shorter":
            del content[-9:]
        else:
            content[10 if damage == "wrong block type" else -8] ^= 0x06
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is a damaged or truncated gzip file"):
            load_idx(tmp_path)


class TestNpz:
    def test_arrays_come_as_they_were_saved(self, tmp_path):
        x, y = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([0.5, 1, 2], np.float32)
        np.savez_compressed(tmp_path / "a.npz", X=x, y=y)
        for found, expected in zip(load_npz(tmp_path / "a.npz"), (x, y), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)

    def test_other_names(self, tmp_path):
        np.savez(tmp_path / "a.npz", data=np.ones((2, 1)), target=np.zeros(2))
        np.testing.assert_array_equal(load_npz(tmp_path / "a.npz", "data", "target")[0], [[1], [1]])

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"X": np.ones((2, 1))}, "holds no array 'y', but 'X'"),
            ({"x": np.ones((2, 1)), "y": np.ones(2)}, "holds no array 'X', but 'x', 'y'"),
            ({}, "holds no array 'X', but none"),
            ({"X": np.ones((2, 1)), "y": np.ones(3)}, r"X has shape \(2, 1\) and y has shape \(3,\), expected as many"),
            ({"X": np.ones(()), "y": np.ones(())}, r"X has shape \(\) and y has shape \(\)"),
            (
                {"X": np.array([[None]]), "y": np.ones(1)},
                "holds pickled data, which could run code and is never loaded",
            ),
        ],
    )
    def test_rejects_other_contents(self, tmp_path, arrays, message):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            load_npz(tmp_path / "a.npz")

    def test_rejects_a_truncated_file(self, tmp_path):
        np.savez(tmp_path / "a.npz", X=np.ones((9, 9)), y=np.ones(9))
        (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
        with pytest.raises(ValueError, match=r"a\.npz is damaged or was cut off: it cannot be read"):
            load_npz(tmp_path / "a.npz")

    def test_rejects_another_format(self, tmp_path):
        np.save(tmp_path / "a.npy", np.ones(3))
        with pytest.raises(ValueError, match=r"a\.npy is no \.npz file"):
            load_npz(tmp_path / "a.npy")

    def test_rejects_a_damaged_member(self, tmp_path):
        for content, message in (
            (b"no array", "array 'X' cannot be read: the magic string is not correct"),
            (b"\x93NUMPY\1", "array 'X' cannot be read: EOF"),
        ):
            with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
                archive.writestr("X.npy", content)
                archive.writestr("y.npy", b"")
            with pytest.raises(ValueError, match=message):
                load_npz(tmp_path / "a.npz")

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"a\.npz does not exist"):
            load_npz(tmp_path / "a.npz")
