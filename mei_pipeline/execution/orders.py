"""States of an order, and what each event changes in them.

    NEW        decided, not handed to the broker
    SENT       handed to the broker; `accepted` once the venue has confirmed it
    UNKNOWN    handed to the broker, and the answer was lost: it may be at the venue or not
    PARTIAL    partly filled, the rest is open
    FILLED     completely filled
    CANCELLED  ended by the venue or a cancel, with or without fills
    REJECTED   refused; without effect
    EXPIRED    never reached the venue, and can't reach it any more

The last four end an order. Events may come in any order: a fill before its acknowledgement, an acknowledgement after
the end, each of them twice. The venue is right: an order that was thought dead and is filled or acknowledged is alive.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from mei_pipeline.execution.commands import Intent, Order
from mei_pipeline.execution.events import (
    Event,
    Expired,
    Fill,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
    OrderUnknown,
    Sent,
    Started,
)

PRODUCT_TAG = "4d454931"
"""First four bytes of every client order id: `MEI1` in ASCII."""

QUERY_GAP_MS = 5_000
"""Least time between the two queries that prove an unknown order dead."""


def intent_hash(intent: Intent) -> str:
    """Return 16 hexadecimal digits that identify an intent."""
    text = f"{intent.origin}|{intent.symbol}|{intent.purpose}|{intent.attempt}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cloid_of(book_id: str, intent: Intent) -> str:
    """Return the client order id of an intent: product tag, book id and hash of the intent, 16 bytes.

    Args:
        book_id: 8 hexadecimal digits of the journal.
        intent: The intent.
    """
    return f"0x{PRODUCT_TAG}{book_id}{intent_hash(intent)}"


def advance(order: Order, event: Event, now_ms: int) -> Order:
    """Return an order after an event that concerns it; an event without effect returns the same object.

    Args:
        order: The order.
        event: The event.
        now_ms: Clock of the lane.
    """
    changes = _changes(order, event, now_ms)
    return msgspec.structs.replace(order, **changes, updated_ms=now_ms) if changes else order


def _changes(order: Order, event: Event, now_ms: int) -> Mapping[str, object]:  # noqa: PLR0911 - one per event
    """Return the fields that an event changes."""
    match event:
        case Sent():
            return {"state": "SENT", "reason": "", "not_found_ms": None} if _unanswered(order) else {}
        case Started():
            return {"state": "UNKNOWN", "reason": "restart"} if order.state == "SENT" and not order.accepted else {}
        case OrderAccepted():
            return _accepted(order, event)
        case OrderRefused():
            # A refusal after a confirmation or a fill belongs to a repetition of the order, which changes nothing.
            return {"state": "REJECTED", "reason": event.reason} if _unanswered(order) else {}
        case OrderUnknown():
            lost = _unanswered(order) and order.state != "UNKNOWN"
            return {"state": "UNKNOWN", "reason": event.reason} if lost else {}
        case OrderNotFound():
            first = _unanswered(order) and order.state != "NEW" and order.not_found_ms is None
            return {"state": "UNKNOWN", "not_found_ms": answered_ms(event, now_ms)} if first else {}
        case Expired():
            return {"state": "EXPIRED", "reason": event.reason} if _unanswered(order) else {}
        case Fill():
            return _filled(order, event)
        case OrderGone():
            return _gone(order, event)
        case _:
            return {}


def _unanswered(order: Order) -> bool:
    """Return whether nothing from the venue has shown yet that the order reached it."""
    return order.state in {"NEW", "SENT", "UNKNOWN"} and not order.accepted


def _accepted(order: Order, event: OrderAccepted) -> Mapping[str, object]:
    oid = event.oid or order.oid
    if order.state in {"FILLED", "CANCELLED"} or (order.accepted and order.oid == oid and not order.ended):
        return {} if order.oid == oid else {"oid": oid}
    return {"state": "PARTIAL" if order.filled_lots else "SENT", "accepted": True, "oid": oid, "reason": ""}


def _filled(order: Order, fill: Fill) -> Mapping[str, object]:
    filled = order.filled_lots + _lots_of(order, fill)
    changes: dict[str, object] = {"filled_lots": filled, "accepted": True, "oid": fill.oid or order.oid}
    if abs(filled) >= abs(order.place.lots):
        return changes | {"state": "FILLED", "reason": ""}
    if order.gone_lots is not None:
        return changes | {"state": "CANCELLED" if abs(filled) >= abs(order.gone_lots) else "PARTIAL"}
    return changes if order.state == "CANCELLED" else changes | {"state": "PARTIAL", "reason": ""}


def _lots_of(order: Order, fill: Fill) -> int:
    """Return the lots of a fill in the lots of its order, rounded towards zero if they are finer."""
    shift = order.place.lot_decimals - fill.lot_decimals
    if shift >= 0:
        return fill.lots * int(10**shift)
    whole = abs(fill.lots) // int(10**-shift)
    return whole if fill.lots > 0 else -whole


def _gone(order: Order, event: OrderGone) -> Mapping[str, object]:
    if order.state in {"FILLED", "CANCELLED"}:
        return {}
    gone_lots = max(event.filled_lots, order.gone_lots or 0, key=abs)
    if gone_lots == order.gone_lots:
        return {}
    changes: dict[str, object] = {
        "accepted": True,
        "oid": event.oid or order.oid,
        "reason": event.reason,
        "gone_lots": gone_lots,
    }
    # If fills are still on their way, the order ends with the last of them.
    return changes | {"state": "PARTIAL" if abs(gone_lots) > abs(order.filled_lots) else "CANCELLED"}


def answered_ms(answer: OrderNotFound, now_ms: int) -> int:
    """Return the time of an answer; the clock of the lane may have moved on while the answer was on its way."""
    return now_ms if answer.venue_ms is None else answer.venue_ms


def is_proven_dead(order: Order, answer_ms: int) -> bool:
    """Return whether an unknown order can't be at the venue any more, after one more answer that it is not there.

    The answer must be later than the time at which the venue stops to accept the order, and two answers at least
    `QUERY_GAP_MS` apart must say that the venue knows neither the order nor a fill of it.
    """
    waited = order.not_found_ms is not None and answer_ms - order.not_found_ms >= QUERY_GAP_MS
    return order.state == "UNKNOWN" and waited and answer_ms > order.place.expires_ms


def needs_query(order: Order) -> bool:
    """Return whether an order lacks news that only a query can bring: its state, or fills of an order that is gone."""
    return order.state == "UNKNOWN" or (order.gone_lots is not None and not order.ended)
