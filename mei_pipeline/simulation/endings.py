"""Ends of symbols: the last bar before a delisting, or before bars stop for another reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints
from mei_pipeline.candles.intervals import DAY_MS

ENDED_AFTER_MS = 7 * DAY_MS
"""A symbol without a bar in the last seven days of a book has ended. A shorter lag is taken for a late ingest."""

EndingReason = Literal["delisted", "no bars"]


@dataclass(frozen=True)
class Ending:
    """The end of a symbol.

    Attributes:
        symbol: Index of the symbol.
        step: Its last step with a bar, at whose close its position is closed.
        why: `delisted` if the instrument was delisted; `no bars` if its bars end long before those of other symbols.
    """

    symbol: int
    step: int
    why: EndingReason


def endings_of(
    present: NDArray[np.bool_], open_ms: Ints, step_ms: int, delisted_ms: Iterable[tuple[int, int]]
) -> tuple[Ending, ...]:
    """Return the symbols that end within a grid of steps.

    Args:
        present: [T, S] True where a symbol has a bar.
        open_ms: [T] open time of each step.
        step_ms: Length of a step.
        delisted_ms: Pairs of a symbol's index and the time of its delisting, in UTC milliseconds and any order. A
            symbol that was listed again may have several.

    Returns:
        Endings sorted by step, then by symbol; without delistings after the last step of all symbols.
    """
    with_bars = np.flatnonzero(present.any(axis=1))
    if not len(with_bars):
        return ()
    end_ms = int(open_ms[with_bars[-1]]) + step_ms
    endings: dict[tuple[int, int], EndingReason] = {}
    for s in range(present.shape[1]):
        own = np.flatnonzero(present[:, s])
        if len(own) and end_ms - (int(open_ms[own[-1]]) + step_ms) >= ENDED_AFTER_MS:
            endings[int(own[-1]), s] = "no bars"
    # A delisting replaces the reason "no bars" of the same step.
    for s, time_ms in delisted_ms:
        own = np.flatnonzero(present[:, s] & (open_ms < time_ms))
        if len(own) and time_ms <= end_ms:
            endings[int(own[-1]), s] = "delisted"
    return tuple(Ending(s, step, why) for (step, s), why in sorted(endings.items()))
