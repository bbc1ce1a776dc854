"""The core of a lane, event by event: what it decides, what it forbids, and what it asks its process to do."""

from dataclasses import replace

import execution_kit as kit
import msgspec
import pytest
from execution_kit import ANCHOR, DOWN, FIRST, HOUR, UP

from mei_pipeline.errors import DataError, Fatal, Retryable
from mei_pipeline.execution import books, configs, core
from mei_pipeline.execution.commands import (
    Alert,
    Cancel,
    CloseBook,
    OpenBook,
    Query,
    QueryFills,
    Send,
    Snapshot,
    Warm,
)
from mei_pipeline.execution.deciding import next_attempt
from mei_pipeline.execution.events import (
    BarMissing,
    BarRevised,
    CaughtUp,
    Decided,
    Expired,
    FeedHealth,
    Fill,
    Funding,
    FundingRate,
    HoldsChanged,
    HoldSet,
    OrderNotFound,
    OrderRefused,
    OrderUnknown,
    OverridesChanged,
    Retried,
    Sent,
    Timer,
    Transfer,
)
from mei_pipeline.execution.rows import (
    ConfigChangeRow,
    DecisionRow,
    EquityRow,
    FillRow,
    FundingRow,
    HoldRow,
    OrderRow,
    PositionRow,
    TradeRow,
)
from mei_pipeline.execution.state import LaneSetup, LaneState


@pytest.fixture
def lane(mei_settings):
    return kit.new_lane(mei_settings)


def of(kind, values):
    return [value for value in values if isinstance(value, kind)]


def one(kind, values):
    (found,) = of(kind, values)
    return found


def enter(lane, symbol="AAA", price=UP):
    """Open a position by a cross."""
    (place,) = lane.close({symbol: price})
    lane.take(kit.accepted(place))
    lane.take(kit.filled(place, price=price))
    return place


def leave(lane, symbol="AAA", price=DOWN, **close):
    """Cross against a position under a hold, so that it is closed and not reversed."""
    lane.take(HoldsChanged(holds={"stop": kit.hold()}))
    places = lane.close({symbol: price}, **close)
    assert all(place.reduce_only for place in places)
    return places


# Steps


def test_a_cross_enters_and_the_cross_back_reverses(lane):
    place = enter(lane)
    assert (place.intent.origin, place.intent.purpose, place.lots) == (f"step:{FIRST}", "entry", 909)
    assert not place.reduce_only
    assert place.expires_ms == FIRST + HOUR + 10_000
    assert lane.size("AAA") == 9.09
    assert lane.close({"AAA": 120.0}) == []
    closing, opening = lane.close({"AAA": DOWN})
    assert (closing.lots, closing.reduce_only, closing.intent.purpose) == (-909, True, "exit")
    assert (opening.after, opening.lots < 0, opening.leverage, opening.signal) == (closing.cloid, True, 3.0, -1)
    lane.take_all([kit.filled(closing, price=DOWN), kit.filled(opening, price=DOWN)])
    assert lane.size("AAA") == opening.lots / 100
    assert {order.state for order in lane.state.orders.values()} == {"FILLED"}


def test_a_step_is_journaled_before_its_orders_are_sent(lane):
    lane.close({"AAA": UP})
    decided, sent_fact = lane.facts
    assert isinstance(decided, Decided)
    assert decided.verdicts == {"AAA": "entry ordered"}
    assert decided.codes == {"AAA": 1}
    assert sent_fact == Sent(venue_ms=FIRST + HOUR, cloids=(decided.orders[0].cloid,))
    assert one(Send, lane.commands).orders == decided.orders
    assert one(DecisionRow, lane.rows).verdict == "entry ordered"
    assert [row.state for row in of(OrderRow, lane.rows)] == ["NEW", "SENT"]


def test_a_quiet_step_leaves_no_decision(lane):
    assert lane.close() == []
    assert lane.facts == ()
    assert lane.take(kit.closed(FIRST)).facts == ()  # and again


def test_a_missing_step_is_refused(lane):
    with pytest.raises(Retryable, match="the step 2026-01-01 08:00Z is missing before 2026-01-01 09:00Z"):
        lane.take(kit.closed(FIRST + HOUR))


@pytest.mark.parametrize(
    "event",
    [
        kit.bar("AAA", FIRST + HOUR, UP),
        BarMissing(symbol="AAA", interval="1h", open_ms=FIRST + HOUR, reason="unknown"),
        FundingRate(symbol="AAA", due_ms=FIRST + 2 * HOUR, rate=0.01),
    ],
)
def test_market_data_of_a_later_step_is_refused(lane, event):
    before = lane.pack()
    with pytest.raises(Retryable, match="the end of the step 2026-01-01 08:00Z is missing before market data"):
        lane.take(event)
    assert lane.pack() == before


def test_before_the_first_book_market_data_changes_nothing(mei_settings):
    lane = kit.Lane(LaneState(kit.make_setup(mei_settings)))
    state = lane.state
    for event in (kit.bar("AAA", FIRST, UP), kit.closed(FIRST), kit.manual("AAA", 1, "m")):
        lane.take(event)
    lane.take(Funding(key="f", symbol="AAA", usd=1.0))
    lane.take(Transfer(key="t", usd=1.0))
    assert (lane.state.books, lane.state.step_ms, lane.facts) == (state.books, None, ())
    assert (lane.state.step_length_ms, lane.state.next_step_ms) == (0, None)


def test_repeated_market_data_has_no_effect(lane):
    lane.take(FundingRate(symbol="AAA", due_ms=FIRST + HOUR, rate=0.01))
    lane.take(FundingRate(symbol="AAA", due_ms=FIRST + HOUR, rate=0.01))
    assert lane.state.books[0].step.market.funding[0, 0] == 0.01
    lane.take(kit.bar("AAA", FIRST, DOWN))  # a feed repeats an incomplete step after a restart: the last value counts
    place = enter(lane)
    before = lane.pack()
    events = [
        kit.bar("AAA", FIRST, DOWN),
        FundingRate(symbol="AAA", due_ms=FIRST + HOUR, rate=0.5),
        BarMissing(symbol="AAA", interval="1h", open_ms=FIRST, reason="unknown"),
        BarRevised(symbol="AAA", interval="1h", open_ms=FIRST, open=1, high=1, low=1, close=1, volume=1),
        kit.closed(FIRST),
        kit.closed(FIRST - HOUR),
        kit.filled(place, price=UP),
        kit.accepted(place),
        kit.terms("AAA"),
    ]
    assert lane.take_all(events) == []
    assert lane.pack() == before


