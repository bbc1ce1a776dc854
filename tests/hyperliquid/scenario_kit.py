"""MEI's client and socket against an exchange simulator with faults, over real sockets."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import aiohttp
from simulator_kit import small_market

from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, InboxItem, Lost, Subscribed
from mei_pipeline.hyperliquid.network import Endpoints, endpoints_of
from mei_pipeline.hyperliquid.simulator.app import run_simulator
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import FaultPlan
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions
from mei_pipeline.hyperliquid.socket import VenueSocket
from mei_pipeline.hyperliquid.subscriptions import SocketLimits
from mei_pipeline.hyperliquid.wire import BBO, CANDLE, CONTEXT, Subscription

QUARTER_MS = 15 * 60_000
SPEED = 14_400.0  # sixteen quarters of an hour in a second
UPDATES = 80.0
WANTED = tuple(
    Subscription(type=kind, coin=coin, interval="15m" if kind == CANDLE else None)
    for coin in ("BTC", "ETH")
    for kind in (BBO, CANDLE, CONTEXT)
)
PATIENT = SocketLimits(close_s=0.05, backoff_s=(0.01, 0.05), connects_per_minute=10_000, messages_per_minute=100_000)
IMPATIENT = replace(PATIENT, ping_s=0.1, pong_s=0.3, ack_s=0.3)
"""For scenarios in which an answer is missing; elsewhere a busy machine must not look like a dead venue."""


@cache
def market() -> LoadedMarket:
    """The market of all scenarios."""
    return small_market()


def plan_of(*rules: dict[str, Any]) -> FaultPlan:
    """A plan of these rules."""
    return FaultPlan.model_validate({"faults": rules})


def stream_of(item: Arrived) -> Subscription:
    """The stream of a message."""
    data = item.message.data
    return Subscription(type=item.message.channel, coin=data.coin, interval=getattr(data, "interval", None))


@dataclass
class Follower:
    """A consumer of a socket, and what it has got.

    Attributes:
        endpoints: Addresses of the simulator.
        socket: The socket.
        inbox: Its inbox.
        items: Everything that happened, in order.
    """

    endpoints: Endpoints
    socket: VenueSocket
    inbox: Inbox
    items: list[InboxItem] = field(default_factory=list)

    async def until(self, holds: Callable[[], object]) -> None:
        """Read until a condition holds."""
        while not holds():
            self.items += await self.inbox.get()

    async def faults(self) -> dict[str, int]:
        """Numbers of faults that the simulator has applied, by kind."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.endpoints.rest_url}/simulator", json={"type": "counters"}) as answer,
        ):
            return (await answer.json())["faults"]

    def of(self, kind: type[InboxItem]) -> list[Any]:
        """The items of a class."""
        return [item for item in self.items if isinstance(item, kind)]

    def since_loss(self) -> list[InboxItem]:
        """The items since the connection was lost for the last time."""
        losses = [number for number, item in enumerate(self.items) if isinstance(item, Lost)]
        return self.items[losses[-1] :] if losses else self.items

    def delivers(self, count: int = 2) -> bool:
        """Whether each stream is acknowledged since the last loss, and has sent some messages since."""
        items = self.since_loss()
        arrived = [stream_of(item) for item in items if isinstance(item, Arrived)]
        acknowledged = {item.subscription for item in items if isinstance(item, Subscribed)}
        return acknowledged >= set(WANTED) and all(arrived.count(stream) >= count for stream in WANTED)

    def messages(self, kind: str, coin: str = "BTC") -> list[Any]:
        """The data of the messages of a stream, in order."""
        return [
            item.message.data
            for item in self.of(Arrived)
            if (item.message.channel, item.message.data.coin) == (kind, coin)
        ]

    def early(self) -> list[Subscription]:
        """Streams of messages that arrived before the stream was acknowledged on their connection."""
        acknowledged: set[Subscription] = set()
        early = []
        for item in self.items:
            if isinstance(item, Lost):
                acknowledged.clear()
            elif isinstance(item, Subscribed):
                acknowledged.add(item.subscription)
            elif isinstance(item, Arrived) and stream_of(item) not in acknowledged:
                early.append(stream_of(item))
        return early


@asynccontextmanager
async def following(plan: FaultPlan, limits: SocketLimits) -> AsyncGenerator[Follower]:
    """Follow the wanted streams of a simulator with faults, whose market moves by itself."""
    loaded = market()
    clock = VirtualClock(loaded.start_ms, SPEED)
    options = SimulatorOptions(updates=UPDATES)
    async with asyncio.timeout(20.0), run_simulator(loaded.market, clock, plan, options) as url:
        inbox = Inbox(100_000)
        socket = VenueSocket(endpoints_of("simulator", url), inbox, limits=limits)
        socket.want(WANTED)
        task = asyncio.create_task(socket.run())
        try:
            yield Follower(endpoints_of("simulator", url), socket, inbox)
        finally:
            task.cancel()
            await asyncio.wait([task])
