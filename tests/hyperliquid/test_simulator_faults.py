"""The exchange simulator applies the faults of a plan."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from simulator_kit import Running, next_on, simulate, small_market, subscribe

from mei_pipeline.hyperliquid.simulator.faults import FaultPlan
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions


def _plan(*rules: dict[str, Any]) -> FaultPlan:
    return FaultPlan.model_validate({"faults": rules})


async def _status(running: Running) -> tuple[int, bytes, str | None]:
    async with running.session.post(f"{running.url}/info", json={"type": "exchangeStatus"}) as answer:
        return answer.status, await answer.read(), answer.headers.get("Retry-After")


@pytest.mark.parametrize(
    ("do", "status", "text"),
    [("429", 429, b"<html>"), ("500", 500, b"<html>"), ("502", 502, b"<html>"), ("503", 503, b"<html>"),
     ("html", 200, b"<html>"), ("truncated", 200, b'{"time":1')],
)  # fmt: skip
def test_an_answer_is_replaced(do: str, status: int, text: bytes) -> None:
    async def scenario(running: Running) -> None:
        assert (await _status(running))[0] == 200
        got, body, retry = await _status(running)
        assert (got, body[: len(text)]) == (status, text)
        assert retry == ("7" if do == "429" else None)
        if do == "truncated":
            with pytest.raises(json.JSONDecodeError):
                json.loads(body)
        assert (await _status(running))[0] == 200
        assert (await running.control("counters"))["faults"] == {do: 1}

    rule = {"where": "info", "do": do, "at": 2, **({"retry_after_s": 7} if do == "429" else {})}
    simulate(small_market(), scenario, plan=_plan(rule))


def test_a_request_is_cut_off_or_left_without_an_answer() -> None:
    async def scenario(running: Running) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await _status(running)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await _status(running)
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert (await _status(running))[0] == 200
        assert loop.time() - before >= 0.05

    plan = _plan(
        {"where": "info", "do": "drop", "at": 1},
        {"where": "info", "do": "half_open", "at": 2},
        {"where": "info", "do": "delay", "at": 3, "delay_s": 0.05},
    )
    simulate(small_market(), scenario, plan=plan)


def test_the_clock_is_wrong_for_a_client_that_reads_it() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        assert (await running.ask(type="exchangeStatus"))["time"] == loaded.start_ms + 90_000
        assert (await running.control("clock"))["now_ms"] == loaded.start_ms + 90_000
        assert (await running.ask(type="allMids")).keys() == {"BTC", "ETH"}

    simulate(loaded, scenario, plan=_plan({"where": "clock", "do": "clock_skew", "every": 1, "skew_ms": 90_000}))


def test_connections_are_refused_and_half_open() -> None:
    async def refused(running: Running) -> None:
        with pytest.raises(aiohttp.ClientError):
            await running.session.ws_connect(f"{running.url}/ws")

    async def scenario(running: Running) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await running.session.ws_connect(f"{running.url}/ws")
        assert caught.value.status == 502
        async with running.socket() as socket:
            await socket.send_json({"method": "ping"})
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.2)

    # A client may repeat a request by itself.
    simulate(small_market(), refused, plan=_plan({"where": "connect", "do": "refuse", "every": 1}))
    plan = _plan(
        {"where": "connect", "do": "502", "at": 1},
        {"where": "connect", "do": "half_open", "at": 2},
    )
    simulate(small_market(), scenario, plan=plan)


def test_subscriptions_are_refused_delayed_silent_and_dropped() -> None:
    async def scenario(running: Running) -> None:
        async with running.socket() as socket:
            for coin in ("BTC", "ETH"):
                await socket.send_json({"method": "subscribe", "subscription": {"type": "bbo", "coin": coin}})
            # The first is refused, the second gets no answer.
            assert (await next_on(socket, "error"))["data"].startswith("Invalid subscription")
            await socket.send_json({"method": "ping"})
            assert (await socket.receive_json())["channel"] == "pong"
            assert (await subscribe(socket, type="allMids"))["data"]["method"] == "subscribe"
            await socket.send_json({"method": "subscribe", "subscription": {"type": "trades", "coin": "BTC"}})
            kinds = [(await socket.receive()).type for _ in range(2)]
            assert kinds[-1] in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
            assert socket.close_code == 1012

    plan = _plan(
        {"where": "subscription", "do": "refuse", "at": 1},
        {"where": "subscription", "do": "silent", "at": 2},
        {"where": "subscription", "do": "delay", "at": 3, "delay_s": 0.01},
        {"where": "subscription", "do": "drop", "at": 4, "close_code": 1012},
    )
    simulate(small_market(), scenario, plan=plan)


async def _next(running: Running, socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """The next message, while the clock moves a minute at a time."""
    waiting = asyncio.ensure_future(socket.receive())
    while not waiting.done():
        running.time.now_s += 60.0
        await asyncio.wait([waiting], timeout=0.1)
    return waiting.result()


async def _quotes(running: Running, count: int) -> list[str]:
    """The messages of a stream of quotes, while the clock moves a minute at a time."""
    texts = []
    async with running.socket() as socket:
        await subscribe(socket, type="bbo", coin="BTC")
        while len(texts) < count:
            message = await _next(running, socket)
            if message.type != aiohttp.WSMsgType.TEXT:
                break
            texts.append(message.data)
    return texts


def _bbo(do: str, **more: Any) -> list[str]:
    plan = _plan({"where": "bbo", "do": do, "at": 3, **more})
    options = SimulatorOptions(updates=50.0)
    return simulate(small_market(), lambda running: _quotes(running, 6), options, plan)


def _times(texts: list[str]) -> list[int]:
    return [json.loads(text)["data"]["time"] for text in texts]


def test_messages_are_doubled_lost_exchanged_and_spoilt() -> None:
    doubled = _times(_bbo("duplicate"))
    assert doubled[2] == doubled[3]
    assert len(set(doubled)) == 5
    exchanged = _times(_bbo("reorder"))
    assert exchanged[2] > exchanged[3]
    assert len(set(_times(_bbo("silent")))) == 6
    assert _bbo("html")[2].startswith("<html>")
    with pytest.raises(json.JSONDecodeError):
        json.loads(_bbo("truncated")[2])
    assert len(_bbo("drop")) == 2
    assert len(_bbo("drop", close_code=1001)) == 2
    late = _times(_bbo("delay", delay_s=0.05))
    assert sorted(late) != late or len(late) == 6


def test_a_connection_goes_quiet() -> None:
    async def scenario(running: Running) -> None:
        async with running.socket() as socket:
            await subscribe(socket, type="bbo", coin="BTC")
            await socket.send_json({"method": "ping"})
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.2)

    simulate(small_market(), scenario, plan=_plan({"where": "bbo", "do": "half_open", "at": 1}))


def test_a_bar_is_missing_on_the_socket_and_known_over_rest() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        async with running.socket() as socket:
            await subscribe(socket, type="candle", coin="BTC", interval="15m")
            opens: list[int] = []
            while len(set(opens)) < 3:
                message = await _next(running, socket)
                opens.append(json.loads(message.data)["data"]["t"])
            quarter = 15 * 60_000
            assert sorted(set(opens)) == [loaded.start_ms + each * quarter for each in (0, 2, 3)]
        span = {"coin": "BTC", "interval": "15m", "startTime": loaded.start_ms}
        rows = await running.ask(type="candleSnapshot", req=span)
        assert [row["t"] for row in rows][:3] == [loaded.start_ms + each * quarter for each in range(3)]

    plan = _plan({"where": "candle", "do": "missing_candle", "at": 2})
    simulate(loaded, scenario, SimulatorOptions(updates=50.0), plan)
