"""What each layer and each phase of a training step takes, and its share of what this CPU can do at most.

Nothing is trained or saved: a copy of the network runs for a moment. Without arguments 64-128-10 on the digits. Layers
are Linear with ReLU between them, the loss is softmax cross-entropy.
"""

import argparse

import fastnn as fnn

from . import arguments, samples

EXAMPLES = (
    "",
    "--hidden 512,256 --batch-size 128 --optimizer adam",
    "--data table.csv --label species --threads 1",
    "--backend numpy",
)


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    samples.add_data_options(parser)
    add = parser.add_argument
    add("--hidden", type=arguments.widths, default="128", metavar="N,N", help="widths of hidden layers [%(default)s]")
    add("--batch-size", type=arguments.positive_int, default=32, help="[%(default)s]")
    add("--optimizer", choices=samples.OPTIMIZERS, default="nesterov", help="[%(default)s]")
    add("--l2", type=arguments.non_negative, default=1e-4, help="penalty: loss + l2 times the sum of w² [%(default)s]")
    add("--dtype", choices=("float32", "float64"), default="float32", help="[%(default)s]")
    add("--threads", type=arguments.positive_int, help="the most that kernels may use [all cores]")
    add("--seconds", type=arguments.positive, default=1.0, help="about how long to measure [%(default)s]")
    add("--seed", type=arguments.seed, default=0, help="of the split and the weights [%(default)s]")
    add("--backend", choices=("numba", "numpy"), default="numba", help="[%(default)s]")
    return parser


def main(args: argparse.Namespace) -> None:
    (x, y, _, y_held_out), _ = samples.load(args)
    if args.threads:
        fnn.set_num_threads(args.threads)
    widths = [x.shape[1], *args.hidden, samples.count_classes(y, y_held_out)]
    model = samples.build(widths, args.dtype, args.seed)
    lr, rule = samples.OPTIMIZERS[args.optimizer]
    with fnn.use_backend(args.backend):
        result = fnn.profile(
            model, x, y, optimizer=rule(lr), l2=args.l2, batch_size=args.batch_size, seconds=args.seconds
        )
    print("-".join(map(str, widths)))
    print(result)
