"""Epochs update by update, for callbacks that are called after each: the same bits as those of whole epochs."""

from typing import TYPE_CHECKING, Any

from ..validation import Array

if TYPE_CHECKING:
    from ..model import Sequential
    from .compiled import Epoch
    from .plan import Plan


def heard(model: "Sequential", plan: "Plan", train: "Epoch") -> "Epoch":
    """Return what trains for an epoch and calls the ``after_batch`` of callbacks, ``train`` itself where none has one.

    A batch is what an update takes, ``accumulate`` of them where that is more than one.
    """
    listeners = [callback.after_batch for callback in plan.callbacks if hasattr(callback, "after_batch")]
    if not listeners:
        return train
    weight_of = getattr(train, "weight_of", plan.weight_of)
    begun = plan.optimizer.epoch

    def by_batches(order: Any, lr: float | Array, step: int) -> tuple[float, int]:
        total = samples = 0.0
        size, made = plan.batch_size * plan.accumulate, step - plan.optimizer.steps
        for update, start in enumerate(range(0, len(order), size)):
            part = order[start : start + size]
            own_lr = lr if isinstance(lr, float) else lr[update : update + 1]
            loss, failed = train(part, own_lr, step + update)
            if failed >= 0:
                return loss, update * plan.accumulate + failed
            share = weight_of(part)
            total, samples = total + share * loss, samples + share
            for listener in listeners:
                listener(model, plan.optimizer.epoch - begun + 1, made + update + 1, loss)
        return (total / samples if samples else 0.0), -1

    return by_batches
