"""Requests to a lane in its core: executed once, answered always, and recovered as they were."""

import execution_kit as kit
import msgspec
import pytest
from execution_kit import DOWN, UP

from mei_pipeline.execution.commands import Alert, Cancel, Send
from mei_pipeline.execution.events import (
    ConfigOffered,
    Flattened,
    HoldsChanged,
    HoldSet,
    OperatorRequested,
    OrderGone,
    RequestAnswered,
    Started,
)
from mei_pipeline.execution.operating import LONGEST_MS
from mei_pipeline.execution.rows import FillRow, HoldRow, TradeRow

NOW = 5_000_000


@pytest.fixture
def lane(mei_settings):
    return kit.new_lane(mei_settings)


def request(verb="flatten", id="r1", **changes):  # noqa: A002 - the name in the file
    values = {"who": "anna", "arguments": {}, "created_ms": NOW, "expires_ms": NOW + 1, "taken_ms": NOW}
    return OperatorRequested(id=id, verb=verb, **values | changes)


def of(kind, values):
    return [value for value in values if isinstance(value, kind)]


def answer(lane):
    (fact,) = of(RequestAnswered, lane.facts)
    return fact.state, fact.text


def enter(lane, symbol="AAA", price=UP):
    (place,) = lane.close({symbol: price})
    lane.take(kit.accepted(place))
    lane.take(kit.filled(place, price=price))
    return place


def pause(lane, effect="close_only", symbol=""):
    lane.take(HoldsChanged(holds={"pause": kit.hold(effect, symbol)}))


# Flatten


def test_flatten_closes_every_position_on_request(lane):
    enter(lane)
    enter(lane, "BBB")
    pause(lane)
    lane.take(request(arguments={"symbols": ()}))
    assert answer(lane) == ("done", "closing AAA 9.09, BBB 9.09")
    first, second = kit.sent(lane.commands)
    assert [(each.symbol, each.lots, each.reduce_only) for each in (first, second)] == [
        ("AAA", -909, True), ("BBB", -909, True)
    ]  # fmt: skip
    assert (first.intent.origin, first.intent.purpose, first.intent.attempt) == ("request:r1", "flatten", 1)
    # The facts are in one transaction with the request, the orders before they are sent.
    assert [type(fact).__name__ for fact in lane.facts] == ["RequestAnswered", "Flattened", "Sent"]
    lane.take_all([kit.accepted(first), kit.accepted(second)])
    lane.take(kit.filled(first, price=120.0))
    (fill,), (trade,) = of(FillRow, lane.rows), of(TradeRow, lane.rows)
    assert (fill.reason, fill.held, trade.reason) == ("manual", 0.0, "manual")
    lane.take(kit.filled(second))
    assert (lane.size("AAA"), lane.size("BBB")) == (0.0, 0.0)
    assert {order.state for order in lane.state.orders.values()} == {"FILLED"}


def test_flatten_of_one_symbol_leaves_the_others(lane):
    enter(lane)
    enter(lane, "BBB")
    lane.take(request(arguments={"symbols": ("BBB", "CCC")}))
    assert answer(lane) == ("done", "closing BBB 9.09")
    assert [place.symbol for place in kit.sent(lane.commands)] == ["BBB"]


def test_flatten_takes_the_place_of_an_exit_and_cancels_an_entry(lane):
    enter(lane)
    closing, opening = lane.close({"AAA": DOWN})
    lane.take_all([kit.accepted(closing), kit.accepted(opening)])
    pause(lane)
    lane.take(request())
    assert answer(lane) == ("done", "closing AAA 9.09; earlier orders to cancel: 2")
    (place,) = kit.sent(lane.commands)
    assert {each.cloid for each in of(Cancel, lane.commands)} == {closing.cloid, opening.cloid}
    # Cancels leave before the order that takes their place.
    assert isinstance(of((Cancel, Send), lane.commands)[-1], Send)
    lane.take(kit.gone(closing))
    lane.take(kit.accepted(place))
    lane.take(kit.gone(opening))
    assert lane.state.books[0].step.positions["close_frac"][0] == 1.0
    # The exit that was cancelled is not tried again, and no signal takes the flattening back.
    assert not kit.sent(lane.due(lane.state.clock_ms + 5_000))
    lane.take(HoldsChanged(holds={"pause": kit.hold()}))
    assert lane.close({"AAA": 130.0}) == []
    lane.take(kit.filled(place))
    assert lane.size("AAA") == 0.0


