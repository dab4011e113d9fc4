"""Interrupts by the hundred, that strike whatever runs but the code of the attempts."""

import os
import signal
import time

from tests.stress.core import HELD, RAISED, WRONG, Broken


class Storm:
    """A context in which interrupts arrive ``hz`` times a second, for some seconds.

    They come as from a terminal, "SIGINT" from another process, or as "KeyboardInterrupt" from the handler of a timer,
    which no handler of fastnn's own stands in for; only ``once`` a call where it matters what is put right afterwards,
    for no code can be written that puts things right through any number of interrupts.
    """

    def __init__(self, hz, seconds, by, once=False):
        self._hz, self._by, self._once, self._inside = hz, by, once, False
        self._left = max(1, round(hz * seconds))

    def __enter__(self):
        if self._by == "SIGINT":
            self._before = signal.signal(signal.SIGINT, self._handle)
            self._sender = self._start_sender()
        else:
            signal.signal(signal.SIGALRM, self._handle)
            signal.setitimer(signal.ITIMER_REAL, 1 / self._hz, 1 / self._hz)
        return self

    def __exit__(self, kind, error, traceback):
        if self._by != "SIGINT":
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        if self._sender:
            os.kill(self._sender, signal.SIGKILL)
            os.waitpid(self._sender, 0)
        mine = signal.signal(signal.SIGINT, self._before)
        if mine != self._handle:
            raise Broken(WRONG, f"what handles SIGINT is now {mine}")

    def goes_on(self):
        """Whether more interrupts are to come."""
        if self._by == "SIGINT" and self._sender and os.waitpid(self._sender, os.WNOHANG)[0]:
            self._sender = self._left = 0
        return self._left > 0

    def call(self, work):
        """Do some work, interrupted or not."""
        self._inside = True
        try:
            work()
        except KeyboardInterrupt:
            return RAISED
        finally:
            self._inside = False
        return HELD

    def _start_sender(self):
        receiver, sender = os.getpid(), os.fork()
        if sender == 0:
            for _ in range(self._left):
                time.sleep(1 / self._hz)
                if os.getppid() != receiver:
                    break
                os.kill(receiver, signal.SIGINT)
            os._exit(0)
        return sender

    def _handle(self, signum, frame):
        if self._by != "SIGINT":
            self._left -= 1
            if self._left == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
        if self._inside and "/tests/stress/" not in frame.f_code.co_filename:
            self._inside = not self._once
            raise KeyboardInterrupt
