"""The book of a combo or lane: memory, orders and log. `fills` and `simulate` hold the rules that change it."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.blocks import BLOCKS
from kernels.jit import device
from kernels.ledger import ACCOUNT, DRIFT, EXACT, POSITION_FIELDS, flatten
from kernels.market import Floats, Ints
from kernels.records import record

ORDER_FIELDS = (
    "close_frac",
    "close_reason",
    "close_wait",
    "close_left",
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
"""Waiting order of one symbol. A reversal has two parts: one that closes the position, one that opens or adds.

    close_frac: fraction of the position to close; 0 if there is no closing part. close_reason: reason of the close.
    close_left: coins that a partly filled closing part has left; 0 before its first fill. The fill model fills whole
        parts, so close_left and open_filled are 0 in a sweep.
    open_size: signed size that is left to open or add; 0 if there is no opening part. open_leverage: leverage of the
        opening. open_filled: 1 after the first of several fills of the opening part.
    close_wait, open_wait: number of further bars that each part waits.
    open_adds: 1 for an addition, which lapses if the position is gone. open_code: signal that caused the opening part.
    note_a, note_b, note_c: values of the decision (`plan` of the strategy) that are kept until the fill.
"""

LOG = record(("step", "symbol", "reason", "moment", "size", "price", "fee", "cash", "held", "code", "usd"))
"""A row of the log: step, symbol, reason, moment, signed size, price, fee in USD, change of cash in USD, signal code.

    size: signed size of the fill; 0 in a row that changes only cash (funding, backstop).
    fee, cash: differences of the sums of the account, and therefore rounded.
    held: signed size of the position after the row.
    usd: the exact USD of the row: fee of a fill, funding paid, or cash that the venue takes at a backstop. Applying the
        rows of a log to a new book (`apply`) gives the same account, bit for bit.
"""

STEP = record((), ("row", "previous_row", "exits", "day_end", "block", "ends", "signal_count", "idle"))
"""One step of a tile: fields of `market.Market`, and two fields about signals:

    signal_count: number of symbols with a signal.
    idle: number of steps in the tile, from this one on, without a signal, an end of a day or a delisting.
