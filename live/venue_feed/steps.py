"""Steps of one subscription: the stream that a feed server sends to a consumer.

A step closes as soon as each of its bars and rates is known, at the latest when its grace period is over. While a
consumer catches up, steps wait for the venue's history instead, and only some run ahead of its acknowledgements.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from live.feed_server import Taken
from live.venue_feed.bars import BarTrack, BarValues
from live.venue_feed.clock import VenueClock
from live.venue_feed.health import StreamHealth
from live.venue_feed.instruments import SymbolTerms, change_of
from live.venue_feed.rates import RateTrack, hours_in
from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.errors import MeiError
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    BarRevised,
    CaughtUp,
    FeedEvent,
    FundingRate,
    InstrumentChanged,
    Mark,
    StepClosed,
)

GRACE_S = 2.0
"""Longest time that a step waits for its bars after its close, in seconds of the machine."""

MARKS_S = 1.0
"""Shortest time between two messages of mark prices to a consumer, in seconds of the machine."""

_EARLY_S = 0.1  # the venue's clock is known less exactly than its messages tell it
_POLL_S = 0.1  # a step that closes at the end of its grace period is late only after this time
_REVISABLE = 300


class KnownMarket(Protocol):
    """Knowledge of the venue that all subscriptions share."""

    clock: VenueClock
    tracks: dict[tuple[str, str], BarTrack]
    rates: dict[str, RateTrack]
    terms: Mapping[str, SymbolTerms]
    health: StreamHealth
    marks: dict[str, Mark]


@dataclass(frozen=True)
class CheckedSubscription:
    """A subscription that the venue can serve.

    Attributes:
        symbols: Symbols, sorted.
        intervals: Intervals, finest first.
        from_ms: Open time of the first step.
    """

    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    from_ms: int


class StepStream:
    """Steps of one subscription; see `feed_server.Stream`.

    Attributes:
        wanted: The subscription.
        next_ms: Open time of the next step.
        caught_up: True after the snapshot.
        failure: Error that ends the stream; None for none.
    """

    realtime = True

    def __init__(self, market: KnownMarket, wanted: CheckedSubscription) -> None:
        """Begin at the first step."""
        self.wanted = wanted
        self.next_ms = wanted.from_ms
        self.caught_up = False
        self.failure: MeiError | None = None
        self._market = market
        self._step_ms = interval_ms(wanted.intervals[0])
        self._terms = {symbol: market.terms[symbol] for symbol in wanted.symbols}
        self._ends: dict[str, int] = {}
        self._news: deque[FeedEvent] = deque()
        self._marks: dict[str, Mark] = {}
        self._marks_s = -inf
        # Contents of the latest bars as they were sent; None for a missing one.
        self._sent: dict[tuple[str, str, int], BarValues | None] = {}

    def snapshot(self) -> Sequence[FeedEvent]:
        """Return the terms in force; steps since then, the health of streams and `CaughtUp` follow them."""
        from_ms = self.wanted.from_ms
        return [change_of(symbol, terms._replace(delisted=False), 0, from_ms) for symbol, terms in self._terms.items()]

    def take(self, now_s: float, room: int) -> Taken:
        """Return the steps that are known or overdue, and other news.

        Raises:
            MeiError: The stream can't go on.
        """
        if self.failure is not None:
            raise self.failure
        units: list[Sequence[FeedEvent]] = []
        if self._news:
            units.append(list(self._news))
            self._news.clear()
        if not self.caught_up:
            self._catch_up(units, now_s, room)
        if self.caught_up:
            while step := self._close(now_s):
                units.append(step)
            if marks := self._new_marks(now_s):
                units.append(marks)
        return Taken(units, inf)

    def now_ms(self, now_s: float) -> int:
        """Return the time of the venue."""
        return self._market.clock.now_ms(now_s)

    def revise(self, track: BarTrack, open_ms: int) -> None:
        """Queue the new content of a bar that was sent with another one."""
        key = (track.symbol, track.interval, open_ms)
        bar = track.outcome(open_ms)
        if bar is None or key not in self._sent or self._sent[key] == bar.values:
            return
        self._sent[key] = bar.values
        self._news.append(
            BarRevised(symbol=track.symbol, interval=track.interval, open_ms=open_ms, **bar.values._asdict())
        )

    def fail(self, error: MeiError) -> None:
        """End the stream with an error."""
        self.failure = error

    def add_news(self, event: FeedEvent) -> None:
        """Queue an event that belongs to no step; before the snapshot is complete it is left out."""
        if self.caught_up:
            self._news.append(event)

    def _new_marks(self, now_s: float) -> list[Mark]:
        """Return the mark prices that came since the last ones were sent, at most once in `MARKS_S`."""
        if now_s < self._marks_s:
            return []
        found = {symbol: self._market.marks[symbol] for symbol in self.wanted.symbols if symbol in self._market.marks}
        new = [mark for symbol, mark in found.items() if self._marks.get(symbol) is not mark]
        if new:
            self._marks, self._marks_s = found, now_s + MARKS_S
        return new

    def _catch_up(self, units: list[Sequence[FeedEvent]], now_s: float, room: int) -> None:
        market = self._market
        if not all(track.loaded for track in self._tracks()):
            return
        now_ms = market.clock.now_ms(now_s)
        rates = [market.rates[symbol] for symbol in self.wanted.symbols]
        if not all(rate.loaded or rate.next_ms > now_ms for rate in rates):
            return
        grace_ms = market.clock.span_ms(GRACE_S)
        while market.clock.now_ms(now_s) >= self.next_ms + self._step_ms + grace_ms:
            if len(units) >= room or not (step := self._close(now_s)):
                return
            units.append(step)
        self.caught_up = True
        units.append([*market.health.stale(self.wanted.symbols), CaughtUp(venue_ms=now_ms)])

    def _tracks(self) -> list[BarTrack]:
        wanted, tracks = self.wanted, self._market.tracks
        return [tracks[symbol, interval] for interval in wanted.intervals for symbol in wanted.symbols]

    def _close(self, now_s: float) -> list[FeedEvent]:
        """Return the events of the next step; none while something of it is unknown and there is time."""
        clock = self._market.clock
        close_ms = self.next_ms + self._step_ms
        over_s = now_s - clock.when_s(close_ms) - GRACE_S
        if over_s < -GRACE_S - _EARLY_S:
            return []
        bars, missing, present = self._bars(close_ms, over=over_s >= 0.0)
        if bars is None or (not bars and over_s < -GRACE_S):
            return []
        due = self._due(close_ms, over=over_s >= 0.0)
        if due is None:
            return []
        late_ms = round(clock.span_ms(over_s)) if over_s > _POLL_S else 0
        events: list[FeedEvent] = [*bars, *missing, *due, *self._changes(close_ms)]
        events.append(StepClosed(venue_ms=close_ms, step_ms=self.next_ms, present=present, late_ms=late_ms))
        self._remember(events)
        self.next_ms = close_ms
        return events

    def _bars(self, close_ms: int, *, over: bool) -> tuple[list[BarClosed] | None, list[BarMissing], tuple[str, ...]]:
        """Return the bars that end at a time, the missing ones and the symbols with one; None for bars to wait for."""
        bars: list[BarClosed] = []
        missing: list[BarMissing] = []
        for interval in self.wanted.intervals:
            length_ms = interval_ms(interval)
            if close_ms % length_ms:
                continue
            open_ms = close_ms - length_ms
            for symbol in self.wanted.symbols:
                if open_ms + length_ms > self._ends.get(symbol, close_ms) or self._is_over(symbol, interval, open_ms):
                    continue
                event = _bar_event(self._market.tracks[symbol, interval], open_ms, close_ms, over=over)
                if isinstance(event, BarClosed):
                    bars.append(event)
                elif isinstance(event, BarMissing):
                    missing.append(event)
                elif event is None:
                    return None, [], ()
        present = tuple(bar.symbol for bar in bars if bar.interval == self.wanted.intervals[0])
        return bars, missing, present

    def _is_over(self, symbol: str, interval: str, open_ms: int) -> bool:
        """Return True if a delisted symbol has no such bar, so that no step waits for it."""
        terms = self._market.terms.get(symbol)
        return (terms is None or terms.delisted) and self._market.tracks[symbol, interval].outcome(open_ms) is None

    def _due(self, close_ms: int, *, over: bool) -> list[FundingRate] | None:
        """Return the funding due in the step; None to wait for it."""
        due: list[FundingRate] = []
        for due_ms in hours_in(self.next_ms, close_ms):
            for symbol in self.wanted.symbols:
                first_ms = self._market.tracks[symbol, self.wanted.intervals[0]].first_ms
                if symbol in self._ends or first_ms is None or first_ms >= due_ms:
                    continue
                track = self._market.rates[symbol]
                if due_ms not in track.rates and not over:
                    return None
                rate = track.rates[due_ms] if due_ms in track.rates else track.best(due_ms)
                if rate is not None:
                    due.append(
                        FundingRate(venue_ms=close_ms, symbol=symbol, due_ms=due_ms, rate=rate.rate, oracle=rate.oracle)
                    )
        return due

    def _changes(self, close_ms: int) -> list[InstrumentChanged]:
        """Return the changes of terms that consumers do not know, in force from this step on."""
        changes: list[InstrumentChanged] = []
        for symbol, before in self._terms.items():
            terms = self._market.terms.get(symbol) or before._replace(delisted=True)
            if terms.delisted and symbol not in self._ends:
                last_ms = self._market.tracks[symbol, self.wanted.intervals[0]].newest_ms
                if last_ms is not None and last_ms > self.next_ms:
                    continue  # it has later bars, which a consumer that catches up gets first
                # The book of a lane ends the symbol at this step, so the step of its last bar would be too early.
                self._ends[symbol] = close_ms
                changes.append(change_of(symbol, terms, close_ms, close_ms, self.next_ms))
            elif not terms.delisted and (terms != before or symbol in self._ends):
                self._ends.pop(symbol, None)
                changes.append(change_of(symbol, terms, close_ms, close_ms))
            else:
                continue
            self._terms[symbol] = terms
        return changes

    def _remember(self, events: Sequence[FeedEvent]) -> None:
        """Keep the contents of the latest bars, to send what changes in them later."""
        for event in events:
            if isinstance(event, BarClosed):
                values = BarValues(event.open, event.high, event.low, event.close, event.volume)
                self._sent[event.symbol, event.interval, event.open_ms] = values
            elif isinstance(event, BarMissing):
                self._sent[event.symbol, event.interval, event.open_ms] = None
        most = _REVISABLE * len(self.wanted.symbols) * len(self.wanted.intervals)
        while len(self._sent) > most:
            del self._sent[next(iter(self._sent))]


def _bar_event(track: BarTrack, open_ms: int, close_ms: int, *, over: bool) -> BarClosed | BarMissing | str | None:
    """Return the event of a bar; None to wait for it, and an empty text before the first bar of the symbol."""
    bar, confirmed = track.outcome(open_ms), True
    if bar is None and track.loaded and (track.first_ms is None or track.first_ms > open_ms):
        return ""
    if bar is None and open_ms not in track.empty:
        if not over:
            return None
        seen = track.bars.get(open_ms)
        bar, confirmed = (seen, False) if seen is not None and seen.intact else (None, False)
    if bar is not None:
        return BarClosed(
            venue_ms=close_ms,
            symbol=track.symbol,
            interval=track.interval,
            open_ms=open_ms,
            confirmed=confirmed,
            **bar.values._asdict(),
        )
    reason = "no trade" if open_ms in track.empty else "unknown"
    return BarMissing(venue_ms=close_ms, symbol=track.symbol, interval=track.interval, open_ms=open_ms, reason=reason)
