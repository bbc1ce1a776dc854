"""Faults of the exchange simulator, and the promises of a venue's feed to its consumers.

Several faults run at once, each in a chain of its own: simulator, feed and consumer over real sockets.
"""

import asyncio
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from market_kit import HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake
from venue_chain_kit import read_until, run, running_chain

from live.feed_client import subscription
from live.feed_server import listen
from live.venue_feed import asking, core, service
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.events import BarClosed, BarMissing, BarRevised, FeedEvent, FeedHealth, StepClosed
from mei_pipeline.execution.lake_events import lake_events
from mei_pipeline.hyperliquid.budget import RateBudget
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.network import Endpoints
from mei_pipeline.hyperliquid.simulator.app import run_simulator
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import FaultPlan
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket, load_lake
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions
from mei_pipeline.hyperliquid.socket import VenueSocket
from mei_pipeline.hyperliquid.subscriptions import SocketLimits
from mei_pipeline.settings import Settings

SPEED = 3600.0 * 5  # five steps in a second
FROM_MS = START_MS + 200 * HOUR_MS
AUDIT_S = 1.0
AUDITED = 15  # steps after which a bar has been compared with the venue's history
OPTIONS = SimulatorOptions(updates=20.0)
ONE = SYMBOLS[0]
QUICK = SocketLimits(ping_s=0.2, pong_s=0.5, ack_s=0.5, close_s=0.05, backoff_s=(0.01, 0.1))

NOTHING = (
    {"where": "candle", "do": "duplicate", "every": 2},
    {"where": "candle", "do": "reorder", "every": 3},
    {"where": "context", "do": "duplicate", "every": 2},
    {"where": "context", "do": "reorder", "every": 3},
    {"where": "socket", "do": "duplicate", "every": 3},
    {"where": "candle", "do": "html", "every": 5},
    {"where": "candle", "do": "truncated", "every": 5},
)
MARKED = (
    {"where": "candle", "do": "missing_candle", "every": 4},
    {"where": "candle", "do": "late_candle", "every": 4, "delay_s": 0.3},
    {"where": "candle", "do": "delay", "every": 7, "delay_s": 0.05},
    {"where": "context", "do": "truncated", "every": 9},
    {"where": "subscription", "do": "silent", "at": 2},
)
FAILED = tuple({"where": "info", "do": do, "chance": 0.15} for do in ("502", "html", "truncated", "drop"))
LOSSES = (
    {"where": "socket", "do": "drop", "at": 40},
    {"where": "socket", "do": "drop", "at": 41, "close_code": 1000},
    {"where": "socket", "do": "half_open", "at": 20},
    {"where": "candle", "do": "drop", "at": 25},
)


@pytest.fixture
def lake(mei_settings: Settings) -> Lake:
    return fill_lake(mei_settings, days=10)


@pytest.fixture
def loaded(lake: Lake) -> LoadedMarket:
    return load_lake(lake, from_ms=FROM_MS - HOUR_MS // 2)


@pytest.fixture(autouse=True)
def _quick_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "VenueSocket", functools.partial(VenueSocket, limits=QUICK))


async def fired(url: str) -> int:
    """Number of faults that a simulator has applied."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/simulator", json={"type": "counters"}) as answer,
    ):
        return sum((await answer.json())["faults"].values())


def follow(
    folder: Path, loaded: LoadedMarket, rules: Sequence[dict[str, Any]], steps: int = 10
) -> dict[str, list[FeedEvent]]:
    """The events of a consumer under each rule, whose faults have occurred."""
    wanted = subscription(VENUE, "simulator", SYMBOLS, ["1h"], FROM_MS)
    last_ms = FROM_MS + (steps - 1) * HOUR_MS

    def is_last(event: FeedEvent) -> bool:
        return isinstance(event, StepClosed) and event.step_ms == last_ms

    async def follow_one(number: int, rule: dict[str, Any]) -> list[FeedEvent]:
        own = folder / str(number)
        own.mkdir()
        plan = FaultPlan.model_validate({"faults": (rule,)})
        async with running_chain(own, loaded, VENUE, SPEED, plan, OPTIONS) as chain:
            reading = asyncio.get_running_loop().run_in_executor(threads, read_until, chain.path, wanted, is_last)
            events = await reading
            assert await fired(chain.url) > 0, rule
            return events

    async def follow_all() -> list[list[FeedEvent]]:
        return await asyncio.gather(*(follow_one(number, rule) for number, rule in enumerate(rules)))

    with ThreadPoolExecutor(len(rules)) as threads:  # that of the loop is too small for one consumer each
        return {str(rule): events for rule, events in zip(rules, run(follow_all()), strict=True)}


def values_of(bar: BarClosed | BarRevised) -> tuple[float, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume


def marks(lake: Lake, events: list[FeedEvent], audited: int = 0) -> list[FeedEvent]:
    """The bars that are marked as unconfirmed, unknown or, later, as revised; all others are those of a replay.

    Args:
        lake: What the venue has.
        events: What a consumer got.
        audited: Latest steps that may still be revised.
    """
    steps = [event.step_ms for event in events if isinstance(event, StepClosed)]
    replayed = list(lake_events(lake, VENUE, SYMBOLS, ["1h"], FROM_MS, steps[-1] + HOUR_MS))
    assert steps == [event.step_ms for event in replayed if isinstance(event, StepClosed)]
    true = {(bar.symbol, bar.open_ms): bar for bar in replayed if isinstance(bar, BarClosed)}
    bars = {(bar.symbol, bar.open_ms): bar for bar in events if isinstance(bar, BarClosed | BarMissing)}
    assert list(bars) == list(true)
    revised = {(bar.symbol, bar.open_ms): values_of(bar) for bar in events if isinstance(bar, BarRevised)}
    assert revised == {key: values_of(true[key]) for key in revised}
    marked = []
    for key, bar in bars.items():
        if isinstance(bar, BarMissing):
            assert bar.reason == "unknown"
            marked.append(bar)
        elif key in revised or not bar.confirmed:
            marked.append(bar)
        elif bar.open_ms < steps[-1] - audited * HOUR_MS + 1:
            assert bar == true[key]
    return marked


def stale_in(events: list[FeedEvent]) -> list[tuple[str, str]]:
    """The streams that became stale."""
    return [(event.symbol, event.stream) for event in events if isinstance(event, FeedHealth) and event.stale_since_ms]


def still_stale(events: list[FeedEvent]) -> set[tuple[str, str]]:
    """The streams that are stale at the end."""
    last = {(event.symbol, event.stream): event for event in events if isinstance(event, FeedHealth)}
    return {stream for stream, event in last.items() if event.stale_since_ms is not None}


def test_messages_that_come_twice_out_of_order_or_spoilt_change_nothing(
    tmp_path: Path, lake: Lake, loaded: LoadedMarket
) -> None:
    """A duplicate, reordered or unreadable message changes nothing: all bars are those of a replay, and confirmed."""
    for rule, events in follow(tmp_path, loaded, NOTHING).items():
        assert marks(lake, events) == [], rule
        assert still_stale(events) == set(), rule


def test_what_is_lost_is_asked_for_or_marked(
    tmp_path: Path, lake: Lake, loaded: LoadedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar that no message told is asked for; another bar than the venue's is marked when it is checked.

    A bar counts as closed when the first message of the next one arrives. Final values that come later, or that no
    message told although the stream goes on, are a revision.
    """
    monkeypatch.setattr(asking, "AUDIT_S", AUDIT_S)
    monkeypatch.setattr(asking, "_AUDIT_TRACK_S", AUDIT_S / 10.0)
    for rule, events in follow(tmp_path, loaded, MARKED, AUDITED + 12).items():
        assert len(marks(lake, events, AUDITED)) <= 30, rule
        assert still_stale(events) == set(), rule


