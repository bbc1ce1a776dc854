"""The core of a venue's feed: what arrives changes what is known, and what is known declares steps. It does no I/O.

Times of the machine are those of its monotonic clock, in seconds; the caller passes them in.
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from live.feed_protocol import Subscribe
from live.venue_feed.asking import (
    AskState,
    CandleAsk,
    FundingAsk,
    audit_period_s,
    candle_ask,
    funding_ask,
    is_pending,
)
from live.venue_feed.bars import PROMPT_S, BarTrack, problem_of, values_of
from live.venue_feed.clock import VenueClock
from live.venue_feed.health import CONTEXT_STREAM, StreamHealth, StreamId
from live.venue_feed.instruments import SymbolTerms, terms_by_symbol
from live.venue_feed.rates import GUARD_S, RateTrack, hours_in
from live.venue_feed.steps import CheckedSubscription, StepStream
from live.venue_feed.subscriptions import check_subscription
from mei_pipeline.candles.intervals import HOUR_MS, interval_ms, iso
from mei_pipeline.errors import ConfigError, DataError, MeiError, Retryable
from mei_pipeline.execution.events import Mark
from mei_pipeline.hyperliquid.wire import CANDLE, CONTEXT, Candle, CoinContext, FundingHour, Meta, Subscription

LINGER_S = 300.0
"""Time for which the streams of a consumer that has left stay subscribed, in seconds."""

CONTEXT_SILENT_S = 30.0
"""Time without a message after which the stream of a symbol's state is stale, in seconds."""

VENUE_BARS = 5000
"""Number of bars that the venue keeps of each symbol and interval."""

MOST_STREAMS = 1000
"""Number of streams that the venue allows one machine."""

_SURE_S = 0.1  # an answer may be as old as the machine's idea of the venue's clock is wrong
_SILENCE_S = 1.0  # a message that is on its way is not missed
_LEEWAY_BARS = 10


@dataclass(frozen=True)
class FeedWork:
    """Work for the service.

    Attributes:
        asks: Requests to send.
        renewals: Streams to subscribe again.
    """

    asks: tuple[CandleAsk | FundingAsk, ...] = ()
    renewals: tuple[Subscription, ...] = ()


