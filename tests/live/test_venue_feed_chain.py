"""A consumer of a venue's feed gets from a simulator of the lake what it gets from a replay of the lake."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from feed_kit import BEGAN_MS, HOLED, LATE, QUARTER_MS, RELISTED, rich_lake
from feed_kit import START_MS as RICH_MS
from market_kit import DAY_MS, HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake
from msgspec.structs import replace
from venue_chain_kit import read_until, run, running_chain

from live.feed_client import subscription
from mei_pipeline.candles.lake import Lake
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    CaughtUp,
    FeedEvent,
    FeedHealth,
    FundingRate,
    StepClosed,
)
from mei_pipeline.execution.lake_events import lake_events
from mei_pipeline.hyperliquid.simulator.loading import load_lake
from mei_pipeline.settings import Settings

HOLE_MS = RICH_MS + 4 * DAY_MS
STEP_EVENTS = (BarClosed, BarMissing, FundingRate, StepClosed)


def steps_in(events: list[FeedEvent]) -> list[FeedEvent]:
    """The events of steps, without the oracle prices, which a lake does not have."""
    return [
        replace(event, oracle=None) if isinstance(event, FundingRate) else event
        for event in events
        if isinstance(event, STEP_EVENTS)
    ]


def without_reason(event: FeedEvent) -> FeedEvent:
    return replace(event, reason="unknown") if isinstance(event, BarMissing) else event


def ends_at(last_ms: int, step_ms: int) -> Callable[[FeedEvent], bool]:
    """A test for the end of the last step."""
    return lambda event: isinstance(event, StepClosed) and event.step_ms + step_ms == last_ms


def stale_in(events: list[FeedEvent]) -> set[tuple[str, str]]:
    """The streams that are stale after these events."""
    stale: set[tuple[str, str]] = set()
    for event in events:
        if isinstance(event, FeedHealth):
            stream = event.symbol, event.stream
            stale = stale - {stream} if event.stale_since_ms is None else stale | {stream}
    return stale


def test_a_consumer_gets_what_a_replay_sends(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings, days=10)
    start_ms = START_MS + 200 * HOUR_MS
    loaded = load_lake(lake, from_ms=start_ms - HOUR_MS // 2)
    wanted = subscription(VENUE, "simulator", SYMBOLS, ["1h"], start_ms)
    last_ms = start_ms + 20 * HOUR_MS

    async def scenario() -> list[FeedEvent]:
        async with running_chain(tmp_path, loaded, VENUE, 3600.0 * 5) as chain:
            return await asyncio.to_thread(read_until, chain.path, wanted, ends_at(last_ms, HOUR_MS))

    events = run(scenario())
    assert steps_in(events) == steps_in(list(lake_events(lake, VENUE, SYMBOLS, ["1h"], start_ms, last_ms)))
    assert [type(event).__name__ for event in events[:3]] == ["InstrumentChanged"] * 3
    assert stale_in(events) == set()
    assert any(isinstance(event, CaughtUp) for event in events)


@pytest.mark.parametrize(
    ("start_ms", "symbols", "hours", "missing"),
    [(HOLE_MS - HOUR_MS, (HOLED, RELISTED), 8, True), (BEGAN_MS - 2 * HOUR_MS, (HOLED, LATE), 4, False)],
)
def test_holes_and_late_symbols_are_those_of_a_replay(
    tmp_path: Path, start_ms: int, symbols: tuple[str, ...], hours: int, missing: bool
) -> None:
    lake = rich_lake(Lake(tmp_path / "lake"))
    loaded = load_lake(lake, from_ms=start_ms - QUARTER_MS // 3)
    wanted = subscription(VENUE, "simulator", symbols, ["1h", "15m"], start_ms)
    last_ms = start_ms + hours * HOUR_MS

    async def scenario() -> list[FeedEvent]:
        async with running_chain(tmp_path, loaded, VENUE, 3600.0 * 2) as chain:
            return await asyncio.to_thread(read_until, chain.path, wanted, ends_at(last_ms, QUARTER_MS))

    events = run(scenario())
    expected = steps_in(list(lake_events(lake, VENUE, symbols, ["1h", "15m"], start_ms, last_ms)))
    assert any(isinstance(event, BarMissing) for event in expected) == missing
    # A replay knows that a hole ends; a feed can call a bar empty only once it has seen a later one.
    assert [without_reason(event) for event in steps_in(events)] == [without_reason(event) for event in expected]
