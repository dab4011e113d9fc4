"""The sections of `compare.py` and `compare_sklearn.py`: what each measures, and the tables that it makes of it."""
