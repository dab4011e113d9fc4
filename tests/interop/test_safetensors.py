"""Models as safetensors."""

import json
import re

import numpy as np
import pytest

import fastnn as fnn
from fastnn.interop import from_safetensors, to_safetensors

from .networks import every_layer

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back(dtype, tmp_path):
    path = tmp_path / "model.safetensors"
    model, X = every_layer(dtype)
    model.layers[2].trainable = False
    y = np.array(["a", "b", "c"])[np.arange(len(X)) % 3]
    model.fit(X, y, loss=fnn.CrossEntropy(label_smoothing=0.1), epochs=1, verbose=0)
    to_safetensors(model, path)
    back = from_safetensors(path)
    assert repr(back) == repr(model)
    assert repr(back.loss) == repr(model.loss)
    assert (back.predict_proba(X) == model.predict_proba(X)).all()
    assert (back.predict(X) == model.predict(X)).all()
    # As the library itself reads it.
    arrays = safetensors.load_file(path)
    np.testing.assert_array_equal(arrays["2.weight"], model.layers[2].weight)
    assert arrays["2.weight"].dtype == np.dtype(dtype)


def test_what_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    to_safetensors(fnn.Sequential(fnn.Linear(3, 2)), path)
    whole = path.read_bytes()
    for data in (b"", b"nothing like it", whole[:60], whole[:-4]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.safetensors is no file of safetensors, or damaged"):
            from_safetensors(path)
    with pytest.raises(FileNotFoundError):
        from_safetensors(tmp_path / "none")
    path.write_bytes(whole)
    arrays = safetensors.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        header = json.loads(file.metadata()["fastnn"])

    def check(message, header, arrays):
        text = header if isinstance(header, str) else json.dumps(header)
        safetensors.save_file(arrays, path, metadata={} if header is None else {"fastnn": text})
        with pytest.raises(ValueError, match=message):
            from_safetensors(path)

    weight, bias = arrays["0.weight"], arrays["0.bias"]
    check("carries no architecture of fastnn", None, arrays)
    check("its description is that of something else", {}, arrays)
    check(r"model\.safetensors is not a valid model: it is nested too deeply", "[" * 10**5, arrays)
    check("it has format 999, but this version of fastnn reads up to", header | {"format": 999}, arrays)
    check(r"'0\.bias' is missing", header, {"0.weight": weight})
    check(r"0\.weight has shape \(2, 3\), expected \(3, 2\)", header, {"0.weight": weight.T.copy(), "0.bias": bias})
    check(r"holds '1\.weight', which is of no layer", header, arrays | {"1.weight": weight})
    check(r"0\.bias holds NaN", header, {"0.weight": weight, "0.bias": bias * np.nan})


def test_what_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(TypeError, match="model is 3, expected a Sequential"):
        to_safetensors(3, path)
    model = fnn.Sequential(fnn.Linear(3, 2))
    model.layers[0].bias[0] = np.inf
    with pytest.raises(ValueError, match=r"0\.bias holds NaN or infinite"):
        to_safetensors(model, path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(tmp_path / "none" / "m")))):
        to_safetensors(fnn.Sequential(fnn.Linear(3, 2)), tmp_path / "none" / "m")
