"""The same as `python -m fastnn search`."""

from fastnn.commands import run

if __name__ == "__main__":
    run("search")