def test_the_clock_is_the_latest_time_of_the_events(lane):
    lane.take(CaughtUp(venue_ms=FIRST + 5))
    lane.take(CaughtUp(venue_ms=FIRST + 3))
    lane.take(CaughtUp())
    assert lane.state.clock_ms == FIRST + 5


def test_the_equity_of_a_step_is_marked_before_the_next_one(lane):
    place = enter(lane)
    lane.take(lane.bar("AAA", 120.0))
    row = one(EquityRow, lane.rows)
    assert row.step_ms == FIRST
    assert row.cash_usd == kit.EQUITY - 0.25
    assert row.equity_usd == pytest.approx(row.cash_usd)
    assert (row.open_positions, row.margin_usd) == (1, pytest.approx(place.lots / 100 * UP / 3))
    assert of(EquityRow, lane.take(lane.bar("BBB", 100.0)).rows) == []


# Masks


def masks():
    stale = FeedHealth(symbol="AAA", stream="bars", stale_since_ms=1)
    missing = BarMissing(symbol="AAA", interval="1d", open_ms=FIRST - 22 * HOUR, reason="unknown")
    yield "stale", [stale], "stale: bars"
    yield "two stale streams", [stale, msgspec.structs.replace(stale, stream="marks")], "stale: bars, marks"
    yield "unknown bar", [missing], "its last bar is unknown"
    yield "hold of the lane", [HoldsChanged(holds={"stop": kit.hold()})], "hold stop"
    yield "hold of the symbol", [HoldsChanged(holds={"stop": kit.hold(symbol="AAA")})], "hold stop"
    yield "hold of the executor", [HoldSet(name="own", hold=kit.hold())], "hold own"
    yield "excluded", [OverridesChanged(excluded=("AAA",))], "excluded in strategy_overrides.yaml"
    yield "paused", [kit.offer(kit.resolved(), state="paused")], "the config is paused"
    yield "kernels", [kit.offer(kit.resolved(), kernel_hash="b" * 64)], "other kernels measured the config"
    yield "restart", [kit.started()], "the account is not compared with the books yet"
    yield "equity unknown", [kit.started(), Unknown], "the account is not compared with the books yet"


Unknown = kit.AccountSnapshot(equity_usd=None, margin_usd=0.0, positions={}, open_orders=())


@pytest.mark.parametrize(("events", "note"), [pytest.param(*rest, id=name) for name, *rest in masks()])
def test_a_mask_blocks_entries_and_no_exit(lane, events, note):
    enter(lane, "AAA")
    lane.take_all(events)
    places = lane.close({"AAA": DOWN})
    assert [(place.symbol, place.intent.purpose) for place in places] == [("AAA", "exit")]
    row = one(DecisionRow, lane.rows)
    assert (row.verdict, row.note) == ("blocked", note)


@pytest.mark.parametrize(
    ("block", "lift"),
    [
        (
            FeedHealth(symbol="AAA", stream="bars", stale_since_ms=1),
            FeedHealth(symbol="AAA", stream="bars", stale_since_ms=None),
        ),
        (HoldsChanged(holds={"stop": kit.hold()}), HoldsChanged(holds={})),
        (HoldSet(name="own", hold=kit.hold(symbol="AAA")), HoldSet(name="own", hold=None)),
        (OverridesChanged(excluded=("AAA",)), OverridesChanged(excluded=("BBB",))),
        (kit.offer(kit.resolved(), state="paused"), kit.offer(kit.resolved())),
        (HoldsChanged(holds={"stop": kit.hold(symbol="BBB")}), CaughtUp()),
    ],
)
def test_entries_go_on_when_a_mask_is_gone(lane, block, lift):
    lane.take(block)
    lane.take(lift)
    assert [place.symbol for place in lane.close({"AAA": UP})] == ["AAA"]


def test_an_unknown_bar_blocks_until_the_next_bar_of_its_interval(lane):
    lane.take(BarMissing(symbol="AAA", interval="1h", open_ms=FIRST, reason="unknown"))
    lane.take(kit.bar("AAA", FIRST + 55 * 60_000, 105.0, interval="5m"))
    assert lane.state.unknown_bars == {("AAA", "1h")}
    lane.bars.of("AAA").append(None)
    for symbol in ("BBB", "CCC"):
        lane.take(lane.bar(symbol, 100.0))
    lane.take(kit.closed(FIRST, ("BBB", "CCC")))
    assert lane.state.unknown_bars == {("AAA", "1h")}
    assert len(lane.close({"AAA": UP})) == 1
    assert not lane.state.unknown_bars
    lane.take(BarMissing(symbol="AAA", interval="1h", open_ms=lane.state.next_step_ms, reason="no trade"))
    assert not lane.state.unknown_bars


def test_a_symbol_that_a_draining_book_holds_or_may_hold_is_blocked(lane):
    enter(lane, "AAA")
    (waiting,) = lane.close({"BBB": UP})
    lane.take(kit.accepted(waiting))
    lane.take(kit.offer(other_config(), generation=2))
    lane.open_waiting()
    assert one(Cancel, lane.commands).cloid == waiting.cloid
    places = lane.close({"AAA": DOWN, "BBB": DOWN, "CCC": UP})
    assert [(place.symbol, place.config_id == lane.state.books[0].config_id) for place in places] == [
        ("AAA", True),
        ("CCC", False),
    ]
    notes = {row.symbol: row.note for row in of(DecisionRow, lane.rows) if row.note and "held" in row.note}
    assert set(notes) == {"AAA", "BBB"}


def other_config(frac=0.2, **parts):
    return kit.resolved(params={"trade.size_frac": frac}, **parts)


# Late steps


def test_late_steps_close_once_and_enter_nothing(lane):
    enter(lane, "AAA")
    assert lane.close({"AAA": DOWN, "BBB": UP}, late_ms=60_000) == []
    verdicts = {row.symbol: row.verdict for row in of(DecisionRow, lane.rows)}
    assert verdicts == {"AAA": "late", "BBB": "late"}
    assert lane.close({"AAA": 80.0}, late_ms=20_000) == []
    assert one(Decided, lane.journal[-1:]).late
    clock = lane.state.clock_ms
    assert lane.due(clock) == []
    (place,) = kit.sent(lane.due(clock + 1_000))
    assert (place.symbol, place.lots, place.intent.origin) == ("AAA", -909, f"step:{FIRST + HOUR}")
    assert lane.due(clock + 10_000) == []


