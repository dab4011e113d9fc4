"""The contenders that train many networks at once, one module each, which imports its library.

A module has a NAME and `Trainer(problem)`, with `prepare()`, `run()` and `layers(k)`, the layers of a network.
"""
