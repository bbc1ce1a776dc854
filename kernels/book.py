"""A book over S symbols on one account: its working memory, and everything that happens to it but decisions.

`fill_close` and `fill_open` alone turn an order into positions. The sweep fills by its model at once; an executor calls
the same functions and fills when the exchange does.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.jit import device
from kernels.ledger import decrease, fund, get_position, increase, put_position
from kernels.market import Floats, Ints

ORDER_FIELDS = 7
CLOSE, SIZE, STOP, TARGET, CLOSE_WAIT, OPEN_WAIT, REASON = range(ORDER_FIELDS)

LOG_FIELDS = 8
LOG_BAR, LOG_SYMBOL, LOG_REASON, LOG_MOMENT, LOG_SIZE, LOG_PRICE, LOG_FEE, LOG_CASH = range(LOG_FIELDS)
"""A row of the log: bar, symbol, reason, moment, signed size, price, fee in USD, change of cash in USD."""

REASONS = ("entry", "signal", "stop", "target", "liquidation", "funding")
ENTRY, SIGNAL, STOPPED, TARGETED, LIQUIDATED, FUNDED = range(len(REASONS))

MOMENTS = ("open", "inside", "close")
AT_OPEN, INSIDE, AT_CLOSE = range(len(MOMENTS))

_EQUITY_MODE = 0.0
_EXACT = 2.0**53  # from here on every float is a whole number


class Book(NamedTuple):
    """Working memory of one combo.

    Attributes:
        positions: [POSITION_FIELDS, S].
        orders: [ORDER_FIELDS, S]; one waiting order per symbol, of two legs: close what is held (0 or 1) for a reason,
            and open a signed size with stop and target at these distances; each leg after so many further bars.
        marks: [S] last close.
        wants: [S] side wanted at this bar.
        ranks: [S] rank of that wish.
        log: [LOG_FIELDS, N] fills and funding; N = 0 keeps none.
        logged: [1] number of rows that the log would need.
        equity: [T] equity at each close, or [0] to keep none.
        days: [BLOCKS, 3, K] daily returns of each time block as (n, sum r, sum r²).
    """

    positions: Floats
    orders: Floats
    marks: Floats
    wants: Floats
    ranks: Floats
    log: Floats
    logged: Ints
    equity: Floats
    days: Floats


@device
def clear(book):
    """Forget positions, orders and marks."""
    for s in range(book.marks.shape[0]):
        book.marks[s] = np.nan
        for i in range(book.positions.shape[0]):
            book.positions[i, s] = 0.0
        for i in range(ORDER_FIELDS):
            book.orders[i, s] = 0.0


@device
def note(book, t, s, reason, moment, size, price, fee, cash):
    """Add a row to the log, or only count it when the log is full."""
    n = book.logged[0]
    if n < book.log.shape[1]:
        book.log[LOG_BAR, n] = t
        book.log[LOG_SYMBOL, n] = s
        book.log[LOG_REASON, n] = reason
        book.log[LOG_MOMENT, n] = moment
        book.log[LOG_SIZE, n] = size
        book.log[LOG_PRICE, n] = price
        book.log[LOG_FEE, n] = fee
        book.log[LOG_CASH, n] = cash
    book.logged[0] = n + 1


@device
def leverage_of(market, params, s):
    """The leverage that a new position of symbol `s` gets."""
    allowed = market.max_leverage[s]
    return params.leverage if params.leverage < allowed else allowed


@device
def close_position(account, book, model, t, s, price, reason, moment):
    """Close symbol `s` whole at `price`, made worse by slippage."""
    position = get_position(book.positions, s)
    side = 1.0 if position.size > 0.0 else -1.0
    paid = price * (1.0 - side * model.exit_slip)
    after, position_after = decrease(account, position, -position.size, paid, model.fee)
    put_position(book.positions, s, position_after)
    note(book, t, s, reason, moment, -position.size, paid, after.fees - account.fees, after.cash - account.cash)
    book.orders[CLOSE, s] = 0.0
    return after


@device
def fill_close(account, book, model, t, s, price, moment):
    """Fill the closing leg of the order of symbol `s` at `price`."""
    return close_position(account, book, model, t, s, price, book.orders[REASON, s], moment)


@device
def fill_open(account, book, market, model, params, t, s, price, moment):
    """Fill the opening leg of the order of symbol `s` at `price`; the symbol must be flat."""
    size = book.orders[SIZE, s]
    side = 1.0 if size > 0.0 else -1.0
    paid = price * (1.0 + side * model.entry_slip)
    position = get_position(book.positions, s)
    after, position = increase(account, position, size, paid, model.fee, leverage_of(market, params, s))
    put_position(book.positions, s, position)
    book.positions[2, s] = paid - side * book.orders[STOP, s]
    book.positions[3, s] = paid + side * book.orders[TARGET, s]
    note(book, t, s, ENTRY, moment, size, paid, after.fees - account.fees, after.cash - account.cash)
    book.orders[SIZE, s] = 0.0
    return after


@device
def fill_waiting(account, book, market, model, params, t, moment):
    """Fill, in symbol order, the orders whose time has come at the open or at the close of bar t.

    A closing leg is never younger than the opening leg beside it, so a symbol is flat when its opening leg is filled.
    """
    for s in range(book.orders.shape[1]):
        closes = book.orders[CLOSE, s] != 0.0
        opens = book.orders[SIZE, s] != 0.0
        if (closes | opens) & (market.age[t, s] >= 0):
            price = market.open[t, s] if moment == AT_OPEN else market.close[t, s]
            if closes:
                if book.orders[CLOSE_WAIT, s] > 0.0:
                    book.orders[CLOSE_WAIT, s] -= 1.0
                else:
                    account = fill_close(account, book, model, t, s, price, moment)
            if opens:
                if book.orders[OPEN_WAIT, s] > 0.0:
                    book.orders[OPEN_WAIT, s] -= 1.0
                else:
                    account = fill_open(account, book, market, model, params, t, s, price, moment)
    return account


@device
def touched(position_side, stop, target, low, high):
    """Whether a bar's range reaches stop or target; the stop wins when it reaches both."""
    stop_hit = (low <= stop) if position_side > 0.0 else (high >= stop)
    target_hit = (high >= target) if position_side > 0.0 else (low <= target)
    return STOPPED if stop_hit else (TARGETED if target_hit else -1)