def test_a_step_in_time_sends_what_late_steps_left(lane):
    enter(lane, "AAA")
    assert lane.close({"AAA": DOWN}, late_ms=60_000) == []
    (closing,) = kit.sent([Send(tuple(lane.close()))])
    assert (closing.intent.origin, closing.lots) == (f"step:{FIRST + HOUR}", -909)


def test_a_step_within_the_grace_of_the_lane_is_in_time(mei_settings):
    lane = kit.new_lane(mei_settings, max_late_ms=60_000)
    assert len(lane.close({"AAA": UP}, late_ms=60_000)) == 1


# Closing orders


def test_a_refused_exit_is_tried_again_after_a_second(lane):
    enter(lane)
    (place,) = leave(lane)
    for attempt in (2, 3):
        lane.take(OrderRefused(cloid=place.cloid, reason="busy"))
        assert one(Alert, lane.commands).key == "refused-AAA"
        assert lane.due(lane.state.clock_ms + 999) == []
        (place,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
        assert (place.lots, place.intent.attempt, place.reduce_only) == (-909, attempt, True)
        assert one(Retried, lane.facts).order == place
        assert place.expires_ms == lane.state.clock_ms + 10_000


@pytest.mark.parametrize("gone_first", [False, True])
def test_the_rest_of_an_exit_is_closed_by_the_next_attempt(lane, gone_first):
    enter(lane)
    (place,) = leave(lane)
    events = [kit.filled(place, -400, price=DOWN), kit.gone(place, -400)]
    lane.take_all(reversed(events) if gone_first else events)
    assert lane.size("AAA") == 5.09
    assert lane.state.orders[place.cloid].state == "CANCELLED"
    (again,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
    assert (again.lots, again.intent.attempt) == (-509, 2)
    lane.take(kit.filled(again, price=DOWN))
    assert lane.size("AAA") == 0.0
    assert not [name for name in lane.state.timers if name.startswith("retry:")]


def test_an_end_that_misses_fills_asks_for_them(lane):
    enter(lane)
    (place,) = leave(lane)
    assert lane.take(kit.gone(place, -400)).commands == (Query(place.cloid),)
    assert lane.take(kit.gone(place, -400)).commands == ()
    again = lane.due(lane.state.clock_ms + 5_000)
    assert again == [Query(place.cloid)]
    assert lane.due(lane.state.clock_ms + 5_000) == again  # the answer may be lost
    lane.take(kit.filled(place, -400, price=DOWN))
    assert kit.sent(lane.due(lane.state.clock_ms + 5_000))[0].lots == -509


def test_a_flat_position_is_not_closed_again(lane):
    enter(lane)
    (place,) = leave(lane)
    lane.take(kit.manual("AAA", -909, "m"))
    lane.take(OrderRefused(cloid=place.cloid, reason="reduce only"))
    assert kit.sent(lane.due(lane.state.clock_ms + 1_000)) == []


def test_an_attempt_that_came_back_to_life_does_not_repeat_a_later_one(lane):
    enter(lane)
    (first,) = leave(lane)
    lane.take(OrderRefused(cloid=first.cloid, reason="busy"))
    (second,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
    lane.take(kit.accepted(first))  # the refusal was of a repetition
    assert lane.state.orders[first.cloid].state == "SENT"
    lane.take(kit.gone(first))
    assert kit.sent(lane.due(lane.state.clock_ms + 1_000)) == []  # the second attempt is alive
    lane.take(kit.gone(second))
    (third,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
    assert third.intent.attempt == 3
    assert len({first.cloid, second.cloid, third.cloid}) == 3


def test_a_signal_that_changes_its_mind_cancels_the_exit(lane):
    enter(lane)
    (place,) = leave(lane)
    lane.take(kit.accepted(place))
    assert lane.close({"AAA": 130.0}) == []
    assert one(Cancel, lane.commands).cloid == place.cloid
    lane.take(kit.gone(place))
    assert kit.sent(lane.due(lane.state.clock_ms + 1_000)) == []
    assert lane.size("AAA") == 9.09


def test_an_exit_that_is_withdrawn_before_it_is_sent_expires(lane):
    enter(lane)
    lane.take(HoldsChanged(holds={"stop": kit.hold("halt")}))
    assert lane.close({"AAA": DOWN}) == []
    assert lane.close({"AAA": 130.0}) == []
    assert one(Expired, lane.facts).reason == "withdrawn before it was sent"
    assert lane.take(HoldsChanged(holds={})).commands[:-1] == ()


def test_a_filled_stop_ends_the_position_and_its_exit(lane):
    enter(lane)
    (place,) = leave(lane)
    lane.take(kit.accepted(place))
    stop = kit.manual("AAA", -909, "s", kind="stop", price=95.0, step_ms=lane.state.step_ms, moment="inside")
    row = one(FillRow, lane.take(stop).rows)
    assert (row.reason, row.moment, row.time_ms) == ("stop", "inside", lane.state.step_ms)
    lane.take(kit.gone(place, reason="reduce only"))
    assert kit.sent(lane.due(lane.state.clock_ms + 1_000)) == []


# Fills


def test_a_closed_trade_has_its_money(lane):
    enter(lane)
    lane.take(Funding(key="f", symbol="AAA", usd=2.0, price=UP, venue_ms=FIRST + HOUR))
    assert one(FundingRow, lane.rows).held == 9.09
    (place,) = leave(lane)
    lane.take(kit.filled(place, price=DOWN))
    trade = of(TradeRow, lane.rows)[-1]
    assert (trade.side, trade.size, trade.reason) == ("long", 9.09, "signal")
    assert trade.pnl_usd == pytest.approx(-20 * 9.09 - 2.0 - 0.5)
    assert one(PositionRow, lane.rows).size == 0.0
    assert lane.state.books[0].step.account["cash"] == pytest.approx(kit.EQUITY + trade.pnl_usd)


@pytest.mark.parametrize("closing_first", [True, False])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_fills_of_a_reversal_may_come_in_any_order(lane, closing_first, parts):
    enter(lane)
    closing, opening = lane.close({"AAA": DOWN})
    lots = {closing.cloid: closing.lots, opening.cloid: opening.lots}
    events = [
        kit.filled(place, lots[place.cloid] // parts + (lots[place.cloid] % parts if part else 0), key=f"{i}-{part}")
        for i, place in enumerate((closing, opening))
        for part in range(parts)
    ]
    lane.take_all(events if closing_first else events[::-1])
    assert lane.size("AAA") == opening.lots / 100
    assert not lane.state.foreign
    position = lane.state.books[0].step.positions[0]
    assert (position["open_size"], position["close_frac"]) == (0.0, 0.0)
    assert position["stop"] > 0.0


def test_a_late_fill_of_a_cancelled_entry_does_not_take_from_the_next_one(lane):
    (first,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(first))
    (second,) = lane.close({"AAA": DOWN})
    assert one(Cancel, lane.commands).cloid == first.cloid
    assert second.lots < 0
    lane.take(kit.filled(first, 300))
    assert lane.size("AAA") == 3.0
    lane.take(kit.gone(first, 300))
    lane.take(kit.filled(second))
    assert lane.size("AAA") == (300 + second.lots) / 100
    assert not lane.state.foreign
    assert lane.state.books[0].step.positions[0]["open_size"] == 0.0


def test_a_fill_after_the_end_of_its_entry_is_booked(lane):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.gone(place))
    assert lane.state.books[0].step.positions[0]["open_size"] == 0.0
    lane.take(kit.filled(place, 300))
    lane.take(kit.filled(place, 609, key="rest"))
    assert lane.size("AAA") == 9.09
    assert lane.state.books[0].step.positions[0]["open_size"] == 0.0
    assert not lane.state.foreign


def test_a_foreign_fill_reduces_to_flat_and_holds_the_symbol(lane):
    enter(lane)
    (waiting,) = lane.close({"BBB": UP})
    lane.take(kit.manual("AAA", -1000, "m"))
    assert lane.size("AAA") == 0.0
    assert lane.state.foreign == {"AAA": -0.91}
    held = one(HoldSet, lane.facts)
    assert (held.name, held.hold.effect, held.hold.symbol) == ("foreign-aaa", "close_only", "AAA")
    assert one(Alert, lane.commands).severity == "critical"
    assert one(FillRow, lane.rows).reason == "manual"
    assert lane.take(kit.manual("AAA", -1, "m2")).facts == ()  # held already
    lane.take(kit.filled(waiting))
    assert lane.size("BBB") == 9.09
    assert lane.take(kit.snapshot(lane.state, positions={"AAA": (-92, 2), "BBB": (909, 2)})).facts == ()
    assert lane.state.reconciled


def test_a_foreign_fill_does_not_fill_an_entry(lane):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(place))
    outcome = lane.take(kit.manual("AAA", 100, "m"))
    assert lane.state.foreign == {"AAA": 1.0}
    assert of(Cancel, outcome.commands) == [Cancel(place.cloid)]
    lane.take(kit.filled(place))
    assert lane.size("AAA") == 9.09


@pytest.mark.parametrize(
    ("kind", "reason"), [("trade", "manual"), ("reconciled", "manual"), ("liquidation", "liquidation")]
)
def test_the_reason_of_a_fill_without_an_order_is_its_kind(lane, kind, reason):
    enter(lane)
    row = one(FillRow, lane.take(kit.manual("AAA", -100, "m", kind=kind)).rows)
    assert (row.reason, row.size) == (reason, -1.0)
    assert not lane.state.foreign


def test_a_settlement_with_the_venue_is_a_row_of_its_own(lane):
    enter(lane)
    fill = kit.manual("AAA", -909, "m", kind="liquidation", settled_usd=-5.0)
    payment, row = of(FillRow, lane.take(fill).rows)
    assert (payment.key, payment.reason, payment.cash_usd) == ("m/0", "backstop", 5.0)
    assert (row.key, row.reason, row.held) == ("m", "liquidation", 0.0)


@pytest.mark.parametrize("told", [True, False])
def test_a_fill_that_comes_early_waits_for_the_one_before_it(lane, told):
    enter(lane)
    (place,) = leave(lane)
    early = kit.filled(place, -100, key="second", start_lots=809)
    lane.take(kit.gone(place, -200))
    assert of(QueryFills, lane.take(early).commands)
    assert lane.size("AAA") == 9.09
    assert lane.take(early).commands == ()  # it waits already
    if told:
        lane.take(kit.filled(place, -100, key="first", start_lots=909))
    else:
        lane.due(lane.state.clock_ms + 5_000)
        lane.take(kit.filled(place, -100, key="first"))
    assert lane.size("AAA") == 7.09
    (again,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
    assert again.lots == -709


def test_the_end_of_a_wait_tries_the_rest_of_an_exit_again(lane):
    enter(lane)
    (place,) = leave(lane)
    lane.take(kit.gone(place, -100))
    lane.take(kit.filled(place, -100, start_lots=1))
    lane.due(lane.state.clock_ms + 5_000)
    assert lane.state.orders[place.cloid].state == "CANCELLED"
    (again,) = kit.sent(lane.due(lane.state.clock_ms + 1_000))
    assert again.lots == -809


def test_a_foreign_fill_that_comes_early_holds_the_symbol_at_the_end_of_its_wait(lane):
    assert lane.take(kit.manual("AAA", 100, "m", start_lots=5)).facts == ()
    lane.due(lane.state.clock_ms + 5_000)
    assert [fact.name for fact in lane.journal if isinstance(fact, HoldSet)] == ["foreign-aaa"]
    lane.take(kit.manual("BBB", 100, "n", start_lots=0))
    assert one(HoldSet, lane.facts).name == "foreign-bbb"


def test_old_keys_and_ended_orders_are_forgotten(lane):
    limit = 2 * core.KEPT_ORDERS
    place = enter(lane)
    order = lane.state.orders[place.cloid]
    many = {f"0x{n}": order for n in range(limit)}
    lane.state = lane.state.with_changes(orders={**many, place.cloid: order})
    lane.close()
    assert len(lane.state.orders) == core.KEPT_ORDERS
    assert place.cloid in lane.state.orders
    lane.state.keys.update(dict.fromkeys(map(str, range(20_000))))
    lane.take(kit.manual("AAA", -1, "new"))
    assert "new" in lane.state.keys
    assert f"{place.cloid}/909" not in lane.state.keys


# Unknown orders


def test_an_unknown_order_is_queried_until_the_venue_answers(lane):
    (place,) = lane.close({"AAA": UP})
    lost = OrderUnknown(cloid=place.cloid, reason="timeout")
    assert lane.take(lost).commands == (Query(place.cloid),)
    assert lane.take(lost).commands == ()  # the answer to the query was lost: the timer asks again
    assert lane.due(lane.state.clock_ms + 5_000) == [Query(place.cloid)]
    assert lane.due(lane.state.clock_ms + 5_000) == [Query(place.cloid)]
    lane.take(kit.accepted(place))
    assert lane.due(lane.state.clock_ms + 5_000) == []
    assert lane.state.orders[place.cloid].state == "SENT"


def test_an_order_that_never_arrived_is_sent_again_under_the_same_id(lane):
    (place,) = lane.close({"AAA": UP})
    lane.take(OrderUnknown(cloid=place.cloid, reason="timeout"))
    lane.take(OrderNotFound(venue_ms=lane.state.clock_ms + 1, cloid=place.cloid, final=True))
    assert lane.facts == (Sent(venue_ms=lane.state.clock_ms, cloids=(place.cloid,)),)
    assert lane.commands == (Send((place,)),)


def test_an_unknown_entry_expires_after_two_answers_past_its_time(lane):
    (place,) = lane.close({"AAA": UP})
    start = lane.state.clock_ms
    lane.take(OrderUnknown(cloid=place.cloid, reason="timeout"))
    for later, proven in ((1_000, False), (9_000, False), (10_001, True)):
        outcome = lane.take(OrderNotFound(venue_ms=start + later, cloid=place.cloid))
        assert (of(Expired, outcome.facts) != []) == proven
    assert lane.state.orders[place.cloid].state == "EXPIRED"
    assert lane.state.books[0].step.positions[0]["open_size"] == 0.0


def test_a_final_answer_that_is_older_than_the_end_of_an_order_does_not_end_it(lane):
    (place,) = lane.close({"AAA": UP})
    start = lane.state.clock_ms
    lane.take(OrderUnknown(cloid=place.cloid, reason="timeout"))
    lane.take(HoldsChanged(holds={"stop": kit.hold()}))
    assert lane.take(OrderNotFound(venue_ms=start + 1, cloid=place.cloid, final=True))[1:3] == ((), ())
    lane.take(OrderNotFound(venue_ms=start + 10_001, cloid=place.cloid, final=True))
    assert lane.state.orders[place.cloid].state == "EXPIRED"


def test_answers_about_unknown_ids_change_nothing(lane):
    before = lane.pack()
    for event in (
        OrderUnknown(cloid="0x1", reason="r"),
        OrderRefused(cloid="0x1", reason="r"),
        Expired(cloid="0x1", reason="r"),
        Sent(cloids=("0x1",)),
        Timer(name="query:0x1", due_ms=1),
        Timer(name="retry:0x1", due_ms=1),
        Decided(step_ms=FIRST, config_id="none"),
    ):
        assert lane.take(event).commands == ()
    assert lane.pack() == before


def test_a_timer_of_an_order_whose_news_came_asks_nothing(lane):
    place = enter(lane)
    assert lane.take(Timer(name=f"query:{place.cloid}", due_ms=1)).commands == ()
    assert lane.take(Timer(name=f"retry:{place.cloid}", due_ms=1)).commands == ()
    assert lane.take(OrderUnknown(cloid=place.cloid, reason="r")).commands == ()


# Holds


@pytest.mark.parametrize("symbol", ["", "AAA"])
def test_a_halt_keeps_exits_until_it_is_lifted(lane, symbol):
    enter(lane, "AAA")
    lane.take(HoldsChanged(holds={"stop": kit.hold("halt", symbol)}))
    assert lane.close({"AAA": DOWN}) == []
    assert lane.close() == []
    assert lane.due(lane.state.clock_ms + 60_000) == []
    lane.take(HoldsChanged(holds={}))
    (place,) = kit.sent(lane.commands)
    assert (place.symbol, place.lots) == ("AAA", -909)
    assert [alert.severity for alert in of(Alert, lane.commands)] == ["info"]


def test_a_halt_of_one_symbol_leaves_the_others(lane):
    enter(lane, "AAA")
    lane.take(HoldsChanged(holds={"stop": kit.hold("halt", "BBB")}))
    places = lane.close({"AAA": DOWN, "BBB": UP})
    assert {place.symbol for place in places} == {"AAA"}
    assert len(places) == 2


@pytest.mark.parametrize(("symbol", "cancelled"), [("", True), ("AAA", True), ("BBB", False)])
def test_a_hold_cancels_entries_at_the_venue_at_once_and_after_a_restart(lane, symbol, cancelled):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(place))
    expected = [Cancel(place.cloid)] if cancelled else []
    lane.take(HoldsChanged(holds={"stop": kit.hold(symbol=symbol)}))
    assert of(Cancel, lane.commands) == expected
    assert len(of(HoldRow, lane.rows)) == 1
    lane.close()
    assert of(Cancel, lane.commands) == expected
    lane.state = lane.recovered()
    lane.take(kit.started())
    assert of(Cancel, lane.commands) == expected
    lane.take(kit.gone(place, 300))
    assert of(Cancel, lane.close() and lane.commands) == []  # gone, but for the news of its fills


@pytest.mark.parametrize(("symbol", "cancelled"), [("AAA", True), ("BBB", False)])
def test_an_excluded_symbol_loses_its_entries_at_the_venue_at_once_and_after_a_restart(lane, symbol, cancelled):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(place))
    expected = [Cancel(place.cloid)] if cancelled else []
    lane.take(OverridesChanged(excluded=(symbol,)))
    assert of(Cancel, lane.commands) == expected
    assert one(Alert, lane.commands).text == (f"strategy_overrides.yaml: excluded symbols: {symbol}; sizes times 1")
    lane.take(OverridesChanged(excluded=(symbol,)))
    assert lane.commands == ()
    lane.state = lane.recovered()
    assert lane.state.overrides.excluded == (symbol,)
    lane.take(kit.started())
    assert of(Cancel, lane.commands) == expected


def test_smaller_sizes_hold_from_the_next_step_on_for_whatever_config(lane):
    lane.take(OverridesChanged(size_multiplier=0.5))
    assert lane.close({"AAA": UP})[0].lots == 454
    lane.take(kit.offer(kit.resolved(), generation=2, size_multiplier=0.5))
    assert abs(lane.close({"BBB": UP})[0].lots) == 227
    assert one(Decided, lane.facts).size_multiplier == 0.25
    lane.state = lane.recovered()
    lane.reconcile()
    lane.take(OverridesChanged())
    assert one(Alert, lane.commands).text.endswith("excluded symbols: none; sizes times 1")
    assert abs(lane.close({"CCC": UP})[0].lots) == 454


def test_a_stronger_effect_of_a_known_hold_is_an_alert(lane):
    lane.take(HoldsChanged(holds={"stop": kit.hold()}))
    lane.take(HoldsChanged(holds={"stop": kit.hold()}))
    assert lane.commands == ()
    lane.take(HoldsChanged(holds={"stop": kit.hold("halt")}))
    assert one(Alert, lane.commands).text == "hold stop (halt): a test"


def test_a_hold_that_another_of_its_name_replaces_is_lifted(lane):
    first, second = kit.hold(), msgspec.structs.replace(kit.hold("halt"), since_ms=kit.hold().since_ms + 1)
    lane.take(HoldsChanged(holds={"stop": first}))
    rows = lane.take(HoldsChanged(holds={"stop": second})).rows
    assert [(row.since_ms, row.effect, row.lifted_ms) for row in rows] == [
        (second.since_ms, "halt", None),
        (first.since_ms, "close_only", lane.state.clock_ms),
    ]


def test_a_hold_of_the_executor_is_lifted_once(lane):
    lane.take(HoldSet(name="own", hold=kit.hold()))
    assert one(HoldRow, lane.take(HoldSet(name="own", hold=None)).rows).lifted_ms == lane.state.clock_ms
    assert lane.take(HoldSet(name="own", hold=None)).rows == ()


# The account


def test_a_mismatch_is_asked_again_and_then_holds_the_symbol(lane):
    (place,) = lane.close({"BBB": UP})
    lane.take(kit.accepted(place))
    wrong = kit.snapshot(lane.state, positions={"AAA": (100, 2), "BBB": (1, 2)})
    lane.take(wrong)
    assert of(QueryFills, lane.commands)
    assert of(Snapshot, lane.commands)
    assert not lane.state.reconciled
    assert lane.facts == ()
    lane.take(wrong)
    assert [fact.name for fact in of(HoldSet, lane.facts)] == ["mismatch-aaa", "mismatch-bbb"]
    assert lane.facts[0].hold.reason == "AAA: the account holds 1 coins, the lane 0"
    assert Cancel(place.cloid) in lane.commands
    assert lane.state.reconciled
    assert lane.take(wrong).facts == ()
    assert [place.symbol for place in lane.close({"AAA": UP, "CCC": UP})] == ["CCC"]
    lane.take(kit.snapshot(lane.state))
    assert lane.state.mismatches == 0


def test_an_order_that_the_account_does_not_list_is_queried(lane):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(place))
    assert lane.take(kit.snapshot(lane.state)).commands == ()
    assert lane.take(kit.snapshot(lane.state, open_orders=())).commands == (Query(place.cloid),)


def test_a_start_asks_for_all_news_and_ends_what_was_not_sent(lane):
    accepted, unknown = lane.close({"AAA": UP, "BBB": UP})
    lane.take(kit.accepted(accepted))
    lane.take(kit.started())
    assert [order.state for order in lane.state.orders.values()] == ["SENT", "UNKNOWN"]
    assert of(Query, lane.commands) == [Query(accepted.cloid), Query(unknown.cloid)]
    assert of(QueryFills, lane.commands)
    assert of(Snapshot, lane.commands)
    assert lane.due(lane.state.clock_ms + 5_000) == [Query(unknown.cloid)]


def decided(lane, *places):
    return Decided(step_ms=lane.state.step_ms, config_id=lane.state.books[0].config_id, orders=places)


def test_an_entry_that_was_not_sent_expires_at_a_start(lane):
    (place,) = lane.close({"AAA": UP})
    unsent = msgspec.structs.replace(place, cloid="0x1")
    lane.take(decided(lane, unsent))
    lane.take(kit.started())
    assert [fact.cloid for fact in of(Expired, lane.facts)] == ["0x1"]


def ioc_reversal(lane):
    """A reversal as a broker of a venue gets it: the opening order waits for the closing one."""
    enter(lane)
    closing, opening = (msgspec.structs.replace(place, tif="ioc") for place in lane.close({"AAA": DOWN}))
    lane.state = replace(
        lane.state,
        orders={place.cloid: kit_order(place, state) for place, state in ((closing, "SENT"), (opening, "NEW"))},
    )
    return closing, opening


def kit_order(place, state):
    return core.Order(place=place, state=state)


def test_the_opening_order_of_a_reversal_is_sent_when_the_book_is_flat(lane):
    closing, opening = ioc_reversal(lane)
    assert lane.take(CaughtUp()).commands == ()
    assert lane.take(kit.filled(closing, -400, price=DOWN)).commands == ()
    lane.take(kit.filled(closing, -509, key="rest", price=DOWN))
    assert kit.sent(lane.commands) == [opening]


@pytest.mark.parametrize("late", [False, True])
def test_the_opening_order_of_a_reversal_is_dropped_if_the_position_is_left(lane, late):
    closing, opening = ioc_reversal(lane)
    if late:
        lane.take(CaughtUp(venue_ms=opening.expires_ms + 1))
    else:
        lane.take(kit.gone(closing))
    assert kit.sent(lane.commands) == []
    assert one(Expired, lane.facts) == Expired(
        venue_ms=lane.state.clock_ms, cloid=opening.cloid, reason="it was not sent in time"
    )


# Money


def test_transfers_and_funding_count_once(lane):
    for _ in range(2):
        lane.take(Transfer(key="t", usd=100.0))
        lane.take(Funding(key="f", symbol="AAA", usd=3.0))
        lane.take(Funding(key="g", symbol="OTHER", usd=4.0, step_ms=FIRST - HOUR))
    assert lane.state.books[0].step.account["cash"] == kit.EQUITY + 93.0
    assert lane.rows == ()


@pytest.mark.parametrize("usd", [2_500.0, -4_000.0])
def test_a_transfer_is_no_profit_and_no_drawdown(lane, usd):
    lane.close()
    lane.close()
    before = lane.state
    for _ in range(2):  # it counts once
        lane.take(Transfer(key="t", usd=usd))
    assert (lane.state.transfers_usd, lane.state.peak_usd) == (usd, before.peak_usd + usd)
    assert lane.recovered().transfers_usd == usd
    lane.close()
    lane.close()
    assert lane.state.drawdown_usd == before.drawdown_usd == 0.0


def test_a_withdrawal_of_everything_starts_the_peak_again(lane):
    lane.close()
    lane.close()
    lane.take(Transfer(key="t", usd=-kit.EQUITY - 5.0))
    assert lane.state.peak_usd == -5.0
    lane.take(Transfer(key="u", usd=105.0))
    assert lane.state.peak_usd == 100.0


def test_terms_hold_from_their_time_on(lane):
    lane.take(kit.terms("AAA", from_ms=FIRST + 2 * HOUR, size_decimals=0))
    assert lane.close({"AAA": UP})[0].lots == 909
    (place,) = lane.close({"AAA": DOWN})
    assert (place.lots, place.lot_decimals) == (-11, 0)
    lane.take(kit.terms("AAA", from_ms=FIRST + 2 * HOUR + 1, size_decimals=1))
    assert [change.size_decimals for change in lane.state.terms["AAA"]] == [0, 1]
    lane.close()
    assert lane.close({"AAA": 130.0})[0].lot_decimals == 1


def test_a_delisted_symbol_ends_with_its_last_bar(lane):
    lane.take(kit.terms("AAA", from_ms=1, last_open_ms=FIRST))
    lane.close()
    assert lane.state.books[0].step.market.ends[0] == 1


# Configs


def test_a_new_size_or_pause_holds_from_the_next_step_on(lane):
    lane.take(kit.offer(kit.resolved(), generation=2, size_multiplier=0.5))
    assert [row.change for row in of(ConfigChangeRow, lane.rows)] == ["resized"]
    assert lane.close({"AAA": UP})[0].lots == 454
    lane.take(kit.offer(kit.resolved(), generation=3, state="paused"))
    assert [row.change for row in of(ConfigChangeRow, lane.rows)] == ["resized", "paused"]
    lane.take(kit.offer(kit.resolved(), generation=4))
    assert [row.change for row in of(ConfigChangeRow, lane.rows)] == ["resumed"]
    assert lane.take(kit.offer(kit.resolved(), generation=4)).rows == ()


def test_an_older_config_changes_nothing(lane):
    lane.take(kit.offer(kit.resolved(), generation=5))
    before = lane.pack()
    for late in (other_config(), kit.resolved()):
        outcome = lane.take(kit.offer(late, generation=4, kernel_hash="b" * 64, state="paused"))
        assert outcome.facts == ()
        assert one(Alert, outcome.commands).text.endswith("of generation 4 is refused: the lane has generation 5")
        assert one(ConfigChangeRow, outcome.rows).reason == "the lane has generation 5"
    assert lane.pack() == before


def test_a_config_with_other_steps_is_refused(lane):
    before = lane.pack()
    for other in (kit.resolved(exit_interval="15m"), kit.resolved(entry_interval="30m", exit_interval="1h")):
        lane.take(kit.offer(other, generation=2))
        assert "long, those of the lane 1h; offer it to another lane" in one(Alert, lane.commands).text
        assert one(ConfigChangeRow, lane.rows).change == "refused"
        assert of(Warm, lane.commands) == []
    assert lane.pack() == before


def test_a_second_book_opens_while_the_first_one_drains_and_cash_is_conserved(lane):
    enter(lane)
    first = lane.state.books[0]
    lane.take(kit.offer(other_config(), generation=2))
    assert lane.commands == (Warm(lane.state.waiting.config_id),)
    lane.open_waiting()
    old, new = lane.state.books
    opened = one(OpenBook, lane.commands)
    assert (old.draining, new.draining, opened.from_config_id) == (True, False, old.config_id)
    assert opened.usd == float(new.step.account["cash"])
    assert float(old.step.account["cash"]) == pytest.approx(float(old.step.account["margin"]))
    assert float(old.step.account["cash"] + new.step.account["cash"]) == pytest.approx(kit.EQUITY - 0.25)

    lane.take(kit.offer(other_config(0.3), generation=3))
    assert lane.commands == ()  # a third one waits
    (entry,) = lane.close({"BBB": UP})
    assert entry.config_id == new.config_id
    fact = one(Decided, [f for f in lane.facts if getattr(f, "orders", ())])
    assert (fact.reserved_places, fact.reserved_margin_usd) == (1, float(old.step.account["margin"]))
    assert fact.other_usd == pytest.approx(books.equity_of(old.step))

    closing, opening = (*lane.close({"AAA": DOWN}), None)[:2]
    assert (closing.config_id, opening) == (old.config_id, None)
    lane.take(kit.filled(closing, price=DOWN))
    total = sum(float(book.step.account["cash"]) for book in lane.state.books)
    lane.close()
    assert [book.config_id for book in lane.state.books] == [new.config_id]
    assert float(new.step.account["cash"]) == pytest.approx(total)
    ended = one(CloseBook, lane.commands)
    assert (ended.config_id, ended.to_config_id) == (first.config_id, new.config_id)
    assert of(Warm, lane.commands) == [Warm(lane.state.waiting.config_id)]
    lane.open_waiting()
    assert len(lane.state.books) == 2


def test_a_book_at_a_loss_keeps_what_its_position_needs(lane):
    enter(lane, price=UP)
    lane.take(HoldsChanged(holds={"stop": kit.hold("halt")}))
    lane.close({"AAA": 50.0})
    lane.take(kit.offer(other_config(), generation=2))
    lane.open_waiting()
    old = lane.state.books[0].step
    assert float(old.account["cash"]) == pytest.approx(float(old.account["margin"]) + 60 * 9.09)


def test_the_equity_of_a_lane_is_that_of_its_books(lane):
    enter(lane)
    lane.close({"AAA": 120.0})
    assert configs.lane_equity(lane.state) == pytest.approx(kit.EQUITY - 0.25 + 10 * 9.09)


def test_an_order_of_a_book_that_ended_is_not_tried_again(lane):
    place = enter(lane)
    closing = msgspec.structs.replace(place, config_id="ended", reduce_only=True)
    lane.state = lane.state.with_changes(orders={closing.cloid: core.Order(place=closing, state="CANCELLED")})
    assert next_attempt(lane.state, lane.state.orders[closing.cloid]) is None


def test_a_flat_book_hands_over_everything_at_the_next_step(lane):
    lane.take(kit.offer(other_config(), generation=2))
    lane.open_waiting()
    assert [float(book.step.account["cash"]) for book in lane.state.books] == [0.0, kit.EQUITY]
    lane.close()
    assert len(lane.state.books) == 1


def test_the_return_to_the_draining_config_waits_for_its_end(lane):
    enter(lane)
    lane.take(kit.offer(other_config(), generation=2))
    lane.open_waiting()
    lane.take(kit.offer(kit.resolved(), generation=3))
    assert lane.commands == ()
    lane.take(kit.offer(other_config(), generation=4))
    assert lane.state.waiting is None


def test_a_config_of_other_kernels_keeps_exits_and_holds_the_lane(lane):
    enter(lane)
    lane.take(kit.offer(kit.resolved(), generation=2, kernel_hash="b" * 64))
    assert one(HoldSet, lane.facts).name == "kernels"
    assert one(Alert, lane.commands).severity == "critical"
    assert [place.intent.purpose for place in lane.close({"AAA": DOWN})] == ["exit"]
    lane.take(kit.offer(kit.resolved(), generation=3, kernel_hash="b" * 64))
    assert lane.facts == ()
    lane.take(kit.offer(kit.resolved(), generation=4))
    assert one(HoldSet, lane.facts).hold is None


def test_a_config_that_waits_does_not_hold_the_present_one(lane):
    lane.take(kit.offer(other_config(), generation=2, kernel_hash="b" * 64))
    assert lane.facts == ()
    lane.open_waiting()
    assert one(HoldSet, lane.facts).name == "kernels"


def test_a_lane_that_died_before_its_first_book_asks_for_it_again(mei_settings):
    lane = kit.Lane(LaneState(kit.make_setup(mei_settings)))
    lane.take(kit.offer(kit.resolved()))
    lane.take(kit.started())
    assert of(Warm, lane.commands) == [Warm(lane.state.waiting.config_id)]


def test_features_of_another_config_or_time_are_a_defect(lane):
    config = other_config()
    lane.take(kit.offer(config, generation=2))
    step, fact = lane.bars.warm(lane.state.setup.make_plan(lane.state.waiting), FIRST)
    with pytest.raises(Fatal, match="does not wait for it"):
        lane.take(msgspec.structs.replace(fact, config_id="other"), step)
    with pytest.raises(Fatal, match="does not wait for it"):
        lane.take(fact)
    with pytest.raises(Fatal, match="the lane's last step ends 2026-01-01 08:00Z"):
        lane.take(msgspec.structs.replace(fact, until_ms=ANCHOR), step)


def test_sub_bars_decide_between_main_bars(mei_settings):
    config = kit.resolved(symbols=("AAA",), exit_interval="30m")
    lane = kit.new_lane(mei_settings, config)
    half = HOUR // 2
    assert lane.state.next_step_ms == FIRST
    lane.take(kit.bar("AAA", FIRST, 105.0, interval="30m"))
    lane.take(msgspec.structs.replace(kit.closed(FIRST, ("AAA",)), venue_ms=FIRST + half))
    assert lane.facts == ()
    lane.take(kit.bar("AAA", FIRST + half, UP, 105.0, interval="30m"))
    lane.take(kit.bar("AAA", FIRST, UP, 100.0))
    lane.take(msgspec.structs.replace(kit.closed(FIRST + half, ("AAA",)), venue_ms=FIRST + HOUR))
    assert [place.intent.purpose for place in kit.sent(lane.commands)] == ["entry"]


def test_orders_wait_the_bars_of_the_fill_model(mei_settings):
    market = {"market.fill": "next_open", "market.delay_bars": 1}
    lane = kit.new_lane(mei_settings, kit.resolved(market=market))
    (place,) = lane.close({"AAA": UP})
    waits = [lane.state.books[0].step.positions[0]["open_wait"]]
    for _ in range(3):
        lane.close()
        waits.append(lane.state.books[0].step.positions[0]["open_wait"])
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] == 0.0 < waits[0]
    assert lane.state.orders[place.cloid].state == "SENT"


