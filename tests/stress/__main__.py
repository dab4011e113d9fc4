"""The stress run; ``python -m tests.stress --help``."""

import argparse
import importlib
import os
import sys
import warnings

from tests.stress import core

_MOST_TOLD, _LINES = 30, 30
PARTS = ("calls", "changes", "estimators", "files", "caches", "interrupts", "memory", "threads")


def main(arguments=None):
    """Run the parts and return the status to exit with."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description="Attack fastnn, and count what holds.")
    parser.add_argument("--seconds", type=float, default=25, help="for each part, by default %(default)g")
    parser.add_argument("--seed", type=int, default=0, help="another one makes other attempts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--attempts", type=int, default=10**9, help="the most for each part")
    parser.add_argument("--attempt", type=int, help="make only the attempt of this number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    options = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("the attempts are made in forks, which this system does not know")
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # Python warns of any beside threads
    first, most = (options.attempt, 1) if options.attempt is not None else (0, options.attempts)
    passed = failed = 0
    for name in options.only:
        part = importlib.import_module(f"tests.stress.{name}")
        report = core.run(part, options.seed, range(first, first + most), options.seconds, options.jobs)
        print(f"{name:<10}  {report}", flush=True)
        for failure, times in report.groups()[:_MOST_TOLD]:
            tell(name, failure, times, options.seed)
        bad = sum(report.counts[kind] for kind in core.FAILURES)
        passed, failed = passed + report.counts.total() - bad, failed + bad
    print(f"seed {options.seed}: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def tell(name, failure, times, seed):
    """Print a failure, and how to see it again."""
    print(f"  {failure.kind}, {times} times, such as: {failure.text}")
    print("".join(f"    {line}\n" for line in failure.message.strip().splitlines()[-_LINES:]), end="")
    print(f"    again: python -m tests.stress --only {name} --seed {seed} --attempt {failure.index}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
