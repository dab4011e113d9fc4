"""Labels that are strings or other objects: the classes that they name, in order, and their places among these."""

from typing import Any

import numpy as np

from ..validation import INT64, Array, any_array, own_view

NAMES = "SUTO"  # the kinds of arrays of strings and of objects
_MOST_SHOWN = 10


def coded(y: Any, classes: Array | None, name: str = "y") -> tuple[Any, Array | None]:
    """Return labels (m,) that are strings or objects as places (m,) int64 among classes, and these; others as they are.

    Parameters
    ----------
    y : array_like
    classes : ndarray or None
        Those of before, in which every label must be; None for those in y, sorted.
    name : str
        What messages call y.

    Raises
    ------
    ValueError
        If a label is missing, or none of the classes.
    TypeError
        If labels have no order, or cannot be told apart by their hashes.
    """
    array = y if type(y) is np.ndarray and y.dtype.kind not in NAMES else any_array(name, y)
    if array.ndim != 1 or (array.dtype.kind not in NAMES and classes is None):
        return y, None
    labels = array.tolist()
    known = {} if classes is None else {label: i for i, label in enumerate(classes.tolist())}
    try:
        if classes is None:
            places = [known.setdefault(label, len(known)) for label in labels]
        else:
            places = [known.get(label, -1) for label in labels]
    except TypeError:
        row, label = next((i, label) for i, label in enumerate(labels) if not _has_hash(label))
        raise TypeError(f"{name} holds {label!r} in row {row}, expected labels that have a hash, as strings") from None
    if classes is not None:
        if -1 in places:
            row = places.index(-1)
            _check_there(labels[row], row, name)
            raise ValueError(f"{name} holds label {labels[row]!r} in row {row}, but the classes are {listed(classes)}")
        return np.array(places, INT64), classes
    for label, place in known.items():
        _check_there(label, places.index(place), name)
    in_order = _sorted([*known], name)
    ranks = np.empty(len(known), INT64)
    ranks[[known[label] for label in in_order]] = np.arange(len(known))
    return ranks[np.array(places, INT64)], as_classes(in_order)


def coded_as(y: Any, classes: Array | None, name: str = "y") -> Any:
    """Return y by the classes that there are; without any, and where y holds targets (m, k), as it is."""
    return y if classes is None else coded(own_view(y), classes, name)[0]


def check_number(classes: Array | None, k: int, told_apart: int, name: str = "y") -> None:
    """Raise ValueError if there are not as many classes as k outputs tell apart."""
    if classes is not None and len(classes) != told_apart:
        outputs = f"{k} output{'s' * (k != 1)}"
        if told_apart != k:
            expected = f"{told_apart} of them" if told_apart else f"0 or 1 for each of the outputs ({k} columns)"
            raise ValueError(
                f"{name} holds {len(classes)} different labels, but under this loss the model has {outputs}: expected "
                f"{expected}"
            )
        raise ValueError(
            f"{name} holds {len(classes)} different labels, but the model has {outputs}: expected one for each, or "
            f"integer labels 0..{k - 1}, of which not all need come"
        )


def as_classes(labels: list[Any]) -> Array:
    """Return labels as an array that nobody can write to: of strings if all are, else of objects."""
    labels = [label.item() if isinstance(label, np.str_ | np.number | np.bool_) else label for label in labels]
    if all(type(label) is str for label in labels):
        array = np.array(labels, dtype=str)
        if array.tolist() == labels:  # or some end in what such an array does not keep
            array.flags.writeable = False
            return array
    array = np.empty(len(labels), object)
    for i, label in enumerate(labels):
        array[i] = label
    array.flags.writeable = False
    return array


def are_same(classes: Array | None, others: Array | None) -> bool:
    """Return whether two models have the same classes, or none."""
    if classes is None or others is None:
        return classes is others
    return bool(classes.tolist() == others.tolist())


def as_fitted(found: Array, classes: Array | None, is_flat: bool) -> Array:
    """Return predictions as the targets were: codes (m,) as the labels that they stand for, one output as (m,)."""
    if classes is not None and found.dtype.kind == "i" and (found.ndim == 1 or found.shape[1] == 1):
        return classes[found.ravel()]
    if found.ndim == 1:
        return found
    return found[:, 0] if is_flat and found.shape[1] == 1 else found


def listed(classes: Array) -> str:
    """Return classes in words, of many only the first ones."""
    labels = classes.tolist()
    more = f" and {len(labels) - _MOST_SHOWN} more" if len(labels) > _MOST_SHOWN else ""
    return ", ".join(map(repr, labels[:_MOST_SHOWN])) + more


def _sorted(labels: list[Any], name: str) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError as error:
        raise TypeError(f"{name} holds labels that have no order ({error}): use strings") from None


def _check_there(label: Any, row: int, name: str) -> None:
    """Raise ValueError if a label says that it is missing: None, or what is not equal to itself, as NaN."""
    try:
        is_missing = label is None or bool(label != label)
    except TypeError:  # pandas.NA is neither
        is_missing = True
    if is_missing:
        raise ValueError(f"{name} holds {label!r} in row {row}, where a label is missing: leave the sample out")


def _has_hash(label: Any) -> bool:
    try:
        hash(label)
    except TypeError:
        return False
    return True
