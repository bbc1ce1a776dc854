"""The service around the core of a venue's feed: its socket, its requests and its consumers, in one event loop.

The feed server is polled in the same loop, after each message that changes something and 50 times a second.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from live.feed_server import ConnectionLimits, FeedServer, Identity
from live.venue_feed.asking import CandleAsk, FundingAsk
from live.venue_feed.core import FeedCore
from live.venue_feed.venue_clock import ClockReading, better, check_clock, clock_problem, read_clock
from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.errors import MeiError, Retryable
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, InboxItem, Lost, RefusedStream, Subscribed, Unreadable
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.socket import VenueSocket
from mei_pipeline.hyperliquid.wire import CANDLE, CONTEXT, MetaRequest, Subscription

START_PATIENCE_S = 600.0
"""Longest time that a feed waits for its venue at its start, in seconds."""

_POLL_S = 0.02
_FORGET_S = 10.0
_META_S = 60.0
_CLOCK_S = 30.0
_DOUBT_S = 1.0
_INBOX = 20_000
_REQUESTS = 8
_REPEAT_S = 60.0
_REPORTS = 1000


@dataclass
class Reporter:
    """Reports of a service; the same text is repeated once a minute at most."""

    report: Callable[[str], None]
    clock: Callable[[], float]
    _said_s: dict[str, float] = field(default_factory=dict)

    def say(self, texts: Sequence[str]) -> None:
        """Report texts."""
        now_s = self.clock()
        for text in texts:
            if now_s - self._said_s.get(text, now_s - _REPEAT_S) >= _REPEAT_S:
                self.report(text)
                self._said_s[text] = now_s
        while len(self._said_s) > _REPORTS:
            del self._said_s[next(iter(self._said_s))]


class FeedService:
    """A venue's feed, running.

    Attributes:
        core: Its state.
        server: The server of its consumers.
        inbox: Messages of the venue.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        venue: str,
        client: InfoClient,
        listener: socket.socket,
        reading: ClockReading,
        *,
        report: Callable[[str], None],
        limits: ConnectionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a service; see `start_service`.

        Args:
            endpoints: Addresses of the network.
            venue: Name of the venue for consumers.
            client: Client of the network.
            listener: Socket at which consumers connect; the caller closes it.
            reading: The venue's clock.
            report: Prints a line for people.
            limits: Limits of each consumer's connection.
            clock: Monotonic clock of the machine, in seconds.
        """
        self.core = FeedCore(reading.clock)
        self.inbox = Inbox(_INBOX)
        self.server = FeedServer(
            listener,
            Identity(venue, endpoints.network, secrets.token_hex(8)),
            self.core.subscribe,
            limits=limits,
            clock=clock,
        )
        self._endpoints = endpoints
        self._client = client
        self._reading = reading
        self._clock = clock
        self._reporter = Reporter(report, clock)
        self._socket = VenueSocket(endpoints, self.inbox, clock=clock)
        self._requests = asyncio.Semaphore(_REQUESTS)
        self._group = asyncio.TaskGroup()
        self._version = 0

    async def run(self) -> None:
        """Serve until the task is cancelled."""
        try:
            async with self._group as group:
                group.create_task(self._socket.run())
                group.create_task(self._read_inbox())
                group.create_task(self._poll())
                group.create_task(_repeat(_META_S, self._read_meta))
                group.create_task(self._follow_clock())
        finally:
            self.server.close()

    async def _read_inbox(self) -> None:
        """Take what arrives, and send what follows from it at once."""
        while True:
            changed = [self._take(item) for item in await self.inbox.get()]
            if any(changed):
                self.core.settle(self._clock())
                self._serve()
            # Items may arrive faster than they are taken, and consumers must be served nevertheless.
            await asyncio.sleep(0)

    def _take(self, item: InboxItem) -> bool:
        """Take one item; return True if consumers may have something to get."""
        core, now_s = self.core, self._clock()
        match item:
            case Arrived(message, seen_s):
                if message.channel == CANDLE:
                    return core.take_candle(message.data, seen_s)
                if message.channel == CONTEXT:
                    core.take_context(message.data, seen_s)
                return False
            case Lost(reason):
                core.problems.append(reason)
                core.lose(now_s)
            case Subscribed(subscription):
                core.acknowledge(subscription, now_s)
            case RefusedStream(subscription, text):
                if subscription is None:
                    core.problems.append(text)
                else:
                    core.refuse(subscription, text, now_s)
            case Unreadable(text):
                core.problems.append(text)
                core.skip(now_s)
            case _:
                return False
        return True

    async def _poll(self) -> None:
        """Do what is due, and serve consumers."""
        forget_s = self._clock() + _FORGET_S
        while True:
            now_s = self._clock()
            if now_s >= forget_s:
                self.core.forget(now_s)
                forget_s = now_s + _FORGET_S
            work = self.core.poll(now_s)
            for ask in work.asks:
                self._group.create_task(self._ask(ask))
            self._renew(work.renewals)
            self._serve()
            await asyncio.sleep(_POLL_S)

    def _serve(self) -> None:
        """Serve consumers without waiting, and follow the streams that they need."""
        self.server.poll(0.0)
        if self.core.version != self._version:
            self._version = self.core.version
            self._socket.want(self.core.wanted)
        if self.core.problems:
            self._reporter.say(self.core.problems)
            self.core.problems.clear()

    def _renew(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            self._group.create_task(self._socket.renew(subscription))

    async def _ask(self, ask: CandleAsk | FundingAsk) -> None:
        """Send a request and take its answer."""
        core, client = self.core, self._client
        async with self._requests:
            asked_s = self._clock()
            now_ms = core.clock.now_ms(asked_s)
            try:
                if isinstance(ask, CandleAsk):
                    to_ms = now_ms + interval_ms(ask.interval)
                    rows = await client.candles(ask.symbol, ask.interval, ask.from_ms, to_ms)
                    self._renew(core.answer_candles(ask, rows, asked_s, self._clock()))
                else:
                    hours = await client.funding(ask.symbol, ask.from_ms, now_ms)
                    core.answer_funding(ask, hours, asked_s, self._clock())
            except MeiError as error:
                core.fail(ask, error, self._clock())
        self._serve()

    async def _read_meta(self) -> None:
        try:
            self.core.take_meta(await self._client.ask(MetaRequest()))
        except MeiError as error:
            self.core.problems.append(f"terms of the venue: {error}")

    async def _follow_clock(self) -> None:
        """Read the venue's clock twice a minute, and at once if a message contradicts it."""
        read_s = self._clock()
        while True:
            await asyncio.sleep(_DOUBT_S)
            if not self.core.clock_doubted and self._clock() < read_s + _CLOCK_S:
                continue
            self.core.clock_doubted = False
            try:
                new = await read_clock(self._client, self._endpoints, self._clock)
            except Retryable as error:
                self.core.problems.append(str(error))
                continue
            read_s = self._clock()
            self._reading = better(self._reading, new, read_s)
            self.core.clock = self._reading.clock
            if self._endpoints.network != "simulator" and (
                problem := clock_problem(self.core.clock, read_s, time.time())
            ):
                self.core.problems.append(problem)


