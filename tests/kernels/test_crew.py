"""Helpers that wait inside compiled code: every part of a call is made once, and nobody waits for who is not there."""

import os
import sys
import threading
import time
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from numba import types

from fastnn.kernels.compiler.cpu import available_cpus
from fastnn.kernels.simd.vector import data
from fastnn.kernels.threading import crew, placement, team
from fastnn.kernels.threading.atomics import add, pause, read
from fastnn.kernels.threading.quota import cpus_granted
from tests.processes import run

LARGE, SMALL = 10**12, 3 * team.GRAIN


@numba.njit(nogil=True)
def call(helpers, plan, task, job, parts):
    crew.share(helpers, plan, task, data(job), parts)


@numba.cfunc(crew.task_signature(types.float64))
def count(like, job, which, parts, thread):
    """Note down that a part was made, and by which thread."""
    add(job, which, 1)
    add(job, parts + thread, 1)


@numba.cfunc(crew.task_signature(types.float64))
def meet(like, job, which, parts, thread):
    """Wait, not for ever, until all parts are being made at once, each in a thread of its own."""
    add(job, parts, 1)
    for _ in range(100_000):
        if read(job, parts) == parts:
            add(job, which, 1)
            return
        pause(True)


def share(task, work, parts, asked=None):
    """The numbers of the parts of a task that was shared by three threads."""
    job = np.zeros(parts + 3, np.int64)
    call(crew.ADDRESS, team.plan_for(work), task.address, job, parts if asked is None else asked)
    return job.tolist()


def they_meet(work):
    """Whether three threads shared a call, one of which may be on its way from the call before."""
    for _ in range(100):
        crew.CREW[0, crew.ALONE_UNTIL] = 0
        if share(meet, work, 3)[:3] == [1, 1, 1]:
            return True
    return False


@pytest.fixture(autouse=True)
def three_threads():
    before = team.get_num_threads()
    team.set_num_threads(3)
    team.plan_for(LARGE)
    yield
    team.set_num_threads(before)


def wait_for(state):
    while (crew.CREW[1:3, crew.STATE] != state).any():
        time.sleep(0.001)


@pytest.mark.parametrize("parts", [0, 1, 2, 7, 100])
def test_every_part_is_made_once(parts):
    for _ in range(50):
        made = share(count, LARGE, parts)
        assert made[:parts] == [1] * parts
        assert sum(made[parts:]) == parts


def test_on_one_thread():
    with team.limit_threads(1):
        assert share(count, LARGE, 5) == [1, 1, 1, 1, 1, 5, 0, 0]


def test_a_part_for_each_thread_that_is_at_hand():
    wait_for(crew.ASLEEP)
    crew.CREW[0, crew.ALONE_UNTIL] = 0
    assert share(count, LARGE, 3, crew.EACH)[:3] == [1, 1, 1]
    wait_for(crew.ASLEEP)
    crew.CREW[0, crew.ALONE_UNTIL], crew.CREW[1, crew.STATE] = 0, crew.CLAIMED
    try:
        made = share(count, LARGE, 3, crew.EACH)
    finally:
        crew.CREW[1, crew.STATE] = crew.ASLEEP
    assert made[:2] == [1, 1]
    assert sum(made[2:]) == 2
    crew.CREW[0, crew.ALONE_UNTIL] = np.iinfo(np.int64).max
    try:
        assert share(count, LARGE, 3, crew.EACH) == [1, 1, 0, 0, 0, 0]
    finally:
        crew.CREW[0, crew.ALONE_UNTIL] = 0
    with team.limit_threads(1):
        assert share(count, LARGE, 3, crew.EACH) == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("asleep", [False, True])
def test_helpers_take_part(asleep):
    for _ in range(20):
        if asleep:  # where none ever fell asleep, this would wait for ever
            wait_for(crew.ASLEEP)
        assert they_meet(LARGE)


def test_small_calls_wake_helpers_where_one_follows_another(monkeypatch):
    wait_for(crew.ASLEEP)
    before = crew.CREW[0, crew.BURST_TICKS]
    try:
        crew.CREW[0, crew.BURST_TICKS] = -1
        assert share(count, SMALL, 3)[3:] == [3, 0, 0]
        wait_for(crew.ASLEEP)
        crew.CREW[0, crew.BURST_TICKS] = 10**15
        assert they_meet(SMALL)
    finally:
        crew.CREW[0, crew.BURST_TICKS] = before


