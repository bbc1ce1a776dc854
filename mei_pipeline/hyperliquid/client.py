"""Client of the venue's info endpoint: reads that wait for the rate budget and outlast outages.

No error of the libraries below leaves this module. A read changes nothing at the venue, so whatever goes wrong on the
way is `Retryable`; a request that the venue refuses is `Refused`.
"""

import asyncio
import random
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from math import isfinite
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.errors import Refused, Retryable
from mei_pipeline.hyperliquid.budget import (
    MOST_ROWS,
    Priority,
    RateBudget,
    largest_surcharge,
    surcharge_of,
    weight_of,
)
from mei_pipeline.hyperliquid.codec import WrongPayload, decode_answer, encode
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.wire import (
    Candle,
    CandleSpan,
    CandlesRequest,
    FundingHour,
    FundingRequest,
    MarketRequest,
)
from mei_pipeline.text import printable

LOWER_ERRORS: tuple[type[Exception], ...] = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,  # refused and reset connections, names that don't resolve, time-outs, TLS
    ssl.CertificateError,
    EOFError,  # asyncio.IncompleteReadError
    UnicodeError,
    zlib.error,
)
"""Errors of the layers below that a request can raise."""

_OK = 200
_BAD_REQUEST, _SERVER_ERROR = 400, 500
_REQUEST_TIMEOUT, _TOO_MANY = 408, 429
_MARKET_REQUESTS = 8  # at the same time
_MOST_BYTES = 32 << 20
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.25, 30.0
_DEFAULT_PAUSE_S = 1.0
_EXCERPT = 120
_MOST_PAGES = 200
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}


