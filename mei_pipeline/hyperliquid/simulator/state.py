"""State of a running exchange simulator, and the faults of its requests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.connection import IDLE_S, QUEUE_LIMIT, SocketConnection, reset
from mei_pipeline.hyperliquid.simulator.faults import Fault
from mei_pipeline.hyperliquid.simulator.limits import SimulatorCounters
from mei_pipeline.hyperliquid.simulator.market import SimulatedMarket
from mei_pipeline.hyperliquid.simulator.pushing import UPDATES, Pusher
from mei_pipeline.hyperliquid.simulator.streams import HTML, SimulatorFaults, SocketStreams

HOST = "127.0.0.1"
_FOREVER_S = 3_600.0
_STATUSES = {"429": 429, "500": 500, "502": 502, "503": 503}


@dataclass(frozen=True)
class SimulatorOptions:
    """Options of the exchange simulator.

    Attributes:
        seed: Seed of the faults.
        updates: Updates of a stream per second of the machine.
        limits: True to refuse what exceeds the venue's limits.
        queue_limit: Messages that may wait for one client.
        idle_s: Seconds after which a WebSocket is closed to which nothing was sent.
        report: Prints a line for people.
    """

    seed: int = 0
    updates: float = UPDATES
    limits: bool = False
    queue_limit: int = QUEUE_LIMIT
    idle_s: float = IDLE_S
    report: Callable[[str], None] = lambda _: None


@dataclass
class ExchangeSimulator:
    """State of a running exchange simulator.

    Attributes:
        market: The market.
        clock: Its clock.
        options: Its options.
        counters: Its counts.
        faults: Its faults.
        streams: Subscribers of each stream.
        pusher: The loop that sends messages.
        connections: Open WebSockets.
    """

    market: SimulatedMarket
    clock: VirtualClock
    options: SimulatorOptions
    counters: SimulatorCounters
    faults: SimulatorFaults
    streams: SocketStreams
    pusher: Pusher
    connections: set[SocketConnection] = field(default_factory=set)

    def venue_ms(self) -> int:
        """Return the venue's clock as a client reads it, with the errors of the plan, UTC milliseconds."""
        return self.clock.now_ms() + sum(fault.skew_ms for fault in self.faults.at("clock"))


SIMULATOR: web.AppKey[ExchangeSimulator] = web.AppKey("simulator", ExchangeSimulator)


async def fault_answer(request: web.Request, faults: tuple[Fault, ...]) -> web.Response | None:
    """Apply the faults of a request: wait, cut the connection, or return their answer; None to answer as usual."""
    for fault in faults:
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.do in _STATUSES:
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            return web.Response(status=_STATUSES[fault.do], body=HTML, content_type="text/html", headers=headers)
        if fault.do == "html":
            return web.Response(body=HTML, content_type="text/html")
        if fault.do in {"drop", "refuse"}:
            reset(request.transport)
            await asyncio.sleep(0)
            return web.Response(status=503)
        if fault.do == "half_open":
            await asyncio.sleep(_FOREVER_S)
    return None