@pytest.mark.parametrize(("state", "missed"), [(crew.READY, True), (crew.WAKING, False)])
def test_a_helper_that_does_not_come_is_not_waited_for(state, missed):
    """As one that lost its CPU: it is at hand by what it says of itself, but in Python; on its way it may be late."""
    arrived, ended = threading.Barrier(3), threading.Event()

    def task(thread, n_threads):
        arrived.wait(60)
        if thread > 0:
            assert ended.wait(60)
            return
        states = crew.CREW[1:3, crew.STATE]
        states[:] = state
        crew.CREW[0, [crew.MISSED, crew.ALONE_UNTIL]] = 0
        try:
            assert share(count, LARGE, 7) == [1] * 7 + [7, 0, 0]
            assert (states == state).all()
            assert (crew.CREW[0, crew.MISSED] > 0) == missed
        finally:
            states[:] = crew.RUNNING
            ended.set()

    team.run(task, LARGE)
    assert they_meet(LARGE)


@numba.njit
def take_out_and_put_back(header, helper, restored):
    placement.put_back(data(header), data(helper)) if restored else placement.keep_off(data(header), data(helper))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux places threads so")
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_helper_wakes_on_another_cpu(cpus):
    """This thread as the helper that it is about to wake."""
    before = os.sched_getaffinity(0)
    if len(before) < cpus:
        pytest.skip("one CPU")
    helper, allowed = np.zeros(crew.WORDS, np.int64), set(sorted(before)[:cpus])
    helper[placement.THREAD] = threading.get_native_id()
    try:
        os.sched_setaffinity(0, allowed)
        take_out_and_put_back(crew.CREW[0], helper, False)
        assert len(os.sched_getaffinity(0)) == 1
        assert helper[placement.IS_TAKEN_OUT] == cpus - 1
        take_out_and_put_back(crew.CREW[0], helper, True)
        assert os.sched_getaffinity(0) == allowed
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("missing", ["function", "thread"])
def test_a_helper_that_cannot_be_moved_stays(missing):
    """As on another system than Linux, or where the system refuses."""
    header, helper = crew.CREW[0].copy(), np.zeros(crew.WORDS, np.int64)
    if missing == "function":
        header[placement.GETCPU] = 0
    helper[placement.THREAD] = threading.get_native_id() if missing == "function" else 1 << 30
    before = available_cpus()
    take_out_and_put_back(header, helper, False)
    assert helper[placement.IS_TAKEN_OUT] == 0
    take_out_and_put_back(header, helper, True)
    assert available_cpus() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux places threads so")
def test_helpers_that_were_woken_run_wherever_they_could_before():
    wait_for(crew.ASLEEP)
    assert they_meet(LARGE)
    assert [os.sched_getaffinity(thread) for thread in crew.CREW[1:3, placement.THREAD]] == [
        os.sched_getaffinity(0)
    ] * 2


def test_only_a_helper_is_moved():
    """Two callers may let the same helper begin, and the thread of the second ends, whose number others get."""
    threads = crew.CREW[1:3, placement.THREAD].tolist()
    team._work(1)
    assert crew.CREW[1:3, placement.THREAD].tolist() == threads
    assert threading.get_native_id() not in threads


def test_a_child_has_no_helpers(monkeypatch):
    """Nor one to be put back where a helper of its parent could run."""
    monkeypatch.setattr(crew, "_locks", {1: 1})
    rows = np.ones((3, crew.WORDS), np.int64)
    crew.forget(rows)
    assert not crew._locks
    assert (rows[1:, crew.STATE] == crew.AWAY).all()
    assert not rows[1:, placement.IS_TAKEN_OUT].any()


def test_several_callers_at_once():
    made = []

    def work():
        for _ in range(300):
            made.append(share(count, LARGE, 5)[:5])

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert made == [[1] * 5] * 1200


