"""Questions to the info endpoint of Hyperliquid, over HTTP.

Every failure of the layers below becomes an error of MEI. Reading has no effect at the venue, so whatever may pass by
itself is `Retryable`, and `ask` tries again for as long as its caller has patience.
"""

import asyncio
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from mei_pipeline.errors import Refused, Retryable
from mei_pipeline.hyperliquid.budget import Priority, RateBudget, surcharge_of, weight_of
from mei_pipeline.hyperliquid.codec import WrongPayload, decode_answer, encode
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.wire import Candle, CandleSpan, CandlesRequest, FundingHour, FundingRequest, Wire
from mei_pipeline.text import printable

OUTAGE_S = 600.0
"""Time that a feed waits for a venue that answers with errors, in seconds."""

TIMEOUT_S = 10.0

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_RATE_PAUSE_S = 10.0
_LARGEST_BYTES = 64 << 20
_EXCERPT = 120
_TOO_MANY, _OK = 429, 200
_SERVER = range(500, 600)
_CLIENT = range(400, 500)

FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError, zlib.error, EOFError)
"""What a request can raise before its answer is complete. `OSError` covers TLS, name resolution and sockets."""


class InfoClient:
    """Client of the info endpoint; an asynchronous context manager.

    Attributes:
        requests: Number of requests that were sent.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        budget: RateBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Create a client; it connects with its first request.

        Args:
            endpoints: Addresses of the network.
            budget: Budget of the machine for this network.
            clock: Monotonic time in seconds.
            sleep: Waits for a number of seconds of that clock.
            jitter: Returns a number in [0, 1), by which pauses between attempts vary.
            timeout_s: Longest time of a request, from its connection to the end of its answer, in seconds.
        """
        self.requests = 0
        self._url = f"{endpoints.rest_url}/info"
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False, auto_decompress=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: Wire, *, priority: Priority = "market data", patience_s: float = 0.0) -> Any:
        """Return the decoded answer to a request; its type is that in `wire.ANSWERS`.

        Args:
            request: The request.
            priority: Its priority in the rate budget.
            patience_s: Time during which a failure that may pass is tried again, in seconds.

        Raises:
            Retryable: No complete answer came: no connection, a time-out, an error or a half answer of the server.
            Refused: The venue does not accept the request; repeating it changes nothing.
            WrongPayload: The answer is complete and has another form than documented.
        """
        deadline_s = self._clock() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._budget.spend(weight_of(request), priority)
            try:
                return await self._ask_once(request)
            except Retryable:
                left_s = deadline_s - self._clock()
                if left_s <= 0.0:
                    raise
                await self._sleep(min(pause_s * (0.5 + self._jitter()), left_s))
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)

    async def candles(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, patience_s: float = 0.0
    ) -> tuple[Candle, ...]:
        """Return the candles that overlap [start_ms, end_ms], oldest first; the last one may be open.

        Pages overlap and are joined by open time. Raises what `ask` raises.
        """
        found: dict[int, Candle] = {}
        from_ms = start_ms
        while True:
            span = CandleSpan(coin=coin, interval=interval, start_ms=from_ms, end_ms=end_ms)
            rows: Sequence[Candle] = await self.ask(CandlesRequest(span=span), patience_s=patience_s)
            new = [row for row in rows if row.open_ms not in found]
            found.update((row.open_ms, row) for row in rows)
            if not new or new[-1].close_ms >= end_ms:
                return tuple(found[open_ms] for open_ms in sorted(found))
            from_ms = new[-1].open_ms

    async def funding(
        self, coin: str, start_ms: int, end_ms: int, *, patience_s: float = 0.0
    ) -> tuple[FundingHour, ...]:
        """Return the funding rates in [start_ms, end_ms], oldest first.

        Pages overlap by a time, because an answer has a limit and several rows may have one time. Raises what `ask`
        raises.
        """
        found: dict[FundingHour, None] = {}
        from_ms = start_ms
        while True:
            request = FundingRequest(coin=coin, start_ms=from_ms, end_ms=end_ms)
            rows: Sequence[FundingHour] = await self.ask(request, patience_s=patience_s)
            new = [row for row in rows if row not in found]
            found.update(dict.fromkeys(rows))
            if not new:
                return tuple(sorted(found, key=lambda row: row.time_ms))
            from_ms = new[-1].time_ms

    async def _ask_once(self, request: Wire) -> Any:
        status, headers, body = await self._post(request)
        name = request.__struct_config__.tag
        if status == _OK:
            try:
                answer = decode_answer(request, body)
            except WrongPayload as error:
                if _is_complete(body):
                    raise
                raise Retryable(f"{self._url}: {name}: half an answer, or no JSON: {error}") from error
            self._budget.charge(surcharge_of(request, len(answer) if isinstance(answer, tuple) else 0))
            return answer
        text = f"{self._url}: {name}: HTTP {status}: {_excerpt(body)}"
        if status == _TOO_MANY:
            self._budget.pause(_seconds(headers.get("Retry-After", "")))
            raise Retryable(f"{text}; the rate limit of this address is used up")
        if status in _CLIENT:
            raise Refused(f"{text}; the venue does not accept this request")
        raise Retryable(f"{text}; the venue is out of order" if status in _SERVER else text)

    async def _post(self, request: Wire) -> tuple[int, Any, bytes]:
        """Send a request; return status, headers and body."""
        if self._session is None:
            raise RuntimeError("open the client with `async with` first")
        headers = {"Content-Type": "application/json"}
        self.requests += 1
        try:
            async with self._session.post(
                self._url, data=encode(request), headers=headers, allow_redirects=False
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > _LARGEST_BYTES:
                        raise Retryable(f"{self._url}: more than {_LARGEST_BYTES >> 20} MiB in one answer")
                return response.status, response.headers, bytes(body)
        except FAILURES as error:
            cause = f"{type(error).__name__}: {error}".rstrip(": ")
            raise Retryable(printable(f"{self._url}: {request.__struct_config__.tag}: {cause}")) from error


def _is_complete(body: bytes) -> bool:
    """Return whether a body is a JSON document, so that another attempt would not bring another form of it."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _seconds(retry_after: str) -> float:
    """Return the seconds of a header `Retry-After`; a date or nonsense counts as none was sent."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else _RATE_PAUSE_S


def _excerpt(body: bytes) -> str:
    text = " ".join(body[: 4 * _EXCERPT].decode(errors="backslashreplace").split())
    return printable(text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…")
