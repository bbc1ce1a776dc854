"""The paper broker alone: orders, answers, queries and books."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from paper_kit import (
    ALPHA,
    CROSS,
    FROM_MS,
    START_MS,
    Lane,
    config,
    events_of,
    make_bars,
    offer_of,
    start_lane,
)

from live.broker import execute
from live.misbehaviour import Misbehaviour, make_paper_broker
from live.paper_broker import PaperBroker, Portion
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.execution.books import equity_of
from mei_pipeline.execution.commands import Alert, Intent, OpenBook, Order, Place
from mei_pipeline.execution.core import absorb, absorb_market
from mei_pipeline.execution.events import (
    AccountSnapshot,
    BarClosed,
    Decided,
    Fill,
    Funding,
    FundingRate,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
    StepClosed,
)
from mei_pipeline.execution.orders import cloid_of
from mei_pipeline.execution.state import alive
from mei_pipeline.params.identity import ResolvedConfig, config_id
from mei_pipeline.settings import Settings

QUIET = {**CROSS, "entry.warmup_bars": 50_000}
"""A config that never enters."""


@pytest.fixture
def quiet() -> ResolvedConfig:
    """A config that decides nothing by itself."""
    return config("ema_cross", make_bars(), QUIET, {"market.fill": "close"})


@pytest.fixture
def lane(mei_settings: Settings, quiet: ResolvedConfig) -> Lane:
    """A lane that has taken one step and decides nothing."""
    made = start_lane(mei_settings, make_bars(gaps=0.0), quiet)
    return made.run(events_of(made.bars, FROM_MS, FROM_MS + HOUR_MS))


def order(lane: Lane, lots: int, purpose: str = "entry", attempt: int = 1, **changes: object) -> Place:
    """An order of `AAA`."""
    intent = Intent(f"request:{lots}", "AAA", purpose, attempt)
    place = Place(
        intent=intent,
        cloid=cloid_of("00c0ffee", intent),
        config_id=lane.state.books[0].config_id,
        symbol="AAA",
        lots=lots,
        lot_decimals=2,
        expires_ms=lane.state.clock_ms,
        reduce_only=purpose in {"exit", "flatten"},
        leverage=3.0,
        notes=(50.0, 50.0, 0.0),
    )
    return structs.replace(place, **changes)


def hours(lane: Lane, first: int, count: int = 1) -> list[object]:
    """What happened in some hours at the broker alone, after the first one; the lane takes only market data."""
    happened: list[object] = []
    for event in events_of(lane.bars, FROM_MS + first * HOUR_MS, FROM_MS + (first + count) * HOUR_MS):
        if isinstance(event, StepClosed):
            happened += lane.broker.open_step(event, lane.state)
            happened += lane.broker.close_step(event)
        lane.state = absorb(lane.state, event).state
    return happened


def fills(happened: list[object]) -> list[Fill]:
    return [event for event in happened if isinstance(event, Fill)]


def lots_of(lane: Lane) -> int:
    """Lots of `AAA` at the venue."""
    (snapshot,) = lane.broker.snapshot()
    assert isinstance(snapshot, AccountSnapshot)
    return snapshot.positions.get("AAA", (0, 2))[0]


def test_an_order_fills_at_the_next_close(lane: Lane) -> None:
    place = order(lane, 300)
    (answer,) = lane.broker.place((place,))
    assert isinstance(answer, OrderAccepted)
    (fill,) = fills(hours(lane, 1))
    close = float(lane.bars.steps.prices[3, 241, 0])
    assert (fill.cloid, fill.lots, fill.lot_decimals, fill.price, fill.kind) == (place.cloid, 300, 2, close, "trade")
    assert (fill.start_lots, fill.fee_usd, fill.moment) == (0, 3.0 * close * 0.00045, "close")
    assert (fill.step_ms, fill.venue_ms) == (FROM_MS + HOUR_MS, FROM_MS + 2 * HOUR_MS)
    assert lots_of(lane) == 300


def test_a_step_without_bars_has_not_those_of_the_step_before(lane: Lane) -> None:
    assert hours(lane, 1) == []
    lane.broker.place((order(lane, 300),))
    empty = StepClosed(venue_ms=FROM_MS + 3 * HOUR_MS, step_ms=FROM_MS + 2 * HOUR_MS, present=())
    assert [*lane.broker.open_step(empty, lane.state), *lane.broker.close_step(empty)] == []
    lane.state = absorb(lane.state, empty).state
    (fill,) = fills(hours(lane, 3))
    assert fill.price == float(lane.bars.steps.prices[3, 243, 0])


def test_an_order_is_never_placed_twice(lane: Lane) -> None:
    place = order(lane, 300)
    answers = [lane.broker.place((place,))[0] for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(fills(hours(lane, 1))) == 1
    assert lane.broker.place((place,)) == [structs.replace(answers[0], venue_ms=lane.state.clock_ms)]
    assert hours(lane, 2) == []
    (gone,) = lane.broker.poll(lane.state.clock_ms)
    assert isinstance(gone, OrderGone)
    assert gone.filled_lots == 300
    assert list(lane.broker.poll(lane.state.clock_ms)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config_id": "f" * 64}, "no book of config ffffffffffff"),
        ({"symbol": "ZZZ"}, "ZZZ is not a symbol"),
        ({"expires_ms": START_MS}, "it expired"),
        ({"reduce_only": True}, "there is no position"),
    ],
)
def test_orders_that_do_not_fit(lane: Lane, changes: dict[str, object], problem: str) -> None:
    place = order(lane, 300, **changes)
    for _ in range(2):
        (answer,) = lane.broker.place((place,))
        assert isinstance(answer, OrderRefused)
        assert problem in answer.reason
    assert lane.broker.query(place.cloid) == (answer,)
    assert lane.broker.cancel(place.cloid) == (answer,)
    assert hours(lane, 1) == []


def test_orders_that_do_not_fit_the_position(lane: Lane) -> None:
    lane.broker.place((order(lane, 300),))
    hours(lane, 1)
    increases, loose = order(lane, 100, "exit"), order(lane, -200, after="0xother")
    for place, problem in ((increases, "would increase"), (loose, "the closing order of its reversal")):
        (answer,) = lane.broker.place((place,))
        assert isinstance(answer, OrderRefused)
        assert problem in answer.reason
    first, second = order(lane, -100, "exit"), order(lane, -200, "exit")
    answers = lane.broker.place((first, second))
    assert isinstance(answers[0], OrderAccepted)
    assert answers[1] == OrderRefused(
        venue_ms=lane.state.clock_ms, cloid=second.cloid, reason="another closing order of AAA waits"
    )


def test_a_cancelled_order_never_fills(lane: Lane) -> None:
    place = order(lane, 300)
    lane.broker.place((place,))
    (gone,) = lane.broker.cancel(place.cloid)
    assert gone == OrderGone(
        venue_ms=lane.state.clock_ms, cloid=place.cloid, oid=f"paper-{place.cloid[-16:]}", reason="cancelled"
    )
    assert lane.broker.cancel(place.cloid) == (gone,)
    assert lane.broker.query(place.cloid) == (gone,)
    assert hours(lane, 1) == []


def test_an_unknown_order_can_not_arrive_later(lane: Lane) -> None:
    for answers in (lane.broker.query("0x00"), lane.broker.cancel("0x00")):
        assert answers == (OrderNotFound(venue_ms=lane.state.clock_ms, cloid="0x00", final=True),)


def test_queries_repeat_fills_and_payments(lane: Lane) -> None:
    place = order(lane, 300)
    lane.broker.place((place,))
    assert [type(event) for event in lane.broker.query(place.cloid)] == [OrderAccepted]
    happened = hours(lane, 1, 8)
    assert [type(event) for event in happened] == [Fill, Funding]
    assert [type(event) for event in lane.broker.query(place.cloid)] == [Fill, OrderGone]
    assert list(lane.broker.query_fills(0)) == happened
    assert list(lane.broker.query_fills(FROM_MS + 3 * HOUR_MS)) == happened[1:]
    paid = happened[1]
    assert isinstance(paid, Funding)
    due = lane.bars.steps.funding[247, 0] * 3.0 * lane.bars.steps.prices[3, 247, 0]
    assert paid.usd == pytest.approx(due)


def test_a_reversal_opens_once_its_position_is_closed(lane: Lane) -> None:
    lane.broker.place((order(lane, 300),))
    hours(lane, 1)
    closing = order(lane, -300, "exit")
    lane.broker.place((closing, order(lane, -200, after=closing.cloid)))
    assert [fill.lots for fill in fills(hours(lane, 2))] == [-300, -200]
    assert lots_of(lane) == -200


def test_a_reversal_without_its_close_is_dropped(lane: Lane) -> None:
    lane.broker.place((order(lane, 300),))
    hours(lane, 1)
    closing = order(lane, -300, "exit")
    opening = order(lane, -200, after=closing.cloid)
    lane.broker.place((closing, opening))
    lane.broker.cancel(closing.cloid)
    (gone,) = hours(lane, 2)
    assert isinstance(gone, OrderGone)
    assert (gone.cloid, gone.reason) == (opening.cloid, "the position is not closed")
    assert lots_of(lane) == 300


def test_an_addition_without_a_position_lapses(lane: Lane) -> None:
    place = order(lane, 300, "add")
    lane.broker.place((place,))
    (gone,) = hours(lane, 1)
    assert isinstance(gone, OrderGone)
    assert (gone.cloid, gone.reason, gone.filled_lots) == (place.cloid, "the fill model dropped it", 0)


def test_a_later_attempt_closes_its_own_lots(lane: Lane) -> None:
    lane.broker.place((order(lane, 300),))
    hours(lane, 1)
    lane.broker.place((order(lane, -120, "exit", attempt=2),))
    assert [fill.lots for fill in fills(hours(lane, 2))] == [-120]
    assert lots_of(lane) == 180


def test_a_repeated_step_has_no_effect(lane: Lane) -> None:
    lane.broker.place((order(lane, 300),))
    steps = [event for event in events_of(lane.bars, FROM_MS, FROM_MS + DAY_MS) if isinstance(event, StepClosed)]
    assert list(lane.broker.open_step(steps[0], lane.state)) == []
    assert list(lane.broker.close_step(steps[0])) == []
    assert list(lane.broker.open_step(steps[5], lane.state)) == []
    assert list(lane.broker.close_step(steps[5])) == []
    known = BarClosed(symbol="AAA", interval="1h", open_ms=FROM_MS, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    rate = FundingRate(symbol="AAA", due_ms=FROM_MS + HOUR_MS, rate=9.0)
    lane.state = absorb_market(lane.state, (next(iter(events_of(lane.bars))), known, rate)).state
    assert len(hours(lane, 1)) == 1


@pytest.mark.parametrize("drops", [False, True])
def test_an_order_fills_in_parts(mei_settings: Settings, quiet: ResolvedConfig, *, drops: bool) -> None:
    def half(order: Order, step_ms: int) -> Portion | None:
        assert step_ms % HOUR_MS == 0
        left = abs(order.left_lots)
        return Portion(left // 2, drops) if left > 100 else None

    lane = start_lane(mei_settings, make_bars(gaps=0.0), quiet, PaperBroker(half))
    lane.run(events_of(lane.bars, FROM_MS, FROM_MS + HOUR_MS))
    lane.broker.place((order(lane, 300),))
    happened = hours(lane, 1, 3)
    assert [fill.lots for fill in fills(happened)] == ([150] if drops else [150, 75, 75])
    assert len({fill.key for fill in fills(happened)}) == len(fills(happened))
    gone = [event for event in happened if isinstance(event, OrderGone)]
    assert [(event.reason, event.filled_lots) for event in gone] == ([("the rest is dropped", 150)] if drops else [])


@pytest.mark.parametrize("plan", [None, Misbehaviour()])
def test_a_second_book_takes_the_cash_that_the_first_one_gives_up(
    mei_settings: Settings, quiet: ResolvedConfig, plan: Misbehaviour | None
) -> None:
    bars = make_bars()
    first = config("ema_cross", bars, CROSS, {"market.fill": "close"})
    lane = start_lane(mei_settings, bars, first, make_paper_broker(plan))
    lane.run(events_of(bars, FROM_MS, FROM_MS + 2 * DAY_MS))
    lane.take(offer_of(quiet, generation=2))
    assert [book.config_id for book in lane.state.books] == [config_id(first), config_id(quiet)]
    (snapshot,) = lane.broker.snapshot()
    assert isinstance(snapshot, AccountSnapshot)
    assert snapshot.positions
    assert snapshot.equity_usd == sum(equity_of(book.step) for book in lane.state.books)
    lane.run(events_of(bars, FROM_MS + 2 * DAY_MS, FROM_MS + 6 * DAY_MS))
    (book,) = lane.state.books
    assert book.config_id == config_id(quiet)
    (snapshot,) = lane.broker.snapshot()
    assert isinstance(snapshot, AccountSnapshot)
    assert (snapshot.positions, snapshot.equity_usd) == ({}, float(book.step.account["cash"]))


def test_the_broker_follows_levels_and_reasons(mei_settings: Settings) -> None:
    bars = make_bars(seed=3)
    resolved = config("mei_alpha", bars, ALPHA, {"market.fill": "next_open", "market.delay_bars": 3})
    lane = start_lane(mei_settings, bars, resolved)
    lane.run(events_of(bars, FROM_MS, FROM_MS + 6 * DAY_MS))
    (book,) = lane.state.books
    fact = Decided(step_ms=0, config_id="unknown", positions={"AAA": {"stop": 1.0}})
    assert list(lane.broker.observe(fact, lane.state)) == []
    own = lane.broker._books[book.config_id].step.positions  # noqa: SLF001 - its truth, which no event tells
    held = np.flatnonzero(own["size"])
    for name in own.dtype.names:
        if name not in {"close_wait", "open_wait"}:
            assert np.array_equal(own[name][held], book.step.positions[name][held], equal_nan=True), name


def test_old_orders_are_forgotten(lane: Lane) -> None:
    for number in range(1, 2_010):
        place = order(lane, number)
        lane.broker.place((place,))
        lane.broker.cancel(place.cloid)
    first, last = order(lane, 1), place
    assert isinstance(lane.broker.query(first.cloid)[0], OrderNotFound)
    assert isinstance(lane.broker.query(last.cloid)[0], OrderGone)


def test_a_broker_takes_over_what_the_lane_knows(lane: Lane) -> None:
    accepted, lost = order(lane, 300), order(lane, 500, cloid="0x1")
    lane.state = replace(
        lane.state,
        orders={
            accepted.cloid: Order(place=accepted, state="SENT", accepted=True, oid="paper"),
            lost.cloid: Order(place=lost, state="UNKNOWN"),
            "0x2": Order(place=structs.replace(lost, cloid="0x2"), state="REJECTED", reason="no"),
            "0x3": Order(place=structs.replace(lost, cloid="0x3", config_id="gone"), state="FILLED", accepted=True),
        },
    )
    broker = PaperBroker()
    broker.rebuild(lane.state)
    # The lane's book has no part for the first one, so it was cancelled; the second one never arrived.
    assert isinstance(broker.query(accepted.cloid)[0], OrderGone)
    assert isinstance(broker.query(lost.cloid)[0], OrderNotFound)
    assert isinstance(broker.query("0x2")[0], OrderRefused)
    assert isinstance(broker.query("0x3")[0], OrderNotFound)
    assert [each.place.cloid for each in alive(lane.state)] == [accepted.cloid, lost.cloid]


def test_a_broker_takes_over_a_later_attempt(lane: Lane) -> None:
    place = order(lane, -120, "exit", attempt=2)
    known = Order(place=place, state="PARTIAL", accepted=True, oid="paper", filled_lots=-20)
    lane.state = replace(lane.state, orders={place.cloid: known})
    position = lane.state.books[0].step.positions[0]
    position["size"], position["entry"], position["close_frac"], position["leverage"] = 3.0, 100.0, 1.0, 3.0
    position["stop"] = position["target"] = np.nan
    lane.broker.rebuild(lane.state)
    assert [fill.lots for fill in fills(hours(lane, 1))] == [-100]
    assert lots_of(lane) == 200


def test_commands_without_a_broker_have_no_effect(lane: Lane) -> None:
    before = lane.broker.snapshot()
    for command in (Alert("key", "info", "text"), OpenBook("unknown", 1.0)):
        assert execute(lane.broker, lane.state, command) == ()
    assert lane.broker.snapshot() == before


def test_a_restarted_broker_counts_fills_that_the_lane_has_not_booked_yet(lane: Lane) -> None:
    place = order(lane, 300)
    (answer,) = lane.broker.place((place,))
    known = Order(place=place, accepted=True, state="SENT", oid=answer.oid)
    decided = lane.state.books[0].step.positions[0]
    for name, value in {"open_size": 3.0, "open_leverage": 3.0, "note_a": 50.0, "note_b": 50.0}.items():
        decided[name] = value
    part = Fill(
        venue_ms=lane.state.clock_ms,
        key="paper:early",
        cloid=place.cloid,
        symbol="AAA",
        lots=100,
        lot_decimals=2,
        price=100.0,
        fee_usd=0.0,
        start_lots=50,
        step_ms=lane.state.step_ms,
    )
    foreign = structs.replace(part, key="paper:foreign", cloid="", lots=-30)
    nowhere = structs.replace(foreign, key="paper:nowhere", symbol="BBB")
    lane.state = replace(lane.state, orders={place.cloid: known}, early=(part, foreign, nowhere))
    lane.broker = PaperBroker()
    lane.broker.rebuild(lane.state)
    assert lots_of(lane) == 70  # the part, less what somebody sold by hand
    assert lane.state.books[0].step.size_of("AAA") == 0.0  # the lane itself still waits
    (fill,) = fills(hours(lane, 1))
    assert fill.lots == 200  # the rest of the order and no more
