"""What both estimators replace of scikit-learn's: training and prediction run compiled, all else is inherited."""

import copy
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import ClassifierMixin
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from ..backend import active
from ..training.gathering import current
from ..validation import FLOAT32, FLOAT64, UINT8, Array
from ._callbacks import fit_task
from ._fitted import check_going_on, check_width, fitted_arrays
from ._lbfgs import FullLoss
from ._network import Layout, Weights, new_norms
from ._objective import weights_of_samples
from ._parameters import check_together, norm_of
from ._picture import plot_loss_curve
from ._signatures import as_installed
from ._theirs import WEIGHTED, check_their_code, unknown_hidden, unknown_outputs, unknown_training
from ._threads import limited_threads
from ._training import fit_stochastic
from ._validation import Validation, check_numbers, given, of_user

_TRANSIENT = ("_fit_task", "_weights", "_moments", "_validation", "_validation_data", "_held_out")
# What a subclass of scikit-learn's class may override to train in its own way.
_COMPILED = ("_backprop", "_compute_loss_grad", "_forward_pass", "_forward_pass_fast")
_BLOCK_ELEMENTS = 1 << 20
# What scikit-learn learns of samples as it checks them.
_LEARNED = ("n_features_in_", "feature_names_in_", "classes_", "_label_binarizer")

Self = TypeVar("Self", bound="CompiledPerceptron")


