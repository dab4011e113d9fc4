"""Where a training has left the finite numbers: the epoch that failed once more, update by update."""

from typing import TYPE_CHECKING

from ..transaction import Copies
from ..validation import Array

if TYPE_CHECKING:
    from .compiled import Epoch
    from .plan import Plan


def find_batch(train: "Epoch", plan: "Plan", order: Array, lr: float | Array, last: Copies) -> tuple[bool, int]:
    """Train update by update, up to one that leaves the finite numbers, and return whether there was one and its batch.

    A user's layer may draw random numbers and come through this time: then it is the last batch. ``last`` holds the
    arrays before the last update.
    """
    size = plan.batch_size * plan.accumulate
    for update, start in enumerate(range(0, len(order), size)):
        last.keep()
        own_lr = lr if isinstance(lr, float) else lr[update : update + 1]
        samples = order[start : start + size]
        _, failed = train(samples, own_lr, plan.optimizer.steps)
        is_found = failed >= 0 or not last.is_finite()
        if is_found:
            last.restore()
            break
        plan.optimizer.steps += 1
    # Numbers that an update leaves are those of its last batch.
    return is_found, start // plan.batch_size + (failed if failed >= 0 else -(-len(samples) // plan.batch_size) - 1)