@device
def protect_inside(account, book, market, model, t):
    """Close positions whose stop or target the bar's range touches; a gap through a level fills at the open."""
    if account.positions == 0.0:
        return account
    for s in range(book.positions.shape[1]):
        size = book.positions[0, s]
        if (size != 0.0) & (market.age[t, s] >= 0):
            side = 1.0 if size > 0.0 else -1.0
            stop = book.positions[2, s]
            target = book.positions[3, s]
            reason = touched(side, stop, target, market.low[t, s], market.high[t, s])
            if reason >= 0:
                level = stop if reason == STOPPED else target
                start = market.open[t, s]
                beyond = side * (start - level)
                gapped = (beyond < 0.0) if reason == STOPPED else (beyond > 0.0)
                account = close_position(account, book, model, t, s, start if gapped else level, reason, INSIDE)
    return account


@device
def settle_funding(account, book, market, t):
    """Settle the funding due in bar t on positions that are still held at its close."""
    if account.positions == 0.0:
        return account
    for s in range(book.positions.shape[1]):
        rate = market.funding[t, s]
        if (book.positions[0, s] != 0.0) & (rate != 0.0):
            price = market.close[t, s] if market.age[t, s] >= 0 else book.marks[s]
            after, position = fund(account, get_position(book.positions, s), rate, price)
            put_position(book.positions, s, position)
            note(book, t, s, FUNDED, AT_CLOSE, 0.0, price, 0.0, after.cash - account.cash)
            account = after
    return account


