"""Estimators and pipelines in ONNX, as skl2onnx has those of scikit-learn."""

import numpy as np
import pytest

from fastnn.interop import from_onnx, register_converters, to_onnx

from .test_onnx import assert_close, onnx, run

pytest.importorskip("fastnn.sklearn")
from sklearn import ensemble, neural_network, preprocessing
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from fastnn.sklearn import GridSearchCV, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4)) * [1, 10, 0.1, 1]
CODES = rng.integers(0, 3, 60)
TARGETS = {
    "strings": np.array(["a", "bb", "ccc"])[CODES],
    "integers": 10 * CODES - 5,
    "two strings": np.array(["no", "yes"])[CODES // 2],
    "bool": CODES > 0,
    "floats": CODES * 1.0,
    "several": np.stack([CODES > 0, CODES > 1, CODES == 1], axis=1).astype(int),
}
NETWORKS = (
    {"activation": "leaky_relu", "layer_norm": True},
    {"activation": ["gelu", "softplus"], "batch_norm": True},
    {"activation": ["logistic", "identity"], "dropout": 0.2},
)


def fitted(estimator, *more, **parameters):
    made = estimator(hidden_layer_sizes=(6, 5), max_iter=3, random_state=0, **parameters)
    return make_pipeline(*more, made) if more else made


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_classifier(target, dtype):
    for parameters in NETWORKS:
        model = fitted(MLPClassifier, **parameters).fit(X.astype(dtype), TARGETS[target])
        message = to_onnx(model)
        found = run(message, X.astype(dtype))
        predicted = model.predict(X.astype(dtype))
        assert list(found) == ["label", "probabilities"]
        assert found["label"].tolist() == predicted.tolist()
        assert_close(found["probabilities"], model.predict_proba(X.astype(dtype)))
        back = from_onnx(message).predict(X)
        if target in ("strings", "two strings", "integers", "several"):
            assert back.tolist() == predicted.tolist()


def test_outputs_are_named_as_those_of_scikit_learn():
    skl2onnx = pytest.importorskip("skl2onnx")
    for target, ours, theirs in (
        ("strings", MLPClassifier, neural_network.MLPClassifier),
        ("two strings", MLPClassifier, neural_network.MLPClassifier),
        ("integers", MLPClassifier, neural_network.MLPClassifier),
        ("several", MLPClassifier, neural_network.MLPClassifier),
        ("floats", MLPRegressor, neural_network.MLPRegressor),
    ):
        outputs = []
        options = {"zipmap": False} if ours is MLPClassifier else None
        x = X.astype(np.float32)
        for message in (
            to_onnx(fitted(ours).fit(x, TARGETS[target])),
            skl2onnx.to_onnx(fitted(theirs).fit(x, TARGETS[target]), x[:1], options=options),
        ):
            found = run(message, x)
            outputs.append([(name, array.shape, array.dtype.kind) for name, array in found.items()])
        assert outputs[0] == outputs[1]


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("target", ["strings", "integers", "two strings", "two integers", "bool", "several"])
def test_what_skl2onnx_makes_of_classifiers_is_read(target, zipmap):
    skl2onnx = pytest.importorskip("skl2onnx")
    x, y = X.astype(np.float32), {**TARGETS, "two integers": 3 * (CODES // 2) + 4}[target]
    theirs = fitted(neural_network.MLPClassifier, preprocessing.StandardScaler()).fit(x, y)
    message = skl2onnx.to_onnx(theirs, x[:1], options={"zipmap": zipmap})
    label, probabilities = run(message, x).values()
    back = from_onnx(message)
    assert len(np.unique(label)) > 1
    assert back.predict(x).tolist() == label.tolist()
    if not zipmap:
        found = back.predict_proba(x)
        assert_close(found, probabilities[:, -found.shape[1] :])


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("y", [CODES + 0.5, np.stack([CODES, 2 * CODES], axis=1)], ids=["one", "two"])
def test_regressor(loss, y):
    model = fitted(MLPRegressor, loss=loss, activation="mish").fit(X, y)
    message = to_onnx(model)
    (found,) = run(message, X).values()
    predicted = model.predict(X)
    assert_close(found, predicted.reshape(found.shape))
    assert from_onnx(message).predict(X).shape == predicted.shape


def test_scalers_are_written_here():
    scalers = (
        preprocessing.StandardScaler(),
        "passthrough",
        preprocessing.StandardScaler(with_mean=False, with_std=False),
        preprocessing.MinMaxScaler((-1, 2), clip=True),
        preprocessing.MaxAbsScaler(),
    )
    model = fitted(MLPClassifier, *scalers, activation="silu").fit(X[:30], TARGETS["strings"][:30])
    message = to_onnx(model)
    assert [each.domain for each in message.opset_import] == [""]  # skl2onnx has operators of another domain
    assert_close(run(message, X)["probabilities"], model.predict_proba(X))
    narrow = run(to_onnx(model, dtype="float32"), X.astype(np.float32))["probabilities"]
    np.testing.assert_allclose(narrow, model.predict_proba(X), atol=1e-5)


def test_other_steps_and_estimators_around_ours_are_left_to_skl2onnx():
    skl2onnx = pytest.importorskip("skl2onnx")
    y = TARGETS["strings"]
    inner = fitted(MLPClassifier, activation=["elu", "hard_swish"])
    search = GridSearchCV(make_pipeline(PCA(2), inner), {"pca__whiten": [True, False]}, cv=2)
    for model in (search, ensemble.BaggingClassifier(inner, 2, random_state=0)):
        found = run(to_onnx(model.fit(X, y)), X)
        assert found["label"].tolist() == model.predict(X).tolist()
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=1e-6)
    register_converters()
    x = X.astype(np.float32)
    alone = inner.fit(x, y)
    found = run(skl2onnx.to_onnx(alone, x[:1], options={"zipmap": False}), x)
    assert_close(found["probabilities"], alone.predict_proba(x))


def test_estimators_that_cannot_be_written(tmp_path):
    with pytest.raises(NotFittedError, match="this MLPClassifier is not fitted yet"):
        to_onnx(MLPClassifier())
    with pytest.raises(NotFittedError, match="this BaggingClassifier is not fitted yet"):
        to_onnx(ensemble.BaggingClassifier(MLPClassifier()))
    with pytest.raises(ValueError, match="scores is True, which is for a Sequential"):
        to_onnx(MLPClassifier(), scores=True)
    model = fitted(MLPClassifier).fit(X, TARGETS["strings"])
    model.out_activation_ = "tanh"
    with pytest.raises(ValueError, match="out_activation_ 'tanh' is scikit-learn's own or a user's"):
        to_onnx(model)
    mixed = fitted(MLPClassifier).fit(X, TARGETS["strings"])
    mixed.classes_ = np.array(["a", 1, None], object)
    with pytest.raises(TypeError, match=r"classes_ are .*, but labels of ONNX are all strings or all numbers"):
        to_onnx(mixed, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert onnx  # without which none of these are run
