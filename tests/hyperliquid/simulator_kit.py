"""A simulated market from a lake with everything, and simulators on loopback with a clock that a test moves."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from feed_kit import END_MS, Clock, rich_lake

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.hyperliquid.simulator.app import run_simulator
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import NO_FAULTS, FaultPlan
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket, load_lake, load_synthetic
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions

ACCOUNT = "0x2BA553D9F990A3B66B03B2DC0D030DFC1C061036"
START_MS = END_MS - 30 * HOUR_MS


def lake_market(folder: Path, seed: int = 0) -> tuple[Lake, LoadedMarket]:
    """A lake with everything that a feed can meet, and its market."""
    lake = rich_lake(Lake(folder / "lake"))
    return lake, load_lake(lake, from_ms=START_MS, seed=seed)


def small_market(symbols: tuple[str, ...] = ("BTC", "ETH"), seed: int = 0) -> LoadedMarket:
    """A synthetic market."""
    return load_synthetic(7, symbols, seed=seed)


@dataclass
class Running:
    """A running simulator, the time of its machine, and a session of a client."""

    url: str
    time: Clock
    loaded: LoadedMarket
    session: aiohttp.ClientSession

    async def ask(self, **body: Any) -> Any:
        """The decoded answer to an info request."""
        async with self.session.post(f"{self.url}/info", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def control(self, kind: str) -> Any:
        """The answer of the control endpoint."""
        async with self.session.post(f"{self.url}/simulator", json={"type": kind}) as answer:
            return await answer.json()

    @asynccontextmanager
    async def socket(self) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket."""
        async with self.session.ws_connect(f"{self.url}/ws", autoping=True) as socket:
            yield socket


def simulate(
    loaded: LoadedMarket,
    scenario: Callable[[Running], Awaitable[Any]],
    options: SimulatorOptions | None = None,
    plan: FaultPlan = NO_FAULTS,
    speed: float = 1.0,
) -> Any:
    """Run a scenario against a simulator whose clock stands still until the test moves it."""

    async def main() -> Any:
        time = Clock()
        clock = VirtualClock(loaded.start_ms, speed, time)
        async with (
            asyncio.timeout(30.0),
            run_simulator(loaded.market, clock, plan, options) as url,
            aiohttp.ClientSession() as session,
        ):
            return await scenario(Running(url, time, loaded, session))

    return asyncio.run(main())


async def subscribe(socket: aiohttp.ClientWebSocketResponse, **subscription: Any) -> dict[str, Any]:
    """Begin a stream and return its acknowledgement."""
    await socket.send_json({"method": "subscribe", "subscription": subscription})
    return await next_on(socket, "subscriptionResponse")


async def next_on(socket: aiohttp.ClientWebSocketResponse, channel: str) -> dict[str, Any]:
    """The next message on a channel; others are skipped."""
    while True:
        message = await socket.receive()
        assert message.type == aiohttp.WSMsgType.TEXT, message
        decoded = json.loads(message.data)
        if decoded["channel"] == channel:
            return decoded


@contextmanager
def in_thread(loaded: LoadedMarket, speed: float = 1.0) -> Generator[str]:
    """A simulator in a thread with the machine's clock, for clients that block."""
    ready, stop = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with run_simulator(loaded.market, VirtualClock(loaded.start_ms, speed)) as url:
            urls.append(url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20.0)
        yield urls[0]
    finally:
        stop.set()
        thread.join(20.0)
