"""``python -m fastnn.warmup [float32] [float64]`` compiles the kernels for this CPU, once and for all."""

import argparse
import time

from ._warmup import warmup


def main() -> None:
    """Prime the cache for the dtypes that are named, or for both."""
    parser = argparse.ArgumentParser(prog="python -m fastnn.warmup", description=__doc__)
    parser.add_argument("dtype", nargs="*", help="float32 or float64 [both]")
    dtypes = parser.parse_args().dtype or ["float32", "float64"]
    start = time.perf_counter()
    try:
        warmup(dtypes)
    except ValueError as error:
        parser.error(str(error))
    print(f"kernels ready for {' and '.join(dtypes)} after {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
