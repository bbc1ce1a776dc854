"""The consumer of a feed, over sockets whose other end the test writes."""

import contextlib
import socket
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from feed_kit import START_MS, Clock, step

from live.feed_client import FeedClient, connect, subscription
from live.feed_protocol import (
    MAX_LINE_BYTES,
    PROTOCOL,
    Ack,
    Bye,
    End,
    FeedBroken,
    FeedEnded,
    Heartbeat,
    Hello,
    Numbered,
    SubscriptionRefused,
    WrongLine,
    consumer_messages,
    encode,
)
from mei_pipeline.errors import ConfigError, DataError, MeiError
from mei_pipeline.execution.events import CaughtUp, FeedEvent

HELLO = Hello(protocol=PROTOCOL, venue="test", network="replay", boot_id="one")
WANTED = subscription("test", "replay", ["AAA"], ["1h"], START_MS)
SNAPSHOT = [CaughtUp(venue_ms=START_MS)]


class Feed:
    """The feed's end of a connection."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.seq = 0

    def send(self, *messages: object) -> None:
        self.end.sendall(encode(messages))

    def events(self, events: Sequence[FeedEvent]) -> None:
        self.send(*(Numbered(seq, event) for seq, event in enumerate(events, self.seq + 1)))
        self.seq += len(events)

    def received(self) -> list[object]:
        return list(consumer_messages(self.end.recv(1 << 16), 1))


def read_while_sending(consumer: FeedClient, feed: Feed, tail: bytes) -> None:
    """Read without end, and send bytes that may be more than the socket takes at once."""
    feed.end.settimeout(0.0)
    while True:
        with contextlib.suppress(BlockingIOError):
            tail = tail[feed.end.send(tail) :]
        assert consumer.read(0.0) == []


@pytest.fixture
def ends() -> Generator[tuple[socket.socket, Feed]]:
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with own, other:
        yield own, Feed(other)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(ends: tuple[socket.socket, Feed], clock: Clock) -> Generator[tuple[FeedClient, Feed]]:
    own, feed = ends
    feed.send(HELLO)
    feed.events(SNAPSHOT)
    with contextlib.closing(FeedClient(own, WANTED, clock=clock)) as made:
        assert made.read(0.0) == SNAPSHOT
        assert feed.received() == [WANTED]
        yield made, feed


def test_events_arrive_in_order_and_are_acknowledged(client: tuple[FeedClient, Feed]) -> None:
    consumer, feed = client
    assert consumer.hello == HELLO
    assert consumer.read(0.0) == []
    feed.events(step(0))
    feed.events(step(1))
    assert consumer.read(5.0) == [*step(0), *step(1)]
    assert consumer.seq == 5
    consumer.ack()
    consumer.ack(3)
    assert feed.received() == [Ack(seq=5), Ack(seq=3)]
    assert consumer.fileno() >= 0


def test_a_heartbeat_tells_the_time_of_the_feed(client: tuple[FeedClient, Feed]) -> None:
    consumer, feed = client
    assert consumer.now_ms is None
    feed.send(Heartbeat(now_ms=77))
    assert consumer.read(0.0) == []
    assert consumer.now_ms == 77


def test_a_line_may_arrive_in_parts(client: tuple[FeedClient, Feed]) -> None:
    consumer, feed = client
    line = encode([Numbered(2, step(0)[0])])
    feed.end.sendall(line[:20])
    assert consumer.read(0.0) == []
    feed.end.sendall(line[20:])
    assert consumer.read(0.0) == step(0)[:1]


def test_a_silent_feed_is_given_up_and_a_heartbeat_is_a_sign_of_life(
    client: tuple[FeedClient, Feed], clock: Clock
) -> None:
    consumer, feed = client
    clock.now_s += 4.9
    feed.send(Heartbeat(now_ms=1))
    assert consumer.read(0.0) == []
    clock.now_s += 4.9
    assert consumer.read(0.0) == []
    clock.now_s += 0.2
    with pytest.raises(FeedBroken, match="feed: silent for 5 s"):
        consumer.read(0.0)


def test_a_consumer_that_was_busy_reads_first(client: tuple[FeedClient, Feed], clock: Clock) -> None:
    consumer, feed = client
    feed.events(step(0))
    clock.now_s += 60.0
    assert consumer.read(0.0) == step(0)


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([Numbered(5, step(1)[0])], FeedBroken, "event 5 follows event 3: events are missing"),
        ([Numbered(3, step(1)[0])], FeedBroken, "event 3 follows event 3: events are missing"),
        ([Hello(protocol=1, venue="test", network="replay", boot_id="two")], FeedBroken, "started again as two"),
        ([End(reason="the lake ends")], FeedEnded, "the lake ends"),
        ([Bye(reason="too slow")], FeedBroken, "too slow"),
        ([Bye(reason="a file is damaged", error="data")], DataError, "a file is damaged"),
    ],
)
def test_events_before_an_error_are_returned_first(
    client: tuple[FeedClient, Feed], messages: list[object], error: type[MeiError], text: str
) -> None:
    consumer, feed = client
    feed.events(step(0))
    feed.send(*messages)
    assert consumer.read(0.0) == step(0)
    for _ in range(2):
        with pytest.raises(error, match=text):
            consumer.read(0.0)
    consumer.ack()  # those before the error


@pytest.mark.parametrize(
    ("tail", "error", "text"),
    [
        (b'{"type":"nothing"}\n', WrongLine, r'^line 5: not a message of protocol 1: .*: \{"type":"nothing"\}$'),
        (b"x" * (MAX_LINE_BYTES + 1), WrongLine, r"^line 5: longer than 262144 bytes: x+…$"),
    ],
)
def test_a_wrong_line_is_named_after_the_events_before_it(
    client: tuple[FeedClient, Feed], tail: bytes, error: type[MeiError], text: str
) -> None:
    consumer, feed = client
    feed.events(step(0))
    assert consumer.read(0.0) == step(0)
    with pytest.raises(error, match=text):
        read_while_sending(consumer, feed, tail)


@pytest.mark.parametrize(("tail", "text"), [(b"", "it closed the connection$"), (b'{"ty', "in the middle of a line")])
def test_a_feed_that_dies_is_broken(client: tuple[FeedClient, Feed], tail: bytes, text: str) -> None:
    consumer, feed = client
    feed.events(step(0))
    feed.end.sendall(tail)
    feed.end.close()
    consumer.ack()  # fails, which is no error of its own
    assert consumer.read(0.0) == step(0)
    with pytest.raises(FeedBroken, match=text):
        consumer.read(0.0)


def test_a_connection_that_is_reset_is_broken(client: tuple[FeedClient, Feed]) -> None:
    consumer, feed = client
    consumer.ack()  # bytes that the feed never reads reset the connection
    feed.end.close()
    with pytest.raises(FeedBroken, match="feed: connection lost: Connection reset by peer"):
        consumer.read(0.0)


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([Hello(protocol=2)], ConfigError, "it speaks protocol 2, this MEI speaks 1; use matching versions"),
        ([HELLO, SubscriptionRefused(error="config", reason="no such symbol")], ConfigError, "no such symbol"),
        ([HELLO, SubscriptionRefused(error="data", reason="no bars")], DataError, "no bars"),
        ([HELLO, SubscriptionRefused(error="retry", reason="the lake changes")], FeedBroken, "the lake changes"),
        ([Numbered(1, SNAPSHOT[0])], WrongLine, "an event before hello"),
    ],
)
def test_a_subscription_that_is_refused(
    ends: tuple[socket.socket, Feed], messages: list[object], error: type[MeiError], text: str
) -> None:
    own, feed = ends
    feed.send(*messages)
    with pytest.raises(error, match=text):
        FeedClient(own, WANTED)
    assert own.fileno() == -1


@pytest.mark.parametrize("sent", [[], [HELLO]])
def test_a_feed_without_an_answer(ends: tuple[socket.socket, Feed], sent: list[object]) -> None:
    own, feed = ends
    feed.send(*sent)
    with pytest.raises(FeedBroken, match="feed: no answer in time"):
        FeedClient(own, WANTED, start_s=0.0)


def test_no_feed_at_a_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeedBroken, match=r"nothing: no feed listens: No such file or directory; start the feed"):
        connect(tmp_path / "nothing", WANTED)
