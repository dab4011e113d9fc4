"""Models of Keras as models."""

import os

import numpy as np
import pytest

from fastnn.interop import from_keras

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras' own code


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * abs(wanted).max())


def filled(model, n):
    """The model built, with random weights in all of its layers."""
    model.build((None, n))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer(dtype):
    keras.utils.set_random_seed(0)
    norm = layers.Normalization(mean=[0.0, 1, 2, 3], variance=[1.0, 4, 9, 0.25], dtype=dtype)
    chain = [layers.Rescaling(2.0, offset=1.0, dtype=dtype), norm, layers.Dense(6, dtype=dtype)]
    for name in ("relu", "tanh", "sigmoid", "gelu", "silu", "mish", "elu", "selu", "softplus", "hard_silu"):
        chain.append(layers.Dense(6, name, dtype=dtype))
    chain += [
        layers.Dense(6, "leaky_relu", use_bias=False, dtype=dtype),
        layers.BatchNormalization(momentum=0.9, dtype=dtype),
        layers.ReLU(dtype=dtype),
        layers.Dropout(0.25, dtype=dtype),
        keras.Sequential([layers.LayerNormalization(dtype=dtype), layers.LeakyReLU(negative_slope=0.3, dtype=dtype)]),
        layers.Activation("elu", dtype=dtype),
        layers.Flatten(dtype=dtype),
        layers.Dense(3, "softmax", dtype=dtype),
    ]
    source = filled(keras.Sequential(chain), 4)
    X = np.random.default_rng(1).normal(size=(7, 4)).astype(dtype)
    model = from_keras(source)
    assert model.dtype == dtype
    assert_close(model.predict_proba(X), keras.ops.convert_to_numpy(source(X, training=False)))
    shown = [repr(layer) for layer in model.layers]
    assert shown[-6:] == [
        "ReLU()",
        "Dropout(0.25)",
        "LayerNorm(6, 0.001)",
        "LeakyReLU(slope=0.3)",
        "ELU(alpha=1)",
        "Linear(6, 3)",
    ]
    assert shown[-7] == "BatchNorm(6, 0.1, 0.001)"


def test_what_is_frozen_stays_so():
    source = filled(keras.Sequential([layers.Dense(4, "relu", trainable=False), layers.Dense(2)]), 3)
    assert [layer.trainable for layer in from_keras(source).layers] == [False, True, True]


@pytest.mark.parametrize(
    ("chain", "error", "message"),
    [
        ([layers.Dense(3), layers.PReLU()], TypeError, r"'p_re_lu.*' is a PReLU, for which fastnn has no layer"),
        ([layers.Dense(3, "exponential")], TypeError, r"'dense.*' has the activation exponential, for which"),
        ([layers.Dense(3, "softmax"), layers.Dense(2)], ValueError, r"a softmax stands before 'dense"),
        ([layers.Dense(3), layers.ReLU(max_value=6)], ValueError, r"'re_lu.*' has max_value=6.*, which no layer"),
        ([layers.Dense(3), layers.BatchNormalization(scale=False)], ValueError, r"has scale=False, which no layer"),
        ([layers.Dense(3), layers.LayerNormalization(center=False)], ValueError, r"has center=False, which no layer"),
    ],
)
def test_what_has_no_counterpart_is_named(chain, error, message):
    source = keras.Sequential(chain)
    source.build((None, 3))
    with pytest.raises(error, match=message):
        from_keras(source)


class Doubling(keras.Sequential):
    def call(self, *arguments, **settings):
        return 2 * super().call(*arguments, **settings)


class Named(keras.Sequential):
    """Computes what its layers do."""


def test_a_subclass_that_computes_something_else():
    for source in (filled(Doubling([layers.Dense(3)]), 2), filled(keras.Sequential([Doubling([layers.Dense(3)])]), 2)):
        with pytest.raises(TypeError, match=r"'doubling.*' is a Doubling with a call of its own, which may do more"):
            from_keras(source)
    assert from_keras(filled(Named([layers.Dense(3)]), 2)).layers[0].weight.shape == (2, 3)


def test_what_is_no_built_sequential():
    with pytest.raises(TypeError, match=r"model is a int, expected a keras\.Sequential"):
        from_keras(3)
    with pytest.raises(ValueError, match="model has no layers yet"):
        from_keras(keras.Sequential())
    with pytest.raises(ValueError, match=r"'dense.*' has no weights yet"):
        from_keras(keras.Sequential([layers.Dense(3)]))
