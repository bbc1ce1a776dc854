"""The core of a venue's feed: which bars it calls closed, missing or unknown, and when a step ends."""

from decimal import Decimal
from itertools import pairwise

import pytest
from msgspec.structs import replace
from venue_feed_kit import NETWORK, T0, VENUE, Scene, candle, hour, meta, minute

from live.feed_client import subscription
from live.venue_feed.health import StreamId
from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.errors import ConfigError, DataError, Retryable
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    BarRevised,
    CaughtUp,
    FeedHealth,
    FundingRate,
    InstrumentChanged,
    StepClosed,
)
from mei_pipeline.hyperliquid.wire import CANDLE, FundingHour, Subscription


def begun(**options: object) -> Scene:
    """A feed that is caught up, with good streams, and a bar before the first step."""
    scene = Scene(**options)
    for symbol in scene.symbols:
        for interval in scene.intervals:
            length = {"1m": 1, "3m": 3}[interval]
            scene.bars.append(candle(minute(-length), coin=symbol, interval=interval))
    scene.turn()
    scene.acknowledge()
    for symbol in scene.symbols:
        scene.push(candle(T0, coin=symbol, volume=0.5))
    scene.turn()
    assert scene.of(CaughtUp)
    scene.events.clear()
    return scene


def test_a_step_closes_with_the_first_message_of_the_next_bar() -> None:
    scene = begun()
    scene.go_to(minute(1))
    scene.push(candle(T0, 101.0, 5.0))
    assert scene.events == []
    scene.push(candle(minute(1), volume=0.1))
    bar, end = scene.events
    assert (bar.close, bar.volume, bar.confirmed, bar.venue_ms) == (101.0, 5.0, True, minute(1))
    assert end == StepClosed(venue_ms=minute(1), step_ms=T0, present=("BTC",))
    assert [ask for ask in scene.asked if ask.from_ms == T0] == []


def test_a_quiet_bar_is_confirmed_by_an_answer() -> None:
    scene = begun()
    scene.bars.append(candle(T0, volume=0.5))
    scene.go_to(minute(1))
    scene.pass_time(0.2)
    assert scene.events == []
    scene.pass_time(0.2)
    assert [event.confirmed for event in scene.of(BarClosed)] == [True]
    assert scene.of(StepClosed)[0].late_ms == 0


def test_without_a_confirmation_the_last_value_is_sent_after_the_grace_period() -> None:
    scene = begun()
    scene.answering = False
    scene.go_to(minute(1))
    scene.pass_time(1.95)
    assert scene.events == []
    scene.pass_time(0.1)
    bar, end = scene.events
    assert (bar.volume, bar.confirmed, end.present, end.late_ms) == (0.5, False, ("BTC",), 0)


def test_a_bar_in_which_the_stream_broke_is_unknown_until_an_answer_shows_it() -> None:
    scene = begun()
    scene.answering = False
    scene.core.lose(scene.now_s)
    scene.go_to(minute(1))
    scene.pass_time(2.1)
    missing, end = scene.of(BarMissing, StepClosed)
    assert (missing.reason, end.present) == ("unknown", ())
    scene.bars.append(candle(T0, 103.0, 7.0))
    asks = [ask for ask in scene.asked if ask.from_ms == T0]
    scene.answer(asks[-1])
    scene.read()
    assert scene.of(BarRevised) == [
        BarRevised(symbol="BTC", interval="1m", open_ms=T0, open=100.0, high=103.0, low=100.0, close=103.0, volume=7.0)
    ]


def test_a_break_inside_a_bar_is_forgotten_with_the_next_message_of_the_bar() -> None:
    scene = begun()
    scene.core.lose(scene.now_s)
    scene.acknowledge()
    scene.push(candle(T0, 101.0, 3.0))
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    assert [(bar.close, bar.confirmed) for bar in scene.of(BarClosed)] == [(101.0, True)]


def test_a_break_at_the_end_of_a_bar_leaves_it_to_an_answer() -> None:
    scene = begun()
    scene.go_to(minute(1) - 100)
    scene.core.lose(scene.now_s)
    scene.acknowledge()
    scene.answering = False
    scene.go_to(minute(1) + 100)
    scene.push(candle(minute(1), volume=0.1))
    assert scene.of(BarClosed, StepClosed) == []
    scene.bars += [candle(T0, 108.0, 8.0), candle(minute(1), volume=0.1)]
    scene.answer(scene.asked[-1])
    scene.read()
    assert [(bar.close, bar.confirmed) for bar in scene.of(BarClosed)] == [(108.0, True)]


