"""Files that are replaced whole or not at all: interruptions, killed writers, and writers that are still at work."""

import contextlib
import itertools
import os
import subprocess
import sys
import time
import zipfile

import pytest

import fastnn as fnn
from fastnn import files
from tests.faults import Fault, at_a_call

# Saves, and stops for ever (or until a line comes) with half of the new file written.
WRITER = """
import sys
import numpy as np
import fastnn as fnn

def half(file, **arrays):
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
    file.seek(0)
    whole(file, **arrays)

whole, np.savez = np.savez, half
fnn.Sequential(fnn.Linear(3, 2)).save(sys.argv[1])
"""


def small():
    return fnn.Sequential(fnn.Linear(2, 2, init="zeros"))


@pytest.fixture
def path(tmp_path):
    small().save(tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.fixture
def writer(path):
    """A process in the middle of saving."""
    command = [sys.executable, "-c", WRITER, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "half\n"
    with child:
        yield child
        child.kill()


def test_what_a_killed_process_left_goes_with_the_next_save(path, writer):
    before = path.read_bytes()
    writer.kill()
    writer.wait()
    assert len(os.listdir(path.parent)) == 2
    assert path.read_bytes() == before
    small().save(path.parent / "another.npz")
    assert sorted(os.listdir(path.parent)) == ["another.npz", "model.npz"]


def test_a_file_that_is_being_written_stays(path, writer):
    for _ in range(3):
        small().save(path)
    assert len(os.listdir(path.parent)) == 2
    writer.stdin.write("go on\n")
    writer.stdin.flush()
    assert writer.wait(timeout=60) == 0
    assert os.listdir(path.parent) == ["model.npz"]
    assert fnn.load(path).layers[0].n_in == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that nobody closed
def test_an_interruption_anywhere_leaves_the_old_file_or_the_new(path):
    model, seen = fnn.Sequential(fnn.Linear(3, 2)), []
    for at in itertools.count():
        small().save(path)
        fault = Fault(at, KeyboardInterrupt)
        try:
            with at_a_call(fault):
                model.save(path)
        except KeyboardInterrupt:
            assert os.listdir(path.parent) == ["model.npz"]
            seen.append(fnn.load(path).layers[0].n_in)
        else:
            break
    assert seen == sorted(seen)
    assert set(seen) == {2, 3}


def test_a_file_taken_for_abandoned_before_it_was_locked_is_made_anew(path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    locked = []

    def late(file, operation):
        (new,) = [name for name in os.listdir(path.parent) if name != "model.npz"]
        if not locked:
            os.remove(path.parent / new)
        locked.append(new)
        lock(file, operation)

    lock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    fnn.Sequential(fnn.Linear(3, 2)).save(path)
    assert len(locked) == 2
    assert fnn.load(path).layers[0].n_in == 3
    assert os.listdir(path.parent) == ["model.npz"]


def test_where_there_are_no_locks_nothing_is_removed(path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*args):
        raise OSError(95, "Operation not supported")

    (path.parent / ".fastnn-0.tmp").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    fnn.Sequential(fnn.Linear(3, 2)).save(path)
    assert fnn.load(path).layers[0].n_in == 3
    assert sorted(os.listdir(path.parent)) == [".fastnn-0.tmp", "model.npz"]


@pytest.mark.parametrize(("age", "stays"), [(0, True), (3000, True), (4000, False)])
def test_on_windows_a_file_is_abandoned_after_an_hour(age, stays, path, monkeypatch):
    left = path.parent / ".fastnn-0.tmp"
    left.touch()
    os.utime(left, (time.time() - age,) * 2)
    monkeypatch.setattr(files, "fcntl", None)
    fnn.Sequential(fnn.Linear(3, 2)).save(path)
    assert left.exists() == stays
    assert fnn.load(path).layers[0].n_in == 3
    assert len(os.listdir(path.parent)) == 1 + stays


def test_the_files_of_others_are_left_alone(path):
    others = [".fastnn-notes", "fastnn-1.tmp", ".1234.tmp", "model.npz.tmp"]
    for name in others:
        (path.parent / name).touch()
    (path.parent / ".fastnn-folder.tmp").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path.parent / ".fastnn-pipe.tmp")
    with contextlib.suppress(OSError):  # few users may make links on Windows
        (path.parent / ".fastnn-link.tmp").symlink_to(path)
        others.append(".fastnn-link.tmp")
    small().save(path)
    assert {*others, ".fastnn-folder.tmp", "model.npz"} <= set(os.listdir(path.parent))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of an archive that nobody finishes
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room"), OSError(28, "No space left on device")])
def test_what_ends_a_save_early_is_what_is_raised(error, path, monkeypatch):
    """zipfile complains of an archive that is closed while one of its members is open."""

    def close(member):
        raise error

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(zipfile._ZipWriteFile, "close", close)
        with pytest.raises(type(error), match=str(error.args[-1]) if error.args else None):
            fnn.Sequential(fnn.Linear(3, 2)).save(path)
    assert os.listdir(path.parent) == ["model.npz"]
    assert path.read_bytes() == before
