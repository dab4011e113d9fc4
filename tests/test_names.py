"""The names that a user of fastnn sees."""

import fastnn as fnn


def test_only_public_names_are_listed():
    """Modules that fastnn is made of are there too, but not for completion at a prompt."""
    assert dir(fnn) == sorted(fnn.__all__)
    assert not [name for name in dir(fnn) if name.startswith("_")]
    assert all(hasattr(fnn, name) for name in [*dir(fnn), "__version__", "nn"])
