"""exp, log, tanh, erf and their kin of a vector, branch-free; Numba has no vectorised ones of its own.

exp and log reduce the argument by powers of two and finish with a polynomial (J.-M. Muller, Elementary Functions,
3rd edition, 2016, chapter 11). exp and log stay within 1 ulp, erf within 2, tanh, sigmoid,
expm1 and log1p within 4.
"""

import numpy as np

from ..compiler.cpu import ISA
from ..compiler.jit import inline, kernel
from .bits import constant, exponent, mantissa, polynomial, scale
from .vector import (
    absolute,
    copysign,
    data,
    fma,
    itemsize,
    lanes,
    load,
    load_part,
    reduce_add,
    root_estimate,
    select,
    splat,
    sqrt,
    store,
    store_part,
)


@inline
def sum_of(x, n):
    """Σ x[i] for i < n: every lane in order, and then over the lanes."""
    width = lanes(x)
    total = splat(x, 0.0)
    i = 0
    while i + width <= n:
        total = total + load(x, i)
        i += width
    if i < n:
        total = total + load_part(x, i, n - i, 0.0)
    return reduce_add(total)


@inline
def divide(e, total, inverse):
    """e / total, correctly rounded but for rare cases: q = e inverse, then q + (e - q total) inverse."""
    q = e * inverse
    return fma(fma(q, total * -1.0, e), inverse, q)


@inline
def vexp(x):
    """e^x: x = n ln 2 + r, e^x = 2^n e^r."""
    x = select(x > constant(x, "exp_most"), constant(x, "exp_most"), x)
    return vexp_nonpositive(x)


@inline
def vexp_nonpositive(x):
    """e^x for x that is known to be no more than a little above 0: no test for overflow.

    Below the range the result is put to 0, not computed: a CPU takes a hundred cycles for a result that underflows.
    """
    vanishes = x < constant(x, "exp_least")
    x = select(vanishes, 0.0, x)
    n = fma(x, constant(x, "log2_e"), constant(x, "round")) - constant(x, "round")
    return select(vanishes, 0.0, scale(_expm1(_reduced(x, n)) + 1.0, n))


@inline
def _reduced(x, n):
    """x - n ln 2."""
    return fma(n, constant(x, "ln2_low") * -1.0, fma(n, constant(x, "ln2_high") * -1.0, x))


@inline
def _expm1(r):
    """e^r - 1 for |r| <= ln(2)/2."""
    return fma(r * r, polynomial(r, "exp"), r)


@inline
def vlog(x):
    """log x: x = 2^n m, s = (m - 1)/(m + 1), log x = n ln 2 + log((1 + s)/(1 - s))."""
    tiny = x < constant(x, "smallest_normal")
    normal = select(tiny, x * constant(x, "mantissa_scale"), x)
    n = exponent(normal) - select(tiny, constant(x, "mantissa_bits"), 0.0)
    f = mantissa(normal) - 1.0
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    tail = fma(s, fma(z, polynomial(z, "log"), half), n * constant(x, "ln2_low"))
    result = fma(n, constant(x, "ln2_high"), f - (half - tail))
    result = select(x < constant(x, "infinity"), result, x)
    result = select(x > 0.0, result, constant(x, "nan"))
    return select(x == 0.0, constant(x, "infinity") * -1.0, result)


@inline
def vexpm1(x):
    """e^x - 1 as 2 (2^(n-1) e^r - 1/2), which keeps its digits near 0 and overflows no earlier than the result."""
    x = select(x > constant(x, "exp_most"), constant(x, "exp_most"), select(x < -40.0, -40.0, x))
    n = fma(x, constant(x, "log2_e"), constant(x, "round")) - constant(x, "round")
    power = scale(constant(x, "one"), n - 1.0)
    return fma(power, _expm1(_reduced(x, n)), power - 0.5) * 2.0


@inline
def vlog1p(x):
    """log(1 + x) as x log u / (u - 1) with u the rounded 1 + x, which keeps the digits of a small x.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, section 1.14.1.
    """
    u = x + 1.0
    return select(u == 1.0, x, select(x == np.inf, x, vlog(u) * (x / (u - 1.0))))


@inline
def vlog1p_of_share(e):
    """log(1 + e) for 0 <= e <= 1, such as e^-|x|, as log((1 + s)/(1 - s)) with s = e/(2 + e), here t/2."""
    t = e * 2.0 / (e + 2.0)
    z = t * t * 0.25
    return fma(t * z, polynomial(z, "log1p_of_share"), t)


