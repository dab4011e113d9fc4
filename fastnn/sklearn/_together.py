"""Parallel calls of scikit-learn whose fits are trained together: a backend of joblib that runs calls as tasks.

scikit-learn's own code runs unchanged, each task of it when it has the turn. What runs in parallel is inside the
kernels, so ``n_jobs`` limits their threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase, SequentialBackend, get_active_backend

from ..backend import get_num_threads
from ..training.gathering import Call, Gathering, Job, current
from ._ours import trains_by_epochs
from ._sharing import share
from ._threads import limited_threads

# Tasks at once for each thread: enough networks to fill the lanes of its vectors several times over.
TASKS_PER_THREAD = 64
# Tasks at once hold a copy of their samples each, unless they can share it.
MOST_BYTES = 1 << 31


class TogetherBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of a ``Parallel`` as tasks of a gathering: one of its own, or that of the task that calls."""

    uses_threads = supports_sharedmem = True
    supports_retrieve_callback = False
    default_n_jobs = -1

    def __init__(self, most: int, on_use: Callable[[], None]) -> None:
        super().__init__(nesting_level=0)
        self._most, self._on_use = max(2, most), on_use
        self._gathering: Gathering | None = None
        self._call: Call | None = None
        self.callbacks: dict[Job, Callable[[Any], None]] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at once, whatever the number of threads."""
        return self._most

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:
        """Prepare for the calls of a ``Parallel``."""
        self._on_use()
        self.parallel = parallel
        return self._most

    def submit(self, func: Any, callback: Callable[[Any], None]) -> "_Result":
        """Have a batch of calls run as a task."""
        if self._call is None:
            gathering = current()
            if gathering is None:
                gathering = self._gathering = Gathering(self._most)
            self._call = Call(gathering)
        share(func.items)
        job = self._call.submit(func)
        self.callbacks[job] = callback
        return _Result(self, self._call, job)

    apply_async = submit  # its name before joblib 1.5

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the tasks where they ask for their next epoch; if that is interrupted, leave them to it."""
        call, self._call = self._call, None
        try:
            if call is not None:
                call.abandon()
        except BaseException:
            if self._gathering is not None:
                self._gathering.leave()
            raise
        finally:
            self.terminate()

    def terminate(self) -> None:
        """End the threads."""
        self.callbacks.clear()
        gathering, self._gathering, self._call = self._gathering, None, None
        if gathering is not None:
            gathering.close()

    def get_nested_backend(self) -> tuple[ParallelBackendBase, None]:
        """Return the backend of calls within a task, which has one turn for all of them."""
        return SequentialBackend(nesting_level=1), None


class _Result:
    """What joblib knows of a call: how to wait for its result."""

    def __init__(self, backend: TogetherBackend, call: Call, job: Job) -> None:
        self._backend, self._call, self._job = backend, call, job

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, or raise what the call raised, or another that is over before."""
        while not self._job.is_over:
            ended = self._call.wait()
            for job in ended:
                if job.error is not None:
                    raise job.error
            for job in ended:
                self._backend.callbacks.pop(job)(job.result)
        return self._job.result


@contextmanager
def trained_together(n_jobs: Any, X: Any, *estimators: Any) -> Iterator[None]:
    """Have the next ``Parallel`` of scikit-learn run in tasks of this process whose epochs are trained together.

    Nothing changes where no estimator is of fastnn's own, or for an ``n_jobs`` that scikit-learn will refuse.

    Parameters
    ----------
    n_jobs : int or None
        The most threads of the kernels, counted as joblib counts processes; None for those that there are.
    X : the samples
    *estimators : what is fitted, or lists and dicts with such objects in them
    """
    backend, configured = get_active_backend()
    n_jobs = configured if n_jobs is None else n_jobs
    if n_jobs == 0 or not isinstance(n_jobs, Integral | None) or not trains_by_epochs(estimators):
        yield
        return
    there = get_num_threads()
    threads = there if n_jobs is None else max(1, min(there, n_jobs if n_jobs > 0 else there + 1 + n_jobs))
    copies = MOST_BYTES // max(1, getattr(X, "nbytes", 1))
    context: Any = None
    most = max(threads, min(threads * TASKS_PER_THREAD, copies))
    with limited_threads(None if n_jobs is None else threads):
        # What comes after that one, such as the fit of the best candidate, finds joblib as the user has set it.
        context = parallel_config(backend=TogetherBackend(most, lambda: context.unregister()))
        try:
            yield
        finally:
            context.unregister()
