"""Softmax, log-softmax and log-sum-exp over the rows of scores (m, k), the maximum subtracted first.

Source: P. Blanchard, D. J. Higham and N. J. Higham, Accurately computing the log-sum-exp and softmax functions,
IMA J. Numer. Anal. 41(4), 2021: the shifted forms, and softmax by division.
"""

import numpy as np


@np.errstate(all="ignore")
def softmax(s, out):
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    e = np.exp(s - s.max(axis=1, keepdims=True, initial=-np.inf))
    np.copyto(out, e / e.sum(axis=1, keepdims=True))


@np.errstate(all="ignore")
def log_softmax(s, out):
    """log P (m, k) = (s - max) - log Σ e^(s - max)."""
    shifted = s - finite_max(s)
    np.copyto(out, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


@np.errstate(all="ignore")
def logsumexp(s, out):
    """out (m,) = max + log Σ e^(s - max), -inf for a row without columns."""
    largest = finite_max(s)
    np.copyto(out, np.log(np.exp(s - largest).sum(axis=1)) + largest[:, 0])


def finite_max(s):
    """The row maximum (m, 1), or 0 where it is infinite, so that inf - inf never arises from the shift."""
    largest = s.max(axis=1, keepdims=True, initial=-np.inf)
    return np.where(np.isinf(largest), s.dtype.type(0), largest)
