"""Bars of one symbol and interval, as far as messages of the venue and answers of its REST interface have shown them.

A message carries the present values of a bar and no sign that they are the last ones. A bar is final if

- the first message of the next bar arrived on time and no message in between can have been lost, or
- an answer was asked after the end of the bar, or has a later bar, too.

An answer that has a later bar, but not this one, proves that the bar has no trade.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.hyperliquid.wire import Candle

PROMPT_S = 0.25
"""Longest time after the end of a bar at which the first message of the next one makes it final, in seconds.

A later message may follow a silence of the stream, in which the last values of the bar were lost.
"""

KEPT_BARS = 300
"""Bars of a stream that a feed remembers for consumers that connect later."""


class BarValues(NamedTuple):
    """Prices in USD, and volume in coins."""

    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class KnownBar:
    """Knowledge of one bar.

    Attributes:
        values: Its latest values.
        trades: Number of its trades; it orders messages that arrive in another order than they were sent.
        intact: True if no message since these values can have been lost.
        final: True if the values are those of the closed bar.
        answered: True if they come from an answer to a request, which a late message does not change.
    """

    values: BarValues
    trades: int
    intact: bool = True
    final: bool = False
    answered: bool = False


@dataclass
class BarTrack:
    """Bars of one symbol and interval.

    Attributes:
        symbol: The symbol.
        interval: The interval.
        since_ms: Open time of the first bar that a consumer needs.
        bars: Bars by open time.
        empty: Open times of bars that are proven to have no trade.
        first_ms: Open time of the earliest bar that was ever seen; None before.
        newest_ms: Open time of the latest bar that was seen; None before.
        next_ms: Open time of the first bar that is neither final nor proven empty.
        loaded: True if the bars since `since_ms` were asked for and answered.
        checked_ms: End of the bars that were compared with an answer.
    """

    symbol: str
    interval: str
    since_ms: int
    bars: dict[int, KnownBar] = field(default_factory=dict)
    empty: set[int] = field(default_factory=set)
    first_ms: int | None = None
    newest_ms: int | None = None
    next_ms: int = 0
    loaded: bool = False
    checked_ms: int = 0

    def __post_init__(self) -> None:
        """Begin at the first bar that is needed."""
        self.next_ms = self.checked_ms = self.since_ms

    @property
    def length_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return interval_ms(self.interval)

    def reach_back(self, since_ms: int) -> None:
        """Require earlier bars, too."""
        if since_ms < self.since_ms:
            self.since_ms = self.next_ms = self.checked_ms = since_ms
            self.loaded = False

    def outcome(self, open_ms: int) -> KnownBar | None:
        """Return a final bar; None if it is not known or empty."""
        bar = self.bars.get(open_ms)
        return bar if bar is not None and bar.final else None

    def is_known(self, open_ms: int) -> bool:
        """Return True if a bar is final or proven empty."""
        return open_ms in self.empty or self.outcome(open_ms) is not None

    def take_message(self, candle: Candle, at_ms: int, prompt_ms: float) -> list[int]:
        """Take a message of the stream.

        Args:
            candle: The bar.
            at_ms: Time of its arrival on the venue's clock.
            prompt_ms: `PROMPT_S` on the venue's clock, in milliseconds.

        Returns:
            Open times of bars that became final or, being final, changed.
        """
        open_ms, before = candle.open_ms, self.newest_ms
        changed = self._take_values(candle)
        self._see(open_ms)
        if before is not None and open_ms == before + self.length_ms and at_ms <= open_ms + prompt_ms:
            last = self.bars.get(before)
            if last is not None and last.intact and not last.final:
                self.bars[before] = replace(last, final=True)
                changed.append(before)
        self._advance()
        return changed

    def _take_values(self, candle: Candle) -> list[int]:
        """Take the values of a message, unless newer ones are known; return the open time if a final bar changed."""
        open_ms = candle.open_ms
        known = self.bars.get(open_ms)
        bar = KnownBar(values_of(candle), candle.trades)
        if known is None:
            self.bars[open_ms] = bar
            # A bar with a trade was never empty; an answer has to say what it holds.
            self.empty.discard(open_ms)
            self.next_ms = min(self.next_ms, max(open_ms, self.since_ms))
            return []
        if known.answered and known.final:
            return []
        if (bar.values.volume, bar.trades) < (known.values.volume, known.trades):
            return []  # an older message that was overtaken
        self.bars[open_ms] = replace(bar, final=known.final)
        return [open_ms] if known.final and known.values != bar.values else []

    def take_answer(self, rows: Sequence[Candle], from_ms: int, final_to_ms: float) -> list[int]:
        """Take the answer to a request for all bars since a time.

        Args:
            rows: The bars, oldest first.
            from_ms: Open time of the first bar that was asked for.
            final_to_ms: Bars that ended by this time were final when the venue answered.

        Returns:
            Open times of bars that became final or, being final, changed.
        """
        changed: list[int] = []
        last_ms = rows[-1].open_ms if rows else 0
        for row in rows:
            self._see(row.open_ms)
            if row.open_ms < self.since_ms:
                continue
            if row.open_ms < last_ms or row.open_ms + self.length_ms <= final_to_ms:
                changed += self._settle(row)
            else:
                self._take_values(row)
        first_ms = max(-(-from_ms // self.length_ms) * self.length_ms, self.since_ms)
        for open_ms in range(first_ms, last_ms, self.length_ms):
            if open_ms not in self.bars and open_ms not in self.empty:
                self.empty.add(open_ms)
                changed.append(open_ms)
        if from_ms <= self.since_ms:
            self.loaded = True
        self._advance()
        if from_ms <= self.checked_ms:
            self.checked_ms = max(self.checked_ms, min(self.next_ms, last_ms))
        return changed

    def _settle(self, row: Candle) -> list[int]:
        """Take a bar of an answer as final."""
        known, bar = self.bars.get(row.open_ms), KnownBar(values_of(row), row.trades, final=True, answered=True)
        self.bars[row.open_ms] = bar
        self.empty.discard(row.open_ms)
        return [row.open_ms] if known is None or not known.final or known.values != bar.values else []

    def lose(self) -> None:
        """Note that messages may be lost from now on: open bars are intact again with their next message."""
        for open_ms, bar in self.bars.items():
            if not bar.final and bar.intact:
                self.bars[open_ms] = replace(bar, intact=False)

    def forget(self, before_ms: int) -> None:
        """Forget bars that opened before a time, except the latest ones."""
        if self.newest_ms is None:
            return
        cut_ms = min(before_ms, self.newest_ms - KEPT_BARS * self.length_ms)
        if cut_ms <= self.since_ms:
            return
        self.since_ms = cut_ms // self.length_ms * self.length_ms
        self.next_ms, self.checked_ms = max(self.next_ms, self.since_ms), max(self.checked_ms, self.since_ms)
        self.bars = {open_ms: bar for open_ms, bar in self.bars.items() if open_ms >= self.since_ms}
        self.empty = {open_ms for open_ms in self.empty if open_ms >= self.since_ms}

    def _see(self, open_ms: int) -> None:
        self.first_ms = open_ms if self.first_ms is None else min(self.first_ms, open_ms)
        self.newest_ms = open_ms if self.newest_ms is None else max(self.newest_ms, open_ms)

    def _advance(self) -> None:
        while self.is_known(self.next_ms):
            self.next_ms += self.length_ms


def values_of(candle: Candle) -> BarValues:
    """Return the numbers of a bar."""
    return BarValues(
        float(candle.open), float(candle.high), float(candle.low), float(candle.close), float(candle.volume)
    )


def problem_of(candle: Candle, now_ms: float) -> str:
    """Return the reason why a bar can't be one of the venue; empty if it can."""
    length_ms = interval_ms(candle.interval)
    opened, high, low, close, volume = values_of(candle)
    if candle.open_ms % length_ms or candle.close_ms != candle.open_ms + length_ms - 1:
        return f"it opens at {candle.open_ms} and ends at {candle.close_ms}, off the {candle.interval} grid"
    if candle.open_ms > now_ms + length_ms:
        return f"it opens at {iso(candle.open_ms)}, after the venue's present time {iso(int(now_ms))}"
    if not 0.0 < low <= min(opened, close) <= max(opened, close) <= high or volume < 0.0:
        return f"open {opened:g}, high {high:g}, low {low:g}, close {close:g}, volume {volume:g} contradict each other"
    return ""
