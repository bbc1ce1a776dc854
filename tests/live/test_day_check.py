"""A repeated day of a lane is equal; whatever else happened is a difference of the right class."""

import secrets
import sqlite3
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import polars as pl
import pytest
from paper_kit import ALPHA, CROSS
from session_kit import CHANGE_MS, FROM_MS, LANE, OTHER, START_MS, TO_MS, Steps, feed_of, run_session

from kernels.params import Value
from live.bench_home import home_settings, lane_config, make_lane_home, promote_config
from live.feed_protocol import Subscribe
from live.lane_feed import Feed, OpenFeed
from live.lane_files import read_lane_config
from live.misbehaviour import parse_misbehaviour
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.candles.lake import Lake, merge_candles, read_candles
from mei_pipeline.candles.sources.synthetic import SyntheticMarket
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.day_check.check import check_day, days_of
from mei_pipeline.execution.day_check.differences import DayCheck
from mei_pipeline.execution.events import Event, StepClosed, Transfer
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.registry.holds import Hold, set_hold
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.loading import load_bars

DAY_2 = START_MS + 2 * DAY_MS  # the day of the span of `session_kit`


def check(settings: Settings, day_ms: int = DAY_2) -> DayCheck:
    return check_day(settings, LANE, read_lane_config(settings, LANE), day_ms)


