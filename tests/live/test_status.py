"""The status of a lane's executor."""

import errno
import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import msgspec
import pytest
from disk_kit import refusing
from paper_kit import FROM_MS, KERNELS, config, make_bars, offer_of

from live.status import (
    DayStart,
    ProcessFacts,
    follow_day,
    health_of,
    positions_of,
    recorded_day,
    status_of,
    write_status,
)
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.errors import DataError, Retryable
from mei_pipeline.execution.books import make_plan, make_step_book
from mei_pipeline.execution.commands import Intent, Order, Place
from mei_pipeline.execution.events import Event, HoldState, OverridesChanged, StepClosed, Transfer
from mei_pipeline.execution.journal.schema import upgrade
from mei_pipeline.execution.state import LaneBook, LaneSetup, LaneState
from mei_pipeline.registry.lanes import ExecutorStatus, lane_folder, read_status
from mei_pipeline.settings import Settings

FACTS = ProcessFacts(written_ms=FROM_MS + 7, feed="replay", pid=42, boot_id="b00", feed_age_ms=250)


@pytest.fixture
def empty(mei_settings: Settings) -> LaneState:
    """A lane before its first config."""
    return LaneState(
        LaneSetup("paper1", "paper", ("00c0ffee",), 10_000.0, KERNELS, lambda offer: make_plan(mei_settings, offer))
    )


@pytest.fixture
def lane(empty: LaneState) -> LaneState:
    """A lane with a flat book, whose account is compared."""
    return replace(empty, books=(book_of(empty, 3),), clock_ms=FROM_MS + 5, step_ms=FROM_MS, reconciled=True)


def book_of(state: LaneState, window: int, **fields: object) -> LaneBook:
    bars = make_bars(days=2)
    params = {"indicators.ema_fast_window": window, "indicators.ema_slow_window": 9}
    offer = offer_of(config("ema_cross", bars, params, {}), generation=window)
    return LaneBook(make_step_book(state.setup.make_plan(offer), 10_000.0), offer, since_ms=FROM_MS, **fields)


def hold(position: LaneBook, symbol: str, size: float, price: float, last: float) -> None:
    """Put a position into a book."""
    s = position.step.plan.index[symbol]
    position.step.positions["size"][s], position.step.positions["entry"][s] = size, price
    position.step.market.last_price[0, s] = last


def order(number: int, state: str) -> Order:
    place = Place(
        intent=Intent(f"step:{number}", "AAA", "entry"), cloid=f"c{number}", config_id="", symbol="AAA", lots=1,
        lot_decimals=0, expires_ms=0,
    )  # fmt: skip
    return Order(place=place, state=state)


def parsed(state: LaneState, facts: ProcessFacts = FACTS) -> ExecutorStatus:
    return ExecutorStatus.model_validate_json(json.dumps(status_of(state, facts)))


def held(effect: str = "close_only", symbol: str = "", owner: str = "anna") -> HoldState:
    return HoldState(owner=owner, effect=effect, reason="maintenance", since_ms=1, symbol=symbol)


def test_the_status_of_a_lane_before_its_first_config(empty: LaneState) -> None:
    status = parsed(empty, replace(FACTS, feed_age_ms=None))
    assert (status.health, status.detail) == ("degraded", "no config is in force")
    found = (status.config_id, status.generation, status.since_bar_ms, status.last_step_ms, status.equity_usd)
    assert found == (None,) * 5
    assert (status.pnl_usd, status.pnl_today_usd, status.feed_age_ms, status.offered) == (None,) * 4


