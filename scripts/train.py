"""The same as `python -m fastnn train`."""

from fastnn.commands import run

if __name__ == "__main__":
    run("train")
