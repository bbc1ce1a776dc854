"""States of an order: every state with every event, and the orders in which events may arrive."""

import itertools

import execution_kit as kit
import msgspec
import pytest

from mei_pipeline.execution import orders
from mei_pipeline.execution.commands import ENDED, Intent, Order, Place
from mei_pipeline.execution.events import (
    CaughtUp,
    Expired,
    OrderAccepted,
    OrderNotFound,
    OrderRefused,
    OrderUnknown,
    Sent,
)

INTENT = Intent("step:60000", "AAA", "entry")
CLOID = orders.cloid_of("0000abcd", INTENT)
PLACE = Place(
    intent=INTENT, cloid=CLOID, config_id="c", symbol="AAA", lots=10, lot_decimals=kit.DECIMALS, expires_ms=10_000
)
NOW = 5_000

ORDERS = {
    "NEW": Order(place=PLACE),
    "SENT": Order(place=PLACE, state="SENT"),
    "SENT accepted": Order(place=PLACE, state="SENT", accepted=True, oid="o"),
    "UNKNOWN": Order(place=PLACE, state="UNKNOWN"),
    "PARTIAL": Order(place=PLACE, state="PARTIAL", accepted=True, oid="o", filled_lots=4),
    "PARTIAL gone": Order(place=PLACE, state="PARTIAL", accepted=True, oid="o", filled_lots=4, gone_lots=7),
    "FILLED": Order(place=PLACE, state="FILLED", accepted=True, oid="o", filled_lots=10),
    "CANCELLED": Order(place=PLACE, state="CANCELLED", accepted=True, oid="o", filled_lots=4, gone_lots=4),
    "REJECTED": Order(place=PLACE, state="REJECTED"),
    "EXPIRED": Order(place=PLACE, state="EXPIRED"),
}

EVENTS = {
    "sent": Sent(cloids=(CLOID,)),
    "started": kit.started(),
    "accepted": OrderAccepted(cloid=CLOID, oid="o"),
    "refused": OrderRefused(cloid=CLOID, reason="r"),
    "lost": OrderUnknown(cloid=CLOID, reason="r"),
    "not found": OrderNotFound(cloid=CLOID),
    "expired": Expired(cloid=CLOID, reason="r"),
    "fill 3": kit.filled(PLACE, 3),
    "fill 10": kit.filled(PLACE, 10),
    "gone 0": kit.gone(PLACE),
    "gone 7": kit.gone(PLACE, 7),
    "caught up": CaughtUp(),
}

TABLE = """
               sent    started accepted refused  lost    not_found expired fill_3    fill_10 gone_0    gone_7  caught_up
NEW            SENT    =       SENT     REJECTED UNKNOWN =         EXPIRED PARTIAL   FILLED  CANCELLED PARTIAL   =
SENT           SENT    UNKNOWN SENT     REJECTED UNKNOWN UNKNOWN   EXPIRED PARTIAL   FILLED  CANCELLED PARTIAL   =
SENT_accepted  =       =       =        =        =       =         =       PARTIAL   FILLED  CANCELLED PARTIAL   =
UNKNOWN        SENT    =       SENT     REJECTED =       UNKNOWN   EXPIRED PARTIAL   FILLED  CANCELLED PARTIAL   =
PARTIAL        =       =       =        =        =       =         =       PARTIAL   FILLED  CANCELLED PARTIAL   =
PARTIAL_gone   =       =       =        =        =       =         =       CANCELLED FILLED  =         =         =
FILLED         =       =       =        =        =       =         =       FILLED    FILLED  =         =         =
CANCELLED      =       =       =        =        =       =         =       CANCELLED FILLED  =         =         =
REJECTED       =       =       SENT     =        =       =         =       PARTIAL   FILLED  CANCELLED PARTIAL   =
EXPIRED        =       =       SENT     =        =       =         =       PARTIAL   FILLED  CANCELLED PARTIAL   =
"""


def cells():
    head, *lines = [line.split() for line in TABLE.strip().splitlines()]
    for state, *after in lines:
        for event, expected in zip(head, after, strict=True):
            yield pytest.param(state.replace("_", " "), event.replace("_", " "), expected, id=f"{state}-{event}")


@pytest.mark.parametrize(("state", "event", "expected"), list(cells()))
def test_every_state_with_every_event(state, event, expected):
    before = ORDERS[state]
    after = orders.advance(before, EVENTS[event], NOW)
    if expected == "=":
        assert after is before
    else:
        assert (after.state, after.updated_ms) == (expected, NOW)


def test_the_table_has_every_state_and_event():
    assert {(cell.values[0], cell.values[1]) for cell in cells()} == set(itertools.product(ORDERS, EVENTS))
    assert {order.state for order in ORDERS.values()} == {"NEW", "SENT", "UNKNOWN", "PARTIAL", *ENDED}


def run(events, order=ORDERS["NEW"]):
    """The order after events; a fill that is repeated is left out, as the book leaves it out."""
    seen = set()
    for now_ms, event in enumerate(events, NOW):
        key = getattr(event, "key", None)
        if key is None or key not in seen:
            order = orders.advance(order, event, now_ms)
        seen.add(key)
    return order


SENT, LOST, STARTED, ACCEPTED = (EVENTS[name] for name in ("sent", "lost", "started", "accepted"))
PARTS = [kit.filled(PLACE, lots, key=f"f{lots}") for lots in (2, 3, 5)]

