"""scikit-learn's own tests of its perceptrons, those of the release that is installed, with fastnn's in their place."""

from pathlib import Path

import pytest
from sklearn import neural_network

import fastnn.sklearn

# Warnings are errors in this suite, and none of scikit-learn's.
pytestmark = pytest.mark.filterwarnings("ignore")

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
SOURCE = Path(neural_network.__file__).parent / "tests" / "test_mlp.py"

if not SOURCE.exists():
    pytest.skip("scikit-learn was installed without its tests", allow_module_level=True)
text = SOURCE.read_text(encoding="utf-8")
exec(compile(text.replace(IMPORT, IMPORT.replace("sklearn.neural_network", "fastnn.sklearn")), SOURCE, "exec"))


@pytest.fixture
def global_random_seed():
    """Of scikit-learn's own conftest."""
    return 42


def test_they_try_fastnns():
    names = ("MLPClassifier", "MLPRegressor")
    assert [globals()[name] for name in names] == [getattr(fastnn.sklearn, name) for name in names]
    assert sum(name.startswith("test_") for name in globals()) > 30
