"""fastnn against NumPy, scikit-learn, PyTorch, torch.compile, JAX and ONNX Runtime, each in its best form.

Every section and every number of cores is measured in a process of its own, pinned before any library loads, since
BLAS and JAX count the cores as they load. Contenders take turns in rounds, and the best of several rounds counts; what
a first call compiles is not in it. Rows that fastnn loses are printed like the others, in bold.

`pip install -e '.[peers]'` brings the peers, and whoever is missing is skipped. Install torch first, from PyTorch's CPU
index, to spare yourself the CUDA build.
"""

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import _common as common
import _measure as measure
import peers
from comparison import inference, kernels, memory, optimizers, start, subnormals, training
from comparison.settings import Settings, say

SECTIONS = {
    "training": training,
    "optimizers": optimizers,
    "subnormals": subnormals,
    "kernels": kernels,
    "inference": inference,
    "start": start,
    "memory": memory,
}
# What has nothing to do with the number of cores is measured on the first number alone.
ON_ANY_CORES = ("start", "memory")
PACKAGES = ("scikit-learn", "torch", "jax", "onnxruntime", "scipy")


def build_parser() -> common.Parser:
    parser = common.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections [all]")
    add("--peers", nargs="+", choices=peers.PEERS, default=list(peers.PEERS), help="whom to compare with [all]")
    add("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32", "float64"], help="[both]")
    add("--cores", nargs="+", type=common.positive_int, default=[1], metavar="N", help="numbers of cores [1]")
    add("--rounds", type=common.positive_int, default=7, help="of which the best counts [%(default)s]")
    add("--epochs", type=common.positive_int, default=1, help="of training in a round [%(default)s]")
    add("--json", type=Path, metavar="PATH", help="keep the raw numbers")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="see in a minute that it works; the figures mean nothing")
    what.add_argument("--readme", action="store_true", help="put the tables into README.md")
    return parser


def main(args: argparse.Namespace) -> None:
    if max(args.cores) > available_cores():
        raise ValueError(f"--cores is {max(args.cores)}, but this process may use {available_cores()}: ask for fewer")
    absent = {key: advice for key in args.peers if (advice := peers.missing(key))}
    for key, advice in absent.items():
        say(f"{key} is not installed and is skipped: {advice}")
    settings = Settings(
        peers=tuple(key for key in args.peers if key not in absent),
        dtypes=tuple(args.dtypes),
        rounds=1 if args.quick else args.rounds,
        epochs=args.epochs,
        quick=args.quick,
    )
    records: dict[str, list[dict]] = {}
    for name in args.only:
        for cores in args.cores[:1] if name in ON_ANY_CORES else args.cores:
            measured = in_own_process(SECTIONS[name].measure_all, replace(settings, cores=cores))
            records.setdefault(name, []).extend(record | {"cores": cores} for record in measured)
        if args.json:
            args.json.write_text(json.dumps({"machine": described(absent), "records": records}, indent=1))
    text = "\n\n".join([described(absent), *(SECTIONS[name].tables(rows) for name, rows in records.items())])
    print(text)
    if args.readme:
        measure.put_in_readme("compare", text)


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_own_process(function: Callable[[Settings], list[dict]], settings: Settings) -> list[dict]:
    """What the function returns in a fresh process on as many cores as the settings say."""
    with measure.pinned(settings.cores), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, settings).result()


def described(absent: dict[str, str]) -> str:
    """The machine and the versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    skipped = f" Skipped: {', '.join(absent)}." if absent else ""
    return f"Measured on {measure.machine()}, {', '.join(versions)}.{skipped}"


if __name__ == "__main__":
    common.run(main, build_parser())