STORIES = {
    "filled in parts": ([ACCEPTED, *PARTS], "FILLED", 10),
    "filled at once, answer lost": ([ACCEPTED, EVENTS["fill 10"], LOST], "FILLED", 10),
    "partly filled, then cancelled": ([ACCEPTED, PARTS[0], PARTS[1], kit.gone(PLACE, 5)], "CANCELLED", 5),
    "cancelled without a fill": ([ACCEPTED, kit.gone(PLACE), STARTED], "CANCELLED", 0),
    "sent twice and refused once": ([ACCEPTED, EVENTS["refused"], *PARTS[1:]], "PARTIAL", 8),
    "restart before the answer": ([STARTED, LOST, EVENTS["not found"], ACCEPTED], "SENT", 0),
    "thought dead, and filled": ([EVENTS["expired"], *PARTS], "FILLED", 10),
}


@pytest.mark.parametrize("story", STORIES)
def test_events_end_in_the_same_state_in_any_order_and_twice(story):
    events, state, lots = STORIES[story]
    for some in itertools.permutations(events):
        for repeated in [some, some + some, [each for event in some for each in (event, event)]]:
            order = run([SENT, *repeated])
            assert (order.state, order.filled_lots, order.accepted) == (state, lots, True), repeated
            assert order.oid == "o" or not order.oid or order.oid == f"o-{CLOID[-6:]}"


@pytest.mark.parametrize("some", list(itertools.permutations([SENT, LOST, STARTED, EVENTS["refused"]])))
def test_a_refusal_ends_an_order_that_nothing_confirmed(some):
    order = run(some)
    assert (order.state, order.reason, order.ended, order.left_lots) == ("REJECTED", "r", True, 10)


def test_an_end_with_fills_on_their_way_waits_for_the_last_of_them():
    order = run([SENT, ACCEPTED, kit.gone(PLACE, 5, "cancelled")])
    assert (order.state, order.gone_lots, orders.needs_query(order)) == ("PARTIAL", 5, True)
    order = run([PARTS[0]], order)
    assert (order.state, orders.needs_query(order)) == ("PARTIAL", True)
    order = run([PARTS[1]], order)
    assert (order.state, order.left_lots, orders.needs_query(order)) == ("CANCELLED", 5, False)
    assert run([PARTS[2]], order).state == "FILLED"


def test_a_first_confirmation_brings_the_id_of_the_venue():
    order = run([SENT, EVENTS["fill 10"], OrderAccepted(cloid=CLOID, oid="late")])
    assert (order.state, order.oid) == ("FILLED", "late")
    assert run([OrderAccepted(cloid=CLOID)], order) is order
    assert run([OrderAccepted(cloid=CLOID, oid="other")], ORDERS["SENT accepted"]).oid == "other"


@pytest.mark.parametrize(
    ("decimals", "lots", "filled"),
    [(2, 4, 4), (1, 1, 10), (3, 29, 2), (3, 30, 3)],
)
def test_lots_of_other_terms_are_converted(decimals, lots, filled):
    long = orders.advance(ORDERS["SENT"], kit.filled(PLACE, lots, lot_decimals=decimals), NOW)
    short_place = msgspec.structs.replace(PLACE, lots=-10)
    short = orders.advance(Order(place=short_place), kit.filled(short_place, -lots, lot_decimals=decimals), NOW)
    assert (long.filled_lots, short.filled_lots) == (filled, -filled)


def test_more_than_was_ordered_leaves_nothing():
    order = orders.advance(ORDERS["SENT"], kit.filled(PLACE, 12), NOW)
    assert (order.state, order.filled_lots, order.left_lots) == ("FILLED", 12, 0)


def test_client_order_ids_tell_product_journal_and_intent():
    assert CLOID.startswith("0x4d454931" + "0000abcd")
    assert len(CLOID) == 34
    others = [
        msgspec.structs.replace(INTENT, **change)
        for change in ({"origin": "step:1"}, {"symbol": "B"}, {"purpose": "add"}, {"attempt": 2}, {})
    ]
    assert len({orders.cloid_of("0000abcd", intent) for intent in others}) == len(others)
    assert CLOID in {orders.cloid_of("0000abcd", intent) for intent in others}


NOT_FOUND = [OrderNotFound(cloid=CLOID, venue_ms=ms) for ms in (6_000, 10_500, 10_999, 11_000)]


def test_death_is_proven_by_two_answers_five_seconds_apart_after_the_order_could_arrive():
    order = orders.advance(ORDERS["SENT"], NOT_FOUND[0], 90_000)
    assert (order.state, order.not_found_ms) == ("UNKNOWN", 6_000)
    # The clock of the lane is later than the answers: they were on their way for a long time.
    assert not orders.is_proven_dead(order, orders.answered_ms(NOT_FOUND[0], 90_000))
    assert not orders.is_proven_dead(order, orders.answered_ms(NOT_FOUND[1], 90_000))
    assert not orders.is_proven_dead(order, orders.answered_ms(NOT_FOUND[2], 90_000))
    assert orders.is_proven_dead(order, orders.answered_ms(NOT_FOUND[3], 90_000))
    assert orders.answered_ms(EVENTS["not found"], 90_000) == 90_000


@pytest.mark.parametrize("second_ms", [9_999, 10_000])
def test_an_order_that_may_still_arrive_is_not_dead(second_ms):
    order = orders.advance(ORDERS["SENT"], OrderNotFound(cloid=CLOID, venue_ms=1_000), 1_000)
    assert not orders.is_proven_dead(order, second_ms)
    assert orders.is_proven_dead(order, PLACE.expires_ms + 1)


@pytest.mark.parametrize("state", [state for state in ORDERS if state != "UNKNOWN"])
def test_only_unknown_orders_are_proven_dead(state):
    order = msgspec.structs.replace(ORDERS[state], not_found_ms=0)
    assert not orders.is_proven_dead(order, 90_000)


def test_sending_again_starts_the_proof_anew():
    order = run([SENT, EVENTS["not found"], SENT])
    assert (order.state, order.not_found_ms) == ("SENT", None)
