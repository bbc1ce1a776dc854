"""Random numbers that are equal on every machine and version of numpy, so that a resumed sweep repeats them."""

import numpy as np
from numpy.typing import NDArray

_BITS = 16

Words = NDArray[np.uint16]


def stream(seed: int) -> np.random.PCG64:
    """Return a stream of random bits.

    numpy guarantees the raw output of a bit generator across versions, but not the methods of `numpy.random.Generator`
    (NEP 19).
    """
    return np.random.PCG64(np.random.SeedSequence(seed))


def words(bits: np.random.PCG64, shape: tuple[int, ...]) -> Words:
    """Return uniform integers below 65,536 of any shape."""
    count = int(np.prod(shape))
    drawn = np.asarray(bits.random_raw(-(-count * _BITS // 64))).astype("<u8").view("<u2")
    return drawn[:count].reshape(shape).astype(np.uint16, copy=False)


def below(bits: np.random.PCG64, limit: int, count: int) -> NDArray[np.int64]:
    """Return `count` integers from 0 to `limit` - 1, for a limit of at most a million.

    The bias is less than one in 4,000.
    """
    drawn = np.asarray(bits.random_raw(-(-count // 2))).astype("<u8").view("<u4")[:count]
    return ((drawn.astype(np.uint64) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)
