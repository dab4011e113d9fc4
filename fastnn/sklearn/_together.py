"""Parallel calls of scikit-learn whose fits are trained together: a backend of joblib that runs calls as tasks.

scikit-learn's own code runs unchanged, each task of it when it has the turn. What runs in parallel is inside the
kernels, so ``n_jobs`` limits their threads.
"""

from collections.abc import Callable
from typing import Any

from joblib.parallel import ParallelBackendBase, SequentialBackend

from ..training.gathering import Call, Gathering, Job, current
from ._kept import Kept
from ._sharing import share

# Tasks at once for each thread: enough networks to fill the lanes of its vectors several times over.
TASKS_PER_THREAD = 64


class TogetherBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of a ``Parallel`` as tasks of a gathering: one of its own, or that of the task that calls."""

    uses_threads = supports_sharedmem = True
    supports_retrieve_callback = False
    default_n_jobs = -1

    def __init__(self, most: int, on_use: Callable[[], None], kept: Kept | None = None) -> None:
        super().__init__(nesting_level=0)
        self._most, self._on_use, self._kept = max(2, most), on_use, kept
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
        share(func.items, self._kept)
        job = self._call.submit(func)
        self.callbacks[job] = callback
        return _Result(self, self._call, job)

    apply_async = submit  # its name before joblib 1.5

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the tasks where they ask for their next epoch; if that is interrupted, leave them to it."""
        try:
            if self._call is not None:
                self._call.abandon()
        except BaseException:
            if self._gathering is not None:
                self._gathering.leave()
            raise
        finally:
            self.terminate()

    def terminate(self) -> None:
        """End the threads."""
        if self._gathering is not None:
            self._gathering.close()
        self._gathering = self._call = None
        self.callbacks.clear()

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
