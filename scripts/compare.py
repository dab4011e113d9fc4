"""fastnn against NumPy, scikit-learn, PyTorch, torch.compile, JAX and ONNX Runtime, each in its best form.

Every section and every number of cores is measured in a process of its own, pinned before any library loads, since
BLAS and JAX count the cores as they load. Contenders take turns in rounds, and the best of several rounds counts; what
a first call compiles is not in it. Rows that fastnn loses are printed like the others, in bold.

`pip install -e '.[peers]'` brings the peers, and whoever is missing is skipped. Install torch first, from PyTorch's CPU
index, to spare yourself the CUDA build. `--peers numpy twin` needs none of them: NumPy at its best, and fastnn on its
other backend.
"""

import argparse

import peers
from comparison import command
from comparison.settings import Settings, say
from fastnn.commands import arguments, measure

SECTIONS = (
    "training",
    "optimizers",
    "operations",
    "subnormals",
    "kernels",
    "precision",
    "inference",
    "start",
    "memory",
)
# What has nothing to do with the number of cores is measured on the first number alone, and what kernels cost that
# run alone, without the threads of an epoch, on one.
ON_ANY_CORES, ON_ONE_CORE = ("start", "memory"), ("operations",)
EXAMPLES = ("--cores 1 2 --rounds 3", "--peers numpy twin --only training", "--quick")
PACKAGES = ("scikit-learn", "torch", "jax", "onnxruntime", "scipy")


def build_parser() -> arguments.Parser:
    parser = command.build_parser(__doc__, SECTIONS, 7, EXAMPLES)
    add = parser.add_argument
    add("--peers", nargs="+", choices=peers.PEERS, default=list(peers.PEERS), help="whom to compare with [all]")
    add("--cores", nargs="+", type=arguments.positive_int, default=[1], metavar="N", help="numbers of cores [1]")
    add("--epochs", type=arguments.positive_int, default=1, help="of training in a round [%(default)s]")
    return parser


def main(args: argparse.Namespace) -> None:
    available = measure.available_cores()
    if max(args.cores) > available:
        raise ValueError(f"--cores is {max(args.cores)}, but this process may use {available}: ask for fewer")
    absent = {key: advice for key in args.peers if (advice := peers.missing(key))}
    for key, advice in absent.items():
        say(f"{key} is not installed and is skipped: {advice}")
    present = tuple(key for key in args.peers if key not in absent)
    settings = Settings(present, epochs=args.epochs, **command.chosen(args))
    about = f"Measured on {command.described(PACKAGES)}. BLAS of NumPy: {measure.blas()}."
    if absent:
        about += f" Skipped: {', '.join(absent)}."
    sections = {name: (name, cores_of(name, args.cores)) for name in args.only}
    command.run("compare", args, settings, sections, about)


def cores_of(section: str, asked: list[int]) -> list[int]:
    """The numbers of cores that a section is measured on."""
    return [1] if section in ON_ONE_CORE else asked[:1] if section in ON_ANY_CORES else asked


if __name__ == "__main__":
    arguments.run(main, build_parser)
