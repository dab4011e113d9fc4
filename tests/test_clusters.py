"""Workers of Dask, Ray and loky: their results are those of this process, see tests.clusters."""

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT

ENGINES = {"loky": "joblib", "dask": "distributed", "ray": "ray"}


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_those_of_one_process(engine):
    pytest.importorskip("sklearn")
    pytest.importorskip(ENGINES[engine])
    command = [sys.executable, "-m", "tests.clusters", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found.pop("threads") == [1, 1]
    assert all(found.values()), found