def test_the_status_of_a_lane_that_trades(lane: LaneState) -> None:
    hold(lane.books[0], "AAA", 2.0, 100.0, 110.0)
    hold(lane.books[0], "CCC", -1.5, 10.0, 12.0)
    orders = {each.place.cloid: each for each in (order(1, "SENT"), order(2, "UNKNOWN"), order(3, "FILLED"))}
    limits = OverridesChanged(excluded=("BBB",), size_multiplier=0.25)
    state = replace(lane, orders=orders, stale={"BBB": ("bars",)}, overrides=limits)
    status = parsed(state, replace(FACTS, day_start=DayStart(0, 10_012.0), last_error="lost", durable_seq=17))
    assert status == ExecutorStatus(
        schema_version=2, lane="paper1", config_id=lane.books[0].config_id, generation=3, since_bar_ms=FROM_MS,
        written_ms=FROM_MS + 7, health="ok", detail="", positions={"AAA": 2.0, "CCC": -1.5}, offered=None, draining=(),
        mode="paper", feed="replay", kernel_hash=KERNELS, pid=42, boot_id="b00", clock_ms=FROM_MS + 5,
        last_step_ms=FROM_MS, feed_age_ms=250, stale={"BBB": ("bars",)}, holds={}, excluded=("BBB",),
        size_multiplier=0.25, equity_usd=10_017.0, pnl_usd=17.0, pnl_today_usd=5.0,
        open_orders=2, unknown_orders=1, last_error="lost", book_id="00c0ffee", durable_seq=17,
    )  # fmt: skip
    assert set(status_of(state, FACTS)) == set(ExecutorStatus.model_fields)


def test_transfers_are_no_profit(lane: LaneState) -> None:
    hold(lane.books[0], "AAA", 2.0, 100.0, 110.0)
    state = replace(lane, transfers_usd=-400.0)  # the account of this book does not know it, so it seems to have earned
    status = parsed(state, replace(FACTS, day_start=DayStart(0, 10_012.0, -300.0)))
    assert (status.equity_usd, status.pnl_usd, status.pnl_today_usd) == (10_020.0, 420.0, 108.0)


def test_the_status_of_a_lane_that_changes_its_config(lane: LaneState) -> None:
    old, new = replace(lane.books[0], draining=True), book_of(lane, 4)
    hold(old, "AAA", 2.0, 100.0, 100.0)
    hold(new, "BBB", 1.0, 100.0, 100.0)
    waiting = book_of(lane, 5).config
    status = parsed(replace(lane, books=(old, new), waiting=waiting))
    assert (status.generation, status.draining, status.positions) == (4, (old.config_id,), {"AAA": 2.0, "BBB": 1.0})
    assert status.equity_usd == 20_000.0
    assert status.offered.model_dump() == {
        "generation": 5, "config_id": waiting.config_id, "reason": f"it waits until {old.config_id[:12]} has drained"
    }  # fmt: skip
    offered = parsed(replace(lane, waiting=waiting)).offered
    assert (offered.generation, offered.reason) == (5, "its features are not computed yet")
    refused = parsed(lane, replace(FACTS, pointer_problem="promoted.yaml: damaged")).offered
    assert refused.model_dump() == {"generation": None, "config_id": None, "reason": "promoted.yaml: damaged"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"holds": {"a": held()}, "own_holds": {"b": held("halt")}}, ("halted", "hold b")),
        ({"holds": {"a": held("halt", "AAA")}}, ("ok", "")),
        ({"holds": {"a": held()}}, ("degraded", "hold a")),
        ({"reconciled": False}, ("degraded", "the account is not compared with the books yet")),
        ({"stale": {"AAA": ("bars",), "BBB": ("bars",)}}, ("ok", "")),
        (
            {"stale": {"AAA": ("bars",), "BBB": ("bars", "marks")}, "unknown_bars": frozenset({("CCC", "1h")})},
            ("degraded", "AAA: stale: bars; BBB: stale: bars, marks; CCC: its last bar is unknown"),
        ),
    ],
)
def test_the_health_of_a_lane(lane: LaneState, changes, expected) -> None:
    assert health_of(replace(lane, **changes)) == expected


