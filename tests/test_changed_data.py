"""Arrays that a callback changes while the model trains on them: another shape moves nothing, other values are told."""

import copy
import warnings

import numpy as np
import pytest

import fastnn as fnn
from tests.faults import contents
from tests.training import assert_same_weights, labelled, network
from tests.user_code import UserReLU

pytestmark = pytest.mark.usefixtures("backend")

SHORT = {"epochs": 4, "batch_size": 16, "verbose": 0}
LABELS = [3, -1, 10**10, -(2**62), 2**63 - 1]
LOSSES = {"plain": fnn.CrossEntropy(), "smoothed": fnn.CrossEntropy(label_smoothing=0.1)}


@pytest.fixture
def data(rng):
    return labelled(rng)


def of_a_users():
    return fnn.Sequential(fnn.Linear(6, 5), UserReLU(), fnn.Linear(5, 3), dtype="float64")


def after(epochs, change):
    """A callback that makes a change at the end of an epoch."""
    return [lambda model, epoch, values: change() if epoch == epochs else None]


@pytest.mark.parametrize("make", [network, of_a_users])
class TestLabels:
    def refuse(self, make, data, change, epochs, message, **settings):
        """The model must be that of an undisturbed training of so many epochs."""
        X, y = data[0], data[1].copy()
        model, expected, optimizers = make(), make(), [fnn.Adam(lr=0.01), fnn.Adam(lr=0.01)]
        settings = {**SHORT, **settings}
        expected.fit(*data, optimizer=optimizers[1], **{**settings, "epochs": epochs})
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, optimizer=optimizers[0], callbacks=after(epochs, lambda: change(y)), **settings)
        assert contents(model, optimizers[0]) == contents(expected, optimizers[1])

    @pytest.mark.parametrize("label", LABELS)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_that_are_none(self, make, loss, label, data):
        message = rf"y holds label {label}, but the model has 3 outputs: labels must be 0..2 \(it was changed after"
        self.refuse(make, data, lambda y: y.__setitem__(37, label), 2, message, loss=LOSSES[loss])

    @pytest.mark.parametrize("batch_size", [1, 50, 1000])
    def test_all_of_them_at_once(self, make, batch_size, data):
        self.refuse(make, data, lambda y: y.fill(-3), 1, "y holds label -3, but the model", batch_size=batch_size)

    @pytest.mark.parametrize("class_weight", ["balanced", [1, 2, 3]])
    def test_with_weights_of_classes(self, make, class_weight, data):
        self.refuse(make, data, lambda y: y.fill(5), 3, "y holds label 5, but", class_weight=class_weight)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("label", LABELS)
    def test_of_validation_data(self, make, label, loss, data):
        y_val = data[1].copy()
        model, expected, optimizers = make(), make(), [fnn.SGD(), fnn.SGD()]
        settings = {**SHORT, "loss": LOSSES[loss]}
        expected.fit(*data, optimizer=optimizers[1], validation_data=data, **{**settings, "epochs": 2})
        with pytest.raises(ValueError, match=f"y of validation_data holds label {label}, but the model has 3 outputs"):
            model.fit(
                *data,
                optimizer=optimizers[0],
                validation_data=(data[0], y_val),
                callbacks=after(2, lambda: y_val.__setitem__(0, label)),
                **settings,
            )
        assert contents(model, optimizers[0]) == contents(expected, optimizers[1])

    def test_other_labels_are_trained_on(self, make, data):
        """Relabelling is a use of callbacks, not a mistake."""
        y, optimizers = data[1].copy(), (fnn.SGD(lr=0.1), fnn.SGD(lr=0.1))
        model, expected = make(), make()
        swapped = (y + 1) % 3
        model.fit(
            data[0],
            y,
            optimizer=optimizers[0],
            callbacks=after(2, lambda: np.copyto(y, swapped)),
            **SHORT,
        )
        expected.fit(*data, optimizer=optimizers[1], **{**SHORT, "epochs": 2})
        expected.fit(data[0], swapped, optimizer=optimizers[1], **{**SHORT, "epochs": 2})
        assert_same_weights(model, expected, rtol=0)