@dataclass
class FeedCore:
    """State of the feed; see `steps.KnownMarket`.

    Attributes:
        clock: The venue's clock.
        terms: Terms of the venue's symbols.
        tracks: Bars by symbol and interval.
        rates: Funding by symbol.
        health: States of the streams.
        marks: Latest mark price of each symbol.
        problems: Texts for the log, in order.
        clock_doubted: True if a message contradicts the clock, which must be read again.
        asks: Attempts to get history, by symbol and interval, and by symbol and an empty text for funding.
        version: Number of changes of `wanted`.
    """

    clock: VenueClock
    terms: Mapping[str, SymbolTerms] = field(default_factory=dict)
    tracks: dict[tuple[str, str], BarTrack] = field(default_factory=dict)
    rates: dict[str, RateTrack] = field(default_factory=dict)
    health: StreamHealth = field(default_factory=StreamHealth)
    marks: dict[str, Mark] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    clock_doubted: bool = False
    version: int = 0
    asks: dict[tuple[str, str], AskState] = field(default_factory=dict)
    _used_s: dict[tuple[str, str], float] = field(default_factory=dict)
    # The server forgets the stream of a closed connection, and nothing else keeps it.
    _streams: list[weakref.ref[StepStream]] = field(default_factory=list)
    _hour_ms: int = 0

    @property
    def streams(self) -> list[StepStream]:
        """Streams of the connected consumers."""
        return [stream for ref in self._streams if (stream := ref()) is not None]

    @property
    def wanted(self) -> list[Subscription]:
        """Streams of the venue that the consumers need, in order."""
        candles = [Subscription(type=CANDLE, coin=symbol, interval=interval) for symbol, interval in self.tracks]
        return [*candles, *(Subscription(type=CONTEXT, coin=symbol) for symbol in self.rates)]

    def subscribe(self, wanted: Subscribe, now_s: float) -> StepStream:
        """Open the stream of a subscription.

        Raises:
            ConfigError: The subscription is wrong.
        """
        now_ms = self.clock.now_ms(now_s)
        checked = check_subscription(wanted, self.terms, now_ms)
        self._check_room(checked)
        self._add_tracks(checked, now_s)
        stream = StepStream(self, checked)
        self._streams.append(weakref.ref(stream))
        self._follow(now_ms, now_s)
        return stream

    def _check_room(self, wanted: CheckedSubscription) -> None:
        """Raise `ConfigError` if the venue allows fewer streams than all consumers need."""
        tracks = {*self.tracks, *((symbol, interval) for symbol in wanted.symbols for interval in wanted.intervals)}
        streams = len(tracks) + len({*self.rates, *wanted.symbols})
        if streams > MOST_STREAMS:
            raise ConfigError(
                f"symbols: with {len(wanted.symbols)} more symbols the lanes of this feed need {streams} streams, but "
                f"the venue allows {MOST_STREAMS}; follow fewer symbols or intervals"
            )

    def _add_tracks(self, wanted: CheckedSubscription, now_s: float) -> None:
        for symbol in wanted.symbols:
            for interval in wanted.intervals:
                length_ms = interval_ms(interval)
                since_ms = wanted.from_ms // length_ms * length_ms
                key = symbol, interval
                if key not in self.tracks:
                    self.tracks[key] = BarTrack(symbol, interval, since_ms)
                    self.asks[key] = AskState(audit_s=now_s + audit_period_s(list(self.tracks)))
                self.tracks[key].reach_back(since_ms)
                self._used_s[key] = now_s
            first_ms = hours_in(wanted.from_ms, wanted.from_ms + HOUR_MS)[0]
            self.rates.setdefault(symbol, RateTrack(symbol, first_ms)).reach_back(first_ms)
            self.asks.setdefault((symbol, ""), AskState())
            self._hour_ms = min(self._hour_ms, first_ms)

    def _follow(self, now_ms: int, now_s: float) -> None:
        self.version += 1
        streams = [StreamId(symbol, f"{CANDLE} {interval}") for symbol, interval in self.tracks]
        self.health.follow([*streams, *(StreamId(symbol, CONTEXT_STREAM) for symbol in self.rates)], now_ms, now_s)
        self._tell()

    def take_meta(self, meta: Meta) -> None:
        """Take the terms of all symbols.

        Raises:
            DataError: The venue names no symbol.
        """
        self.terms = terms_by_symbol(meta)

    def take_candle(self, candle: Candle, seen_s: float) -> bool:
        """Take a message of a candle stream; return True if a bar became final or, being final, changed."""
        track = self.tracks.get((candle.coin, candle.interval))
        if track is None:
            return False
        at_ms = self.clock.now_ms(seen_s)
        if candle.open_ms > at_ms + self.clock.span_ms(_SILENCE_S):
            self.clock_doubted = True
        if problem := problem_of(candle, at_ms):
            self.problems.append(f"{candle.coin}, {candle.interval}: the venue sent a bar that can't be: {problem}")
            return False
        newest_ms = track.newest_ms
        changed = track.take_message(candle, at_ms, self.clock.span_ms(PROMPT_S))
        if track.newest_ms != newest_ms:
            self.asks[candle.coin, candle.interval].hurry(seen_s)
        self.health.hear(StreamId(candle.coin, f"{CANDLE} {candle.interval}"), at_ms, seen_s)
        self._publish(track, changed)
        return bool(changed)

    def take_context(self, message: CoinContext, seen_s: float) -> None:
        """Take a message with the state of a symbol."""
        track = self.rates.get(message.coin)
        if track is not None:
            at_ms = self.clock.now_ms(seen_s)
            track.take_context(message.context, at_ms, self.clock.span_ms(GUARD_S))
            prices = float(message.context.mark_price), float(message.context.oracle_price)
            self.marks[message.coin] = Mark(venue_ms=at_ms, symbol=message.coin, price=prices[0], oracle=prices[1])
            self.health.hear(StreamId(message.coin, CONTEXT_STREAM), at_ms, seen_s)
            self._tell()

    def lose(self, now_s: float) -> None:
        """Take the loss of the connection."""
        now_ms = self.clock.now_ms(now_s)
        for track in self.tracks.values():
            track.lose()
        for rate in self.rates.values():
            rate.lose(now_ms)
        self.health.lose(now_ms)
        self._tell()

    def skip(self, now_s: float) -> None:
        """Take a message that can't be read: it may have held the last values of any bar."""
        for track in self.tracks.values():
            track.lose()
        for rate in self.rates.values():
            rate.lose(self.clock.now_ms(now_s))

    def acknowledge(self, subscription: Subscription, now_s: float) -> None:
        """Take the acknowledgement of a stream; bars that may have been missed before it are asked for."""
        stream = _id_of(subscription)
        now_ms = self.clock.now_ms(now_s)
        track = self.tracks.get((subscription.coin or "", subscription.interval or ""))
        missed = track is not None and (not track.loaded or is_pending(track, now_ms))
        self.health.acknowledge(stream, now_ms, now_s, missed=missed)
        self._tell()

    def refuse(self, subscription: Subscription, text: str, now_s: float) -> None:
        """Take the refusal of a stream."""
        self.problems.append(f"{subscription.coin}, {subscription.type}: the venue refuses the stream: {text}")
        self.health.spoil(_id_of(subscription), self.clock.now_ms(now_s), acknowledged=False)
        self._tell()

    def poll(self, now_s: float) -> FeedWork:
        """Return the work that is due."""
        now_ms = self.clock.now_ms(now_s)
        self.settle(now_s)
        due: list[CandleAsk | FundingAsk] = []
        for key, track in self.tracks.items():
            state = self.health.states.get(StreamId(track.symbol, f"{CANDLE} {track.interval}"))
            if (ask := candle_ask(track, self.asks[key], state, self.clock, now_s)) is not None:
                due.append(ask)
        for symbol, rate in self.rates.items():
            if (funding := funding_ask(rate, self.asks[symbol, ""], self.clock, now_s)) is not None:
                due.append(funding)
        renewals: list[Subscription] = []
        for symbol in self.rates:
            stream = StreamId(symbol, CONTEXT_STREAM)
            state = self.health.states[stream]
            if state.acknowledged and now_s - state.heard_s > CONTEXT_SILENT_S:
                self.health.spoil(stream, now_ms, acknowledged=False)
                self.rates[symbol].lose(now_ms)
                renewals.append(Subscription(type=CONTEXT, coin=symbol))
        self._tell()
        return FeedWork(tuple(due), tuple(renewals))

    def settle(self, now_s: float) -> None:
        """Fix the rates of a full hour that has passed."""
        now_ms = self.clock.now_ms(now_s)
        if now_ms >= self._hour_ms:
            for rate in self.rates.values():
                rate.settle(now_ms)
            self._hour_ms = min((rate.next_ms for rate in self.rates.values()), default=now_ms + HOUR_MS)

    def answer_candles(
        self, ask: CandleAsk, rows: Sequence[Candle], asked_s: float, now_s: float
    ) -> tuple[Subscription, ...]:
        """Take the answer to a request for bars; return the streams to subscribe again, because they miss messages."""
        key = ask.symbol, ask.interval
        track = self.tracks.get(key)
        if track is None:
            return ()
        asked_ms = self.clock.now_ms(asked_s)
        if problem := _problem_of_rows(ask, rows, self.clock.now_ms(now_s)):
            self.fail(ask, DataError(problem), now_s)
            return ()
        if not track.loaded and len(rows) >= VENUE_BARS - _LEEWAY_BARS and rows[0].open_ms > track.since_ms:
            self._refuse_history(track, rows[0].open_ms)
        stream = StreamId(ask.symbol, f"{CANDLE} {ask.interval}")
        state = self.health.states[stream]
        missed = state.acknowledged and now_s - state.heard_s > _SILENCE_S and _differs(track, rows)
        changed = track.take_answer(rows, ask.from_ms, asked_ms - self.clock.span_ms(_SURE_S))
        states = self.asks[key]
        states.end(now_s, done=track.loaded and not is_pending(track, asked_ms - self.clock.span_ms(PROMPT_S)))
        if states.audit_s <= now_s:
            states.audit_s = now_s + audit_period_s(list(self.tracks))
        now_ms = self.clock.now_ms(now_s)
        if missed:
            self.problems.append(f"{ask.symbol}, {ask.interval}: the stream misses messages; it is subscribed again")
            self.health.spoil(stream, now_ms, acknowledged=False)
            track.lose()
        elif state.acknowledged:
            self.health.hear(stream, now_ms, now_s)
        self.health.catch_up(stream, now_ms)
        self._publish(track, changed)
        return (Subscription(type=CANDLE, coin=ask.symbol, interval=ask.interval),) if missed else ()

    def answer_funding(self, ask: FundingAsk, rows: Sequence[FundingHour], asked_s: float, now_s: float) -> None:
        """Take the answer to a request for funding."""
        track = self.rates.get(ask.symbol)
        if track is not None:
            asked_ms = self.clock.now_ms(asked_s)
            track.take_answer(rows, ask.from_ms, asked_ms)
            self.asks[ask.symbol, ""].end(now_s, done=track.next_ms > asked_ms - self.clock.span_ms(PROMPT_S))
            self._hour_ms = min(self._hour_ms, track.next_ms)

    def fail(self, ask: CandleAsk | FundingAsk, error: MeiError, now_s: float) -> None:
        """Take the failure of a request; an error that does not pass ends the consumers that wait for its answer."""
        interval = ask.interval if isinstance(ask, CandleAsk) else ""
        if (state := self.asks.get((ask.symbol, interval))) is not None:
            state.end(now_s, done=False)
        self.problems.append(f"{ask.symbol}{interval and f', {interval}'}: history: {error}")
        if isinstance(error, Retryable):
            return
        for stream in self.streams:
            wanted = stream.wanted
            if not stream.caught_up and ask.symbol in wanted.symbols and (not interval or interval in wanted.intervals):
                stream.fail(error)

    def forget(self, now_s: float) -> None:
        """Forget old bars, and the streams of consumers that have left."""
        alive = self.streams
        self._streams = [weakref.ref(stream) for stream in alive]
        for stream in alive:
            for symbol in stream.wanted.symbols:
                for interval in stream.wanted.intervals:
                    self._used_s[symbol, interval] = now_s
        before = len(self.tracks)
        self.tracks = {key: track for key, track in self.tracks.items() if now_s - self._used_s[key] <= LINGER_S}
        needed = {symbol for symbol, _ in self.tracks}
        self.rates = {symbol: rate for symbol, rate in self.rates.items() if symbol in needed}
        kept = {*self.tracks, *((symbol, "") for symbol in needed)}
        self.asks = {key: state for key, state in self.asks.items() if key in kept}
        self._used_s = {key: used_s for key, used_s in self._used_s.items() if key in kept}
        now_ms = self.clock.now_ms(now_s)
        oldest_ms = min((stream.next_ms for stream in alive), default=now_ms)
        for track in self.tracks.values():
            track.forget(oldest_ms // track.length_ms * track.length_ms - track.length_ms)
        for rate in self.rates.values():
            rate.forget(oldest_ms)
        if len(self.tracks) != before:
            self._follow(now_ms, now_s)

    def _refuse_history(self, track: BarTrack, first_ms: int) -> None:
        """End the consumers that need earlier bars than the venue has, and begin the track at its first one."""
        for stream in self.streams:
            wanted = stream.wanted
            if track.symbol in wanted.symbols and track.interval in wanted.intervals and stream.next_ms < first_ms:
                error = DataError(
                    f"{track.symbol}, {track.interval}: the venue has bars from {iso(first_ms)} on, but the lane goes "
                    f"on from {iso(stream.next_ms)}; run `mei ingest` for the bars in between, and start a new lane"
                )
                stream.fail(error)
        track.since_ms = track.next_ms = track.checked_ms = first_ms

    def _publish(self, track: BarTrack, changed: Iterable[int]) -> None:
        """Send the new contents of final bars to the consumers that got others, and the changes of health."""
        for open_ms in changed:
            for stream in self.streams:
                stream.revise(track, open_ms)
        self._tell()

    def _tell(self) -> None:
        if self.health.news:
            for event in self.health.news:
                for stream in self.streams:
                    if event.symbol in stream.wanted.symbols:
                        stream.add_news(event)
            self.health.news.clear()


def _id_of(subscription: Subscription) -> StreamId:
    name = CONTEXT_STREAM if subscription.type == CONTEXT else f"{subscription.type} {subscription.interval}"
    return StreamId(subscription.coin or "", name)


def _differs(track: BarTrack, rows: Sequence[Candle]) -> bool:
    """Return True if an answer has trades that the stream should have sent, but did not."""
    for row in rows[-2:]:
        known = track.bars.get(row.open_ms)
        if known is not None and known.intact and not known.answered and known.values != values_of(row):
            return True
        if known is None and track.newest_ms is not None and row.open_ms > track.newest_ms:
            return True
    return False


def _problem_of_rows(ask: CandleAsk, rows: Sequence[Candle], now_ms: int) -> str:
    """Return the reason why an answer can't be right; empty if it can."""
    for before, row in zip((None, *rows), rows, strict=False):
        if (row.coin, row.interval) != (ask.symbol, ask.interval):
            return f"the answer has a bar of {row.coin}, {row.interval}"
        if before is not None and row.open_ms <= before.open_ms:
            return f"the answer is out of order at {iso(row.open_ms)}"
        if problem := problem_of(row, now_ms):
            return f"the answer has a bar that can't be: {problem}"
    return ""
