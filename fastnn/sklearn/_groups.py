"""Parallel calls on a cluster: whole groups of them travel, and are trained together where they arrive."""

from collections.abc import Callable
from typing import Any

from joblib import Parallel, delayed
from joblib.parallel import (
    BACKENDS,
    MultiprocessingBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from ..backend import get_num_threads
from ._kept import Kept
from ._together import TASKS_PER_THREAD, TogetherBackend


def is_elsewhere(backend: Any) -> bool:
    """Whether a backend of joblib runs calls on workers of Dask, Ray or the like, which need not be on this machine."""
    here = (TogetherBackend, SequentialBackend, ThreadingBackend, MultiprocessingBackend, BACKENDS.get("loky"))
    return type(backend) not in here


class GroupsBackend(ParallelBackendBase):  # type: ignore[misc]
    """Deals the calls of a ``Parallel`` to the workers of another backend, as one group for each.

    Parameters
    ----------
    backend : the backend that has the workers
    n_jobs : int
        How many of them may be used, as joblib counts.
    on_use : function
        Called when a ``Parallel`` begins to use the backend.
    kept : Kept, optional
        Where fits are found, and kept: a folder that all workers share.
    """

    supports_retrieve_callback = False
    default_n_jobs = -1

    def __init__(self, backend: Any, n_jobs: int, on_use: Callable[[], None], kept: Kept | None = None) -> None:
        super().__init__(nesting_level=0)
        self._backend, self._n_jobs, self._on_use, self._kept = backend, n_jobs, on_use, kept
        self._waiting: list[_Result] = []

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls are taken on at once."""
        workers: int = self._backend.effective_n_jobs(self._n_jobs)
        return max(2, workers * TASKS_PER_THREAD)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:
        """Prepare for the calls of a ``Parallel``."""
        self._on_use()
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], None]) -> "_Result":
        """Note a batch of calls."""
        self._waiting.append(_Result(self, func, callback))
        return self._waiting[-1]

    apply_async = submit  # its name before joblib 1.5

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Forget what is noted."""
        self._waiting = []

    def run(self) -> None:
        """Have everything run that is noted, and wait for it."""
        waiting, self._waiting = self._waiting, []
        n = min(len(waiting), max(1, self._backend.effective_n_jobs(self._n_jobs)))
        calls = delayed(run_group)
        groups = Parallel(n_jobs=self._n_jobs, backend=self._backend, batch_size=1)(
            calls([result.call for result in waiting[i::n]], self._kept) for i in range(n)
        )
        for i, group in enumerate(groups):
            for result, value in zip(waiting[i::n], group, strict=True):
                result.set(value)
        for result in waiting:
            result.tell()


class _Result:
    """What joblib knows of a batch of calls: how to wait for its results."""

    def __init__(self, backend: GroupsBackend, call: Any, callback: Callable[[Any], None]) -> None:
        self.call: Any = call
        self._backend, self._callback = backend, callback
        self._value: list[Any] | None = None

    def set(self, value: list[Any]) -> None:
        """Note the results."""
        self._value, self.call = value, None

    def tell(self) -> None:
        """Tell joblib that the results are there."""
        self._callback(self._value)

    def get(self, timeout: float | None = None) -> Any:
        """Return the results of the calls."""
        if self._value is None:
            self._backend.run()
        return self._value


def run_group(batches: list[Any], kept: Kept | None = None) -> list[list[Any]]:
    """Run batches of calls together, in this process, and return the results of each."""
    backend = TogetherBackend(TASKS_PER_THREAD * get_num_threads(), lambda: None, kept)
    calls = [call for batch in batches for call in batch.items]
    results = iter(Parallel(n_jobs=-1, backend=backend, batch_size=1)(calls))
    return [[next(results) for _ in batch.items] for batch in batches]
