"""Fills and payments of a paper broker, from the rows that the fill model logged."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kernels.book import (
    ADDED,
    BACKSTOP,
    DELISTED,
    ENTRY,
    FUNDED,
    LIQUIDATED,
    MOMENTS,
    STOPPED,
    TARGETED,
)
from live.paper_books import PaperBook
from mei_pipeline.execution.books import StepBook, size_decimals, to_lots
from mei_pipeline.execution.commands import Order
from mei_pipeline.execution.events import Fill, Funding, Kind
from mei_pipeline.execution.orders import advance

_KIND_OF_VENUE: dict[int, Kind] = {LIQUIDATED: "liquidation", DELISTED: "settlement"}
_KIND_OF_LEVEL: dict[int, Kind] = {STOPPED: "stop", TARGETED: "target"}


def events_of_log(book: PaperBook, before: Sequence[float], orders: Iterable[Order]) -> Iterator[Fill | Funding]:
    """Yield an event for each row of the log of half a step.

    Args:
        book: The book; its log has the rows of this half of a step only.
        before: Signed coins held of each symbol before it.
        orders: Orders of the book that have not ended.
    """
    step = book.step
    held = list(before)
    alive = {(step.plan.index[order.place.symbol], order.place.opens): order for order in orders}
    settled: float | None = None
    for row in step.log[: int(step.account["logged"])]:
        s, reason = int(row["symbol"]), int(row["reason"])
        if reason == BACKSTOP:
            settled = float(row["usd"])
        elif reason == FUNDED:
            yield _funding_of(step, row)
        else:
            kind = kind_of(step, reason)
            opens = reason in {ENTRY, ADDED}
            order = alive.get((s, opens)) if kind == "trade" else None
            fill = _fill_of(step, row, held[s], kind, settled, order)
            if order is not None:
                alive[s, opens] = advance(order, fill, 0)
            held[s], settled = float(row["held"]), None
            yield fill


def kind_of(step: StepBook, reason: int) -> Kind:
    """Return the kind of a fill; levels are orders of the lane where they are tested at the close."""
    if reason in _KIND_OF_VENUE:
        return _KIND_OF_VENUE[reason]
    return _KIND_OF_LEVEL.get(reason, "trade") if float(step.models["intrabar"][0]) != 0.0 else "trade"


def _fill_of(step: StepBook, row: Any, held: float, kind: Kind, settled: float | None, order: Order | None) -> Fill:
    s, moment = int(row["symbol"]), MOMENTS[int(row["moment"])]
    step_ms = step.plan.time_of_step(int(row["step"]))
    symbol = step.plan.symbols[s]
    start_lots, decimals = to_lots(held, size_decimals(step, s))
    lots, decimals = to_lots(float(row["size"]), decimals)
    start_lots, decimals = to_lots(held, decimals)
    # An order that fills in parts has another number of filled lots before each part.
    cloid = order.place.cloid if order is not None else ""
    place = f"{cloid}:{order.filled_lots}" if order is not None else f"{_short(step)}:{step_ms}:{symbol}:{kind}"
    return Fill(
        venue_ms=step_ms + (step.plan.clock.step_ms if moment != "open" else 0),
        key=f"paper:{place}",
        cloid=cloid,
        oid=order.oid if order is not None else "",
        symbol=symbol,
        lots=lots,
        lot_decimals=decimals,
        start_lots=start_lots,
        price=float(row["price"]),
        fee_usd=float(row["usd"]),
        kind=kind,
        settled_usd=settled,
        step_ms=step_ms,
        moment=moment,
    )


def _funding_of(step: StepBook, row: Any) -> Funding:
    step_ms = step.plan.time_of_step(int(row["step"]))
    symbol = step.plan.symbols[int(row["symbol"])]
    return Funding(
        venue_ms=step_ms + step.plan.clock.step_ms,
        key=f"paper:{_short(step)}:{symbol}:{step_ms}",
        symbol=symbol,
        usd=float(row["usd"]),
        price=float(row["price"]),
        step_ms=step_ms,
    )


def _short(step: StepBook) -> str:
    return step.plan.offered.config_id[:8]
