"""The ledger: the only place where cash and positions change.

A position is a signed size at an average entry price; cash moves by fees, funding and realised profit, never by
notional. Equity is cash plus the unrealised profit of every position. A round trip is the life of a position from flat
to flat; its profit is net of fees and funding. Wins and losses are counted by it, so a partial close is not a trade.
"""

from typing import NamedTuple

from kernels.jit import device


class Account(NamedTuple):
    """Money of one combo or one lane.

    Attributes:
        cash: USD; what equity would be if every position were closed at its entry price without cost.
        fees: USD paid in fees so far.
        funding: USD paid in funding so far; negative when received.
        turnover: USD notional of all fills.
        fills: Number of fills.
        trades: Closed round trips.
        wins: Closed round trips with a net profit above zero.
        gross_profit: USD, sum of the net profits of winning round trips.
        gross_loss: USD, sum of the net losses of the others, as a positive number.
        margin: USD of initial margin that open positions hold.
        positions: Number of open positions.
    """

    cash: float
    fees: float
    funding: float
    turnover: float
    fills: float
    trades: float
    wins: float
    gross_profit: float
    gross_loss: float
    margin: float
    positions: float


class Position(NamedTuple):
    """One symbol's position; all zero when flat.

    Attributes:
        size: Base coin, signed: above zero long, below zero short.
        entry: Average entry price, slippage included.
        stop: Price of the protective stop, fixed at entry.
        target: Price of the profit target, fixed at entry.
        margin: USD of initial margin held.
        trip_pnl: USD that this round trip has realised so far, net of fees and funding.
    """

    size: float
    entry: float
    stop: float
    target: float
    margin: float
    trip_pnl: float


POSITION_FIELDS = len(Position._fields)

BLOCKS = 16
"""Time blocks that a window's daily returns are summed in."""


@device
def open_account(initial_usd):
    """An account that holds cash only."""
    return Account(initial_usd, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@device
def flat():
    """No position."""
    return Position(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@device
def get_position(positions, s):
    """Read symbol `s` out of `positions` [POSITION_FIELDS, S]."""
    return Position(
        positions[0, s], positions[1, s], positions[2, s], positions[3, s], positions[4, s], positions[5, s]
    )


@device
def put_position(positions, s, position):
    """Write symbol `s` into `positions` [POSITION_FIELDS, S]."""
    positions[0, s] = position.size
    positions[1, s] = position.entry
    positions[2, s] = position.stop
    positions[3, s] = position.target
    positions[4, s] = position.margin
    positions[5, s] = position.trip_pnl


@device
def increase(account, position, size, price, fee_rate, leverage):
    """Apply a fill that opens a position or adds to it.

    Args:
        account: Account before the fill.
        position: Position before the fill, flat or of the same side as `size`.
        size: Base coin filled, signed.
        price: Price of the fill, slippage included.
        fee_rate: Fee as a fraction of notional.
        leverage: Notional per unit of initial margin.
    """
    notional = abs(size) * price
    fee = notional * fee_rate
    total = position.size + size
    entry = price if position.size == 0.0 else (position.entry * position.size + price * size) / total
    margin = notional / leverage
    opened = 1.0 if position.size == 0.0 else 0.0
    return (
        Account(
            account.cash - fee,
            account.fees + fee,
            account.funding,
            account.turnover + notional,
            account.fills + 1.0,
            account.trades,
            account.wins,
            account.gross_profit,
            account.gross_loss,
            account.margin + margin,
            account.positions + opened,
        ),
        Position(total, entry, position.stop, position.target, position.margin + margin, position.trip_pnl - fee),
    )


@device
def decrease(account, position, size, price, fee_rate):
    """Apply a fill that closes a position, whole or in part.

    Args:
        account: Account before the fill.
        position: Position before the fill.
        size: Base coin filled, signed against the position and no larger than it.
        price: Price of the fill, slippage included.
        fee_rate: Fee as a fraction of notional.
    """
    notional = abs(size) * price
    fee = notional * fee_rate
    change = -size * (price - position.entry) - fee
    left = position.size + size
    trip = position.trip_pnl + change
    closed = left == 0.0
    # A whole close frees exactly what was held, and a flat book holds nothing: rounding must not leave dust in the sum.
    freed = position.margin if closed else position.margin * (-size / position.size)
    left_open = account.positions - (1.0 if closed else 0.0)
    won = closed & (trip > 0.0)
    lost = closed & (trip <= 0.0)
    account = Account(
        account.cash + change,
        account.fees + fee,
        account.funding,
        account.turnover + notional,
        account.fills + 1.0,
        account.trades + (1.0 if closed else 0.0),
        account.wins + (1.0 if won else 0.0),
        account.gross_profit + (trip if won else 0.0),
        account.gross_loss - (trip if lost else 0.0),
        0.0 if left_open == 0.0 else account.margin - freed,
        left_open,
    )
    if closed:
        return account, flat()
    return account, Position(left, position.entry, position.stop, position.target, position.margin - freed, trip)


@device
def fund(account, position, rate, price):
    """Settle funding on a position: a long pays `rate` of its notional at `price`, a short receives it."""
    payment = position.size * price * rate
    return (
        Account(
            account.cash - payment,
            account.fees,
            account.funding + payment,
            account.turnover,
            account.fills,
            account.trades,
            account.wins,
            account.gross_profit,
            account.gross_loss,
            account.margin,
            account.positions,
        ),
        Position(
            position.size,
            position.entry,
            position.stop,
            position.target,
            position.margin,
            position.trip_pnl - payment,
        ),
    )


@device
def equity(account, positions, prices):
    """Cash plus unrealised profit, summed in symbol order.

    Args:
        account: The account.
        positions: [POSITION_FIELDS, S].
        prices: [S] price that each symbol is marked at.
    """
    total = account.cash
    if account.positions > 0.0:
        for s in range(positions.shape[1]):
            size = positions[0, s]
            if size != 0.0:
                total += size * (prices[s] - positions[1, s])
    return total


class Curve(NamedTuple):
    """What is remembered of the mark-to-market equity curve.

    Attributes:
        peak: USD, highest equity so far.
        drawdown_usd: USD, deepest fall from a peak.
        drawdown_frac: Deepest fall from a peak as a fraction of that peak.
        day_equity: USD, equity at the end of the last whole UTC day.
        bars_held: Bars at whose close a position was open.
    """

    peak: float
    drawdown_usd: float
    drawdown_frac: float
    day_equity: float
    bars_held: float


@device
def open_curve(initial_usd):
    """The curve before the first bar."""
    return Curve(initial_usd, 0.0, 0.0, initial_usd, 0.0)


@device
def mark(curve, value, held):
    """Add one point to the curve: equity `value` at a close, `held` when a position is open."""
    peak = value if value > curve.peak else curve.peak
    fall = peak - value
    share = fall / peak if peak > 0.0 else 0.0
    return Curve(
        peak,
        fall if fall > curve.drawdown_usd else curve.drawdown_usd,
        share if share > curve.drawdown_frac else curve.drawdown_frac,
        curve.day_equity,
        curve.bars_held + (1.0 if held else 0.0),
    )


@device
def end_day(curve, value, blocks, block, k):
    """Book the day's return into combo `k` of `blocks` [BLOCKS, 3, K] as (n, sum r, sum r²) and start the next day."""
    change = value / curve.day_equity - 1.0 if curve.day_equity > 0.0 else 0.0
    blocks[block, 0, k] += 1.0
    blocks[block, 1, k] += change
    blocks[block, 2, k] += change * change
    return Curve(curve.peak, curve.drawdown_usd, curve.drawdown_frac, value, curve.bars_held)
