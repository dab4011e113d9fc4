"""Compile the kernels for this CPU, once and for all that use this cache; later runs load them in a moment."""

import argparse
import importlib
import os
import time

import fastnn as fnn

from . import arguments

EXAMPLES = ("", "float32", "--all-users")


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    parser.add_argument("dtype", nargs="*", default=["float32", "float64"], help="float32 or float64 [both]")
    parser.add_argument("--all-users", action="store_true", help="keep them where all users of this Python find them")
    return parser


def main(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    where = f" in {_for_all_users()}" if args.all_users else ""
    fnn.warmup(args.dtype)
    print(f"kernels ready for {' and '.join(args.dtype)} after {time.perf_counter() - start:.1f} s{where}")


def _for_all_users() -> str:
    os.umask(0o022)
    return str(importlib.import_module("fastnn.kernels.compiler.cache").keep_for_all_users())
