"""The ledger: the only place where cash and positions change.

A position is a signed size at an average entry price, in whole lots. Cash moves by fees, funding, realised profit and
what a venue settles when it takes a position over, never by notional. Equity is cash plus the unrealised profit of
every position. A round trip is the life of a position from flat to flat; its profit is net of fees and funding. Wins
and losses are counted by it, so a partial close is not a trade.
"""

import math

import numpy as np

from kernels.jit import device, rare
from kernels.records import record

ACCOUNT = record(
    (
        "cash",
        "equity",
        "fees",
        "funding",
        "turnover",
        "fills",
        "trades",
        "wins",
        "gross_profit",
        "gross_loss",
        "margin",
        "open_positions",
        "peak",
        "drawdown",
        "drawdown_frac",
        "day_equity",
        "bars_held",
        "liquidations",
        "refused",
    ),
    ("active", "logged"),
)
"""Money of one combo or one lane, and what is remembered of its equity curve.

    cash: USD; what equity would be if every position were closed at its entry price without cost.
    equity: USD, marked to market at the last step.
    fees: USD paid in fees. funding: USD paid in funding, negative when received.
    turnover: USD notional of all fills. fills: number of fills.
    trades, wins: closed round trips, and those with a net profit above zero.
    gross_profit, gross_loss: USD, sums of the net profits of the winners and of the net losses of the others.
    margin: USD of initial margin that open positions hold. positions: number of open positions.
    peak: USD, highest equity so far.
    drawdown: USD, deepest fall from a peak. drawdown_frac: deepest fall as a fraction of the peak before it.
    day_equity: USD, equity at the end of the last whole UTC day.
    bars_held: steps at whose close a position was open.
    liquidations: how often the book was liquidated. refused: candidates that got no order.
    active: symbols with a position or an order. logged: rows that the log would need.
"""

POSITION_FIELDS = (
    "size",
    "entry",
    "stop",
    "target",
    "exited_long",
    "exited_short",
    "margin",
    "leverage",
    "trade_pnl",
    "opened",
    "added",
    "adds",
    "parts",
)
"""One symbol's position; size 0 when flat.

    size: base coin, signed: above zero long, below zero short. entry: average entry price, slippage included.
    margin: USD of initial margin held. leverage: notional per unit of initial margin.
    trade_pnl: USD that this round trip has realised so far, net of fees and funding.
    opened, added: step at whose close the position was opened, and last added to; a fill at the open of step t counts
        as one at the close of t - 1. adds, parts: additions and partial closes so far.
    stop, target: prices that close the position, NaN where there is none.
    exited_long, exited_short: the same step of the last close or partial close of each side that was no signal; NaN:
        none yet.
"""

EXACT = 2.0**53  # from here on every float is a whole number
DRIFT = 2.0**-16  # lots: above the rounding of sums of 2**36 lots, below what lots 10,000 times larger leave
_FINER = 9  # powers of ten by which lots may have been smaller, and none


@device
def open_account(account, initial_usd):
    """Reset `account` to cash only."""
    account.cash = initial_usd
    account.equity = initial_usd
    account.fees = 0.0
    account.funding = 0.0
    account.turnover = 0.0
    account.fills = 0.0
    account.trades = 0.0
    account.wins = 0.0
    account.gross_profit = 0.0
    account.gross_loss = 0.0
    account.margin = 0.0
    account.open_positions = 0.0
    account.peak = initial_usd
    account.drawdown = 0.0
    account.drawdown_frac = 0.0
    account.day_equity = initial_usd
    account.bars_held = 0.0
    account.liquidations = 0.0
    account.refused = 0.0
    account.active = 0
    account.logged = 0


@device
def flatten(position):
    """Reset what belongs to one round profit; the memory of the last exit stays."""
    position.size = 0.0
    position.entry = 0.0
    position.margin = 0.0
    position.leverage = 0.0
    position.trade_pnl = 0.0
    position.opened = 0.0
    position.added = 0.0
    position.adds = 0.0
    position.parts = 0.0
    position.stop = np.nan
    position.target = np.nan


@rare
def round_to_lots(coins, lots):
    """A signed size, in coins, without the rounding errors of the sum that it comes from: a whole number of lots.

    Sums of sizes drift off the grid: 0.1 + 0.2 is not 0.3. A venue accepts only whole lots. A position may lie between
    lots if they have become larger, by powers of ten, since it was opened: then it is a whole number of smaller lots.
    """
    near = abs(coins)
    grid = lots
    for _ in range(_FINER):
        count = abs(coins) * grid
        whole = float(math.floor(count + 0.5)) if count < EXACT else -1.0
        if (count < EXACT) & (abs(count - whole) <= DRIFT):
            near = whole / grid
            break
        grid *= 10.0
    return near if coins > 0.0 else -near


