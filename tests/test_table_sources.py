"""Parquet and CSV files as sources of chunks: what they give, by pandas, and what they refuse by name."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest

import fastnn as fnn

pa = pytest.importorskip("pyarrow")
csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

CsvSource, ParquetSource = fnn.datasets.CsvSource, fnn.datasets.ParquetSource
DISTRICTS = ["Mill", "Hill", "Park"]


@pytest.fixture
def frame(rng):
    return pd.DataFrame(
        {
            "size": rng.normal(80, 25, 90),
            "year": rng.integers(1900, 2020, 90),
            "district": rng.choice(DISTRICTS, 90),
            "kind": rng.choice(["dear", "cheap"], 90),
            "weight": rng.integers(0, 3, 90),
            "is_new": rng.random(90) < 0.5,
        }
    )


@pytest.fixture
def parquet(frame, tmp_path):
    path = tmp_path / "flats.parquet"
    pq.write_table(pa.table(dict(frame.items())), path, row_group_size=25)
    return path


@pytest.fixture
def text(frame, tmp_path):
    path = tmp_path / "flats.csv"
    frame.to_csv(path, index=False)
    return path


def whole(source):
    """The chunks of a source, one behind the other, and how many there are."""
    chunks = [source[i] for i in range(len(source))] if isinstance(source, ParquetSource) else list(source)
    return len(chunks), [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


class TestWhatTheyGive:
    @pytest.mark.parametrize("make", [ParquetSource, CsvSource])
    def test_x_alone_where_there_is_no_target(self, make, frame, parquet, text, tmp_path):
        path, more = (parquet, {}) if make is ParquetSource else (text, {"block_size": 1000})
        source = make(path, columns=["size", "year"], dtype="float64", **more)
        sources = [source, pickle.loads(pickle.dumps(source))]
        if make is CsvSource:
            sources.append(source.to_parquet(tmp_path / "copy.parquet", row_group_size=30))
        model = fnn.Sequential(fnn.Linear(2, 1), dtype="float64")
        model.loss = "squared_error"
        expected = frame[["size", "year"]].to_numpy()
        for each in sources:
            n, (X,) = whole(each)
            assert n > 1
            np.testing.assert_allclose(X, expected, rtol=1e-12)
            np.testing.assert_allclose(model.predict(each), model.predict(expected), rtol=1e-12)
            for call in (model.evaluate, model.fit):
                with pytest.raises(TypeError, match=r"chunk 0 of the source is a tuple of 1, expected \(X, y\)"):
                    call(each)

    @pytest.mark.parametrize("make", [ParquetSource, CsvSource])
    def test_columns_and_codes(self, make, frame, parquet, text):
        path, more = (parquet, {}) if make is ParquetSource else (text, {"block_size": 1000})
        source = make(path, "kind", sample_weight="weight", categories="find", dtype="float64", **more)
        assert source.columns == ("size", "year", "district", "is_new")
        assert source.categories == {"district": ("Hill", "Mill", "Park")}
        assert (source.codes, source.numbers) == ({2: 4}, [0, 1, 3])
        n, (x, y, v) = whole(source)
        assert n == (4 if make is ParquetSource else n) > 1
        codes = pd.Index(["Hill", "Mill", "Park"]).get_indexer(frame["district"]) + 1
        expected = [frame["size"], frame["year"], codes, frame["is_new"]]
        np.testing.assert_allclose(x, np.stack(expected, axis=1), rtol=1e-15)
        assert y.tolist() == frame["kind"].tolist()
        np.testing.assert_array_equal(v, frame["weight"])

    @pytest.mark.parametrize("make", [ParquetSource, CsvSource])
    def test_declared_categories_and_numbers_as_labels(self, make, frame, parquet, text):
        path = parquet if make is ParquetSource else text
        years = np.array([1900, 1950, 2000])
        columns, categories = ["district", "year"], {"district": ["Park", "Mill"], "year": years}
        source = make(path, "weight", columns=columns, categories=categories)
        _, (x, y) = whole(source)
        expected = [pd.Index(["Park", "Mill"]).get_indexer(frame["district"]) + 1]
        expected.append(pd.Index(years).get_indexer(frame["year"]) + 1)
        np.testing.assert_array_equal(x, np.stack(expected, axis=1))
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(y, frame["weight"])
        _, (_, y) = whole(make(path, ["size", "year"], columns=["is_new"]))
        np.testing.assert_array_equal(y, frame[["size", "year"]].astype(np.float32))
        _, (_, y) = whole(make(path, "size", columns=["is_new"], dtype="float64"))
        np.testing.assert_allclose(y, frame["size"], rtol=1e-15)

    def test_several_files_and_folders(self, frame, parquet, tmp_path):
        folder = tmp_path / "more"
        folder.mkdir()
        for name in "ab":
            pq.write_table(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), folder / f"{name}.parquet")
        pq.write_table(pa.table({"x": [1.0], "y": [1]})[:0], folder / "c.parquet")
        assert len(ParquetSource(folder, "y")) == 2
        source = ParquetSource([folder, folder / "a.parquet"], "y")
        assert repr(source) == f"ParquetSource('{folder}/a.parquet and 3 more', 3 row groups, 1 columns)"
        assert whole(source)[1][0].ravel().tolist() == [1, 2] * 3

    def test_only_some_of_many_files_are_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr("fastnn.datasets._parquet._MOST_OPEN", 2)
        for i in range(5):
            pq.write_table(pa.table({"x": [float(i)], "y": [i]}), tmp_path / f"{i}.parquet")
        source = ParquetSource(tmp_path, "y")
        assert [source[i][1].item() for i in (0, 1, 2, 3, 0, 4, 1)] == [0, 1, 2, 3, 0, 4, 1]
        assert [file.name for file in source._open.files] == ["4.parquet", "1.parquet"]

    def test_categoricals_of_pandas_and_missing_ones(self, tmp_path):
        frame = pd.DataFrame({"c": pd.Categorical(["b", None, "a"], ["b", "a", "z"]), "y": [1.5, 2, 3]})
        pq.write_table(pa.Table.from_pandas(frame), tmp_path / "c.parquet")
        source = ParquetSource(tmp_path / "c.parquet", "y", categories="find")
        assert source.categories == {"c": ("a", "b")}
        assert source[0][0].ravel().tolist() == [2, 0, 1]

    def test_a_file_without_names(self, tmp_path):
        path = tmp_path / "numbers.csv"
        path.write_text("1;2;0\n3;4.5;1\n")
        source = CsvSource(path, "label", delimiter=";", names=["a", "b", "label"])
        ((x, y),) = source
        assert x.tolist() == [[1, 2], [3, 4.5]]
        assert y.tolist() == [0, 1]
        assert repr(source) == f"CsvSource('{path}', 2 columns)"

    def test_whole_numbers_at_first(self, tmp_path):
        path = tmp_path / "numbers.csv"
        path.write_text("x,y\n" + "1,0\n" * 500 + "1.5,1\n")
        _, (x, y) = whole(CsvSource(path, "y", block_size=1000))
        assert (x[-1].item(), y[-1]) == (1.5, 1)

    @pytest.mark.parametrize("make", [ParquetSource, CsvSource])
    def test_pickles(self, make, parquet, text):
        source = make(parquet if make is ParquetSource else text, "kind", categories={"district": DISTRICTS})
        again = pickle.loads(pickle.dumps(source))
        for one, other in zip(whole(source)[1], whole(again)[1], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_text_written_as_parquet(self, text, tmp_path):
        source = CsvSource(text, "kind", categories="find", sample_weight="weight", block_size=500)
        written = source.to_parquet(tmp_path / "flats.parquet", row_group_size=25)
        assert 2 <= len(written) <= 4
        assert (written.columns, written.categories) == (source.columns, source.categories)
        for one, other in zip(whole(written)[1], whole(source)[1], strict=True):
            np.testing.assert_array_equal(one, other)
        again = CsvSource(text, ["size", "year"], columns=["is_new"]).to_parquet(tmp_path / "flats.parquet")
        assert (len(again), again[0][1].shape) == (1, (90, 2))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["flats.csv", "flats.parquet"]


class TestTraining:
    @pytest.mark.parametrize("make", [ParquetSource, CsvSource])
    def test_as_the_arrays(self, make, frame, parquet, text):
        """Standardised and embedded, with labels that are text: the same bits where the order is that of the file."""
        path, more = (parquet, {}) if make is ParquetSource else (text, {"block_size": 1000})
        source = make(path, "kind", categories="find", sample_weight="weight", **more)
        _, (x, y, v) = whole(source)
        models = []
        for arguments, data in (((source,), source), ((x, y), x)):
            model = fnn.Sequential(
                fnn.Standardize(4).adapt(data, source.numbers),
                fnn.Embedding({place: (n, 3) for place, n in source.codes.items()}),
                fnn.Linear(6, 2),
                seed=0,
            )
            own = {"sample_weight": v} if len(arguments) == 2 else {"buffer": 60}
            model.fit(*arguments, shuffle=False, class_weight="balanced", epochs=3, verbose=0, **own)
            models.append(model)
        np.testing.assert_allclose(models[0].layers[0].mean, models[1].layers[0].mean, rtol=1e-6)
        np.testing.assert_allclose(models[0].layers[0].scale, models[1].layers[0].scale, rtol=1e-6)
        np.testing.assert_allclose(models[0].forward(x), models[1].forward(x), rtol=1e-4, atol=1e-6)
        assert models[0].classes_.tolist() == ["cheap", "dear"]

    def test_what_is_not_needed_is_not_read(self, parquet, monkeypatch):
        source = ParquetSource(parquet, "kind", columns=["size"])
        read, table = [], source._table
        monkeypatch.setattr(source, "_table", lambda place, columns: read.append([*columns]) or table(place, columns))
        fnn.Standardize(1).adapt(source)
        assert read == [["size"]] * 4
        read.clear()
        fnn.Sequential(fnn.Linear(1, 2)).fit(source, epochs=1, class_weight="balanced", verbose=0)
        assert read == [["size", "kind"], *[["kind"]] * 4, *[["size", "kind"]] * 4]


BAD = {
    "no column": ({"target": "price"}, ValueError, r"flats.parquet has no column 'price': it has 'size', 'year'"),
    "no feature": ({"columns": ["rooms"]}, ValueError, "has no column 'rooms'"),
    "nothing": ({"columns": []}, ValueError, "columns is empty: expected the name of at least one column"),
    "a weight without a target": (
        {"target": None, "sample_weight": "weight"},
        ValueError,
        "sample_weight is 'weight', but there is no target: give both, or none",
    ),
    "no target": ({"target": []}, ValueError, "target is empty"),
    "a name alone": ({"columns": "size"}, TypeError, "columns is 'size', expected a list of names"),
    "the target too": (
        {"columns": ["size", "kind"]},
        ValueError,
        "columns holds 'kind', which is a target or",
    ),
    "twice": ({"columns": ["size", "size"]}, ValueError, "columns holds 'size' twice"),
    "text": (
        {"columns": None},
        ValueError,
        r"column 'district' of .* holds text: give categories={'district': \[...\]}, or 'find' in their place",
    ),
    "a date": ({"columns": ["date"]}, ValueError, r"column 'date' of .* holds date32\[day\] values: leave it out"),
    "a target of dates": ({"target": "date"}, ValueError, r"column 'date' of .* holds date32\[day\] values: expected"),
    "targets of text": ({"target": ["kind", "year"]}, ValueError, "column 'kind' of .* holds text: expected numbers"),
    "weights of text": (
        {"sample_weight": "district"},
        ValueError,
        "column 'district' of .* holds text: expected",
    ),
    "categories": ({"categories": "all"}, ValueError, "categories is 'all', expected 'find' or a dict by columns"),
    "a list of categories": ({"categories": [3]}, TypeError, r"categories is \[3\], expected 'find' or a dict"),
    "no such category": (
        {"categories": {"rooms": "find"}},
        ValueError,
        "categories has the key 'rooms', but the columns",
    ),
    "a wrong word": ({"categories": {"size": "all"}}, ValueError, r"categories\['size'\] is 'all', expected 'find' or"),
    "none": ({"categories": {"size": []}}, ValueError, r"categories\['size'\] is empty: expected the values"),
    "one twice": ({"categories": {"size": [1, 1]}}, ValueError, r"categories\['size'\] holds a value twice"),
    "categories of another type": (
        {"columns": ["district"], "categories": {"district": [1]}},
        ValueError,
        r"categories\['district'\] is \[1\], but the column holds text: ",
    ),
    "a number of categories": ({"categories": {"size": 3}}, TypeError, r"categories\['size'\] is 3, expected a list"),
    "a target's place": ({"target": 3}, TypeError, "target is 3, expected a list"),
    "how many columns": ({"columns": 3}, TypeError, "columns is 3, expected a list"),
    "a path": ({"path": 3}, TypeError, "path is 3, expected a list"),
    "dtype": ({"dtype": "float16"}, ValueError, "dtype is 'float16', expected one of float32, float64"),
}


class TestRefused:
    @pytest.mark.parametrize("name", BAD)
    def test_settings(self, name, frame, tmp_path):
        settings, error, message = BAD[name]
        path = tmp_path / "flats.parquet"
        table = pa.table(dict(frame.items()) | {"date": pa.array([0] * 90, pa.date32())})
        pq.write_table(table, path)
        with pytest.raises(error, match=message):
            ParquetSource(**{"path": path, "target": "kind", "columns": ["size"], **settings})

    def test_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.parquet does not exist"):
            ParquetSource(tmp_path / "none.parquet", "y")
        with pytest.raises(FileNotFoundError, match=r"holds no file that ends in .parquet"):
            ParquetSource(tmp_path, "y")
        with pytest.raises(ValueError, match="path is empty: expected at least one file"):
            ParquetSource([], "y")
        pq.write_table(pa.table({"x": [1.0], "y": [1]}), tmp_path / "a.parquet")
        for name, columns in (("b", {"x": [1], "y": [1]}), ("c", {"y": [1]})):
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
            has = "column 'x' as int64" if name == "b" else "no column 'x'"
            with pytest.raises(ValueError, match=rf"{name}.parquet has {has}, but .*a.parquet as double: give"):
                ParquetSource([tmp_path / "a.parquet", tmp_path / f"{name}.parquet"], "y")
        pq.write_table(
            pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.int64())}), tmp_path / "d.parquet"
        )
        with pytest.raises(ValueError, match=r"d.parquet holds no rows"):
            ParquetSource(tmp_path / "d.parquet", "y")
        (tmp_path / "e.parquet").write_bytes(b"hello")
        with pytest.raises(ValueError, match=r"e.parquet is no readable Parquet file: "):
            ParquetSource(tmp_path / "e.parquet", "y")

    def test_columns_of_one_name(self, tmp_path):
        table = pa.table([[1.0], [2.0], [0]], names=["x", "x", "y"])
        pq.write_table(table, tmp_path / "a.parquet")
        csv.write_csv(table, tmp_path / "a.csv")
        for make, name in ((ParquetSource, "a.parquet"), (CsvSource, "a.csv")):
            with pytest.raises(ValueError, match=rf"{name} has several columns 'x': give each a name of its own"):
                make(tmp_path / name, "y")

    @pytest.mark.parametrize("name", ["x", "y"])
    def test_missing_values(self, name, tmp_path):
        columns = {"x": [1.0, 2.0], "y": [1.0, 0.0], "z": [0, 1]}
        pq.write_table(pa.table(columns | {name: [None, 1.0]}), tmp_path / "a.parquet")
        source = ParquetSource(tmp_path / "a.parquet", "y", sample_weight="z")
        model = fnn.Sequential(fnn.Linear(1, 1))
        with pytest.raises(ValueError, match=f"column '{name}' of .*a.parquet misses 1 of 2 values: fill them in the"):
            model.fit(source, loss="squared_error", verbose=0)

    def test_text(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("x,y\n" + "1,0\n" * 500 + "1,one\n")
        source = CsvSource(path, "y", block_size=1000)
        with pytest.raises(ValueError, match=r"column #1: .*CSV conversion error to int64: invalid value 'one'"):
            fnn.Sequential(fnn.Linear(1, 2)).fit(source, verbose=0)
        for delimiter in ("", ";;", 3):
            with pytest.raises(ValueError, match=f"delimiter is {delimiter!r}, expected one character"):
                CsvSource(path, "y", delimiter=delimiter)
        with pytest.raises(TypeError, match="names is 'xy', expected a list of names"):
            CsvSource(path, "y", names="xy")
        path.write_text("")
        with pytest.raises(ValueError, match=r"a.csv is no readable table: Empty CSV file"):
            CsvSource(path, "y")

    def test_without_pyarrow(self, parquet, text, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
        for make, path in ((ParquetSource, parquet), (CsvSource, text)):
            with pytest.raises(ImportError, match=rf"{make.__name__} needs pyarrow: pip install 'fastnn\[data\]'"):
                make(path, "kind")
