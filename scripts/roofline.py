"""The same as `python -m fastnn roofline`."""

from fastnn.commands import run

if __name__ == "__main__":
    run("roofline")
