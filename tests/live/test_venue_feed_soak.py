"""A feed under random faults: what its consumer gets is right or marked, and the process does not grow."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from venue_chain_kit import Chain, run, running_chain

from live.feed_client import connect, subscription
from live.feed_protocol import FeedBroken
from live.venue_feed import asking
from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.execution.events import BarClosed, BarMissing, BarRevised, FeedEvent, StepClosed
from mei_pipeline.hyperliquid.simulator.faults import FaultPlan, FaultRule
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket, load_synthetic

SOAK_S = float(os.environ.get("MEI_TEST_SOAK_S", "1800"))
SPEED = 100.0
SYMBOLS = ("BTC", "ETH", "SOL")
VENUE = "hyperliquid"
AUDIT_S = 10.0

RULES = (
    FaultRule(where="socket", do="drop", chance=0.001),
    FaultRule(where="socket", do="duplicate", chance=0.05),
    FaultRule(where="socket", do="reorder", chance=0.05),
    FaultRule(where="candle", do="missing_candle", chance=0.05),
    FaultRule(where="candle", do="late_candle", chance=0.05, delay_s=1.0),
    FaultRule(where="candle", do="silent", chance=0.002, for_s=5.0),
    FaultRule(where="info", do="502", chance=0.05),
    FaultRule(where="info", do="html", chance=0.05),
    FaultRule(where="info", do="truncated", chance=0.05),
    FaultRule(where="connect", do="refuse", chance=0.3),
)


def usage() -> tuple[int, int]:
    """Descriptors and KiB of memory of this process."""
    status = Path("/proc/self/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len([*Path("/proc/self/fd").iterdir()]), int(memory.split()[1])


def follow(path: Path, from_ms: int, seconds: float) -> list[FeedEvent]:
    """The events of a consumer that connects again after each break."""
    events: list[FeedEvent] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            client = connect(path, subscription(VENUE, "simulator", SYMBOLS, ["1m"], from_ms))
        except FeedBroken:
            time.sleep(0.2)
            continue
        try:
            while time.monotonic() < end_s:
                for event in client.read(0.2):
                    events.append(event)
                    if isinstance(event, StepClosed):
                        from_ms = event.step_ms + MINUTE_MS
                client.ack()
        except FeedBroken:
            continue
        finally:
            client.close()
    return events


def values_of(bar: BarClosed | BarRevised) -> tuple[float, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume


def check(events: list[FeedEvent], loaded: LoadedMarket, from_ms: int) -> dict[str, int]:
    """Compare what a consumer got with what the venue has; return counts of the classes of bars."""
    steps = [event.step_ms for event in events if isinstance(event, StepClosed)]
    assert steps == [from_ms + number * MINUTE_MS for number in range(len(steps))]
    revised = {(event.symbol, event.open_ms): event for event in events if isinstance(event, BarRevised)}
    counts = dict.fromkeys(("right", "revised", "unconfirmed", "unknown", "no trade"), 0)
    checked_ms = steps[-1] - int(4 * AUDIT_S * SPEED * 1000)
    for event in events:
        if not isinstance(event, BarClosed | BarMissing):
            continue
        bars = loaded.market.coins[event.symbol].bars["1m"]
        index = bars.index_at(event.open_ms)
        key = event.symbol, event.open_ms
        last = revised.get(key, event)
        truth = tuple(float(value) for value in bars.values[index])
        same = not isinstance(last, BarMissing) and values_of(last) == truth
        if isinstance(event, BarMissing):
            counts[event.reason] += 1
        elif key in revised:
            counts["revised"] += 1
        elif not event.confirmed:
            counts["unconfirmed"] += 1
        else:
            counts["right"] += 1
            assert same or event.open_ms > checked_ms, event
        if key in revised and event.open_ms <= checked_ms:
            assert same, last
    return counts


@pytest.mark.long
def test_what_a_consumer_gets_under_faults_is_right_or_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AUDIT_S", AUDIT_S)
    whole = load_synthetic(7, SYMBOLS, ("1m",))
    reach_ms = int((SOAK_S + 300.0) * SPEED) * 1000
    loaded = whole._replace(start_ms=whole.market.end_ms - reach_ms)
    from_ms = -(-loaded.start_ms // MINUTE_MS) * MINUTE_MS

    async def scenario() -> tuple[list[FeedEvent], Any, Any, Chain]:
        async with running_chain(tmp_path, loaded, VENUE, SPEED, FaultPlan(faults=RULES)) as chain:
            reading = asyncio.create_task(asyncio.to_thread(follow, chain.path, from_ms, SOAK_S))
            await asyncio.sleep(min(60.0, SOAK_S / 3.0))
            early = (*usage(), len(asyncio.all_tasks()))
            events = await reading
            return events, early, (*usage(), len(asyncio.all_tasks())), chain

    events, early, late, chain = run(scenario(), SOAK_S + 60.0)
    counts = check(events, loaded, from_ms)
    print(f"{SOAK_S:g} s: {counts}; descriptors, KiB, tasks: {early} → {late}; {len(chain.said)} reports")  # noqa: T201 - the figures, with -rP
    assert counts["right"] > 0.5 * sum(counts.values()), (counts, early, late, chain.said[-20:])
    assert late[0] <= early[0] + 20  # connections that come and go
    assert late[1] <= early[1] * 1.25 + 20_000
    assert late[2] <= early[2] + 20
