"""Vectors as a Numba type, their bits, random bits, exp and its kin."""
