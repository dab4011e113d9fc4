"""Without any of the libraries: what says which of them is missing, and that nobody imports them unasked."""

import subprocess
import sys

import pytest

import fastnn as fnn
from fastnn import interop

CALLS = {
    "to_onnx": (lambda: interop.to_onnx(fnn.Sequential(fnn.Linear(2, 2))), "onnx", "onnx"),
    "from_onnx": (lambda: interop.from_onnx(b""), "onnx", "onnx"),
    "register_converters": (interop.register_converters, "skl2onnx", "skl2onnx"),
    "to_safetensors": (lambda: interop.to_safetensors(fnn.Sequential(fnn.Linear(2, 2)), "x"), *["safetensors"] * 2),
    "from_safetensors": (lambda: interop.from_safetensors("x"), "safetensors", "safetensors"),
    "to_torch": (lambda: interop.to_torch(fnn.Sequential(fnn.Linear(2, 2))), "torch", "torch"),
    "from_torch": (lambda: interop.from_torch(3), "torch", "torch"),
    "MLflowLogger": (interop.MLflowLogger, "mlflow", "loggers"),
    "TensorBoardLogger": (lambda: interop.TensorBoardLogger("folder"), "tensorboard", "loggers"),
    "OptunaPruning": (lambda: interop.OptunaPruning(None), "optuna", "loggers"),
}


@pytest.mark.parametrize("name", CALLS)
def test_says_what_installs_it(name, monkeypatch):
    call, package, extra = CALLS[name]
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"^{name} needs {package}: pip install 'fastnn\[{extra}\]'$"):
        call()


def test_nobody_imports_them_unasked():
    packages = {package for _, package, _ in CALLS.values()} | {"onnxruntime", "keras", "sklearn"}
    code = f"""if True:
        import sys
        import fastnn
        assert "fastnn.interop" not in sys.modules
        from fastnn.interop import (MLflowLogger, OptunaPruning, TensorBoardLogger, from_keras, from_onnx,
            from_safetensors, from_torch, register_converters, to_onnx, to_safetensors, to_torch)
        assert not {packages!r} & {{*sys.modules}}
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names():
    assert set(interop.__all__) <= set(dir(interop))
    with pytest.raises(AttributeError, match="has no attribute 'to_caffe'"):
        interop.to_caffe  # noqa: B018
