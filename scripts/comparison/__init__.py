"""The sections of `compare.py`: what each measures, and the tables that it makes of it."""
