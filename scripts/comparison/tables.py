"""From records to Markdown: cells, ratios, and what stands out."""

import math
from collections.abc import Iterable, Mapping

import peers

# A ratio below this is set in bold: the cell misses its target.
TARGET = 1.1


def micro(seconds: float) -> str:
    """Microseconds, with as many digits as mean something."""
    value = seconds * 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def ratio(value: float, target: float = TARGET) -> str:
    """How many times as fast; bold where the target is missed."""
    return f"{value:.2f}" if value >= target else f"**{value:.2f}**"


def advantage(seconds: Mapping[str, float]) -> float:
    """How many times as fast as the fastest peer fastnn is."""
    return min(time for name, time in seconds.items() if name != peers.OURS) / seconds[peers.OURS]


def contenders(records: Iterable[Mapping]) -> list[str]:
    """The names in all records, in the order in which they first come."""
    return list(dict.fromkeys(name for record in records for name in record["seconds"]))


def summary(ratios: list[float]) -> str:
    """The geometric mean and the smallest of the ratios."""
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return f"Against the fastest peer of each row: geometric mean {mean:.2f}, smallest {min(ratios):.2f}."
