"""``python -m fastnn.warmup`` compiles the kernels for this CPU and keeps them for every later process."""

import argparse
import time

from ._warmup import warmup


def main() -> None:
    """Prime the cache for the dtypes that are named."""
    parser = argparse.ArgumentParser(prog="python -m fastnn.warmup", description=__doc__)
    parser.add_argument("dtypes", nargs="*", choices=("float32", "float64"), default=("float32", "float64"))
    start = time.perf_counter()
    dtypes = parser.parse_args().dtypes
    warmup(dtypes)
    print(f"kernels ready for {' and '.join(dtypes)} after {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
