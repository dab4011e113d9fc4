"""One network, and three, by `fit_many` and by `fit`: where there is nothing to gain, nothing may be lost."""

import peers
from comparison.many_training import LOOP, Settings, measure_cases
from comparison.tables import micro, on, times
from fastnn.commands import measure

COUNTS = (1, 3)
# How many times the µs of fit fit_many may take, beside what the clock is unsure of.
MOST = 1.03


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step of one network by both, for each dtype, update rule, network and number of networks."""
    return measure_cases(settings, ["loop"], COUNTS, "few")


def tables(records: list[dict]) -> str:
    """A table for each number of cores."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        rows = []
        for record in (record for record in records if record["cores"] == cores):
            ours, loop = record["seconds"][peers.OURS], record["seconds"][LOOP]
            about = [record["dtype"], record["rule"], record["case"], str(record["count"])]
            rows.append([*about, micro(ours), micro(loop), times(ours / loop, MOST)])
        header = ["few", "optimizer", "network, batch", "networks", peers.OURS, LOOP, "over fit"]
        parts += [f"Few networks {on(cores)}: µs a step of one network.", measure.markdown(header, rows)]
    return "\n\n".join(parts)
