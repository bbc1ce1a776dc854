"""A lane survives what a venue does to it: in the end both have the same positions, orders and money."""

import numpy as np
import pytest
from paper_kit import ALPHA, CROSS, FROM_MS, Lane, config, events_of, make_bars, start_lane

from live.misbehaviour import MisbehavingBroker, Misbehaviour, make_paper_broker, parse_misbehaviour
from live.paper_broker import PaperBroker
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.events import AccountSnapshot, Fill, Timer
from mei_pipeline.execution.rows import FillRow, OrderRow
from mei_pipeline.execution.state import alive
from mei_pipeline.settings import Settings

EVERYTHING = {
    "partial": 0.4,
    "drop": 0.2,
    "late": 0.2,
    "duplicate": 0.2,
    "reorder": 0.4,
    "lost": 0.2,
    "refuse": 0.1,
    "cross": 0.3,
}
LATER = {"market.fill": "next_open", "market.delay_bars": 1}


def run(
    settings: Settings,
    plan: Misbehaviour,
    *,
    strategy: str = "ema_cross",
    market: dict[str, object] | None = None,
    days: int = 12,
) -> Lane:
    """A lane after some days with faults, and after it has heard of everything."""
    bars = make_bars(seed=1 + plan.seed)
    params = CROSS if strategy == "ema_cross" else ALPHA
    resolved = config(strategy, bars, params, market or {"market.fill": "close"})
    lane = start_lane(settings, bars, resolved, make_paper_broker(plan))
    lane.run(events_of(bars, FROM_MS, FROM_MS + days * DAY_MS))
    hear_everything(lane)
    return lane


def hear_everything(lane: Lane) -> None:
    """Deliver all news that are on their way, and ask for those that were lost."""
    for _ in range(4):
        lane.take(Timer(venue_ms=lane.state.clock_ms + 6_000, name="", due_ms=0))
        lane.take_all(lane.broker.poll(lane.state.clock_ms + 10 * DAY_MS))
        for order in alive(lane.state):
            lane.take_all(lane.broker.query(order.place.cloid))


def check_agree(lane: Lane) -> None:
    """Compare positions, money and open orders of the lane with those of the venue."""
    (book,) = lane.state.books
    (snapshot,) = lane.broker.snapshot()
    assert isinstance(snapshot, AccountSnapshot)
    held = {symbol: lots / 10.0**decimals for symbol, (lots, decimals) in snapshot.positions.items()}
    sizes = {symbol: book.step.size_of(symbol) for symbol in book.step.plan.symbols}
    assert held == {symbol: size for symbol, size in sizes.items() if size != 0.0}
    assert np.isclose(snapshot.margin_usd, float(book.step.account["margin"]), rtol=1e-12)
    equity = float(book.step.account["cash"]) + sum(
        size * (float(book.step.market.last_price[0, s]) - float(book.step.positions["entry"][s]))
        for s, size in enumerate(sizes.values())
        if size != 0.0
    )
    assert np.isclose(snapshot.equity_usd, equity, rtol=1e-12)
    assert set(snapshot.open_orders) == {order.place.cloid for order in alive(lane.state)}
    assert lane.state.early == ()
    assert all(coins == 0.0 for coins in lane.state.foreign.values())
    keys = [row.key for row in lane.rows if isinstance(row, FillRow)]
    assert len(keys) == len(set(keys)) > 20


def states_of(lane: Lane) -> set[str]:
    """All states that orders had."""
    return {row.state for row in lane.rows if isinstance(row, OrderRow)}


@pytest.mark.parametrize(
    ("faults", "reached"),
    [
        ({"partial": 0.7}, {"PARTIAL", "FILLED", "CANCELLED"}),
        ({"partial": 0.7, "drop": 0.6}, {"PARTIAL", "FILLED", "CANCELLED"}),
        ({"late": 0.3}, {"SENT", "FILLED"}),
        ({"duplicate": 0.5}, {"SENT", "FILLED"}),
        ({"reorder": 0.7}, {"SENT", "FILLED"}),
        ({"lost": 0.4}, {"UNKNOWN", "FILLED", "EXPIRED"}),
        ({"refuse": 0.3}, {"REJECTED", "FILLED"}),
    ],
)
def test_each_fault(mei_settings: Settings, faults: dict[str, float], reached: set[str]) -> None:
    lane = run(mei_settings, Misbehaviour(seed=3, **faults), days=10)
    check_agree(lane)
    assert reached <= states_of(lane)


