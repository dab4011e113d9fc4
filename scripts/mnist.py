"""The same as `python -m fastnn mnist`."""

from fastnn.commands import run

if __name__ == "__main__":
    run("mnist")
