"""Opening orders of a lane, and the opening part of a position's order that their fills take.

A position has one opening part. It belongs to the newest opening order of its symbol that has not ended. A fill of any
other order must not take from it: an older opening order, whose cancel or end crossed with the fill, gets a part of its
own while the fill is applied.
"""

from typing import Any

from kernels.lane import list_active
from mei_pipeline.execution.books import StepBook
from mei_pipeline.execution.commands import Order
from mei_pipeline.execution.state import LaneBook, LaneState, alive, find_book

_PART = (
    "open_size",
    "open_wait",
    "open_leverage",
    "open_adds",
    "open_code",
    "open_filled",
    "note_a",
    "note_b",
    "note_c",
)


def owner_of(state: LaneState, book: LaneBook, symbol: str) -> Order | None:
    """Return the order that the opening part of a position belongs to; None if there is no such part."""
    if book.step.positions[book.step.plan.index[symbol]]["open_size"] == 0.0:
        return None
    orders = [order for order in alive(state, book.config_id, symbol) if order.place.opens]
    return orders[-1] if orders else None


def opener_of(state: LaneState, order: Order | None) -> Order | None:
    """Return the order whose opening part a fill of an order may take; None if it may only close.

    The fills of a reversal may arrive in the wrong order. Those of the opening order then close the position first, and
    those of the closing order open the new one.
    """
    if order is None or order.place.opens:
        return order
    reversals = (each for each in state.orders.values() if each.place.after == order.place.cloid)
    return next((each for each in reversals if each.filled_lots != 0), None)


def lend_part(step: StepBook, s: int, opener: Order | None, coins: float) -> tuple[Any, ...]:
    """Put an opening part for one fill into a position.

    Args:
        step: The book.
        s: Symbol.
        opener: The order that the part stands for; None for a fill that must not open.
        coins: Signed coins of the fill.

    Returns:
        The part that was there, for `return_part`.
    """
    position = step.positions[s]
    before = tuple(position[name] for name in _PART)
    position["open_size"] = 0.0
    position["open_filled"] = 0.0
    if opener is not None:
        place = opener.place
        position["open_size"] = coins
        position["open_wait"] = 0.0
        position["open_leverage"] = place.leverage
        position["open_adds"] = float(place.intent.purpose == "add")
        position["open_code"] = float(place.signal)
        position["open_filled"] = float(opener.filled_lots != 0)
        position["note_a"], position["note_b"], position["note_c"] = place.notes
    list_active(step.book)
    return before


def return_part(step: StepBook, s: int, part: tuple[Any, ...]) -> None:
    """Put the part that `lend_part` returned back into its position."""
    position = step.positions[s]
    for name, value in zip(_PART, part, strict=True):
        position[name] = value
    list_active(step.book)


def unwanted(state: LaneState) -> list[Order]:
    """Return the opening orders that must not be filled any more.

    They belong to a book that drains, their symbol is held, or the strategy dropped them.
    """
    return [order for order in alive(state) if order.place.opens and _is_unwanted(state, order)]


def _is_unwanted(state: LaneState, order: Order) -> bool:
    symbol = order.place.symbol
    book = find_book(state, order.place.config_id)
    return book is None or book.draining or state.is_held(symbol) or owner_of(state, book, symbol) is not order