class CompiledPerceptron:
    """The mixin before scikit-learn's class."""

    activation: Any
    coefs_: Any
    intercepts_: Any
    out_activation_: str
    _random_state: Any
    warm_start: Any
    _refuses_small_validation = WEIGHTED
    _validation: Validation | None = None
    _validation_data: Any = None
    _held_out: Validation | None = None
    _makes_own_predictions = False
    dropout: Any
    dtype: Any
    callbacks: Any
    n_threads: Any
    optimizer: Any
    weight_decay: Any
    clip_norm: Any
    layer_norm: Any
    batch_norm: Any
    # Requested by name, the pair would reach the last step of a Pipeline without what transform_input does to X_val.
    __metadata_request__fit: ClassVar = {"validation_data": False}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass whose own forward or backward pass the compiled kernels would pass over in silence."""
        super().__init_subclass__(**kwargs)
        cls._makes_own_predictions = not _is_known(cls, "_predict")
        for name in _COMPILED:
            if not _is_known(cls, name):
                raise TypeError(
                    f"{cls.__name__} overrides {name}, which compiled kernels replace: extend scikit-learn's own class"
                )

    @as_installed(BaseMultilayerPerceptron.fit)
    def fit(
        self: Self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation_data: tuple[Any, Any] | None = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Fit the model to data X and targets y.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            Samples; those of a sparse matrix become dense a batch at a time.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            Class labels, or values.
        sample_weight : array-like (n_samples,), optional
            From scikit-learn 1.7 on.
        validation_data : pair (X, y), optional
            Samples whose loss, without penalty, is kept after each epoch in ``validation_loss_curve_``. With
            ``early_stopping=True`` they are the validation set, and all of X is trained on.
        X_val, y_val : like X and y, optional
            The same in two parts. A Pipeline hands ``validation_data`` on as it is; with metadata routing, ``X_val``
            is what its ``transform_input=["X_val"]`` transforms as it does X.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError
            If ``validation_data`` is no pair, or a target or a callback is of the wrong kind.
        ValueError
            If data or parameters are not as described, or do not fit together.
        """
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._validation_data = given(validation_data, X_val, y_val)
        try:
            return super().fit(X, y, **weights)  # type: ignore[misc, no-any-return]
        finally:
            for name in ("_validation", "_validation_data"):
                vars(self).pop(name, None)

    def plot_loss_curve(self, ax: Any = None) -> Any:
        """Draw the loss after each epoch, and that of ``validation_data`` if there was any.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is missing, which the extra ``fastnn[plots]`` installs.
        ValueError
            If the solver was 'lbfgs', which keeps no curve.
        """
        check_is_fitted(self)
        return plot_loss_curve(self, ax)

    def _fit(self, X: Any, y: Any, *args: Any, incremental: bool = False, **kwargs: Any) -> Any:
        check_together(self, incremental, self._validation_data)
        left = unknown_hidden(self)
        if left is not None:
            check_their_code(self, left, training=True)
        weights = kwargs.get("sample_weight", args[0] if WEIGHTED and args else None)
        with limited_threads(self.n_threads), fit_task(self, X, y, weights, incremental):
            return super()._fit(X, y, *args, incremental=incremental, **kwargs)  # type: ignore[misc]

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        gathering = current()
        if gathering is None or not reset or incremental or self.warm_start or self._validation_data is not None:
            return self._validated(X, y, incremental, reset)
        # Candidates of a search get the same samples, which pass a check again as they did before.
        memory = gathering.memory
        is_ours = type(self).__module__.startswith("fastnn.")
        if not (is_ours and memory.holds(X) and memory.holds(y) and y.ndim == 1):
            return self._validated(X, y, incremental, reset)

        def make() -> tuple[Any, ...]:
            x, targets = self._validated(X, y, incremental, reset)
            return (
                targets,
                None if x is X else x,
                {name: getattr(self, name) for name in _LEARNED if name in vars(self)},
            )

        what = "validated", type(self), str(self.dtype), tuple(sorted(get_config().items()))
        (targets, x, learned), is_known = memory.get(what, (X, y), make)
        if is_known:
            vars(self).update(copy.deepcopy(learned))
        return X if x is None else x, targets

    def _validated(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = super()._validate_input(X, y, incremental, reset)  # type: ignore[misc]
        if not isinstance(self, ClassifierMixin):
            check_numbers("y", y)
        n_outputs = y.shape[1] if y.ndim == 2 else 1
        if not reset:
            weights = self._flat_weights()
            coefs = fitted_arrays(self)[0] if weights is None else weights.coefs
            check_going_on(self, coefs, X.shape[1], n_outputs)
        if self._validation_data is not None:
            self._validation = of_user(self, self._validation_data, n_outputs=n_outputs)
        return self._in_dtype(X), y

    def _in_dtype(self, X: Any) -> Any:
        """Return X in the dtype that the user asked for."""
        if self.dtype is None or X.dtype == self.dtype:
            return X
        with np.errstate(over="ignore", invalid="ignore"):
            X = X.astype(self.dtype)
            assert_all_finite(X, input_name="X")
        return X

    def _initialize(self, y: Array, layer_units: list[int], dtype: Any) -> None:
        for name in ("validation_loss_curve_", "norms_", "_best_norms"):
            vars(self).pop(name, None)
        super()._initialize(y, layer_units, dtype)  # type: ignore[misc]
        if norm_of(self):
            self.norms_ = new_norms(norm_of(self), layer_units[1:-1], dtype)
            self._best_norms = copy.deepcopy(self.norms_)
        self._settle()

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        # One name counts for all layers, the last and a first one without hidden layers too; of several, the last does.
        names = [self.activation] if isinstance(self.activation, str) else list(self.activation) or ["identity"]
        name = names[min(len(self.coefs_), len(names) - 1)]
        one = SimpleNamespace(activation=name, _random_state=self._random_state)
        drawn: tuple[Array, Array] = BaseMultilayerPerceptron._init_coef(one, fan_in, fan_out, dtype)
        return drawn

    def _fit_stochastic(self, X: Any, y: Array, *rest: Any) -> None:
        v = weights_of_samples(self, y, rest[0] if WEIGHTED else None, X.dtype)
        if self._validation is not None and not hasattr(self, "validation_loss_curve_"):
            self.validation_loss_curve_: list[float] = []
        fit_stochastic(self, X, y, v, incremental=rest[-1])

    def _fit_lbfgs(self, X: Any, y: Array, *rest: Any) -> None:
        v = weights_of_samples(self, y, rest[0] if WEIGHTED else None, FLOAT64)
        left = unknown_training(self, y)
        if type(self)._loss_grad_lbfgs is not CompiledPerceptron._loss_grad_lbfgs:
            left = "_loss_grad_lbfgs, which is overridden,"
        if left is None:
            # scikit-learn hands the samples on to the loss, and does nothing else with them.
            X = FullLoss(self, X, y, v)
        else:
            check_their_code(self, left, training=True)
        super()._fit_lbfgs(X, y, *([v] if WEIGHTED else []), *rest[WEIGHTED:])  # type: ignore[misc]
        if self.dtype is not None:
            self.coefs_ = [coef.astype(self.dtype) for coef in self.coefs_]
            self.intercepts_ = [intercept.astype(self.dtype) for intercept in self.intercepts_]
        self._settle()

    def _loss_grad_lbfgs(self, packed_coef_inter: Array, X: Any, *rest: Any) -> tuple[Any, Array]:
        if isinstance(X, FullLoss):
            return X(packed_coef_inter)
        check_their_code(self, "_loss_grad_lbfgs", training=True)
        return super()._loss_grad_lbfgs(packed_coef_inter, X, *rest)  # type: ignore[misc, no-any-return]

    def _adopt(self, weights: Weights) -> None:
        """Use these views of a flat buffer as coefficients and intercepts."""
        self._weights = weights
        self.coefs_, self.intercepts_ = list(weights.coefs), list(weights.intercepts)
        if weights.layout.norm:
            self.norms_ = [dict(norm) for norm in weights.norms]

    def _flat_weights(self) -> Weights | None:
        """Return the flat weights if the estimator still uses them, None where the user has put other arrays."""
        weights: Weights | None = vars(self).get("_weights")
        return weights if weights is not None and weights.belong_to(self) else None

    def _own_weights(self) -> Weights:
        """Return the flat weights that training changes, made anew where there are none to use."""
        if self._flat_weights() is None:
            self._adopt(Weights(self))
        return self._weights

    def _settle(self) -> None:
        """Have flat weights from now on, if the kernels know the network."""
        if self._flat_weights() is None and unknown_outputs(self) is None:
            self._adopt(Weights(self))

    def _outputs(self, weights: Weights, X: Any, scores: bool = False) -> tuple[Array, bool]:
        """Return the outputs (n, k) for X (n, d), and whether X is finite; with ``scores`` those before a softmax."""
        layout, dtype = weights.layout, weights.dtype
        if X.dtype is not dtype and self.dtype is None:
            dtype = FLOAT32 if np.result_type(X.dtype, dtype) == FLOAT32 else FLOAT64
        params, out = weights.params(dtype), np.empty((X.shape[0], layout.units[-1]), dtype)
        softmax = self.out_activation_ == "softmax" and not scores
        with limited_threads(self.n_threads):
            if type(X) is not np.ndarray:
                finite = self._of_sparse(layout, params, X.tocsr(), out, softmax)
            else:
                x = X if X.dtype is dtype or X.dtype in (FLOAT32, FLOAT64, UINT8) else X.astype(dtype)
                finite = active().forward(layout.outputs, params, x, out, softmax)
        if self.out_activation_ == "exp":
            with np.errstate(over="ignore"):
                np.exp(out, out=out)
        return out, finite

    def _of_sparse(self, layout: Layout, params: Array, X: Any, out: Array, softmax: bool) -> bool:
        """Write the outputs for the rows of a CSR matrix, whose first product scipy forms from what it stores."""
        coefs, intercepts, _ = layout.views(params)
        finite, step = True, max(32, _BLOCK_ELEMENTS // layout.units[1])
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            first = X[part] @ coefs[0]
            first += intercepts[0]
            finite &= active().forward(layout.after_first_product, params, first, out[part], softmax)
        return finite

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        elif self._validation is not None and X is self._validation.x and self._validation.outputs is not None:
            return self._validation.outputs
        weights = self._flat_weights()
        if weights is None:
            left = unknown_outputs(self)
            if left is not None:
                check_their_code(self, left, training=False)
                X = self._in_dtype(X)
                outputs: Array = super()._forward_pass_fast(X, check_input=False)  # type: ignore[misc]
                return outputs
            weights = Weights(self)
        if not issparse(X):
            X = np.asarray(X).view()  # whose shape nobody else sets
        check_width(X.shape[1], weights.coefs)
        outputs, finite = self._outputs(weights, X)
        if not finite:
            self._in_dtype(X)  # which says that X is beyond the dtype
        return outputs

    def _checked_outputs(self, X: Any, scores: bool = False) -> Array | None:
        """Return the outputs for what passes scikit-learn's validation as it is, or None if it may not pass.

        With ``scores`` they are those before a softmax, whose largest is the same.
        """
        if type(X) is not np.ndarray or self._makes_own_predictions or "feature_names_in_" in vars(self):
            return None
        X = X.view()  # whose shape nobody else sets
        if X.ndim != 2 or len(X) == 0 or not X.flags.c_contiguous:
            return None
        weights = self._flat_weights() if hasattr(self, "coefs_") else None
        if weights is None or X.dtype != weights.dtype or X.shape[1] != weights.layout.units[0]:
            return None
        out, finite = self._outputs(weights, X, scores)
        return out if finite else None

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if not {"coefs_", "intercepts_", "n_layers_"} <= state.keys() or unknown_outputs(self) is not None:
            return
        try:
            weights = Weights(self)
        except ValueError:
            return  # whoever uses them will hear of it
        if weights.exact:  # half precision stays what it is
            self._adopt(weights)
        if state.get("_best_coefs") is state["coefs_"]:
            self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_
            if norm_of(self):
                self._best_norms = self.norms_


def _is_known(cls: type, name: str) -> bool:
    """Whether it is fastnn or scikit-learn that a class has a method from."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    return owner.__module__.partition(".")[0] in ("fastnn", "sklearn")
