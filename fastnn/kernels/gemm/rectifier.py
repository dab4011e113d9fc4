"""max(x, slope x), which the epilogue of a product does to its tiles; here for rows that it cannot have done it to."""

from ..compiler.jit import inline
from ..simd.vector import lanes, load, load_part, select, splat, store, store_part
from ..simd.vectormath import apply


@inline
def vrelu(x):
    """The greater of x and 0."""
    return select(x < 0.0, 0.0, x)


@inline
def vleaky_relu(x, slope):
    """x where x > 0, else slope x."""
    return select(x > 0.0, x, x * slope)


@inline
def rectify(slope, x, out, n):
    """out[i] = x[i] where x[i] > 0, else slope x[i], for i < n."""
    if slope == 0.0:
        apply(vrelu, x, out, n)
    else:
        apply(vleaky_relu, x, out, n, slope)


@inline
def rectify_backward(slope, dy, y, out, n):
    """out[i] = dy[i] where y[i] > 0, else slope dy[i], for i < n."""
    width = lanes(y)
    for i in range(0, n, width):
        count = min(width, n - i)
        full = count == width
        d = load(dy, i) if full else load_part(dy, i, count, 0.0)
        v = load(y, i) if full else load_part(y, i, count, 0.0)
        other = d * slope if slope != 0.0 else splat(y, 0.0)
        d = select(v > 0.0, d, select(v != v, v, other))
        if full:
            store(out, i, d)
        else:
            store_part(out, i, count, d)