@device
def adverse_price(market, book, t, s):
    """The worst price of bar t for the position of symbol `s`; its last close when the bar does not exist."""
    if market.age[t, s] < 0:
        return book.marks[s]
    return market.low[t, s] if book.positions[0, s] > 0.0 else market.high[t, s]


@device
def liquidate(account, book, market, model, t):
    """Close everything at the bar's adverse extremes when equity there is below maintenance margin.

    All symbols are taken at their extremes together, which is harsher than any path the bar can have taken.

    Returns:
        The account, and 1.0 when it was liquidated.
    """
    if account.positions == 0.0:
        return account, 0.0
    value = account.cash
    maintenance = 0.0
    for s in range(book.positions.shape[1]):
        size = book.positions[0, s]
        if size != 0.0:
            price = adverse_price(market, book, t, s)
            value += size * (price - book.positions[1, s])
            maintenance += abs(size) * price * market.maintenance_frac[s]
    if value >= maintenance:
        return account, 0.0
    for s in range(book.positions.shape[1]):
        book.orders[SIZE, s] = 0.0
        if book.positions[0, s] != 0.0:
            price = adverse_price(market, book, t, s)
            account = close_position(account, book, model, t, s, price, LIQUIDATED, INSIDE)
    return account, 1.0


@device
def until_close(account, book, market, model, params, t):
    """Everything of bar t that comes before its decisions.

    Returns:
        The account, and 1.0 when it was liquidated.
    """
    if model.next_open == 1:
        account = fill_waiting(account, book, market, model, params, t, AT_OPEN)
    if model.intrabar == 1:
        account = protect_inside(account, book, market, model, t)
    account = settle_funding(account, book, market, t)
    account, liquidated = liquidate(account, book, market, model, t)
    for s in range(book.marks.shape[0]):
        if market.age[t, s] >= 0:
            book.marks[s] = market.close[t, s]
    if model.next_open == 0:
        account = fill_waiting(account, book, market, model, params, t, AT_CLOSE)
    return account, liquidated


@device
def wait_of(model):
    """Bars of the symbol that an order lets pass between its decision and the bar that fills it."""
    at_later_close = (model.next_open == 0) & (model.delay_bars > 0)
    return model.delay_bars - 1 if at_later_close else model.delay_bars


@device
def order_close(book, model, s, reason):
    """Order to close what symbol `s` holds; a closing leg that waits keeps its time, and a stop outranks a signal."""
    waits = book.orders[CLOSE, s] != 0.0
    if not waits:
        book.orders[CLOSE, s] = 1.0
        book.orders[CLOSE_WAIT, s] = wait_of(model)
    if (not waits) or (reason != SIGNAL):
        book.orders[REASON, s] = reason


@device
def whole_lots(wanted, lots):
    """The largest whole number of lots, in coins, that is not above `wanted` coins.

    The product may round to just below a whole number (0.29 * 100 < 29), so one lot more is tried.
    """
    count = wanted * lots
    if (count > 0.0) & (count < _EXACT):
        count = float(math.floor(count))
    more = (count + 1.0) / lots
    return more if more <= wanted else count / lots


@device
def needs(market, model, params, s, size, price):
    """USD that opening `size` coins takes out of what is free: initial margin and the fee."""
    notional = abs(size) * price
    return notional / leverage_of(market, params, s) + notional * model.fee


@device
def size_of(market, params, s, value, price):
    """Coins of a new position: the wanted size, rounded down to whole lots; 0 below the venue's minimum notional."""
    wanted = value * params.size_frac / price if params.size_mode == _EQUITY_MODE else params.size_units
    size = whole_lots(wanted, market.lots[s])
    sound = (size > 0.0) & (size < np.inf)
    return size if sound & (size * price >= market.min_notional_usd[s]) else 0.0
