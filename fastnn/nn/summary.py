"""A table of the layers of a model, for :meth:`fastnn.Sequential.summary`."""

from ..tables import Table, TableText
from .chain import call_list
from .layers import BuiltIn, rate_of
from .stack import Stack


def summary(stack: Stack) -> TableText:
    """Return the layers, their outputs and their numbers of parameters, and which of them are frozen."""
    rows = []
    for layer, width in zip(stack.layers, stack.widths, strict=True):
        n_parameters = sum(p.size for p in call_list(layer, "parameters"))
        own = type(layer).__name__ if rate_of(layer) is not None else f"{type(layer).__name__}, frozen"
        name = repr(layer) if isinstance(layer, BuiltIn) else own
        rows.append((name, "?" if width is None else str(width), f"{n_parameters:,}"))
    parameters = [p for layer in stack.layers for p in call_list(layer, "parameters")]
    total, size = sum(p.size for p in parameters), sum(p.nbytes for p in parameters)
    leaves = zip(stack.leaves, stack.rates, strict=True)
    trained = sum(p.size for leaf, rate in leaves if rate is not None for p in call_list(leaf, "parameters"))
    share = "" if trained == total else f", {trained:,} of them trainable"
    note = f"{total:,} parameters{share}, {stack.dtype}, {size / 1024:,.1f} KiB"
    table = Table(("layer", "outputs", "parameters"), rows, note=note)
    return TableText(table.text(), table.html())
