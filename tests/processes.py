"""Code run in a Python process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(code, package=ROOT, **environment):
    """Start a process that imports fastnn from the folder ``package``; a variable of None leaves its environment."""
    variables = {name: str(value) for name, value in {**os.environ, **environment}.items() if value is not None}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], cwd=package, env=variables, text=True, **pipes)


def finish(process, timeout=120):
    """Wait for a process, which must end well, and return what it printed and what it said on stderr."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, f"status {process.returncode}\n{out}\n{err}"
    return out, err


def run(code, package=ROOT, **environment):
    """Run a process to its end; see ``start`` and ``finish``."""
    return finish(start(code, package, **environment))
