"""The stress run counts what its attempts come to, and an attempt of a part holds."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from tests.processes import run
from tests.stress import core

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="attempts are made in forks"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # this process may have threads, the attempts none
]

OUTCOMES = ["held", "raised", "changed", "wrong", "error", "crash", "exit", "hang"]


def attempt(case):
    """Come to the outcome that the case asks for."""
    what = case["what"]
    if what in ("changed", "wrong"):
        raise core.Broken({"changed": core.CHANGED, "wrong": core.WRONG}[what], f"{what} it is")
    if what == "error":
        raise KeyError("no such key")
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    return core.RAISED if what == "raised" else core.HELD


PART = SimpleNamespace(
    __name__="tests.stress.part",
    PER_CHILD=3,
    ENVIRONMENT={},
    prepare=lambda folder: None,
    draw=lambda rng: {"what": OUTCOMES[rng.integers(len(OUTCOMES) - 1)]},
    attempt=attempt,
)


def kinds(report):
    return {failure.index: failure.kind for failure in report.failures}


def test_every_attempt_is_counted_once_and_a_seed_makes_the_same_ones():
    reports = [core.run(PART, seed=3, indices=range(40), seconds=60, jobs=jobs) for jobs in (1, 2)]
    assert [report.counts.total() for report in reports] == [40, 40]
    assert reports[0].counts == reports[1].counts
    assert kinds(reports[0]) == kinds(reports[1])
    assert set(reports[0].counts) == {core.HELD, core.RAISED, core.CHANGED, core.WRONG, core.CRASHED}
    assert kinds(core.run(PART, seed=4, indices=range(40), seconds=60, jobs=2)) != kinds(reports[0])


def test_a_failure_can_be_made_again_by_its_number():
    report = core.run(PART, seed=3, indices=range(40), seconds=60, jobs=2)
    for failure in report.failures[:3]:
        again = core.run(PART, seed=3, indices=range(failure.index, failure.index + 1), seconds=60, jobs=1)
        assert kinds(again) == {failure.index: failure.kind}


def test_the_smallest_failure_of_each_cause_is_told(monkeypatch):
    part = SimpleNamespace(**vars(PART))
    part.draw = lambda rng: {"what": "wrong", "more": "x" * int(rng.integers(5, 50))}
    part.smaller = lambda case: [{**case, "more": case["more"][:-1]}] if len(case["more"]) > 3 else []
    ((failure, times),) = core.run(part, seed=0, indices=range(10), seconds=60, jobs=1).groups()
    assert times == 10
    assert failure.text == "what='wrong', more='xxx'"


def test_a_hang_is_ended(monkeypatch):
    monkeypatch.setattr(core, "TIMEOUT", 0.5)
    part = SimpleNamespace(**vars(PART))
    part.draw = lambda rng: {"what": "hang"}
    report = core.run(part, seed=0, indices=range(1), seconds=60, jobs=1)
    assert kinds(report) == {0: core.HUNG}
    assert "in attempt" in report.failures[0].message


def test_time_runs_out():
    assert core.run(PART, seed=0, indices=range(10**9), seconds=0.2, jobs=2).counts.total() < 10**5


def test_two_parts_hold():
    options = ["--only", "changes", "files", "--attempts", "3", "--seconds", "60"]
    code = f"import sys; from tests.stress.__main__ import main; sys.exit(main({options}))"
    out, _ = run(code, FASTNN_BACKEND=None)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["changes", "files", "seed"]
    assert lines[-1] == "seed 0: 6 passed, 0 failed"
