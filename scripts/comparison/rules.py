"""The update rules of the contenders, and their settings, which are the same for all."""

from typing import Any

RULES = SGD, MOMENTUM, NESTEROV, ADAM, ADAMW, RMSPROP, CLIPPED = (
    *("SGD", "momentum", "Nesterov", "Adam", "AdamW"),
    *("RMSprop", "SGD, clipped"),
)
# How many numbers a rule keeps for each parameter.
MOMENTS = {SGD: 0, MOMENTUM: 1, NESTEROV: 1, ADAM: 2, ADAMW: 2, RMSPROP: 1, CLIPPED: 0}
# What a step leaves of a moment: of a velocity or of Adam's first, of Adam's second; and what is added to its root.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
# Of which AdamW takes lr times as much from each weight of a product, after the gradient and before the step.
WEIGHT_DECAY = 0.1
# What a step of RMSprop leaves of its moment.
ALPHA = 0.99
# The greatest norm of the gradient of all parameters, penalty included, where it is clipped.
CLIP_NORM = 0.1


def adam_rate(lr: float, t: Any) -> tuple[Any, Any]:
    """The rate and the eps of Adam's step number t, which correct that its moments started at zero.

    Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, section 2. t is a number of any library.
    """
    root = (1 - BETA2**t) ** 0.5
    return lr * root / (1 - BETA1**t), EPS * root


def clip_factor(norm: Any) -> Any:
    """What a gradient of this norm is multiplied by, where that is less than 1; a number of any library."""
    return CLIP_NORM / (norm + 1e-6)