@device
def _count_fill(account, notional, fee):
    account.fees += fee
    account.turnover += notional
    account.fills += 1.0


@device
def increase(account, position, lots, t, size, price, fee_rate, leverage):
    """Apply a fill that opens a position or adds to it.

    Args:
        account: `ACCOUNT` record.
        position: Record with `POSITION_FIELDS`, flat or of the same side as `size`.
        lots: Lots per base coin.
        t: Step at whose close the fill happens.
        size: Base coin filled, signed; whole lots.
        price: Price of the fill, slippage included.
        fee_rate: Fee as a fraction of notional.
        leverage: Notional per unit of initial margin.
    """
    notional = abs(size) * price
    fee = notional * fee_rate
    _count_fill(account, notional, fee)
    account.cash -= fee
    margin = notional / leverage
    account.margin += margin
    if position.size == 0.0:
        account.open_positions += 1.0
        position.entry = price
        position.size = size
        position.margin = margin
        position.leverage = leverage
        position.opened = t
        position.added = t
    else:
        total = round_to_lots(position.size + size, lots)
        position.entry = (position.entry * position.size + price * size) / total
        position.size = total
        position.margin += margin
        position.added = t
        position.adds += 1.0
    position.trade_pnl -= fee


@device
def decrease(account, position, lots, size, price, fee_rate):
    """Apply a fill that closes a position, whole or in part.

    Args:
        account: `ACCOUNT` record.
        position: Record with `POSITION_FIELDS`.
        lots: Lots per base coin.
        size: Base coin filled, signed against the position and no larger than it; whole lots, or the whole.
        price: Price of the fill, slippage included.
        fee_rate: Fee as a fraction of notional.
    """
    notional = abs(size) * price
    fee = notional * fee_rate
    change = -size * (price - position.entry) - fee
    _count_fill(account, notional, fee)
    account.cash += change
    profit = position.trade_pnl + change
    if position.size + size == 0.0:
        account.open_positions -= 1.0
        # A whole close frees exactly what was held, and a flat book holds nothing: rounding must not leave dust.
        account.margin = 0.0 if account.open_positions == 0.0 else account.margin - position.margin
        account.trades += 1.0
        if profit > 0.0:
            account.wins += 1.0
            account.gross_profit += profit
        else:
            account.gross_loss -= profit
        flatten(position)
    else:
        freed = position.margin * (-size / position.size)
        account.margin -= freed
        position.margin -= freed
        position.size = round_to_lots(position.size + size, lots)
        position.trade_pnl = profit
        position.parts += 1.0


@device
def fund(account, position, rate, price):
    """Settle funding on a position: a long pays `rate` of its notional at `price`, a short receives it."""
    payment = position.size * price * rate
    account.cash -= payment
    account.funding += payment
    position.trade_pnl -= payment


@device
def settle(account, position, usd):
    """Take `usd` of an account for a position that the venue takes over; below zero: the venue bears a loss."""
    account.cash -= usd
    position.trade_pnl -= usd


@device
def extend_curve(peak, drawdown, drawdown_frac, value):
    """Peak, deepest fall and deepest relative fall of an equity curve that goes on to `value`."""
    decline = peak - value
    deeper = decline > drawdown_frac * peak
    return (
        value if value > peak else peak,
        decline if decline > drawdown else drawdown,
        decline / peak if deeper else drawdown_frac,
    )


@device
def mark_to_market(account, value):
    """Add one point to the equity curve: equity `value` at a step's close."""
    account.equity = value
    account.peak, account.drawdown, account.drawdown_frac = extend_curve(
        account.peak, account.drawdown, account.drawdown_frac, value
    )
    if account.open_positions > 0.0:
        account.bars_held += 1.0


@device
def end_day(account, days, block, k):
    """Book the day's return into combo `k` of `days` [BLOCKS, 3, K] as (n, sum r, sum r²) and start the next day."""
    value = account.equity
    change = value / account.day_equity - 1.0 if account.day_equity > 0.0 else 0.0
    days[block, 0, k] += 1.0
    days[block, 1, k] += change
    days[block, 2, k] += change * change
    account.day_equity = value
