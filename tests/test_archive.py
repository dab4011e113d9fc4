"""fastnn imported from a zip archive, as zipapps and clusters do."""

import zipfile

import fastnn as fnn
from tests.processes import ROOT, run


def test_digits(tmp_path):
    path = tmp_path / "site.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (ROOT / "fastnn").rglob("*"):
            if file.suffix in (".py", ".npz"):
                archive.write(file, file.relative_to(ROOT))
    code = f"""
import sys
sys.path.insert(0, {str(path)!r})
import fastnn as fnn

assert fnn.__file__.startswith({str(path)!r})
X, y = fnn.datasets.load_digits("float64")
print(repr((X.sum(), y.sum(), X.shape)))
"""
    out, _ = run(code, tmp_path)
    X, y = fnn.datasets.load_digits("float64")
    assert out == f"{(X.sum(), y.sum(), X.shape)!r}\n"
