"""An interrupt at any moment while work is shared out: the call ends, and all threads are at hand again."""

import os

import pytest

from tests.processes import run

# In a process of its own: a call that waits for a thread which nobody has started would wait for ever.
SWEEP = """
import sys, threading, time
from dis import opname
from fastnn.kernels import threads

FILES = threads.__file__, threading.__file__

class Interrupt:
    '''Raises KeyboardInterrupt the n-th time that Python would look for signals: in calls, and after them and jumps.'''

    def __init__(self, n):
        self.left, self._before = n, {}

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        self._look()
        return self._trace

    def _trace(self, frame, event, argument):
        if event == "opcode":
            name = opname[frame.f_code.co_code[frame.f_lasti]]
            if self._before.get(frame, "").startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")):
                self._look()
            self._before[frame] = name
        return self._trace

    def _look(self):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

def task(rank, size):
    arrived.append(rank)
    while len(arrived) < size and not aborted.is_set():  # as at a barrier
        time.sleep(0)

def sizes():
    found = []
    threads.run(lambda rank, size: found.append(size), 10**12)
    return found

threads.set_num_threads(3)
if WARM:
    assert sizes() == [3, 3, 3]
interrupted = 0
for n in range(1, 10**6):
    if not WARM:
        threads.set_num_threads(3)
    arrived, aborted, interrupt = [], threading.Event(), Interrupt(n)
    sys.settrace(interrupt)
    try:
        threads.run(task, 10**12, abort=aborted.set)
    except KeyboardInterrupt:
        interrupted += 1
    finally:
        sys.settrace(None)
    found = sizes()
    assert found == [3, 3, 3], f"after interrupt {n}, {found}"
    if interrupt.left > 0:
        break
print(interrupted)
"""


@pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")
@pytest.mark.parametrize("warm", [True, False], ids=["idle threads", "threads yet to start"])
def test_an_interrupt_at_any_moment(warm):
    out, err = run(SWEEP.replace("WARM", str(warm)), FASTNN_BACKEND="numba")
    assert int(out) > 20, err
