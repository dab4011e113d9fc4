"""Memory: by how much an epoch of training raises the peak of a process that already holds the samples."""

from pathlib import Path

import peers
from comparison.agreement import check
from comparison.fresh import WIDE, in_fresh_process
from comparison.settings import Settings, say
from fastnn.commands import measure

ROWS, QUICK_ROWS = 100_096, 1_280
MIB = 2**20


def measure_all(settings: Settings) -> list[dict]:
    """Bytes beyond the samples for each contender and dtype."""
    if not Path("/proc/self/clear_refs").exists():
        say("memory is skipped: only Linux resets the peak of a process")
        return []
    rows = QUICK_ROWS if settings.quick else ROWS
    records = []
    for dtype in settings.dtypes:
        results = {}
        for module in peers.load(settings.peers, "Trainer"):
            results[module.NAME] = in_fresh_process("memory", peers.key_of(module), dtype, str(rows))
            say(f"memory, {dtype}, {module.NAME}: {results[module.NAME]['bytes'] / MIB:.1f} MiB")
        losses = {name: result["loss"] for name, result in results.items()}
        check(losses, dtype, WIDE.name)
        extra = {name: result["bytes"] for name, result in results.items()}
        records.append({"dtype": dtype, "x": results[peers.OURS]["x"], "bytes": extra, "losses": losses})
    return records


def tables(records: list[dict]) -> str:
    """MiB beyond the samples."""
    names = list(dict.fromkeys(name for record in records for name in record["bytes"]))
    rows = [
        [record["dtype"], f"{record['x'] / MIB:.0f}", *(f"{record['bytes'][name] / MIB:.1f}" for name in names)]
        for record in records
    ]
    title = f"Peak memory of an epoch of {WIDE.name} beyond the process that holds X, MiB."
    return "\n\n".join([title, measure.markdown(["training", "X", *names], rows)])
