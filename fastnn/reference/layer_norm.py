"""Layer normalisation: each row less its mean, over its standard deviation, scaled and shifted unit by unit.

Source: J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv 1607.06450, 2016.
"""

import numpy as np


@np.errstate(all="ignore")
def layer_norm(x, weight, bias, eps, out):
    """out (m, n) = (x - mean) / √(variance + eps) weight + bias, row by row."""
    normed, _ = _normed(x, eps)
    np.copyto(out, normed * weight + bias)


@np.errstate(all="ignore")
def layer_norm_backward(dy, x, weight, bias, eps, dx, dweight, dbias):
    """dx (m, n), dweight and dbias (n,) from dy (m, n).

    With g = dy weight and x̂ the normed x, dx = (g - mean(g) - x̂ mean(g x̂)) / √(variance + eps).
    """
    normed, scale = _normed(x, eps)
    g = dy * weight
    along = (g * normed).mean(axis=1, keepdims=True)
    np.copyto(dx, (g - g.mean(axis=1, keepdims=True) - normed * along) * scale)
    np.copyto(dweight, (dy * normed).sum(axis=0))
    np.copyto(dbias, dy.sum(axis=0))


def _normed(x, eps):
    """The rows with mean 0 and, but for eps, variance 1; and what they were multiplied by."""
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    scale = (1 / np.sqrt(np.add(variance, eps, dtype=np.float64))).astype(x.dtype)  # in float32 eps may vanish
    return centred * scale, scale
