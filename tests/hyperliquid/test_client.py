"""Every failure of the layers below becomes an error of MEI; reads ride out an outage without a storm of requests."""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mei_pipeline.errors import MeiError, Refused, Retryable
from mei_pipeline.hyperliquid.budget import RateBudget
from mei_pipeline.hyperliquid.client import FAILURES, InfoClient
from mei_pipeline.hyperliquid.codec import WrongPayload, encode
from mei_pipeline.hyperliquid.network import endpoints_of
from mei_pipeline.hyperliquid.wire import Candle, ExchangeStatus, FundingHour, MetaRequest, StatusRequest

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CLOCK = StatusRequest()
STATUS = encode(ExchangeStatus(time_ms=1_700_000_000_000))


class Virtual:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Connection: close",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


async def read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return json.loads(await reader.readexactly(length))


def says(*answers: bytes) -> Script:
    """A server that gives these answers in turn, the last one again and again, and closes after each."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return serve


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(30.0)


@asynccontextmanager
async def served(script: Script, folder: Path, **options: Any) -> AsyncGenerator[tuple[InfoClient, Virtual]]:
    """A client of a server on this machine."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    tasks: list[asyncio.Task[None] | None] = []
    world = Virtual()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoints = endpoints_of("simulator", f"http://127.0.0.1:{port}")
    budget = RateBudget(folder / "budget.json", clock=lambda: world.now_s, sleep=world.sleep)
    times = {"clock": lambda: world.now_s, "sleep": world.sleep, "jitter": lambda: 0.5}
    try:
        async with InfoClient(endpoints, budget, **times | options) as client:
            yield client, world
    finally:
        server.close()
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


def ask(script: Script, folder: Path, request: Any = CLOCK, patience_s: float = 0.0, **options: Any) -> Any:
    async def run() -> Any:
        async with served(script, folder, **options) as (client, _):
            return await client.ask(request, patience_s=patience_s)

    return asyncio.run(run())


def test_an_answer_is_decoded(tmp_path: Path) -> None:
    assert ask(says(answer(STATUS)), tmp_path).time_ms == 1_700_000_000_000
    packed = answer(gzip.compress(STATUS), "200 OK", "Content-Encoding: gzip")
    assert ask(says(packed), tmp_path).time_ms == 1_700_000_000_000


HTML = b"<html><body>502 Bad Gateway</body></html>"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (cut, "exchangeStatus: "),
        (stall, "TimeoutError"),
        (says(b""), "exchangeStatus: "),
        (says(b"SSH-2.0-OpenSSH\r\n"), "exchangeStatus: "),
        (says(answer(HTML, "502 Bad Gateway")), "HTTP 502: <html>"),
        (says(answer(b"null", "500 Internal Server Error")), "out of order"),
        (says(answer(HTML, "504 Gateway Timeout")), "HTTP 504"),
        (says(answer(HTML)), "no JSON"),
        (says(answer(STATUS[:10])), "half an answer"),
        (says(answer(b"")), "half an answer"),
        (says(answer(STATUS[:10], length=len(STATUS))), "exchangeStatus: "),
        (says(answer(b"\x1f\x8bnonsense", "200 OK", "Content-Encoding: gzip")), "exchangeStatus: "),
        (says(answer(b"", "302 Found", "Location: http://127.0.0.1:1/")), "HTTP 302"),
        (says(answer(b"slow down", "429 Too Many Requests")), "rate limit"),
    ],
)
def test_what_may_pass_is_retryable_and_names_address_request_and_cause(
    tmp_path: Path, script: Script, words: str
) -> None:
    with pytest.raises(Retryable) as caught:
        ask(script, tmp_path, timeout_s=0.3)
    assert "http://127.0.0.1:" in str(caught.value)
    assert "/info: exchangeStatus" in str(caught.value)
    assert words in str(caught.value)


def test_a_port_without_a_server_is_retryable(tmp_path: Path) -> None:
    async def run() -> None:
        budget = RateBudget(tmp_path / "budget.json")
        async with InfoClient(endpoints_of("simulator", "http://127.0.0.1:9"), budget) as client:
            await client.ask(StatusRequest())

    with pytest.raises(Retryable, match="Connect"):
        asyncio.run(run())


@pytest.mark.parametrize("status", ["422 Unprocessable Entity", "400 Bad Request", "404 Not Found"])
def test_a_request_that_the_venue_does_not_accept_is_refused_at_once(tmp_path: Path, status: str) -> None:
    text = b"Failed to deserialize the JSON body into the target type"
    with pytest.raises(Refused, match="Failed to deserialize"):
        ask(says(answer(text, status), answer(STATUS)), tmp_path, patience_s=600.0)