def test_a_cancel_crosses_a_fill(mei_settings: Settings) -> None:
    plain = run(mei_settings, Misbehaviour(seed=1), market=LATER)
    crossed = run(mei_settings, Misbehaviour(seed=1, cross=1.0), market=LATER)
    check_agree(crossed)
    assert "CANCELLED" in states_of(plain)
    assert [row for row in crossed.rows if isinstance(row, FillRow)] != [
        row for row in plain.rows if isinstance(row, FillRow)
    ]


@pytest.mark.parametrize("seed", [0, 3])  # the fills of both need the order of the venue
@pytest.mark.parametrize("market", [{"market.fill": "close"}, LATER])
def test_all_faults_at_once(mei_settings: Settings, seed: int, market: dict[str, object]) -> None:
    lane = run(mei_settings, Misbehaviour(seed=seed, **EVERYTHING), market=market, days=8)
    check_agree(lane)


def test_additions_and_partial_closes_in_parts(mei_settings: Settings) -> None:
    lane = run(mei_settings, Misbehaviour(**EVERYTHING), strategy="mei_alpha", market=LATER)
    check_agree(lane)
    assert {"exit", "add"} <= {row.purpose for row in lane.rows if isinstance(row, OrderRow)}


def test_faults_repeat_themselves(mei_settings: Settings) -> None:
    first, second = (run(mei_settings, Misbehaviour(seed=5, **EVERYTHING), days=4) for _ in range(2))
    assert first.rows == second.rows


@pytest.mark.parametrize("seed", [2, 5])
def test_crashes_between_faults(mei_settings: Settings, seed: int) -> None:
    bars = make_bars(seed=seed)
    resolved = config("ema_cross", bars, CROSS, {"market.fill": "close"})
    lane = start_lane(mei_settings, bars, resolved, make_paper_broker(Misbehaviour(seed=seed, **EVERYTHING)))
    lane.crashes = {3, 7.5, 11, 14.5}
    lane.run_through_crashes(FROM_MS + 6 * DAY_MS)
    assert lane.sent > 14
    hear_everything(lane)
    check_agree(lane)


def test_a_plan_from_text() -> None:
    assert parse_misbehaviour("partial=0.2, late=1,late_steps=3,seed=7") == Misbehaviour(
        partial=0.2, late=1.0, late_steps=3, seed=7
    )
    assert isinstance(make_paper_broker(parse_misbehaviour("lost=0.1")), MisbehavingBroker)
    assert isinstance(make_paper_broker(None), PaperBroker)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "misbehave: unknown key: ''; allowed are partial, drop,"),
        ("partiall=1", "unknown key: 'partiall'"),
        ("late=0.1,late=0.2", "misbehave: late: named twice"),
        ("late=2", "misbehave: late: '2' is not allowed; allowed are numbers from 0 to 1"),
        ("late=nan", "late: 'nan'"),
        ("late=", "late: ''"),
        ("seed=-1", "misbehave: seed: '-1' is not allowed; allowed are whole numbers from 0"),
        ("late_steps=0", "late_steps: '0' is not allowed; allowed are whole numbers from 1"),
        ("seed=1.5", "seed: '1.5'"),
    ],
)
def test_a_plan_that_is_not_allowed(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_misbehaviour(text)
    assert problem in str(error.value)


def test_a_fill_waits_for_the_one_before_it(mei_settings: Settings) -> None:
    lane = run(mei_settings, Misbehaviour(seed=1), days=1)
    now_ms = lane.state.clock_ms
    later, first = (
        Fill(
            venue_ms=now_ms, key=key, symbol="AAA", lots=lots, lot_decimals=2, price=100.0, fee_usd=0.1, start_lots=held
        )
        for key, lots, held in (("later", -200, 500), ("first", 500, 0))
    )
    (book,) = lane.state.books
    assert book.step.size_of("AAA") == 0.0
    lane.take_all((later, later))
    assert lane.state.early == (later,)
    assert lane.state.foreign == {}
    lane.take_all((first,))
    assert lane.state.early == ()
    assert lane.state.foreign == {"AAA": 3.0}


def test_a_fill_does_not_wait_for_ever(mei_settings: Settings) -> None:
    lane = run(mei_settings, Misbehaviour(seed=1), days=1)
    alone = Fill(
        venue_ms=lane.state.clock_ms, key="alone", symbol="AAA", lots=-200, lot_decimals=2, price=100.0, fee_usd=0.1,
        start_lots=500,
    )  # fmt: skip
    lane.take_all((alone,))
    assert lane.state.early == (alone,)
    lane.take(Timer(venue_ms=lane.state.clock_ms + 5_000, name="", due_ms=0))
    assert lane.state.early == ()
    assert lane.state.foreign == {"AAA": -2.0}
    assert "foreign-aaa" in lane.state.own_holds
