"""Cold start: imports, and a fresh process to the end of its first epoch on the digits, caches empty and primed."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastnn as fnn
import peers
from comparison.agreement import check
from comparison.fresh import DIGITS, in_fresh_process
from comparison.settings import Settings, say
from comparison.tables import advantage, contenders, ratio
from fastnn.commands import measure

# fastnn leaves Numba to the first call, so the import of its kernels has a row of its own.
IMPORTS = {
    "numpy": "numpy",
    "numba": "numba",
    "fastnn": "fastnn",
    "fastnn.kernels": "fastnn.kernels",
    "sklearn": "sklearn.neural_network",
    "jax": "jax",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
}
MOST_ROUNDS = 5
OUR_IMPORTS = ("numba", "fastnn", "fastnn.kernels")
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of each import, and of each first epoch in each dtype."""
    settings = replace(settings, rounds=min(settings.rounds, MOST_ROUNDS))
    return [measure_imports(settings), *(measure_epochs(dtype, settings) for dtype in settings.dtypes)]


def measure_imports(settings: Settings) -> dict:
    """The median of each import, in turns."""
    chosen = [name for name in IMPORTS if name in (*settings.peers, *OUR_IMPORTS)]
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(settings.rounds + 1):
        for name in chosen:
            command = [sys.executable, "-c", IMPORT.format(IMPORTS[name])]
            done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=True)
            times[name].append(float(done.stdout))
    # The first of each may have read its files from the disk.
    seconds = {IMPORTS[name]: statistics.median(each[1:]) for name, each in times.items()}
    say(f"start, import: s: {', '.join(f'{name} {time:.2f}' for name, time in seconds.items())}")
    return {"kind": "import", "seconds": seconds}


def measure_epochs(dtype: str, settings: Settings) -> dict:
    """From the start of the process to the end of the epoch: with empty caches, and the best with primed ones."""
    modules = peers.load(settings.peers, "Trainer")
    empty: dict[str, float] = {}
    primed: dict[str, float] = {}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        m = DIGITS.batch * DIGITS.steps
        x, y = fnn.datasets.load_digits(dtype)
        np.savez(path, x=x[:m], y=y[:m])
        environment = os.environ | ({} if settings.quick else caches(Path(folder)))
        for turn in range(settings.rounds + 1):
            for module in modules:
                name, start = module.NAME, time.time()
                result = in_fresh_process("epoch", peers.key_of(module), str(path), environment=environment)
                seconds = result["done"] - start
                if turn == 0:
                    empty[name], losses[name] = seconds, result["loss"]
                    say(f"start, {dtype}, {name}: {seconds:.2f} s with empty caches")
                else:
                    primed[name] = min(primed.get(name, seconds), seconds)
    check(losses, dtype, "first epoch on the digits")
    say(f"start, {dtype}, primed caches: s: {', '.join(f'{name} {time:.2f}' for name, time in primed.items())}")
    return {"kind": "epoch", "dtype": dtype, "seconds": primed, "empty": empty, "losses": losses}


def caches(folder: Path) -> dict[str, str]:
    """Where every contender that can keep compiled code on disk does so."""
    return {
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def tables(records: list[dict]) -> str:
    """The imports, over Numba's too, and the first epochs."""
    (imports,) = [record["seconds"] for record in records if record["kind"] == "import"]
    rows = [(name, f"{time:.2f}", f"{time - imports['numba']:+.2f}") for name, time in imports.items()]
    parts = ["Import, s, median.", measure.markdown(["import", "s", "over numba"], rows)]
    epochs = [record for record in records if record["kind"] == "epoch"]
    names = contenders(epochs)
    rows = []
    for record in epochs:
        for caches, seconds in (("primed", record["seconds"]), ("empty", record["empty"])):
            cells = [f"{seconds[name]:.2f}" for name in names]
            rows.append([record["dtype"], caches, *cells, ratio(advantage(seconds), 1.0)])
    title = (
        "From the start of a process to the end of its first epoch, 64-128-10 on the digits, s; with empty caches once."
    )
    return "\n\n".join([*parts, title, measure.markdown(["first epoch", "caches", *names, "times as fast"], rows)])