@pytest.mark.long
def test_requests_that_fail_delay_a_feed_and_falsify_nothing(tmp_path: Path, lake: Lake, loaded: LoadedMarket) -> None:
    """A feed whose requests fail one time in seven catches up with the venue, without a wrong bar."""
    for rule, events in follow(tmp_path, loaded, FAILED, 20).items():
        assert len(marks(lake, events)) <= 10, rule
        assert still_stale(events) == set(), rule


def test_after_a_loss_everything_is_stale_until_it_is_known_again(
    tmp_path: Path, lake: Lake, loaded: LoadedMarket
) -> None:
    """After a drop, all streams are stale until they are subscribed again and what was missed is asked for."""
    everything = {(symbol, stream) for symbol in SYMBOLS for stream in ("candle 1h", "context")}
    for rule, events in follow(tmp_path, loaded, LOSSES, 22).items():
        assert len(marks(lake, events)) <= 10, rule
        assert set(stale_in(events)) == everything, rule
        assert still_stale(events) == set(), rule


def test_a_silent_symbol_is_noticed_for_that_symbol(
    tmp_path: Path, lake: Lake, loaded: LoadedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is silent for one symbol makes that stream stale, and no other one; then it is begun again."""
    monkeypatch.setattr(core, "CONTEXT_SILENT_S", 1.0)
    monkeypatch.setattr(core, "_SILENCE_S", 0.1)  # a bar lasts 0.2 s here, and each answer is a sign of life
    rules = [
        {"where": "context", "symbol": ONE, "do": "silent", "at": 8, "for_s": 1.5},
        {"where": "candle", "symbol": ONE, "do": "silent", "at": 8, "for_s": 1.5},
    ]
    for rule, events in follow(tmp_path, loaded, rules, 20).items():
        after = [event for event in events if event.venue_ms > FROM_MS + HOUR_MS]
        assert set(stale_in(after)) == {(ONE, "context" if "context" in rule else "candle 1h")}, rule
        assert still_stale(events) == set(), rule
        assert {bar.symbol for bar in marks(lake, events)} <= {ONE}, rule


def test_a_clock_that_is_off_by_minutes_is_refused(tmp_path: Path, loaded: LoadedMarket) -> None:
    """A feed of a real network does not start while the machine's clock and the venue's differ by minutes."""

    async def start(*rules: dict[str, Any]) -> str:
        clock = VirtualClock(int(time.time() * 1000))
        plan = FaultPlan.model_validate({"faults": rules})
        async with run_simulator(loaded.market, clock, plan) as url:
            endpoints = Endpoints("testnet", url, f"ws{url.removeprefix('http')}/ws")
            async with InfoClient(endpoints, RateBudget(tmp_path / "budget")) as client:
                with listen(tmp_path / "feed") as listener:
                    try:
                        await service.start_service(endpoints, VENUE, client, listener, report=print)
                    except ConfigError as error:
                        return str(error)
        return ""

    assert run(start()) == ""
    skew = {"where": "clock", "do": "clock_skew", "every": 1, "skew_ms": 300_000}
    assert run(start(skew)).startswith("clock: this machine's is off by -300 s")
