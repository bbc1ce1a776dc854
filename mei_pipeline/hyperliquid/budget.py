"""Rate budget of the venue: the weight that all processes of this machine may spend in a minute.

The venue counts by IP address, so the processes share one small file per network. Each change happens under a lock of
the operating system, which ends with its process. The budget counts the last 60 seconds, so that no minute exceeds the
limit, wherever the venue's minutes begin.
"""

import asyncio
import fcntl
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mei_pipeline.candles.intervals import HOUR_MS, INTERVALS
from mei_pipeline.errors import Busy
from mei_pipeline.hyperliquid.network import Network
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
from mei_pipeline.log import stderr_log

Priority = Literal["exit", "entry", "market data"]

MOST_CANDLES = 5000
"""Largest number of candles in an answer."""
MOST_ROWS = 500
"""Largest number of rows in the answer to another request for a range of time."""

PER_MINUTE = 1200
"""Weight that the venue allows an IP address in a minute."""

_WEIGHT = 20
_WEIGHTS: dict[type[Wire], int] = {
    **dict.fromkeys((BookRequest, MidsRequest, OrderRequest, PerpAccountRequest, SpotAccountRequest, StatusRequest), 2),
    RoleRequest: 60,
}
_BY_20 = (
    DelegatorRequest,
    FillsRequest,
    FillsSpanRequest,
    FundingRequest,
    LedgerRequest,
    PastOrdersRequest,
    PaymentsRequest,
    TradesRequest,
    TwapFillsRequest,
)
_ITEMS: dict[type[Wire], int] = {CandlesRequest: 60, **dict.fromkeys(_BY_20, 20)}

_WINDOW_S = 60
_SHARE: dict[Priority, float] = {"exit": 1.0, "entry": 0.9, "market data": 0.75}
_ORDER: dict[Priority, int] = {"exit": 0, "entry": 1, "market data": 2}
# After a pause: seconds until the first request, and seconds between requests for a minute.
_START_S: dict[Priority, float] = {"exit": 0.0, "entry": 1.0, "market data": 2.0}
_SPACING_S: dict[Priority, float] = {"exit": 0.1, "entry": 0.25, "market data": 1.0}
_MAX_PAUSE_S = 600.0
_MAX_RAISED_PAUSE_S = 60.0
_POLL_S = 1.0  # other processes may give weight back
_LOCK_TRIES, _LOCK_TRY_S = 100, 0.01
_MOST_BYTES = 65_536

_Weight = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class BudgetState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file.

    Attributes:
        spent: Weight by second, as pairs of Unix second and weight, oldest first.
        pause_at: Start of the last pause, Unix seconds.
        pause_s: Its length in seconds; 0 for none.
        refusals: Pauses in a row.
        last: Time of the last request of each priority, exits first, Unix seconds.
    """

    spent: tuple[tuple[int, _Weight], ...] = ()
    pause_at: _Seconds = 0.0
    pause_s: Annotated[float, msgspec.Meta(ge=0, le=_MAX_PAUSE_S)] = 0.0
    refusals: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    last: tuple[_Seconds, _Seconds, _Seconds] = (0.0, 0.0, 0.0)


_Change = Callable[[BudgetState, float], BudgetState]
_state: msgspec.json.Decoder[BudgetState] = msgspec.json.Decoder(BudgetState)


def weight_of(request: Wire) -> int:
    """Return the weight of a request to the info endpoint, without that of the items in its answer."""
    return _WEIGHTS.get(type(request), _WEIGHT)


def surcharge_of(request: Wire, rows: int) -> int:
    """Return the weight of an answer's items."""
    items = _ITEMS.get(type(request))
    return rows // items if items else 0


def largest_surcharge(request: Wire) -> int:
    """Return the largest weight that the items of the answer can have, as far as the request limits them."""
    if isinstance(request, CandlesRequest):
        span = request.span
        step_ms = INTERVALS.get(span.interval)
        rows = _rows(span.start_ms, span.end_ms, step_ms, MOST_CANDLES)
    elif isinstance(request, FundingRequest):
        rows = _rows(request.start_ms, request.end_ms, HOUR_MS, MOST_ROWS)
    else:
        return 0
    return surcharge_of(request, rows)


def budget_path(folder: Path, network: Network) -> Path:
    """Return the file of a network's budget in the folder that all processes of this machine share."""
    return folder / f"hyperliquid.{network}.budget"


