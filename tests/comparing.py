"""What the tests of the comparing scripts share."""

import importlib
import re
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts are imported from their folder, as they are when one of them runs."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


def module(name):
    return importlib.import_module(name)


def peer(key):
    """The module of a contender, or a skip where its library is missing."""
    needs, _ = module("peers").PEERS.get(key, ((), ""))
    for library in needs:
        pytest.importorskip(library)
    return module("peers").load_one(key)


def problem(widths, loss, dtype, epochs=1, steps=5, **more):
    problems = module("comparison.problems")
    return problems.learnable(problems.Network(widths, 6, steps, loss, lr=0.05, **more), dtype, epochs)


def cells(text):
    """The rows of each table in the text, header first."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    split = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in tables]
    return [[lines[0], *lines[2:]] for lines in split]