def test_after_calls_for_which_no_helper_came_others_do_not_try_for_a_while():
    def task(thread, n_threads):
        if n_threads == 3 and thread == 0:
            arrived.wait(60)
            crew.CREW[0, [crew.MISSED, crew.ALONE_UNTIL]] = 0
            for _ in range(4):
                crew.CREW[1:3, crew.STATE] = crew.READY
                share(count, LARGE, 3)
            crew.CREW[1:3, crew.STATE] = crew.RUNNING
        elif n_threads == 3:
            arrived.wait(60)
        ended.wait(60)

    arrived, ended = threading.Barrier(3), threading.Barrier(3)
    before = crew.CREW[0, crew.PAUSE_TICKS]
    try:
        crew.CREW[0, crew.PAUSE_TICKS] = 10**15
        team.run(task, LARGE)
        for _ in range(100):
            assert share(count, LARGE, 3)[3:] == [3, 0, 0]
        assert they_meet(LARGE)
    finally:
        crew.CREW[0, crew.PAUSE_TICKS] = before
        crew.CREW[0, [crew.MISSED, crew.ALONE_UNTIL, crew.NEXT_PAUSE]] = 0


@pytest.mark.parametrize(
    ("waited", "cpu", "gains"),
    [(0.8, 1.0, False), (0.7, 1.0, True), (0.0, 1.0, True), (0.0, 0.7, False), (0.0, 0.8, True)],
)
def test_threads_that_take_turns_gain_nothing(waited, cpu, gains, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(team, "time", SimpleNamespace(monotonic=lambda: now[0]))
    profit = team._Profit()
    profit.count(1.0, 0.9, 0.5)  # once may be that code is loaded
    assert profit.is_likely()
    profit.count(1.0, 0.0, 1.0)
    for _ in range(4 if not gains else 0):
        profit.count(0.0126, 0.0126 * waited, 0.0126 * cpu)
    for length in (1, 2, 4, 8, 16, 16):
        for _ in range(4):
            assert profit.is_likely()
            profit.count(0.0126, 0.0126 * waited, 0.0126 * cpu)
        assert profit.is_likely() is gains
        now[0] += (length - 0.1) * profit.PAUSE
        assert profit.is_likely() is gains
        now[0] += 0.2 * profit.PAUSE
    profit.count(1.0, 0.0, 1.0)
    assert profit.is_likely()


def test_a_process_ends_while_helpers_spin():
    """In memory that the interpreter frees then: they are asleep before."""
    code = """
import atexit
import numpy as np
import fastnn as fnn

atexit.register(lambda: print((crew.CREW[1:, crew.STATE] == crew.READY).any()))  # called last, since registered first
from fastnn.kernels.threading import crew

fnn.set_num_threads(3)
crew.CREW[0, crew.SPIN_TICKS] = 10**15
fnn.matmul(np.ones((300, 300)), np.ones((300, 300)))
assert crew.CREW[1, crew.STATE] == crew.READY
"""
    assert run(code, FASTNN_BACKEND="numba")[0] == "False\n"


CGROUPS = {
    "no limit": ({"cpu.max": "max 100000"}, "0::/a/b", np.inf),
    "half a CPU": ({"a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
    "that of the group above": ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "150000 100000"}, "0::/a/b", 1.5),
    "a container's own": ({"cpu.max": "200000 100000"}, "0::/", 2.0),
    "the first version": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        "5:memory:/a\n4:cpu,cpuacct:/docker/1",
        4.0,
    ),
    "the first version without limit": (
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        "3:cpuset:/\n1:cpu:/\n0::/",
        np.inf,
    ),
    "what says nothing": ({"cpu.max": "\n"}, "0::/", np.inf),
    "no such files": ({}, "0::/", np.inf),
    "no groups": ({}, None, np.inf),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_quota(name, tmp_path):
    files, groups, expected = CGROUPS[name]
    texts = {f"sys/fs/cgroup/{file}": text for file, text in files.items()}
    for file, text in (texts | ({"proc/self/cgroup": groups} if groups else {})).items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text + "\n")
    assert cpus_granted(tmp_path) == expected


@pytest.mark.parametrize(("granted", "threads"), [(np.inf, 64), (0.5, 1), (1.5, 1), (3.0, 3), (1000.0, 64)])
def test_a_quota_limits_the_threads(granted, threads, monkeypatch):
    for variable in ("FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(team.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(team.os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr(team, "cpus_granted", lambda: granted)
    assert team._initial_threads() == threads