def test_a_message_that_can_not_be_read_leaves_the_bar_to_an_answer() -> None:
    scene = begun()
    scene.go_to(minute(1) - 100)
    scene.core.skip(scene.now_s)
    scene.answering = False
    scene.go_to(minute(1) + 100)
    scene.push(candle(minute(1), volume=0.1))
    assert scene.of(BarClosed, StepClosed) == []
    scene.bars += [candle(T0, 108.0, 8.0), candle(minute(1), volume=0.1)]
    scene.answer(scene.asked[-1])
    scene.read()
    assert [(bar.close, bar.confirmed) for bar in scene.of(BarClosed)] == [(108.0, True)]


def test_a_message_after_a_silence_does_not_close_the_bar_before_it() -> None:
    scene = begun()
    scene.answering = False
    scene.go_to(minute(1))
    scene.pass_time(1.0)
    scene.push(candle(minute(1), volume=0.1))
    assert scene.events == []
    scene.pass_time(1.1)
    assert [bar.confirmed for bar in scene.of(BarClosed)] == [False]


def test_a_bar_without_a_trade_is_proven_by_a_later_bar() -> None:
    scene = begun()
    scene.bars.append(candle(T0, volume=0.5))
    scene.go_to(minute(2))
    scene.events.clear()
    scene.bars.append(candle(minute(2), volume=0.1))
    scene.push(candle(minute(2), volume=0.1))
    missing, end = scene.events
    assert (missing.reason, missing.open_ms, end.step_ms) == ("no trade", minute(1), minute(1))


def test_a_bar_that_appears_late_is_a_revision() -> None:
    scene = begun()
    scene.bars += [candle(T0, volume=0.5), candle(minute(2), volume=0.1)]
    scene.go_to(minute(2))
    scene.push(candle(minute(2), volume=0.1))
    assert scene.of(BarMissing)[-1].reason == "no trade"
    scene.bars.append(candle(minute(1), volume=0.0))
    scene.push(candle(minute(1), volume=0.0))
    scene.pass_time(1.0)
    assert [(event.open_ms, event.volume) for event in scene.of(BarRevised)] == [(minute(1), 0.0)]


def test_messages_that_overtook_each_other_leave_the_newest_values() -> None:
    scene = begun()
    scene.push(candle(T0, 105.0, 5.0))
    scene.push(candle(T0, 104.0, 4.0))
    scene.push(candle(T0, 104.0, 4.0))
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    assert [bar.close for bar in scene.of(BarClosed)] == [105.0]
    scene.push(candle(T0, 106.0, 6.0))
    assert [bar.close for bar in scene.of(BarRevised)] == [106.0]


def test_an_audit_finds_values_that_the_stream_left_out() -> None:
    scene = begun()
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    scene.bars += [candle(T0, 109.0, 9.0), candle(minute(1), volume=0.1)]
    scene.core.asks["BTC", "1m"].audit_s = scene.now_s
    scene.turn()
    scene.read()
    assert [bar.close for bar in scene.of(BarRevised)] == [109.0]


def test_the_bars_of_a_step_are_in_the_order_of_a_replay() -> None:
    scene = begun(symbols=("ETH", "BTC"), intervals=("3m", "1m"))
    for number in range(3):
        scene.bars += [candle(minute(number), coin=coin) for coin in ("BTC", "ETH")]
    scene.bars += [candle(T0, coin=coin, interval="3m") for coin in ("BTC", "ETH")]
    scene.bars += [candle(minute(3), coin=coin, interval=each) for coin in ("BTC", "ETH") for each in ("1m", "3m")]
    scene.go_to(minute(3))
    scene.pass_time(0.5)
    last = scene.events[-5:]
    assert [(event.interval, event.symbol) for event in last[:4]] == [
        ("1m", "BTC"),
        ("1m", "ETH"),
        ("3m", "BTC"),
        ("3m", "ETH"),
    ]
    assert last[4].present == ("BTC", "ETH")
    assert [step.step_ms for step in scene.of(StepClosed)] == [T0, minute(1), minute(2)]


