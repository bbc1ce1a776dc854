"""A book over S symbols on one account: its memory, its orders, its log. What fills and decides is in `engine`."""

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
    "open_size",
    "open_wait",
    "open_leverage",
    "open_adds",
    "open_code",
    "note_a",
    "note_b",
    "note_c",
)
"""One symbol's waiting order, of two legs: close what is held, and open or add.

    close_frac: fraction of the position that is to be closed; 0: no such leg. close_reason: why.
    open_size: signed size to open or add, 0: no such leg. open_leverage: leverage of the opening.
    close_wait, open_wait: further bars that each leg waits.
    open_adds: 1 when the leg adds to what is held; it lapses when that is gone. open_code: signal that asked for it.
    note_a, note_b, note_c: what the strategy wants to remember of the decision when the leg is filled.
"""

LOG = record(("step", "symbol", "reason", "moment", "size", "price", "fee", "cash", "held", "code"))
"""A row of the log: step, symbol, reason, moment, signed size, price, fee in USD, change of cash in USD, signal.

    size: signed size of the fill; 0 in a row that moves only cash (funding, backstop).
    held: signed size of the position after the row.
"""

STEP = record((), ("row", "before", "exits", "day_end", "block", "ends", "signal_count", "idle"))
"""One step of a tile: the fields of `market.Market`, and of its signals:

    wanted: number of symbols with a signal.
    calm: for how many steps of the tile, from this one on, there is no signal, no day ends and no symbol is delisted.
"""

BAR = record(("open", "high", "low", "close", "last_price", "funding", "age"))
"""One symbol's bar, together in memory; the fields are those of `market.Market`."""

REASONS = ("entry", "add", "signal", "stop", "target", "liquidation", "funding", "backstop", "delisted")
"""Why something was booked; a strategy's own exits follow these."""
ENTRY, ADDED, SIGNAL, STOPPED, TARGETED, LIQUIDATED, FUNDED, BACKSTOP, DELISTED = range(len(REASONS))
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
)
"""What became of a symbol at a step."""
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
) = range(len(VERDICTS))

_NEXT = 1.0 + 2.0**-52  # a float times this is at least the next float


class Book(NamedTuple):
    """Memory of B combos over S symbols, and scratch that they share.

    Attributes:
        accounts: [B] records of `ledger.ACCOUNT`.
        positions: [B, S] records: position, order, and what the strategy remembers of a symbol (`position_dtype`).
        active: [B, S] the symbols with a position or an order, in order; the first `account.active` of a row count.
        days: [BLOCKS, 3, B] daily returns of each time block as (n, sum r, sum r²).
        candidates: [S] scratch.
        ranks: [S] scratch.
        bars: [tile, S] bars of a tile.
        codes: [tile, S] signals of a tile.
        signal_symbols: [tile, S] the symbols that have one, in order; the first `wanted` of a row count.
        steps: [tile] records of `STEP`.
        log: [N] records of `LOG`; `account.logged` says how many there would be. N = 0 keeps none.
        equity: [T] equity at each close, or [0] to keep none.
        verdict: [S] scratch: what becomes of each symbol at a step.
        verdicts: [T, S] what became of each symbol, one of `VERDICTS`, or [0, S] to keep none.
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
    """The record of one symbol for a strategy that remembers the fields `memory`."""
    # What every signal looks at comes first, so that it shares a cache line. What the strategy remembers comes next:
    # were one strategy's record the beginning of another's, numba would take the one for the other.
    first = ("size", "close_frac", "close_reason", "open_size", "exited_long", "exited_short", "entry", "stop")
    rest = [name for name in (*POSITION_FIELDS, *ORDER_FIELDS) if name not in first]
    return record((*first, *memory, *rest))


def make_book(
    memory: tuple[str, ...], combos: int, symbols: int, tile: int, *, log_rows: int = 0, recorded_steps: int = 0
) -> Book:
    """Allocate a book.

    Args:
        memory: What the strategy remembers of a symbol (`MEMORY` of its module).
        combos: B.
        symbols: S.
        tile: Steps whose signals are made at once.
        log_rows: Rows of the log.
        recorded_steps: Steps of which equity and verdicts are kept.
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
    """Forget everything about a symbol."""
    flatten(position)
    position.exited_long = np.nan
    position.exited_short = np.nan
    position.close_frac = 0.0
    position.open_size = 0.0


@device
def activate(account, active, s):
    """Put symbol `s` on the list of active symbols, in its order, unless it is there."""
    n = account.active
    place = 0
    for i in range(n):
        place += 1 if active[i] < s else 0
    there = (active[place] == s) if place < n else False
    if not there:
        for i in range(n, place, -1):
            active[i] = active[i - 1]
        active[place] = s
        account.active = n + 1


@device
def deactivate(account, positions, active):
    """Drop symbols without position and order from the list of active symbols."""
    kept = 0
    for i in range(account.active):
        s = active[i]
        position = positions[np.uint64(s)]
        if (position.size != 0.0) | (position.open_size != 0.0):
            active[kept] = s
            kept += 1
    account.active = kept


@device
def log_row(account, log, position, t, s, reason, moment, size, price, fees, cash, code):
    """Add a row to the log, or only count it when the log is full; fee and cash are what changed since these values."""
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


@device
def touched(size, stop, target, low, high):
    """Whether a bar's range reaches stop or target; the stop wins when it reaches both. NaN is never reached."""
    is_long = size > 0.0
    stop_hit = (low <= stop) if is_long else (high >= stop)
    target_hit = (high >= target) if is_long else (low <= target)
    return STOPPED if stop_hit else (TARGETED if target_hit else NO_EXIT)


@device
def wait_of(model):
    """Bars of the symbol that an order lets pass between its decision and the bar that fills it."""
    at_later_close = (model.next_open == 0) & (model.delay_bars > 0)
    return model.delay_bars - 1 if at_later_close else model.delay_bars


@device
def order_close(position, model, frac, reason):
    """Order to close a fraction of what is held; a leg that waits keeps its time, and a stop outranks a signal."""
    waits = position.close_frac != 0.0
    if not waits:
        position.close_wait = wait_of(model)
    if (not waits) | (reason != SIGNAL) | (position.close_frac < 1.0):
        position.close_reason = reason
    position.close_frac = frac


@device
def whole_lots(wanted, lots):
    """The largest whole number of lots, in coins, that is not above `wanted` coins.

    The product may round to just below a whole number (0.29 * 100 < 29), so one lot more is tried.
    """
    count = wanted * lots
    if (count > 0.0) & (count < EXACT):
        count = float(math.floor(count))
    more = (count + 1.0) / lots
    return more if more <= wanted else count / lots


@device
def lots_up(wanted, lots):
    """The smallest whole number of lots, in coins, that is not below `wanted` coins."""
    down = whole_lots(wanted, lots)
    return down if down >= wanted else (float(math.floor(down * lots + 0.5)) + 1.0) / lots


@device
def closing_size(size, frac, lots):
    """Coins that closing a fraction of `size` closes: whole lots, rounded down, or all of it.

    The fraction is one of the count of lots, since a product in coins may round to just below a whole number of lots
    (half of 3.64). A count within one rounding of a whole number is that number (0.29 of 100 lots is 29).
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
def time_of(t, moment):
    """Step at whose close a fill of step t happens: one at the open of a step, at the close of the step before."""
    return t - 1 if moment == AT_OPEN else t


@device
def margin_needed(size, price, leverage, fee):
    """USD that opening `size` coins takes out of what is free: initial margin and the fee."""
    notional = abs(size) * price
    return notional / leverage + notional * fee
