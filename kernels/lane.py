"""Orders between the book of a lane and the book of a broker that fills them by the fill model, in plain Python.

A lane decides on its own book, and a broker fills on another. After each decision the broker adopts the orders of the
lane. Orders that the fill model drops leave no fill, so the lane learns of them from `dropped_orders`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.book import ORDER_FIELDS, Book
from kernels.ledger import POSITION_FIELDS

_OWN = frozenset(POSITION_FIELDS) - {"stop", "target"}


class Dropped(NamedTuple):
    """Parts of the order of symbol `symbol` that ended without a fill."""

    symbol: int
    opening: bool
    closing: bool


def adopt_orders(lane: Book, broker: Book, symbols: Iterable[int] | None = None) -> None:
    """Copy the orders of a lane's book to a broker's book, after a decision.

    Orders, stops, targets and the strategy's memory are copied; money and positions stay the broker's own. A part that
    waits in both books keeps its number of bars to wait.

    Args:
        lane: Book with the orders.
        broker: Book of the same strategy and symbols.
        symbols: Symbols to copy; by default all.
    """
    ours, theirs = lane.positions[0], broker.positions[0]
    chosen = np.arange(len(ours)) if symbols is None else np.array(list(symbols), dtype=np.int64)
    new_closing = (ours["close_frac"] != 0.0) & (theirs["close_frac"] == 0.0)
    new_opening = (ours["open_size"] != 0.0) & (ours["open_size"] * theirs["open_size"] <= 0.0)
    always = np.ones(len(ours), dtype=bool)
    for name in ORDER_FIELDS:
        copied = {"close_wait": new_closing, "open_wait": new_opening}.get(name, always)[chosen]
        theirs[name][chosen] = np.where(copied, ours[name][chosen], theirs[name][chosen])
    adopt_levels(lane, broker, chosen)
    list_active(broker)


def adopt_levels(lane: Book, broker: Book, chosen: NDArray[np.int64]) -> None:
    """Copy stops, targets and the strategy's memory of positions that both books hold on the same side.

    Args:
        lane: Book whose decisions moved them.
        broker: Book of the same strategy and symbols.
        chosen: Symbols to copy.
    """
    ours, theirs = lane.positions[0], broker.positions[0]
    # The broker may hold what the lane has not heard of yet; its levels are then newer than the lane's.
    for s in chosen[ours["size"][chosen] * theirs["size"][chosen] > 0.0].tolist():
        adopt_memory(ours[s], theirs[s])


def adopt_memory(ours: Any, theirs: Any) -> None:
    """Copy stop, target and the strategy's memory from one record of a position to another."""
    for name in ours.dtype.names:
        if name not in _OWN and name not in ORDER_FIELDS:
            theirs[name] = ours[name]


def dropped_orders(lane: Book, broker: Book) -> list[Dropped]:
    """Return the orders that a lane waits for and that a broker has no more, after the broker's fills are applied."""
    ours, theirs = lane.positions[0], broker.positions[0]
    opening = (ours["open_size"] != 0.0) & (theirs["open_size"] == 0.0)
    closing = (ours["close_frac"] != 0.0) & (theirs["close_frac"] == 0.0)
    return [Dropped(s, bool(opening[s]), bool(closing[s])) for s in np.flatnonzero(opening | closing).tolist()]


def list_active(book: Book) -> None:
    """Set the list of active symbols of a book from its positions and orders, after they were written."""
    positions = book.positions[0]
    active = np.flatnonzero((positions["size"] != 0.0) | (positions["open_size"] != 0.0))
    book.active[0, : len(active)] = active
    book.accounts["active"][0] = len(active)
