"""How far a computed value may be from the exact one."""

import numpy as np


def eps(dtype):
    """The distance from 1 to the next number of that dtype."""
    return float(np.finfo(dtype).eps)


def product_bound(a, b, dtype, extra=0):
    """K eps (|A| @ |B|), elementwise, for a product of inner size K, which holds for any order of summation.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, section 3.5. Half of
    it is the bound for a result in dtype, the other half leaves room for a float64 reference that rounds as well.
    """
    inner = a.shape[1] + extra
    return inner * eps(dtype) * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))


def assert_product(result, a, b):
    """Check the result of A @ B elementwise against the float64 product."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert result.shape == exact.shape
    assert_within(result, exact, product_bound(a, b, result.dtype))


def assert_within(result, exact, bound):
    """Check |result - exact| <= bound elementwise; NaN is never within."""
    error = np.abs(result.astype(np.float64) - exact)
    wrong = np.argwhere(~(error <= bound))
    assert not len(wrong), (
        f"{len(wrong)} of {error.size} elements off, the first at {tuple(wrong[0])}: "
        f"{result[tuple(wrong[0])]!r} instead of {exact[tuple(wrong[0])]!r}"
    )


def ulps(result, exact):
    """|result - exact| in units in the last place of the exact value in the dtype of the result, 0 where both agree.

    exact is float64 for a float32 result and may be longdouble for a float64 one. A result that overflowed is compared
    as the power of two that follows the largest finite number, which is what an infinity stands for in rounding.
    """
    info = np.finfo(result.dtype)
    wide = np.longdouble if exact.dtype == np.longdouble else np.float64
    top = wide(2) ** info.maxexp
    with np.errstate(all="ignore"):
        value, exact = result.astype(wide), exact.astype(wide)
        same = (
            (value == exact)
            | (np.isnan(value) & np.isnan(exact))
            | ((np.abs(exact) >= top) & (value == np.sign(exact) * wide(np.inf)))
        )
        value = np.where(np.isinf(value), np.sign(value) * top, value)
        exponent = np.frexp(np.where(np.isfinite(exact), exact, 0))[1]
        spacing = np.ldexp(wide(1), np.maximum(exponent, info.minexp + 1) - info.nmant - 1)
        return np.where(same, 0.0, np.abs(value - exact) / spacing).astype(np.float64)


def written(write, shape, dtype, gap=0):
    """What write(out) leaves in out, which starts as NaN, off the vector width, its rows gap elements apart.

    Nothing around out and between its rows may change.
    """
    mark, margin = 12345.0, 67
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    frame = np.full(rows * (columns + gap) + 2 * margin, mark, dtype)
    out = frame[margin:-margin].reshape(*shape[:-1], columns + gap)[..., :columns]
    out[...] = np.nan
    write(out)
    result = out.copy()
    out[...] = mark
    assert np.all(frame == mark), f"written outside out at {np.flatnonzero(frame != mark) - margin}"
    return result
