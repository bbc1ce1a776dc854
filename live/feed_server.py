"""Server side of the feed protocol: connections, numbers, acknowledgements, heartbeats.

Each connection has one subscription, whose events come from a `Stream`. A replay is pulled: it runs a limited number of
steps ahead of its consumer. A real-time feed can't wait, so the server disconnects a consumer that is too slow.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from live.feed_protocol import (
    BEAT_S,
    PROTOCOL,
    SILENT_S,
    Ack,
    Bye,
    ConsumerMessage,
    End,
    Heartbeat,
    Hello,
    Numbered,
    Subscribe,
    SubscriptionRefused,
    WrongLine,
    check_length,
    consumer_messages,
    cut_lines,
    encode,
    kind_of,
)
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.execution.events import FeedEvent

_CHUNK_BYTES = 1 << 16
_FOREVER_S = float("inf")


class Taken(NamedTuple):
    """Events that a stream hands out.

    Attributes:
        steps: Events of each step, or of any other unit that the consumer acknowledges.
        wait_s: Time until the stream has more, in seconds; infinite if it waits for acknowledgements or has ended.
        ended: Reason why the stream has no further events; empty if it has some.
    """

    steps: Sequence[Sequence[FeedEvent]]
    wait_s: float
    ended: str = ""


class Stream(Protocol):
    """The events of one subscription."""

    @property
    def realtime(self) -> bool:
        """True if the stream can't wait for its consumer."""

    def snapshot(self) -> Sequence[FeedEvent]:
        """Return the events before the first step, `CaughtUp` last."""

    def take(self, now_s: float, room: int) -> Taken:
        """Return the steps that are due at `now_s` of the server's clock, at most `room` if it is not real-time."""

    def now_ms(self, now_s: float) -> int:
        """Return the time on the feed's clock."""


class OpenStream(Protocol):
    """Function that opens the stream of a subscription."""

    def __call__(self, wanted: Subscribe, now_s: float) -> Stream:
        """Open the stream.

        Raises:
            MeiError: The subscription can't be served.
        """


@dataclass(frozen=True)
class Identity:
    """Identity of a feed: venue and network of its events, and the id of this start."""

    venue: str
    network: str
    boot_id: str


