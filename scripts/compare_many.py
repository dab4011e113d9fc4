"""Many networks at once: against fit in a loop, JAX's vmap and torch.func; searches and bagging against scikit-learn.

Each network has its own weights, order of samples, learning rate and penalty, and all contenders come to the same
losses before any is timed. JAX takes the fastest of its forms for each row. Everything is measured in processes of
their own, pinned before any library loads; contenders take turns in rounds, and the best of several rounds counts. Rows
that miss a target are printed like the others, in bold.

`pip install -e '.[peers]'` brings the peers, and whoever is missing is skipped.
"""

import argparse

import peers
from comparison import command
from comparison.many_training import Settings
from comparison.settings import say
from fastnn.commands import arguments, measure

# The module of each section, and the cores that it runs on, where these are not those that are asked for.
SECTIONS: dict[str, tuple[str, list[int] | None]] = {
    "together": ("many_training", None),
    "few": ("many_few", [1]),
    "ensemble": ("many_ensemble", None),
    "search": ("many_search", [2]),
}
PEERS = ("jax", "torch")
PACKAGES = ("scikit-learn", "torch", "jax")


def build_parser() -> arguments.Parser:
    parser = command.build_parser(__doc__, SECTIONS, rounds=3)
    add = parser.add_argument
    add("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to compare with [all]")
    add("--cores", nargs="+", type=arguments.positive_int, default=[1, 2], metavar="N", help="numbers of cores [1 2]")
    add("--networks", nargs="+", type=arguments.positive_int, default=[16, 64, 256], metavar="K", help="[16 64 256]")
    add("--epochs", type=arguments.positive_int, default=5, help="of training in a round [%(default)s]")
    return parser


def main(args: argparse.Namespace) -> None:
    sections = {name: (module, cores or args.cores) for name, (module, cores) in SECTIONS.items() if name in args.only}
    available = measure.available_cores()
    for name, (_, cores) in sections.items():
        if max(cores) > available:
            fix = "ask for fewer with --cores" if SECTIONS[name][1] is None else "leave it out, see --only"
            raise ValueError(f"{name} needs {max(cores)} cores, but this process may use {available}: {fix}")
    if "search" in sections:
        import fastnn.sklearn  # noqa: F401 - or the error that says what to install
    absent = {key: advice for key in args.peers if (advice := peers.missing(key))}
    for key, advice in absent.items():
        say(f"{key} is not installed and is skipped: {advice}")
    present = tuple(key for key in args.peers if key not in absent)
    counts = (3,) if args.quick else tuple(args.networks)
    settings = Settings(present, epochs=1 if args.quick else args.epochs, counts=counts, **command.chosen(args))
    about = f"Measured on {command.described(PACKAGES)}."
    if absent:
        about += f" Skipped: {', '.join(absent)}."
    command.run("compare_many", args, settings, sections, about)


if __name__ == "__main__":
    arguments.run(main, build_parser)
