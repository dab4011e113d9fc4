"""Networks side by side: by definition one after the other, each by ``train_epoch``."""

from .network.epoch import train_epoch


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


def lanes_pay(job, count):
    """Whether so many networks like this one train faster side by side than alone."""
    return False


def train_lanes(jobs):
    """Train networks of the same ``lane_key``, each for its own epochs.

    Parameters
    ----------
    jobs : as of ``lane_key``, up to ``count_lanes`` of them

    Returns
    -------
    list of (losses, went_well)
        The loss of every epoch. Where a loss was not finite, a job did not go well: kernels leave its parameters and
        slots as they were then, and here they are whatever they are.
    """
    trained = []
    for network, params, epochs, objective, rules, *_ in jobs:
        results = [train_epoch(network, params, *each) for each in _epochs(epochs, objective, rules)]
        losses = [loss for loss, _ in results]
        trained.append((losses, all(failed < 0 for _, failed in results)))
    return trained


def _epochs(batches, objective, rules):
    return [(each, objective, rule) for each, rule in zip(batches, rules, strict=True)]
