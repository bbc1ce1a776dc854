"""Lines of the feed protocol."""

import typing

import pytest
from feed_kit import step
from hypothesis import given
from hypothesis import strategies as st

from live import feed_protocol as protocol
from live.feed_protocol import (
    Ack,
    Bye,
    End,
    FeedBroken,
    Heartbeat,
    Hello,
    Numbered,
    Subscribe,
    SubscriptionRefused,
    WrongLine,
)
from mei_pipeline.errors import Busy, ConfigError, DataError, Fatal, MeiError
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    BarRevised,
    CaughtUp,
    FeedEvent,
    FeedHealth,
    FundingRate,
    InstrumentChanged,
    Mark,
    StepClosed,
)

EVENTS: list[FeedEvent] = [
    *step(0),
    BarMissing(symbol="A:B/C", interval="1h", open_ms=1, reason="unknown"),
    BarRevised(symbol="Ü\n", interval="1h", open_ms=1, open=0.1, high=0.3, low=1e-300, close=-0.0, volume=1e300),
    Mark(symbol="A", price=101.5, oracle=101.25),
    FundingRate(symbol="A", due_ms=7, rate=-1.25e-05, oracle=3.0),
    InstrumentChanged(
        symbol="A",
        from_ms=0,
        size_decimals=3,
        min_notional_usd=10.0,
        max_leverage=20.0,
        maintenance_margin_frac=0.025,
        last_open_ms=5,
    ),
    FeedHealth(symbol="A", stream="bars", stale_since_ms=3),
    CaughtUp(venue_ms=9),
]


def test_messages_of_a_feed_come_back_as_they_were_sent() -> None:
    messages = [
        Hello(protocol=1, venue="test", network="replay", boot_id="b"),
        SubscriptionRefused(error="data", reason="no bars"),
        *(Numbered(seq, event) for seq, event in enumerate(EVENTS, 1)),
        Heartbeat(now_ms=12),
        End(reason="over"),
        Bye(reason="slow"),
    ]
    assert {type(event) for event in EVENTS} == set(typing.get_args(FeedEvent))
    lines = protocol.encode(messages)
    assert lines.count(b"\n") == len(messages)
    assert list(protocol.feed_messages(lines, 1)) == messages


def test_messages_of_a_consumer_come_back_as_they_were_sent() -> None:
    wanted = Subscribe(protocol=1, venue="test", network="replay", symbols=("A", "B"), intervals=("1h",), from_ms=5)
    assert list(protocol.consumer_messages(protocol.encode([wanted, Ack(seq=3)]), 1)) == [wanted, Ack(seq=3)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
def test_prices_keep_every_bit(values: list[float]) -> None:
    opened, high, low, close, volume = values
    bar = BarClosed(symbol="A", interval="1h", open_ms=0, open=opened, high=high, low=low, close=close, volume=volume)
    (message,) = protocol.feed_messages(protocol.encode([Numbered(1, bar)]), 1)
    assert isinstance(message, Numbered)
    assert isinstance(message.event, BarClosed)
    back = (message.event.open, message.event.high, message.event.low, message.event.close, message.event.volume)
    assert [value.hex() for value in back] == [value.hex() for value in values]


def test_unknown_fields_are_ignored() -> None:
    event = b'{"event":"StepClosed","step_ms":1,"present":[],"later":{"a":1}}'
    line = b'{"type":"event","later":[1],"seq":4,"event":' + event + b"}\n"
    assert list(protocol.feed_messages(line, 1)) == [Numbered(4, StepClosed(step_ms=1, present=()))]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"quote","seq":1}',
        b'{"type":"event","seq":1,"event":{"event":"Decided","step_ms":1,"config_id":"a"}}',
        b'{"type":"event","seq":"1","event":{"event":"CaughtUp"}}',
        b'{"type":"ack","seq":1}',
        b'\n{"type":"quote"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_wrong_line_is_named_and_those_before_it_count(line: bytes) -> None:
    beat = Heartbeat(now_ms=1)
    lines = protocol.encode([beat]) + line + b"\n" + protocol.encode([beat])
    messages = protocol.feed_messages(lines, 17)
    assert next(messages) == beat
    with pytest.raises(WrongLine, match=r"^line 1[89]: not a message of protocol 1: "):
        next(messages)


def test_a_line_is_cut_where_it_ends() -> None:
    received = bytearray(b"one\ntwo\nthr")
    assert protocol.cut_lines(received) == b"one\ntwo\n"
    assert received == b"thr"
    assert protocol.cut_lines(received) == b""
    received += b"ee\n"
    assert protocol.cut_lines(received) == b"three\n"


def test_a_line_without_an_end_is_refused() -> None:
    rest = bytearray(b"x" * protocol.MAX_LINE_BYTES)
    protocol.check_length(rest, 3)
    with pytest.raises(WrongLine, match=rf"^line 3: longer than {protocol.MAX_LINE_BYTES} bytes: x+…$"):
        protocol.check_length(rest + b"x", 3)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (ConfigError("a"), ConfigError),
        (DataError("a"), DataError),
        (Busy("a"), FeedBroken),
        (Fatal("a"), DataError),
    ],
)
def test_an_error_of_a_feed_is_raised_by_its_consumer(sent: MeiError, received: type[MeiError]) -> None:
    error = protocol.error_of(protocol.kind_of(sent), str(sent))
    assert type(error) is received
    assert str(error) == "a"
