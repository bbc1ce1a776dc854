"""The market of the exchange simulator: coins with their bars, funding and terms over time."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mei_pipeline.candles.intervals import HOUR_MS, interval_ms
from mei_pipeline.hyperliquid.simulator.noise import mixed

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
"""Columns of `StoredBars.values`."""


@dataclass(frozen=True)
class StoredBars:
    """All bars of a coin and interval, oldest first.

    Attributes:
        interval: The interval.
        open_ms: [N] open times, UTC milliseconds.
        values: [N, 5] open, high, low, close and volume in coins.
        trades: [N] numbers of trades; 0 if unknown.
    """

    interval: str
    open_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    trades: npt.NDArray[np.int64]

    @cached_property
    def length_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return interval_ms(self.interval)

    @cached_property
    def end_ms(self) -> int:
        """End of the last bar, UTC milliseconds."""
        return int(self.open_ms[-1]) + self.length_ms

    def index_at(self, time_ms: int) -> int:
        """Return the index of the last bar that opens at or before a time; -1 if there is none."""
        return int(self.open_ms.searchsorted(time_ms, side="right")) - 1


class CoinTerms(NamedTuple):
    """Terms of a coin from a time on.

    Attributes:
        from_ms: Time from which they hold, UTC milliseconds.
        size_decimals: Decimals of sizes.
        max_leverage: Maximum leverage.
        tier_leverage: Leverage of the first tier of its margin table: half of its inverse is the maintenance margin.
        delisted_ms: Time of the delisting; None if it goes on.
    """

    from_ms: int
    size_decimals: int
    max_leverage: int
    tier_leverage: int
    delisted_ms: int | None = None


@dataclass(frozen=True)
class FundingStamps:
    """Funding of a coin, oldest first.

    Attributes:
        time_ms: Stamps of the venue, UTC milliseconds.
        due_ms: Full hours at which the payments fell due.
        rates: Rates of the payments.
        premiums: Premiums; None if unknown.
    """

    time_ms: tuple[int, ...] = ()
    due_ms: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    premiums: tuple[float | None, ...] = ()

    @cached_property
    def _by_hour(self) -> Mapping[int, int]:
        return {due_ms: index for index, due_ms in enumerate(self.due_ms)}

    def next_rate(self, now_ms: int) -> float:
        """Return the rate that falls due at the end of the present hour; 0 if there is none."""
        index = self._by_hour.get(now_ms // HOUR_MS * HOUR_MS + HOUR_MS)
        return 0.0 if index is None else self.rates[index]


@dataclass(frozen=True)
class SimulatedCoin:
    """A perpetual of the exchange simulator.

    Attributes:
        name: Its name.
        seed: Seed of its quotes.
        terms: Its terms, oldest first; the first ones hold from the beginning.
        bars: Its bars by interval, finest first; at least one interval.
        funding: Its funding.
    """

    name: str
    seed: int
    terms: tuple[CoinTerms, ...]
    bars: Mapping[str, StoredBars]
    funding: FundingStamps = FundingStamps()

    @cached_property
    def finest(self) -> StoredBars:
        """Bars of the finest interval, whose path the quotes follow."""
        return next(iter(self.bars.values()))

    def terms_at(self, now_ms: int) -> CoinTerms:
        """Return the terms in force at a time."""
        return self.terms[max(0, bisect_right(self.terms, now_ms, key=lambda each: each.from_ms) - 1)]

    def is_delisted(self, now_ms: int) -> bool:
        """Return True if the coin is delisted at a time."""
        delisted_ms = self.terms_at(now_ms).delisted_ms
        return delisted_ms is not None and delisted_ms <= now_ms

    def is_quoted(self, now_ms: int) -> bool:
        """Return True between its first and its last bar, except while it is delisted."""
        return int(self.finest.open_ms[0]) <= now_ms < self.finest.end_ms and not self.is_delisted(now_ms)


@dataclass(frozen=True)
class SimulatedMarket:
    """The coins of the exchange simulator.

    Attributes:
        source: Origin of the candles, for people.
        coins: Coins by name, in the order of the venue's ids: those that began earlier first.
        intervals: Intervals, finest first.
        end_ms: End of the last bar, UTC milliseconds.
        warnings: Facts about instruments that the venue's format can't carry.
    """

    source: str
    coins: Mapping[str, SimulatedCoin]
    intervals: tuple[str, ...]
    end_ms: int
    warnings: tuple[str, ...] = ()

    @cached_property
    def grid_ms(self) -> int:
        """Milliseconds between the times at which bars or hours can end."""
        return min(interval_ms(self.intervals[0]), HOUR_MS)


def coin_seed(seed: int, name: str) -> int:
    """Return the seed of the quotes of a coin."""
    return mixed(seed, crc32(name.encode()))
