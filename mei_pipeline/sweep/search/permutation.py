"""A random order of the numbers 0 to n - 1, computed place by place without storing it.

A sample without replacement is its beginning. Memory depends only on the number of requested places. A place has the
same number however the places are split into chunks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints

_ROUNDS = 10  # as in the cipher FF1 of NIST SP 800-38G; on large domains four are enough

_U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Permutation:
    """A keyed permutation of 0 to n - 1.

    A balanced Feistel network permutes the least power of four that is at least n. A result of n or more is permuted
    again until it is below n, which takes less than four passes on average. The round function is the finaliser of
    splitmix64.

    Sources: Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002, method 2 ("cycle-walking cipher");
    Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.

    Attributes:
        n: Number of numbers, 1 to 2^62.
        key: Equal keys give equal permutations.
    """

    n: int
    key: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1 << 62:
            raise ValueError(f"Permutation: n is outside 1 to 2^62: {self.n}")

    def at(self, places: Ints) -> Ints:
        """Return the numbers at some places, each 0 to n - 1."""
        half = max(1, -(-(self.n - 1).bit_length() // 2))
        keys = np.random.SeedSequence(self.key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
        numbers = np.asarray(places).astype(np.uint64)
        too_large = np.arange(len(numbers))
        while len(too_large):
            numbers[too_large] = _pass(numbers[too_large], half, keys)
            too_large = too_large[numbers[too_large] >= np.uint64(self.n)]
        return numbers.astype(np.int64)


def _pass(values: _U64, half: int, keys: _U64) -> _U64:
    """Apply the Feistel network to values of two halves of `half` bits."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << bits) | right


def _mixed(values: _U64) -> _U64:
    """Return the finaliser of splitmix64; products are modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
