"""From records to Markdown: cells, ratios, and what stands out."""

import math
from collections.abc import Iterable, Mapping, Sequence

import peers

# A ratio below this is set in bold: the cell misses its target.
TARGET = 1.1


def micro(seconds: float) -> str:
    """Microseconds, with as many digits as mean something."""
    value = seconds * 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def ratio(value: float, target: float = TARGET) -> str:
    """How many times as fast; bold where the target is missed, a dash where there is nobody to compare with."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value >= target else f"**{value:.2f}**"


def times(value: float, most: float = math.inf) -> str:
    """How many times as long; bold above the most that it may be."""
    return f"{value:.2f}" if value <= most else f"**{value:.2f}**"


def advantage(seconds: Mapping[str, float]) -> float:
    """How many times as fast as the fastest peer fastnn is; NaN without peers."""
    theirs = [time for name, time in seconds.items() if name != peers.OURS]
    return min(theirs, default=math.nan) / seconds[peers.OURS]


def contenders(records: Iterable[Mapping]) -> list[str]:
    """The names in all records, in the order in which they first come."""
    return list(dict.fromkeys(name for record in records for name in record["seconds"]))


def row_of_times(record: Mapping, names: Sequence[str], target: float = TARGET) -> list[str]:
    """The dtype, the case, the time of each contender, and the ratio to the fastest peer."""
    seconds = record["seconds"]
    cells = [micro(seconds[name]) if name in seconds else "-" for name in names]
    return [record["dtype"], record["case"], *cells, ratio(advantage(seconds), target)]


def on(cores: int) -> str:
    """The number of cores in words."""
    return f"on {cores} core{'s' * (cores > 1)}"


def summary(records: Sequence[Mapping]) -> str:
    """The geometric mean and the smallest of the ratios to the fastest peer."""
    ratios = [value for record in records if not math.isnan(value := advantage(record["seconds"]))]
    if not ratios:
        return "Nobody to compare with."
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return f"Against the fastest peer of each row: geometric mean {mean:.2f}, smallest {min(ratios):.2f}."
