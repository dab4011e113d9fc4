"""A search over learning rate and penalty by cross-validation: every candidate and fold trains at the same time.

Without arguments on the handwritten digits. Prints the best settings, draws the validation loss against both and the
learning curves of all candidates, tries the ensemble of the best one's folds on samples that were held out from the
start, and, where scikit-learn is installed, takes its time for the same search.
"""

import argparse
import importlib.util
import itertools
import os
import time
import warnings
from pathlib import Path

import numpy as np

import fastnn as fnn

from . import arguments, pictures, samples
from . import search_picture as picture
from .search_picture import Candidate

BETTER = 10
EXAMPLES = (
    "",
    "--data table.csv --label species --lr 1e-3,1e-2 --l2 0,1e-4,1e-3 --folds 10",
    "--hidden 64,32 --epochs 50 --without-sklearn",
)


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    samples.add_data_options(parser)
    add("--hidden", type=arguments.widths, default="100", metavar="N,N", help="widths of hidden layers [%(default)s]")
    add("--lr", type=arguments.rates, default="1e-4,3e-4,1e-3,3e-3,1e-2,3e-2,1e-1", metavar="R,R", help="[%(default)s]")
    add("--l2", type=arguments.penalties, default="0,1e-5,1e-4,1e-3,1e-2,1e-1", metavar="L,L", help="[%(default)s]")
    add("--folds", type=arguments.positive_int, default=5, help="[%(default)s]")
    add("--optimizer", choices=("sgd", "adam"), default="adam", help="[%(default)s]")
    add("--epochs", type=arguments.positive_int, default=30, help="[%(default)s]")
    add("--batch-size", type=arguments.positive_int, default=32, help="[%(default)s]")
    add("--dtype", choices=("float32", "float64"), default="float32", help="[%(default)s]")
    add("--seed", type=arguments.seed, default=0, help="[%(default)s]")
    add("--out", type=Path, default=Path("out"), help="folder for the picture [%(default)s]")
    add("--without-sklearn", action="store_true", help="do not wait for scikit-learn, which takes longer")
    return parser


def main(args: argparse.Namespace) -> None:
    plt = pictures.import_pyplot()
    (x, y, x_test, y_test), _ = samples.load(args)
    classes = samples.count_classes(y, y_test)
    if not 2 <= args.folds <= len(x):
        raise ValueError(f"--folds is {args.folds}, expected 2 to {len(x)}, the number of samples")
    arguments.make_folder(args.out)
    args.lr, args.l2 = sorted(set(args.lr)), sorted(set(args.l2))
    widths = [x.shape[1], *args.hidden, classes]
    count = len(args.lr) * len(args.l2)
    print(f"{'-'.join(map(str, widths))}: {count} candidates x {args.folds} folds on {len(x)} samples")
    folds = split(len(x), args.folds, args.seed)
    start = time.perf_counter()
    candidates = search(widths, folds, x, y, args)
    seconds = time.perf_counter() - start
    ranked = sorted((c for c in candidates if not np.isnan(c.loss[-1])), key=lambda c: c.loss[-1])
    if not ranked:
        raise ValueError("every candidate diverged: use smaller learning rates (--lr), or scale the data")
    print_best(ranked[:BETTER], count - len(ranked))
    best = ranked[0]
    path = args.out / "search.png"
    picture.draw(plt, candidates, best, path)
    print(f"picture: {path}")
    measured = fnn.Ensemble(best.models).evaluate(x_test, y_test)
    print(
        f"the best one's {args.folds} folds as an ensemble: {measured['accuracy']:.2%} of {len(x_test)} held out right"
    )
    print(f"fastnn {seconds:.2f} s for {count * args.folds} networks, {fnn.get_num_threads()} threads")
    if args.without_sklearn:
        return
    if importlib.util.find_spec("sklearn") is None:
        print("scikit-learn is not installed, so there is nothing to compare with: pip install fastnn[sklearn]")
        return
    theirs, accuracy = search_with_sklearn(folds, x, y, args)
    print(f"scikit-learn {theirs:.2f} s, {accuracy:.2%} right at best, scikit-learn / fastnn = {theirs / seconds:.2f}")


