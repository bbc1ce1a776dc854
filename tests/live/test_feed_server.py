"""The server side of a feed, over real sockets; a test moves its clock."""

import socket
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from feed_kit import START_MS, Clock, ListStream, step

from live.feed_protocol import (
    PROTOCOL,
    Ack,
    Bye,
    ConsumerMessage,
    End,
    FeedMessage,
    Heartbeat,
    Hello,
    Numbered,
    Subscribe,
    SubscriptionRefused,
    cut_lines,
    encode,
    feed_messages,
)
from live.feed_server import ConnectionLimits, FeedServer, Identity, Stream, Taken, listen
from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError
from mei_pipeline.execution.events import CaughtUp, FeedEvent

IDENTITY = Identity("test", "replay", "boot")
WANTED = Subscribe(
    protocol=PROTOCOL, venue="test", network="replay", symbols=("AAA",), intervals=("1h",), from_ms=START_MS
)


class Consumer:
    """A consumer that reads and writes only when the test says so."""

    def __init__(self, path: Path) -> None:
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.connect(str(path))
        self.end.settimeout(0.0)
        self.rest = bytearray()
        self.closed = False

    def send(self, *messages: ConsumerMessage) -> None:
        self.end.sendall(encode(messages))

    def messages(self) -> list[FeedMessage]:
        try:
            while chunk := self.end.recv(1 << 16):
                self.rest += chunk
            self.closed = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.closed = True
        return list(feed_messages(cut_lines(self.rest), 1))


