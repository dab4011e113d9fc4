"""The roofline: operations and traffic by hand, the roof over a point, the table and the picture; never a time."""

import argparse
import itertools
import re
import struct

import numpy as np
import pytest

import fastnn as fnn
from fastnn import reference
from fastnn.commands import measure, pictures, roofline, roofline_picture, work
from tests.test_scripts import succeed

pytest.importorskip("matplotlib")

QUICK = ("--quick", "--network", "12-8-3", "--batch-size", "10")


def tables(text):
    """The tables of a text, each a list of rows of cells with its header first."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    found = [[[cell.strip() for cell in line.strip("|").split("|")] for line in b.splitlines()] for b in blocks]
    return [[rows[0], *rows[2:]] for rows in found]


# What trains or answers as a whole, and what it asks before.
WHOLE = {
    "train_epoch", "train_lanes", "forward_lanes", "lane_key", "lanes_pay", "count_lanes", "draw_orders",
    "embedding_rows", "forward_arguments",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    out = succeed("roofline.py", *QUICK, "--dtype", "float64", cwd=folder)
    return out, folder / "out" / "roofline.png"


class TestScript:
    def test_tables(self, done):
        text, _ = done
        assert "; float64, one core, best of many." in text
        ceilings, kernels, layers = tables(text)
        assert [row[0] for row in ceilings[1:3]] == ["FMA peak, float32", "FMA peak, float64"]
        assert [row[0] for row in ceilings[3:]] == ["triad over 16 KiB", "triad over 256 KiB", "triad over 16 MiB"]
        assert {row[0] for row in kernels[1:]} == {
            name for name in reference.__all__ if name not in WHOLE and not name.startswith("own")
        }
        assert [row[:2] for row in layers[1:]] == [
            ["12-8", "forward"], ["12-8", "update"], ["8-3", "forward"], ["8-3", "backward"], ["8-3", "update"],
        ]  # fmt: skip
        assert "A step of 12-8-3 with ReLU, softmax cross-entropy, SGD and L2, batch 10: " in text
        assert re.search(r"Beside the layers: gather [\d.]+%, loss [\d.]+%, rest [\d.]+%\.", text)
        for table in (kernels, layers):
            for row in table[1:]:
                assert float(row[2].replace(",", "")) > 0
                assert row[8] in ("FMA", "memory")

    def test_intensities_by_hand(self, done):
        """Of a step with 10 samples, in elements: the operations over the traffic, see below for each."""
        _, layers, _ = roofline.time_network(roofline.build_parser().parse_args([*QUICK, "--dtype", "float32"]))
        x, h, y, w1, w2 = 120, 80, 30, 96, 24
        forward, below, update = 2 * 10 * 12 * 8, 2 * 10 * 8 * 3, 2 * 10 * 8 * 3
        expected = [
            forward / (x + w1 + 8 + h),
            forward / (x + h + 2 * (w1 + 8)),
            below / (h + w2 + 3 + y),
            below / (y + w2 + 2 * h),
            update / (h + y + 2 * (w2 + 3)),
        ]
        assert [layer.intensity for layer in layers] == [pytest.approx(flops / 4) for flops in expected]
        assert [float(row[3]) for row in tables(done[0])[2][1:]] == [
            pytest.approx(flops / 8, abs=0.0051) for flops in expected
        ]

    def test_picture(self, done):
        text, path = done
        assert "picture: out/roofline.png" in text.replace("\\", "/")
        header = path.read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">2I", header[16:]) >= (1200, 1500)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--network", "784"), "argument --network: '784' is one width, expected at least inputs and outputs, as "),
            (("--network", "784-x"), "argument --network: 'x' is not a whole number >= 1"),
            (("--batch-size", "0"), "argument --batch-size: '0' is not a whole number >= 1"),
            (("--dtype", "float16"), "argument --dtype: invalid choice: 'float16'"),
            (("--threads", "1000000"), r"--threads is 1000000, but this process may use \d+: ask for fewer"),
            (("--out", __file__), r"--out is .*test_roofline\.py, which is a file, expected a folder"),
            (("--quick", "--docs"), "argument --docs: not allowed with argument --quick"),
        ],
    )
    def test_errors_are_one_line(self, refused, arguments, message):
        refused("roofline.py", arguments, message)


class TestWork:
    """Operations, elements read or written, and elements held, of kernels over small arrays."""

    def test_by_hand(self, dtype):
        works = list(work.all_work(np.dtype(dtype), quick=True))
        size = np.dtype(dtype).itemsize
        found = {(w.kernel, w.size): (w.flops, w.traffic / size, w.memory / size) for w in works}
        labels = 64 * 8 // size
        cube, m, n = 32**3, 640, 1024
        expected = {
            ("matmul", "32³"): (2 * cube, 3 * 32**2, 3 * 32**2),
            ("matmul", "xᵀ dy 784·64·128"): (2 * 784 * 64 * 128, *[784 * 64 + 64 * 128 + 784 * 128] * 2),
            ("linear", "64·784·128"): (2 * 6422528 + 8192, *[50176 + 100352 + 128 + 8192] * 2),
            ("linear_backward", "64·784·128"): (4 * 6422528 + 8192, *[2 * 50176 + 2 * 100352 + 8192 + 128] * 2),
            ("forward", "784-256-10"): (
                2 * 128 * 784 * 256 + 2 * 128 * 256 * 10 + 2 * 128 * 256 + 1280,
                *[128 * 784 + 784 * 256 + 256 + 2560 + 10 + 1280] * 2,
            ),
            ("softmax", "64 × 10"): (5 * m, 2 * m, 2 * m),
            ("log_softmax", "64 × 10"): (5 * m, 2 * m, 2 * m),
            ("logsumexp", "64 × 10"): (4 * m, m + 64, m + 64),
            ("cross_entropy", "64 × 10"): (4 * m, m + labels, m + labels),
            ("cross_entropy_backward", "64 × 10"): (5 * m, 2 * m + labels, 2 * m + labels),
            ("squared_error", "64 × 10"): (3 * m, 2 * m, 2 * m),
            ("squared_error_backward", "64 × 10"): (4 * m, 3 * m, 3 * m),
            ("huber", "64 × 10"): (5 * m, 2 * m, 2 * m),
            ("huber_backward", "64 × 10"): (6 * m, 3 * m, 3 * m),
            ("absolute_error", "64 × 10"): (3 * m, 2 * m, 2 * m),
            ("absolute_error_backward", "64 × 10"): (4 * m, 3 * m, 3 * m),
            ("pinball", "64 × 10"): (4 * m, 2 * m, 2 * m),
            ("pinball_backward", "64 × 10"): (5 * m, 3 * m, 3 * m),
            ("poisson", "64 × 10"): (4 * m, 2 * m, 2 * m),
            ("poisson_backward", "64 × 10"): (6 * m, 3 * m, 3 * m),
            ("binary_cross_entropy", "64 × 10"): (9 * m, 2 * m, 2 * m),
            ("binary_cross_entropy_backward", "64 × 10"): (14 * m, 3 * m, 3 * m),
            ("layer_norm", "64 × 10"): (7 * m, 2 * m + 20, 2 * m + 20),
            ("layer_norm_backward", "64 × 10"): (16 * m, 3 * m + 30, 3 * m + 30),
            ("batch_norm", "64 × 10"): (7 * m, 2 * m + 60, 2 * m + 40),
            ("batch_norm_backward", "64 × 10"): (16 * m, 3 * m + 30, 3 * m + 30),
            ("batch_norm_inference", "64 × 10"): (3 * m, 2 * m + 40, 2 * m + 40),
            ("batch_norm_inference_backward", "64 × 10"): (m, 2 * m + 20, 2 * m + 20),
            ("standardize", "64 × 10"): (2 * m, 2 * m + 20, 2 * m + 20),
            ("standardize_backward", "64 × 10"): (m, 2 * m + 10, 2 * m + 10),
            ("embedding", "64 × 10"): (0, m + 64 + 100, m + 64 + 100),
            ("embedding_backward", "64 × 10"): (m, m + 2 * 64 + 100, m + 2 * 64 + 100),
            ("identity", "1 Ki"): (0, 2 * n, 2 * n),
            ("identity_backward", "1 Ki"): (0, 2 * n, 2 * n),
            ("relu", "1 Ki"): (n, 2 * n, 2 * n),
            ("relu_backward", "1 Ki"): (n, 3 * n, 3 * n),
            ("leaky_relu", "1 Ki"): (2 * n, 2 * n, 2 * n),
            ("leaky_relu_backward", "1 Ki"): (2 * n, 3 * n, 3 * n),
            ("tanh", "1 Ki"): (n, 2 * n, 2 * n),
            ("tanh_backward", "1 Ki"): (3 * n, 3 * n, 3 * n),
            ("sigmoid", "1 Ki"): (3 * n, 2 * n, 2 * n),
            ("sigmoid_backward", "1 Ki"): (3 * n, 3 * n, 3 * n),
            ("gelu", "1 Ki"): (5 * n, 2 * n, 2 * n),
            ("gelu_backward", "1 Ki"): (11 * n, 3 * n, 3 * n),
            ("gelu_tanh", "1 Ki"): (8 * n, 2 * n, 2 * n),
            ("gelu_tanh_backward", "1 Ki"): (15 * n, 3 * n, 3 * n),
            ("silu", "1 Ki"): (4 * n, 2 * n, 2 * n),
            ("silu_backward", "1 Ki"): (8 * n, 3 * n, 3 * n),
            ("mish", "1 Ki"): (6 * n, 2 * n, 2 * n),
            ("mish_backward", "1 Ki"): (15 * n, 3 * n, 3 * n),
            ("elu", "1 Ki"): (3 * n, 2 * n, 2 * n),
            ("elu_backward", "1 Ki"): (3 * n, 3 * n, 3 * n),
            ("selu", "1 Ki"): (3 * n, 2 * n, 2 * n),
            ("selu_backward", "1 Ki"): (3 * n, 3 * n, 3 * n),
            ("softplus", "1 Ki"): (3 * n, 2 * n, 2 * n),
            ("softplus_backward", "1 Ki"): (4 * n, 3 * n, 3 * n),
            ("hard_swish", "1 Ki"): (5 * n, 2 * n, 2 * n),
            ("hard_swish_backward", "1 Ki"): (3 * n, 3 * n, 3 * n),
            ("dropout", "1 Ki"): (n, 2 * n, 2 * n),
            ("sgd_update", "1 Ki"): (2 * n, 3 * n, 2 * n),
            ("momentum_update", "1 Ki"): (4 * n, 5 * n, 3 * n),
            ("nesterov_update", "1 Ki"): (6 * n, 5 * n, 3 * n),
            ("adam_update", "1 Ki"): (12 * n, 7 * n, 4 * n),
            ("adamw_update", "1 Ki"): (13 * n, 7 * n, 4 * n),
            ("rmsprop_update", "1 Ki"): (8 * n, 5 * n, 3 * n),
            ("rmsprop_momentum_update", "1 Ki"): (10 * n, 7 * n, 4 * n),
        }
        assert {key: found[key] for key in expected} == expected
        assert {kernel for kernel, _ in found} == {kernel for kernel, _ in expected}
        for one in works:
            one.call()

    def test_a_forward_pass_is_one(self):
        """The network of the case is a right one: the kernel and its twin agree on it."""
        forward = next(w for w in work.all_work(np.dtype("float64"), quick=True) if w.kernel == "forward")
        network, params, x, out = forward.call.args
        forward.call()
        expected = np.empty_like(out)
        reference.forward(network, params, x, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


class TestPoint:
    @pytest.mark.parametrize(
        ("flops", "traffic", "share", "compute_bound"),
        [
            # 600 operations take 3 seconds at 200 a second, 100 bytes 2 seconds at 50 a second: 3 of 10 seconds.
            (600, 100, 0.3, True),
            (600, 400, 0.8, False),
            (0, 400, 0.8, False),
        ],
    )
    def test_the_roof(self, flops, traffic, share, compute_bound):
        point = roofline.Point("group", "name", "size", flops, traffic, 10.0, 200.0, 50.0)
        assert point.share_of_roof == pytest.approx(share)
        assert point.is_compute_bound is compute_bound
        assert point.rate == flops / 10
        assert point.intensity == flops / traffic

    def test_docs(self, tmp_path, monkeypatch, capsys):
        kernel = roofline.Point("group", "softmax", "3 × 4", 60, 96, 1e-6, 2e9, 3e9)
        layer = roofline.Point("a network in training", "4-3", "forward", 240, 128, 2e-6, 2e9, 3e9)
        result = fnn.profile(fnn.Sequential(fnn.Linear(4, 3)), np.ones((9, 4)), np.zeros(9, int), seconds=0.001)
        put, before = {}, fnn.get_num_threads()
        monkeypatch.setattr(measure, "pin", lambda cores: None)
        monkeypatch.setattr(measure, "put_in_docs", lambda name, text: put.update({name: text}))
        monkeypatch.setattr(
            roofline, "measure_ceilings", lambda *_: roofline.Ceilings({"float32": 2e9}, {1 << 14: 3e9})
        )
        monkeypatch.setattr(roofline, "all_work", lambda *_: [None])
        monkeypatch.setattr(roofline, "time_kernel", lambda *_: kernel)
        monkeypatch.setattr(roofline, "time_network", lambda _: (result, [layer], "rest 1.0%"))
        try:
            roofline.main(roofline.build_parser().parse_args(["--docs", "--out", str(tmp_path)]))
        finally:
            fnn.set_num_threads(before)
        assert capsys.readouterr().out.startswith(put["roofline"] + "\n")
        ceilings, kernels, layers = tables(put["roofline"])
        assert ceilings[1:] == [["FMA peak, float32", "2 GFLOP/s"], ["triad over 16 KiB", "3 GB/s"]]
        # 60 operations a microsecond are 0.06 GFLOP/s and 3 % of the peak; 96 bytes take 32 ns at 3 GB/s.
        assert kernels[1:] == [["softmax", "3 × 4", "1.0", "0.62", "0.1", "0.1", "3%", "3%", "memory"]]
        share = f"{2e-6 / result.seconds:.0%}"
        assert layers[1:] == [["4-3", "forward", "2.0", "1.88", "0.1", "0.1", "6%", "6%", "FMA", share]]


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """The picture of some points, of which the one of most operations a byte is the slowest, and the points."""
    plt, rng = pictures.import_pyplot(), np.random.default_rng(0)
    figures = []
    points = [
        roofline.Point(group, name, size, flops, 100, rng.uniform(1, 3) * 1e-10 * flops**1.5, 2e11, 1e11)
        for group in ("some", "others")
        for name, flops in (("relu", 20), ("softmax", 60), ("logsumexp", 50), ("gelu_tanh_backward", 80))
        for size in ("small", "as large as it gets")
    ]
    nothing = roofline.Point("some", "identity", "small", 0, 100, 1e-8, 2e11, 1e11)
    ceilings = roofline.Ceilings({"float32": 2e11, "float64": 1e11}, {1 << 14: 2e11, 1 << 18: 5e10, 1 << 29: 5e9})
    path = tmp_path_factory.mktemp("roofline") / "picture.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "close", figures.append)
        roofline_picture.draw(plt, [*points, nothing], ceilings, "float32", "a machine", path)
    (figure,) = figures
    figure.canvas.draw()  # saving has measured the texts at the resolution of the file
    yield figure, points
    plt.close(figure)


class TestPicture:
    def test_every_point_under_the_ceilings(self, figure):
        figure, points = figure
        panels = [axes for axes in figure.axes if axes.get_ylabel() == "GFLOP/s"]
        assert [axes.get_title(loc="left") for axes in panels] == ["some", "others"]
        for axes, group in zip(panels, ("some", "others"), strict=True):
            assert axes.get_xlabel() == "FLOP per byte"
            of_kind = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
            for size in ("small", "as large as it gets"):
                expected = [[p.intensity, p.rate / 1e9] for p in points if (p.group, p.size) == (group, size)]
                assert of_kind[size] == expected
            places = [place for kind in ("small", "as large as it gets") for place in of_kind[kind]]
            covered = axes.get_legend().get_window_extent()
            seen = axes.get_window_extent()
            for place in axes.transData.transform(places):
                assert seen.contains(*place)
                assert not covered.contains(*place)
            said = [text.get_text() for text in axes.texts]
            assert said[:2] == ["FMA peak, float32: 200", "FMA peak, float64: 100"]
            assert "512 MiB: 5 GB/s" in said

    def test_each_share_has_its_name(self, figure):
        figure, points = figure
        panels = {axes.get_title(loc="right"): axes for axes in figure.axes if axes.get_xlabel() == "% of the roof"}
        assert set(panels) == {"some", "others"}
        for group, axes in panels.items():
            rows = ["relu   0.2", "logsumexp   0.5", "softmax   0.6", "gelu_tanh_backward   0.8"]
            assert [tick.get_text() for tick in axes.get_yticklabels()] == rows
            of_kind = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
            for size in ("small", "as large as it gets"):
                places = {name.split()[0]: i for i, name in enumerate(rows)}
                chosen = [p for p in points if (p.group, p.size) == (group, size)]
                assert of_kind[size] == [[100 * p.share_of_roof, places[p.name]] for p in chosen]

    def test_nothing_written_covers_another_or_is_cut_off(self, figure):
        figure, _ = figure
        written = [*figure.texts]
        for axes in figure.axes:
            written += [*axes.texts, axes.xaxis.label, *axes.get_yticklabels(), axes.get_legend()]
            written += [axes.title, axes._right_title, axes._left_title]
        written = [text for text in written if not hasattr(text, "get_text") or text.get_text()]
        boxes = [text.get_window_extent() for text in written]
        assert len(boxes) > 30
        # Two along parallel lines are further apart than their boxes, which are not turned.
        turned = [getattr(text, "get_rotation", float)() % 90 > 0 for text in written]
        for (one, is_turned), (other, too) in itertools.combinations(zip(boxes, turned, strict=True), 2):
            assert (is_turned and too) or not one.overlaps(other)
        width, height = figure.canvas.get_width_height()
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height

    def test_what_is_above_the_roof_is_explained(self, figure):
        figure, _ = figure
        assert "can bring a point above 100 %" in " ".join(text.get_text() for text in figure.texts)

    def test_names_are_rows_or_kinds(self):
        """The one of name and size with more values stands at the rows, with the least and the most intensity."""
        points = [
            roofline.Point("products", name, size, flops, 10, 1.0, 1.0, 1.0)
            for name, size, flops in (("matmul", "8³", 22), ("linear", "8³", 36), ("matmul", "2³", 4))
        ]
        assert roofline_picture._key(points) == ("name", "size")
        assert roofline_picture._rows(points) == ["matmul", "linear"]
        assert roofline_picture._key([*points, points[0]._replace(size="9³")]) == ("size", "name")
        assert roofline_picture._intensity(points, "matmul") == "0.4–2.2"
        assert roofline_picture._intensity(points, "linear") == "3.6"

    def test_network_takes_widths(self):
        network = roofline.network
        assert network("784-256-10") == [784, 256, 10]
        with pytest.raises(argparse.ArgumentTypeError, match="'5' is one width"):
            network("5")