def split(m: int, folds: int, seed: int) -> list[tuple[samples.Array, samples.Array]]:
    """The rows to train on and those to validate on, for each fold."""
    parts = np.array_split(np.random.default_rng(seed).permutation(m), folds)
    return [(np.concatenate(parts[:i] + parts[i + 1 :]), part) for i, part in enumerate(parts)]


def search(
    widths: list[int],
    folds: list[tuple[samples.Array, samples.Array]],
    x: samples.Array,
    y: samples.Array,
    args: argparse.Namespace,
) -> list[Candidate]:
    """Train a network for each setting and fold, all at once."""
    settings = list(itertools.product(args.lr, args.l2))
    each = [(lr, l2, *rows) for lr, l2 in settings for rows in folds]
    rates, penalties, trained_on, validated_on = map(list, zip(*each, strict=True))
    _, optimizer = samples.OPTIMIZERS["nesterov" if args.optimizer == "sgd" else "adam"]
    models = [samples.build(widths, args.dtype, args.seed) for _ in each]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "exceptions ended the training", UserWarning)  # the picture says which
        histories = fnn.fit_many(
            models,
            x,
            y,
            rows=trained_on,
            validation_rows=validated_on,
            optimizer=[optimizer(lr) for lr in rates],
            l2=penalties,
            epochs=args.epochs,
            batch_size=args.batch_size,
        )
    for history in histories:
        if history.error is not None and not isinstance(history.error, fnn.DivergenceError):
            raise history.error
    return [
        candidate(lr, l2, models[start : start + len(folds)], histories[start : start + len(folds)], args.epochs)
        for (lr, l2), start in zip(settings, range(0, len(models), len(folds)), strict=True)
    ]


def candidate(
    lr: float, l2: float, models: list[fnn.Sequential], histories: list[fnn.History], epochs: int
) -> Candidate:
    """The means of the folds, epoch by epoch."""

    def padded(name: str) -> samples.Array:
        table = np.full((len(histories), epochs), np.nan)
        for row, history in zip(table, histories, strict=True):
            values = history.get(name, [])
            row[: len(values)] = values
        return np.where(np.isfinite(table), table, np.nan)

    loss = padded("val_loss")
    accuracy = float(padded("val_accuracy")[:, -1].mean())
    return Candidate(lr, l2, models, padded("loss").mean(axis=0), loss.mean(axis=0), float(loss[:, -1].std()), accuracy)


def print_best(ranked: list[Candidate], diverged: int) -> None:
    """A table of the settings with the lowest validation loss after the last epoch."""
    print(f"{'lr':>8} {'l2':>8} {'training loss':>14} {'validation loss':>16} {'over folds':>11} {'accuracy':>9}")
    for c in ranked:
        spread = f"± {c.spread:.4f}"
        print(f"{c.lr:8g} {c.l2:8g} {c.train[-1]:14.4f} {c.loss[-1]:16.4f} {spread:>11} {c.accuracy:9.2%}")
    if diverged:
        print(f"{diverged} other candidate{'s' * (diverged > 1)} diverged")


def search_with_sklearn(
    folds: list[tuple[samples.Array, samples.Array]], x: samples.Array, y: samples.Array, args: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of scikit-learn's search over the same settings and folds, in as many jobs, and its best accuracy.

    Its alpha is divided by twice the number of samples of a batch, so alpha = 2 λ m.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        args.hidden,
        solver=args.optimizer,
        batch_size=args.batch_size,
        max_iter=args.epochs,
        tol=0,
        n_iter_no_change=args.epochs + 1,
        random_state=args.seed,
    )
    grid = {"learning_rate_init": args.lr, "alpha": [2 * l2 * args.batch_size for l2 in args.l2]}
    found = GridSearchCV(model, grid, cv=folds, n_jobs=fnn.get_num_threads(), refit=False)
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"  # its workers would say of every fit that it did not converge
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            found.fit(x.astype(args.dtype), y)
            seconds = time.perf_counter() - start
    finally:
        if given is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = given
    return seconds, float(np.nanmax(found.cv_results_["mean_test_score"]))