def test_a_snapshot_has_the_terms_the_steps_since_then_and_the_health() -> None:
    scene = Scene(from_ms=minute(-3))
    scene.bars += [candle(minute(number), volume=2.0) for number in range(-60, 1)]
    scene.funding.append(FundingHour(coin="BTC", rate=Decimal("0.0003"), time_ms=T0 + 11))
    scene.now_s = 0.5
    scene.turn()
    kinds = [type(event).__name__ for event in scene.events]
    late = ["BarClosed", "StepClosed"]
    due = ["BarClosed", "FundingRate", "StepClosed"]
    assert kinds == ["InstrumentChanged", *late, *late, "FeedHealth", "FeedHealth", "CaughtUp", *due]
    assert [step.late_ms for step in scene.of(StepClosed)] == [2 * MINUTE_MS - 1500, MINUTE_MS - 1500, 0]
    assert {(event.stream, event.stale_since_ms) for event in scene.of(FeedHealth)} == {
        ("candle 1m", T0),
        ("context", T0),
    }
    assert scene.of(InstrumentChanged) == [
        InstrumentChanged(
            venue_ms=minute(-3),
            symbol="BTC",
            from_ms=0,
            size_decimals=3,
            min_notional_usd=10.0,
            max_leverage=40.0,
            maintenance_margin_frac=0.0125,
        )
    ]


def test_a_long_snapshot_waits_for_acknowledgements() -> None:
    scene = Scene(from_ms=minute(-100), answering=False)
    scene.bars += [candle(minute(number)) for number in range(-101, 0)]
    assert scene.stream.take(scene.now_s, 64).steps == []
    for ask in scene.core.poll(scene.now_s).asks:
        scene.answer(ask)
    assert len(scene.stream.take(scene.now_s, 64).steps) == 64
    assert len(scene.stream.take(scene.now_s, 0).steps) == 0
    assert len(scene.stream.take(scene.now_s, 50).steps) >= 35


def test_history_that_the_venue_no_longer_has_is_an_error() -> None:
    scene = Scene(from_ms=minute(-6000), answering=False)
    scene.bars += [candle(minute(number)) for number in range(-5000, 1)]
    for ask in scene.core.poll(scene.now_s).asks:
        scene.answer(ask)
    with pytest.raises(DataError, match=r"BTC, 1m: the venue has bars from 2025-12-28 12:40Z on, .*`mei ingest`"):
        scene.stream.take(scene.now_s, 64)


def test_an_error_that_does_not_pass_ends_the_consumers_that_wait() -> None:
    scene = Scene(answering=False)
    (ask,) = scene.core.poll(0.0).asks
    scene.core.fail(ask, Retryable("busy"), 0.0)
    assert scene.stream.take(0.0, 64).steps == []
    scene.core.fail(ask, DataError("nonsense"), 0.0)
    with pytest.raises(DataError, match="nonsense"):
        scene.stream.take(0.0, 64)


def test_a_failed_request_is_repeated_less_and_less_often() -> None:
    scene = Scene(answering=False)
    for _ in range(2400):
        scene.now_s += 0.05
        for ask in scene.core.poll(scene.now_s).asks:
            scene.asked.append(ask)
            scene.core.fail(ask, Retryable("502"), scene.now_s)
    assert 6 <= len(scene.asked) <= 20  # 0.5, 1, 2, 5, 10, 30, 60 seconds, for bars and funding


def test_streams_are_stale_from_a_loss_until_they_deliver_again() -> None:
    scene = begun()
    scene.pass_time(10.0)
    scene.core.lose(scene.now_s)
    scene.read()
    assert {(event.stream, event.stale_since_ms) for event in scene.of(FeedHealth)} == {
        ("candle 1m", T0 + 10_000),
        ("context", T0 + 10_000),
    }
    scene.events.clear()
    scene.core.acknowledge(Subscription(type=CANDLE, coin="BTC", interval="1m"), scene.now_s)
    scene.turn()
    assert scene.events == []
    scene.push(candle(T0, volume=0.6))
    assert [(event.stream, event.stale_since_ms) for event in scene.of(FeedHealth)] == [("candle 1m", None)]


def test_after_a_long_loss_health_waits_for_the_missed_bars() -> None:
    scene = begun()
    scene.core.lose(scene.now_s)
    scene.answering = False
    scene.go_to(minute(3), step_s=0.5)
    scene.acknowledge()
    scene.push(candle(minute(3), volume=0.1))
    stale = StreamId("BTC", "candle 1m")
    assert scene.core.health.states[stale].stale_since_ms is not None
    scene.bars += [candle(minute(number), volume=2.0) for number in range(4)]
    scene.answer(next(ask for ask in reversed(scene.asked) if ask.from_ms == T0))
    assert scene.core.health.states[stale].stale_since_ms is None
    scene.read()
    assert [event.open_ms for event in scene.of(BarRevised)] == [T0, minute(1)]


