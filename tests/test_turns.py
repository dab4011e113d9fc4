"""Several processes at one empty cache of kernels: one compiles, the others wait, and none waits for ever."""

import contextlib
import errno
import os
import signal
import sys
import threading

import pytest

from fastnn.kernels.compiler import jit, turns
from fastnn.kernels.compiler.turns import Turn, one_turn, wait
from fastnn.loading import undisturbed
from tests.processes import finish, start
from tests.test_cache import KERNELS, NOWHERE, STEP

pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# Tells of each kernel that it has compiled and is about to write.
TELLING = """
import fastnn.kernels.compiler.cache as kept
save = kept.Cache.save_overload

def tell(self, sig, data):
    print("compiled", flush=True)
    save(self, sig, data)

kept.Cache.save_overload = tell
"""
# Has the turn at a file until it is told to make it, or is killed.
HOLDING = """
import os, sys, time
from pathlib import Path
from fastnn.kernels.compiler.turns import Turn

path = Path(os.environ["FILE"])
turn = Turn(path)
assert turn.comes()
print("has it", flush=True)
if os.environ.get("LEAVES_A_CHILD") and os.fork() == 0:
    os.close(1), os.close(2)
    time.sleep(5)
    os._exit(0)
end = time.monotonic() + 60
while not path.with_suffix(".wanted").exists() and time.monotonic() < end:
    time.sleep(0.005)
path.write_text("made")
time.sleep(max(0, end - time.monotonic()))
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_in_vain", type(turns._in_vain)())
    return tmp_path / "kernel"


@pytest.fixture
def holder(path):
    """Start a process that has the turn."""
    started = []

    def hold(**environment):
        started.append(start(HOLDING, FILE=path, **environment))
        assert started[0].stdout.readline() == "has it\n"
        assert not Turn(path).comes()
        return started[0]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def has_turn(path):
    """Whether this thread gets the turn when it waits for it."""
    with one_turn():
        wait(path)
        return turns._here.turn is not None


def test_one_process_compiles_for_all(tmp_path):
    running = [start(f"{TELLING}{STEP}", **{**NOWHERE, "NUMBA_CACHE_DIR": tmp_path}) for _ in range(3)]
    outs = [finish(process)[0].split() for process in running]
    assert [out[-1] for out in outs] == ["1.5"] * 3
    assert sum(out.count("compiled") for out in outs) == KERNELS
    assert not [*tmp_path.rglob("*.turn")]


def test_one_that_is_killed_while_it_compiles(tmp_path):
    environment = {**NOWHERE, "NUMBA_CACHE_DIR": tmp_path}
    first = start(f"import time\n{TELLING.replace('save(self', 'time.sleep(60), save(self')}{STEP}", **environment)
    assert first.stdout.readline() == "compiled\n"
    second = start(f"{TELLING}{STEP}", **environment)
    assert second.stderr.readline()  # kernels are to be compiled
    first.kill()
    assert finish(second)[0].split() == ["compiled"] * KERNELS + ["1.5"]
    first.communicate()


def test_who_waits_for_one_that_is_killed_takes_its_turn_and_waits_no_more(path, holder):
    """Whatever that one has forked."""
    holding = holder(LEAVES_A_CHILD="yes" if hasattr(os, "fork") else "")
    threading.Timer(0.1, holding.kill).start()
    assert has_turn(path)
    assert turns._in_vain.is_set()
    assert not [*path.parent.iterdir()]


def test_who_waits_sees_the_file(path, holder):
    holder()
    path.with_suffix(".wanted").write_text("")
    assert not has_turn(path)
    assert path.read_text() == "made"
    assert not turns._in_vain.is_set()


def test_nobody_waits_for_long(path, holder, monkeypatch):
    holder()
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    assert not has_turn(path)
    monkeypatch.setattr(turns, "PATIENCE", 1e9)
    assert not has_turn(path)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts on this system")
def test_ctrl_c_while_it_waits(path, holder, monkeypatch):
    holder()
    monkeypatch.setattr(turns, "PATIENCE", 20)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            undisturbed(lambda: has_turn(path))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not turns._here.may_take
    assert not turns._in_vain.is_set()  # as it would be after that time


def test_ctrl_c_as_a_turn_ends(path, monkeypatch):
    end = Turn.end

    def interrupted(turn):
        signal.raise_signal(signal.SIGINT)
        end(turn)

    monkeypatch.setattr(Turn, "end", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs these tests may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            jit._undisturbed(lambda signature: wait(path))(None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [*path.parent.iterdir()]


def test_a_thread_has_one_turn_at_a_time_and_gives_it_back(path):
    other = path.with_name("other")
    wait(path)  # outside of a block, where nobody would give it back
    assert turns._here.turn is None
    with contextlib.suppress(MemoryError), one_turn():
        wait(path)
        with one_turn():
            wait(other)
        assert [entry.name for entry in path.parent.iterdir()] == ["kernel.turn"]
        raise MemoryError
    assert not [*path.parent.iterdir()]


def test_a_file_that_another_one_has_removed_meanwhile(path, monkeypatch):
    """It is locked, but nobody else would find it."""
    lock = turns._lock
    removals = iter([True, False])

    def late(file):
        if next(removals):
            path.with_name("kernel.turn").unlink()
        return lock(file)

    monkeypatch.setattr(turns, "_lock", late)
    turn = Turn(path)
    assert turn.comes()
    assert path.with_name("kernel.turn").exists()
    turn.end()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_everybody_has_the_turn(path, monkeypatch, code):
    if sys.platform != "win32":
        import fcntl

        def refuse(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "lockf", refuse)
        assert has_turn(path)
    monkeypatch.setitem(sys.modules, "fcntl" if sys.platform != "win32" else "msvcrt", None)
    assert has_turn(path)
    assert has_turn(path.parent / "no folder" / "kernel")
