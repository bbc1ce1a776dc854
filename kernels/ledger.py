"""The ledger: the functions that change cash and positions.

A position is a signed size in whole lots at an average entry price. Cash changes by fees, funding, realised profit and
the settlement of a position with the venue, never by notional. Equity is cash plus the unrealised profit of all
positions. A trade is the life of a position from flat to flat, so a partial close is not a trade. The profit of a trade
is net of fees and funding.
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
"""Account of one combo or lane, with statistics of its equity curve.

    cash: USD; the equity after closing every position at its entry price without costs.
    equity: USD, marked to market at the last step.
    fees: USD paid in fees. funding: USD paid in funding; negative if received.
    turnover: USD notional of all fills. fills: number of fills.
    trades, wins: number of closed trades, and of those with a net profit above zero.
    gross_profit, gross_loss: USD, sum of the net profits of wins, and of the net losses of the other trades.
    margin: USD of initial margin that open positions hold. open_positions: number of open positions.
    peak: USD, highest equity so far.
    drawdown: USD, maximum drawdown. drawdown_frac: maximum drawdown as a fraction of the peak before it.
    day_equity: USD, equity at the end of the last complete UTC day.
    bars_held: number of steps with an open position at the close.
    liquidations: number of liquidations. refused: number of candidates without an order.
    active: number of symbols with a position or an order. logged: number of rows that a complete log would need.
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
"""Position of one symbol; its size is 0 when flat.

    size: base coin, positive for a long, negative for a short. entry: average entry price with slippage.
    margin: USD of initial margin held. leverage: notional per unit of initial margin.
    trade_pnl: USD that the trade has realised so far, net of fees and funding.
    opened, added: step at whose close the position was opened or last increased. A fill at the open of step t counts as
        one at the close of t - 1. adds, parts: number of additions and of partial closes so far.
    stop, target: prices that close the position; NaN for none.
    exited_long, exited_short: step of the last close or partial close of each side, closes by signals excluded; NaN
        before the first.
"""

EXACT = 2.0**53  # every float from here on is a whole number
DRIFT = 2.0**-16  # lots: above the rounding of sums of 2**36 lots, below the remainder after lots grew 10,000 times
_FINER = 9  # number of lot sizes to try: the current one, and eight finer ones by powers of ten


@device
def open_account(account, initial_usd):
    """Reset `account` to `initial_usd` of cash without positions."""
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
    """Reset the fields of a trade; the steps of the last exits stay."""
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
    """Return a signed size in coins, rounded to whole lots if it is off by rounding errors alone.

    Sums of sizes drift off whole lots (0.1 + 0.2 is not 0.3), and a venue accepts only whole lots. If the venue has
    made lots larger since the position was opened, by powers of ten, the size is a whole number of the smaller lots.
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
def fee_of(size, price, rate):
    """Return the fee in USD of a fill of `size` coins; `rate` is a fraction of notional."""
    return abs(size) * price * rate


@device
def _count_fill(account, notional, fee):
    """Add a fill to the fees, turnover and fills of an account."""
    account.fees += fee
    account.turnover += notional
    account.fills += 1.0


@device
def increase(account, position, lots, t, size, price, fee, leverage, first):
    """Apply a fill that opens or increases a position.

    Args:
        account: `ACCOUNT` record.
        position: Record with `POSITION_FIELDS`; flat, or on the side of `size`.
        lots: Lots per base coin.
        t: Step at whose close the fill happens.
        size: Signed size of the fill in base coins; whole lots.
        price: Price of the fill with slippage.
        fee: USD.
        leverage: Notional per unit of initial margin.
        first: 1 for the first fill of its order, which counts as an addition; 0 for a later one.
    """
    notional = abs(size) * price
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
        position.adds += first
    position.trade_pnl -= fee


@device
def decrease(account, position, lots, size, price, fee, first):
    """Apply a fill that closes a position completely or partly.

    Args:
        account: `ACCOUNT` record.
        position: Record with `POSITION_FIELDS`.
        lots: Lots per base coin.
        size: Signed size of the fill in base coins, opposite to the position and at most as large; whole lots, or
            all of the position.
        price: Price of the fill with slippage.
        fee: USD.
        first: 1 for the first fill of its order, which counts as a partial close; 0 for a later one.
    """
    notional = abs(size) * price
    change = -size * (price - position.entry) - fee
    _count_fill(account, notional, fee)
    account.cash += change
    profit = position.trade_pnl + change
    if position.size + size == 0.0:
        account.open_positions -= 1.0
        # A complete close frees the exact margin of the position. The margin of a flat book is set to zero, because the
        # rounding of sums would leave a remainder.
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
        position.parts += first


@device
def fund(account, position, usd):
    """Pay `usd` of funding, which is negative if received; it is part of the profit of the trade that is open."""
    account.cash -= usd
    account.funding += usd
    position.trade_pnl -= usd if position.size != 0.0 else 0.0


@device
def _scaled(amount, before, after):
    """Return an earlier equity as if a transfer that moved the equity from `before` to `after` had come first."""
    # An amount that equals the equity must equal it afterwards, too; the rounding of the product would part them.
    scales = (before > 0.0) & (after > 0.0) & (amount != before)
    return amount * (after / before) if scales else after


@device
def transfer(account, usd):
    """Add `usd` to an account, or withdraw it if negative; it is no profit.

    Peak and equity of the day are scaled with the equity, so that drawdown and return of the day stay what they were as
    fractions. An account without equity, before or after, begins again at its new equity.
    """
    before = account.equity
    after = before + usd
    account.cash += usd
    account.equity = after
    account.peak = _scaled(account.peak, before, after)
    account.day_equity = _scaled(account.day_equity, before, after)


@device
def settle(account, position, usd):
    """Take `usd` from an account for a position that the venue takes over; below zero, the venue pays."""
    account.cash -= usd
    position.trade_pnl -= usd


@device
def extend_curve(peak, drawdown, drawdown_frac, value):
    """Return peak, maximum drawdown and maximum relative drawdown of an equity curve extended by `value`."""
    decline = peak - value
    deeper = decline > drawdown_frac * peak
    return (
        value if value > peak else peak,
        decline if decline > drawdown else drawdown,
        decline / peak if deeper else drawdown_frac,
    )


@device
def mark_to_market(account, value):
    """Append equity `value` at the close of a step to the equity curve."""
    account.equity = value
    account.peak, account.drawdown, account.drawdown_frac = extend_curve(
        account.peak, account.drawdown, account.drawdown_frac, value
    )
    if account.open_positions > 0.0:
        account.bars_held += 1.0


@device
def end_day(account, days, block, k):
    """Add the return of the day to combo `k` of `days` [BLOCKS, 3, K] as (n, sum r, sum r²), and start the next day."""
    value = account.equity
    change = value / account.day_equity - 1.0 if account.day_equity > 0.0 else 0.0
    days[block, 0, k] += 1.0
    days[block, 1, k] += change
    days[block, 2, k] += change * change
    account.day_equity = value
