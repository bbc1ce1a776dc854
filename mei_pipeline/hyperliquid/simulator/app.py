"""The application of the exchange simulator: info endpoint, WebSocket and control endpoint on one port."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import WSCloseCode, web

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.simulator.answers import ReadRequest, answer_to, read_request
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import NO_FAULTS, FaultPlan, FaultSchedule
from mei_pipeline.hyperliquid.simulator.limits import SimulatorCounters, surcharge_of, weight_of
from mei_pipeline.hyperliquid.simulator.market import SimulatedMarket
from mei_pipeline.hyperliquid.simulator.pushing import Pusher
from mei_pipeline.hyperliquid.simulator.socket import handle_socket
from mei_pipeline.hyperliquid.simulator.state import HOST, SIMULATOR, ExchangeSimulator, SimulatorOptions, fault_answer
from mei_pipeline.hyperliquid.simulator.streams import SimulatorFaults, SocketStreams
from mei_pipeline.hyperliquid.wire import StatusRequest

_JSON = "application/json"
_STOP_S = 1.0
_OK = 200


class _Control(msgspec.Struct, frozen=True):
    type: str


_control: msgspec.json.Decoder[_Control] = msgspec.json.Decoder(_Control)


def make_app(
    market: SimulatedMarket,
    clock: VirtualClock,
    plan: FaultPlan = NO_FAULTS,
    options: SimulatorOptions | None = None,
) -> web.Application:
    """Return the application; its streams begin when it starts.

    Args:
        market: The market.
        clock: Its clock.
        plan: Faults.
        options: Further options.
    """
    chosen = options or SimulatorOptions()
    counters = SimulatorCounters(enforced=chosen.limits)
    schedule = FaultSchedule(plan, chosen.seed) if plan.faults else None
    faults = SimulatorFaults(schedule, clock.machine_s, counters)
    streams = SocketStreams(faults)
    pusher = Pusher(market, clock, streams, chosen.updates, chosen.report)
    app = web.Application()
    app[SIMULATOR] = ExchangeSimulator(market, clock, chosen, counters, faults, streams, pusher)
    app.router.add_post("/info", _info)
    app.router.add_post("/simulator", _control_answer)
    app.router.add_get("/ws", handle_socket)
    app.cleanup_ctx.append(_pushing)
    app.on_shutdown.append(_close_sockets)
    return app


@asynccontextmanager
async def run_simulator(
    market: SimulatedMarket,
    clock: VirtualClock,
    plan: FaultPlan = NO_FAULTS,
    options: SimulatorOptions | None = None,
    port: int = 0,
) -> AsyncGenerator[str]:
    """Serve a market on loopback; yields the URL, such as `http://127.0.0.1:3001`.

    Args:
        market: The market.
        clock: Its clock.
        plan: Faults.
        options: Further options.
        port: TCP port; 0 for a free one.

    Raises:
        ConfigError: The port is taken or not allowed.
    """
    runner = web.AppRunner(
        make_app(market, clock, plan, options), handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise ConfigError(f"--port {port}: {reason}; choose another port, or 0 for a free one") from None
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _pushing(app: web.Application) -> AsyncGenerator[None]:
    task = asyncio.create_task(app[SIMULATOR].pusher.run())
    yield
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _close_sockets(app: web.Application) -> None:
    for connection in tuple(app[SIMULATOR].connections):
        connection.close(WSCloseCode.GOING_AWAY)


async def _info(request: web.Request) -> web.Response:
    """Answer a request of the info endpoint."""
    simulator = request.app[SIMULATOR]
    counters, address = simulator.counters, request.remote or HOST
    asked = read_request(await request.read())
    counters.requests[asked.type or "unknown"] += 1
    faults = simulator.faults.at("info", symbol=asked.coin, interval=asked.interval, request=asked.type or None)
    answer = await fault_answer(request, faults)
    if answer is None:
        answer = await _answer(simulator, address, asked)
        if any(fault.do == "truncated" for fault in faults):
            body = bytes(answer.body) if isinstance(answer.body, bytes) else b""
            answer = web.Response(status=answer.status, body=body[: len(body) // 2], content_type=_JSON)
    counters.statuses[answer.status] += 1
    return answer


async def _answer(simulator: ExchangeSimulator, address: str, asked: ReadRequest) -> web.Response:
    """Return the answer to a request, and count its weight."""
    counters = simulator.counters
    weight = weight_of(asked.type)
    wait_s = counters.wait_s(address, weight, simulator.clock.machine_s())
    if wait_s is not None:
        return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": str(int(wait_s) + 1)})
    counters.charge(address, weight, simulator.clock.machine_s())
    now_ms = simulator.venue_ms() if isinstance(asked.model, StatusRequest) else simulator.clock.now_ms()
    status, body, items = await answer_to(asked, simulator.market, now_ms)
    if surcharge := surcharge_of(asked.type, items):
        counters.charge(address, surcharge, simulator.clock.machine_s())
    return web.Response(status=status, body=body, content_type=_JSON if status == _OK else "text/plain")


async def _control_answer(request: web.Request) -> web.Response:
    """Answer a request of the control endpoint, which the venue does not have."""
    simulator = request.app[SIMULATOR]
    try:
        wanted = _control.decode(await request.read()).type
    except msgspec.MsgspecError:
        wanted = ""
    if wanted == "clock":
        return web.Response(
            body=encode({"now_ms": simulator.venue_ms(), "speed": simulator.clock.speed}), content_type=_JSON
        )
    if wanted == "counters":
        counts = simulator.counters.as_dict(simulator.clock.machine_s())
        return web.Response(body=encode(counts), content_type=_JSON)
    return web.Response(status=422, text='allowed: {"type": "clock"}, {"type": "counters"}')