class RateBudget:
    """Budget of a network.

    Market data may use three quarters of the limit and entries nine tenths, so that an exit never waits for them.
    A budget whose file can't be written, as on a full disk, counts in memory.
    """

    def __init__(
        self,
        path: Path,
        *,
        per_minute: int = PER_MINUTE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._per_minute = per_minute
        self._clock = clock
        self._sleep = sleep
        self._known = BudgetState()
        self._owed = 0  # weight that the file lacks
        self._owed_pause_s = 0.0
        self._problem = ""
        # In each process, one request of a priority waits at the file and the others in order behind it.
        self._queues: dict[Priority, asyncio.Lock] = {priority: asyncio.Lock() for priority in _SHARE}

    async def spend(self, weight: int, priority: Priority) -> None:
        """Wait until a request is allowed, and count it.

        Args:
            weight: Weight of the request.
            priority: Its priority.

        Raises:
            Busy: Another process has held the file for a second, as a stopped one does. An exit doesn't wait for it
                any longer.
        """
        async with self._queues[priority]:
            while (wait_s := await self._try_spending(weight, priority)) > 0:
                await self._sleep(min(wait_s, _POLL_S))

    def charge(self, weight: int) -> None:
        """Count the weight of an answer's items; a negative weight gives back what was counted in advance."""
        if weight:
            try:
                self._apply(lambda state, now: _with_weight(state, now, weight))
            except BlockingIOError:
                self._owe(weight)

    def pause(self, seconds: float) -> None:
        """Let all processes wait, because the venue has refused a request for its rate.

        Pauses in a row become longer. Refusals of requests that were sent before a pause do not lengthen it further.

        Args:
            seconds: Time that the venue asks for; MEI waits at least a second, and at most ten minutes.
        """
        seconds = min(max(seconds, 1.0), _MAX_PAUSE_S)
        try:
            self._apply(lambda state, now: _with_pause(state, now, seconds))
        except BlockingIOError:
            self._owed_pause_s = max(self._owed_pause_s, seconds)

    async def _try_spending(self, weight: int, priority: Priority) -> float:
        """Spend and return 0, or return the seconds to wait."""
        wait_s = 0.0

        def change(state: BudgetState, now: float) -> BudgetState:
            nonlocal wait_s
            wait_s = _wait_s(state, now, weight, priority, self._per_minute)
            return state if wait_s > 0 else _with_request(state, now, weight, priority)

        for _ in range(_LOCK_TRIES):
            with suppress(BlockingIOError):
                self._apply(change)
                # Jitter keeps the processes from trying again at the same moment.
                jitter_s = 0.0 if priority == "exit" else random.uniform(0.0, 0.1)  # noqa: S311 - no secret
                return wait_s + jitter_s if wait_s > 0 else 0.0
            await self._sleep(_LOCK_TRY_S)
        if priority != "exit":
            raise Busy(f"{self._path}: another process holds this file; end it if it is stopped")
        self._owe(weight)
        return 0.0

    def _owe(self, weight: int) -> None:
        self._owed = min(max(self._owed + weight, 0), self._per_minute)

    def _apply(self, change: _Change) -> None:
        """Change the file, or the state in memory if the file can't be used.

        Raises:
            BlockingIOError: Another process holds the file; nothing changed.
        """
        try:
            self._change_file(change)
            self._problem = ""
        except BlockingIOError:
            raise
        except OSError as error:
            if self._problem != str(error):
                self._problem = str(error)
                stderr_log().warning("rate budget is not shared", path=str(self._path), cause=str(error))
            before = _at(self._known, self._clock())
            self._known = change(before, self._clock())
            self._owe(_total(self._known) - _total(before))

    def _change_file(self, change: _Change) -> None:
        handle = self._locked()
        try:
            now = self._clock()
            content = os.pread(handle, _MOST_BYTES, 0)
            state = _at(self._decoded(content, now), now)
            if self._owed:
                state = _with_weight(state, now, self._owed)
            if self._owed_pause_s:
                state = _with_pause(state, now, self._owed_pause_s)
            state = change(state, now)
            # One line in one call, and its end is cut off later: a process that is killed in between leaves a first
            # line that can be read.
            line = msgspec.json.encode(state) + b"\n"
            if line != content:
                if os.pwrite(handle, line, 0) != len(line):
                    raise OSError("part of the file was not written")
                os.ftruncate(handle, len(line))
        finally:
            os.close(handle)  # releases the lock, too
        self._known, self._owed, self._owed_pause_s = state, 0, 0.0

    def _locked(self) -> int:
        """Open and lock the file; if it was removed meanwhile, open the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_nlink:
                    return handle
            except OSError:
                os.close(handle)
                raise
            os.close(handle)

    def _decoded(self, content: bytes, now: float) -> BudgetState:
        if not content:
            return BudgetState()
        try:
            return _state.decode(content.partition(b"\n")[0])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            # What was spent is unknown: market data waits a minute, and entries and exits keep their reserve.
            stderr_log().warning("rate budget is damaged", path=str(self._path), cause=str(error))
            return _with_weight(BudgetState(), now, int(self._per_minute * _SHARE["market data"]))


def _rows(start_ms: int, end_ms: int | None, step_ms: int | None, most: int) -> int:
    if end_ms is None or step_ms is None:
        return most
    return min(max((end_ms - start_ms) // step_ms + 2, 0), most)


def _at(state: BudgetState, now: float) -> BudgetState:
    """Return a state without what is over, and with nothing in the future, where a clock that jumped back leaves it."""
    second = int(now)
    weights: dict[int, int] = {}
    for spent_at, weight in state.spent:
        if spent_at >= second - _WINDOW_S:
            at = min(spent_at, second)
            weights[at] = weights.get(at, 0) + weight
    exits, entries, market = state.last
    return BudgetState(
        spent=tuple(sorted(weights.items())),
        pause_at=min(state.pause_at, now),
        pause_s=state.pause_s,
        refusals=state.refusals,
        last=(min(exits, now), min(entries, now), min(market, now)),
    )


def _total(state: BudgetState) -> int:
    return sum(weight for _, weight in state.spent)


def _with_weight(state: BudgetState, now: float, weight: int) -> BudgetState:
    weights = dict(state.spent)
    if weight > 0:
        weights[int(now)] = weights.get(int(now), 0) + weight
    else:
        # The oldest first: what remains is then never older than what was spent.
        for second in sorted(weights):
            taken = min(weights[second], -weight)
            weights[second] -= taken
            weight += taken
    spent = tuple((second, weight) for second, weight in sorted(weights.items()) if weight)
    return msgspec.structs.replace(state, spent=spent)


def _with_request(state: BudgetState, now: float, weight: int, priority: Priority) -> BudgetState:
    exits, entries, market = (now if _ORDER[priority] == order else at for order, at in enumerate(state.last))
    return msgspec.structs.replace(_with_weight(state, now, weight), last=(exits, entries, market))


def _with_pause(state: BudgetState, now: float, seconds: float) -> BudgetState:
    end = state.pause_at + state.pause_s
    if state.pause_s and now < end:
        # The venue answers requests that were already sent when the pause began.
        return msgspec.structs.replace(state, pause_s=min(max(end, now + seconds) - state.pause_at, _MAX_PAUSE_S))
    refusals = state.refusals + 1 if state.pause_s and now < end + _WINDOW_S else 1
    raised = min(2.0 ** min(refusals - 1, 10), _MAX_RAISED_PAUSE_S)
    return msgspec.structs.replace(state, pause_at=now, pause_s=max(seconds, raised), refusals=min(refusals, 1000))


def _wait_s(state: BudgetState, now: float, weight: int, priority: Priority, per_minute: int) -> float:
    """Return the seconds until a request is allowed; 0 or less if it is."""
    ready = _room_at(state, now, weight, per_minute * _SHARE[priority])
    end = state.pause_at + state.pause_s
    if state.pause_s and now < end + _WINDOW_S:
        spaced = state.last[_ORDER[priority]] + _SPACING_S[priority]
        ready = max(ready, end + _START_S[priority], spaced)
    return ready - now


def _room_at(state: BudgetState, now: float, weight: int, share: float) -> float:
    """Return the earliest time at which the last minute leaves room for a weight, if no other is spent."""
    # A request that is heavier than the share may use all of it.
    surplus = _total(state) + min(weight, share) - share
    for second, spent in state.spent:
        if surplus <= 0:
            break
        surplus -= spent
        now = second + _WINDOW_S + 1.0  # the whole second is a minute old
    return now
