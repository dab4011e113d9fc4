"""The loss curve as a picture."""

from typing import Any

from ..libraries import library


def plot_loss_curve(mlp: Any, ax: Any) -> Any:
    """Draw the curves of a fitted perceptron, and return the Axes."""
    if not hasattr(mlp, "loss_curve_"):
        raise ValueError("solver 'lbfgs' keeps no loss curve: fit with solver 'adam' or 'sgd'")
    if ax is None:
        _, ax = library("matplotlib.pyplot", "plots", "plot_loss_curve").subplots()
    for curve, label in (("loss_curve_", "training, with penalty"), ("validation_loss_curve_", "validation")):
        if hasattr(mlp, curve):
            losses = getattr(mlp, curve)
            ax.plot(range(1, len(losses) + 1), losses, label=label)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend()
    return ax
