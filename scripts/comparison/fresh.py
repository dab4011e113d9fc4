"""What a contender does in a process of its own; one line of JSON comes out.

`python fresh.py epoch KEY DATA.npz` trains once through the samples and says when it was done.
`python fresh.py memory KEY DTYPE ROWS` says by how many bytes training raised the peak of the process over what it held
before: the library, the samples, and whatever a first training on one batch had left behind.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

import peers
from comparison.problems import Layers, Network, Problem

DIGITS = Network((64, 128, 10), batch=32, steps=56)
WIDE = Network((784, 256, 10), batch=128, steps=1)


def in_fresh_process(
    *arguments: str, environment: Mapping[str, str] | None = None, script: str = __file__
) -> dict[str, Any]:
    """What a script says to these arguments, in a fresh process.

    Raises
    ------
    RuntimeError
        If it fails, with the last line of what it had to say.
    """
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(script).name} {' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def epoch(key: str, path: str) -> dict[str, float]:
    """The time of day at the end of the first epoch, and the loss then."""
    with np.load(path) as data:
        problem = Problem(DIGITS, data["x"], data["y"])
    layers = trained(key, problem)
    done = time.time()
    return {"done": done, "loss": problem.objective(layers)}


def memory(key: str, dtype: str, rows: str) -> dict[str, float]:
    """The bytes that training took beyond those before, those of the samples, and the loss."""
    m = WIDE.batch
    x = aligned((int(rows), WIDE.widths[0]), dtype)
    np.random.default_rng(0).random(dtype=x.dtype, out=x)
    problem = Problem(replace(WIDE, steps=len(x) // m), x, np.arange(len(x)) % WIDE.widths[-1])
    trained(key, Problem(WIDE, x[:m], problem.y[:m]))
    before = resident("VmRSS")
    # From here on Linux counts the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    layers = trained(key, problem)
    return {"bytes": resident("VmHWM") - before, "x": x.nbytes, "loss": problem.objective(layers)}


def trained(key: str, problem: Problem) -> Layers:
    """The layers after an epoch."""
    trainer = peers.load_one(key).Trainer(problem)
    trainer.prepare()
    trainer.run()
    return trainer.layers()


def aligned(shape: tuple[int, int], dtype: str) -> NDArray:
    """An empty array at a multiple of 64 bytes, which JAX then uses without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size].view(dtype).reshape(shape)


def resident(name: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    print(json.dumps({"epoch": epoch, "memory": memory}[sys.argv[1]](*sys.argv[2:])))
