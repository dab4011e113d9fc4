"""Estimators of both libraries with methods of a user's, side by side."""

from sklearn import neural_network as theirs

import fastnn.sklearn as ours
from tests.sklearn.pairs import Pair

SMALL = {"hidden_layer_sizes": (12, 7), "random_state": 3}


def subclasses(name, methods):
    """Both estimators extended by the methods, each of which is made for the class it extends."""
    both = []
    for module in (ours, theirs):
        base = getattr(module, name)
        both.append(type("Mine", (base,), {method: make(base) for method, make in methods.items()}))
    return both


def instances(classes, **settings):
    return Pair(*(cls(**SMALL | settings) for cls in classes))
