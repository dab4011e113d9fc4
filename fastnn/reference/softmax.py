"""Softmax, log-softmax and log-sum-exp over the rows of scores (m, k), the maximum subtracted first.

Source: P. Blanchard, D. J. Higham and N. J. Higham, Accurately computing the log-sum-exp and softmax functions,
IMA J. Numer. Anal. 41(4), 2021: the shifted forms, and softmax by division.
"""

import numpy as np


def softmax(s, out):
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    with np.errstate(invalid="ignore"):
        e = np.exp(s - s.max(axis=1, keepdims=True))
        np.copyto(out, e / e.sum(axis=1, keepdims=True))


def log_softmax(s, out):
    """log P (m, k) = (s - max) - log Σ e^(s - max)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = s - _finite_max(s)
        np.copyto(out, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def logsumexp(s, out):
    """out (m,) = max + log Σ e^(s - max)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = _finite_max(s)
        np.copyto(out, np.log(np.exp(s - largest).sum(axis=1)) + largest[:, 0])


def _finite_max(s):
    """The row maximum (m, 1), or 0 where it is infinite, so that inf - inf never arises from the shift."""
    largest = s.max(axis=1, keepdims=True)
    return np.where(np.isinf(largest), s.dtype.type(0), largest)
