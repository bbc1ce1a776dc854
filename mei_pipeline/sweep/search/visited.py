"""The numbers of the combos that a search has taken, so that none is taken twice."""

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints

_RECENT_PART = 8


class Known:
    """A growing set of numbers in sorted arrays, 8 bytes each.

    The numbers that came last are an array of their own, so that adding a batch does not copy all of the others.
    """

    def __init__(self) -> None:
        self._old = self._recent = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._old) + len(self._recent)

    def add(self, numbers: Ints) -> None:
        """Add numbers that are not in it."""
        self._recent = np.sort(np.concatenate([self._recent, numbers]))
        if len(self._recent) * _RECENT_PART > len(self._old):
            self._old = np.sort(np.concatenate([self._old, self._recent]))
            self._recent = np.zeros(0, dtype=np.int64)

    def has(self, numbers: Ints) -> NDArray[np.bool_]:
        """Whether each of some numbers is in it."""
        return _among(self._old, numbers) | _among(self._recent, numbers)


def new(numbers: Ints, known: Known, taken: Ints) -> Ints:
    """The numbers that are neither known nor taken, each once, in their order.

    Args:
        numbers: Numbers of which some may be equal.
        known: Numbers of earlier batches.
        taken: Numbers of this batch.
    """
    ordered, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first[~(known.has(ordered) | _among(np.sort(taken), ordered))])]


def _among(ordered: Ints, numbers: Ints) -> NDArray[np.bool_]:
    place = np.searchsorted(ordered, numbers)
    inside = place < len(ordered)
    found = np.zeros(len(numbers), dtype=np.bool_)
    found[inside] = ordered[place[inside]] == numbers[inside]
    return found
