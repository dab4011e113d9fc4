"""What stands behind the last layer of classifiers: nodes that make probabilities and labels of scores."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .onnx_graph import Known, Node

SOFT = ("Softmax", "LogSoftmax")
# What makes labels of scores, and turns both into what their receivers take.
BEHIND = (*SOFT, "ArgMax", "ArrayFeatureExtractor", "Cast", "Gather", "Identity", "Reshape", "Squeeze", "ZipMap")


class Tail(NamedTuple):
    """What the scores of a classifier are meant for, as the header of a model says it, and where they go.

    ``values`` are what comes out of nodes that are understood, ``made`` what comes out of all of these.
    """

    meaning: dict[str, Any]
    values: tuple[str, ...]
    made: tuple[str, ...] = ()


def is_soft(node: Node) -> bool:
    """Whether a node is a softmax over the columns, or its logarithm."""
    return node.kind in SOFT and node.attributes.get("axis", -1) in (-1, 1)


def softmax(known: Known, scores: str, k: int | None) -> Tail | None:
    """Return the end of a classifier by softmax, if the scores go into one."""
    if not any(map(is_soft, known.consumers(scores))):
        return None
    return Tail({"loss": "cross_entropy", "classes": _labels(known, k)}, (scores,))


def logistic(known: Known, scores: str, k: int | None) -> Tail | None:
    """Return the end of a classifier by the logistic function, as skl2onnx writes it, None if there is none.

    It makes two columns of one, 1 - p and p, or answers for each column by itself.
    """
    for node in known.consumers(scores):
        if node.kind != "Sigmoid":
            continue
        p = node.outputs[0]
        for takes in known.consumers(p):
            if takes.kind == "Binarizer" and takes.attributes.get("threshold") == 0.5:
                answers = takes.outputs[0]
                return Tail({"loss": "binary_cross_entropy"}, (p, answers), (p, answers))
            if k == 1 and takes.kind == "Concat" and takes.attributes["axis"] in (-1, 1):
                for less in _differences(known, p):
                    if takes.inputs == (less, p):
                        both = takes.outputs[0]
                        meaning = {"loss": "binary_cross_entropy", "flat": True, "classes": _labels(known, 2)}
                        return Tail(meaning, (both,), (p, less, both))
    return None


def _differences(known: Known, p: str) -> Iterator[str]:
    """What is 1 - p, and goes into one node alone."""
    for node in known.consumers(p):
        one = known.constant(node.inputs[0])
        is_one = one is not None and one.size == 1 and one.item() == 1
        if node.kind == "Sub" and is_one and len(known.consumers(node.outputs[0])) == 1:
            yield node.outputs[0]


def _labels(known: Known, k: int | None) -> list[Any] | None:
    """The labels of k classes, if there are others than their numbers."""
    for node in known.nodes:
        names = known.constant(node.inputs[0]) if node.kind == "ArrayFeatureExtractor" else None
        if names is not None and names.size == k:
            found = [name.decode() if isinstance(name, bytes) else name for name in names.ravel().tolist()]
            return None if found == [*range(len(found))] else found
    return None
