"""The same as `python -m fastnn overfitting`."""

from fastnn.commands import run

if __name__ == "__main__":
    run("overfitting")
