"""The status of a lane's executor: `status.json`, which commands, checks and pages read."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mei_pipeline import files
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.execution.configs import lane_equity
from mei_pipeline.execution.deciding import blocked_symbols
from mei_pipeline.execution.events import Transfer
from mei_pipeline.execution.state import LaneState, alive
from mei_pipeline.registry.lanes import STATUS_NAME, lane_folder

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class DayStart:
    """Equity of a lane at the beginning of a UTC day on its clock.

    Attributes:
        day: Number of the day since 1970-01-01.
        equity_usd: Equity at its beginning.
        transfers_usd: Sum of the transfers before it.
    """

    day: int
    equity_usd: float
    transfers_usd: float = 0.0


@dataclass(frozen=True)
class ProcessFacts:
    """Facts about the process of a lane that are not in its state.

    Attributes:
        written_ms: Time by the clock of the machine.
        feed: Kind of the feed.
        pid: The process.
        boot_id: Random id of this start of the process.
        feed_age_ms: Time since the last message of the feed; None without a feed.
        pointer_problem: Reason why the lane does not follow its pointer (`LaneFiles.pointer_problem`); empty without
            one.
        warm_problem: Reason why the book of the waiting config can't be opened (`LaneProcess.warm_problem`).
        day_start: Equity at the beginning of the lane's day; None if it is unknown.
        last_error: Last error of the process; None without one.
        durable_seq: Number of the last event that is on the disk; None if the lane does not wait for the disk.
    """

    written_ms: int
    feed: str
    pid: int
    boot_id: str
    feed_age_ms: int | None = None
    pointer_problem: str = ""
    warm_problem: str = ""
    day_start: DayStart | None = None
    last_error: str | None = None
    durable_seq: int | None = None


def recorded_day(connection: sqlite3.Connection, state: LaneState) -> DayStart:
    """Return the start of the day that a recovered lane is in, from the equity and transfers in its journal."""
    day = state.clock_ms // DAY_MS
    query = "SELECT equity_usd FROM equity WHERE step_ms < ? ORDER BY step_ms DESC LIMIT 1"
    row = connection.execute(query, (day * DAY_MS,)).fetchone()
    equity = state.setup.equity_usd if row is None else row[0]
    return DayStart(day, equity, state.transfers_usd - _transfers_since(connection, day * DAY_MS))


def _transfers_since(connection: sqlite3.Connection, time_ms: int) -> float:
    """Return the sum of the transfers after the last step that began before a time; repeated ones count once."""
    # From the last event back, so that only those of a day are read.
    last = "SELECT seq FROM events WHERE event = 'StepClosed' AND step_ms < ? ORDER BY seq DESC LIMIT 1"
    found = connection.execute(last, (time_ms,)).fetchone()
    bodies = connection.execute(
        "SELECT body FROM events WHERE seq > ? AND event = 'Transfer'", (0 if found is None else found[0],)
    )
    transfers = (msgspec.json.decode(body, type=Transfer) for (body,) in bodies)
    return sum({each.key: each.usd for each in transfers}.values())


def follow_day(before: DayStart | None, state: LaneState) -> DayStart | None:
    """Return the start of the day that the lane's clock is in; None before the first book.

    Args:
        before: The start of the day before this step; None before the first step of a lane.
        state: The lane after a step. At the first step of a day its equity is the equity at the start of the day.
    """
    day = state.clock_ms // DAY_MS
    if not state.books or (before is not None and before.day == day):
        return before
    return DayStart(day, lane_equity(state), state.transfers_usd)


def status_of(state: LaneState, facts: ProcessFacts) -> dict[str, Any]:
    """Return the status of a lane as JSON values, as `registry.lanes.ExecutorStatus` describes them."""
    newest = state.books[-1] if state.books else None
    equity = lane_equity(state) if state.books else None
    earned = None if equity is None else equity - state.transfers_usd
    started = facts.day_start
    health, detail = health_of(state)
    orders = alive(state)
    return {
        "schema_version": SCHEMA_VERSION,
        "lane": state.setup.lane,
        "written_ms": facts.written_ms,
        "config_id": newest and newest.config_id,
        "generation": newest and newest.config.generation,
        "since_bar_ms": newest and newest.since_ms,
        "offered": _offered(state, facts),
        "draining": [book.config_id for book in state.books if book.draining],
        "health": health,
        "detail": detail,
        "mode": state.setup.mode,
        "feed": facts.feed,
        "kernel_hash": state.setup.kernel_hash,
        "pid": facts.pid,
        "boot_id": facts.boot_id,
        "clock_ms": state.clock_ms,
        "last_step_ms": state.step_ms,
        "feed_age_ms": facts.feed_age_ms,
        "stale": {symbol: list(streams) for symbol, streams in state.stale.items()},
        "holds": {
            name: {
                "effect": hold.effect,
                "symbol": hold.symbol or None,
                "owner": hold.owner,
                "reason": hold.reason,
                "expires_ms": hold.expires_ms,
            }
            for name, hold in state.effects.items()
        },
        "excluded": list(state.overrides.excluded),
        "size_multiplier": newest and newest.config.size_multiplier * state.overrides.size_multiplier,
        "equity_usd": equity,
        "positions": positions_of(state),
        "pnl_usd": None if earned is None else earned - state.setup.equity_usd,
        "pnl_today_usd": None
        if earned is None or started is None
        else earned - (started.equity_usd - started.transfers_usd),
        "open_orders": len(orders),
        "unknown_orders": sum(order.state == "UNKNOWN" for order in orders),
        "last_error": facts.last_error,
        "book_id": state.setup.book_ids[0],
        "durable_seq": facts.durable_seq,
    }


def health_of(state: LaneState) -> tuple[str, str]:
    """Return the health of a lane and its reason: `halted`, `degraded` if no symbol may enter, else `ok`."""
    halting = next((name for name, hold in state.effects.items() if hold.effect == "halt" and not hold.symbol), None)
    if halting is not None:
        return "halted", f"hold {halting}"
    if not state.books:
        return "degraded", "no config is in force"
    blocked = blocked_symbols(state, state.books[-1])
    if "*" in blocked:
        return "degraded", blocked["*"]
    if len(blocked) == len(state.books[-1].step.plan.symbols):
        return "degraded", "; ".join(f"{symbol}: {reason}" for symbol, reason in blocked.items())
    return "ok", ""


def positions_of(state: LaneState) -> Mapping[str, float]:
    """Return the signed coins of each held symbol, over all books."""
    held: dict[str, float] = {}
    for book in state.books:
        for symbol, s in book.step.plan.index.items():
            size = float(book.step.positions["size"][s])
            if size != 0.0:
                held[symbol] = held.get(symbol, 0.0) + size
    return held


def write_status(lanes_folder: Path, status: Mapping[str, Any]) -> None:
    """Replace the status file of a lane. It is not synced: a power failure may lose it, and the next step writes it.

    Raises:
        Retryable: The disk is full; the file is the old one.
        DataError: The folder can't be written; the file is the old one.
    """
    path = lane_folder(lanes_folder, status["lane"]) / STATUS_NAME
    with files.replacing(path, durable=False) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n")


def _offered(state: LaneState, facts: ProcessFacts) -> dict[str, Any] | None:
    if facts.pointer_problem:
        return {"generation": None, "config_id": None, "reason": facts.pointer_problem}
    waiting = state.waiting
    if waiting is None:
        return None
    draining = [book.config_id[:12] for book in state.books if book.draining]
    if draining:
        reason = f"it waits until {', '.join(draining)} has drained"
    else:
        reason = facts.warm_problem or "its features are not computed yet"
    return {"generation": waiting.generation, "config_id": waiting.config_id, "reason": reason}
