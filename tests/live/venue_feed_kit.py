"""A venue for the core of a feed: its bars, messages and answers, without sockets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from live.feed_client import subscription
from live.venue_feed.asking import CandleAsk, FundingAsk
from live.venue_feed.clock import VenueClock
from live.venue_feed.core import FeedCore
from live.venue_feed.health import CONTEXT_STREAM
from live.venue_feed.steps import StepStream
from mei_pipeline.candles.intervals import HOUR_MS, MINUTE_MS, interval_ms
from mei_pipeline.execution.events import FeedEvent, Mark
from mei_pipeline.hyperliquid.wire import (
    CONTEXT,
    Asset,
    AssetContext,
    Candle,
    CoinContext,
    FundingHour,
    Meta,
    Subscription,
)

T0 = 1_767_225_600_000  # 2026-01-01
VENUE, NETWORK = "hyperliquid", "simulator"


def meta(*symbols: str, delisted: Sequence[str] = (), leverage: int = 40) -> Meta:
    """Perpetuals with these names."""
    return Meta(
        universe=tuple(
            Asset(name=name, size_decimals=3, max_leverage=leverage, delisted=name in delisted or None)
            for name in symbols
        )
    )


def candle(
    open_ms: int, close: float = 100.0, volume: float = 1.0, *, coin: str = "BTC", interval: str = "1m"
) -> Candle:
    """A bar; its volume also counts its trades."""
    return Candle(
        open_ms=open_ms,
        close_ms=open_ms + interval_ms(interval) - 1,
        coin=coin,
        interval=interval,
        open=Decimal(100),
        close=Decimal(repr(close)),
        high=Decimal(repr(max(100.0, close))),
        low=Decimal(repr(min(100.0, close))),
        volume=Decimal(repr(volume)),
        trades=int(volume),
    )


def context(rate: str, coin: str = "BTC") -> CoinContext:
    """The state of a market."""
    numbers: dict[str, Any] = dict.fromkeys(
        ("open_interest", "previous_day_price", "day_notional", "oracle_price", "mark_price"), Decimal(100)
    )
    return CoinContext(coin=coin, context=AssetContext(funding=Decimal(rate), **numbers))


@dataclass
class Scene:
    """A feed at a venue whose clock is `T0` at time 0 of the machine; `now_s` moves only by hand.

    Attributes:
        bars: All bars that the venue has, which answers are made of.
        funding: Rows of the venue's history.
        answering: False while requests get no answer.
        asked: Requests that were sent.
        rate: Funding rate that the venue pushes while time passes; empty for none.
    """

    symbols: tuple[str, ...] = ("BTC",)
    intervals: tuple[str, ...] = ("1m",)
    from_ms: int = T0
    speed: float = 1.0
    answering: bool = True
    bars: list[Candle] = field(default_factory=list)
    funding: list[FundingHour] = field(default_factory=list)
    asked: list[CandleAsk | FundingAsk] = field(default_factory=list)
    now_s: float = 0.0
    rate: str = "0"

    def __post_init__(self) -> None:
        self.core = FeedCore(VenueClock(0.0, float(T0), self.speed))
        self.core.take_meta(meta(*self.symbols))
        self.stream: StepStream = self.subscribe(self.from_ms)
        self.events: list[FeedEvent] = list(self.stream.snapshot())
        self.marks: list[Mark] = []

    def subscribe(self, from_ms: int) -> StepStream:
        """A further consumer."""
        wanted = subscription(VENUE, NETWORK, self.symbols, self.intervals, from_ms)
        return self.core.subscribe(wanted, self.now_s)

    def now_ms(self) -> int:
        """The venue's time."""
        return self.core.clock.now_ms(self.now_s)

    def acknowledge(self) -> None:
        """The venue acknowledges every stream."""
        for each in self.core.wanted:
            self.core.acknowledge(each, self.now_s)
            if each.type == CONTEXT:
                self.core.take_context(context("0", each.coin or ""), self.now_s)

    def push(self, bar: Candle) -> None:
        """A message arrives now."""
        self.core.take_candle(bar, self.now_s)
        self.turn()

    def turn(self) -> tuple[Subscription, ...]:
        """One round of the service: requests and their answers, then steps; returns the renewed streams."""
        work = self.core.poll(self.now_s)
        renewed = [*work.renewals]
        self.asked += work.asks
        for ask in work.asks:
            if self.answering:
                renewed += self.answer(ask)
        self.read()
        return tuple(renewed)

    def answer(self, ask: CandleAsk | FundingAsk) -> tuple[Subscription, ...]:
        """Answer a request from what the venue has now."""
        if isinstance(ask, FundingAsk):
            rows = [
                row for row in self.funding if row.coin == ask.symbol and ask.from_ms <= row.time_ms <= self.now_ms()
            ]
            self.core.answer_funding(ask, rows, self.now_s, self.now_s)
            return ()
        bars = [
            bar
            for bar in self.bars
            if (bar.coin, bar.interval) == (ask.symbol, ask.interval)
            and bar.close_ms >= ask.from_ms
            and bar.open_ms <= self.now_ms()
        ]
        bars.sort(key=lambda bar: bar.open_ms)
        return self.core.answer_candles(ask, bars, self.now_s, self.now_s)

    def read(self) -> None:
        """The consumer reads and acknowledges everything."""
        while units := self.stream.take(self.now_s, 64).steps:
            for event in (event for unit in units for event in unit):
                (self.marks if isinstance(event, Mark) else self.events).append(event)

    def pass_time(self, seconds: float, *, step_s: float = 0.05) -> None:
        """Let time pass in small rounds."""
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s = min(self.now_s + step_s, end_s)
            self.push_contexts()
            self.turn()

    def push_contexts(self) -> None:
        """The states of all symbols arrive, unless their streams are broken."""
        for stream, state in self.core.health.states.items():
            if self.rate and stream.name == CONTEXT_STREAM and state.acknowledged:
                self.core.take_context(context(self.rate, stream.symbol), self.now_s)

    def go_to(self, time_ms: int, *, step_s: float = 0.05) -> None:
        """Let time pass until a time of the venue."""
        end_s = self.core.clock.when_s(time_ms)
        self.pass_time(end_s - self.now_s, step_s=step_s)
        self.now_s = end_s

    def of(self, *classes: type[FeedEvent]) -> list[Any]:
        """The events of some classes that the consumer got."""
        return [event for event in self.events if isinstance(event, classes)]


def minute(number: int) -> int:
    """The time a number of minutes after `T0`."""
    return T0 + number * MINUTE_MS


def hour(number: int) -> int:
    """The time a number of hours after `T0`."""
    return T0 + number * HOUR_MS