def test_flatten_cancels_an_entry_that_waits(lane):
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.accepted(place))
    lane.take(request(arguments={"symbols": ("AAA",)}))
    assert answer(lane) == ("done", "closing no position; earlier orders to cancel: 1")
    assert [each.cloid for each in of(Cancel, lane.commands)] == [place.cloid]
    assert of(Flattened, lane.facts)[0].orders == ()


def test_flatten_of_a_flat_lane_does_nothing(lane):
    lane.take(request())
    assert answer(lane) == ("done", "no position and no order to close")
    assert [type(command) for command in lane.commands] == [Alert]


def test_flatten_closes_the_rest_of_a_part(lane):
    enter(lane)
    lane.take(request())
    (place,) = kit.sent(lane.commands)
    lane.take(kit.accepted(place))
    lane.take(kit.filled(place, -400))
    lane.take(kit.gone(place, -400))
    assert round(lane.size("AAA"), 2) == 5.09
    (again,) = kit.sent(lane.due(lane.state.clock_ms + 5_000))
    assert (again.intent.origin, again.intent.purpose, again.intent.attempt, again.lots) == (
        "request:r1", "flatten", 2, -509
    )  # fmt: skip
    lane.take(kit.filled(again))
    assert lane.size("AAA") == 0.0


def test_flatten_closes_a_draining_book_too(lane):
    enter(lane)
    other = kit.offer(kit.resolved(params={"trade.size_frac": 0.2}), 2)
    assert isinstance(other, ConfigOffered)
    lane.take(other)
    lane.open_waiting()
    lane.reconcile()
    (place,) = lane.close({"BBB": UP})
    lane.take_all([kit.accepted(place), kit.filled(place, price=UP)])
    lane.take(request())
    state, text = answer(lane)
    assert (state, text.startswith("closing AAA 9.09, BBB ")) == ("done", True)
    assert len({order.config_id for order in kit.sent(lane.commands)}) == 2


@pytest.mark.parametrize("symbol", ["", "AAA"])
def test_a_halt_refuses_to_flatten(lane, symbol):
    enter(lane)
    pause(lane, "halt", symbol)
    before = lane.state.books[0].step.positions.tobytes()
    lane.take(request())
    state, text = answer(lane)
    assert (state, "a hold halts every order of AAA" in text) == ("refused", True)
    assert [type(fact) for fact in lane.facts] == [RequestAnswered]
    assert lane.state.books[0].step.positions.tobytes() == before
    # A halt of a symbol without a position is no reason.
    pause(lane, "halt", "CCC")
    lane.take(request(id="r2"))
    assert answer(lane)[0] == "done"


# Once, and answered


def test_a_request_is_executed_once(lane):
    enter(lane)
    lane.take(request())
    first = lane.state.answers["r1"]
    for again in (request(), request(arguments={"symbols": ("AAA",)}, who="bert", taken_ms=NOW + 9)):
        lane.take(again)
        assert (lane.facts, lane.commands, lane.state.answers["r1"]) == ((), (), first)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"expires_ms": NOW}, "expired", "it expired 1970-01-01"),
        ({"expires_ms": NOW + LONGEST_MS + 1}, "refused", "more than 7 days ahead"),
        ({"verb": "explode"}, "refused", "verb 'explode': unknown; allowed are flatten, lift"),
        ({"arguments": {"symbol": ("AAA",)}}, "refused", "argument 'symbol': unknown; flatten takes symbols"),
        ({"arguments": {"symbols": ("AAA", "XXX")}}, "refused", "symbol XXX: the lane trades AAA, BBB, CCC"),
        ({"verb": "lift"}, "refused", "holds: empty; name the holds to lift; the executor has set none"),
        ({"verb": "lift", "arguments": {"holds": ("x",)}}, "refused", "hold x: the executor has not set it"),
    ],
)
def test_a_request_that_is_not_executed_is_answered(lane, changes, state, words):
    enter(lane)
    lane.take(request(why="a try", **changes))
    found, text = answer(lane)
    assert (found, words in text) == (state, True)
    assert [type(fact) for fact in lane.facts] == [RequestAnswered]
    (alert,) = lane.commands
    assert (alert.key, "of anna (a try)" in alert.text, text in alert.text) == ("request-r1", True, True)