def test_a_complete_answer_of_another_form_is_wrong_at_once(tmp_path: Path) -> None:
    with pytest.raises(WrongPayload, match="meta"):
        ask(says(answer(b'{"universe": 7}')), tmp_path, MetaRequest(), patience_s=600.0)


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind} | {each for child in kind.__subclasses__() for each in subclasses(child)}


RAISED = sorted(
    subclasses(aiohttp.ClientError)
    | subclasses(ssl.SSLError)
    | {TimeoutError, asyncio.TimeoutError, ConnectionResetError, BrokenPipeError, OSError}
    | {UnicodeDecodeError, UnicodeError, ValueError, zlib.error, asyncio.IncompleteReadError},
    key=lambda kind: f"{kind.__module__}.{kind.__name__}",
)


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_no_exception_of_a_lower_layer_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    bare = {"__init__": lambda _: None, "__str__": lambda _: "cause", "__reduce__": object.__reduce__}
    same = type(kind.__name__, (kind,), bare)  # the arguments of each kind are others; only its class decides

    def fail(*_: object, **__: object) -> None:
        raise same

    async def run() -> None:
        async with served(says(answer(STATUS)), tmp_path) as (client, _):
            monkeypatch.setattr(aiohttp.ClientSession, "post", fail)
            await client.ask(StatusRequest())

    assert issubclass(kind, FAILURES)
    with pytest.raises(Retryable, match=kind.__name__):
        asyncio.run(run())


def test_a_read_rides_out_ten_minutes_of_errors_with_few_requests(tmp_path: Path) -> None:
    async def run() -> tuple[int, float]:
        bad, good = answer(HTML, "502 Bad Gateway"), answer(STATUS)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(bad if world.now_s < 1_600.0 else good)
            await writer.drain()

        async with served(serve, tmp_path) as (client, world):
            found = await client.ask(StatusRequest(), patience_s=660.0)
            assert found.time_ms == 1_700_000_000_000
            return client.requests, world.now_s

    requests, ended_s = asyncio.run(run())
    assert 1_600.0 <= ended_s <= 1_660.0
    assert requests < 40


def test_patience_ends(tmp_path: Path) -> None:
    async def run() -> float:
        async with served(says(answer(HTML, "503 Service Unavailable")), tmp_path) as (client, world):
            with pytest.raises(MeiError, match="503"):
                await client.ask(StatusRequest(), patience_s=60.0)
            return world.now_s

    assert asyncio.run(run()) == pytest.approx(1_060.0)


def test_after_a_429_the_machine_waits_as_long_as_the_venue_says(tmp_path: Path) -> None:
    async def run() -> float:
        refused = answer(b"", "429 Too Many Requests", "Retry-After: 45")
        async with served(says(refused, answer(STATUS)), tmp_path) as (client, world):
            await client.ask(StatusRequest(), patience_s=100.0)
            assert client.requests == 2
            return world.now_s

    assert asyncio.run(run()) >= 1_045.0


def candle(hour: int) -> Candle:
    start, one = hour * 3_600_000, Decimal(1)
    span = {"open_ms": start, "close_ms": start + 3_599_999}
    return Candle(coin="BTC", interval="1h", open=one, high=one, low=one, close=one, volume=one, **span)


def test_candles_and_funding_are_read_in_pages_that_overlap(tmp_path: Path) -> None:
    hours = range(100)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        span = request.get("req", request)
        start, end = span["startTime"], span["endTime"]
        rows: list[Any]
        if request["type"] == "candleSnapshot":
            rows = [candle(h) for h in hours if candle(h).close_ms >= start and h * 3_600_000 <= end]
        else:
            one = Decimal("0.0001")
            times = [h // 2 * 3_600_000 for h in hours]  # two rows have one time
            rows = [FundingHour(coin="BTC", rate=one * h, time_ms=time_ms) for h, time_ms in enumerate(times)]
            rows = [row for row in rows if start <= row.time_ms <= end]
        writer.write(answer(encode(rows[:7])))
        await writer.drain()

    async def run() -> None:
        async with served(serve, tmp_path) as (client, _):
            found = await client.candles("BTC", "1h", 10 * 3_600_000 + 5, 40 * 3_600_000)
            assert [row.open_ms // 3_600_000 for row in found] == list(range(10, 41))
            rates = await client.funding("BTC", 0, 10 * 3_600_000)
            assert [row.time_ms // 3_600_000 for row in rates] == [h // 2 for h in range(22)]
            assert await client.candles("BTC", "1h", 200 * 3_600_000, 201 * 3_600_000) == ()

    asyncio.run(run())


def test_a_client_must_be_open(tmp_path: Path) -> None:
    client = InfoClient(endpoints_of("simulator"), RateBudget(tmp_path / "b"))
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(client.ask(StatusRequest()))
