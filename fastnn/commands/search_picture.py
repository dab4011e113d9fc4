"""The picture of `search`: validation loss against both settings, and the learning curves of all candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

from . import pictures

# Of the values between the lowest loss and that of a network that knows nothing, in logarithms, so much is drawn light.
LIGHT = 0.55


@dataclass(frozen=True)
class Candidate:
    """A learning rate and a penalty: the models of its folds, and the means over these of every epoch.

    What a fold that diverged has not come to is NaN, and so is the mean.
    """

    lr: float
    l2: float
    models: list[fnn.Sequential]
    train: NDArray[Any]
    loss: NDArray[Any]
    spread: float
    accuracy: float


def draw(plt: ModuleType, candidates: Sequence[Candidate], best: Candidate, path: Path) -> None:
    """The losses after the last epoch as a heat map, and those of all epochs as curves."""
    rates, penalties = (sorted({getattr(c, name) for c in candidates}) for name in ("lr", "l2"))
    heights = max(1.6, 0.8 + 0.42 * len(penalties)), 3.6
    figure, (heat, curves) = plt.subplots(
        2, 1, figsize=(max(pictures.WIDTH, 0.9 * len(rates)), sum(heights)), height_ratios=heights
    )
    draw_heat(plt, heat, candidates, best, rates, penalties)
    draw_curves(plt, curves, candidates, best, rates)
    figure.savefig(path)


def draw_heat(
    plt: ModuleType,
    axes: Any,
    candidates: Sequence[Candidate],
    best: Candidate,
    rates: list[float],
    penalties: list[float],
) -> None:
    """A cell for each candidate, its loss in figures, the best one framed."""
    table = np.full((len(penalties), len(rates)), np.nan)
    for c in candidates:
        table[penalties.index(c.l2), rates.index(c.lr)] = c.loss[-1]
    shown = np.log(np.maximum(table, np.finfo(float).tiny))
    colors = plt.get_cmap("viridis_r").with_extremes(bad="#e6e6e6")
    lowest, highest = np.nanmin(shown), np.nanmax(shown)
    axes.imshow(np.ma.masked_invalid(shown), cmap=colors, aspect="auto", origin="lower", vmin=lowest, vmax=highest)
    for (row, column), value in np.ndenumerate(table):
        dark = not np.isnan(value) and shown[row, column] - lowest > LIGHT * (highest - lowest)
        text = "diverged" if np.isnan(value) else f"{value:.3g}"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
    place = rates.index(best.lr) - 0.5, penalties.index(best.l2) - 0.5
    axes.add_patch(plt.Rectangle(place, 1, 1, fill=False, edgecolor=pictures.ORANGE, linewidth=2.5))
    axes.set(
        title="Validation loss (cross-entropy, nats) after the last epoch, mean of the folds", xlabel="learning rate"
    )
    axes.set(ylabel="penalty λ")
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(penalties)), [f"{penalty:g}" for penalty in penalties])
    axes.grid(visible=False)


def draw_curves(
    plt: ModuleType, axes: Any, candidates: Sequence[Candidate], best: Candidate, rates: list[float]
) -> None:
    """The loss of every candidate over the epochs, by learning rate, the best one in front."""
    shades = plt.get_cmap("Blues")(np.linspace(0.3, 1, len(rates)))
    epochs = np.arange(1, len(best.loss) + 1)
    drawn = set()
    for c in candidates:
        label = None if c.lr in drawn else f"{c.lr:g}"
        drawn.add(c.lr)
        color, marker = shades[rates.index(c.lr)], pictures.marker(c.loss)
        axes.plot(epochs, c.loss, color=color, linewidth=1.0, label=label, marker=marker)
    label = f"the best: {best.lr:g}\nwith λ = {best.l2:g}"
    marker = pictures.marker(best.loss)
    axes.plot(epochs, best.loss, color=pictures.ORANGE, linewidth=2.5, label=label, marker=marker)
    axes.set(title="Validation loss of all candidates", ylabel="cross-entropy, nats", yscale="log")
    axes.margins(x=0.02)
    pictures.whole_epochs(plt, axes)
    pictures.plain_logarithms(plt, axes.yaxis)
    legend = axes.legend(title="learning rate", loc="center left", bbox_to_anchor=(1, 0.5))
    for line in legend.get_lines():
        line.set_linewidth(2.5)
