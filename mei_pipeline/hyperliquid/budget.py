"""Budget of requests: the weight that one address may spend in a minute, shared by all processes of this machine.

Hyperliquid counts requests by IP address: 1,200 weight in a minute, REST requests and posts over a WebSocket together
(rate limits of the venue's documentation). The budget is a small file under a lock of the operating system, which ends
with its process.

Market data may use a part of the minute, entries a larger one, exits all of it: an exit never waits behind the others.
"""

import asyncio
import contextlib
import fcntl
import json
import math
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mei_pipeline.hyperliquid.wire import (
    BookRequest,
    CandlesRequest,
    DelegatorRequest,
    FillsRequest,
    FillsSpanRequest,
    FundingRequest,
    LedgerRequest,
    MidsRequest,
    OrderRequest,
    PastOrdersRequest,
    PaymentsRequest,
    PerpAccountRequest,
    RoleRequest,
    SpotAccountRequest,
    StatusRequest,
    TradesRequest,
    TwapFillsRequest,
    Wire,
)

PER_MINUTE = 1_200
"""Weight in a minute that the venue allows one IP address."""

Priority = Literal["exit", "entry", "market data"]

_SHARES: dict[Priority, float] = {"exit": 0.95, "entry": 0.85, "market data": 0.7}
"""Part of the minute that the requests of a priority and all others together may have used; the rest is for clocks."""

_AFTER_PAUSE_S: dict[Priority, float] = {"exit": 0.0, "entry": 0.5, "market data": 1.0}
_WINDOW_S = 60
_LONGEST_PAUSE_S = 120.0
_SHORTEST_WAIT_S = 0.05

_WEIGHT = 20
_WEIGHTS: dict[type[Wire], int] = {
    **dict.fromkeys((BookRequest, MidsRequest, OrderRequest, PerpAccountRequest, SpotAccountRequest, StatusRequest), 2),
    RoleRequest: 60,
}
_ROWS_PER_WEIGHT: dict[type[Wire], int] = {
    CandlesRequest: 60,
    **dict.fromkeys(
        (
            DelegatorRequest,
            FillsRequest,
            FillsSpanRequest,
            FundingRequest,
            PastOrdersRequest,
            PaymentsRequest,
            LedgerRequest,
            TradesRequest,
            TwapFillsRequest,
        ),
        20,
    ),
}


def weight_of(request: Wire) -> int:
    """Return the weight of a request, without that of its answer."""
    return _WEIGHTS.get(type(request), _WEIGHT)


def surcharge_of(request: Wire, rows: int) -> int:
    """Return the weight of the rows of an answer."""
    rows_per_weight = _ROWS_PER_WEIGHT.get(type(request))
    return 0 if rows_per_weight is None else rows // rows_per_weight


@dataclass
class _Usage:
    """Content of the file.

    Attributes:
        seconds: Weight that was spent in each second of the last minute, by Unix time.
        paused_until_s: Unix time until which nothing may be sent.
    """

    seconds: dict[int, int] = field(default_factory=dict)
    paused_until_s: float = 0.0


class RateBudget:
    """The weight of the last minute, in a file that several processes share.

    A damaged file counts as empty. If it can't be written, as on a full disk, each process counts for itself.
    """

    def __init__(
        self,
        path: Path,
        *,
        per_minute: int = PER_MINUTE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Use the budget at a path; the file is made at the first use.

        Args:
            path: The file, one for each network.
            per_minute: Weight in a minute.
            clock: Unix time in seconds, the same for all processes.
            sleep: Waits for a number of seconds of that clock.
        """
        self._path = path
        self._per_minute = per_minute
        self._clock = clock
        self._sleep = sleep
        self._own = _Usage()

    async def spend(self, weight: int, priority: Priority = "market data") -> None:
        """Wait until a request may be sent, and count it.

        Args:
            weight: Its weight; a larger one than the share of its priority waits for an empty minute.
            priority: Its priority.
        """
        while (wait_s := self._try(weight, priority)) > 0.0:
            await self._sleep(wait_s)

    def charge(self, weight: int) -> None:
        """Count weight that was not known before the answer."""
        if weight:
            with self._usage() as usage:
                self._add(usage, weight)

    def pause(self, seconds: float) -> None:
        """Let all processes wait after the venue has refused a request for its rate; exits go on first."""
        if not math.isfinite(seconds):
            seconds = _LONGEST_PAUSE_S
        with self._usage() as usage:
            until_s = self._clock() + min(max(seconds, 0.0), _LONGEST_PAUSE_S)
            usage.paused_until_s = max(usage.paused_until_s, until_s)

    @property
    def used(self) -> int:
        """Weight of the last minute."""
        with self._usage() as usage:
            return sum(usage.seconds.values())

    def _try(self, weight: int, priority: Priority) -> float:
        """Count a request if it may be sent now, and return 0; else return the seconds until the next try."""
        with self._usage() as usage:
            now_s = self._clock()
            if usage.paused_until_s > now_s:
                return usage.paused_until_s - now_s + _AFTER_PAUSE_S[priority]
            allowed = self._per_minute * _SHARES[priority]
            used = sum(usage.seconds.values())
            if used == 0 or used + weight <= allowed:
                self._add(usage, weight)
                return 0.0
            for second in sorted(usage.seconds):
                used -= usage.seconds[second]
                if used == 0 or used + weight <= allowed:
                    return max(second + _WINDOW_S + 1 - now_s, _SHORTEST_WAIT_S)
        return _SHORTEST_WAIT_S

    def _add(self, usage: _Usage, weight: int) -> None:
        second = int(self._clock())
        usage.seconds[second] = usage.seconds.get(second, 0) + weight

    @contextlib.contextmanager
    def _usage(self) -> Generator[_Usage]:
        """Yield the usage under the lock, and store what the caller changes."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+b")
        except OSError:
            self._forget(self._own)
            yield self._own
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            before = file.read()
            usage = _read(before)
            self._forget(usage)  # kept in the file too: what a clock that was set back has moved must not move again
            yield usage
            self._own = usage
            after = json.dumps(vars(usage)).encode()
            if after != before:
                with contextlib.suppress(OSError):
                    file.truncate(0)
                    file.write(after)
                    file.flush()

    def _forget(self, usage: _Usage) -> None:
        """Leave the last minute; what lies in the future, because the clock was set back, counts as now."""
        now_s = self._clock()
        kept: dict[int, int] = {}
        for second, weight in usage.seconds.items():
            if second > now_s - _WINDOW_S - 1:
                moved = min(second, int(now_s))
                kept[moved] = kept.get(moved, 0) + weight
        usage.seconds = kept
        usage.paused_until_s = min(usage.paused_until_s, now_s + _LONGEST_PAUSE_S)


def _read(data: bytes) -> _Usage:
    """Return the usage in a file; an empty one if it is damaged."""
    try:
        found = json.loads(data)
        seconds = {int(second): int(weight) for second, weight in found["seconds"].items()}
        paused_s = float(found["paused_until_s"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return _Usage()
    if not math.isfinite(paused_s) or any(weight < 0 for weight in seconds.values()):
        return _Usage()
    return _Usage(seconds, paused_s)
