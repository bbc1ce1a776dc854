"""Read the venue's clock, and compare the machine's with it."""

from collections.abc import Callable
from typing import NamedTuple

import aiohttp
import msgspec

from live.venue_feed.clock import VenueClock
from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import ConfigError, Retryable
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.wire import StatusRequest

MOST_OFF_S = 60.0
"""Largest difference between the machine's clock and the venue's, in seconds."""

_READINGS = 5
_TIMEOUT_S = 10.0


class ClockReading(NamedTuple):
    """The venue's clock, and the largest error of the reading, in seconds of the machine."""

    clock: VenueClock
    error_s: float


class _SimulatorClock(msgspec.Struct, frozen=True):
    now_ms: float
    speed: float


async def read_clock(client: InfoClient, endpoints: Endpoints, clock: Callable[[], float]) -> ClockReading:
    """Return the best of several readings.

    Args:
        client: Client of the network.
        endpoints: Addresses of the network; that of an exchange simulator also tells its speed.
        clock: Monotonic clock of the machine, in seconds.

    Raises:
        Retryable: The venue does not answer.
    """
    readings: list[ClockReading] = []
    for _ in range(_READINGS):
        begun_s = clock()
        if endpoints.network == "simulator":
            shown = await _ask_simulator(endpoints)
        else:
            shown = _SimulatorClock((await client.ask(StatusRequest())).time_ms, 1.0)
        error_s = (clock() - begun_s) / 2.0
        readings.append(ClockReading(VenueClock(begun_s + error_s, shown.now_ms, shown.speed), error_s))
    return min(readings, key=lambda reading: reading.error_s)


def better(known: ClockReading, new: ClockReading, now_s: float) -> ClockReading:
    """Return the reading to go on with: the more exact one, unless it contradicts the newer one."""
    if new.clock.speed != known.clock.speed or new.error_s <= known.error_s:
        return new
    apart_ms = abs(new.clock.now_ms(now_s) - known.clock.now_ms(now_s))
    return known if apart_ms <= known.clock.span_ms(new.error_s + known.error_s) + 1 else new


def clock_problem(clock: VenueClock, now_s: float, unix_s: float) -> str:
    """Return the reason why the machine's clock is wrong; empty if it is right.

    Args:
        clock: The venue's clock.
        now_s: Present time of the machine's monotonic clock, in seconds.
        unix_s: Present time of the machine's other clock, in seconds since 1970.
    """
    venue_ms = clock.now_ms(now_s)
    off_s = unix_s - venue_ms / 1000.0
    if abs(off_s) <= MOST_OFF_S:
        return ""
    return (
        f"clock: this machine's is off by {off_s:+.0f} s: it shows {iso(int(unix_s) * 1000)}, the venue's "
        f"{iso(venue_ms // 1000 * 1000)}; set it, for instance with `timedatectl set-ntp true`"
    )


def check_clock(clock: VenueClock, now_s: float, unix_s: float) -> None:
    """Raise `ConfigError` if the machine's clock is wrong; see `clock_problem`."""
    if problem := clock_problem(clock, now_s, unix_s):
        raise ConfigError(problem)


async def _ask_simulator(endpoints: Endpoints) -> _SimulatorClock:
    url = f"{endpoints.rest_url}/simulator"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.post(url, data=b'{"type":"clock"}') as answer,
        ):
            shown = msgspec.json.decode(await answer.read(), type=_SimulatorClock)
    except (TimeoutError, aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
        raise Retryable(f"{url}: no exchange simulator answers: {error}; start it, or correct its URL") from error
    if not shown.speed > 0.0:
        raise Retryable(f"{url}: speed: {shown.speed}; no exchange simulator has it")
    return shown
