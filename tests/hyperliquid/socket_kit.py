"""A scripted venue on a real socket, a clock that a test moves, and a socket that follows the venue."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mei_pipeline.hyperliquid.codec import VenueMessage, decode_command, encode
from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, InboxItem, Lost, Opened, Subscribed
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.socket import VenueSocket
from mei_pipeline.hyperliquid.subscriptions import SocketLimits
from mei_pipeline.hyperliquid.wire import PingCommand, SubscribeCommand, Subscription, UnsubscribeCommand

HANGS_S = 20
LIMITS = SocketLimits(close_s=0.05)
WANTED = (
    Subscription(type="bbo", coin="BTC"),
    Subscription(type="candle", coin="BTC", interval="1h"),
    Subscription(type="activeAssetCtx", coin="ETH"),
    Subscription(type="allMids"),
)


async def until(holds: Callable[[], object]) -> None:
    """Wait for I/O until a condition holds; only a defect lets it time out."""
    async with asyncio.timeout(HANGS_S):
        while not holds():  # noqa: ASYNC110 - the condition may be of the kernel's buffers
            await asyncio.sleep(0.001)


class FakeTime:
    """Clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.sleepers: dict[asyncio.Future, float] = {}
        self.slept_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        self.sleepers[sleeper] = self.now_s + seconds
        try:
            await sleeper
        finally:
            del self.sleepers[sleeper]

    async def advance(self, seconds: float) -> None:
        """Let time pass once the socket has taken what came, and sleeps."""
        await asyncio.sleep(0.005)
        await until(lambda: self.sleepers)
        self.advance_to(self.now_s + seconds)

    def advance_to(self, now_s: float) -> None:
        self.now_s = max(self.now_s, now_s)
        for sleeper, due_s in list(self.sleepers.items()):
            if due_s <= self.now_s and not sleeper.done():
                sleeper.set_result(None)

    def advance_to_next(self) -> None:
        if self.sleepers:
            self.advance_to(min(self.sleepers.values()))


def acknowledgement(command: SubscribeCommand | UnsubscribeCommand) -> dict:
    """Return an answer with the fields that the venue adds."""
    method = "subscribe" if isinstance(command, SubscribeCommand) else "unsubscribe"
    named = {"type": command.subscription.type, "nSigFigs": None, "fast": False, "dex": ""}
    named |= {name: getattr(command.subscription, name) for name in ("coin", "interval")}
    return {"channel": "subscriptionResponse", "data": {"method": method, "subscription": named}}


def error(text: str) -> dict:
    return {"channel": "error", "data": text}


def bbo(coin: str = "BTC", time_ms: int = 1, price: str = "1.0") -> dict:
    level = {"px": price, "sz": "1.0", "n": 1}
    return {"channel": "bbo", "data": {"coin": coin, "time": time_ms, "bbo": [level, level]}}


def trade(number: int) -> dict:
    return {
        "channel": "trades",
        "data": [{"coin": "BTC", "side": "B", "px": "1.0", "sz": "1.0", "time": 1, "tid": number}],
    }


Answer = Callable[[ServerConnection, object], Awaitable[None]]


@dataclass
class ScriptedVenue:
    """Venue that acknowledges everything, unless a test gives another `answer`."""

    time: FakeTime
    answer: Answer | None = None
    greeting: str = ""
    url: str = ""
    opened_s: list[float] = field(default_factory=list)
    received: list[list] = field(default_factory=list)
    received_s: list[float] = field(default_factory=list)
    connections: list[ServerConnection] = field(default_factory=list)

    async def handle(self, connection: ServerConnection) -> None:
        commands: list = []
        self.opened_s.append(self.time.now_s)
        self.received.append(commands)
        self.connections.append(connection)
        with suppress(ConnectionClosed):
            if self.greeting:
                await connection.send(self.greeting)
            async for text in connection:
                commands.append(decode_command(text))
                self.received_s.append(self.time.now_s)
                await (self.answer or reply)(connection, commands[-1])
        self.connections.remove(connection)

    def streams(self, number: int = -1) -> list[Subscription]:
        """Return the streams that were begun on a connection."""
        return [each.subscription for each in self.received[number] if isinstance(each, SubscribeCommand)]

    async def say(self, *messages: object) -> None:
        for message in messages:
            body = message if isinstance(message, str | bytes) else encode(message).decode()
            await self.connections[-1].send(body)


async def reply(connection: ServerConnection, command: object) -> None:
    answer = {"channel": "pong"} if isinstance(command, PingCommand) else acknowledgement(command)
    await connection.send(encode(answer).decode())


def reset(connection: ServerConnection) -> None:
    """Break a connection by a TCP reset."""
    own = connection.transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()


@asynccontextmanager
async def scripted_venue(
    time: FakeTime, *, answer: Answer | None = None, greeting: str = "", **settings: object
) -> AsyncIterator[ScriptedVenue]:
    venue = ScriptedVenue(time, answer, greeting)

    async def handle(connection: ServerConnection) -> None:
        await venue.handle(connection)

    place = {} if "sock" in settings else {"host": "127.0.0.1", "port": 0}
    settings |= place | {"close_timeout": 0.05, "ping_interval": None, "compression": None}
    async with serve(handle, **settings) as server:
        venue.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield venue


@dataclass
class Following:
    """A running socket and everything that its consumer has read."""

    socket: VenueSocket
    inbox: Inbox
    time: FakeTime
    task: asyncio.Task
    items: list[InboxItem] = field(default_factory=list)
    reads: bool = True

    def all_of(self, kind: type) -> list:
        return [item for item in self.items if isinstance(item, kind)]

    def messages(self) -> list[VenueMessage]:
        return [item.message for item in self.all_of(Arrived)]

    def acknowledged(self) -> set[Subscription]:
        """Return the streams that were acknowledged since the last loss."""
        losses = [number for number, item in enumerate(self.items) if isinstance(item, Lost)]
        since = self.items[losses[-1] + 1 :] if losses else self.items
        return {item.subscription for item in since if isinstance(item, Subscribed)}

    async def settled(self, wanted: Iterable[Subscription] = WANTED) -> None:
        await until(lambda: self.acknowledged() == set(wanted))

    async def lost(self, number: int) -> Lost:
        await until(lambda: len(self.all_of(Lost)) >= number)
        return self.all_of(Lost)[number - 1]

    async def opened(self, number: int) -> None:
        """Wait for a connection, and let time pass only while the socket waits for the next one."""

        def holds() -> bool:
            if self.items and isinstance(self.items[-1], Lost):
                self.time.advance_to_next()
            return len(self.all_of(Opened)) >= number

        await until(holds)


@asynccontextmanager
async def following(
    url: str,
    time: FakeTime,
    wanted: Iterable[Subscription] = WANTED,
    *,
    limits: SocketLimits = LIMITS,
    room: int = 5000,
    jitter: Callable[[], float] = lambda: 0.5,
) -> AsyncIterator[Following]:
    inbox = Inbox(room)
    socket = VenueSocket(
        Endpoints("simulator", "http://127.0.0.1", url),
        inbox,
        limits=limits,
        clock=time.clock,
        sleep=time.sleep,
        jitter=jitter,
    )
    socket.want(wanted)
    follower = Following(socket, inbox, time, asyncio.create_task(socket.run()))

    async def consume() -> None:
        while True:
            await until(lambda: follower.reads)
            follower.items += await inbox.get()

    consumer = asyncio.create_task(consume())
    try:
        yield follower
    finally:
        for task in (follower.task, consumer):
            task.cancel()
        ended = await asyncio.gather(follower.task, consumer, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
