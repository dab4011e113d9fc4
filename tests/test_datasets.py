"""The loaders, on files that the tests write themselves byte by byte."""

import csv
import gzip
import lzma
import re
import struct
import zipfile

import numpy as np
import pytest

from fastnn.datasets import load_csv, load_digits, load_idx, load_npz

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


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


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


class TestCsv:
    def test_last_column_is_the_label(self, tmp_path):
        x, y = load_csv(write(tmp_path / "a.csv", "0.5,1,2\n-3e-1,.25,0\n"))
        np.testing.assert_array_equal(x, np.array([[0.5, 1], [-0.3, 0.25]], np.float32))
        assert x.dtype == np.float32
        np.testing.assert_array_equal(y, [2, 0])
        assert y.dtype == np.int64

    @pytest.mark.parametrize("label", [0, -3, "digit"])
    def test_label_by_position_or_name(self, tmp_path, label):
        x, y = load_csv(write(tmp_path / "a.csv", '"digit",a , b\n7,1,2\n8,3,4\n'), label)
        np.testing.assert_array_equal(x, [[1, 2], [3, 4]])
        np.testing.assert_array_equal(y, [7, 8])

    def test_fractional_labels_stay_real(self, tmp_path):
        x, y = load_csv(write(tmp_path / "a.csv", "1,0.5\n2,3\n"), dtype="float64")
        assert x.dtype == np.float64
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, [0.5, 3])

    @pytest.mark.parametrize("label", [0, 1, 2])
    def test_large_whole_labels_are_exact(self, tmp_path, label):
        rows = [[0.5, 0.25], [1.5, 2.5]]
        labels = [2**24 + 1, 2**53 - 1]
        table = [[*row[:label], whole, *row[label:]] for row, whole in zip(rows, labels, strict=True)]
        x, y = load_csv(write(tmp_path / "a.csv", "".join(",".join(map(str, row)) + "\n" for row in table)), label)
        np.testing.assert_array_equal(x, np.array(rows, np.float32))
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(y, labels)
        assert y.dtype == np.int64

    def test_real_labels_come_in_the_dtype(self, tmp_path):
        _, y = load_csv(write(tmp_path / "a.csv", "1,0.1\n"))
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, np.array([0.1], np.float32))

    @pytest.mark.parametrize("label", [1.5, None, True, np.True_, [0]])
    def test_label_is_a_position_or_a_name(self, tmp_path, label):
        message = rf"label is {re.escape(repr(label))}, expected the position of a column, a whole number, or its name"
        with pytest.raises(TypeError, match=message):
            load_csv(write(tmp_path / "a.csv", "1,2\n"), label)

    def test_label_of_numpy(self, tmp_path):
        np.testing.assert_array_equal(load_csv(write(tmp_path / "a.csv", "1,2\n"), np.int64(0))[1], [1])

    def test_commented_header(self, tmp_path):
        np.testing.assert_array_equal(load_csv(write(tmp_path / "a.csv", "# a,b\n1,2\n"))[0], [[1]])

    def test_huge_labels_stay_real(self, tmp_path):
        np.testing.assert_array_equal(load_csv(write(tmp_path / "a.csv", "1,1e30\n"), dtype="float64")[1], [1e30])

    @pytest.mark.parametrize("label", [0, 1, 2])
    def test_labels_as_text(self, tmp_path, label):
        rows = [["0.5", "1"], ["-3e-1", ".25"], ["7", "8"]]
        words = ["no", ' yes, or "so"\n', "0x10"]
        table = [[*row[:label], word, *row[label:]] for row, word in zip(rows, words, strict=True)]
        for header in ([], ["a", "b", "c"]):
            with (tmp_path / "a.csv").open("w", newline="") as file:
                csv.writer(file).writerows([header, *table])
            x, y = load_csv(tmp_path / "a.csv", label)
            np.testing.assert_array_equal(x, np.array(rows, np.float32))
            assert x.dtype == np.float32
            np.testing.assert_array_equal(y, ["no", 'yes, or "so"', "0x10"])

    def test_whole_numbers_that_may_be_rounded_are_no_integers(self, tmp_path):
        """2^53 + 1 is read as 2^53, so 2^53 is no longer known to be what the file holds."""
        for text in ("9007199254740993", "9007199254740992", "-9007199254740992"):
            y = load_csv(write(tmp_path / "a.csv", f"1,{text}\n"), dtype="float64")[1]
            assert y.dtype == np.float64
            np.testing.assert_array_equal(abs(y), [2.0**53])
        assert load_csv(write(tmp_path / "a.csv", "1,-9007199254740991\n"))[1] == [-(2**53) + 1]

    @pytest.mark.parametrize("suffix", ["bz2", "xz", "lzma", "GZ"])
    def test_only_gz_is_decompressed(self, tmp_path, suffix):
        """NumPy goes by the name of a file, and raised lzma's own error."""
        x, y = load_csv(write(tmp_path / f"a.csv.{suffix}", "1,2\n"))
        assert (x, y) == (1, 2)
        (tmp_path / f"a.csv.{suffix}").write_bytes(lzma.compress(b"1,2\n"))
        with pytest.raises(ValueError, match="is no readable text"):
            load_csv(tmp_path / f"a.csv.{suffix}")

    def test_other_delimiter_byte_order_mark_and_line_ends(self, tmp_path):
        path = tmp_path / "a.tsv"
        path.write_bytes("\ufeffa\tb\r\n1\t2\r\n\r\n3\t4".encode())
        x, y = load_csv(path, delimiter="\t")
        np.testing.assert_array_equal(x, [[1], [3]])
        np.testing.assert_array_equal(y, [2, 4])

    def test_byte_order_mark_before_a_number_and_quotes(self, tmp_path):
        x, y = load_csv(write(tmp_path / "a.csv", '\ufeff1,"2"\n"3",4\n'))
        np.testing.assert_array_equal(x, [[1], [3]])
        np.testing.assert_array_equal(y, [2, 4])

    def test_gzipped(self, tmp_path):
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
        np.testing.assert_array_equal(load_csv(path)[0], [[1]])

    def test_header_of_numbers_when_told(self, tmp_path):
        path = write(tmp_path / "a.csv", "0,1,2\n5,6,7\n")
        assert load_csv(path)[0].shape == (2, 2)
        np.testing.assert_array_equal(load_csv(path, header=True)[0], [[5, 6]])

    def test_header_after_empty_lines(self, tmp_path):
        np.testing.assert_array_equal(load_csv(write(tmp_path / "a.csv", "\n\na,b\n1,2\n"))[0], [[1]])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b\n1,2\n3\n", "line 3: 1 fields, expected 2"),
            ("1,2\n\n1,2,3\n", "line 3: 3 fields, expected 2"),
            ("a,b,c\n1,2\n3,4\n", "line 2: 2 fields, expected 3"),
            ("1,2\n\n\nfour,3\n", "line 4, column 1: 'four' is no finite number$"),
            (
                "1,2\n3,four\n",
                "line 2, column 2: 'four' is no finite number; labels are numbers in every row, or text in every row",
            ),
            ("1;2\n3;4\n", "line 2, column 1: '3;4' is no finite number; pass delimiter=';'"),
            ("a;b\n3;4\n", "line 2, column 1: '3;4' is no finite number; pass delimiter=';'"),
            ("1,5;2,5\n", "line 1, column 2: '5;2' is no finite number; pass delimiter=';'"),
            ("# mine\n1,2\n", r"a\.csv, line 1 starts with '#': comments are not read, remove the line"),
            ("# a, b\nx,y,z\n1,2,3\n", r"a\.csv, line 1 starts with '#': comments are not read"),
            ("a,b\n1,2\n# mine\n", "line 3: 1 fields, expected 2 as in the first line; comments are not read"),
            ("1,2\n# 3,4\n", "line 2, column 1: '# 3' is no finite number; comments are not read"),
            ("1,2\n3,\n", "line 2, column 2: '' is no finite number"),
            ("1,2\n,\n", "line 2, column 1: '' is no finite number"),
            ("1,2\n   \n", "line 2: 1 fields, expected 2"),
            ("1,2\nnan,4\n", "line 2, column 1: 'nan' is no finite number"),
            ("1,2\n3,-inf\n", "line 2, column 2: '-inf' is no finite number$"),
            ("1,2\n3,1_0\n", "line 2, column 2: '1_0' is no finite number"),
            ("1,2\n3,4#5\n", "line 2, column 2: '4#5' is no finite number"),
            (
                "1,label\n3,4\n",
                "line 2, column 2: '4' is no text, but the labels before it are; if the first line .* pass header=True",
            ),
            ("a,b\n1,u\n2,3\n", "line 3, column 2: '3' is no text, but the labels before it are$"),
            ("1,u\n2,\n", "line 2, column 2: '' is no text, but the labels before it are"),
            ("1,u\nv,w\n", "line 2, column 1: 'v' is no finite number$"),
            ("1,u\n2,nan\n", "line 2, column 2: 'nan' is no text"),
            ("1,1_0\n2,u\n", "line 1, column 2: '1_0' is no finite number"),
            ("1,1e300\n", "holds a number too large for float32: pass dtype='float64'"),
            ("1e300,1\n", "holds a number too large for float32: pass dtype='float64'"),
            ("0x10,1\n", "line 1, column 1: '0x10' is no finite number"),
            ("", "holds no rows of numbers"),
            ("a,b\n", "holds no rows of numbers"),
            ("1\n2\n", "has a single column, expected features and a label: is delimiter=',' right?"),
        ],
    )
    def test_rejects_what_is_no_table(self, tmp_path, text, message):
        with pytest.raises(ValueError, match=message):
            load_csv(write(tmp_path / "a.csv", text))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"label": "c"}, "has no column 'c': its header names 'a', 'b'"),
            ({"label": "a", "header": False}, "has no column 'a': no header"),
            ({"label": 2}, r"label is column 2, but .* has 2 columns: expected 0\.\.1"),
            ({"label": -3}, "label is column -3, but"),
            ({"delimiter": ", "}, "delimiter is ', ', expected one character"),
            ({"delimiter": "\n"}, r"delimiter is '\\n', expected one character, no quote and no end of a line"),
            ({"delimiter": '"'}, "delimiter is '\"', expected one character, no quote"),
            ({"delimiter": None}, "delimiter is None, expected one character"),
            ({"dtype": "uint8"}, "dtype is 'uint8', expected one of float32, float64$"),
        ],
    )
    def test_rejects_wrong_arguments(self, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            load_csv(write(tmp_path / "a.csv", "a,b\n1,2\n"), **arguments)

    @pytest.mark.parametrize("content", [b"\xff\xfe1,2\n", b"1,2\n" * 9999 + b"\xff,2\n", b"1," + b"9" * 200_000])
    def test_rejects_what_is_no_text(self, tmp_path, content):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(ValueError, match="is no readable text"):
            load_csv(tmp_path / "a.csv")

    @pytest.mark.parametrize("kept", [8, 30_000])
    def test_rejects_truncated_gzip(self, tmp_path, kept):
        noise = np.random.default_rng(0).integers(0, 10**6, (20_000, 2))
        content = gzip.compress("".join(f"{a},{b}\n" for a, b in noise).encode())
        (tmp_path / "a.csv.gz").write_bytes(content[:kept])
        with pytest.raises(ValueError, match="is no readable text"):
            load_csv(tmp_path / "a.csv.gz")

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"a\.csv does not exist"):
            load_csv(tmp_path / "a.csv")
        with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
            load_csv(tmp_path)


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