def test_the_holds_of_a_lane_name_their_owners(lane: LaneState) -> None:
    state = replace(
        lane,
        holds={"a": held()},
        own_holds={"b": msgspec.structs.replace(held("halt", "AAA", "executor"), expires_ms=9)},
    )
    assert parsed(state).model_dump()["holds"] == {
        "a": {"effect": "close_only", "symbol": None, "owner": "anna", "reason": "maintenance", "expires_ms": None},
        "b": {"effect": "halt", "symbol": "AAA", "owner": "executor", "reason": "maintenance", "expires_ms": 9},
    }


def test_a_symbol_in_two_books_counts_once(lane: LaneState) -> None:
    other = book_of(lane, 4)
    hold(lane.books[0], "AAA", 2.0, 100.0, 100.0)
    hold(other, "AAA", -0.5, 100.0, 100.0)
    assert positions_of(replace(lane, books=(lane.books[0], other))) == {"AAA": 1.5}


def test_the_profit_of_a_day_starts_with_its_first_step(empty: LaneState, lane: LaneState) -> None:
    assert follow_day(None, empty) is None
    today = follow_day(None, lane)
    assert today == DayStart(FROM_MS // DAY_MS, 10_000.0)
    hold(lane.books[0], "AAA", 1.0, 100.0, 130.0)
    assert follow_day(today, lane) is today
    assert follow_day(today, replace(lane, clock_ms=FROM_MS + DAY_MS)) == DayStart(FROM_MS // DAY_MS + 1, 10_030.0)


def test_a_recovered_lane_takes_the_start_of_its_day_from_the_journal(lane: LaneState) -> None:
    day_ms = FROM_MS // DAY_MS * DAY_MS
    with closing(sqlite3.connect(":memory:")) as connection:
        upgrade(connection, 0)
        assert recorded_day(connection, lane) == DayStart(FROM_MS // DAY_MS, 10_000.0)
        for step_ms, usd in ((day_ms - DAY_MS, 1.0), (day_ms - HOUR_MS, 2.0), (day_ms, 3.0)):
            connection.execute("INSERT INTO equity VALUES (?, ?, 0, 0, 0, 0)", (step_ms, usd))
        assert recorded_day(connection, lane) == DayStart(FROM_MS // DAY_MS, 2.0)
        events: list[Event] = [StepClosed(step_ms=day_ms - HOUR_MS, present=())]
        events += [Transfer(key=key, usd=usd) for key, usd in (("b", 7.0), ("b", 7.0), ("c", -2.0))]
        for seq, event in enumerate([Transfer(key="a", usd=50.0), *events]):
            row = (seq, type(event).__name__, getattr(event, "step_ms", None), msgspec.json.encode(event).decode())
            connection.execute("INSERT INTO events VALUES (?, ?, ?, NULL, 0, ?)", row)
        state = replace(lane, transfers_usd=55.0)
        assert recorded_day(connection, state) == DayStart(FROM_MS // DAY_MS, 2.0, 50.0)
        assert follow_day(None, state).transfers_usd == 55.0


def test_a_status_is_replaced_as_a_whole(lane: LaneState, mei_settings: Settings) -> None:
    folder = lane_folder(mei_settings.lanes, "paper1")
    write_status(mei_settings.lanes, status_of(lane, FACTS))
    write_status(mei_settings.lanes, status_of(lane, replace(FACTS, pid=43)))
    status = read_status(mei_settings.lanes, "paper1")
    assert (status.pid, [path.name for path in folder.iterdir()]) == (43, ["status.json"])
    before = (folder / "status.json").read_bytes()
    for number, error in ((errno.ENOSPC, Retryable), (errno.EROFS, DataError)):
        with (
            refusing(lambda path, writes, number=number: number if writes and path.parent == folder else 0),
            pytest.raises(error, match=r"status\.json: not written, the previous file is intact"),
        ):
            write_status(mei_settings.lanes, status_of(lane, FACTS))
    assert (folder / "status.json").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["status.json"]