def test_fills_of_a_later_step_end_the_one_before(lane):
    place = enter(lane)
    fill = kit.filled(place, 1, key="later", step_ms=FIRST + HOUR, moment="open")
    assert one(EquityRow, lane.take(fill).rows).step_ms == FIRST
    assert isinstance(fill, Fill)


# Plans and lots


def test_market_data_of_other_symbols_and_intervals_changes_no_book(lane):
    before = lane.state.books[0].step.market.close.copy()
    lane.take(kit.bar("OTHER", FIRST, UP))
    lane.take(kit.bar("AAA", FIRST + 30 * 60_000, UP, interval="30m"))
    lane.take(FundingRate(symbol="OTHER", due_ms=FIRST + HOUR, rate=0.1))
    step = lane.state.books[0].step
    assert step.market.close.tobytes() == before.tobytes()
    assert not step.market.funding.any()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"anchor_ms": ANCHOR + 1}, DataError, "is not the open time of a bar of 1h; promote it again"),
        ({"config": kit.as_dict(kit.resolved()) | {"strategy": "none"}}, DataError, "its content has another id"),
    ],
)
def test_a_config_that_does_not_fit_has_no_plan(lane, changes, error, message):
    offered = msgspec.structs.replace(kit.offer(kit.resolved(), generation=9), **changes)
    with pytest.raises(error, match=message):
        lane.state.setup.make_plan(offered)


def test_a_position_of_finer_lots_keeps_them():
    assert books.to_lots(0.125, 1) == (125, 3)
    assert books.to_lots(-3.0, 0) == (-3, 0)
    with pytest.raises(Fatal, match="not a whole number of lots"):
        books.to_lots(1e-19, 2)


def test_a_state_has_no_other_fields() -> None:
    state = LaneState(LaneSetup("paper1", "paper", ("00c0ffee",), 1.0, "", lambda _offer: None))
    assert state.with_changes(clock_ms=5).clock_ms == 5
    assert state.clock_ms == 0
    with pytest.raises(TypeError, match="LaneState has no field clock"):
        state.with_changes(clock=5)