def edit(settings: Settings, query: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the body of the first event that a query finds, as an executor with other rules would have written it."""
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as journal:
        [seq, body] = journal.execute(f"SELECT seq, body FROM events WHERE {query} ORDER BY seq LIMIT 1").fetchone()  # noqa: S608 - of this file
        journal.execute("DROP TRIGGER events_update")
        text = msgspec.json.encode(change(msgspec.json.decode(body))).decode()
        journal.execute("UPDATE events SET body = ? WHERE seq = ?", (text, seq))
        journal.commit()


def altered(settings: Settings, change: Callable[[Event], Iterable[Event]]) -> OpenFeed:
    """A feed of the lake in which `change` replaces each event."""

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        with feed_of(settings, size=10_000)(wanted) as whole:
            events: list[Any] = [new for event in whole.read(0.0) for new in change(event)]
        yield Steps(events, 3)

    return open_feed


@pytest.mark.parametrize(
    ("strategy", "params", "exits", "fill", "days"),
    [
        ("ema_cross", CROSS, "", "next_open", 3),
        ("mei_alpha", ALPHA, "15m", "close", 4),
        pytest.param("ema_cross", CROSS, "", "close", 10, marks=pytest.mark.long),
        pytest.param("mei_alpha", ALPHA, "15m", "next_open", 10, marks=pytest.mark.long),
    ],
)
def test_random_days_are_equal(
    home: Path, strategy: str, params: dict[str, Value], exits: str, fill: str, days: int
) -> None:
    settings = home_settings(home, home / "cache")
    from_ms = START_MS + 12 * DAY_MS
    to_ms = from_ms + days * DAY_MS
    config = lane_config(strategy, ("BTC", "ETH"), params, {"market.fill": fill}, exit_interval=exits)
    market = SyntheticMarket(seed=11, symbols=("BTC", "ETH"), interval=config.intervals.step, to_ms=to_ms)
    make_lane_home(settings, market, config)
    run_session(settings, open_feed=feed_of(settings, to_ms, 1000), from_ms=from_ms, durable=False)
    assert list(days_of(settings, LANE)) == list(range(from_ms, to_ms, DAY_MS))
    checks = [check(settings, day_ms) for day_ms in days_of(settings, LANE)]
    assert [str(each) for each in checks if each.verdict != "equal" or each.unchecked] == []
    assert sum(each.fills for each in checks) > 0
    assert {each.steps for each in checks} == {DAY_MS // config.intervals.step_ms}


def dearer(fill: dict[str, Any]) -> dict[str, Any]:
    size = abs(fill["lots"]) / 10 ** fill["lot_decimals"]
    return {**fill, "fee_usd": fill["fee_usd"] + size * fill["price"] * 1e-4}


def test_a_fee_of_one_more_basis_point_is_logic(lane_home: Settings) -> None:
    run_session(lane_home)
    assert [str(each) for each in check(lane_home).differences] == []
    edit(lane_home, "event = 'Fill'", dearer)
    found = check(lane_home)
    assert found.verdict == "failed"
    [first] = found.differences
    assert (first.kind, first.what) == ("logic", "fee_usd")
    assert float(first.recorded) > float(first.replayed)
    assert found.as_dict()["differences"][0]["step_ms"] == first.step_ms


def test_another_decision_is_logic_and_names_the_gate(lane_home: Settings) -> None:
    run_session(lane_home)
    edit(
        lane_home,
        "event = 'Decided' AND body LIKE '%\"orders\"%'",
        lambda fact: {**fact, "verdicts": dict.fromkeys(fact["verdicts"], "no places"), "orders": [], "positions": {}},
    )
    found = check(lane_home)
    assert found.verdict == "failed"
    first = found.first
    assert first is not None
    assert (first.kind, first.what) == ("logic", "verdict")
    assert str(first).startswith("2025-01-03")


@pytest.mark.parametrize("change", [{"refused": 3.0}, {"late": True}, {"blocked": {"BTC": "hold x"}}])
def test_what_a_decision_says_about_the_whole_book_is_compared(lane_home: Settings, change: dict[str, Any]) -> None:
    run_session(lane_home)
    edit(lane_home, "event = 'Decided'", lambda fact: {**fact, **change})
    found = check(lane_home)
    assert found.verdict == "failed"
    assert {each.what for each in found.differences if not each.symbol} == set(change)


def test_a_decision_that_is_missing_is_logic(lane_home: Settings) -> None:
    run_session(lane_home)
    with closing(sqlite3.connect(journal_path(lane_home.lanes, LANE))) as journal:
        journal.execute("DROP TRIGGER events_delete")
        journal.execute("DELETE FROM events WHERE seq = (SELECT min(seq) FROM events WHERE event = 'Decided')")
        journal.commit()
    assert check(lane_home).verdict == "failed"


def test_a_bar_that_the_lake_revised_by_a_tick_is_a_data_revision(lane_home: Settings) -> None:
    run_session(lane_home)
    lake = Lake(lane_home.lake)
    bars = read_candles(lake, "synthetic", "1h", ("BTC",), CHANGE_MS, CHANGE_MS + HOUR_MS)
    tick = pl.col("close") + 0.01
    merge_candles(lake, bars.with_columns(close=tick, high=pl.max_horizontal("high", tick)), now_ms=4_000_000_000_000)
    found = check(lane_home)
    assert found.verdict == "explained"
    [first] = found.differences
    assert (first.kind, first.step_ms, first.symbol) == ("data revision", CHANGE_MS, "BTC")
    assert first.what in {"close of 1h", "high of 1h"}


def test_bars_before_the_start_that_changed_are_named(lane_home: Settings) -> None:
    run_session(lane_home)
    lake = Lake(lane_home.lake)
    bars = read_candles(lake, "synthetic", "1h", ("BTC",), START_MS, START_MS + HOUR_MS)
    merge_candles(lake, bars.with_columns(volume=pl.col("volume") + 1.0), now_ms=4_000_000_000_000)
    found = check(lane_home)
    assert found.verdict == "equal"
    assert found.unchecked
    assert "have changed since the lane read them" in found.unchecked[0]


def test_fills_that_arrive_in_another_order_are_no_difference(lane_home: Settings) -> None:
    run_session(lane_home, misbehaviour=parse_misbehaviour("reorder=1.0,seed=1"))
    found = check(lane_home)
    assert (found.verdict, found.differences) == ("equal", ())


def test_what_a_faulty_broker_never_reports_is_of_class_fill(lane_home: Settings) -> None:
    run_session(lane_home, misbehaviour=parse_misbehaviour("late=1.0,late_steps=20,seed=1"))
    found = check(lane_home)
    assert (found.verdict, set(found.counts)) == ("explained", {"fill"})
    told = "the broker was told to make faults: late=1.0,late_steps=20,seed=1"
    assert told in {each.reason for each in found.differences}


@pytest.mark.parametrize("faults", ["refuse=0.5,seed=2", "partial=0.7,seed=1", "late=0.6,seed=5"])
def test_what_a_broker_does_is_of_class_fill(lane_home: Settings, faults: str) -> None:
    run_session(lane_home, misbehaviour=parse_misbehaviour(faults))
    found = check(lane_home)
    assert found.verdict == "explained", [str(each) for each in found.differences if each.kind == "logic"]
    assert set(found.counts) == {"fill"}
    assert all(each.reason for each in found.differences)


MIXES = (
    "partial=0.5,drop=0.3",
    "late=0.2",
    "lost=0.4,refuse=0.3,cross=0.5",
    "partial=0.3,late=0.1,duplicate=0.2,reorder=0.5,cross=0.3",
    "partial=0.4,drop=0.2,late=0.2,duplicate=0.2,reorder=0.4,lost=0.2,refuse=0.1,cross=0.3",
)


@pytest.mark.long
@pytest.mark.parametrize("seed", [3, 4, 5, 6])
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("fill", ["close", "next_open"])
@pytest.mark.parametrize("strategy", ["ema_cross", "mei_alpha"])
def test_no_fault_of_a_broker_is_of_class_logic(
    home: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, fill: str, mix: str, seed: int
) -> None:
    # Faults are drawn from the ids of orders, which begin with a random id of the journal.
    monkeypatch.setattr(secrets, "token_hex", lambda size: Random(seed).randbytes(size).hex())  # noqa: S311 - no secret
    params, exits = (CROSS, "") if strategy == "ema_cross" else (ALPHA, "15m")
    config = lane_config(strategy, ("BTC", "ETH"), params, {"market.fill": fill}, exit_interval=exits)
    from_ms = START_MS + 12 * DAY_MS
    to_ms = from_ms + 6 * DAY_MS
    market = SyntheticMarket(seed=seed, symbols=("BTC", "ETH"), interval=config.intervals.step, to_ms=to_ms)
    settings = home_settings(home, home / "cache")
    make_lane_home(settings, market, config)
    faults = parse_misbehaviour(f"{mix},seed={seed}")
    feed = feed_of(settings, to_ms, 1000)
    run_session(settings, open_feed=feed, from_ms=from_ms, durable=False, misbehaviour=faults)
    found = [each for day_ms in days_of(settings, LANE) for each in check(settings, day_ms).differences]
    assert [str(each) for each in found if each.kind == "logic"] == []
    assert all(each.reason for each in found)


def test_an_order_whose_answer_was_lost_is_no_logic_difference(lane_home: Settings) -> None:
    run_session(lane_home, misbehaviour=parse_misbehaviour("lost=0.5,seed=3"))
    with closing(sqlite3.connect(journal_path(lane_home.lanes, LANE))) as journal:
        assert journal.execute("SELECT count(*) FROM events WHERE event = 'OrderUnknown'").fetchone()[0] > 0
    assert set(check(lane_home).counts) <= {"fill"}


def test_a_late_step_is_degraded(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    late_ms = undisturbed["tables"]["decisions"][0][0]

    def delay(event: Event) -> list[Event]:
        late = isinstance(event, StepClosed) and event.step_ms == late_ms
        return [msgspec.structs.replace(event, late_ms=60_000) if late else event]

    run_session(lane_home, open_feed=altered(lane_home, delay))
    found = check(lane_home)
    assert (found.verdict, set(found.counts)) == ("explained", {"degraded"})
    assert {each.step_ms for each in found.differences} == {late_ms}
    assert found.differences[0].reason == "the step ended 60000 ms late"


def test_a_transfer_is_of_class_config(lane_home: Settings) -> None:
    def add(event: Event) -> list[Event]:
        moved = isinstance(event, StepClosed) and event.step_ms == CHANGE_MS
        return [event, Transfer(venue_ms=event.venue_ms, key="in-1", usd=500.0)] if moved else [event]

    run_session(lane_home, open_feed=altered(lane_home, add))
    found = check(lane_home)
    assert (found.verdict, found.counts) == ("explained", {"config": 1})
    assert found.differences[0].recorded == "500.0 USD"


def test_a_hold_is_of_class_config(lane_home: Settings) -> None:
    hold = Hold(owner="anna", effect="close_only", reason="news", since_ms=FROM_MS, symbol="ETH")
    set_hold(lane_home.lanes, LANE, "news", hold)
    run_session(lane_home)
    found = check(lane_home)
    assert (found.verdict, set(found.counts)) == ("explained", {"config"})
    assert {(each.symbol, each.reason, each.recorded) for each in found.differences} == {
        ("ETH", "hold news", "blocked")
    }


def test_a_day_with_two_books_has_no_logic_difference(lane_home: Settings) -> None:
    change_ms = CHANGE_MS + HOUR_MS
    run_session(lane_home, to_ms=change_ms, open_feed=feed_of(lane_home, change_ms))
    promote_config(lane_home, OTHER, START_MS, generation=2)
    run_session(lane_home, from_ms=None)
    found = check(lane_home)
    assert found.verdict in {"equal", "explained"}
    assert set(found.counts) <= {"config"}
    assert found.decisions > found.steps == (TO_MS - FROM_MS) // HOUR_MS


def test_steps_of_other_kernels_are_no_evidence(lane_home: Settings) -> None:
    run_session(lane_home)
    edit(lane_home, "event = 'Started'", lambda fact: {**fact, "kernel_hash": "f" * 64})
    found = check(lane_home)
    assert (found.verdict, found.steps) == ("no evidence", 0)
    assert "ffffffffffff" in found.unchecked[0]


def test_a_day_without_steps_is_no_evidence(lane_home: Settings) -> None:
    run_session(lane_home)
    found = check(lane_home, START_MS)
    assert (found.verdict, found.differences, found.first) == ("no evidence", (), None)


def test_errors(lane_home: Settings) -> None:
    with pytest.raises(DataError, match=r"journal\.db"):
        check(lane_home)
    with pytest.raises(ConfigError, match="midnight"):
        check(lane_home, FROM_MS)


def test_features_that_drifted_are_logic_and_the_gate_that_shows_it_is_named(lane_home: Settings) -> None:
    """Another history in lake and journal stands for a lane whose features have drifted from those of a sweep."""
    run_session(lane_home)
    lake = Lake(lane_home.lake)
    bars = read_candles(lake, "synthetic", "1h", ("BTC", "ETH"), FROM_MS - HOUR_MS, FROM_MS)
    higher = [pl.col(name) * 1.02 for name in ("high", "close")]
    merge_candles(lake, bars.with_columns(higher), now_ms=4_000_000_000_000)
    history = load_bars(lake, "synthetic", "1h", ("BTC", "ETH"), START_MS, FROM_MS)
    edit(lane_home, "event = 'Warmed'", lambda fact: {**fact, "data_hash": history.data_hash})
    found = check(lane_home)
    assert found.verdict == "failed"
    first = found.first
    assert first is not None
    assert first.gate is not None
    assert first.gate.recorded != first.gate.replayed
    assert first.gate.name in str(first)
    assert found.as_dict()["differences"][0]["gate"]["name"] == first.gate.name
