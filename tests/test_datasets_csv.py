"""The loader of CSV files, on files that the tests write themselves."""

import csv
import gzip
import lzma
import re

import numpy as np
import pytest

from fastnn.datasets import load_csv


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


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
