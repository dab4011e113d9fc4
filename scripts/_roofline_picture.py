"""The picture of the roofline: a panel for each group of points, under the same ceilings."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.transforms import Bbox

import _common as common

COLORS, MARKERS = (common.BLUE, common.ORANGE, common.GREEN, "#8e44ad"), "os^D"
NEAR = 9  # pixels of the screen: points of a kind that lie nearer to each other share a label
RADII = (9, 14, 20, 28, 38, 50, 64, 80, 100, 125)
ANGLES = [math.radians(a) for a in (0, 180, 30, 330, 150, 210, 60, 300, 120, 240, 90, 270)]


def draw(plt: ModuleType, points: Sequence[Any], ceilings: Any, dtype: str, title: str, path: Path) -> None:
    """Draw the points that do any arithmetic, group by group, and save the picture."""
    points = [point for point in points if point.flops]
    groups = list(dict.fromkeys(point.group for point in points))
    figure, grid = plt.subplots(-(-len(groups) // 2), 2, figsize=(17, 12), squeeze=False)
    figure.suptitle(f"Roofline: {title}", x=0.01, ha="left", fontsize=14)
    panels = [(axes, [p for p in points if p.group == group]) for axes, group in zip(grid.flat, groups, strict=True)]
    for axes, members in panels:
        axes.set(title=members[0].group, xlabel="FLOP a byte of compulsory traffic", ylabel="GFLOP/s")
        _scale(plt, axes, members, ceilings)
        for i, (kind, of_kind) in enumerate(_kinds(members).items()):
            x, y = [p.intensity for p in of_kind], [p.rate / 1e9 for p in of_kind]
            axes.plot(x, y, MARKERS[i % 4], color=COLORS[i % 4], markersize=5.5, zorder=3, label=kind)
        axes.legend(loc="lower right")
    # Labels are placed in pixels, so from here on nothing may move.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    for axes, members in panels:
        taken = [axes.get_legend().get_window_extent(), *_ceilings(axes, ceilings, dtype)]
        taken += [_square(*axes.transData.transform((p.intensity, p.rate / 1e9)), 5) for p in members]
        for i, of_kind in enumerate(_kinds(members).values()):
            _label(axes, of_kind, _key(members)[0], COLORS[i % 4], taken)
    figure.savefig(path)
    plt.close(figure)


def _key(points: Sequence[Any]) -> tuple[str, str]:
    """What the labels say, and what the markers stand for: of name and size, the one with fewer values."""
    names, sizes = ({getattr(p, field) for p in points} for field in ("name", "size"))
    return ("size", "name") if len(names) < len(sizes) else ("name", "size")


def _kinds(points: Sequence[Any]) -> dict[str, list[Any]]:
    """The points by what their markers stand for."""
    kinds: dict[str, list[Any]] = {}
    for point in points:
        kinds.setdefault(getattr(point, _key(points)[1]), []).append(point)
    return kinds


def _scale(plt: ModuleType, axes: Any, points: Sequence[Any], ceilings: Any) -> None:
    """Limits with room around the points and the peaks."""
    x, y = [p.intensity for p in points], [p.rate / 1e9 for p in points]
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(min(x) / 2.5, max(x) * 2.5)
    axes.set_ylim(min(y) / 2.5, 1.6 * max(*(peak / 1e9 for peak in ceilings.peaks.values()), *y))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(plt.NullFormatter())


def _ceilings(axes: Any, ceilings: Any, dtype: str) -> Iterator[Any]:
    """Draw the roofs as far as they are in sight, and give the boxes of their labels and along their slopes."""
    (left, right), (bottom, _), frame = axes.get_xlim(), axes.get_ylim(), axes.get_window_extent()
    for name, peak in ceilings.peaks.items():
        axes.axhline(peak / 1e9, color="black", linewidth=1.2, linestyle="-" if name == dtype else ":", zorder=1)
        height = axes.transData.transform((right, peak / 1e9))[1]
        yield Bbox.from_extents(frame.x0, height - 1, frame.x1, height + 1)
        label = f"FMA peak, {name}: {peak / 1e9:.0f} GFLOP/s"
        yield _text(axes, label, (right, peak / 1e9), (-4, 3), "black", ha="right").get_window_extent()
    peak = ceilings.peaks[dtype] / 1e9
    for size, rate in ((size, rate / 1e9) for size, rate in ceilings.bandwidths.items()):
        start, end = max(left, bottom / rate), min(right, peak / rate)
        if end < 2 * start:
            continue
        x = np.geomspace(start, end, 200)
        axes.plot(x, rate * x, color=common.GREY, linewidth=1, zorder=1)
        pixels = axes.transData.transform(np.column_stack([x, rate * x]))
        yield from (_square(*place, 1) for place in pixels)
        angle = math.degrees(math.atan2(*(pixels[-1] - pixels[0])[::-1]))
        label = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
        text = _text(axes, f"{label}: {rate:.0f} GB/s", (x[8], rate * x[8]), (0, 0), common.GREY, va="bottom")
        text.set(rotation=angle, rotation_mode="anchor")
        yield text.get_window_extent()


def _label(axes: Any, points: Sequence[Any], field: str, color: str, taken: list[Any]) -> None:
    """Write beside each point what it is, where nothing else is, with a line to it where that is far away."""
    frame, scale = axes.get_window_extent(), axes.figure.dpi / 72
    to_data = axes.transData.inverted().transform
    places = [axes.transData.transform((p.intensity, p.rate / 1e9)) for p in points]
    for (x, y), label in _shared([getattr(p, field) for p in points], places):
        text = _text(axes, label, to_data((x, y)), (0, 0), color, va="bottom")
        box = text.get_window_extent()
        free = (
            (radius, shift, moved)
            for radius in RADII
            for shift, moved in _positions(x, y, box, radius * scale)
            if frame.contains(moved.x0, moved.y0)
            and frame.contains(moved.x1, moved.y1)
            and not any(moved.overlaps(other) for other in taken)
        )
        radius, shift, moved = next(free, (0, (0.0, 0.0), box))
        text.set_position((shift[0] / scale, shift[1] / scale))
        taken.append(moved)
        if radius > RADII[1]:
            end = min(max(x, moved.x0), moved.x1), min(max(y, moved.y0), moved.y1)
            axes.plot(*to_data([(x, y), end]).T, color=color, linewidth=0.6, alpha=0.6, zorder=2)


def _positions(x: float, y: float, box: Any, radius: float) -> Iterator[tuple[tuple[float, float], Any]]:
    """The shifts that bring the near side of a box to a radius around (x, y), and the box there."""
    for angle in ANGLES:
        dx = radius * math.cos(angle) - box.width * (1 - math.cos(angle)) / 2
        dy = radius * math.sin(angle) - box.height * (1 - math.sin(angle)) / 2
        shift = x + dx - box.x0, y + dy - box.y0
        yield shift, box.translated(*shift)


def _shared(labels: Sequence[str], places: Sequence[Any]) -> Iterator[tuple[Any, str]]:
    """The labels and their places, those of points on top of each other as one."""
    left = list(zip(labels, places, strict=True))
    while left:
        place = left[0][1]
        near = [math.dist(at, place) < NEAR for _, at in left]
        yield place, ", ".join(label for (label, _), is_near in zip(left, near, strict=True) if is_near)
        left = [item for item, is_near in zip(left, near, strict=True) if not is_near]


def _square(x: float, y: float, half: float) -> Any:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _text(axes: Any, label: str, at: tuple[float, float], shift: tuple[float, float], color: str, **more: Any) -> Any:
    return axes.annotate(label, at, shift, textcoords="offset points", color=color, fontsize=9, zorder=4, **more)
