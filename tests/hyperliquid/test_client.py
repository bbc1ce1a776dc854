import asyncio
import gzip
import importlib
import inspect
import json
import pkgutil
import socket
import ssl
import time as real_time
import zlib
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest

from mei_pipeline.errors import Refused, Retryable
from mei_pipeline.hyperliquid import client as client_module
from mei_pipeline.hyperliquid.budget import RateBudget
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.codec import decode_request, encode
from mei_pipeline.hyperliquid.network import endpoints_of
from mei_pipeline.hyperliquid.wire import (
    BookRequest,
    Candle,
    CandleSpan,
    CandlesRequest,
    FundingHour,
    MetaRequest,
    MidsRequest,
    StatusRequest,
)

HOUR_MS = 3_600_000
STATUS = b'{"time": 5}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class FakeTime:
    """A clock that moves when something sleeps."""

    def __init__(self):
        self.now = 1_000_000.0

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class FastTime:
    """A clock that goes a thousand times as fast, for many tasks at once."""

    def clock(self):
        return real_time.monotonic() * 1000

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / 1000)


def complete(body, status=200, headers=b""):
    return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


@asynccontextmanager
async def serving(answer):
    """Serve on loopback; `answer(number, request)` returns bytes to send before the connection is closed, or None."""
    number = 0

    async def serve(reader, writer):
        nonlocal number
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = await reader.readexactly(length)
            number += 1
            sent = answer(number, body)
            if inspect.isawaitable(sent):
                sent = await sent
            writer.write(sent)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "budget"


def client_of(url, path, time, **options):
    budget = RateBudget(path, clock=time.clock, sleep=time.sleep)
    return InfoClient(endpoints_of("simulator", url), budget, clock=time.clock, sleep=time.sleep, **options)


def ask(path, answer, request=None, *, time=None, patience_s=0.0, timeout_s=10.0):
    """Return the answer, and the number of requests that arrived."""
    count = 0

    def counted(number, body):
        nonlocal count
        count = number
        return answer(number, body) if callable(answer) else answer

    async def run():
        async with (
            serving(counted) as url,
            client_of(url, path, time or FakeTime(), timeout_s=timeout_s) as client,
        ):
            return await client.ask(request or StatusRequest(), patience_s=patience_s)

    return asyncio.run(run()), count


def spent(path):
    return sum(weight for _, weight in json.loads(path.read_bytes())["spent"])


def test_a_request_is_the_json_that_the_venue_documents(path):
    seen = []

    def answer(_, body):
        seen.append(decode_request(body))
        return complete(b'{"BTC": "1.5"}')

    mids, count = ask(path, answer, MidsRequest())
    assert mids == {"BTC": Decimal("1.5")}
    assert (count, seen) == (1, [MidsRequest()])
    assert spent(path) == 2


def test_null_is_the_answer_for_an_unknown_book(path):
    assert ask(path, complete(b"null"), BookRequest(coin="X"))[0] is None


def test_compressed_answers_are_read(path):
    for body, kind in ((gzip.compress(STATUS), b"gzip"), (zlib.compress(STATUS), b"deflate")):
        answer = complete(body, headers=b"Content-Encoding: %s\r\n" % kind)
        assert ask(path, answer)[0].time_ms == 5


