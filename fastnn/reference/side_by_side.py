"""Networks side by side: by definition one after the other, each by ``train_epoch``."""

from .network.epoch import train_epoch
from .network.inference import forward


def count_lanes(dtype):
    """How many networks go side by side at most."""
    return 1


def lane_key(job):
    """What jobs have in common that train side by side, or None for one that trains alone.

    Parameters
    ----------
    job : network, params, batches (a tuple, one for each epoch), objective and rules (as many), as of ``train_epoch``
    """
    return None


def lanes_pay(network, dtype, passes, count):
    """Whether so many networks like this one run faster side by side than alone, for samples times passes in a step."""
    return False


def train_lanes(jobs):
    """Train networks of the same ``lane_key``, each for its own epochs.

    Parameters
    ----------
    jobs : as of ``lane_key``, up to ``count_lanes`` of them

    Returns
    -------
    iterable of (losses, went_well)
        The loss of every epoch; a MemoryError that comes before says that nothing has changed. Where a loss was not
        finite, a job did not go well: kernels leave its parameters and slots as they were then, and here they are
        whatever they are.
    """
    trained = []
    for network, params, epochs, objective, rules, *_ in jobs:
        results = [train_epoch(network, params, *each) for each in _epochs(epochs, objective, rules)]
        losses = [loss for loss, _ in results]
        trained.append((losses, all(failed < 0 for _, failed in results)))
    return trained


def forward_lanes(jobs, x, out, softmax=False):
    """Run up to ``count_lanes`` networks of the same ops, names and dtype on every sample.

    Parameters
    ----------
    jobs : pairs of a network and its parameters, as of ``forward``
    x : (m, n_in) as of ``forward``
    out : (jobs, m, n_out) is written
    softmax : whether a softmax follows

    Returns
    -------
    bool
        Whether all numbers in x are finite.
    """
    finite = [forward(network, params, x, part, softmax) for (network, params), part in zip(jobs, out, strict=True)]
    return all(finite)


def _epochs(batches, objective, rules):
    return [(each, objective, rule) for each, rule in zip(batches, rules, strict=True)]
