"""Consumer of a feed: one subscription over one connection.

A client is synchronous and has no threads. After `FeedBroken` the consumer calls `connect` again, from the end of its
last step.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from live.feed_protocol import (
    PROTOCOL,
    SILENT_S,
    Ack,
    Bye,
    End,
    FeedBroken,
    FeedEnded,
    Heartbeat,
    Hello,
    Numbered,
    Subscribe,
    SubscriptionRefused,
    WrongLine,
    check_length,
    cut_lines,
    encode,
    error_of,
    feed_messages,
)
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.execution.events import FeedEvent

START_S = 30.0
"""Longest time from connecting to the first event, in seconds: a feed may still be starting."""

MOST_EVENTS = 400
"""Number of events that `read` returns at once, at most."""

_CHUNK_BYTES = 1 << 18


def connect(
    path: Path, wanted: Subscribe, *, start_s: float = START_S, clock: Callable[[], float] = time.monotonic
) -> "FeedClient":
    """Connect to the feed at a socket and subscribe.

    Args:
        path: The Unix socket.
        wanted: The subscription (`subscription`).
        start_s: Longest time until the first event, in seconds.
        clock: Monotonic clock, in seconds.

    Raises:
        ConfigError: The feed has another protocol, venue or network, or refuses the subscription as wrong.
        DataError: The feed lacks the data.
        FeedBroken: No feed listens, or it ends or is silent before the first event.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(start_s)
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise FeedBroken(f"{path}: no feed listens: {error.strerror or error}; start the feed") from error
    return FeedClient(connection, wanted, start_s=start_s, clock=clock)


def subscription(venue: str, network: str, symbols: Sequence[str], intervals: Sequence[str], from_ms: int) -> Subscribe:
    """Return a subscription from `from_ms` on, the end of the last step that the consumer knows."""
    return Subscribe(
        protocol=PROTOCOL,
        venue=venue,
        network=network,
        symbols=tuple(symbols),
        intervals=tuple(intervals),
        from_ms=from_ms,
    )


class FeedClient:
    """A subscription to a feed.

    Attributes:
        hello: First message of the feed.
        seq: Number of the last event that has arrived; 0 before the first.
        returned_seq: Number of the last event that `read` has returned; 0 before the first.
        now_ms: Time on the feed's clock at its last heartbeat, UTC milliseconds; None before the first.
    """

    def __init__(
        self,
        connection: socket.socket,
        wanted: Subscribe,
        *,
        start_s: float = START_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribe over a connected socket; see `connect`."""
        self.hello: Hello
        self.seq = 0
        self.returned_seq = 0
        self.now_ms: int | None = None
        self._connection = connection
        self._clock = clock
        self._received = bytearray()
        self._lines = 0
        self._heard_s = clock()
        self._greeted = False
        self._events: list[FeedEvent] = []
        self._failure: MeiError | None = None
        connection.settimeout(SILENT_S)
        try:
            self._await(lambda: self._greeted, self._heard_s + start_s)
            self._send(encode([wanted]))
            self._await(lambda: self.seq > 0, self._heard_s + start_s)
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        """Return the file descriptor, for `select`; call `read` first, because events may have arrived before."""
        return self._connection.fileno()

    def read(self, timeout_s: float) -> list[FeedEvent]:
        """Return the events that have arrived, in their order; wait for the first one up to `timeout_s`.

        At most `MOST_EVENTS` are returned at once, so that the feed makes further ones while these are processed. The
        last of them has the number `returned_seq`, the others the numbers before it. Events that arrived before an
        error are returned first; the next call raises the error.

        Args:
            timeout_s: Longest time to wait, in seconds; 0 returns at once.

        Returns:
            The events; empty if none arrived in time.

        Raises:
            FeedBroken: The connection is closed, an event is missing, the feed started again, or it is silent.
            FeedEnded: The feed has no further events.
            WrongLine: The feed sent a line that is not a message.
            ConfigError, DataError: An error of this kind stopped the feed.
        """
        deadline_s = self._clock() + timeout_s
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if not self._receive(deadline_s) and self._failure is None and self._clock() >= deadline_s:
                break
        events = self._events[:MOST_EVENTS]
        del self._events[:MOST_EVENTS]
        self.returned_seq = self.seq - len(self._events)
        return events

    def ack(self, seq: int | None = None) -> None:
        """Report that all events up to `seq` are processed; by default those that `read` has returned.

        A failure to send is no error: the next `read` raises the reason why the connection ended.
        """
        self._send(encode([Ack(seq=self.returned_seq if seq is None else seq)]))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _await(self, reached: Callable[[], bool], deadline_s: float) -> None:
        """Receive until a condition holds; raise the failure if the connection fails before."""
        while not reached():
            if self._failure is not None:
                raise self._failure
            if not self._receive(deadline_s, silent_s=None) and self._clock() >= deadline_s:
                raise FeedBroken("feed: no answer in time; start the feed again")

    def _send(self, line: bytes) -> None:
        try:
            self._connection.sendall(line)
        except OSError:
            # The feed may have said goodbye before it closed the connection. The next receive reads that.
            return

    def _receive(self, deadline_s: float, silent_s: float | None = SILENT_S) -> bool:
        """Wait for bytes until the deadline and process them; return False if none came."""
        until_s = deadline_s if silent_s is None else min(deadline_s, self._heard_s + silent_s)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(max(0.0, until_s - self._clock()) * 1000.0):
            if silent_s is not None and self._clock() >= self._heard_s + silent_s:
                self._failure = FeedBroken(f"feed: silent for {silent_s:g} s")
            return False
        try:
            chunk = self._connection.recv(_CHUNK_BYTES)
        except OSError as error:
            self._failure = FeedBroken(f"feed: connection lost: {error.strerror}")
            return False
        self._heard_s = self._clock()
        if not chunk:
            cut = " in the middle of a line" if self._received else ""
            self._failure = FeedBroken(f"feed: it closed the connection{cut}")
            return False
        self._received += chunk
        try:
            self._process()
        except MeiError as error:
            self._failure = error
        return True

    def _process(self) -> None:
        """Process the complete lines that have arrived.

        Raises:
            MeiError: The stream ends here; earlier events are in `_events`.
        """
        for message in feed_messages(cut_lines(self._received), self._lines + 1):
            self._lines += 1
            if not isinstance(message, Numbered):
                self._control(message)
            elif not self._greeted:
                raise WrongLine("feed: an event before hello")
            elif message.seq != self.seq + 1:
                raise FeedBroken(f"feed: event {message.seq} follows event {self.seq}: events are missing")
            else:
                self.seq = message.seq
                self._events.append(message.event)
        check_length(self._received, self._lines + 1)

    def _control(self, message: Hello | Heartbeat | End | SubscriptionRefused | Bye) -> None:
        """Process a message that is not an event."""
        if isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Heartbeat):
            self.now_ms = message.now_ms
        elif isinstance(message, End):
            raise FeedEnded(message.reason)
        else:
            raise error_of(message.error, message.reason)

    def _greet(self, hello: Hello) -> None:
        if self._greeted:
            raise FeedBroken(f"feed: it started again as {hello.boot_id}, before {self.hello.boot_id}")
        if hello.protocol != PROTOCOL:
            raise ConfigError(
                f"feed: it speaks protocol {hello.protocol}, this MEI speaks {PROTOCOL}; use matching versions"
            )
        self.hello, self._greeted = hello, True
