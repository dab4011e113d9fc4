"""``python -m fastnn.warmup [float32] [float64]`` compiles the kernels for this CPU, once and for all.

Imported, it is the function: ``fnn.warmup`` means the same before and after ``import fastnn.warmup``.
"""

import sys

from .tools.warmup import warmup

if __name__ == "__main__":
    from .commands import run

    run("warmup", program="python -m fastnn.warmup")
else:
    sys.modules[__name__] = warmup  # type: ignore[assignment]
