"""The examples of the page for whoever writes a kernel."""

import re
import shutil
from pathlib import Path

import numpy as np

from fastnn import kernels
from fastnn.kernels import activations
from fastnn.kernels.compiler import cache
from fastnn.kernels.entries import quick
from fastnn.kernels.operations import OPERATIONS, back_on_array, on_array
from tests.processes import run

ENTRY, OPERATION, ASSEMBLY = re.findall(
    r"```python\n(.*?)```", Path(kernels.__file__).with_name("README.md").read_text(encoding="utf-8"), re.DOTALL
)


def test_an_entry(rng, dtype):
    names = {"__name__": "halves"}
    exec(compile(ENTRY, activations.__file__, "exec"), names)
    x = rng.normal(size=(2, 5)).astype(dtype)
    out = np.empty_like(x)
    assert quick.halve(x) is None
    names["HALVE"](x, out)
    np.testing.assert_array_equal(out, x / 2)
    np.testing.assert_array_equal(quick.halve(x), x / 2)
    del quick.halve


def test_an_operation(rng, dtype):
    names = dict(vars(activations))
    exec(compile(OPERATION, activations.__file__, "exec"), names)
    made = OPERATIONS.pop("softsign")
    x, dy = rng.normal(size=(2, 3, 37)).astype(dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    on_array(made, x, y)
    back_on_array(made, dy, x, dx)
    np.testing.assert_allclose(y, x / (1 + abs(x)), rtol=1e-6)
    np.testing.assert_allclose(dx, dy / (1 + abs(x)) ** 2, rtol=1e-6)


def test_the_assembly(tmp_path):
    """In a process that compiles it, since Numba keeps no assembly of what it loads; what it calls may be loaded."""
    folder = tmp_path / "fastnn" / str(cache.FINGERPRINT)
    folder.mkdir(parents=True)
    for file in (file for kept in cache.FOLDERS for file in kept.glob("*.nbc")):
        if not file.name.startswith("inference._forward-"):
            shutil.copyfile(file, folder / file.name)
    code = f"import numpy as np, fastnn as fnn\nfnn.Sequential(fnn.Linear(3, 2)).forward(np.ones((2, 3)))\n{ASSEMBLY}"
    assert "ret" in run(code, NUMBA_CACHE_DIR=tmp_path, FASTNN_BACKEND="numba")[0]
