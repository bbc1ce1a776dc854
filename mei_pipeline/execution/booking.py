"""Book what happened: fills, funding, transfers, and the close of a step."""

from typing import Any

import numpy as np

from kernels.book import DELISTED, LIQUIDATED, MANUAL, MOMENTS, REASONS, SIGNAL, STOPPED, TARGETED
from kernels.strategies import load
from mei_pipeline.execution import books, trades
from mei_pipeline.execution.commands import Order
from mei_pipeline.execution.events import Fill, Funding, Transfer
from mei_pipeline.execution.openings import lend_part, opener_of, owner_of, return_part
from mei_pipeline.execution.orders import advance
from mei_pipeline.execution.rows import EquityRow, FillRow, FundingRow, OrderRow, PositionRow, Row
from mei_pipeline.execution.state import Changed, LaneBook, LaneState, alive, find_book, holder_of

EARLY_MS = 5_000
"""Time that a fill waits for an earlier one of its symbol."""

EARLY_TIMER = "early"
"""First part of the name of the timer that ends this wait; the second one is the symbol."""

MOST_KEYS = 20_000
"""Keys of fills that a lane remembers; the journal refuses a repetition of an older one."""

_REASON_OF_KIND = {
    "stop": STOPPED,
    "target": TARGETED,
    "liquidation": LIQUIDATED,
    "adl": LIQUIDATED,
    "settlement": DELISTED,
    "manual": MANUAL,
    "reconciled": MANUAL,
}


def is_finished(state: LaneState) -> bool:
    """Return whether the last step is marked to market; a lane without books has none."""
    return not state.books or state.books[0].marked  # all books of a lane share their steps


def finish(state: LaneState) -> Changed:
    """Mark the last step to market, unless it is marked."""
    if is_finished(state):
        return Changed(state)
    for book in state.books:  # they are marked together
        books.end_step(book.step)
    accounts = [book.step.account for book in state.books]
    equity = sum(books.equity_of(book.step) for book in state.books)
    peak = max(state.peak_usd, equity)
    drawdown = max(state.drawdown_usd, peak - equity)
    row = EquityRow(
        step_ms=state.step_ms or 0,
        equity_usd=equity,
        cash_usd=sum(float(account["cash"]) for account in accounts),
        margin_usd=sum(float(account["margin"]) for account in accounts),
        open_positions=sum(int(account["open_positions"]) for account in accounts),
        drawdown_usd=drawdown,
    )
    marked = tuple(book.with_changes(marked=True) for book in state.books)
    return Changed(state.with_changes(books=marked, peak_usd=peak, drawdown_usd=drawdown), (row,))


def book_fill(state: LaneState, fill: Fill) -> Changed:
    """Book a fill once; a fill with a known key changes nothing.

    A fill that begins at another position than the lane's comes before an earlier one of its symbol. It waits for that
    one, until `EARLY_MS` are over.
    """
    if fill.key in state.keys:
        return Changed(state)
    _remember(state, fill.key)
    if comes_early(state, fill):
        timers = {f"{EARLY_TIMER}:{fill.symbol}": state.clock_ms + EARLY_MS, **state.timers}
        return Changed(state.with_changes(early=(*state.early, fill), timers=timers))
    state, rows = _book(state, fill)
    while (next_fill := next((each for each in state.early if not comes_early(state, each)), None)) is not None:
        state = state.with_changes(early=tuple(each for each in state.early if each is not next_fill))
        state, more = _book(state, next_fill)
        rows += more
    return Changed(state, rows)


def comes_early(state: LaneState, fill: Fill) -> bool:
    """Return whether a fill begins at another position than the lane knows."""
    if fill.start_lots is None:
        return False
    known = state.foreign.get(fill.symbol, 0.0) + sum(book.step.size_of(fill.symbol) for book in state.books)
    off = abs(known - books.to_coins(fill.start_lots, fill.lot_decimals))
    return off * 10.0**fill.lot_decimals >= 0.5  # noqa: PLR2004 - half a lot


def end_wait(state: LaneState, symbol: str) -> Changed:
    """Book the early fills of a symbol although the fill before them is missing."""
    waited = [fill for fill in state.early if fill.symbol == symbol]
    state = state.with_changes(early=tuple(fill for fill in state.early if fill.symbol != symbol))
    rows: tuple[Row, ...] = ()
    for fill in waited:
        state, more = _book(state, fill)
        rows += more
    return Changed(state, rows)


def _book(state: LaneState, fill: Fill) -> Changed:
    """Book a fill whose turn has come."""
    state, rows = _of_later_step(state, fill.step_ms)
    order = state.orders.get(fill.cloid)
    book = find_book(state, order.place.config_id) if order else holder_of(state, fill.symbol)
    state = state.with_changes(last_fill_ms=max(state.last_fill_ms, fill.venue_ms or state.clock_ms))
    rest = books.to_coins(fill.lots, fill.lot_decimals)
    if book is not None:
        rest, changed = apply_fill(state, book, fill, order)
        state, rows = changed.state, rows + changed.rows
    if rest != 0.0:
        total = round(state.foreign.get(fill.symbol, 0.0) + rest, fill.lot_decimals)
        state = state.with_changes(foreign={**state.foreign, fill.symbol: total})
    if order is not None:
        changed = change_order(state, advance(order, fill, state.clock_ms), order)
        state, rows = changed.state, rows + changed.rows
    return Changed(state, rows)