def test_labels_that_change_within_evaluate(data):
    class Relabelling(UserReLU):
        n_out = 3

        def forward(self, x, training=False):
            y[11] = -7
            return super().forward(x, training)

    y = data[1].copy()
    model = fnn.Sequential(fnn.Linear(6, 3), Relabelling())
    model.loss = "cross_entropy"
    with pytest.raises(ValueError, match=r"y holds label -7, but .* \(it was changed after the call began\)"):
        model.evaluate(data[0], y)


def test_labels_that_change_between_the_check_and_the_weights_of_classes(data, monkeypatch):
    """Another thread can write at any moment; the weights are made from one look at the labels."""
    checked = fnn.training.given.sample_weights

    def relabelling(*args):
        result = checked(*args)
        y[3] = 10**10
        return result

    X, y = data[0], data[1].copy()
    model = network()
    monkeypatch.setattr(fnn.training.given, "sample_weights", relabelling)
    for class_weight in ("balanced", [1, 2, 3]):
        y[3] = 0
        with pytest.raises(ValueError, match="y holds label 10000000000, but the model has 3 outputs"):
            model.fit(X, y, class_weight=class_weight, sample_weight=np.ones(50), **SHORT)
        assert model.history == {}


@pytest.mark.parametrize("make", [network, of_a_users])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X", np.nan, "X holds NaN or infinite values"),
        ("X", np.inf, "X holds NaN or infinite values"),
        ("y", np.nan, "y holds NaN or infinite values"),
        ("sample_weight", np.nan, "sample_weight holds NaN or infinite values"),
        ("sample_weight", np.inf, "sample_weight holds NaN or infinite values"),
    ],
)
def test_values_that_are_not_finite_are_no_divergence(make, name, value, message, data):
    given = {"X": data[0].copy(), "y": np.eye(3)[data[1]], "sample_weight": np.ones(50)}
    model, expected, optimizers = make(), make(), [fnn.Adam(), fnn.Adam()]
    settings = {**SHORT, "loss": "squared_error"}
    expected.fit(**copy.deepcopy(given), optimizer=optimizers[1], **{**settings, "epochs": 2})
    change = after(2, lambda: given[name].__setitem__(11, value))
    with pytest.raises(ValueError, match=message):
        model.fit(**given, optimizer=optimizers[0], callbacks=change, **settings)
    assert contents(model, optimizers[0]) == contents(expected, optimizers[1])


@pytest.mark.parametrize("make", [network, of_a_users])
def test_another_shape_or_dtype_of_an_array_moves_nothing(make, data):
    X, y, v = data[0].copy(), data[1].copy(), np.linspace(0.5, 1, 50)
    X_val, y_val = data[0][:20].copy(), data[1][:20].copy()
    given = {"X": X, "y": y, "sample_weight": v, "validation_data": (X_val, y_val)}
    model, expected = make(), make()
    expected.fit(**copy.deepcopy(given), **SHORT)

    def reshape():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, for doing that to an array
            X.shape, y.shape, v.shape, X_val.shape, y_val.shape = (300, 1), (5, 10), (50, 1), (120, 1), (20, 1)
            X.dtype, y.dtype, v.dtype = np.uint8, np.int8, np.float32
            X.strides, X_val.strides = (0, 0), (0, 0)

    model.fit(**given, callbacks=after(1, reshape), **SHORT)
    assert model.history == expected.history
    assert_same_weights(model, expected, rtol=0)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_another_shape_while_an_array_is_checked(call, monkeypatch):
    """As another thread may give it: what was checked is what is used."""
    X, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    module = {"fit": fnn.training.given, "evaluate": fnn.nn.stack}[call]
    checked = module.features

    def reshaped_behind(x, *args, **kwargs):
        result = checked(x, *args, **kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            X.shape = 5, 60
        return result

    def made():
        model = fnn.Sequential(fnn.Linear(5, 3), dtype="float64", seed=0)
        model.loss = "cross_entropy"
        if call == "evaluate":
            return model.evaluate(X, y)
        model.fit(X, y, epochs=1, verbose=0)
        return model.layers[0].weight.tobytes()

    expected = made()
    monkeypatch.setattr(module, "features", reshaped_behind)
    assert made() == expected
