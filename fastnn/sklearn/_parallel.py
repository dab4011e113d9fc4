"""What a search does for its fits to be trained together, wherever joblib has them run."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from joblib import parallel_config
from joblib.parallel import get_active_backend

from ..backend import get_num_threads
from ._groups import GroupsBackend, is_elsewhere
from ._kept import Kept
from ._ours import trains_by_epochs
from ._threads import limited_threads
from ._together import TASKS_PER_THREAD, TogetherBackend

# Tasks at once hold a copy of their samples each, unless they can share it.
_MOST_BYTES = 1 << 31


@contextmanager
def trained_together(n_jobs: Any, X: Any, *searched: Any, kept: Kept | None = None) -> Iterator[None]:
    """Have the next ``Parallel`` of scikit-learn run as tasks whose epochs are trained together.

    Nothing changes where no estimator is of fastnn's and no fit is to be kept, or for an ``n_jobs`` that scikit-learn
    refuses. Calls that come after that ``Parallel``, such as the fit of the best candidate, find joblib as the user has
    set it.

    Parameters
    ----------
    n_jobs : int or None
        The most threads, counted as joblib counts processes; None for those that there are.
    X : the samples
    *searched : what is fitted: estimators, or lists and dicts with estimators in them
    kept : Kept, optional
        Where fits are found, and kept.
    """
    backend, configured = get_active_backend()
    n_jobs = configured if n_jobs is None else n_jobs
    refused = n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0)
    if refused or (kept is None and not trains_by_epochs(searched)):
        yield
        return
    wanted = None if n_jobs is None else int(n_jobs)
    elsewhere, there = is_elsewhere(backend), get_num_threads()
    context: Any = None

    def leave() -> None:
        context.unregister()

    together: Any
    threads = there
    if elsewhere:
        together = GroupsBackend(backend, backend.default_n_jobs if wanted is None else wanted, leave, kept)
    else:
        if wanted is not None:
            threads = max(1, min(there, wanted if wanted > 0 else there + 1 + wanted))
        copies = _MOST_BYTES // max(1, getattr(X, "nbytes", 1))
        together = TogetherBackend(max(threads, min(threads * TASKS_PER_THREAD, copies)), leave, kept)
    with limited_threads(None if threads == there else threads):
        context = parallel_config(backend=together)
        try:
            yield
        finally:
            leave()
            together.abort_everything()  # if joblib has not come to that
