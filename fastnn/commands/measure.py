"""What is shared by what measures: pinned cores, interleaved timing, tables in Markdown, and their place in the docs.

BLAS libraries count the cores as they load, so what times them does so in a process that is pinned from its start.
"""

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]

# Seconds after a pause until a CPU has its speed again.
_AWAKE = 0.005

Result = TypeVar("Result")
Task = Callable[[], object]


def pin(cores: int = 1) -> None:
    """Keep this process, and the libraries that it loads later, on the first cores that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTNN_NUM_THREADS"):
        os.environ[name] = str(cores)


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Pin this process, for those that it starts, and let it go again."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    environment = dict(os.environ)
    pin(cores)
    try:
        yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
        os.environ.clear()
        os.environ.update(environment)


def in_own_process(cores: int, function: Callable[..., Result], *arguments: object) -> Result:
    """What the function returns in a fresh process on so many cores."""
    with pinned(cores), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_times(
    tasks: Mapping[str, Task], seconds: float = 0.5, rounds: int = 7, pause: float = 0.0
) -> dict[str, float]:
    """The best time of a call of each task, taken in turns so that all meet the same neighbours.

    Tasks share the seconds; a pause before each lets the threads of the one before fall asleep. A turn is three calls
    at least, unless they are long: the first after another task finds that one's data in the caches.
    """
    repeats = {}
    for name, task in tasks.items():
        task()
        start = time.perf_counter()
        task()
        once = max(time.perf_counter() - start, 1e-7)
        repeats[name] = max(3 if once < 0.1 else 1, int(seconds / (rounds * len(tasks)) / once))
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            repeat = repeats[name]
            chunk = max(1, repeat // 8)
            _rest(pause)
            for _ in range(max(1, repeat // chunk)):
                start = time.perf_counter()
                for _ in range(chunk):
                    task()
                best[name] = min(best[name], (time.perf_counter() - start) / chunk)
    return best


def best_rounds(tasks: Mapping[str, tuple[Task, Task]], rounds: int, pause: float = 0.0) -> dict[str, float]:
    """The best time of each task, a pair of what comes before the clock starts and what is timed.

    Every round takes each once, in another order, so that nobody always follows the same neighbour.
    """
    best = dict.fromkeys(tasks, float("inf"))
    names = deque(tasks)
    for _ in range(rounds):
        for name in names:
            prepare, run = tasks[name]
            prepare()
            _rest(pause)
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
        names.rotate(1)
    return best


def _rest(pause: float) -> None:
    """Let other threads fall asleep, and do something for a moment: a CPU that wakes up is slow at first."""
    if pause > 0:
        time.sleep(pause)
        end = time.perf_counter() + _AWAKE
        while time.perf_counter() < end:
            pass


def machine() -> str:
    """The CPU and the versions that a table was measured with."""
    numpy, numba = map(importlib.metadata.version, ("numpy", "numba"))
    return f"{cpu_name()}, Python {platform.python_version()}, NumPy {numpy}, Numba {numba}"


def blas() -> str:
    """The BLAS behind NumPy and the CPU that it chose its kernels for."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return ", ".join(f"{i['internal_api']} {i['version']} ({i.get('architecture', '?')})" for i in found) or "none"


def cpu_name() -> str:
    """The CPU's own name where the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_in_docs(name: str, text: str) -> None:
    """Keep tables in the documentation's results under this name, with the command that this process was called by."""
    folder = ROOT / "docs" / "results"
    if not folder.is_dir():
        raise ValueError(f"--docs is for a checkout of fastnn, but {ROOT} holds no docs/results")
    program, *arguments = sys.argv
    called = "-m fastnn" if Path(program).name == "__main__.py" else f"scripts/{Path(program).name}"
    command = shlex.join(argument for argument in arguments if argument != "--docs")
    content = f"Made by `python {called} {command}".rstrip() + f"`.\n\n{text.strip()}\n"
    (folder / f"{name}.md").write_text(content, encoding="utf-8", newline="\n")
