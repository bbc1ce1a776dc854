"""A random order of the numbers 0 to n - 1 that is computed place by place and never stored.

A sample without replacement is its first numbers. Memory is in proportion to the places that are asked for, whatever n
and the size of the sample are, and a place has the same number however the places are cut into chunks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints

_ROUNDS = 10  # as in the cipher FF1 of NIST SP 800-38G; four are indistinguishable from random on large domains

_U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Permutation:
    """A keyed permutation of 0 to n - 1.

    A balanced Feistel network permutes the least power of four that holds n; a result of n or more is sent through
    again until it is below n, which takes less than four passes on average. Source: Black and Rogaway, Ciphers with
    Arbitrary Finite Domains, CT-RSA 2002, method 2 ("cycle-walking cipher"). The round function is the finaliser of
    splitmix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).

    Attributes:
        n: How many numbers there are, 1 to 2^62.
        key: Equal keys give equal permutations.
    """

    n: int
    key: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1 << 62:
            raise ValueError(f"a permutation of {self.n} numbers; 1 to 2^62")

    def at(self, places: Ints) -> Ints:
        """The numbers at some places, each 0 to n - 1."""
        half = max(1, -(-(self.n - 1).bit_length() // 2))
        keys = np.random.SeedSequence(self.key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
        found = np.asarray(places).astype(np.uint64)
        astray = np.arange(len(found))
        while len(astray):
            found[astray] = _pass(found[astray], half, keys)
            astray = astray[found[astray] >= np.uint64(self.n)]
        return found.astype(np.int64)


def _pass(values: _U64, half: int, keys: _U64) -> _U64:
    """The Feistel network on values of two halves of `half` bits."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << bits) | right


def _mixed(values: _U64) -> _U64:
    """The finaliser of splitmix64; products are taken modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
