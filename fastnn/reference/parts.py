"""Products of float32 matrices from parts of bfloat16, as a matrix unit computes them; the sums in float64, unrounded.

G. Henry, P. T. P. Tang and A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for higher-precision
computations, ARITH 2019.
"""

import numpy as np


def split(x, parts):
    """The parts of x, each what is left of it, rounded to the 8 digits of a bfloat16; three are all of x."""
    result, rest = [], x
    for _ in range(parts):
        bits = rest.view(np.uint32) + np.uint32(0x8000)
        result.append((bits & np.uint32(0xFFFF0000)).view(np.float32))
        rest = rest - result[-1]
    return result


def product_of_parts(a, b, parts):
    """A B (m, n) without the products of parts that are too small to count: Σ A_i B_j over i + j < parts."""
    a_parts, b_parts = ([part.astype(np.float64) for part in split(x, parts)] for x in (a, b))
    return sum(a_parts[i] @ b_parts[j] for i in range(parts) for j in range(parts - i))