HTML = b"<html><head><title>502 Bad Gateway</title></head>\n<body>\x1b[31m</body></html>"
UNUSABLE = {
    "closed without an answer": b"",
    "nonsense": b"\x00\x01\x02nonsense\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "cut in the body": HEAD + b"Content-Length: 500\r\n\r\n" + STATUS,
    "longer than announced": HEAD + b"Content-Length: 4\r\n\r\n" + STATUS,
    "wrong length": HEAD + b"Content-Length: many\r\n\r\n" + STATUS,
    "wrong chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + STATUS,
    "cut in a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + STATUS,
    "too long a header": HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "HTML with status 200": complete(HTML, headers=b"Content-Type: text/html\r\n"),
    "empty": complete(b""),
    "truncated JSON": complete(STATUS[:-3]),
    "JSON of another type": complete(b'["time"]'),
    "not UTF-8": complete(b'{"time": "\xff\xfe"}'),
    "deep JSON": complete(b"[" * 100_000),
    "gzip that is none": complete(STATUS, headers=b"Content-Encoding: gzip\r\n"),
    "cut gzip": complete(gzip.compress(STATUS * 1000)[:-20], headers=b"Content-Encoding: gzip\r\n"),
    "gzip of many members": complete(gzip.compress(b" ") * 20_000, headers=b"Content-Encoding: gzip\r\n"),
    "deflate that is none": complete(STATUS, headers=b"Content-Encoding: deflate\r\n"),
    "unknown encoding": complete(STATUS, headers=b"Content-Encoding: br\r\n"),
    "redirect": complete(b"", 302, b"Location: http://example.org/\r\n"),
    "no content": complete(b"", 204),
    "HTTP 500": complete(b"null", 500),
    "HTTP 502": complete(HTML, 502),
    "HTTP 503 that is cut off": b"HTTP/1.1 503 X\r\nContent-Length: 900\r\n\r\nbusy",
    "HTTP 504": complete(b"", 504),
    "HTTP 408": complete(b"", 408),
    "HTTP 429": complete(b"", 429),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_answer_that_cannot_be_used_is_retryable_and_names_url_and_cause(path, kind):
    with pytest.raises(Retryable, match=r"^http://127\.0\.0\.1:\d+/info: exchangeStatus: .") as raised:
        ask(path, UNUSABLE[kind])
    text = str(raised.value)
    assert "\x1b" not in text
    assert "\n" not in text
    assert kind.startswith("HTTP 200") or not kind.startswith("HTTP 5") or kind[:8] in text
    assert len(text) < 700


@pytest.mark.parametrize("kind", [kind for kind in UNUSABLE if kind != "HTTP 429"])
def test_every_such_answer_is_outlasted(path, kind):
    answer, count = ask(path, lambda number, _: UNUSABLE[kind] if number < 4 else complete(STATUS), patience_s=60)
    assert answer.time_ms == 5
    assert count == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_the_venue_refuses_is_refused_at_once(path, status):
    body = b"Failed to deserialize the JSON body into the target type"
    with pytest.raises(Refused, match=f"exchangeStatus: HTTP {status}: Failed to deserialize"):
        ask(path, complete(body, status), patience_s=600)
    assert spent(path) == 2


def test_a_refused_connection_is_retryable(path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def run():
            async with client_of(url, path, FakeTime()) as client:
                await client.ask(MetaRequest())

        with pytest.raises(Retryable, match="no answer: ClientConnectorError"):
            asyncio.run(run())


def test_a_reset_connection_is_retryable(path):
    async def run():
        def reset(_reader, writer):
            link = writer.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()

        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client_of(url, path, FakeTime()) as client:
                await client.ask(MetaRequest())

    with pytest.raises(Retryable, match="no answer: "):
        asyncio.run(run())


async def stall(_number, _body):
    await asyncio.sleep(3)
    return b""


def test_a_server_that_says_nothing_is_given_up(path):
    with pytest.raises(Retryable, match=r"no end within 0\.2 s"):
        ask(path, stall, timeout_s=0.2)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(path):
    async def drip(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"Content-Length: 5000\r\n\r\n")
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def run():
        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client_of(url, path, FakeTime(), timeout_s=0.3) as client:
                await client.ask(MetaRequest())

    with pytest.raises(Retryable, match=r"no end within 0\.3 s"):
        asyncio.run(run())


def test_an_endless_answer_is_cut_off(path):
    bomb = gzip.compress(b" " * (40 << 20))
    with pytest.raises(Retryable, match=r"longer than 32 MiB|DecompressSize"):
        ask(path, complete(bomb, headers=b"Content-Encoding: gzip\r\n"))


ROOTS = {
    # Errors of servers, sockets and multipart forms, and errors of asyncio that only wrong use raises.
    "BadContentDispositionHeader", "BadContentDispositionParam", "BrokenBarrierError", "CookieError", "EofStream",
    "InvalidStateError", "LimitOverrunError", "LookupError", "SendfileNotAvailableError", "TooManyMembersError",
    "WSHandshakeError", "WSMessageTypeError", "WebSocketError", "_GiveupOnSendfile",
}  # fmt: skip


def lower_errors():
    """Return the errors of aiohttp and of the modules below it."""
    modules = [asyncio.exceptions, socket, ssl, zlib]
    left_out = ("aiohttp.web", "aiohttp.test", "aiohttp.pytest", "aiohttp.worker")
    names = [found.name for found in pkgutil.iter_modules(aiohttp.__path__, "aiohttp.")]
    modules += [importlib.import_module(name) for name in names if not name.startswith(left_out)]
    classes = {item for module in modules for item in vars(module).values() if inspect.isclass(item) and not_ours(item)}
    builtin = {
        item
        for item in vars(
            __builtins__ if inspect.ismodule(__builtins__) else importlib.import_module("builtins")
        ).values()
        if inspect.isclass(item) and issubclass(item, (OSError, UnicodeError, EOFError))
    }
    return sorted(classes | builtin, key=str)


def not_ours(item):
    return issubclass(item, Exception) and item.__module__ != "builtins" and item.__name__ not in ROOTS


@pytest.mark.parametrize("place", ["request", "body", "body of a refusal"])
def test_no_error_of_the_layers_below_escapes(path, monkeypatch, place):
    errors = lower_errors()
    assert len(errors) > 60

    async def run(client, error):
        async def fail(*_args, **_options):
            raise error

        async def chunks(*_args):
            raise error
            yield b""

        with monkeypatch.context() as patch:
            if place == "request":
                patch.setattr(aiohttp.ClientSession, "_request", fail)
            else:
                patch.setattr(aiohttp.StreamReader, "iter_any", chunks)
                patch.setattr(aiohttp.StreamReader, "read", fail)
            with pytest.raises(Retryable, match="exchangeStatus: ") as raised:
                await client.ask(StatusRequest())
        assert raised.value.__cause__ is error or place == "body of a refusal"

    async def all_of_them():
        status = 502 if place == "body of a refusal" else 200
        async with serving(lambda *_: complete(STATUS, status)) as url, client_of(url, path, FakeTime()) as client:
            for error in errors:
                # Without its arguments: some of them can't be printed then.
                await run(client, error.__new__(error))

    asyncio.run(all_of_them())


def test_cancelling_a_request_is_no_error(path):
    async def run():
        async with serving(stall) as url, client_of(url, path, FakeTime()) as client:
            task = asyncio.create_task(client.ask(StatusRequest(), patience_s=600))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_reads_ride_out_ten_minutes_of_502(path):
    time = FakeTime()
    begin = time.now

    def answer(_number, _body):
        return complete(STATUS) if time.now >= begin + 600 else complete(HTML, 502)

    status, count = ask(path, answer, time=time, patience_s=600)
    assert status.time_ms == 5
    # Six delays up to 16 s, then one each 15 to 30 s.
    assert 20 <= count <= 50


def test_an_outage_longer_than_the_patience_ends_with_the_last_cause(path):
    time = FakeTime()
    begin = time.now
    with pytest.raises(Retryable, match=r"HTTP 502: <html>.*; \d+ attempts in 600 s"):
        ask(path, complete(HTML, 502), time=time, patience_s=600)
    assert time.now - begin == pytest.approx(600, abs=2)


def test_fifty_readers_do_not_storm_a_venue_that_is_down(path):
    count = 0

    def answer(number, _body):
        nonlocal count
        count = number
        return complete(HTML, 502)

    async def run():
        async with serving(answer) as url, client_of(url, path, FastTime()) as client:
            reads = [client.ask(MetaRequest(), patience_s=120) for _ in range(50)]
            results = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(result, Retryable) for result in results)

    asyncio.run(run())
    # 45 requests of weight 20 are the share of market data in a minute; each read may send a last one.
    assert 50 <= count <= 45 * 4 + 50


def test_after_a_429_all_processes_wait_as_long_as_the_venue_asks(path):
    time = FakeTime()
    begin = time.now
    refused = complete(b"", 429, b"Retry-After: 17\r\n")
    with pytest.raises(Retryable, match="HTTP 429"):
        ask(path, refused, time=time)
    _, count = ask(path, complete(STATUS), time=time)
    assert count == 1
    assert time.now - begin >= 17


@pytest.mark.parametrize("value", [b"", b"soon", b"-5", b"nan", b"inf", b"Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_without_seconds_counts_as_one_second(path, value):
    time = FakeTime()
    begin = time.now
    answers = {1: complete(b"", 429, b"Retry-After: %s\r\n" % value)}
    _, count = ask(path, lambda number, _: answers.get(number, complete(STATUS)), time=time, patience_s=60)
    assert count == 2
    assert 1 <= time.now - begin < 6


def test_a_venue_that_only_answers_429_is_asked_less_and_less(path):
    with pytest.raises(Retryable, match="HTTP 429"):
        _ = ask(path, counted := Counted(complete(b"", 429)), time=FakeTime(), patience_s=600)
    assert counted.number <= 20


class Counted:
    """An answer that counts how often it is given."""

    def __init__(self, answer):
        self.answer, self.number = answer, 0

    def __call__(self, number, _body):
        self.number = number
        return self.answer


def test_an_exit_does_not_wait_for_the_requests_of_market_data(path):
    async def run():
        release = asyncio.Event()

        async def answer(_number, body):
            if b"meta" in body:
                await release.wait()
            return complete(STATUS if b"exchangeStatus" in body else b'{"universe": []}')

        async with serving(answer) as url, client_of(url, path, FakeTime()) as client:
            reads = [asyncio.create_task(client.ask(MetaRequest())) for _ in range(30)]
            await asyncio.sleep(0.05)
            await asyncio.wait_for(client.ask(StatusRequest(), priority="exit"), 5)
            assert not any(read.done() for read in reads)
            release.set()
            await asyncio.gather(*reads)

    asyncio.run(run())


# --- pages


def candle(index, coin="BTC", interval="1h", close="1"):
    price = Decimal(close)
    return Candle(
        open_ms=index * HOUR_MS,
        close_ms=(index + 1) * HOUR_MS - 1,
        coin=coin,
        interval=interval,
        open=price,
        close=price,
        high=price,
        low=price,
        volume=Decimal(1),
    )


def cut(rows, most, *, newest):
    return rows[-most:] if newest else rows[:most]


def candle_server(total, most, *, newest=True):
    requests = []

    def answer(_number, body):
        span = decode_request(body).span
        requests.append(span)
        rows = [candle(i) for i in range(total) if candle(i).close_ms >= span.start_ms and i * HOUR_MS <= span.end_ms]
        return complete(encode(cut(rows, most, newest=newest)))

    return answer, requests


def read_candles(path, answer, start, end, time=None):
    async def run():
        async with serving(answer) as url, client_of(url, path, time or FakeTime()) as client:
            return await client.candles("BTC", "1h", start * HOUR_MS, end * HOUR_MS)

    return asyncio.run(run())


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize("most", [500, 5000])
def test_candles_are_read_in_pages_wherever_the_venue_cuts_them(path, most, newest):
    answer, requests = candle_server(1300, most, newest=newest)
    rows = read_candles(path, answer, 10, 2000)
    assert [row.open_ms for row in rows] == [i * HOUR_MS for i in range(10, 1300)]
    assert len(requests) <= 5


def test_one_request_is_enough_for_a_short_time_and_its_weight_is_exact(path):
    answer, requests = candle_server(300, 5000)
    rows = read_candles(path, answer, 100, 299)
    assert [row.open_ms // HOUR_MS for row in rows] == list(range(100, 300))
    assert requests == [CandleSpan(coin="BTC", interval="1h", start_ms=100 * HOUR_MS, end_ms=299 * HOUR_MS)]
    assert spent(path) == 20 + 3


def test_a_candle_that_comes_twice_counts_as_it_came_last(path):
    rows = read_candles(path, lambda *_: complete(encode([candle(2), candle(1), candle(2, close="7")])), 0, 5)
    assert [(row.open_ms // HOUR_MS, row.close) for row in rows] == [(1, 1), (2, 7)]


def test_no_candles_are_an_answer(path):
    assert read_candles(path, lambda *_: complete(b"[]"), 0, 5) == ()


@pytest.mark.parametrize("row", [candle(1, coin="ETH"), candle(1, interval="1d"), candle(7), candle(-0)])
def test_candles_that_were_not_requested_are_refused(path, row):
    with pytest.raises(Retryable, match="unexpected row"):
        read_candles(path, lambda *_: complete(encode([row])), 2, 5)


def test_candles_without_an_end_are_given_up(path, monkeypatch):
    monkeypatch.setattr(client_module, "_MOST_PAGES", 3)

    def answer(_number, body):
        last = decode_request(body).span.end_ms // HOUR_MS
        return complete(encode([candle(i) for i in range(last - 499, last + 1)]))

    with pytest.raises(Retryable, match="no end after 3 pages"):
        read_candles(path, answer, 0, 9599)


def row_of(index, coin="BTC"):
    return FundingHour(coin=coin, rate=Decimal("0.0000125"), time_ms=index * HOUR_MS + 7)


def funding_server(total, most):
    requests = []

    def answer(_number, body):
        request = decode_request(body)
        requests.append(request)
        rows = [row_of(i) for i in range(total) if request.start_ms <= row_of(i).time_ms <= request.end_ms]
        return complete(encode(rows[:most]))

    return answer, requests


def read_funding(path, answer, start, end):
    async def run():
        async with serving(answer) as url, client_of(url, path, FakeTime()) as client:
            return await client.funding("BTC", start * HOUR_MS, end * HOUR_MS)

    return asyncio.run(run())


@pytest.mark.parametrize("most", [100, 500])
def test_funding_is_read_in_pages_that_overlap(path, most):
    answer, requests = funding_server(1300, most)
    rows = read_funding(path, answer, 10, 1300)
    assert [row.time_ms for row in rows] == [i * HOUR_MS + 7 for i in range(10, 1300)]
    assert requests[1].start_ms == row_of(10 + most - 1).time_ms


def test_funding_that_ends_early_ends_with_an_answer_without_news(path):
    answer, requests = funding_server(20, 500)
    assert len(read_funding(path, answer, 0, 1000)) == 20
    assert len(requests) == 2


@pytest.mark.parametrize("row", [row_of(3, "ETH"), row_of(1), row_of(9)])
def test_funding_that_was_not_requested_is_refused(path, row):
    with pytest.raises(Retryable, match="unexpected row"):
        read_funding(path, lambda *_: complete(encode([row])), 2, 5)


def test_funding_that_never_ends_is_given_up(path):
    with pytest.raises(Retryable, match="no end after 200 pages"):
        read_funding(path, funding_server(1000, 2)[0], 0, 1000)


def test_the_items_of_many_requests_do_not_use_the_reserve_of_exits(path):
    time = FakeTime()
    answer, _ = candle_server(0, 5000)

    async def run():
        async with serving(answer) as url, client_of(url, path, time) as client:
            span = CandleSpan(coin="BTC", interval="1h", start_ms=0, end_ms=5000 * HOUR_MS)
            await asyncio.gather(*(client.ask(CandlesRequest(span=span)) for _ in range(8)))

    asyncio.run(run())
    # Nothing was returned: the weight of items that was counted in advance is given back.
    assert spent(path) == 8 * 20
