"""The WebSocket of the exchange simulator: commands, streams, and clients that behave badly."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from feed_kit import END_MS, HOLED, RELISTED, SYMBOLS
from simulator_kit import ACCOUNT, START_MS, Running, lake_market, next_on, simulate, small_market, subscribe

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.lake import read_candles, read_funding
from mei_pipeline.hyperliquid.codec import decode_message
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.limits import SimulatorCounters
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket
from mei_pipeline.hyperliquid.simulator.pushing import Pusher
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions
from mei_pipeline.hyperliquid.simulator.streams import SimulatorFaults, SocketStreams
from mei_pipeline.hyperliquid.simulator.subscriptions import StreamKey


class Recorder:
    """A connection that keeps what it is sent."""

    def __init__(self) -> None:
        self.keys: dict[StreamKey, None] = {}
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


def _pushed(loaded: LoadedMarket, keys: list[StreamKey], times: list[int], speed: float = 1.0) -> list[bytes]:
    """The messages of some streams while the clock passes some times."""
    streams = SocketStreams(SimulatorFaults(None, lambda: 0.0, SimulatorCounters()))
    recorder: Any = Recorder()
    for key in keys:
        streams.add(key, recorder)
    pusher = Pusher(loaded.market, VirtualClock(loaded.start_ms, speed), streams)
    for time_ms in times:
        while pusher.advance(time_ms):
            pass
    return recorder.frames


def _hours(count: int, step_ms: int = 100_000) -> list[int]:
    return list(range(START_MS, START_MS + count * HOUR_MS + 1, step_ms))


@pytest.mark.parametrize("interval", ["15m", "1h"])
def test_final_candles_are_those_of_the_lake_bit_for_bit(tmp_path: Path, interval: str) -> None:
    lake, loaded = lake_market(tmp_path)
    frames = _pushed(loaded, [StreamKey("candle", name, interval) for name in SYMBOLS], [*_hours(30), END_MS + HOUR_MS])
    last: dict[tuple[str, int], Any] = {}
    for frame in frames:
        candle = decode_message(frame).data
        known = last.get((candle.coin, candle.open_ms))
        assert known is None or (known.high <= candle.high and known.low >= candle.low and known.open == candle.open)
        later = [open_ms for coin, open_ms in last if coin == candle.coin and open_ms > candle.open_ms]
        assert later == []
        last[candle.coin, candle.open_ms] = candle
    got = sorted(
        (key, *(float(getattr(candle, name)) for name in ("open", "high", "low", "close", "volume")))
        for key, candle in last.items()
    )
    stored = read_candles(lake, "test", interval, SYMBOLS, START_MS)
    assert got == [
        ((symbol, open_ms), *values)
        for symbol, open_ms, *values in stored.select(
            "symbol", "open_ms", "open", "high", "low", "close", "volume"
        ).iter_rows()
    ]


def test_equal_seeds_send_equal_sequences(tmp_path: Path) -> None:
    _, loaded = lake_market(tmp_path)
    keys = [StreamKey(kind, name) for name in SYMBOLS for kind in ("bbo", "activeAssetCtx", "trades", "l2Book")]
    keys += [StreamKey("allMids"), StreamKey("candle", HOLED, "15m")]
    one, two = (_pushed(loaded, keys, _hours(2, 7_000)) for _ in range(2))
    assert one == two
    assert len(one) > 1_000
    _, other = lake_market(tmp_path / "other", seed=1)
    assert _pushed(other, keys, _hours(2, 7_000)) != one


def test_ends_of_bars_are_sent_however_late_the_machine_is(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)
    key = StreamKey("candle", RELISTED, "15m")
    frames = [decode_message(frame).data for frame in _pushed(loaded, [key], [START_MS + 3 * HOUR_MS])]
    stored = read_candles(lake, "test", "15m", [RELISTED], START_MS, START_MS + 3 * HOUR_MS)
    closes = {candle.open_ms: float(candle.close) for candle in frames}
    assert [closes[open_ms] for open_ms in stored["open_ms"]] == stored["close"].to_list()
    assert len(frames) == 2 * stored.height


def test_quotes_lie_around_the_price_and_stop_with_the_bars(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)
    times = [*_hours(30), END_MS + HOUR_MS]
    quotes = [decode_message(frame).data for frame in _pushed(loaded, [StreamKey("bbo", HOLED)], times)]
    stored = read_candles(lake, "test", "15m", [HOLED], START_MS)
    low, high = min(stored["low"].to_list()), max(stored["high"].to_list())
    for quote in quotes:
        bid, ask = quote.quotes
        assert bid is not None
        assert ask is not None
        assert bid.price < ask.price
        assert low * 0.99 < float(bid.price) < high * 1.01
        assert float(ask.price - bid.price) < 0.01 * float(bid.price)
        assert bid.size > 0
    assert quotes[-1].time_ms == END_MS - 1
    assert len({quote.quotes for quote in quotes}) > 50


def test_contexts_carry_the_rate_that_falls_due_next(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)
    contexts = [
        decode_message(frame).data
        for frame in _pushed(loaded, [StreamKey("activeAssetCtx", HOLED)], [*_hours(6, 1)][::50_000])
    ]
    rates = [float(each.context.funding) for each in contexts]
    frame = read_funding(lake, "test", [HOLED])
    due = {(time + 30_000) // HOUR_MS: rate for time, rate in frame.select("time_ms", "rate").iter_rows()}
    wanted = [due[START_MS // HOUR_MS + 1 + hour] for hour in range(7)]
    assert list(dict.fromkeys(rates)) == wanted
    assert all(float(each.context.mark_price) > 0 for each in contexts)


def test_subscriptions_are_acknowledged_and_errors_named() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        async with running.socket() as socket:
            await socket.send_json({"method": "ping"})
            assert await socket.receive_json() == {"channel": "pong"}
            candle = {"type": "candle", "coin": "BTC", "interval": "1h"}
            acknowledged = await subscribe(socket, **candle)
            assert acknowledged["data"] == {"method": "subscribe", "subscription": candle}
            first = await next_on(socket, "candle")
            assert first["data"]["t"] == loaded.start_ms
            assert first["data"]["n"] == 0
            normalised = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False}
            assert (await subscribe(socket, type="l2Book", coin="BTC"))["data"]["subscription"] == normalised
            await next_on(socket, "l2Book")
            fills = await subscribe(socket, type="userFills", user=ACCOUNT)
            assert fills["data"]["subscription"]["user"] == ACCOUNT.lower()
            assert (await next_on(socket, "userFills"))["data"]["fills"] == []
            await subscribe(socket, type="orderUpdates", user=ACCOUNT)
            errors = {
                "Already subscribed: {": {"method": "subscribe", "subscription": candle},
                "Already unsubscribed: {": {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}},
                'Invalid subscription {"type": "webData2"': {
                    "method": "subscribe",
                    "subscription": {"type": "webData2", "user": ACCOUNT},
                },
                'Invalid subscription {"type": "bbo"': {
                    "method": "subscribe",
                    "subscription": {"type": "bbo", "coin": "NONE"},
                },
                "Invalid subscription {": {"method": "unsubscribe", "subscription": {"type": "candle", "coin": "BTC"}},
                "Error parsing JSON into valid websocket request: ": {"method": "dance"},
                "Invalid subscription 5": {"method": "subscribe", "subscription": 5},
            }
            for text, command in errors.items():
                await socket.send_json(command)
                assert (await next_on(socket, "error"))["data"].startswith(text)
            await socket.send_str("[" * 3000)
            assert (await next_on(socket, "error"))["data"].startswith("Error parsing JSON")
            await socket.send_bytes(b"\xff")
            assert (await next_on(socket, "error"))["data"].startswith("Error parsing JSON")
            await socket.send_json({"method": "unsubscribe", "subscription": candle})
            ended = await next_on(socket, "subscriptionResponse")
            assert ended["data"] == {"method": "unsubscribe", "subscription": candle}
            counters = await running.control("counters")
            assert counters["connections"]["open"] == 1
            assert counters["connections"]["subscriptions"] == 3
        counters = await running.control("counters")
        while counters["connections"]["open"]:
            counters = await running.control("counters")
        assert counters["connections"]["subscriptions"] == 0

    simulate(loaded, scenario)


def test_posts_are_answered_over_the_socket() -> None:
    async def scenario(running: Running) -> None:
        async with running.socket() as socket:

            async def post(number: int, kind: str, payload: Any) -> Any:
                request = {"type": kind, "payload": payload}
                await socket.send_json({"method": "post", "id": number, "request": request})
                return (await next_on(socket, "post"))["data"]

            answer = await post(7, "info", {"type": "allMids"})
            assert answer["id"] == 7
            assert answer["response"]["type"] == "info"
            assert sorted(answer["response"]["payload"]["data"]) == ["BTC", "ETH"]
            assert (await post(8, "action", {}))["response"]["type"] == "error"
            assert (await post(9, "info", {"type": "nonsense"}))["response"]["type"] == "error"
            for _ in range(60):
                answer = await post(10, "info", {"type": "meta"})
            assert answer["response"] == {"type": "error", "payload": "429 Too Many Requests"}
            await socket.send_json({"method": "post", "id": 1, "request": 3})
            assert (await next_on(socket, "error"))["data"].startswith("Error parsing JSON")

    simulate(small_market(), scenario, SimulatorOptions(limits=True))


def test_only_what_is_subscribed_is_sent() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        async with running.socket() as one, running.socket() as two:
            await subscribe(one, type="bbo", coin="BTC")
            await subscribe(two, type="candle", coin="ETH", interval="15m")
            counts: dict[str, set[str]] = defaultdict(set)
            for _ in range(20):
                running.time.now_s += 60.0
                for name, socket in (("one", one), ("two", two)):
                    message = await socket.receive_json()
                    counts[name].add(message["channel"] + " " + message["data"].get("coin", message["data"].get("s")))
            assert counts == {"one": {"bbo BTC"}, "two": {"candle ETH"}}

    simulate(loaded, scenario, SimulatorOptions(updates=50.0))


def test_a_connection_without_messages_is_closed() -> None:
    async def scenario(running: Running) -> None:
        async with running.socket() as socket:
            message = await socket.receive()
            assert message.type == aiohttp.WSMsgType.CLOSE
            assert message.data == 1000
        assert (await running.control("counters"))["connections"]["idle"] == 1

    simulate(small_market(), scenario, SimulatorOptions(idle_s=0.2))


def test_a_client_that_reads_too_slowly_is_cut_off() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        # Many streams of large messages fill the buffers of the kernel soon.
        for number in range(40):
            book = {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": number + 1, "fast": True}
            text = json.dumps({"method": "subscribe", "subscription": book})
            writer.write(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text.encode())
        writer.transport.pause_reading()
        while (await running.control("counters"))["connections"]["too_slow"] == 0:
            running.time.now_s += 0.5
            await asyncio.sleep(0.001)
        writer.transport.resume_reading()
        try:
            with pytest.raises(ConnectionError):
                await reader.read()
        finally:
            writer.close()
        counters = await running.control("counters")
        assert counters["connections"]["subscriptions"] == 0

    simulate(loaded, scenario, SimulatorOptions(queue_limit=50, updates=100.0), speed=10.0)


def test_limits_of_the_socket_are_those_of_the_venue() -> None:
    async def scenario(running: Running) -> None:
        sockets = [await running.session.ws_connect(f"{running.url}/ws") for _ in range(10)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await running.session.ws_connect(f"{running.url}/ws")
        assert caught.value.status == 429
        for _ in range(2_001):
            await sockets[0].send_json({"method": "ping"})
        assert (await next_on(sockets[0], "error"))["data"] == "Cannot send more than 2000 messages per minute."
        running.time.now_s += 61.0
        for number in range(1_001):
            await sockets[1].send_json(
                {"method": "subscribe", "subscription": {"type": "userFills", "user": f"0x{number}"}}
            )
        assert (await next_on(sockets[1], "error"))["data"] == "Cannot subscribe to more than 1000 channels."
        for socket in sockets:
            await socket.close()

    simulate(small_market(), scenario, SimulatorOptions(limits=True))


def test_the_end_of_the_bars_is_told_and_the_clock_goes_on() -> None:
    loaded = small_market()
    lines: list[str] = []
    told = asyncio.Event()

    def report(line: str) -> None:
        lines.append(line)
        told.set()

    async def scenario(running: Running) -> None:
        running.time.now_s += 49 * 3600.0
        await told.wait()
        status = await running.ask(type="exchangeStatus")
        assert status["time"] == loaded.start_ms + 49 * HOUR_MS
        async with running.socket() as socket:
            await subscribe(socket, type="bbo", coin="BTC")
            assert (await next_on(socket, "bbo"))["data"]["bbo"] == [None, None]

    simulate(loaded, scenario, SimulatorOptions(report=report))
    assert lines == ["synthetic seed 7: the bars end at 2025-04-01 00:00Z; quotes stop, the clock goes on"]
