"""The page about exchange with all of its code, that as well which needs more than CI installs."""

import contextlib
import io
import os
import re

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("fastnn.sklearn")
from tests.test_docs import DOCS


@pytest.mark.filterwarnings("ignore")  # what the libraries warn of is their own
def test_every_block_runs(tmp_path, monkeypatch):
    for name in (
        "onnxruntime",
        "safetensors",
        "torch",
        "keras",
        "mlflow",
        "sqlalchemy",
        "tensorboard",
        "optuna",
        "rich",
    ):
        pytest.importorskip(name)
    pytest.importorskip("sklearn.callback")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    page = (DOCS / "guide" / "exchange.md").read_text(encoding="utf-8")
    blocks, names = re.findall(r"^```py(?:thon)?\n(.*?)^```", page, re.M | re.S), {"__name__": "docs"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, "exchange.md", "exec"), names)
    assert "Sequential(Linear(64, 32), ReLU(), BatchNorm(32, 0.01, 0.001), Linear(32, 10)" in printed.getvalue()
    assert "False" not in printed.getvalue()