def _of_later_step(state: LaneState, step_ms: int | None) -> Changed:
    """Mark the last step to market before the first event of a later one."""
    return (
        finish(state)
        if step_ms is not None and state.step_ms is not None and step_ms > state.step_ms
        else Changed(state)
    )


def _remember(state: LaneState, key: str) -> None:
    """Remember the key of a fill, payment or transfer, and forget the oldest one; the dict is changed in place."""
    state.keys[key] = None
    if len(state.keys) > MOST_KEYS:
        del state.keys[next(iter(state.keys))]


def apply_fill(state: LaneState, book: LaneBook, fill: Fill, order: Order | None) -> tuple[float, Changed]:
    """Apply a fill to a book; return the signed coins that belong to no position, and the change."""
    step = book.step
    s = step.plan.index[fill.symbol]
    position = step.positions[s]
    coins = books.to_coins(fill.lots, fill.lot_decimals)
    opener = opener_of(state, order)
    lends = opener is None or owner_of(state, book, fill.symbol) is not opener
    part = lend_part(step, s, opener, coins) if lends else None
    t = step.plan.step_number(_step_of(state, fill))
    reason = _reason_of(fill, order, position)
    step.account["logged"] = 0
    rest = step.plan.compiled.apply_fill_step(
        step.terms, step.book, s, coins, fill.price, fill.fee_usd,
        np.nan if fill.settled_usd is None else fill.settled_usd, reason,
        MOMENTS.index(fill.moment), t,
    )  # fmt: skip
    changed = _log_rows(state, book, fill)
    if part is not None:
        return_part(step, s, part)
    return float(rest), changed


def _reason_of(fill: Fill, order: Order | None, position: Any) -> int:
    """Return the reason of a fill that closes."""
    if fill.kind in _REASON_OF_KIND:
        return _REASON_OF_KIND[fill.kind]
    if order is None or order.place.intent.purpose == "flatten":
        return MANUAL
    return int(position["close_reason"]) if position["close_frac"] != 0.0 else SIGNAL


def _step_of(state: LaneState, fill: Fill) -> int:
    """Return the open time of the step of a fill: that of the fill model, or the last step for a real fill."""
    if fill.step_ms is not None:
        return fill.step_ms
    return state.step_ms if state.step_ms is not None else state.clock_ms


def reason_names(strategy: str) -> tuple[str, ...]:
    """Return the names of the reasons of fills, those of a strategy's own exits included."""
    return (*REASONS, *getattr(load(strategy), "EXITS", ()))


def _log_rows(state: LaneState, book: LaneBook, fill: Fill) -> Changed:
    """Return the state and rows after a fill, from the rows that the kernels logged for it."""
    step = book.step
    plan = step.plan
    names = reason_names(plan.resolved.strategy)
    key = (book.config_id, fill.symbol)
    rows: list[Row] = []
    open_trades = dict(state.trades)
    count = state.trade_count
    logged = step.log[: int(step.account["logged"])]
    for number, entry in enumerate(logged):
        trade = open_trades.get(key)
        if trade is None:
            count += 1
        name = names[int(entry["reason"])]
        settles = name == "backstop"
        suffix = "/0" if settles else "/2" if number and float(logged[number - 1]["size"]) != 0.0 else ""
        at_close = int(entry["moment"]) == MOMENTS.index("close")
        row = FillRow(
            key=fill.key + suffix,
            cloid=fill.cloid,
            config_id=book.config_id,
            kind=fill.kind,
            time_ms=plan.time_of_step(int(entry["step"])) + at_close * plan.clock.step_ms
            if fill.step_ms is not None
            else fill.venue_ms or state.clock_ms,
            step=int(entry["step"]),
            symbol=fill.symbol,
            reason=name,
            moment=MOMENTS[int(entry["moment"])],
            size=float(entry["size"]),
            price=float(entry["price"]),
            fee_usd=float(entry["fee"]),
            cash_usd=float(entry["cash"]),
            held=float(entry["held"]),
            signal=int(entry["code"]),
            trade=trade.trade if trade else count,
        )
        rows.append(row)
        grown = trades.take_fill(trade, row, count)
        if row.held == 0.0 and not settles:
            open_trades.pop(key, None)
            rows.append(trades.trade_row(grown, row))
        else:
            open_trades[key] = grown
    if key in open_trades:
        rows.append(trades.trade_row(open_trades[key]))
    rows.append(position_row(state, book, fill.symbol, open_trades[key].trade if key in open_trades else 0))
    return Changed(state.with_changes(trades=open_trades, trade_count=count), tuple(rows))


