"""scikit-learn's neural networks at compiled speed: the same classes, answers and errors, from one changed import.

``from fastnn.sklearn import MLPClassifier, MLPRegressor`` needs the extra: ``pip install 'fastnn[sklearn]'``.
"""

try:
    import sklearn as _sklearn
except ImportError as error:
    raise ImportError("fastnn.sklearn needs scikit-learn 1.6 or later: pip install 'fastnn[sklearn]'") from error

if tuple(int(part) for part in _sklearn.__version__.split(".")[:2]) < (1, 6):
    raise ImportError(
        f"fastnn.sklearn needs scikit-learn 1.6 or later, but {_sklearn.__version__} is installed: "
        "pip install -U 'fastnn[sklearn]'"
    )

from ._estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
