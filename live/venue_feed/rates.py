"""Funding rates of one symbol: the rate of each full hour, from the venue's pushed state or from its history.

The venue pushes the rate of the present hour about once a second, and the last one before the full hour falls due. Near
the full hour a message may belong to either hour, because the machine knows the venue's clock only approximately.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mei_pipeline.candles.intervals import HOUR_MS, MINUTE_MS
from mei_pipeline.hyperliquid.wire import AssetContext, FundingHour

GUARD_S = 0.02
"""Time around a full hour in which a pushed rate may belong to either hour, in seconds."""

KEPT_MS = 48 * HOUR_MS


class DueRate(NamedTuple):
    """A rate that falls due, as a fraction of notional, and the oracle price with it; None if unknown."""

    rate: float
    oracle: float | None = None


class _Pushed(NamedTuple):
    due: DueRate
    sure: bool


@dataclass
class RateTrack:
    """Funding of one symbol.

    Attributes:
        symbol: The symbol.
        next_ms: First full hour whose rate is not known yet.
        rates: Rates by the hour at which they fall due; None for an hour without a payment.
        loaded: True if the hours since the first `next_ms` that have passed were asked for and answered.
    """

    symbol: str
    next_ms: int
    rates: dict[int, DueRate | None] = field(default_factory=dict)
    loaded: bool = False
    _pushed: dict[int, _Pushed] = field(default_factory=dict)

    def take_context(self, context: AssetContext, at_ms: int, guard_ms: float) -> None:
        """Take a pushed state that arrived at a time of the venue."""
        due_ms = at_ms // HOUR_MS * HOUR_MS + HOUR_MS
        known = self._pushed.get(due_ms)
        if known is not None and known.sure and due_ms - at_ms <= guard_ms:
            return
        due = DueRate(float(context.funding), float(context.oracle_price))
        sure = guard_ms < at_ms - (due_ms - HOUR_MS) and due_ms - at_ms > guard_ms
        self._pushed[due_ms] = _Pushed(due, sure)

    def lose(self, at_ms: int) -> None:
        """Note that the stream is broken: the rate of the present hour is sure only after its next message."""
        due_ms = at_ms // HOUR_MS * HOUR_MS + HOUR_MS
        if (known := self._pushed.get(due_ms)) is not None:
            self._pushed[due_ms] = known._replace(sure=False)

    def settle(self, now_ms: float) -> None:
        """Fix the rates of hours that have passed, as far as pushed ones are sure."""
        while self.next_ms <= now_ms:
            if self.next_ms not in self.rates:
                known = self._pushed.get(self.next_ms)
                if known is None or not known.sure:
                    return
                self.rates[self.next_ms] = known.due if known.due.rate else None
            self.next_ms += HOUR_MS

    def take_answer(self, rows: Sequence[FundingHour], from_ms: int, asked_ms: float) -> None:
        """Take the rates since a time, as the venue's history had them at another time."""
        found = {due_hour(row.time_ms): float(row.rate) for row in rows}
        last_ms = max(found, default=0)
        for due_ms in range(-(-from_ms // HOUR_MS) * HOUR_MS, int(asked_ms) + 1, HOUR_MS):
            if due_ms in found:
                pushed = self._pushed.get(due_ms)
                oracle = None if pushed is None else pushed.due.oracle
                self.rates.setdefault(due_ms, DueRate(found[due_ms], oracle) if found[due_ms] else None)
            elif due_ms < last_ms or asked_ms >= due_ms + MINUTE_MS:
                # A row is written a few seconds after the full hour.
                self.rates.setdefault(due_ms, self.best(due_ms))
        self.loaded = self.loaded or from_ms <= self.next_ms
        self.settle(asked_ms)

    def reach_back(self, due_ms: int) -> None:
        """Require the rates since an earlier hour, too."""
        if due_ms < self.next_ms and due_ms not in self.rates:
            self.next_ms, self.loaded = due_ms, False

    def best(self, due_ms: int) -> DueRate | None:
        """Return the pushed rate of an hour, even if it is not sure; None without any."""
        known = self._pushed.get(due_ms)
        return None if known is None or not known.due.rate else known.due

    def forget(self, before_ms: int) -> None:
        """Forget hours before a time, except the latest ones."""
        cut_ms = min(before_ms, self.next_ms) - KEPT_MS
        self.rates = {due_ms: rate for due_ms, rate in self.rates.items() if due_ms >= cut_ms}
        self._pushed = {due_ms: pushed for due_ms, pushed in self._pushed.items() if due_ms >= self.next_ms - HOUR_MS}


def due_hour(time_ms: int) -> int:
    """Return the full hour to which a stamp of the venue belongs; the lake has the same rule."""
    return (time_ms + MINUTE_MS // 2) // HOUR_MS * HOUR_MS


def hours_in(from_ms: int, to_ms: int) -> range:
    """Return the full hours in (from_ms, to_ms]."""
    return range(from_ms // HOUR_MS * HOUR_MS + HOUR_MS, to_ms + 1, HOUR_MS)