def position_row(state: LaneState, book: LaneBook, symbol: str, trade: int) -> PositionRow:
    """Return the row of a position."""
    plan = book.step.plan
    position = book.step.positions[plan.index[symbol]]
    stop, target = (None if np.isnan(position[name]) else float(position[name]) for name in ("stop", "target"))
    return PositionRow(
        config_id=book.config_id,
        symbol=symbol,
        size=float(position["size"]),
        entry_price=float(position["entry"]),
        stop=stop,
        target=target,
        margin_usd=float(position["margin"]),
        leverage=float(position["leverage"]),
        opened_ms=plan.time_of_step(int(position["opened"])) + plan.clock.step_ms,
        trade=trade,
        updated_ms=state.clock_ms,
    )


def book_funding(state: LaneState, payment: Funding) -> Changed:
    """Book a funding payment once, on the book that holds the symbol, else on the newest one."""
    if payment.key in state.keys or not state.books:
        return Changed(state)
    state, rows = _of_later_step(state, payment.step_ms)
    _remember(state, payment.key)
    book = holder_of(state, payment.symbol) or state.books[-1]
    step = book.step
    s = step.plan.index.get(payment.symbol, -1)
    cash = float(step.account["cash"])
    if s < 0:
        step.plan.compiled.apply_transfer_step(step.book, -payment.usd)
    else:
        step.plan.compiled.apply_funding_step(step.book, s, payment.usd)
    # Trades of a replay count the change of the cash, which is rounded.
    change = float(step.account["cash"]) - cash
    key = (book.config_id, payment.symbol)
    trade = state.trades.get(key)
    made: tuple[Row, ...] = ()
    if trade is not None:
        trade = trades.take_funding(trade, -change)
        state = state.with_changes(trades={**state.trades, key: trade})
        made = (trades.trade_row(trade),)
    step_ms = payment.step_ms if payment.step_ms is not None else state.step_ms or state.clock_ms
    row = FundingRow(
        key=payment.key,
        config_id=book.config_id,
        time_ms=step_ms + state.step_length_ms if payment.step_ms is not None else payment.venue_ms or state.clock_ms,
        step=step.plan.step_number(step_ms),
        symbol=payment.symbol,
        usd=payment.usd,
        cash_usd=change,
        price=payment.price,
        held=step.size_of(payment.symbol),
        trade=trade.trade if trade else 0,
    )
    return Changed(state, (*rows, row, *made))


def book_transfer(state: LaneState, transfer: Transfer) -> Changed:
    """Book a deposit or withdrawal once, on the newest book."""
    if transfer.key in state.keys or not state.books:
        return Changed(state)
    step = state.books[-1].step
    equity = sum(books.equity_of(book.step) for book in state.books)
    step.plan.compiled.apply_transfer_step(step.book, transfer.usd)
    _remember(state, transfer.key)
    # A withdrawal is no loss: the peak moves with it, as that of the book does in the kernels.
    after = equity + transfer.usd
    peak = state.peak_usd * after / equity if equity > 0.0 < after else after
    return Changed(state.with_changes(transfers_usd=state.transfers_usd + transfer.usd, peak_usd=peak))


def change_order(state: LaneState, order: Order, before: Order) -> Changed:
    """Put a changed order into the state; when it ends, drop what is left of its part of the position's order.

    The rest of a closing order stays in the book, because the next attempt closes it.
    """
    if order is before:
        return Changed(state)
    state = state.with_changes(orders={**state.orders, order.place.cloid: order})
    book = find_book(state, order.place.config_id)
    if order.ended and not before.ended and book is not None:
        s = book.step.plan.index[order.place.symbol]
        last = not _has_newer(state, order)
        opening = order.place.opens and last
        closing = not order.place.opens and last and order.left_lots == 0
        if opening or closing:
            book.step.plan.compiled.end_order_step(book.step.book, s, opening, closing)
    return Changed(state, (order_row(order),))


def _has_newer(state: LaneState, order: Order) -> bool:
    """Return whether a later order that has not ended owns the part of a position's order that `order` had."""
    known = list(state.orders)
    first = known.index(order.place.cloid)
    return any(
        each.place.opens == order.place.opens and known.index(each.place.cloid) > first
        for each in alive(state, order.place.config_id, order.place.symbol)
    )


def order_row(order: Order) -> OrderRow:
    """Return the row of an order."""
    place = order.place
    return OrderRow(
        cloid=place.cloid,
        origin=place.intent.origin,
        symbol=place.symbol,
        purpose=place.intent.purpose,
        attempt=place.intent.attempt,
        config_id=place.config_id,
        state=order.state,
        lots=place.lots,
        lot_decimals=place.lot_decimals,
        limit_price=None if place.limit is None else str(place.limit),
        tif=place.tif,
        reduce_only=place.reduce_only,
        expires_ms=place.expires_ms,
        oid=order.oid,
        filled_lots=order.filled_lots,
        reason=order.reason,
        created_ms=order.created_ms,
        updated_ms=order.updated_ms,
    )
