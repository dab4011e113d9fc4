"""``python -m fastnn COMMAND``, and the program ``fastnn``: see :mod:`fastnn.commands`."""

from .commands import main

if __name__ == "__main__":
    main()