"""

BAR = record(("open", "high", "low", "close", "last_price", "funding", "age"))
"""Bar of one symbol, with adjacent fields in memory; the fields are those of `market.Market`."""

REASONS = ("entry", "add", "signal", "stop", "target", "liquidation", "funding", "backstop", "delisted", "manual")
"""Reasons of rows in the log; the own exits of a strategy are numbered after these."""
ENTRY, ADDED, SIGNAL, STOPPED, TARGETED, LIQUIDATED, FUNDED, BACKSTOP, DELISTED, MANUAL = range(len(REASONS))
OWN_EXITS = len(REASONS)
NO_EXIT = -1

MOMENTS = ("open", "inside", "close")
AT_OPEN, INSIDE, AT_CLOSE = range(len(MOMENTS))

VERDICTS = (
    "no signal",
    "entry ordered",
    "addition ordered",
    "closing",
    "held, no addition",
    "order waits already",
    "not admitted",
    "no places left",
    "no entry orders left",
    "no margin left",
    "below the least notional",
    "blocked",
    "late",
)
"""Results of the decisions about a symbol at a step."""
(
    NO_SIGNAL,
    ENTERED,
    ADDS,
    CLOSING,
    HELD,
    WAITING,
    NOT_ADMITTED,
    NO_PLACES,
    NO_ORDERS,
    NO_MARGIN,
    TOO_SMALL,
    BLOCKED,
    LATE,
) = range(len(VERDICTS))

_NEXT = 1.0 + 2.0**-52  # the product of a float with this is at least the next float


class Book(NamedTuple):
    """Memory of B combos over S symbols, and scratch memory that they share.

    Attributes:
        accounts: [B] records of `ledger.ACCOUNT`.
        positions: [B, S] records of position, order and memory of the strategy (`position_dtype`).
        active: [B, S] symbols with a position or an order, ascending; a row has `account.active` valid entries.
        days: [BLOCKS, 3, B] daily returns of each time block as (n, sum r, sum r²).
        candidates: [S] scratch.
        ranks: [S] scratch.
        bars: [tile, S] bars of a tile.
        codes: [tile, S] signal codes of a tile.
        signal_symbols: [tile, S] symbols with a signal, ascending; a row has `signal_count` valid entries.
        steps: [tile] records of `STEP`.
        log: [N] records of `LOG`; N is 0 to keep none. `account.logged` counts the rows that a complete log would need.
        equity: [T] equity at each close; [0] to keep none.
        verdict: [S] scratch: verdict of each symbol at the current step.
        verdicts: [T, S] verdict of each symbol at each step, an index into `VERDICTS`; [0, S] to keep none.
    """

    accounts: NDArray[np.record]
    positions: NDArray[np.record]
    active: Ints
    days: Floats
    candidates: Ints
    ranks: Floats
    bars: NDArray[np.record]
    codes: NDArray[np.int8]
    signal_symbols: NDArray[np.int16]
    steps: NDArray[np.record]
    log: NDArray[np.record]
    equity: Floats
    verdict: NDArray[np.int8]
    verdicts: NDArray[np.int8]


def position_dtype(memory: tuple[str, ...]) -> Any:
    """Return the dtype of a position for a strategy with the memory fields `memory`."""
    # Fields that every signal reads come first, to share a cache line. The memory of the strategy comes next: if the
    # record of one strategy were a prefix of another's, numba would treat them as the same type.
    first = ("size", "close_frac", "close_reason", "open_size", "exited_long", "exited_short", "entry", "stop")
    rest = [name for name in (*POSITION_FIELDS, *ORDER_FIELDS) if name not in first]
    return record((*first, *memory, *rest))


def make_book(
    memory: tuple[str, ...], combos: int, symbols: int, tile: int, *, log_rows: int = 0, recorded_steps: int = 0
) -> Book:
    """Allocate a book.

    Args:
        memory: Memory fields of the strategy for each symbol (`MEMORY` of its module).
        combos: B.
        symbols: S.
        tile: Number of steps per tile.
        log_rows: Number of rows in the log.
        recorded_steps: Number of steps whose equity and verdicts are kept.
    """
    return Book(
        accounts=np.zeros(combos, ACCOUNT),
        positions=np.zeros((combos, symbols), position_dtype(memory)),
        active=np.zeros((combos, symbols), np.int64),
        days=np.zeros((BLOCKS, 3, combos)),
        candidates=np.zeros(symbols, np.int64),
        ranks=np.zeros(symbols),
        bars=np.zeros((tile, symbols), BAR),
        codes=np.zeros((tile, symbols), np.int8),
        signal_symbols=np.zeros((tile, symbols), np.int16),
        steps=np.zeros(tile, STEP),
        log=np.zeros(log_rows, LOG),
        equity=np.zeros(recorded_steps),
        verdict=np.zeros(symbols, np.int8),
        verdicts=np.zeros((recorded_steps, symbols), np.int8),
    )


@device
def reset_position(position):
    """Reset position, order and last exits of a symbol."""
    flatten(position)
    position.exited_long = np.nan
    position.exited_short = np.nan
    clear_closing(position)
    clear_opening(position)


@device
def clear_closing(position):
    """Clear the closing part of an order."""
    position.close_frac = 0.0
    position.close_left = 0.0


@device
def clear_opening(position):
    """Clear the opening part of an order."""
    position.open_size = 0.0
    position.open_filled = 0.0


@device
def activate(account, active, s):
    """Insert symbol `s` into the sorted list of active symbols, unless the list has it."""
    n = account.active
    place = 0
    for i in range(n):
        place += 1 if active[i] < s else 0
    listed = (active[place] == s) if place < n else False
    if not listed:
        for i in range(n, place, -1):
            active[i] = active[i - 1]
        active[place] = s
        account.active = n + 1


@device
def deactivate(account, positions, active):
    """Remove symbols without position and order from the list of active symbols."""
    kept = 0
    for i in range(account.active):
        s = active[i]
        position = positions[np.uint64(s)]
        if (position.size != 0.0) | (position.open_size != 0.0):
            active[kept] = s
            kept += 1
    account.active = kept


@device
def log_row(account, log, position, t, s, reason, moment, size, price, usd, fees, cash, code):
    """Append a row to the log, or only count it if the log is full; fee and cash are changes from `fees` and `cash`."""
    n = account.logged
    account.logged += 1
    if n < log.shape[0]:
        row = log[n]
        row.step = t
        row.symbol = s
        row.reason = reason
        row.moment = moment
        row.size = size
        row.price = price
        row.fee = account.fees - fees
        row.cash = account.cash - cash
        row.held = position.size
        row.code = code
        row.usd = usd


@device
def touched(size, stop, target, low, high):
    """Return `STOPPED`, `TARGETED` or `NO_EXIT` for the range of a bar; the stop wins if the range reaches both."""
    # A level of NaN is never reached, because comparisons with NaN are False.
    is_long = size > 0.0
    stop_hit = (low <= stop) if is_long else (high >= stop)
    target_hit = (high >= target) if is_long else (low <= target)
    return STOPPED if stop_hit else (TARGETED if target_hit else NO_EXIT)


@device
def wait_of(model):
    """Return the number of bars of the symbol between the decision of an order and the bar of its fill."""
    at_later_close = (model.next_open == 0) & (model.delay_bars > 0)
    return model.delay_bars - 1 if at_later_close else model.delay_bars


@device
def order_close(position, model, frac, reason):
    """Order to close a fraction of a position; a waiting closing part keeps its time, and a stop outranks a signal."""
    waits = position.close_frac != 0.0
    if not waits:
        position.close_wait = wait_of(model)
    if (not waits) | (reason != SIGNAL) | (position.close_frac < 1.0):
        position.close_reason = reason
    position.close_frac = frac
    position.close_left = 0.0


@device
def whole_lots(size, lots):
    """Return the largest whole number of lots, in coins, that is not above `size` coins.

    The product may round to just below a whole number (0.29 * 100 < 29), so one more lot is tried.
    """
    count = size * lots
    if (count > 0.0) & (count < EXACT):
        count = float(math.floor(count))
    more = (count + 1.0) / lots
    return more if more <= size else count / lots


@device
def lots_up(size, lots):
    """Return the smallest whole number of lots, in coins, that is not below `size` coins."""
    down = whole_lots(size, lots)
    return down if down >= size else (float(math.floor(down * lots + 0.5)) + 1.0) / lots


@device
def closing_size(size, frac, lots):
    """Return the coins that close a fraction of `size`: whole lots, rounded down, or all of it.

    The fraction is taken of the number of lots, because a product in coins may round to just below a whole number of
    lots (half of 3.64). A number within one rounding of a whole number counts as whole (0.29 of 100 lots is 29).
    """
    held = abs(size)
    if frac >= 1.0:
        return held
    count = held * lots
    if count < EXACT:
        whole = float(math.floor(count + 0.5))
        count = whole if abs(count - whole) <= DRIFT else count
        count = float(math.floor(count * frac * _NEXT))
    else:
        count *= frac
    return count / lots


@device
def closing_coins(position, lots):
    """Return the coins that the closing part of an order has left to close; at most the position."""
    if position.close_left == 0.0:
        return closing_size(position.size, position.close_frac, lots)
    held = abs(position.size)
    return position.close_left if position.close_left < held else held


@device
def time_of(t, moment):
    """Return the step at whose close a fill of step t happens; the open of t is the close of t - 1."""
    return t - 1 if moment == AT_OPEN else t


@device
def margin_needed(size, price, leverage, fee):
    """Return the free USD that opening `size` coins uses: initial margin and fee."""
    notional = abs(size) * price
    return notional / leverage + notional * fee
