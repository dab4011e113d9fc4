"""What PyTorch has no module for: layers of fastnn as modules, which ``to_torch`` makes. Imports torch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Residual(nn.Module):  # type: ignore[misc]
    """y = x + f(x), for modules f one after the other."""

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        """Return x + f(x)."""
        return x + self.layers(x)


class Standardize(nn.Module):  # type: ignore[misc]
    """y = (x - mean) / scale, both of them buffers."""

    mean: Any
    scale: Any

    def __init__(self, mean: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Any) -> Any:
        """Return (x - mean) / scale."""
        return (x - self.mean) / self.scale


class Embedding(nn.Module):  # type: ignore[misc]
    """Columns of x (m, n) that hold codes become rows of tables, behind the other columns.

    ``columns`` are the categories and the width of each column of codes.
    """

    def __init__(self, columns: Mapping[int, tuple[int, int]]) -> None:
        super().__init__()
        self.columns = dict(columns)
        self.tables = nn.ModuleList(nn.Embedding(*shape) for shape in self.columns.values())

    def forward(self, x: Any) -> Any:
        """Return the other columns and the rows of the codes (m, n_out)."""
        others = [column for column in range(x.shape[1]) if column not in self.columns]
        rows = [table(x[:, column].long()) for column, table in zip(self.columns, self.tables, strict=True)]
        return torch.cat([x[:, others], *rows], dim=1)