class Bench:
    """A server, its clock, and the streams that it opens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.listener = listen(path)
        self.open: Callable[[Subscribe], Stream] = lambda _: ListStream([])
        self.server = FeedServer(
            self.listener, IDENTITY, self.opened, limits=ConnectionLimits(4, 50_000, 5.0), clock=self.clock
        )
        self.consumers: list[Consumer] = []

    def opened(self, wanted: Subscribe, now_s: float) -> Stream:
        assert now_s == self.clock()
        return self.open(wanted)

    def consumer(self) -> Consumer:
        made = Consumer(self.path)
        self.consumers.append(made)
        self.turn()
        return made

    def subscribed(self, stream: Stream) -> Consumer:
        self.open = lambda _: stream
        made = self.consumer()
        made.send(WANTED)
        self.turn()
        return made

    def turn(self, passed_s: float = 0.0) -> None:
        """Let the server do all that there is to do."""
        self.clock.now_s += passed_s
        for _ in range(4):
            self.server.poll(0.0)

    def close(self) -> None:
        self.server.close()
        self.listener.close()
        for each in self.consumers:
            each.end.close()


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    made = Bench(tmp_path / "feed")
    yield made
    made.close()


def steps(count: int) -> list[list[FeedEvent]]:
    return [step(number) for number in range(count)]


def numbers(messages: list[FeedMessage]) -> list[int]:
    return [message.seq for message in messages if isinstance(message, Numbered)]


def test_a_subscription_gets_hello_the_snapshot_and_numbered_steps(bench: Bench) -> None:
    asked: list[Subscribe] = []
    bench.open = lambda wanted: asked.append(wanted) or ListStream(steps(2), ended="over")
    consumer = bench.consumer()
    hello = Hello(protocol=PROTOCOL, venue="test", network="replay", boot_id="boot")
    assert consumer.messages() == [hello]
    bench.turn(60.0)
    assert consumer.messages() == []  # nothing before the subscription
    consumer.send(WANTED)
    bench.turn()
    events = [CaughtUp(venue_ms=START_MS), *step(0), *step(1)]
    assert consumer.messages() == [*(Numbered(seq, event) for seq, event in enumerate(events, 1)), End(reason="over")]
    assert asked == [WANTED]
    bench.turn(60.0)
    assert consumer.messages() == []
    assert not consumer.closed


def test_a_stream_that_waits_runs_a_few_steps_ahead_of_the_acknowledgements(bench: Bench) -> None:
    stream = ListStream(steps(10))
    consumer = bench.subscribed(stream)
    assert numbers(consumer.messages()) == list(range(1, 10))  # the snapshot and four steps of two events
    bench.turn()
    assert consumer.messages() == []
    consumer.send(Ack(seq=4))  # one step, and a part of the next
    bench.turn()
    assert numbers(consumer.messages()) == [10, 11]
    consumer.send(Ack(seq=3), Ack(seq=11))
    bench.turn()
    assert numbers(consumer.messages()) == list(range(12, 20))
    assert max(stream.rooms) == 4
    assert min(stream.rooms) == 0


def test_a_real_time_stream_does_not_wait_for_acknowledgements(bench: Bench) -> None:
    stream = ListStream(steps(10), realtime=True)
    consumer = bench.subscribed(stream)
    assert numbers(consumer.messages()) == list(range(1, 22))


def fall_behind(bench: Bench, stream: ListStream) -> int:
    """Send events that nobody reads until the server gives the consumer up; return their number."""
    sent, turns = 0, -1
    while len(stream.rooms) > turns:
        turns = len(stream.rooms)
        stream.waiting += steps(100)
        sent += 200
        bench.turn()
    return sent


def test_a_slow_consumer_of_a_real_time_stream_is_told_and_disconnected(bench: Bench) -> None:
    stream = ListStream([], realtime=True)
    slow = bench.subscribed(stream)
    seen = slow.messages()
    sent = fall_behind(bench, stream)
    assert bench.server.consumers == 1
    slow.send(Ack(seq=1))  # too late
    while not slow.closed:
        seen += slow.messages()
        bench.turn()
    *events, last = [message for message in seen if not isinstance(message, Hello)]
    assert isinstance(last, Bye)
    assert last.error == "retry"
    assert last.reason.startswith("feed: the consumer is too slow: ")
    assert numbers(events) == list(range(1, len(events) + 1))
    assert 1 < len(events) < sent


def test_a_consumer_that_never_reads_its_goodbye_is_left(bench: Bench) -> None:
    stream = ListStream([], realtime=True)
    bench.subscribed(stream)
    fall_behind(bench, stream)
    bench.turn(4.9)
    assert bench.server.consumers == 1
    bench.turn(0.2)
    assert bench.server.consumers == 0


def test_heartbeats_tell_the_time_of_the_stream(bench: Bench) -> None:
    consumer = bench.subscribed(ListStream([]))
    consumer.messages()
    bench.turn(0.9)
    assert consumer.messages() == []
    bench.turn(0.2)
    assert consumer.messages() == [Heartbeat(now_ms=101_100)]
    bench.turn(0.9)
    assert consumer.messages() == []
    bench.turn(0.2)
    assert consumer.messages() == [Heartbeat(now_ms=102_200)]


def test_a_heartbeat_follows_a_step_of_the_same_moment(bench: Bench) -> None:
    stream = ListStream([])
    consumer = bench.subscribed(stream)
    consumer.messages()
    stream.waiting += steps(1)
    bench.turn(1.0)
    assert [type(message) for message in consumer.messages()] == [Numbered, Numbered, Heartbeat]


def test_heartbeats_do_not_queue_for_a_consumer_that_reads_nothing(bench: Bench) -> None:
    stream = ListStream(steps(5_000))
    bench.server = FeedServer(
        bench.listener, IDENTITY, bench.opened, limits=ConnectionLimits(5_000, 1, 5.0), clock=bench.clock
    )
    consumer = bench.subscribed(stream)
    for _ in range(10):
        bench.turn(1.1)
    seen: list[FeedMessage] = []
    while len(seen) < 10_002:
        seen += consumer.messages()
        bench.turn()
    assert [message for message in seen if isinstance(message, Heartbeat)] == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": 2}, "feed: the consumer speaks protocol 2, this feed speaks 1; use matching versions"),
        ({"venue": "other"}, "feed: it serves venue test on network replay, not venue other on network replay"),
        ({"network": "mainnet"}, "feed: it serves venue test on network replay, not venue test on network mainnet"),
    ],
)
def test_a_subscription_to_another_feed_is_refused(bench: Bench, changes: dict[str, object], reason: str) -> None:
    consumer = bench.consumer()
    fields = {name: getattr(WANTED, name) for name in WANTED.__struct_fields__} | changes
    consumer.send(Subscribe(**fields))
    bench.turn()
    _, refused = consumer.messages()
    assert isinstance(refused, SubscriptionRefused)
    assert refused.error == "config"
    assert refused.reason.startswith(reason)
    assert consumer.closed


@pytest.mark.parametrize(
    ("error", "kind"), [(ConfigError("no"), "config"), (DataError("no"), "data"), (Busy("no"), "retry")]
)
def test_a_stream_that_can_not_open_refuses(bench: Bench, error: MeiError, kind: str) -> None:
    def refuse(_: Subscribe) -> Stream:
        raise error

    bench.open = refuse
    consumer = bench.consumer()
    consumer.send(WANTED)
    bench.turn()
    assert consumer.messages()[1:] == [SubscriptionRefused(error=kind, reason="no")]
    assert consumer.closed


class DamagedStream(ListStream):
    """A stream that fails after its steps."""

    def take(self, now_s: float, room: int) -> Taken:
        if not self.waiting:
            raise DataError("a file is damaged")
        return super().take(now_s, room)


def test_an_error_of_a_stream_ends_its_connection_alone(bench: Bench) -> None:
    other = bench.subscribed(ListStream([]))
    consumer = bench.subscribed(DamagedStream(steps(1)))
    messages = consumer.messages()
    assert numbers(messages) == [1, 2, 3]
    assert messages[-1] == Bye(reason="a file is damaged", error="data")
    assert consumer.closed
    other.messages()
    assert not other.closed


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"nonsense\n", "consumer: line 1: not a message of protocol 1: "),
        (encode([WANTED, WANTED]), "consumer: a second subscribe; open another connection for it"),
        (encode([Ack(seq=1)]), "consumer: ack of event 1, but the last event sent is 0"),
        (encode([WANTED]) + b'{"type":"hello"}\n', "consumer: line 2: not a message of protocol 1: "),
        (encode([Subscribe(protocol=1, from_ms=10**15)]), "consumer: line 1: not a message of protocol 1: "),
        (b"x" * 200_000 + b"y" * 70_000, "consumer: line 1: longer than 262144 bytes: x"),
    ],
)
def test_a_wrong_line_of_a_consumer_ends_its_connection(bench: Bench, lines: bytes, reason: str) -> None:
    consumer = bench.consumer()
    while lines:
        lines = lines[consumer.end.send(lines) :]
        bench.turn()
    bench.turn()
    last = consumer.messages()[-1]
    assert isinstance(last, Bye)
    assert last.error == "data"
    assert last.reason.startswith(reason)
    assert consumer.closed


def test_a_line_may_arrive_in_parts(bench: Bench) -> None:
    bench.open = lambda _: ListStream(steps(1))
    consumer = bench.consumer()
    for byte in encode([WANTED]):
        consumer.end.send(bytes([byte]))
        bench.turn()
    assert numbers(consumer.messages()) == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 5_000])
def test_a_consumer_that_dies_is_forgotten_and_the_next_one_is_served(bench: Bench, count: int) -> None:
    """It dies after it was sent everything, and in the middle of a long queue."""
    consumer = bench.subscribed(ListStream(steps(count), realtime=True))
    consumer.end.close()
    bench.turn()
    assert bench.server.consumers == 0
    assert numbers(bench.subscribed(ListStream(steps(1))).messages()) == [1, 2, 3]


class LastStream(ListStream):
    """A stream whose consumer dies while a step is read."""

    consumer: Consumer

    def take(self, now_s: float, room: int) -> Taken:
        if self.waiting and room:
            self.consumer.end.close()
        return super().take(now_s, room)


def test_a_consumer_that_dies_while_a_step_is_read_is_forgotten(bench: Bench) -> None:
    stream = LastStream([])
    stream.consumer = bench.subscribed(stream)
    stream.waiting += steps(1)
    bench.turn()
    assert bench.server.consumers == 0


def test_several_consumers_have_their_own_numbers(bench: Bench) -> None:
    one, other = bench.subscribed(ListStream(steps(2))), bench.subscribed(ListStream(steps(1)))
    assert numbers(one.messages()) == [1, 2, 3, 4, 5]
    assert numbers(other.messages()) == [1, 2, 3]


def test_a_server_that_closes_closes_its_connections(bench: Bench) -> None:
    consumer = bench.subscribed(ListStream([]))
    bench.server.close()
    consumer.messages()
    assert consumer.closed


def test_other_descriptors_end_the_wait(bench: Bench) -> None:
    own, other = socket.socketpair()
    with own, other:
        assert bench.server.poll(0.0, [own.fileno()]) == []
        other.send(b"x")
        assert bench.server.poll(60.0, [own.fileno()]) == [own.fileno()]


def test_the_socket_of_a_killed_feed_is_replaced_and_that_of_a_living_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    listen(path).close()
    with listen(path), pytest.raises(ConfigError, match="feed: can't listen there: Address already in use"):
        listen(path)
    path.unlink()
    path.write_text("a file of someone")
    with pytest.raises(ConfigError, match="can't listen there"):
        listen(path)
    assert path.read_text() == "a file of someone"


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x: can't listen there: AF_UNIX path too long; choose another path"):
        listen(tmp_path / ("x" * 108))
