"""Matrix products and the linear layer y = x w + b."""

import numpy as np


@np.errstate(all="ignore")
def matmul(a, b, out):
    """out (m, n) = a (m, k) b (k, n); a and b may have any strides."""
    np.matmul(a, b, out=out)


@np.errstate(all="ignore")
def linear(x, w, b, out):
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
    np.matmul(x, w, out=out)
    out += b


@np.errstate(all="ignore")
def linear_backward(dy, x, w, l2, dx, dw, db):
    """dx (m, d) = dy wᵀ unless dx is None, dw (d, k) = xᵀ dy + 2 l2 w, db (k,) = Σ_rows dy, from dy (m, k)."""
    if dx is not None:
        np.matmul(dy, w.T, out=dx)
    np.matmul(x.T, dy, out=dw)
    if l2 != 0.0:
        dw += w.dtype.type(2.0 * l2) * w
    np.sum(dy, axis=0, out=db)
