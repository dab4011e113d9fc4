"""Makes the attempts of a part in children of a prepared process: a crash or a hang is an outcome like any other."""

import contextlib
import faulthandler
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

HELD, RAISED = "held", "raised as documented"
CHANGED, WRONG, CRASHED, HUNG = "changed though raised", "wrong", "crashed", "hung"
FAILURES = (CHANGED, WRONG, CRASHED, HUNG)

TIMEOUT = 120.0  # seconds for an attempt; most take less than one
_NOISE = ("/multiprocessing/", "/tests/stress/core.py", "/tests/stress/__main__.py", "<frozen ", "Extension modules: ")
_FRAMES = 10
_LONGEST = 4000  # characters of a message
_SHRINKINGS = 60  # smaller cases that are tried in place of one that failed


class Broken(Exception):
    """What an attempt raises where something did not hold; ``kind`` is one of FAILURES."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


@dataclass
class Failure:
    """An attempt that failed, what it was, and what is known of it."""

    kind: str
    index: int
    case: dict
    text: str
    message: str

    @property
    def group(self):
        """Failures of one group have one cause, as far as anyone can tell."""
        last = self.message.strip().rpartition("\n")[2]
        frames = re.findall('File "([^"]*", line [0-9]+)', self.message)
        return self.kind, (last.partition(":")[0], frames[-1]) if frames else re.sub("[0-9]+|'[^']*'", "", last)


@dataclass
class Report:
    """The counts of a part, and its failures."""

    text_of: Callable = str
    counts: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    seconds: float = 0.0

    def add(self, kind, index, case_at, message):
        """Count an attempt, and note it down if it failed."""
        self.counts[kind] += 1
        if kind in FAILURES:
            case = case_at(index)
            self.failures.append(Failure(kind, index, case, self.text_of(case), message[-_LONGEST:]))

    def groups(self):
        """The smallest failure of each group, and how many there were."""
        found = {}
        for failure in self.failures:
            found.setdefault(failure.group, []).append(failure)
        return [(min(group, key=lambda f: len(f.text)), len({f.index for f in group})) for group in found.values()]

    def __str__(self):
        counts = ", ".join(f"{self.counts[kind]:,} {kind}" for kind in (HELD, RAISED, *FAILURES))
        return f"{self.counts.total():,} attempts in {self.seconds:.0f} s: {counts}"


def run(part, seed, indices, seconds, jobs):
    """Make the attempts whose numbers are in a range, in order, as far as the seconds go."""
    context, folder = multiprocessing.get_context("fork"), Path(tempfile.mkdtemp(prefix="fastnn-stress-"))
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_run_part, args=(part, seed, indices, seconds, jobs, folder, writer))
    process.start()
    writer.close()
    try:
        return reader.recv()
    except EOFError:
        process.join()
        report = Report()
        report.add(CRASHED, -1, lambda _: {}, f"the process of the part ended with status {process.exitcode}")
        return report
    finally:
        process.join()
        shutil.rmtree(folder, ignore_errors=True)


def _run_part(part, seed, indices, seconds, jobs, folder, writer):
    os.environ.update(part.ENVIRONMENT)
    part.prepare(folder)
    name = part.__name__.rpartition(".")[2]

    def case_at(index):
        return part.draw(np.random.default_rng([seed, zlib.crc32(name.encode()), index]))

    report, start = Report(_text_of(part)), time.monotonic()
    family = _Family(part, case_at, folder, start + seconds, jobs, report)
    family.run(indices)
    report.seconds = time.monotonic() - start
    if hasattr(part, "smaller"):
        found = [failure for failure, _ in report.groups() if failure.kind != HUNG]  # or it would take minutes
        report.failures += [smallest for failure in found for smallest in _shrunk(part, failure, folder)]
    report.text_of = str  # functions do not travel
    writer.send(report)


def _text_of(part):
    """What turns the cases of a part into text; most say enough by themselves."""
    plain = lambda case: ", ".join(f"{name}={value!r}" for name, value in case.items())  # noqa: E731
    return getattr(part, "text_of", plain)


def _shrunk(part, failure, folder):
    """A failure of the same group whose case is smaller, if one is found."""
    smallest, tried, improved = failure, 0, True
    while improved:
        improved = False
        for case in part.smaller(smallest.case):
            tried += 1
            report = Report(_text_of(part))
            _Family(part, lambda index, case=case: case, folder, np.inf, 1, report).run(range(1))
            if report.failures and report.failures[0].group == failure.group:
                smallest, improved = replace(report.failures[0], index=failure.index), True
                break
            if tried == _SHRINKINGS:
                return [smallest] if smallest is not failure else []
    return [smallest] if smallest is not failure else []


class _Family:
    """Children, some of them at a time, that share out the attempts of a part."""

    def __init__(self, part, case_at, folder, until, jobs, report):
        self.part, self.case_at, self.folder, self.until, self.report = part, case_at, folder, until, report
        self._jobs, self._left = jobs, deque()

    def run(self, indices):
        """Make all attempts, or as many as there is time for."""
        step = self.part.PER_CHILD
        shares = (range(i, min(i + step, indices.stop)) for i in range(indices.start, indices.stop, step))
        running = []
        while True:
            while len(running) < self._jobs and time.monotonic() < self.until and (share := self._next(shares)):
                running.append(_Child(self, share))
            if not running:
                return
            wait([child.reader for child in running], timeout=0.5)
            running = [child for child in running if not self._is_over(child)]

    def _next(self, shares):
        return self._left.popleft() if self._left else next(shares, None)

    def _is_over(self, child):
        """Hear what a child has to say, and return whether it has ended."""
        fault = child.listen()
        if fault is None:
            return not child.alive
        kind, message = fault
        self.report.add(kind, child.next, self.case_at, message)
        if child.next + 1 < child.share.stop:
            self._left.append(range(child.next + 1, child.share.stop))
        return True


class _Child:
    """A process that makes some attempts one after the other and tells of each."""

    def __init__(self, family, share):
        self._family, self.share, self.next, self.alive = family, share, share.start, True
        self._log = family.folder / f"{share.start}.log"
        context = multiprocessing.get_context("fork")
        self.reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_attempts, args=(family, share, writer, self._log))
        self._process.start()
        writer.close()
        self._deadline = time.monotonic() + TIMEOUT

    def listen(self):
        """Take note of the attempts that are over; return (kind, message) if the child broke at the next one."""
        with contextlib.suppress(EOFError, OSError):
            while self.reader.poll():
                kind, message = self.reader.recv()
                self._family.report.add(kind, self.next, self._family.case_at, message)
                self.next += 1
                self._deadline = time.monotonic() + TIMEOUT
        if self._process.exitcode is not None:
            return self._ended()
        if time.monotonic() > self._deadline:
            return HUNG, self._abort()
        return None

    def _ended(self):
        self.alive = False
        status, text = self._process.exitcode, self._read_log()
        self._log.unlink()
        self.reader.close()
        if status == 0:
            return None
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return CRASHED, f"{text}\n{name}{_innermost(text)}"

    def _abort(self):
        """End a child that hangs and return where each of its threads was."""
        os.kill(self._process.pid, signal.SIGABRT)
        self._process.join(10)
        self._process.kill()
        self._process.join()
        text = self._read_log()
        self._ended()
        return f"{text}\nnot over after {TIMEOUT:.0f} s"

    def _read_log(self):
        """What the child wrote, and of each thread the innermost frames, without those of what runs it."""
        kept, frames = [], 0
        for line in self._log.read_text(errors="replace").splitlines():
            frames = frames + 1 if line.startswith("  File ") else 0
            if frames <= _FRAMES and not any(word in line for word in _NOISE):
                kept.append(line)
        return "\n".join(kept)


def _innermost(log):
    """Where the thread that crashed was, from what faulthandler wrote."""
    frames = [line.strip() for line in log.splitlines() if line.startswith("  File ")]
    return f" in {frames[0]}" if frames else ""


def _attempts(family, share, writer, log):
    """What a child does."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    faulthandler.enable(file)
    for index in share:
        if index > share.start and time.monotonic() > family.until:
            return
        writer.send(_outcome(family.part, family.case_at(index)))
    sys.stdout.flush()


def _outcome(part, case):
    try:
        return part.attempt(case), ""
    except Broken as broken:
        return broken.kind, str(broken)
    except BaseException as error:
        return WRONG, f"{traceback.format_exc()}\n{type(error).__name__}: {error}"