class InfoClient:
    """Client of the info endpoint; an asynchronous context manager.

    Several tasks may use it at the same time. At most eight requests for market data are on the way at once; entries
    and exits do not wait for them.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        budget: RateBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timeout_s: float = 10.0,
    ) -> None:
        self._url = f"{endpoints.rest_url}/info"
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        self._slots = asyncio.Semaphore(_MARKET_REQUESTS)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            # A limit of connections would let an exit wait behind market data.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def ask(self, request: MarketRequest, *, priority: Priority = "market data", patience_s: float = 0.0) -> Any:
        """Return the venue's answer to a request.

        Args:
            request: The request.
            priority: Priority in the rate budget.
            patience_s: Seconds to try again after a failure; the delay between attempts grows to 30 seconds.

        Returns:
            The answer, of the type in `wire.ANSWERS`.

        Raises:
            Retryable: No answer, or one that can't be used; the cause of the last attempt.
            Refused: The venue refuses the request.
        """
        deadline = self._clock() + patience_s
        attempts = 0
        while True:
            try:
                return await self._attempt(request, priority)
            except Retryable as error:
                attempts += 1
                left_s = deadline - self._clock()
                if left_s <= 0:
                    if attempts == 1:
                        raise
                    raise Retryable(f"{error}; {attempts} attempts in {patience_s:g} s") from error
                await self._sleep(min(_delay_s(attempts), left_s))

    async def candles(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, patience_s: float = 0.0
    ) -> tuple[Candle, ...]:
        """Return the candles that overlap [start_ms, end_ms], as far as the venue still has them.

        Args:
            coin: Market.
            interval: Interval, in the venue's spelling.
            start_ms: First time.
            end_ms: Last time; the candle of that time may still be open.
            patience_s: See `ask`; it applies to each page.

        Returns:
            Candles by `open_ms`, each once.

        Raises:
            Retryable: See `ask`; also if an answer has candles that were not requested.
            Refused: See `ask`.
        """
        found: dict[int, Candle] = {}

        async def page(first_ms: int, last_ms: int) -> bool:
            """Add a page; return True if it is long enough to be cut off and has something new."""
            span = CandleSpan(coin=coin, interval=interval, start_ms=first_ms, end_ms=last_ms)
            rows = await self.ask(CandlesRequest(span=span), patience_s=patience_s)
            for row in rows:
                if (row.coin, row.interval) != (coin, interval) or row.close_ms < first_ms or row.open_ms > last_ms:
                    raise self._wrong(f"candles of {coin} {interval} in [{first_ms}, {last_ms}]", row)
            before = len(found)
            found.update((row.open_ms, row) for row in rows)
            return len(rows) >= MOST_ROWS and len(found) > before

        # The venue cuts off the oldest candles; a later version may cut off the newest, as it does for other ranges.
        more = await page(start_ms, end_ms)
        back = forth = more
        for _ in range(_MOST_PAGES):
            back = back and min(found) > start_ms
            forth = forth and found[max(found)].close_ms < end_ms
            if back:
                back = await page(start_ms, min(found))
            elif forth:
                forth = await page(max(found), end_ms)
            else:
                return tuple(found[open_ms] for open_ms in sorted(found))
        raise self._endless(f"candles of {coin} {interval}")

    async def funding(
        self, coin: str, start_ms: int, end_ms: int, *, patience_s: float = 0.0
    ) -> tuple[FundingHour, ...]:
        """Return the funding rates of [start_ms, end_ms].

        Args:
            coin: Market.
            start_ms: First time.
            end_ms: Last time.
            patience_s: See `ask`; it applies to each page.

        Returns:
            Rows by time, each once.

        Raises:
            Retryable: See `ask`; also if an answer has rows that were not requested.
            Refused: See `ask`.
        """
        found: dict[int, FundingHour] = {}
        first_ms = start_ms
        for _ in range(_MOST_PAGES):
            request = FundingRequest(coin=coin, start_ms=first_ms, end_ms=end_ms)
            rows = await self.ask(request, patience_s=patience_s)
            for row in rows:
                if row.coin != coin or not first_ms <= row.time_ms <= end_ms:
                    raise self._wrong(f"funding of {coin} in [{first_ms}, {end_ms}]", row)
            before = len(found)
            found.update((row.time_ms, row) for row in rows)
            if len(found) == before or max(found) + HOUR_MS > end_ms:
                return tuple(found[time_ms] for time_ms in sorted(found))
            # Pages overlap by the last row: rows of the same millisecond may lie on both sides of the cut.
            first_ms = max(found)
        raise self._endless(f"funding of {coin}")

    async def _attempt(self, request: MarketRequest, priority: Priority) -> Any:
        async with self._slots if priority == "market data" else nullcontext():
            # The items are counted in advance: otherwise many requests at once would use the reserve of exits.
            advance = largest_surcharge(request)
            await self._budget.spend(weight_of(request) + advance, priority)
            name = f"{self._url}: {request.__struct_config__.tag}"
            counted = 0
            try:
                async with self._session.post(self._url, data=encode(request), allow_redirects=False) as response:
                    if response.status != _OK:
                        raise await self._refusal(name, response)
                    counted = advance  # an answer that is cut off may have cost as much as a complete one
                    answer = decode_answer(request, await _body(name, response))
                    counted = surcharge_of(request, len(answer) if isinstance(answer, tuple) else 0)
            except WrongPayload as error:
                raise Retryable(f"{name}: unexpected answer: {_line(str(error))}; try again later") from error
            except LOWER_ERRORS as error:
                raise Retryable(f"{name}: no answer: {_cause(error, self._timeout_s)}; try again later") from error
            finally:
                self._budget.charge(counted - advance)
            return answer

    async def _refusal(self, name: str, response: aiohttp.ClientResponse) -> Refused | Retryable:
        """Return the error of an answer with another status than 200, and let all processes wait after a 429."""
        status = response.status
        if status == _TOO_MANY:
            self._budget.pause(_retry_after_s(response.headers.get("Retry-After", "")))
        try:
            start = (await response.content.read(_EXCERPT)).decode(errors="backslashreplace")
        except LOWER_ERRORS:
            start = ""
        text = f"{name}: HTTP {status}: {_line(start)}"
        if _BAD_REQUEST <= status < _SERVER_ERROR and status not in {_REQUEST_TIMEOUT, _TOO_MANY}:
            return Refused(f"{text}; correct the request")
        return Retryable(f"{text}; try again later")

    def _wrong(self, requested: str, row: Candle | FundingHour) -> Retryable:
        text = encode(row).decode()[:_EXCERPT]
        return Retryable(f"{self._url}: {requested}: unexpected row: {_line(text)}; try again later")

    def _endless(self, requested: str) -> Retryable:
        return Retryable(f"{self._url}: {requested}: no end after {_MOST_PAGES} pages; request a shorter time")


async def _body(name: str, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise Retryable(f"{name}: the answer is longer than {_MOST_BYTES >> 20} MiB; try again later")
    return bytes(body)


def _cause(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no end within {timeout_s:g} s"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - some errors of aiohttp can't be printed without the connection that they name
        text = ""
    kind = type(error).__name__
    return _line(f"{kind}: {text}") if text else kind


def _line(text: str) -> str:
    """Return a text of others as one line that can be shown."""
    return printable(" ".join(text.split()))


def _delay_s(attempts: int) -> float:
    """Return the time until the next attempt: twice as long after each, and different in each process."""
    longest = min(_FIRST_DELAY_S * 2.0 ** min(attempts - 1, 10), _LONGEST_DELAY_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _retry_after_s(text: str) -> float:
    """Return the seconds of a `Retry-After`; a date or another text counts as one second."""
    try:
        seconds = float(text)
    except ValueError:
        return _DEFAULT_PAUSE_S
    return seconds if isfinite(seconds) else _DEFAULT_PAUSE_S
