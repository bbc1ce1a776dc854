"""Orders of a paper broker: the parts of its book that they stand for.

A book has one closing and one opening part for each symbol, so at most one order of each kind waits there.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from kernels.book import closing_coins
from kernels.lane import adopt_memory
from live.paper_books import PaperBook
from mei_pipeline.execution.books import StepBook, size_decimals, to_coins, to_lots
from mei_pipeline.execution.commands import Order, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from live.paper_broker import Portion

_closing_coins = getattr(closing_coins, "py_func", closing_coins)


class Part(NamedTuple):
    """An order that was shortened for one fill.

    Attributes:
        portion: What fills.
        before: Record of the position and its order, before it was shortened.
        filled_lots: Signed lots of the order that were filled before.
        rest: Coins that are left after the fill, signed for an opening part.
    """

    portion: "Portion"
    before: Any
    filled_lots: int
    rest: float


def _position(book: PaperBook, place: Place) -> tuple[Any, int]:
    s = book.step.plan.index[place.symbol]
    return book.step.positions[s], s


def has_part(book: PaperBook, order: Order) -> bool:
    """Return whether the book has the part of an order."""
    position, _ = _position(book, order.place)
    return bool(position["open_size"] if order.place.opens else position["close_frac"])


def put_part(book: PaperBook, place: Place) -> None:
    """Put the part of an order into the book, with the bars that the same part of the lane's book still waits."""
    position, s = _position(book, place)
    decided = book.lane.positions[s]
    coins = to_coins(place.lots, place.lot_decimals)
    if place.opens:
        position["open_size"] = coins
        position["open_filled"] = 0.0
        position["open_wait"] = decided["open_wait"] if decided["open_size"] != 0.0 else 0.0
        position["open_leverage"] = place.leverage
        position["open_adds"] = float(place.intent.purpose == "add")
        position["open_code"] = float(place.signal)
        position["note_a"], position["note_b"], position["note_c"] = place.notes
        return
    waits = decided["close_frac"] != 0.0
    position["close_frac"] = decided["close_frac"] if waits else 1.0
    position["close_wait"] = decided["close_wait"] if waits else 0.0
    position["close_reason"] = decided["close_reason"]
    # The first attempt closes a fraction of what is held at its fill, a later one the lots that are left.
    position["close_left"] = abs(coins) if place.intent.attempt > 1 else 0.0


def clear_part(book: PaperBook, order: Order) -> None:
    """Remove the part of an order from the book."""
    _, s = _position(book, order.place)
    book.step.plan.compiled.end_order_step(book.step.book, s, order.place.opens, not order.place.opens)


def follow_reason(book: PaperBook, s: int) -> None:
    """Take over the reason of a waiting closing part: a stop outranks a signal."""
    decided, position = book.lane.positions[s], book.step.positions[s]
    if decided["close_frac"] != 0.0 and position["close_frac"] != 0.0:
        position["close_reason"] = decided["close_reason"]


def meets_position(book: PaperBook, order: Order) -> bool:
    """Return whether an entry would be filled while a position is held that no order closes completely before it."""
    position, _ = _position(book, order.place)
    held = abs(float(position["size"]))
    if held == 0.0 or position["open_adds"] != 0.0 or position["open_filled"] != 0.0:
        return False
    left = float(position["close_left"])
    return not (position["close_frac"] >= 1.0 and (left == 0.0 or left >= held))


def is_due(book: PaperBook, order: Order, *, at_close: bool) -> bool:
    """Return whether an order fills in this half of the current step."""
    position, s = _position(book, order.place)
    model = book.step.models
    second = float(model["next_open"][0]) == 0.0 and float(model["delay_bars"][0]) == 0.0
    waits = position["open_wait"] if order.place.opens else position["close_wait"]
    return second == at_close and float(waits) == 0.0 and int(book.step.market.age[0, s]) >= 0


def _coins_left(step: StepBook, order: Order) -> float:
    """Return the coins that the part of an order has left, without sign."""
    s = step.plan.index[order.place.symbol]
    position = step.book.positions[0, s]  # the rule reads attributes of a record
    if order.place.opens:
        return abs(float(position["open_size"]))
    return float(_closing_coins(position, float(step.terms["lots"][0, s])))


def lots_left(book: PaperBook, order: Order) -> int:
    """Return the number of lots that the part of an order has left."""
    s = book.step.plan.index[order.place.symbol]
    return to_lots(_coins_left(book.step, order), size_decimals(book.step, s))[0]


def clash(book: PaperBook, place: Place, *, closes: bool) -> str | None:
    """Return why an order does not fit the position; None if it does.

    Args:
        book: The book.
        place: The order.
        closes: True if the closing order of its reversal waits.
    """
    held = book.step.size_of(place.symbol)
    if place.reduce_only and held == 0.0:
        return "reduce-only, but there is no position"
    if place.reduce_only and held * place.lots > 0.0:
        return f"reduce-only, but {place.lots} lots would increase the position"
    if place.after and held != 0.0 and not closes:
        return "the closing order of its reversal is not at the venue"
    return None


def shorten(book: PaperBook, order: Order, portion: "Portion") -> Part:
    """Leave only the lots in the book that fill now; return what `put_back` needs afterwards."""
    position, s = _position(book, order.place)
    before = position.copy()
    lots, decimals = to_lots(_coins_left(book.step, order), size_decimals(book.step, s))
    now, rest = to_coins(portion.lots, decimals), to_coins(lots - portion.lots, decimals)
    if order.place.opens:
        side = 1.0 if position["open_size"] > 0.0 else -1.0
        position["open_size"] = side * now
        return Part(portion, before, order.filled_lots, side * rest)
    position["close_left"] = now
    return Part(portion, before, order.filled_lots, rest)


def put_back(book: PaperBook, order: Order, part: Part) -> None:
    """Put the rest of a shortened order back, unless the order ended or its position is gone."""
    position, _ = _position(book, order.place)
    before = part.before
    filled = order.filled_lots != part.filled_lots
    if not filled or part.portion.drops_rest or order.ended or position["size"] == 0.0:
        return
    if order.place.opens:
        position["open_size"], position["open_filled"] = part.rest, 1.0
        if before["open_filled"] != 0.0:
            # Levels are set at the first fill and at the last one, and this fill is between them.
            adopt_memory(before, position)
    else:
        position["close_frac"], position["close_left"] = before["close_frac"], part.rest


def count_once(book: PaperBook, order: Order) -> None:
    """Take back the partial close that the fill model counted for a further fill of the same closing order."""
    position, _ = _position(book, order.place)
    if not order.place.opens and order.filled_lots != 0 and position["size"] != 0.0:
        position["parts"] -= 1.0


def keep_parts(book: PaperBook, orders: "Iterable[Order]") -> None:
    """Remove the parts that belong to none of the orders."""
    known = {(book.step.plan.index[order.place.symbol], order.place.opens): order for order in orders}
    for s, position in enumerate(book.step.positions):
        if position["open_size"] != 0.0 and (s, True) not in known:
            position["open_size"], position["open_filled"] = 0.0, 0.0
        order = known.get((s, False))
        if order is None:
            position["close_frac"], position["close_left"] = 0.0, 0.0
        elif order.place.intent.attempt > 1:
            position["close_left"] = abs(to_coins(order.left_lots, order.place.lot_decimals))
