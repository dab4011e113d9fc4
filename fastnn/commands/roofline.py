"""Every kernel, and every layer of a network in training, on the roofline of this machine.

The roof is what the machine can do at most: the FMA peak, or what its memory delivers to a computation that does so
few operations a byte. Both are measured in turns with each kernel, the memory by a triad over as many bytes as the
kernel touches: one whose arrays lie in a cache is held against that cache. Source: S. Williams, A. Waterman and
D. Patterson, Roofline: an insightful visual performance model for multicore architectures, Communications of the ACM
52 (4), 2009.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastnn as fnn

from . import arguments, measure, pictures, samples
from .work import Work, all_work

DTYPES = ("float32", "float64")
# Bytes of memory whose bandwidth is drawn: within the first two caches of every CPU, and beyond them all.
SIZES = (1 << 14, 1 << 18, 1 << 29)
QUICK_SIZES = (1 << 14, 1 << 18, 1 << 24)
NETWORK = "a network in training"
EXAMPLES = ("", "--network 64-128-10 --batch-size 32", "--dtype float64 --threads 2", "--quick")


class Ceilings(NamedTuple):
    """Operations a second of each dtype, and bytes a second over each size of memory."""

    peaks: dict[str, float]
    bandwidths: dict[int, float]


class Point(NamedTuple):
    """A kernel at a size, or a phase of a layer, and what the machine did at most at that time."""

    group: str
    name: str
    size: str
    flops: int
    traffic: int
    seconds: float
    peak: float
    bandwidth: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.traffic

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds

    @property
    def is_compute_bound(self) -> bool:
        """Whether the roof is the FMA peak."""
        return self.flops / self.peak > self.traffic / self.bandwidth

    @property
    def share_of_roof(self) -> float:
        """The least time that its operations and its traffic can take, over the time it took."""
        return max(self.flops / self.peak, self.traffic / self.bandwidth) / self.seconds


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--network", type=network, default="784-256-256-10", metavar="N-N-N", help="its widths [%(default)s]")
    add("--batch-size", type=arguments.positive_int, default=128, help="[%(default)s]")
    add("--dtype", choices=DTYPES, default="float32", help="[%(default)s]")
    add("--threads", type=arguments.positive_int, default=1, help="[%(default)s]")
    add("--out", type=Path, default=Path("out"), help="folder for the picture [%(default)s]")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--quick", action="store_true", help="see in seconds that it works; the figures mean nothing")
    either.add_argument("--docs", action="store_true", help="keep the tables in docs/results")
    return parser


def network(text: str) -> list[int]:
    """Widths, such as 784-256-10."""
    widths = [arguments.positive_int(part) for part in text.split("-")]
    if len(widths) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is one width, expected at least inputs and outputs, as in 64-10")
    return widths


def main(args: argparse.Namespace) -> None:
    plt = pictures.import_pyplot()
    from .roofline_picture import draw

    available = measure.available_cores()
    if args.threads > available:
        raise ValueError(f"--threads is {args.threads}, but this process may use {available}: ask for fewer")
    arguments.make_folder(args.out)
    measure.pin(args.threads)
    fnn.set_num_threads(args.threads)
    ceilings = measure_ceilings(args.threads, args.quick)
    seconds = 0.005 if args.quick else 1.0
    kernels = [time_kernel(work, args, seconds) for work in all_work(np.dtype(args.dtype), args.quick)]
    result, layers, rest = time_network(args)
    text = "\n\n".join(
        [
            f"Measured on {measure.machine()}; {args.dtype}, {cores(args.threads)}, best of many.",
            table_of_ceilings(ceilings),
            table_of_points(("kernel", "size"), kernels),
            f"A step of {'-'.join(map(str, args.network))} with ReLU, softmax cross-entropy, SGD and L2, batch "
            f"{args.batch_size}: {micro(result.seconds)} µs, {result.flops_per_second / 1e9:.0f} GFLOP/s in all, "
            f"{result.share_of_peak:.0%} of the FMA peak. Beside the layers: {rest}.",
            table_of_points(("layer", "phase"), layers, result.seconds),
        ]
    )
    print(text)
    if args.docs:
        measure.put_in_docs("roofline", text)
    path = args.out / "roofline.png"
    title = f"{measure.cpu_name()}, {args.dtype}, {cores(args.threads)}"
    draw(plt, [*kernels, *layers], ceilings, args.dtype, title, path)
    print(f"\npicture: {path}")


def cores(threads: int) -> str:
    return "one core" if threads == 1 else f"{threads} cores"


def measure_ceilings(threads: int, quick: bool) -> Ceilings:
    from fastnn.kernels.machine import bandwidth, fma_peak

    seconds = 0.01 if quick else 1.0
    return Ceilings(
        {dtype: fma_peak(np.dtype(dtype), seconds, threads) for dtype in DTYPES},
        {size: bandwidth(size, seconds, threads) for size in (QUICK_SIZES if quick else SIZES)},
    )


def time_kernel(work: Work, args: argparse.Namespace, seconds: float) -> Point:
    """A kernel in turns with multiply-adds alone and with a triad over the same number of bytes."""
    from fastnn.kernels.machine import bandwidth, fma_peak

    best, peak, moved = float("inf"), 0.0, 0.0
    rounds = 1 if args.quick else 3
    for _ in range(rounds):
        best = min(best, *measure.best_times({work.kernel: work.call}, seconds=seconds / rounds / 2).values())
        peak = max(peak, fma_peak(np.dtype(args.dtype), seconds / rounds / 8, args.threads))
        moved = max(moved, bandwidth(work.memory, seconds / rounds / 4, args.threads))
    return Point(work.group, work.kernel, work.size, work.flops, work.traffic, best, peak, moved)


def time_network(args: argparse.Namespace) -> tuple[fnn.Profile, list[Point], str]:
    """The profile of a step, its layers as points, and what the step spends beside them."""
    widths, batch = args.network, args.batch_size
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch * (2 if args.quick else 40), widths[0])).astype(args.dtype)
    y = rng.integers(0, widths[-1], len(x))
    model = samples.build(widths, args.dtype, 0)
    seconds = 0.01 if args.quick else 5.0
    result = fnn.profile(model, x, y, optimizer=fnn.SGD(lr=0.001), l2=1e-4, batch_size=batch, seconds=seconds)
    shapes = list(itertools.pairwise(widths))
    layers = list(layer_points(result, shapes, np.dtype(args.dtype).itemsize, args.threads, seconds / 20))
    rest = [f"{part.phase} {part.share_of_step:.1%}" for part in result.parts if part.layer is None]
    return result, layers, ", ".join(rest)


def layer_points(
    result: fnn.Profile, shapes: list[tuple[int, int]], itemsize: int, threads: int, seconds: float
) -> Iterator[Point]:
    """The parts of a profile that belong to a layer, of which these are the inputs and outputs.

    The compulsory traffic: forward reads x, w and b and writes y; backward reads dy, w and the values below, which say
    where the gradient passes, and writes dx; the update reads x and dy, and reads and writes w and b.
    """
    from fastnn.kernels.machine import bandwidth

    m = result.batch_size
    for part in result.parts:
        if part.layer is not None:
            k, n = shapes[part.layer // 2]
            traffic, memory = {
                "forward": (m * k + k * n + n + m * n,) * 2,
                "backward": (m * n + k * n + 2 * m * k,) * 2,
                "update": (m * k + m * n + 2 * (k * n + n), m * k + m * n + k * n + n),
            }[part.phase]
            moved = bandwidth(itemsize * memory, seconds, threads)
            yield Point(
                NETWORK, f"{k}-{n}", part.phase, part.flops, itemsize * traffic, part.seconds, result.peak, moved
            )


def table_of_ceilings(ceilings: Ceilings) -> str:
    rows = [(f"FMA peak, {dtype}", f"{peak / 1e9:.0f} GFLOP/s") for dtype, peak in ceilings.peaks.items()]
    rows += [(f"triad over {memory(size)}", f"{rate / 1e9:.0f} GB/s") for size, rate in ceilings.bandwidths.items()]
    return measure.markdown(("ceiling", "measured"), rows)


def table_of_points(columns: tuple[str, str], points: list[Point], whole: float | None = None) -> str:
    """Each point beside its roof, and its share of the whole where that is given."""
    rows = [
        (
            point.name,
            point.size,
            micro(point.seconds),
            f"{point.intensity:.2f}",
            f"{point.rate / 1e9:.1f}",
            f"{point.traffic / point.seconds / 1e9:.1f}",
            f"{point.rate / point.peak:.0%}",
            f"{point.share_of_roof:.0%}",
            "FMA" if point.is_compute_bound else "memory",
            *([f"{point.seconds / whole:.0%}"] if whole is not None else []),
        )
        for point in points
    ]
    header = (*columns, "µs", "FLOP/byte", "GFLOP/s", "GB/s", "of the FMA peak", "of the roof", "which is")
    return measure.markdown(header if whole is None else (*header, "of the step"), rows)


def memory(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"
