"""Twins by their names: those of fastnn, and those that a user's names bring along."""


class Registry(dict):
    """What stands behind each name of fastnn's; behind any other, what ``make`` makes of it."""

    def __missing__(self, name):
        return self.make(name)