async def start_service(
    endpoints: Endpoints,
    venue: str,
    client: InfoClient,
    listener: socket.socket,
    *,
    report: Callable[[str], None],
    limits: ConnectionLimits | None = None,
    patience_s: float = START_PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> FeedService:
    """Return a service that knows the venue's clock and terms; arguments as for `FeedService`.

    Args:
        endpoints: Addresses of the network.
        venue: Name of the venue for consumers.
        client: Client of the network.
        listener: Socket at which consumers connect.
        report: Prints a line for people.
        limits: Limits of each consumer's connection.
        patience_s: Longest time to wait for the venue, in seconds.
        clock: Monotonic clock of the machine, in seconds.

    Raises:
        ConfigError: The machine's clock is off.
        DataError: The venue names no symbol.
        Retryable: The venue does not answer.
    """
    deadline_s = clock() + patience_s
    while True:
        try:
            reading = await read_clock(client, endpoints, clock)
            meta = await client.ask(MetaRequest())
            break
        except Retryable as error:
            if clock() + 1.0 > deadline_s:
                raise
            report(f"{error}; next attempt in 1 s")
            await asyncio.sleep(1.0)
    if endpoints.network != "simulator":
        check_clock(reading.clock, clock(), time.time())
    service = FeedService(endpoints, venue, client, listener, reading, report=report, limits=limits, clock=clock)
    service.core.take_meta(meta)
    return service


async def _repeat(period_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(period_s)
        await work()
