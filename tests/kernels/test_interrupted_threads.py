"""An interrupt at any moment while work is shared out: the call ends, and all threads are at hand again."""

import os

import pytest

from tests.processes import run

# In a process of its own: a call that waits for a thread which nobody has started would wait for ever.
SWEEP = """
import sys, threading, time
from fastnn.kernels.threading import team
from tests.interrupting import Interrupt

def task(thread, n_threads):
    arrived.append(thread)
    while len(arrived) < n_threads and not aborted.is_set():  # as at a barrier
        time.sleep(0)

FILES = team.__file__, threading.__file__

def sizes():
    found = []
    team.run(lambda thread, n_threads: found.append(n_threads), 10**12)
    return found

def stop():
    raise KeyboardInterrupt

team.set_num_threads(3)
assert sizes() == [3, 3, 3]
interrupted = 0
for n in range(1, 10**6):
    if not WARM:
        team.set_num_threads(1)
        while any(team._states[1:]):
            time.sleep(0)
        team.set_num_threads(3)
    arrived, aborted, interrupt = [], threading.Event(), Interrupt(n, FILES, stop)
    sys.settrace(interrupt)
    try:
        team.run(task, 10**12, abort=aborted.set)
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
