"""The docstrings of the estimators: one template, filled with scikit-learn's descriptions and fastnn's own."""

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

Extended = TypeVar("Extended")

_TEMPLATE = """{summary}

Every parameter, attribute and method of ``{theirs}`` is here too.
The parameters from ``{first}`` on are fastnn's own, and ``activation`` takes more.

Parameters
----------
{parameters}

Attributes
----------
{attributes}

Raises
------
sklearn.utils._param_validation.InvalidParameterError
    In ``fit``, if a parameter is not of its kind or out of its range.
ValueError
    In ``fit``, if parameters do not fit together.

See Also
--------
{theirs} : The class that this one extends; ``to_sklearn()`` returns a fitted one.
fastnn.Sequential : Networks of other layers and losses.
"""

_PARAMETERS = """
activation : str or sequence of str, default='relu'
    Activation function for the hidden layers, or one for each of them.

    - 'identity', returns f(x) = x

    - 'logistic', returns f(x) = 1 / (1 + exp(-x))

    - 'tanh', returns f(x) = tanh(x)

    - 'relu', returns f(x) = max(0, x)

    - 'leaky_relu', returns f(x) = max(0.01 x, x)

    - 'gelu', 'silu', 'mish', 'elu', 'selu', 'softplus' and 'hard_swish' are ``fastnn.GELU()``, ``fastnn.SiLU()`` and so
      on

class_weight : dict, 'balanced' or list of dicts, default=None
    The weight of each class, which multiplies that of its samples; a list for several labels a sample. It weighs in
    the share of them that early stopping sets aside too, but not in the validation set of the user.

label_smoothing : float in [0, 1), default=0
    The share of every target that is spread evenly over the classes in training, as in C. Szegedy et al., Rethinking
    the Inception architecture for computer vision, 2016, section 7.

stratify : bool, default=False
    Whether early stopping sets aside the same share of every class also when there are more than two.

dropout : float in [0, 1), or sequence with one for each hidden layer, default=0
    The share of units that are dropped in training, as in N. Srivastava et al., JMLR 15, 2014; those left are scaled.

dtype : {'float32', 'float64'}, default=None
    The precision to compute in; None for that of X, as in scikit-learn.

callbacks : sequence of functions, default=None
    Called as ``callback(estimator, epoch, values)`` after every epoch, the first of which is 1; ``values`` has "loss"
    and, where they are known, "validation_loss" and "validation_score". One that returns True stops training.

n_threads : int, default=None
    The most threads that this estimator uses; None for what ``fastnn.set_num_threads`` says.

optimizer : {'adamw'}, default=None
    With solver 'adam', AdamW: ``coefs_`` decay by learning_rate_init * weight_decay of themselves before each update,
    as in I. Loshchilov and F. Hutter, ICLR 2019, and the update is that of ``fastnn.AdamW``. The penalty ``alpha`` is
    another thing, and stays.

weight_decay : float, default=0.01
    The decay of ``optimizer='adamw'``, >= 0; without that it has no effect.

clip_norm : float, default=None
    The greatest norm of the gradient of a batch, penalty included, > 0: a longer one is scaled to it, as the
    optimizers of fastnn do. None for no limit.

layer_norm : bool, default=False
    Whether ``fastnn.LayerNorm`` stands between the product of each hidden layer and its activation.

batch_norm : bool, default=False
    Whether ``fastnn.BatchNorm`` stands there.
"""

_ATTRIBUTES = """
norms_ : list of dict of str to ndarray
    With ``layer_norm`` or ``batch_norm`` what the normalisation of each hidden layer has: "weight" and "bias", and for
    batches "running_mean" and "running_variance".

validation_loss_curve_ : list of float
    The loss of the validation set after every epoch, without penalty and label smoothing, if ``fit`` got any.
"""


_TOGETHER = """{summary}

Estimators that train by SGD or Adam, alone or within a Pipeline or another estimator, train side by side in this
process, and share the samples of a split and the transformers fitted to them. Results are those of scikit-learn.
``n_jobs`` limits the threads of the kernels (None: ``fastnn.get_num_threads()``), or counts the workers of joblib's
Dask or Ray backend, each of which gets a group of fits. The times of fits that run together each count all of them,
and those without a ``random_state`` draw from NumPy's generator in turn. Ctrl-C ends all of them after their epoch.
Without such an estimator everything is left to scikit-learn.

{own}
Here is its own documentation.

{theirs}"""


_CHECKPOINT = """``checkpoint``, a parameter of fastnn's own, is the path of a folder that holds the scores of
each fit once it is made. The same search, run again, goes on with those that are missing, and so does one with more
candidates or splits; what has failed is tried again. A fit is found by the samples, its parameters, its split, the
scorers and the versions of fastnn, scikit-learn and NumPy. The last fit, of the best candidate to all samples, is made
anew. With a checkpoint other estimators are fitted in this process too, one after the other.
"""


def together(theirs: Any) -> Callable[[Extended], Extended]:
    """Return a decorator that puts the docstring of a class or function of scikit-learn's below that of our own."""

    def document(ours: Extended) -> Extended:
        ours.__doc__ = _above(ours, theirs, "")
        return ours

    return document


def searching(ours: Any, theirs: Any) -> str | None:
    """Return the docstring of a search that extends ``theirs``, or None where Python leaves docstrings out."""
    return _above(ours, theirs, _CHECKPOINT)


def _above(ours: Any, theirs: Any, own: str) -> str | None:
    if ours.__doc__ is None or theirs.__doc__ is None:
        return None
    return _TOGETHER.format(summary=inspect.cleandoc(ours.__doc__), own=own, theirs=inspect.cleandoc(theirs.__doc__))


def docstring(ours: Any, theirs: Any) -> str | None:
    """Return the docstring of an estimator that extends ``theirs``, or None where Python leaves docstrings out."""
    if ours.__doc__ is None or theirs.__doc__ is None:
        return None
    inherited, own = _sections(theirs.__doc__), _entries(_PARAMETERS)
    described = _entries(inherited["Parameters"]) | own
    names = list(inspect.signature(ours).parameters)
    attributes = _entries(inherited["Attributes"]) | _entries(_ATTRIBUTES)
    return _TEMPLATE.format(
        summary=ours.__doc__,
        theirs=f"sklearn.neural_network.{theirs.__name__}",
        first=next(name for name in names if name in own and name != "activation"),
        parameters="\n\n".join(described.get(name, name) for name in names),
        attributes="\n\n".join(attributes.values()),
    )


def _sections(text: str) -> dict[str, str]:
    """Return what stands under each heading of a docstring."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _entries(section: str) -> dict[str, str]:
    """Return the entries of a section by name: a line ``name : type``, and an indented description below it."""
    return {entry.partition(" :")[0]: entry.rstrip() for entry in re.split(r"\n(?=\S)", section.strip())}