def test_a_lane_without_a_book_trades_nothing(mei_settings):
    lane = kit.Lane(kit.LaneState(kit.make_setup(mei_settings)))
    lane.take(request())
    assert answer(lane) == ("done", "no position and no order to close")
    lane.take(request(id="r2", arguments={"symbols": ("AAA",)}))
    assert answer(lane) == ("refused", "symbol AAA: the lane trades nothing")


def test_answers_are_forgotten_after_their_requests_have_expired_long_ago(lane):
    lane.take(request())
    later = NOW + LONGEST_MS
    lane.take(request(id="r2", taken_ms=later, expires_ms=later + 1))
    assert set(lane.state.answers) == {"r1", "r2"}
    lane.take(request(id="r3", taken_ms=later + 1, expires_ms=later + 2))
    assert set(lane.state.answers) == {"r2", "r3"}
    # The forgotten request has expired, whenever it is read again.
    lane.take(request(taken_ms=later + 2))
    assert answer(lane)[0] == "expired"


# Holds of the executor


def test_a_hold_of_the_executor_is_lifted_on_request(lane):
    lane.take(kit.manual("AAA", 100, "m1"))
    assert set(lane.state.own_holds) == {"foreign-aaa"}
    lane.take(request("lift", arguments={"holds": ("foreign-aaa", "foreign-aaa")}))
    assert answer(lane) == ("done", "lifted foreign-aaa")
    assert [(fact.name, fact.hold) for fact in of(HoldSet, lane.facts)] == [("foreign-aaa", None)]
    assert of(HoldRow, lane.rows)[0].lifted_ms == lane.state.clock_ms
    assert lane.state.own_holds == {}
    # It stays lifted while the lane trades the symbol, until foreign coins come or go again.
    enter(lane)
    assert lane.state.own_holds == {}
    lane.take(kit.manual("AAA", 1, "m2"))
    assert set(lane.state.own_holds) == {"foreign-aaa"}


def test_the_hold_of_other_kernels_ends_by_itself_alone(mei_settings):
    lane = kit.new_lane(mei_settings)
    lane.take(kit.offer(kit.resolved(), 2, kernel_hash="b" * 64))
    assert set(lane.state.own_holds) == {"kernels"}
    lane.take(request("lift", arguments={"holds": ("kernels",)}))
    assert answer(lane)[0] == "refused"
    assert set(lane.state.own_holds) == {"kernels"}


# Recovery


def test_a_recovered_lane_has_the_answers_and_does_not_execute_again(lane):
    packed, seq = lane.pack(), len(lane.journal)
    enter(lane)
    closing, opening = lane.close({"AAA": DOWN})
    lane.take_all([kit.accepted(closing), kit.accepted(opening)])
    lane.take(request())
    (place,) = kit.sent(lane.commands)
    for again in (lane.recovered(), lane.recovered(packed, lane.journal[seq:])):
        assert again.answers == lane.state.answers
        assert again.orders == lane.state.orders
        assert again.books[0].step.positions.tobytes() == lane.state.books[0].step.positions.tobytes()
    later = kit.Lane(lane.recovered(), lane.bars)
    later.take(request())
    assert (later.facts, later.commands) == ((), ())
    # The order was handed to the broker, and its answer was lost.
    later.take(Started(kernel_hash=kit.KERNELS, mode="paper", feed="replay"))
    assert later.state.orders[place.cloid].state == "UNKNOWN"
    assert lane.recovered(lane.pack(), []).answers == lane.state.answers


def test_a_flattening_of_a_book_that_is_gone_changes_nothing(lane):
    enter(lane)
    lane.take(request())
    (fact,) = of(Flattened, lane.facts)
    other = msgspec.structs.replace(fact.orders[0], config_id="f" * 64)
    lane.take(Flattened(orders=(other,)))
    assert lane.state.orders[other.cloid] is not None


def test_a_late_exit_that_was_not_sent_gives_way(lane):
    enter(lane)
    pause(lane)
    assert lane.close({"AAA": DOWN}, late_ms=60_000) == []
    (waiting,) = [order for order in lane.state.orders.values() if order.state == "NEW"]
    lane.take(request())
    (place,) = kit.sent(lane.commands)
    assert lane.state.orders[waiting.place.cloid].state == "EXPIRED"
    assert not kit.sent(lane.due(lane.state.clock_ms + 5_000))
    lane.take(kit.filled(place))
    assert lane.size("AAA") == 0.0
    assert not of(OrderGone, lane.journal)
