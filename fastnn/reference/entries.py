"""The quick ways into compiled functions, of which the twin has none."""


class _Nothing:
    """Takes any name for that of a function which leaves its work to others."""

    def __getattr__(self, name):
        return _nothing


def _nothing(*arguments):
    """What an entry gives that has changed nothing."""


quick = _Nothing()
