"""What both estimators replace of scikit-learn's: training and prediction run compiled, all else is inherited."""

import inspect
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from ..backend import active
from ..validation import FLOAT32, FLOAT64, UINT8, Array
from ._lbfgs import FullLoss
from ._network import Plan, Weights
from ._objective import weights_of_samples
from ._parameters import check_together
from ._picture import plot_loss_curve
from ._signatures import as_installed
from ._threads import limited_threads
from ._training import fit_stochastic
from ._validation import check_numbers, given, of_user

# scikit-learn 1.6 knows no sample weights here, and passes them nowhere.
_WEIGHTED = "sample_weight" in inspect.signature(BaseMultilayerPerceptron._fit_stochastic).parameters
_TRANSIENT = ("_weights", "_moments", "_validation", "_validation_data")
# What a subclass of scikit-learn's class may override to train in its own way.
_COMPILED = ("_backprop", "_compute_loss_grad", "_forward_pass", "_forward_pass_fast")
_BLOCK_ELEMENTS = 1 << 20

Self = TypeVar("Self", bound="CompiledPerceptron")


class CompiledPerceptron:
    """The mixin before scikit-learn's class."""

    activation: Any
    _random_state: Any
    out_activation_: str
    _weight_of_score = (None,) if _WEIGHTED else ()
    _refuses_small_validation = _WEIGHTED
    _validation = None
    _validation_data = None
    # Requested by name, the pair would reach the last step of a Pipeline without what transform_input does to X_val.
    __metadata_request__fit: ClassVar = {"validation_data": False}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass whose own forward or backward pass the compiled kernels would pass over in silence."""
        super().__init_subclass__(**kwargs)
        for name in _COMPILED:
            if name in vars(cls):
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
        with limited_threads(self.n_threads):  # type: ignore[attr-defined]
            return super()._fit(X, y, *args, incremental=incremental, **kwargs)  # type: ignore[misc]

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = super()._validate_input(X, y, incremental, reset)  # type: ignore[misc]
        if not is_classifier(self):
            check_numbers("y", y)
        if self._validation_data is not None:
            self._validation = of_user(self, self._validation_data, n_outputs=y.shape[1] if y.ndim == 2 else 1)
        return self._in_dtype(X), y

    def _in_dtype(self, X: Any) -> Any:
        """Return X in the dtype that the user asked for."""
        if self.dtype is None or X.dtype == self.dtype:  # type: ignore[attr-defined]
            return X
        with np.errstate(over="ignore", invalid="ignore"):
            X = X.astype(self.dtype)  # type: ignore[attr-defined]
            assert_all_finite(X, input_name="X")
        return X

    def _initialize(self, y: Array, layer_units: list[int], dtype: Any) -> None:
        vars(self).pop("validation_loss_curve_", None)
        super()._initialize(y, layer_units, dtype)  # type: ignore[misc]
        self._lay_out()

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        # One name counts for all layers, the last and a first one without hidden layers too; of several, the last does.
        names = [self.activation] if isinstance(self.activation, str) else list(self.activation) or ["identity"]
        name = names[min(len(self.coefs_), len(names) - 1)]
        one = SimpleNamespace(activation=name, _random_state=self._random_state)
        drawn: tuple[Array, Array] = BaseMultilayerPerceptron._init_coef(one, fan_in, fan_out, dtype)
        return drawn

    def _fit_stochastic(self, X: Any, y: Array, *rest: Any) -> None:
        weights = self._own_weights()
        v = weights_of_samples(self, y, rest[0] if _WEIGHTED else None, weights.dtype)
        if self._validation is not None and not hasattr(self, "validation_loss_curve_"):
            self.validation_loss_curve_: list[float] = []
        fit_stochastic(self, X, y, v, incremental=rest[-1])

    def _fit_lbfgs(self, X: Any, y: Array, *rest: Any) -> None:
        v = weights_of_samples(self, y, rest[0] if _WEIGHTED else None, FLOAT64)
        # scikit-learn hands the samples on to the loss, and does nothing else with them.
        super()._fit_lbfgs(FullLoss(self, X, y, v), y, *rest)  # type: ignore[misc]

    def _loss_grad_lbfgs(self, packed_coef_inter: Array, loss: FullLoss, *rest: Any) -> tuple[Any, Array]:
        return loss(packed_coef_inter)

    def _unpack(self, packed_parameters: Array) -> None:
        if self.dtype is not None:  # type: ignore[attr-defined]
            packed_parameters = packed_parameters.astype(self.dtype)  # type: ignore[attr-defined]
        super()._unpack(packed_parameters)  # type: ignore[misc]
        self._lay_out()

    def _lay_out(self) -> None:
        """Move the coefficients and the intercepts into one flat buffer."""
        self._weights = Weights(self)
        self.coefs_, self.intercepts_ = list(self._weights.coefs), list(self._weights.intercepts)

    def _flat_weights(self) -> Weights | None:
        """Return the flat weights if the estimator still uses them, None where the user has put other arrays."""
        weights: Weights | None = vars(self).get("_weights")
        return weights if weights is not None and weights.belong_to(self) else None

    def _own_weights(self) -> Weights:
        """Return the flat weights that training changes, made anew where there are none to use."""
        if self._flat_weights() is None:
            self._lay_out()
        return self._weights

    def _outputs(self, weights: Weights, X: Any, scores: bool = False) -> tuple[Array, bool]:
        """Return the outputs (n, k) for X (n, d), and whether X is finite; with ``scores`` those before a softmax."""
        kind = FLOAT32 if np.result_type(X.dtype, weights.dtype) == FLOAT32 else FLOAT64
        dtype = kind if self.dtype is None else weights.dtype  # type: ignore[attr-defined]
        plan, params = weights.plan, weights.params(dtype)
        out = np.empty((X.shape[0], plan.units[-1]), dtype)
        softmax = self.out_activation_ == "softmax" and not scores
        with limited_threads(self.n_threads):  # type: ignore[attr-defined]
            if issparse(X):
                finite = self._of_sparse(plan, params, X.tocsr(), out, softmax)
            else:
                x = X if X.dtype in (FLOAT32, FLOAT64, UINT8) else X.astype(dtype)
                finite = active().forward(plan.outputs, params, x, out, softmax)
        if self.out_activation_ == "exp":
            with np.errstate(over="ignore"):
                np.exp(out, out=out)
        return out, finite

    def _of_sparse(self, plan: Plan, params: Array, X: Any, out: Array, softmax: bool) -> bool:
        """Write the outputs for the rows of a CSR matrix, whose first product scipy forms from what it stores."""
        coefs, intercepts = plan.views(params)
        finite, step = True, max(32, _BLOCK_ELEMENTS // plan.units[1])
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            first = X[part] @ coefs[0]
            first += intercepts[0]
            finite &= active().forward(plan.after_first_product, params, first, out[part], softmax)
        return finite

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        outputs, finite = self._outputs(self._flat_weights() or Weights(self), X)
        if not finite:
            self._in_dtype(X)  # which says that X is beyond the dtype
        return outputs

    def _checked_outputs(self, X: Any, scores: bool = False) -> Array | None:
        """Return the outputs for what passes scikit-learn's validation as it is, or None if it may not pass.

        With ``scores`` they are those before a softmax, whose largest is the same.
        """
        if type(X) is not np.ndarray or X.ndim != 2 or len(X) == 0 or "feature_names_in_" in vars(self):
            return None
        weights = self._flat_weights() if hasattr(self, "coefs_") else None
        if weights is None or X.dtype != weights.dtype or X.shape[1] != weights.plan.units[0]:
            return None
        if not X.flags.c_contiguous:
            return None
        out, finite = self._outputs(weights, X, scores)
        return out if finite else None

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "coefs_" in state:
            self._lay_out()
            if state.get("_best_coefs") is state["coefs_"]:
                self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_
