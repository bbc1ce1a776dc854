"""The whole chain: an exchange simulator, the feed of its venue, and a consumer in a thread of its own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live.feed_client import FeedClient, connect
from live.feed_protocol import Subscribe
from live.feed_server import ConnectionLimits, listen
from live.venue_feed.service import FeedService, start_service
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.hyperliquid.budget import RateBudget
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.network import endpoints_of
from mei_pipeline.hyperliquid.simulator.app import run_simulator
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import NO_FAULTS, FaultPlan
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions

WEIGHT = 1_000_000


@dataclass
class Chain:
    """A running chain.

    Attributes:
        service: The feed.
        path: Its socket.
        url: URL of the simulator.
        said: Lines for people.
        clock: Clock of the simulator.
    """

    service: FeedService
    path: Path
    url: str
    clock: VirtualClock
    said: list[str] = field(default_factory=list)


@asynccontextmanager
async def running_chain(
    folder: Path,
    loaded: LoadedMarket,
    venue: str,
    speed: float,
    plan: FaultPlan = NO_FAULTS,
    options: SimulatorOptions | None = None,
    limits: ConnectionLimits | None = None,
) -> AsyncGenerator[Chain]:
    """Start a simulator and the feed of its venue."""
    clock = VirtualClock(loaded.start_ms, speed)
    said: list[str] = []
    async with run_simulator(loaded.market, clock, plan, options) as url:
        endpoints = endpoints_of("simulator", url)
        budget = RateBudget(folder / "budget", per_minute=WEIGHT)
        with listen(folder / "feed") as listener:
            async with InfoClient(endpoints, budget) as client:
                service = await start_service(endpoints, venue, client, listener, report=said.append, limits=limits)
                task = asyncio.create_task(service.run())
                try:
                    yield Chain(service, folder / "feed", url, clock, said)
                finally:
                    if task.done():
                        task.result()
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task


def read_until(path: Path, wanted: Subscribe, is_last: Callable[[FeedEvent], bool]) -> list[FeedEvent]:
    """The events of a consumer up to the first one for which `is_last` holds."""
    client: FeedClient = connect(path, wanted)
    events: list[FeedEvent] = []
    try:
        while True:
            for event in client.read(10.0):
                events.append(event)
                if is_last(event):
                    return events
            client.ack()
    finally:
        client.close()


def run(scenario: Any, limit_s: float = 60.0) -> Any:
    """Run a scenario in a loop of its own."""

    async def main() -> Any:
        async with asyncio.timeout(limit_s):
            return await scenario

    return asyncio.run(main())
