"""The picture of the roofline: the points of each group under the ceilings, and below them which is which."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import pictures

ROW = 0.18  # inches a name
CAPTION = """\
Above, rates under the ceilings of this machine. Below, each in percent of its own roof, from the fewest FLOP per
byte, the number after the name, to the most. Ceilings are measured like all else, in turns with what is held against
them, so a clock that turbo raises for one of the two, and noise, can bring a point above 100 %. So can an update in
place: the triad that measures the memory writes an array that it has not read, which has to be fetched as well."""


def draw(plt: ModuleType, points: Sequence[Any], ceilings: Any, dtype: str, title: str, path: Path) -> None:
    """Draw the points that do any arithmetic, group by group, and save the picture."""
    groups: dict[str, list[Any]] = {}
    for point in points:
        if point.flops:
            groups.setdefault(point.group, []).append(point)
    columns = _columns(groups)
    heights = 3.0 * -(-len(groups) // 2), max(map(_height, columns))
    figure = plt.figure(figsize=(pictures.WIDTH, sum(heights) + 1))
    figure.suptitle(f"Roofline: {title}", x=0.01, ha="left", fontsize=12)
    figure.supxlabel(CAPTION, x=0.01, ha="left", fontsize=8.5)
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    panels = above.subplots(-(-len(groups) // 2), 2, squeeze=False).flat
    texts = []
    for axes, (group, members) in zip(panels, groups.items(), strict=False):
        axes.set_title(group)
        texts += _draw_rates(plt, axes, members, ceilings, dtype)
    for axes in panels:
        axes.remove()
    for part, column in zip(below.subfigures(1, len(columns), squeeze=False).flat, columns, strict=True):
        rows = [len(_rows(members)) for members in column.values()]
        grid = part.subplots(len(column), 1, squeeze=False, height_ratios=rows)
        for axes, (group, members) in zip(grid.flat, column.items(), strict=True):
            _draw_shares(axes, members)
            axes.set_title(group, loc="right", pad=18)
    # Along their lines, whose slopes are known when everything has its place.
    figure.canvas.draw()
    for text, (start, end) in texts:
        (x, y), (to_x, to_y) = text.axes.transData.transform([start, end])
        text.set_rotation(math.degrees(math.atan2(to_y - y, to_x - x)))
    figure.savefig(path)
    plt.close(figure)


def _columns(groups: dict[str, list[Any]]) -> list[dict[str, list[Any]]]:
    """The groups in two columns of about the same height, or a single one in one."""
    columns: list[dict[str, list[Any]]] = [{} for _ in range(min(2, len(groups)))]
    for group in sorted(groups, key=lambda group: -len(_rows(groups[group]))):
        min(columns, key=_height)[group] = groups[group]
    return columns


def _height(column: dict[str, list[Any]]) -> float:
    """The inches that the rows of these groups take, with what stands above and below them."""
    return sum(ROW * len(_rows(members)) + 1.3 for members in column.values())


def _draw_rates(plt: ModuleType, axes: Any, points: Sequence[Any], ceilings: Any, dtype: str) -> list[Any]:
    """The points under the ceilings; the names along those that rise, each with two places on its line."""
    x, y = [p.intensity for p in points], [p.rate / 1e9 for p in points]
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="GFLOP/s")
    axes.set_xlim(min(x) / 2.5, max(x) * 2.5)
    top = 2.5 * max(*(peak / 1e9 for peak in ceilings.peaks.values()), *y)
    axes.set_ylim(min(y) / (top / min(y)) ** 0.35, top)  # with room for the legend
    for axis in (axes.xaxis, axes.yaxis):
        pictures.plain_logarithms(plt, axis)
    for color, marker, kind, of_kind in _kinds(points):
        x, y = [p.intensity for p in of_kind], [p.rate / 1e9 for p in of_kind]
        axes.plot(x, y, marker, color=color, zorder=3, label=kind)
    axes.legend(loc="lower right", fontsize=8, handletextpad=0.1, borderpad=0)
    return list(_draw_ceilings(axes, ceilings, dtype))


def _draw_ceilings(axes: Any, ceilings: Any, dtype: str) -> Iterator[Any]:
    """The roofs as far as they are in sight, each with its name along it."""
    (left, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    peak = ceilings.peaks[dtype] / 1e9
    # Where there are no points: those of many operations a byte lie to the right, all others low.
    at_left = right > peak / min(rate / 1e9 for rate in ceilings.bandwidths.values())
    for name, height in ((name, height / 1e9) for name, height in ceilings.peaks.items()):
        is_ours = name == dtype
        axes.axhline(height, color="black", linewidth=1.2, linestyle="-" if is_ours else ":", zorder=1)
        side = {"ha": "left" if at_left else "right", "va": "bottom" if is_ours else "top"}
        _text(axes, f"FMA peak, {name}: {height:.0f}", (left if at_left else right, height), "black", **side)
    for size, rate in ((size, rate / 1e9) for size, rate in ceilings.bandwidths.items()):
        start, end = max(left, bottom / rate), min(right, peak / rate)
        if end < 4 * start:  # too short for its name
            continue
        axes.plot([start, end], [rate * start, rate * end], color=pictures.GREY, linewidth=1, zorder=1)
        label = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
        text = _text(axes, f"{label}: {rate:.0f} GB/s", (start * 1.05, rate * start * 1.05), pictures.GREY)
        text.set(rotation_mode="anchor")
        yield text, ((start, rate * start), (end, rate * end))


def _draw_shares(axes: Any, points: Sequence[Any]) -> None:
    """A row for each name, the share of its roof at each size, or for each size that of each name."""
    rows = _rows(points)
    label = _key(points)[0]
    for color, marker, kind, of_kind in _kinds(points):
        places = [rows.index(getattr(p, label)) for p in of_kind]
        axes.plot([100 * p.share_of_roof for p in of_kind], places, marker, color=color, zorder=3, label=kind)
    axes.axvline(100, color="black", linewidth=1.2, zorder=1)
    axes.set_yticks(range(len(rows)), [f"{row}   {_intensity(points, row)}" for row in rows], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="% of the roof", ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlim(0, max(105, axes.get_xlim()[1]))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderpad=0, columnspacing=0.6, handletextpad=0)


def _intensity(points: Sequence[Any], row: str) -> str:
    """The operations a byte of the points of a row, from the least to the most."""
    found = [p.intensity for p in points if row == getattr(p, _key(points)[0])]
    return "–".join(
        dict.fromkeys(f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in (min(found), max(found)))
    )


def _rows(points: Sequence[Any]) -> list[str]:
    """What the rows are, from the fewest operations a byte to the most."""
    return list(dict.fromkeys(getattr(p, _key(points)[0]) for p in sorted(points, key=lambda p: p.intensity)))


def _key(points: Sequence[Any]) -> tuple[str, str]:
    """What the rows say, and what the markers stand for: of name and size, the one with fewer values."""
    names, sizes = ({getattr(p, field) for p in points} for field in ("name", "size"))
    return ("size", "name") if len(names) < len(sizes) else ("name", "size")


def _kinds(points: Sequence[Any]) -> Iterator[tuple[str, str, str, list[Any]]]:
    """Colour and marker, what they stand for, and its points."""
    field = _key(points)[1]
    for i, kind in enumerate(dict.fromkeys(getattr(point, field) for point in points)):
        of_kind = [point for point in points if getattr(point, field) == kind]
        yield pictures.COLORS[i % 4], pictures.MARKERS[i % 4], kind, of_kind


def _text(axes: Any, label: str, at: tuple[float, float], color: str, va: str = "bottom", **more: Any) -> Any:
    shift = 0, 2 if va == "bottom" else -2
    more |= {"textcoords": "offset points", "fontsize": 8.5, "zorder": 4}
    return axes.annotate(label, at, shift, color=color, va=va, **more)
