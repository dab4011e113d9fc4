"""The search over learning rate and penalty: what it says is what fits alone say, and its picture shows all of it."""

import re

import numpy as np
import pytest

import fastnn as fnn
from fastnn.commands import pictures, search, search_picture
from tests.test_scripts import png_size, run

pytest.importorskip("matplotlib")

RATES, PENALTIES = [0.001, 0.01], [0.0, 0.001]
SMALL = ("--lr", "0.01,0.001", "--l2", "0.001,0", "--hidden", 8, "--epochs", 3, "--folds", 3, "--seed", 5)


def rows_of(out):
    """The numbers in the table: lr, l2, training loss, validation loss, spread, accuracy."""
    lines = [line.replace("± ", "").split() for line in out.splitlines() if "±" in line]
    return [[float(cell.strip("%")) for cell in line] for line in lines]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_says_what_fits_alone_say(here, tmp_path, optimizer):
    out = here("search.py", *SMALL, "--optimizer", optimizer, "--without-sklearn")
    assert "64-8-10: 4 candidates x 3 folds on 1438 samples" in out
    x, y = fnn.datasets.load_digits()
    order = np.random.default_rng(5).permutation(len(x))
    held_out, kept = order[: len(x) // 5], order[len(x) // 5 :]
    parts = np.array_split(np.random.default_rng(5).permutation(len(kept)), 3)
    expected, ensembles = [], []
    for lr in RATES:
        for l2 in PENALTIES:
            models, found = [], []
            for part in parts:
                rest, trained_on = kept[part], kept[np.concatenate([p for p in parts if p is not part])]
                rule = fnn.Adam(lr) if optimizer == "adam" else fnn.SGD(lr, momentum=0.9, nesterov=True)
                model = fnn.Sequential(fnn.Linear(64, 8), fnn.ReLU(), fnn.Linear(8, 10), seed=5)
                history = model.fit(x[trained_on], y[trained_on], optimizer=rule, l2=l2, epochs=3, verbose=0)
                models.append(model)
                found.append([history["loss"][-1], *model.evaluate(x[rest], y[rest]).values()])
            train, loss, accuracy = np.transpose(found)
            expected.append([lr, l2, train.mean(), loss.mean(), loss.std(), 100 * accuracy.mean()])
            ensembles.append(models)
    best = int(np.argmin([row[3] for row in expected]))
    np.testing.assert_allclose(rows_of(out), sorted(expected, key=lambda row: row[3]), rtol=0, atol=0.0051)
    right = fnn.Ensemble(ensembles[best]).evaluate(x[held_out], y[held_out])["accuracy"]
    assert f"the best one's 3 folds as an ensemble: {right:.2%} of 359 held out right" in out
    assert re.search(r"^fastnn [\d.]+ s for 12 networks, \d+ threads$", out, re.M)
    assert "scikit-learn" not in out
    assert png_size(tmp_path / "out" / "search.png") >= (1000, 500)


def test_scikit_learn_searches_the_same(tmp_path):
    pytest.importorskip("sklearn")
    done = run("search.py", *SMALL, "--out", "elsewhere", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^scikit-learn ([\d.]+) s, ([\d.]+)% right at best, .* = ([\d.]+)$", done.stdout, re.M)
    ours = float(re.search(r"^fastnn ([\d.]+) s", done.stdout, re.M)[1])
    assert float(found[3]) == pytest.approx(float(found[1]) / ours, rel=0.1)
    assert float(found[2]) == pytest.approx(max(row[-1] for row in rows_of(done.stdout)), abs=4)
    assert "Warning" not in done.stderr
    assert (tmp_path / "elsewhere" / "search.png").exists()


def test_scikit_learn_gets_the_same_penalty(monkeypatch):
    """Its loss after a step that moves nothing, over that without alpha, is λ Σ W²."""
    pytest.importorskip("sklearn")
    given = []

    class Stop(Exception):
        pass

    def take(model, grid, **settings):
        given.append((model, grid, settings))
        raise Stop

    monkeypatch.setattr("sklearn.model_selection.GridSearchCV", take)
    folds = search.split(20, 2, 0)
    arguments = search.build_parser().parse_args(["--l2", "0.01", "--batch-size", "20", "--hidden", "7"])
    with pytest.raises(Stop):
        search.search_with_sklearn(folds, None, None, arguments)
    ((model, grid, settings),) = given
    assert settings["cv"] is folds
    assert settings["n_jobs"] == fnn.get_num_threads()
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3
    model.set_params(learning_rate_init=1e-12, max_iter=1)
    losses = []
    for alpha in (0.0, *grid["alpha"]):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            losses.append(model.set_params(alpha=alpha).fit(x, y).loss_)
    assert losses[1] - losses[0] == pytest.approx(0.01 * sum((w**2).sum() for w in model.coefs_), rel=1e-6)


def test_every_sample_is_validated_on_once():
    folds = search.split(17, 4, 3)
    assert sorted(np.concatenate([validated_on for _, validated_on in folds])) == list(range(17))
    for trained_on, validated_on in folds:
        assert sorted([*trained_on, *validated_on]) == list(range(17))


def test_what_diverges_is_said_and_leaves_the_others(here):
    arguments = ("--lr", "0.01,1e30", "--l2", "0", "--hidden", 8, "--epochs", 2, "--folds", 2, "--without-sklearn")
    out = here("search.py", *arguments, "--optimizer", "sgd")
    assert [row[0] for row in rows_of(out)] == [0.01]
    assert "1 other candidate diverged" in out


def test_the_lowest_validation_loss_wins(tmp_path, monkeypatch, capsys):
    """Whatever the training loss says, and wherever a fold is that diverged."""
    models = [fnn.Sequential(fnn.Linear(64, 10), seed=i) for i in range(3)]
    for model in models:
        model.loss = "cross_entropy"
    losses = [(1.0, 0.4), (2.0, 0.3), (0.1, np.nan)]
    candidates = [
        search.Candidate(lr, 0.0, [model], np.array([train]), np.array([loss]), 0.01, 0.5)
        for lr, model, (train, loss) in zip((0.1, 0.2, 0.3), models, losses, strict=True)
    ]
    monkeypatch.setattr(search, "search", lambda *given: candidates)
    monkeypatch.setattr(search.picture, "draw", lambda plt, drawn, best, path: drawn_best.append((drawn, best)))
    drawn_best = []
    arguments = ["--lr", "0.1,0.2,0.3", "--l2", "0", "--without-sklearn", "--out", str(tmp_path)]
    search.main(search.build_parser().parse_args(arguments))
    assert [row[0] for row in rows_of(capsys.readouterr().out)] == [0.2, 0.1]
    assert drawn_best == [(candidates, candidates[1])]


class Candidate:
    def __init__(self, lr, l2, loss):
        self.lr, self.l2, self.loss = lr, l2, np.array(loss)


def test_the_picture(tmp_path, monkeypatch):
    plt = pictures.import_pyplot()
    figures = []
    monkeypatch.setattr(plt.Figure, "savefig", lambda figure, path: figures.append(figure))
    best = Candidate(0.1, 0.01, [0.9, 0.25])
    candidates = [Candidate(0.01, 0, [3, 2.5]), Candidate(0.01, 0.01, [2, np.nan]), Candidate(0.1, 0, [1, 0.5]), best]
    search_picture.draw(plt, candidates, best, tmp_path / "search.png")
    heat, curves = figures[0].axes
    # Penalties upwards, learning rates to the right.
    cells = {text.get_position(): text.get_text() for text in heat.texts}
    assert cells == {(0, 0): "2.5", (0, 1): "diverged", (1, 0): "0.5", (1, 1): "0.25"}
    assert [tick.get_text() for tick in heat.get_xticklabels()] == ["0.01", "0.1"]
    assert [tick.get_text() for tick in heat.get_yticklabels()] == ["0", "0.01"]
    (frame,) = heat.patches
    assert (frame.get_xy(), frame.get_width()) == ((0.5, 0.5), 1)
    shown = heat.images[0].get_array()
    np.testing.assert_allclose(shown.filled(0), np.log([[2.5, 0.5], [1, 0.25]]))
    assert heat.images[0].get_clim() == pytest.approx(np.log([0.25, 2.5]))
    assert shown.mask.tolist() == [[False, False], [True, False]]
    drawn = [line.get_ydata().tolist() for line in curves.lines]
    assert str(drawn) == str([c.loss.tolist() for c in [*candidates, best]])
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels == ["0.01", "0.1", "the best: 0.1\nwith λ = 0.01"]
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--folds", "1"), r"--folds is 1, expected 2 to 1438, the number of samples"),
        (("--folds", "2000"), r"--folds is 2000, expected 2 to 1438, the number of samples"),
        (("--lr", "0.1,0"), r"argument --lr: '0' is not a number > 0"),
        (("--l2", "-1"), r"argument --l2: '-1' is not a number >= 0"),
        (("--out", __file__), r"--out is .*test_search\.py, which is a file, expected a folder"),
        (("--data", "nowhere.csv"), r"nowhere\.csv does not exist"),
        (
            ("--lr", "1e30", "--l2", "0", "--epochs", "1", "--folds", "2", "--optimizer", "sgd"),
            r"every candidate diverged: use smaller learning rates \(--lr\), or scale the data",
        ),
    ],
)
def test_errors_are_one_line(refused, arguments, message):
    refused("search.py", (*arguments, "--without-sklearn"), message)
