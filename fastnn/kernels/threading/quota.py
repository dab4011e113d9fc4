"""The CPU time that the system grants this process: containers limit it without taking a CPU away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def cpus_granted(root: Path = Path("/")) -> float:
    """How many CPUs' time the control groups of this process, and those above them, leave it; infinity without limit.

    Linux tells in the files of its cgroups, version 2 in one (a quota and its period, in microseconds) and version 1 in
    two. Where there is neither, as on other systems, nothing is limited.
    """
    least = float("inf")
    for folder in _groups(root):
        with contextlib.suppress(OSError, ValueError):
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0 and int(period) > 0:  # version 1 says -1, version 2 "max", where there is no limit
                least = min(least, int(quota) / int(period))
    return least


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, and of those above: a container sees its own as the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            inside = Path(path.lstrip("/"))
            for folder in (inside, *inside.parents):
                yield root / "sys/fs/cgroup" / controllers / folder
