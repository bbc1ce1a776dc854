"""Causes of differences: what the broker did to an order, and what kept a symbol from entering."""

from typing import NamedTuple

from mei_pipeline.execution.commands import Order
from mei_pipeline.execution.day_check.differences import Class
from mei_pipeline.execution.events import Decided
from mei_pipeline.execution.openings import owner_of
from mei_pipeline.execution.state import LaneBook, LaneState, alive

_DEGRADED = ("stale: ", "its last bar is unknown", "the account is not compared")


class Trouble(NamedTuple):
    """An event in the life of an order that the fill model does not know.

    Attributes:
        kind: Class of the differences that follow from it.
        text: It in words.
        noted: True if the order has ended by it, which is a difference of its own.
    """

    kind: Class
    text: str
    noted: bool


_OWN_ENDS = frozenset({"cancelled", "the fill model dropped it", "the position is not closed"})
"""Reasons of ends that the lane or the fill model wanted."""

_EXPIRED: dict[str, Class] = {"it was not sent in time": "degraded", "withdrawn before it was sent": "config"}
"""Classes of expired orders by their reason; others never reached the broker."""


def trouble_of(order: Order) -> Trouble | None:
    """Return what happened to an order; None if it was filled, waits or ended as in the fill model."""
    name = f"the {order.place.intent.purpose} order"
    wanted = order.state != "CANCELLED" or order.reason in _OWN_ENDS
    troubles = {
        "REJECTED": Trouble("fill", f"the broker refused {name}: {order.reason}", noted=True),
        "EXPIRED": Trouble(_EXPIRED.get(order.reason, "fill"), f"{name} expired: {order.reason}", noted=True),
        "UNKNOWN": Trouble("fill", f"the answer to {name} was lost", noted=False),
        "PARTIAL": Trouble("fill", f"{name} was filled in part", noted=False),
        "CANCELLED": Trouble("fill", f"{name} ended: {order.reason}", noted=not wanted),
    }
    return troubles.get(order.state) if order.left_lots else None


def crossed_orders(state: LaneState) -> set[tuple[str, str]]:
    """Return config and symbol of each order that its book has dropped and that may still be filled.

    Its cancel is on its way, or was lost. The fill model drops an order at once.
    """
    return {
        (book.config_id, order.place.symbol)
        for book in state.books
        for order in alive(state, book.config_id)
        if _is_dropped(state, book, order)
    }


def _is_dropped(state: LaneState, book: LaneBook, order: Order) -> bool:
    symbol = order.place.symbol
    if order.place.opens:
        return owner_of(state, book, symbol) is not order
    closing = [each for each in alive(state, book.config_id, symbol) if not each.place.opens]
    return book.step.positions[book.step.plan.index[symbol]]["close_frac"] == 0.0 or closing[-1] is not order


def cause_of_block(fact: Decided, symbol: str, late_ms: int, multiplier: float) -> tuple[Class, str]:
    """Return the class of what kept a symbol from entering, and the reason in words."""
    if fact.late:
        return "degraded", f"the step ended {late_ms} ms late"
    reason = fact.blocked.get("*") or fact.blocked.get(symbol)
    if reason is None and multiplier != 1.0:
        return "config", f"strategy_overrides.yaml: size_multiplier {multiplier!r}"
    if reason is None:
        return "config", "another book of the lane holds margin or places"
    return "degraded" if reason.startswith(_DEGRADED) else "config", reason
