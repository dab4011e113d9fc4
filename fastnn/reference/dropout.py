"""Dropout: the mask is a hash of its place, so that any thread, and any later pass, finds it without storing it.

Source: N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 15, 2014, scaled
in training ("inverted"). Rows are hashed by the finaliser of SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, Fast
splittable pseudorandom number generators, OOPSLA 2014), the elements of a row by the 32-bit hash lowbias32
(C. Wellons, Hash Prospector, 2018).
"""

import numpy as np

_MASK = 2**64 - 1


def dropout(x, rate, key, out):
    """out (m, n) = x / (1 - rate) with probability 1 - rate, else 0."""
    scale = x.dtype.type(1 / (1 - rate))
    np.copyto(out, np.where(keeps(key, *x.shape, rate), x * scale, x.dtype.type(0)))


def keeps(key, m, n, rate):
    """The mask (m, n) of what is kept: 32 hashed bits, as a fraction of 2^32, are at least the rate."""
    rows = np.array([mix(key + i) >> 32 for i in range(m)], np.uint32)
    h = rows[:, None] + np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h >= np.uint32(rate * 2**32)


def key_of(seed, t, i):
    """The key of op i in update t of a network with this seed."""
    return mix(seed + mix((t << 16) + i))


def mix(z):
    """The finaliser of SplitMix64 after one step of its counter, modulo 2^64."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)
