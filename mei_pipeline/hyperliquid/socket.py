"""WebSocket of the venue: one connection that is opened again for as long as the task runs."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.codec import WrongPayload, decode_message, encode
from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, InboxItem, Lost, Opened, Unreadable
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.subscriptions import Pace, SocketLimits, Subscriptions, Unanswered
from mei_pipeline.hyperliquid.wire import ACKNOWLEDGED, CHANNELS, ERROR, GREETING, PONG, Subscription

_MOST_DOUBLINGS = 16


class _Overflowed(Exception):
    """The inbox is full and has said so."""


class _Connect(connect):
    """Connection that follows no redirect: the network is configured."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


_BROKEN = (OSError, EOFError, WebSocketException, Unanswered, _Overflowed)
"""Errors that end a connection; `OSError` covers time-outs, name resolution and TLS."""


class VenueSocket:
    """WebSocket that keeps the wanted streams subscribed.

    The inbox gets `Opened`, then `Subscribed` for each stream that the venue acknowledges, the messages, and `Lost`
    when the connection breaks or can't be opened. A stream without `Subscribed` since the last `Lost` delivers nothing
    that can be relied on. The consumer decides which streams are stale, and calls `renew`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        inbox: Inbox,
        *,
        limits: SocketLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Create a socket; `run` opens it.

        Args:
            endpoints: Addresses of the network.
            inbox: Receives everything that happens.
            limits: Times and limits; the defaults of `SocketLimits` if None.
            clock: Monotonic time in seconds.
            sleep: Waits for a number of seconds of that clock.
            jitter: Returns a number in [0, 1), by which times between connections vary.
        """
        self._url = endpoints.socket_url
        self._inbox = inbox
        self._limits = limits or SocketLimits()
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._wanted: dict[Subscription, None] = {}
        self._changed = asyncio.Event()
        self._streams: Subscriptions | None = None
        self._connects = Pace(self._limits.connects_per_minute)
        self._messages = Pace(self._limits.messages_per_minute)

    def want(self, subscriptions: Iterable[Subscription]) -> None:
        """Set all streams that are wanted; an open connection is sent the differences.

        Raises:
            ConfigError: They are more than the venue allows.
        """
        wanted = dict.fromkeys(subscriptions)
        if len(wanted) > self._limits.subscriptions:
            raise ConfigError(
                f"{self._url}: {len(wanted)} streams are wanted, but one feed can have at most "
                f"{self._limits.subscriptions}; follow fewer symbols or intervals"
            )
        self._wanted = wanted
        self._changed.set()

    async def renew(self, subscription: Subscription) -> None:
        """End one stream and begin it again, even if it was refused; `Subscribed` follows.

        Without an open connection there is nothing to end, and the next one begins all wanted streams.
        """
        if self._streams is not None:
            self._streams.renewing.add(subscription)
            self._changed.set()

    async def run(self) -> None:
        """Keep a connection open until the task is cancelled, which closes it."""
        failures = 0
        while True:
            if self._inbox.overflowed:
                await self._inbox.emptied()
            await self._sleep_until_connect()
            begun_s = self._clock()
            reason = await self._connection()
            if reason:
                self._inbox.put(Lost(f"{self._url}: {reason}"))
            failures = 0 if self._clock() - begun_s >= self._limits.steady_s else failures + 1
            await self._sleep(self._backoff_s(failures))

    async def _sleep_until_connect(self) -> None:
        while wait_s := self._connects.wait_s(self._clock()):
            await self._sleep(wait_s)
        self._connects.count(self._clock())

    def _backoff_s(self, failures: int) -> float:
        shortest_s, longest_s = self._limits.backoff_s
        return min(longest_s, shortest_s * 2 ** min(failures, _MOST_DOUBLINGS)) * (0.5 + 0.5 * self._jitter())

    async def _connection(self) -> str:
        """Open a connection and use it until it breaks.

        Returns:
            Reason why it broke; empty if the inbox already has it.
        """
        try:
            connection = await self._open()
        except _BROKEN as error:
            return f"connection failed: {_text_of(error)}"
        try:
            error = await self._use(connection)
            if isinstance(error, Unanswered):
                connection.transport.abort()  # a closing handshake would wait for a venue that does not answer
        finally:
            self._streams = None
            await connection.close()
        return "" if isinstance(error, _Overflowed) else _text_of(error)

    async def _open(self) -> ClientConnection:
        # The pings are the venue's own. Proxies would come from the environment, which only settings.py reads.
        return await _Connect(
            self._url,
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=self._limits.open_s,
            close_timeout=self._limits.close_s,
            max_size=self._limits.message_bytes,
        )

    async def _use(self, connection: ClientConnection) -> BaseException:
        """Follow the wanted streams on a connection, and return the error that broke it."""
        if not self._inbox.put(Opened()):
            return _Overflowed()
        streams = self._streams = Subscriptions(self._limits, self._clock())
        outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        # Sending has a task of its own: it blocks if the venue reads nothing, and time-outs must still be noticed.
        # No TaskGroup: that of Python 3.11 loses a cancellation that meets the error of a task.
        tasks = [
            asyncio.create_task(each)
            for each in (
                self._send(connection, outgoing),
                self._talk(streams, outgoing),
                self._read(connection, streams),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [each for each in ended if isinstance(each, Exception)]
        for each in errors:
            if not isinstance(each, _BROKEN):
                raise each
        return errors[0]

    async def _talk(self, streams: Subscriptions, outgoing: asyncio.Queue[bytes]) -> None:
        while True:
            self._changed.clear()
            now_s = self._clock()
            for item in streams.overdue(now_s):
                self._put(item)
            room = self._messages.room(now_s)
            commands = streams.due(self._wanted, now_s, room)
            for command in commands:
                self._messages.count(now_s)
                outgoing.put_nowait(encode(command))
            next_s = streams.next_s() - now_s
            if len(commands) >= room:
                next_s = min(next_s, self._messages.wait_s(now_s))
            await self._wait(next_s)

    async def _wait(self, seconds: float) -> None:
        """Wait until something has changed, at most for a number of seconds."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleeping, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changed.cancel()
            await asyncio.gather(sleeping, changed, return_exceptions=True)

    async def _send(self, connection: ClientConnection, outgoing: asyncio.Queue[bytes]) -> None:
        while True:
            await connection.send(await outgoing.get(), text=True)

    async def _read(self, connection: ClientConnection, streams: Subscriptions) -> None:
        while True:
            body = await connection.recv(decode=False)
            item = self._item_of(body, streams)
            if item is not None:
                self._put(item)

    def _item_of(self, body: bytes, streams: Subscriptions) -> InboxItem | None:
        if body.strip() == GREETING:
            return None
        try:
            message = decode_message(body)
        except WrongPayload as error:
            return Unreadable(str(error))
        if message.channel == PONG:
            streams.pong()
        elif message.channel in {ACKNOWLEDGED, ERROR}:
            self._changed.set()
            return streams.answered(message.data) if message.channel == ACKNOWLEDGED else streams.failed(message.data)
        elif message.channel in CHANNELS:
            return Arrived(message, self._clock())
        return None

    def _put(self, item: InboxItem) -> None:
        if not self._inbox.put(item):
            raise _Overflowed


def _text_of(error: BaseException) -> str:
    return str(error) or type(error).__name__
