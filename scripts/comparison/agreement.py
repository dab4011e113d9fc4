"""All contenders do the same work: their losses agree, or the comparison stops."""

from collections.abc import Mapping

import peers

# How far the losses of two contenders may be apart, relatively: in float32 an epoch of Adam makes 1e-3 of what is
# rounded otherwise, as by a BLAS on another number of threads.
TOLERANCE = {"float32": 3e-3, "float64": 1e-9}


def check(
    losses: Mapping[str, float], dtype: str, what: str, tolerance: float | None = None, least: float = 0.0
) -> None:
    """Compare each final loss with fastnn's, within a tolerance relative to it, or to `least` where it is smaller.

    Raises
    ------
    ValueError
        If one differs; the message names the contender.
    """
    ours, tolerance = losses[peers.OURS], tolerance or TOLERANCE[dtype]
    wrong = [
        f"{name} reached the loss {loss:.10g}"
        for name, loss in losses.items()
        if not abs(loss - ours) <= tolerance * max(abs(ours), least)
    ]
    if wrong:
        raise ValueError(
            f"{what}, {dtype}: {', '.join(wrong)}, but fastnn {ours:.10g}: they must agree within {tolerance:g}, or "
            "they do not do the same work"
        )
