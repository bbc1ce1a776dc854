"""The ends of symbols: bars that stop for good, because the symbol was delisted or because nothing came any more."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints

ENDED_AFTER_MS = 7 * 86_400_000
"""A symbol without a bar in the last seven days of a book has ended; one that lags by less is only not ingested yet."""

EndingReason = Literal["delisted", "no bars"]


@dataclass(frozen=True)
class Ending:
    """The end of a symbol.

    Attributes:
        symbol: Index of the symbol.
        step: Its last step with a bar, at whose close its position is closed.
        why: `delisted` where the instrument says so, `no bars` where its bars end well before those of the others.
    """

    symbol: int
    step: int
    why: EndingReason


def endings_of(
    present: NDArray[np.bool_], open_ms: Ints, step_ms: int, delisted_ms: Iterable[tuple[int, int]]
) -> tuple[Ending, ...]:
    """Find the symbols that end within a grid of steps.

    Args:
        present: [T, S] whether a symbol has a bar.
        open_ms: [T] open time of each step.
        step_ms: Length of a step.
        delisted_ms: Index of a symbol and the time of its delisting, in UTC milliseconds; in any order, and several
            times where a symbol was listed again.

    Returns:
        Endings by step, then by symbol. A delisting after the last step of all symbols is not in them.
    """
    there = np.flatnonzero(present.any(axis=1))
    if not len(there):
        return ()
    end_ms = int(open_ms[there[-1]]) + step_ms
    found: dict[tuple[int, int], EndingReason] = {}
    for s in range(present.shape[1]):
        own = np.flatnonzero(present[:, s])
        if len(own) and end_ms - (int(open_ms[own[-1]]) + step_ms) >= ENDED_AFTER_MS:
            found[int(own[-1]), s] = "no bars"
    for s, time_ms in delisted_ms:
        own = np.flatnonzero(present[:, s] & (open_ms < time_ms))
        if len(own) and time_ms <= end_ms:
            found[int(own[-1]), s] = "delisted"
    return tuple(Ending(s, step, why) for (step, s), why in sorted(found.items()))
