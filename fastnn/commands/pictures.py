"""The one style of all pictures: read at 800 pixels, in colours that the colour-blind tell apart."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Of M. Okabe and K. Ito, Color universal design, 2008.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
COLORS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE), "os^D"
WIDTH = 8.0
# With fewer epochs than this, each has a marker; of one alone there would be no line to see.
_FEW = 10


def import_pyplot() -> ModuleType:
    """matplotlib.pyplot, drawing into files in the style of all pictures."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install fastnn[plots]") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "savefig.dpi": 150,
        }
    )
    return plt


def marker(values: ArrayLike) -> str | None:
    """The marker of a curve: none where it has enough finite points to be seen as a line."""
    return "o" if np.isfinite(values).sum() < _FEW else None


def from_zero(axes: Any) -> None:
    """Let the vertical axis begin at 0, and end a little above the largest value."""
    axes.set_ylim(0, 1.05 * axes.dataLim.y1)


def whole_epochs(plt: ModuleType, axes: Any) -> None:
    """Label the horizontal axis as epochs, none of them a fraction."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True, min_n_ticks=1))


def plain_logarithms(plt: ModuleType, axis: Any) -> None:
    """Label a logarithmic axis by numbers such as 0.2 rather than by powers."""
    low, high = sorted(axis.get_view_interval())
    subs = (1, 2, 5) if high < 30 * low else (1, 3) if high < 3000 * low else (1,)
    axis.set_major_locator(plt.LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(plt.NullFormatter())
