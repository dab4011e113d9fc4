"""Tasks whose epochs are trained together: each runs in a thread of its own, one of them at any time.

A task runs until it asks for epochs. Once all have asked or are over, one call answers all that was asked, and they go
on one after the other. So code that knows nothing of the others, such as a fit within scikit-learn's search, shares
kernels with them.

The tasks, and a thread that schedules them, hand the turn on by locks. The caller is not among them: it sends the
scheduler what is to be done and waits for the answer, so a Ctrl-C may come at any place in it.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ..backend import active
from . import together
from .memory import Memory
from .process_state import enter, leave
from .together import Outcome, Request

_here = threading.local()


class Abandoned(BaseException):
    """Ends a task whose result nobody waits for any more."""


def current() -> "Gathering | None":
    """Return the gathering of the task that the current thread runs, or None."""
    runner = getattr(_here, "runner", None)
    return None if runner is None else runner.gathering


def ask(request: Request) -> Outcome:
    """Have some epochs trained: with those of other tasks in a task of a gathering, else at once."""
    runner = getattr(_here, "runner", None)
    if runner is None or active() is not runner.gathering.backend:
        return together.train([request])[0]
    outcome: Outcome = runner.ask(request)
    return outcome


class Job:
    """A call that runs as a task: what it returned or raised, once it is over."""

    def __init__(self, function: Callable[[], Any], call: "Call") -> None:
        self.call, self.is_over = call, False
        self.result: Any = None
        self.error: BaseException | None = None
        self._function: Callable[[], Any] | None = function
        self._context, self._state, self._numpy = copy_context(), leave(), np.geterr()

    def run(self) -> None:
        """Make the call."""
        function, self._function = self._function, None
        assert function is not None
        enter(self._state)
        try:
            with np.errstate(**self._numpy):  # which is no part of the context before NumPy 2
                self.result = self._context.run(function)
        except BaseException as error:
            self.error = error


class Call:
    """Jobs that one caller waits for: a task of the gathering, or the code that opened it.

    Attributes
    ----------
    runner : the thread of the caller if that is a task, or None
    abandoned : whether nobody waits for the jobs any more
    running : the number of jobs that have begun and are not over
    ended : the jobs that are over and that ``wait`` has not returned
    """

    def __init__(self, gathering: "Gathering") -> None:
        runner = getattr(_here, "runner", None)
        self._gathering, self.runner = gathering, runner if current() is gathering else None
        self.abandoned, self.running = False, 0
        self.ended: list[Job] = []

    def submit(self, function: Callable[[], Any]) -> Job:
        """Have a call run as a task, in a copy of the current context, once there is room for it."""
        job = Job(function, self)
        self._gathering.enter(job)
        return job

    def wait(self) -> list[Job]:
        """Wait until a job is over, and return all that are and were not returned before."""
        if self.runner is None:
            self._gathering.order(self, lambda: bool(self.ended))
        else:
            runner = self.runner
            runner.wait(self, lambda: bool(self.ended) or runner.is_abandoned())
            runner.check()
        ended, self.ended = self.ended, []
        return ended

    def abandon(self) -> None:
        """End all jobs, each where it asks for epochs, and wait until they are over."""
        self.abandoned = True
        if self.runner is None:
            self._gathering.abandon(self)
        else:
            self.runner.wait(self, lambda: not self.running)


class _Runner:
    """A thread that runs one job after the other, each when it has the turn."""

    def __init__(self, gathering: "Gathering") -> None:
        self.gathering, self.turn = gathering, threading.Lock()
        self.turn.acquire()
        self.job: Job | None = None
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._work, name="fastnn task", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        _here.runner = self
        self.turn.acquire()
        while self.job is not None:
            self.job.run()
            self.gathering.end(self)
            self.turn.acquire()

    def ask(self, request: Request) -> Outcome:
        """Have some epochs trained with those of other tasks."""
        self.check()
        self.gathering.asked.append((self, request))
        self._give_turn()
        self.check()
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        return outcome

    def wait(self, call: Call, is_over: Callable[[], bool]) -> None:
        """Let the jobs of a call run until a condition is met."""
        gathering = self.gathering
        if call.abandoned:
            gathering.recall(call)
        while not is_over():
            gathering.waiting.add(call)
            gathering.running -= 1  # or calls within calls could wait for a place that their own callers take
            self._give_turn()
            gathering.running += 1

    def is_of(self, call: Call) -> bool:
        """Whether the job is one of a call's."""
        return self.job is not None and self.job.call is call

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the job."""
        return self.job is not None and self.job.call.abandoned

    def check(self) -> None:
        """End the task if nobody waits for it."""
        if self.is_abandoned():
            raise Abandoned

    def _give_turn(self) -> None:
        state = leave()
        self.gathering.pass_on()
        self.turn.acquire()
        enter(state)


class Gathering:
    """Tasks that take turns, and the thread that schedules them.

    Parameters
    ----------
    most : int
        So many tasks run at once, and more wait for a place. Those that wait for calls of their own do not count.

    Attributes
    ----------
    backend : the module whose functions compute
    memory : Memory
        What tasks have in common.
    running : the tasks that run, or wait for epochs
    asked : what they asked for
    waiting : the calls whose callers wait for them
    """

    def __init__(self, most: int) -> None:
        self.backend, self.running, self.memory = active(), 0, Memory()
        self.asked: list[tuple[_Runner, Request]] = []
        self.waiting: set[Call] = set()
        self._most = most
        self._inner, self._outer = deque[Job](), deque[Job]()
        self._ready, self._idle = deque[_Runner](), list[_Runner]()
        self._turn, self._state = threading.Lock(), leave()
        self._turn.acquire()
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="fastnn tasks", daemon=True)
        self._is_begun = self._is_left = False

    def order(self, call: Call, is_over: Callable[[], bool]) -> None:
        """Let tasks run until a condition is met, for a caller that is no task."""
        error = self._tell(call, is_over)
        if error is not None:
            raise error

    def _tell(self, call: Call, is_over: Callable[[], bool]) -> BaseException | None:
        if not self._is_begun:
            self._is_begun = True
            self._thread.start()
        state, answer = leave(), SimpleQueue[BaseException | None]()
        try:
            self._orders.put((call, is_over, answer))
            return self._answer_to(answer)
        finally:
            enter(state)

    def _answer_to(self, answer: "SimpleQueue[BaseException | None]") -> BaseException | None:
        """Wait for an answer, and look in between for signals, which need not wake this thread, and for the other."""
        while True:
            is_alive = self._thread.is_alive()
            try:
                return answer.get(timeout=0.1)
            except Empty:
                if not is_alive:
                    return RuntimeError("the threads of these tasks have ended")

    def abandon(self, call: Call) -> None:
        """End all jobs of a caller that is no task, and wait until they are over."""
        if self._is_begun:  # or none of them has
            self._tell(call, lambda: not call.running)

    def close(self) -> None:
        """End the threads; a second call does nothing."""
        if not self._is_left:
            self.leave()
            if self._thread.ident is not None:
                self._thread.join()

    def leave(self) -> None:
        """End the threads as soon as all jobs are over, and do not wait for that."""
        self._orders.put(None)
        self._is_left = True

    def enter(self, job: Job) -> None:
        """Note a job that waits for a place; those that other tasks wait for come first."""
        (self._outer if job.call.runner is None else self._inner).append(job)

    def end(self, runner: _Runner) -> None:
        """Note that the job of a runner is over, and hand the turn on."""
        job, runner.job = runner.job, None
        assert job is not None
        self._idle.append(runner)
        self.running -= 1
        self._over(job)
        self.pass_on()

    def recall(self, call: Call) -> None:
        """Have the jobs of a call that is abandoned go on, which ends them, and those without a place not begin."""
        for queue in (self._inner, self._outer):
            jobs = list(queue)
            queue.clear()
            queue.extend(job for job in jobs if job.call is not call)
        asked, self.asked = self.asked, []
        for runner, request in asked:
            if runner.is_of(call):
                self._ready.append(runner)
            else:
                self.asked.append((runner, request))
        for inner in list(self.waiting):
            if inner.runner is not None and inner.runner.is_of(call):
                self._wake(inner)

    def pass_on(self) -> None:
        """Give the turn to the next that is ready, or to the scheduler."""
        (self._ready.popleft().turn if self._ready else self._turn).release()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            call, is_over, answer = order
            try:
                if call.abandoned:
                    self.recall(call)
                while not is_over():
                    self._go_on()
            except BaseException as error:
                answer.put(error)
            else:
                answer.put(None)
        for runner in self._idle:
            runner.turn.release()
            runner.thread.join()

    def _go_on(self) -> None:
        """Let what is ready run, or else another job begin, or else answer what was asked."""
        if self._ready:
            self.pass_on()
            self._turn.acquire()
        elif (self._inner or self._outer) and self.running < self._most:
            self._begin((self._inner or self._outer).popleft())
        elif self.asked:
            self._answer()
        else:
            raise RuntimeError("a task waits for what no task will do")

    def _begin(self, job: Job) -> None:
        try:
            runner = self._idle.pop() if self._idle else _Runner(self)
        except RuntimeError as error:  # some systems have no more threads to give
            if self.running:
                self._most = self.running
                (self._outer if job.call.runner is None else self._inner).appendleft(job)
            else:
                job.error = error
                job.call.running += 1
                self._over(job)
            return
        runner.job = job
        job.call.running += 1
        self.running += 1
        self._ready.append(runner)

    def _answer(self) -> None:
        asked, self.asked = self.asked, []
        enter(self._state)
        try:
            outcomes = together.train([request for _, request in asked])
        except BaseException as error:
            outcomes = [Outcome(error=error) for _ in asked]
        for (runner, _), outcome in zip(asked, outcomes, strict=True):
            runner.outcome = outcome
            self._ready.append(runner)

    def _over(self, job: Job) -> None:
        job.is_over = True
        job.call.running -= 1
        job.call.ended.append(job)
        self._wake(job.call)

    def _wake(self, call: Call) -> None:
        if call in self.waiting:
            assert call.runner is not None
            self.waiting.remove(call)
            self._ready.append(call.runner)