@dataclass(frozen=True)
class ConnectionLimits:
    """ConnectionLimits of a connection.

    Attributes:
        steps: Most steps that a stream runs ahead of the last acknowledgement, unless it is real-time.
        queue_bytes: Most bytes that wait for the consumer of a real-time stream.
        bye_s: Longest time to send the last message of a connection, in seconds.
    """

    steps: int = 64
    queue_bytes: int = 8 << 20
    bye_s: float = SILENT_S


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`; a socket file that a killed feed left there is replaced.

    Raises:
        ConfigError: The path is too long, another feed listens there, or the file can't be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(f"{path}: can't listen there: {error.strerror or error}; choose another path") from error
    return listener


def _is_stale(path: Path) -> bool:
    """Return True if `path` is a socket at which no process listens."""
    # Connecting to a regular file is refused, too, and that file must stay.
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        return False


class FeedServer:
    """Serve connections in one thread; the caller calls `poll` again and again."""

    def __init__(
        self,
        listener: socket.socket,
        identity: Identity,
        open_stream: OpenStream,
        *,
        limits: ConnectionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a listening socket.

        Args:
            listener: The socket; the caller closes it.
            identity: Identity of the feed.
            open_stream: Opens the stream of each subscription.
            limits: ConnectionLimits of each connection.
            clock: Monotonic clock, in seconds.
        """
        listener.settimeout(0.0)
        self._listener = listener
        self._identity = identity
        self._open_stream = open_stream
        self._limits = limits or ConnectionLimits()
        self._clock = clock
        self._connections: dict[int, _Connection] = {}

    @property
    def consumers(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def poll(self, timeout_s: float, wake: Sequence[int] = ()) -> list[int]:
        """Wait until there is something to do, at most `timeout_s`, and do it.

        Args:
            timeout_s: Longest time to wait, in seconds.
            wake: Further file descriptors whose input ends the wait.

        Returns:
            The descriptors of `wake` with input.
        """
        now_s = self._clock()
        poll = select.poll()
        for fd in (self._listener.fileno(), *wake):
            poll.register(fd, select.POLLIN)
        for fd, connection in self._connections.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if connection.outbox else 0))
            timeout_s = min(timeout_s, connection.due_s - now_s)
        ready = {fd for fd, _ in poll.poll(max(0.0, timeout_s) * 1000.0)}
        if self._listener.fileno() in ready:
            self._accept()
        now_s = self._clock()
        for fd, connection in list(self._connections.items()):
            if fd in ready:
                self._receive(connection, now_s)
            self._advance(connection, now_s)
            _flush(connection, now_s)
            if connection.gone:
                connection.socket.close()
                del self._connections[fd]
        return [fd for fd in wake if fd in ready]

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.settimeout(0.0)
        hello = Hello(
            protocol=PROTOCOL,
            venue=self._identity.venue,
            network=self._identity.network,
            boot_id=self._identity.boot_id,
        )
        self._connections[accepted.fileno()] = _Connection(accepted, bytearray(encode([hello])))

    def _receive(self, connection: "_Connection", now_s: float) -> None:
        """Process the bytes that have arrived from a consumer."""
        try:
            chunk = connection.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return  # it was ready for output only
        except OSError:
            chunk = b""
        if not chunk:
            connection.gone = True
            return
        if connection.leaves_s is not None:
            return
        connection.inbox += chunk
        try:
            for message in consumer_messages(cut_lines(connection.inbox), connection.lines + 1):
                connection.lines += 1
                self._process(connection, message, now_s)
            check_length(connection.inbox, connection.lines + 1)
        except WrongLine as error:
            self._leave(connection, Bye(reason=f"consumer: {error}", error="data"), now_s)

    def _process(self, connection: "_Connection", message: ConsumerMessage, now_s: float) -> None:
        """Process a message of a consumer.

        Raises:
            WrongLine: The message is out of place.
        """
        if isinstance(message, Ack):
            if message.seq > connection.seq:
                raise WrongLine(f"ack of event {message.seq}, but the last event sent is {connection.seq}")
            while connection.step_ends and connection.step_ends[0] <= message.seq:
                connection.step_ends.popleft()
        elif connection.subscribed:
            raise WrongLine("a second subscribe; open another connection for it")
        else:
            connection.subscribed = True
            self._subscribe(connection, message, now_s)

    def _subscribe(self, connection: "_Connection", wanted: Subscribe, now_s: float) -> None:
        """Open the stream of a subscription and send its snapshot, or refuse it."""
        try:
            self._check(wanted)
            connection.stream = self._open_stream(wanted, now_s)
        except MeiError as error:
            self._leave(connection, SubscriptionRefused(error=kind_of(error), reason=str(error)), now_s)
            return
        connection.beat_s = now_s + BEAT_S
        _send(connection, connection.stream.snapshot())

    def _check(self, wanted: Subscribe) -> None:
        own = self._identity
        if wanted.protocol != PROTOCOL:
            raise ConfigError(
                f"feed: the consumer speaks protocol {wanted.protocol}, this feed speaks {PROTOCOL}; "
                f"use matching versions"
            )
        if (wanted.venue, wanted.network) != (own.venue, own.network):
            raise ConfigError(
                f"feed: it serves venue {own.venue} on network {own.network}, "
                f"not venue {wanted.venue} on network {wanted.network}; connect to the feed of that venue"
            )

    def _advance(self, connection: "_Connection", now_s: float) -> None:
        """Send the steps that are due, and a heartbeat; set the time of the next action."""
        stream = connection.stream
        if stream is None:
            return
        behind = bool(connection.outbox)
        try:
            taken = stream.take(now_s, self._limits.steps - len(connection.step_ends))
        except MeiError as error:
            self._leave(connection, Bye(reason=str(error), error=kind_of(error)), now_s)
            return
        for step in taken.steps:
            _send(connection, step)
            connection.step_ends.append(connection.seq)
        if taken.ended:
            connection.outbox += encode([End(reason=taken.ended)])
            connection.stream, connection.due_s = None, _FOREVER_S
            return
        if stream.realtime and len(connection.outbox) > self._limits.queue_bytes:
            waiting = len(connection.outbox)
            # A line of which a part may have been sent stays.
            del connection.outbox[connection.outbox.index(b"\n") + 1 :]
            self._leave(connection, Bye(reason=f"feed: the consumer is too slow: {waiting} bytes wait for it"), now_s)
            return
        if now_s >= connection.beat_s:
            connection.beat_s = now_s + BEAT_S
            # A consumer that reads nothing has enough to read.
            if not behind:
                connection.outbox += encode([Heartbeat(now_ms=stream.now_ms(now_s))])
        connection.due_s = min(connection.beat_s, now_s + taken.wait_s)

    def _leave(self, connection: "_Connection", last: SubscriptionRefused | Bye, now_s: float) -> None:
        """Send a last message; the connection closes when it is sent, or when the time for it is over."""
        connection.outbox += encode([last])
        connection.stream = None
        connection.leaves_s = connection.due_s = now_s + self._limits.bye_s


@dataclass
class _Connection:
    """State of a connection, owned by the server's loop.

    Attributes:
        socket: Its socket.
        outbox: Bytes that are not sent yet.
        inbox: Bytes of a line without its end.
        lines: Number of lines that have arrived.
        subscribed: True after the subscription.
        stream: Stream of the subscription; None before, after its end and while the connection closes.
        seq: Number of the last event.
        step_ends: Numbers of the last events of the steps that are not acknowledged.
        beat_s: Time of the next heartbeat on the server's clock.
        due_s: Time of the next action.
        leaves_s: Time at which the connection closes even if its last message is not sent; None if it stays open.
        gone: True if it is to be closed now.
    """

    socket: socket.socket
    outbox: bytearray
    inbox: bytearray = field(default_factory=bytearray)
    lines: int = 0
    subscribed: bool = False
    stream: Stream | None = None
    seq: int = 0
    step_ends: deque[int] = field(default_factory=deque)
    beat_s: float = _FOREVER_S
    due_s: float = _FOREVER_S
    leaves_s: float | None = None
    gone: bool = False


def _send(connection: _Connection, events: Sequence[FeedEvent]) -> None:
    """Give events their numbers and queue their lines."""
    numbered = [Numbered(seq, event) for seq, event in enumerate(events, connection.seq + 1)]
    connection.seq += len(numbered)
    connection.outbox += encode(numbered)


def _flush(connection: _Connection, now_s: float) -> None:
    """Send as many bytes as the socket takes."""
    if connection.outbox and not connection.gone:
        try:
            del connection.outbox[: connection.socket.send(connection.outbox)]
        except BlockingIOError:
            pass  # the consumer has to read first
        except OSError:
            connection.gone = True
    if connection.leaves_s is not None and (not connection.outbox or now_s >= connection.leaves_s):
        connection.gone = True