@inline
def vtanh(x):
    """tanh x = t/(t + 2) with t = e^2|x| - 1, which keeps its digits near 0."""
    y = absolute(x) * 2.0
    y = select(y > constant(x, "tanh_most"), constant(x, "tanh_most"), y)
    n = fma(y, constant(x, "log2_e"), constant(x, "round")) - constant(x, "round")
    power = scale(constant(x, "one"), n)
    t = fma(power, _expm1(_reduced(y, n)), power - 1.0)
    return copysign(t / (t + 2.0), x)


@inline
def vsigmoid(x):
    """1/(1 + e^-x), as e^x/(1 + e^x) for negative x, so that e is never raised to a positive power."""
    e = vexp_nonpositive(absolute(x) * -1.0)
    return select(x < 0.0, e, 1.0) / (e + 1.0)


@inline
def vnormal_tail(x):
    """(m, e) with e = e^(-x²/2) and m e = Φ(-|x|), the tail of the normal distribution, as exact in any part of it.

    m is a rational function, as in W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of
    Computation 23, 1969. The rounding error of x²/2 would come out x²/2 times as large, so it is taken back.
    """
    a = absolute(x)
    vanishes = a > constant(x, "tail_most")
    a = select(vanishes, 0.0, a)
    square = a * a
    half = square * -0.5
    n = fma(half, constant(x, "log2_e"), constant(x, "round")) - constant(x, "round")
    r = fma(_square_error(a, square), -0.5, _reduced(half, n))
    e = select(vanishes, 0.0, scale(_expm1(r) + 1.0, n))
    return polynomial(a, "tail_above") / polynomial(a, "tail_below"), e


@inline
def _fused_square_error(a, square):
    return fma(a, a, square * -1.0)


@inline
def _split_square_error(a, square):
    """With a to half its digits as z, z² is exact, and a² - z² = (a - z)(a + z)."""
    z = (a + constant(a, "tail_round")) - constant(a, "tail_round")
    return fma(a - z, a + z, z * z - square)


# a² - square, what rounding took from the square.
_square_error = _fused_square_error if ISA.fuses else _split_square_error


@inline
def verf(x):
    """erf x = x + x q(x²) for |x| < 1, and 1 - 2 Φ(-√2 |x|) beyond, where few digits of Φ count."""
    m, e = vnormal_tail(x * constant(x, "root_2"))
    beyond = copysign(fma(m * -2.0, e, 1.0), x)
    return select(absolute(x) < 1.0, fma(x, polynomial(x * x, "erf"), x), beyond)


@inline
def _refined_sqrt(x, like):
    """√x by Goldschmidt's iteration: s tends to √x and h to 1 / (2 √x), while 1/2 - h s has no reason to underflow."""
    root = root_estimate(x)
    s, h = x * root, root * 0.5
    for _ in range(2 if itemsize(like) == 8 else 1):
        error = fma(h * -1.0, s, splat(like, 0.5))
        s, h = fma(s, error, s), fma(h, error, h)
    s = fma(fma(s * -1.0, s, x), h, s)
    return select(x == 0.0, x, select(x == np.inf, x, s))


@inline
def _plain_sqrt(x, like):
    return sqrt(x)


# √x to the last bit or the one before, for x with the dtype of what ``like`` points to. Where the CPU estimates 1 / √x
# this keeps the divider free for a division beside it: together they took 22 cycles a vector of float32.
vsqrt = _refined_sqrt if ISA.estimates else _plain_sqrt


@inline
def apply(function, x, out, n, *parameters):
    """out[i] = function(x[i], *parameters) for i < n."""
    width = lanes(x)
    i = 0
    while i + width <= n:
        store(out, i, function(load(x, i), *parameters))
        i += width
    if i < n:
        store_part(out, i, n - i, function(load_part(x, i, n - i, 0.0), *parameters))


@kernel
def exp(x, out):
    """out (n,) = e^x."""
    apply(vexp, data(x), data(out), x.size)


@kernel
def log(x, out):
    """out (n,) = log x."""
    apply(vlog, data(x), data(out), x.size)


@kernel
def root(x, out):
    """out (n,) = √x."""
    apply(vsqrt, data(x), data(out), x.size, data(x))


@kernel
def erf(x, out):
    """out (n,) = erf x."""
    apply(verf, data(x), data(out), x.size)
