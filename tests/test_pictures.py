"""The pictures of the commands: what is on them can be seen, and every axis says what it shows."""

from types import SimpleNamespace

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from fastnn.commands import overfitting, pictures, search_picture, train  # noqa: E402  (matplotlib is there)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What a function draws, at the resolution of the file."""
    style = pictures.import_pyplot()
    figures = []
    monkeypatch.setattr(style.Figure, "savefig", lambda figure, path: figures.append(figure))

    def draw(function, *arguments):
        function(style, *arguments, tmp_path / "picture.png")
        figures[-1].canvas.draw()
        return figures[-1]

    yield draw
    style.close("all")


def training(epochs):
    history = {name: np.geomspace(1, 0.01, epochs).tolist() for name in ("loss", "val_loss", "val_accuracy")}
    return SimpleNamespace(history=history)


def run(l2, epochs):
    losses = np.linspace(1, 0.1, len(epochs)).tolist()
    return overfitting.Run(l2, epochs, losses, losses, 0.9, 10 / (1 + l2))


def candidate(lr, losses):
    return search_picture.Candidate(lr, 0.1, [], np.array(losses), np.array(losses), 0.0, 0.9)


PICTURES = {
    "train, one epoch": (train.draw, training(1)),
    "train": (train.draw, training(40)),
    "overfitting, one epoch": (overfitting.draw, [run(0, [1]), run(0.1, [1])]),
    "overfitting": (overfitting.draw, [run(0, [1, 2, 10]), run(0.1, [1, 2, 10])]),
    "search, one epoch": (search_picture.draw, [candidate(0.1, [0.5]), candidate(1, [0.7])], candidate(0.1, [0.5])),
    "search": (search_picture.draw, [candidate(0.1, [0.5] * 20)], candidate(0.1, [0.5] * 20)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_axis_says_what_it_shows_and_every_curve_can_be_seen(name, drawn):
    figure = drawn(*PICTURES[name])
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    # Letters of 10 points in 8 inches are 14 pixels of 800.
    assert figure.get_figwidth() == 8
    assert min(text.get_fontsize() for text in figure.findobj(plt.Text) if text.get_text()) >= 8
    # A line through a single point is none, so that it has a marker.
    lines = [line for axes in figure.axes for line in axes.lines]
    assert lines
    assert all(line.get_marker() == "o" for line in lines if len(line.get_xdata()) < 10)
    for line in lines:
        low, high = line.axes.get_ylim()
        margin = 0.01 * (high - low)
        assert all(value < high - margin for value in line.get_ydata())


@pytest.mark.parametrize("epochs", [1, 3, 40])
def test_no_epoch_is_a_fraction(epochs, drawn):
    given = [run(0, list(range(1, epochs + 1))), run(0.1, list(range(1, epochs + 1)))]
    figures = drawn(train.draw, training(epochs)), drawn(overfitting.draw, given)
    for axes in [axes for figure in figures for axes in figure.axes if axes.get_xlabel() == "epoch"]:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert all(tick == int(tick) for tick in shown)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.1, 2, ["0.1", "0.2", "0.5", "1", "2"]), (0.1, 100, ["0.1", "0.3", "1", "3", "10", "30", "100"])],
)
def test_numbers_rather_than_powers(low, high, labels):
    figure, axes = plt.subplots()
    axes.set(yscale="log", ylim=(low, high))
    pictures.plain_logarithms(plt, axes.yaxis)
    figure.canvas.draw()
    places = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert [axes.yaxis.get_major_formatter()(place) for place in places] == labels
    plt.close(figure)
