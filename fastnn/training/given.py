"""How the data of a fit are taken: X, y and the weights as they are given, of which rows may be all that counts."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..nn import losses
from ..nn.stack import Stack
from ..validation import Array, DType, any_array, features, own_view, sample_weights
from .class_weights import weighted
from .evaluation import Validation
from .labels import NAMES, coded, coded_as
from .rows import ALL, Rows, check_finite, is_finite, selection, spread

# ``once(check, value, *more)`` returns ``check(value, *more)`` of a view of its own where ``value`` is an array; where
# many networks are prepared it may remember what it returned for the same objects.
Once = Callable[..., Any]


def always(check: Callable[..., Any], value: Any, *more: Any) -> Any:
    """Check whatever comes, each time."""
    return check(own_view(value), *more)


class Given(NamedTuple):
    """How data are taken that are given for a loss and a dtype, of which rows may be all that counts."""

    once: Once
    loss: Any
    dtype: DType

    def features(self, x: Any, n_in: int | None, rows: Rows, name: str, check: bool) -> tuple[Array, Array | None]:
        """Return X, and the places of the rows that count, None for all."""
        if rows.value is None:
            return self.once(features, x, n_in, self.dtype, name, check), None
        x = self.once(features, x, n_in, self.dtype, name, False)
        places = self.once(selection, rows.value, rows.name, len(x))
        if check and not self.once(is_finite, x, self.dtype):
            check_finite(x, name, self.dtype, places)
        return x, places

    def coded(self, y: Any, classes: Array | None, places: Array | None) -> tuple[Any, Array | None]:
        """Return labels that are no numbers as codes, and their classes, those from before if y holds such labels."""
        if not losses.takes_names(self.loss):
            return y, None
        try:
            return self.once(_coded, y, classes)  # type: ignore[no-any-return]
        except (TypeError, ValueError):
            array = any_array("y", own_view(y))
            if places is None or array.ndim != 1 or places.max() >= len(array):
                raise
            codes, classes = _coded(array[places], classes, "y[rows]")
            return spread(codes, places, len(array)), classes

    def targets(self, y: Any, m: int, k: int, places: Array | None, name: str, check: bool) -> Array:
        """Return y of m samples for k outputs in the form that the loss takes."""
        settings = self.loss, k, self.dtype, name, check
        try:
            targets: Array = self.once(_targets, y, m, *settings)
        except ValueError:
            array = any_array(name, y)
            if places is None or array.ndim == 0 or len(array) != m:
                raise
            return spread(_targets(array[places], len(places), *settings), places, m)
        return targets

    def pair(self, stack: Stack, data: Any, n_in: int, k: int, classes: Array | None) -> Validation:
        """Return validation data that are given as (X, y)."""
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                "validation_data is not a pair, expected (X, y), or a source of chunks, such as [(X, y, sample_weight)]"
            )
        x, _ = self.features(data[0], n_in, ALL, "X of validation_data", True)
        stack.check_codes(x, "X of validation_data")
        name = "y of validation_data"
        y = self.once(coded_as, data[1], classes, name)
        return Validation(x, self.targets(y, len(x), k, None, name, True), None, name)

    def weights(
        self, sample_weight: Any, class_weight: Any, y: Array, k: int, places: Array | None, classes: Array | None
    ) -> Array | None:
        """Return the weights of all samples, those of classes included, or None."""
        weights: Array | None
        if places is None:
            weights = self.once(sample_weights, sample_weight, len(y), self.dtype)
            if class_weight is not None:
                weights = self.once(_weighted, class_weight, self.loss, y, k, sample_weight, self.dtype, classes)
            return weights
        n, m = len(y), len(places)
        if sample_weight is not None:
            if class_weight is None:
                with suppress(ValueError):  # which need not come of the rows that count
                    whole: Array = self.once(sample_weights, sample_weight, n, self.dtype)
                    sample_weights(whole[places], m, self.dtype)
                    return whole
            sample_weight = any_array("sample_weight", own_view(sample_weight))
            if sample_weight.ndim != 1 or len(sample_weight) != n:
                sample_weights(sample_weight, n, self.dtype)
            sample_weight = sample_weight[places]
        weights = sample_weights(sample_weight, m, self.dtype)
        if class_weight is not None:
            weights = weighted(class_weight, self.loss, y[places], k, sample_weight, self.dtype, classes)
        return None if weights is None else spread(weights, places, n)


def _targets(y: Any, m: int, loss: Any, k: int, dtype: DType, name: str, check: bool) -> Array:
    return losses.targets(loss, y, m, k, dtype, name, check)


def _coded(y: Any, classes: Array | None, name: str = "y") -> tuple[Any, Array | None]:
    """Return labels that are no numbers as codes, and their classes; numbers as they are, whatever was before."""
    array = y if type(y) is np.ndarray else any_array(name, y)
    return coded(y, classes if array.dtype.kind in NAMES else None, name)


def _weighted(
    class_weight: Any, loss: Any, y: Array, k: int, sample_weight: Any, dtype: DType, classes: Array | None
) -> Array | None:
    return weighted(class_weight, loss, y, k, own_view(sample_weight), dtype, classes)