def test_a_silent_symbol_is_found_and_its_stream_renewed() -> None:
    scene = begun(symbols=("BTC", "ETH"))
    scene.bars += [candle(T0, 104.0, 4.0), candle(T0, coin="ETH", volume=0.5)]
    scene.go_to(minute(1))
    scene.push(candle(T0, coin="ETH", volume=0.5))
    renewed = []
    for _ in range(10):
        scene.now_s += 0.05
        renewed += scene.turn()
    assert renewed == [Subscription(type=CANDLE, coin="BTC", interval="1m")]
    stale = {event.symbol for event in scene.of(FeedHealth) if event.stale_since_ms is not None}
    assert stale == {"BTC"}
    assert [(bar.symbol, bar.volume, bar.confirmed) for bar in scene.of(BarClosed)] == [
        ("BTC", 4.0, True),
        ("ETH", 0.5, True),
    ]


def test_the_state_of_a_symbol_that_stops_is_stale() -> None:
    scene = begun()
    renewed = []
    for _ in range(62):
        scene.now_s += 0.5
        scene.core.take_candle(candle(minute(int(scene.now_s // 60))), scene.now_s)
        renewed += scene.turn()
    assert [each.type for each in renewed] == ["activeAssetCtx"]
    assert ("context", "BTC") in {(event.stream, event.symbol) for event in scene.of(FeedHealth)}


def test_a_refused_stream_stays_stale() -> None:
    scene = begun()
    scene.core.refuse(Subscription(type=CANDLE, coin="BTC", interval="1m"), "no", scene.now_s)
    scene.push(candle(T0, volume=0.7))
    assert scene.of(FeedHealth)[-1].stale_since_ms is not None
    assert "the venue refuses the stream: no" in scene.core.problems[-1]


def test_marks_are_sent_once_a_second_to_a_consumer_that_has_caught_up() -> None:
    scene = begun()
    scene.rate = "0.0001"
    scene.marks.clear()
    scene.pass_time(5.0)
    assert 4 <= len(scene.marks) <= 6
    assert {(mark.symbol, mark.price, mark.oracle) for mark in scene.marks} == {("BTC", 100.0, 100.0)}
    times = [mark.venue_ms or 0 for mark in scene.marks]
    assert all(later - earlier >= 999 for earlier, later in pairwise(times))
    scene.rate = ""
    scene.marks.clear()
    scene.pass_time(3.0)
    assert len(scene.marks) <= 1, "a mark that was sent is not sent again"


def test_funding_falls_due_with_the_last_pushed_rate() -> None:
    scene = begun()
    scene.bars += [candle(minute(number), volume=2.0) for number in range(62)]
    scene.rate = "0.0001"
    scene.go_to(hour(1) - 2000, step_s=10.0)
    scene.rate = "0.0002"
    scene.go_to(hour(1) - 1000)
    scene.rate = "0.0007"
    scene.pass_time(0.995, step_s=0.995)  # it may belong to the next hour
    scene.go_to(hour(1) + 500)
    assert scene.of(FundingRate) == [
        FundingRate(venue_ms=hour(1), symbol="BTC", due_ms=hour(1), rate=0.0002, oracle=100.0)
    ]
    at = scene.events.index(scene.of(FundingRate)[0])
    assert isinstance(scene.events[at - 1], BarClosed)
    assert isinstance(scene.events[at + 1], StepClosed)


def test_funding_that_was_not_pushed_is_asked_for() -> None:
    scene = begun()
    scene.bars += [candle(minute(number), volume=2.0) for number in range(62)]
    scene.core.lose(scene.now_s)
    scene.go_to(hour(1) - 1000, step_s=10.0)
    scene.funding.append(FundingHour(coin="BTC", rate=Decimal("0.0003"), time_ms=hour(1) + 11))
    scene.go_to(hour(1) + 3000)
    assert [(event.due_ms, event.rate) for event in scene.of(FundingRate)] == [(hour(1), 0.0003)]


def test_changed_terms_hold_from_the_next_step_on() -> None:
    scene = begun()
    scene.core.take_meta(meta("BTC", leverage=20))
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    change, end = scene.events[1:]
    assert (change.from_ms, change.max_leverage, change.last_open_ms) == (minute(1), 20.0, None)
    assert isinstance(end, StepClosed)


def test_a_delisted_symbol_ends_with_a_step_and_is_waited_for_no_more() -> None:
    scene = begun(symbols=("BTC", "ETH"))
    scene.core.take_meta(meta("BTC", "ETH", delisted=["ETH"]))
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    change = scene.of(InstrumentChanged)[0]
    assert (change.symbol, change.last_open_ms, change.from_ms) == ("ETH", T0, minute(1))
    assert scene.of(StepClosed)[0].present == ("BTC",)
    scene.go_to(minute(2))
    scene.push(candle(minute(2), volume=0.1))
    assert len(scene.of(StepClosed)) == 2
    assert len(scene.of(InstrumentChanged)) == 1
    assert scene.of(BarMissing) == []


def test_a_symbol_that_has_no_bar_yet_is_not_waited_for() -> None:
    scene = Scene(symbols=("BTC", "NEW"))
    scene.bars.append(candle(minute(-1)))
    scene.turn()
    scene.acknowledge()
    scene.push(candle(T0, volume=0.5))
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    assert scene.of(StepClosed)[0].present == ("BTC",)
    assert scene.of(BarMissing) == []


def test_consumers_share_streams_that_end_some_time_after_the_last_one_left() -> None:
    scene = begun()
    other = scene.subscribe(minute(0))
    assert len(scene.core.wanted) == 2
    assert scene.core.streams == [scene.stream, other]
    del other
    scene.core.forget(scene.now_s)
    assert scene.core.streams == [scene.stream]
    del scene.stream
    version = scene.core.version
    scene.core.forget(scene.now_s + 299.0)
    assert len(scene.core.wanted) == 2
    scene.core.forget(scene.now_s + 301.0)
    assert (scene.core.wanted, scene.core.version) == ([], version + 1)


def test_bars_of_a_consumer_that_left_need_no_request() -> None:
    scene = begun()
    scene.bars += [candle(minute(number), volume=2.0) for number in range(-1, 6)]
    scene.go_to(minute(5) + 500, step_s=0.5)
    scene.asked.clear()
    scene.stream = scene.subscribe(minute(2))
    scene.events = []
    scene.turn()
    assert scene.asked == []
    assert [step.step_ms for step in scene.of(StepClosed)] == [minute(2), minute(3), minute(4)]


@pytest.mark.parametrize(
    ("symbols", "intervals", "from_ms", "text"),
    [
        ((), ("1m",), T0, "symbols: the list is empty"),
        (("DOGE",), ("1m",), T0, "symbols: 'DOGE' is unknown at the venue"),
        (("BTC",), (), T0, "intervals: the list is empty"),
        (("BTC",), ("7m",), T0, "interval '7m' is not known"),
        (("BTC",), ("3m", "5m"), T0, "5m is no multiple of 3m"),
        (("BTC",), ("1m",), T0 + 1, "must lie on the 1m grid"),
        (("BTC",), ("1m",), hour(5), "after the feed's clock, 2026-01-01 00:00Z"),
    ],
)
def test_a_wrong_subscription_is_refused(symbols, intervals, from_ms, text) -> None:
    scene = Scene()
    with pytest.raises(ConfigError, match=text):
        scene.core.subscribe(subscription(VENUE, NETWORK, symbols, intervals, from_ms), 0.0)


def test_a_venue_without_symbols_is_an_error() -> None:
    with pytest.raises(DataError, match="its universe is empty"):
        Scene().core.take_meta(meta())


def test_bars_that_cannot_be_are_left_out() -> None:
    scene = begun()
    good = candle(T0, 101.0, 3.0)
    for wrong in (replace(good, high=good.low / 2), replace(good, open_ms=T0 + 1), replace(good, volume=-good.volume)):
        scene.core.take_candle(wrong, scene.now_s)
    assert len(scene.core.problems) == 3
    scene.core.take_candle(candle(hour(2)), scene.now_s)
    assert scene.core.clock_doubted
    assert "after the venue's present time" in scene.core.problems[-1]
    scene.go_to(minute(1))
    scene.push(candle(minute(1), volume=0.1))
    assert [bar.volume for bar in scene.of(BarClosed)] == [0.5]


def test_an_answer_that_cannot_be_is_a_failure() -> None:
    scene = Scene(answering=False)
    (ask,) = scene.core.poll(0.0).asks
    scene.core.answer_candles(ask, [candle(minute(-1)), candle(minute(-2))], 0.0, 0.0)
    with pytest.raises(DataError, match="out of order"):
        scene.stream.take(0.0, 64)
