"""Rules of a book that do not depend on its strategy: closes, stops, idle steps, and limits of orders."""

import numpy as np

from kernels.book import (
    AT_CLOSE,
    BACKSTOP,
    DELISTED,
    FUNDED,
    INSIDE,
    LIQUIDATED,
    NO_EXIT,
    NO_MARGIN,
    SIGNAL,
    STOPPED,
    TOO_SMALL,
    clear_closing,
    clear_opening,
    log_row,
    lots_up,
    margin_needed,
    time_of,
    touched,
    wait_of,
    whole_lots,
)
from kernels.jit import device, rare
from kernels.ledger import decrease, extend_curve, fee_of, fund, settle
from kernels.path import CUSHION


@device
def fill_close(account, position, lots, t, s, size, price, fee, first, reason, moment, log):
    """Apply a closing fill of signed `size` at `price`, slippage included; a signal is no exit of its side."""
    is_long = position.size > 0.0
    fees = account.fees
    cash = account.cash
    decrease(account, position, lots, size, price, fee, first)
    if reason != SIGNAL:
        when = time_of(t, moment)
        position.exited_long = when if is_long else position.exited_long
        position.exited_short = position.exited_short if is_long else when
    log_row(account, log, position, t, s, reason, moment, size, price, fee, fees, cash, 0.0)


@device
def settle_with_venue(account, position, t, s, usd, price, moment, log):
    """Settle a position with the venue, which takes `usd`, or bears a loss if `usd` is below zero."""
    fees = account.fees
    cash = account.cash
    settle(account, position, usd)
    log_row(account, log, position, t, s, BACKSTOP, moment, 0.0, price, usd, fees, cash, 0.0)


@device
def apply_closing(account, position, lots, t, s, size, price, fee, settles, settled, first, reason, moment, log):
    """Apply a closing fill, by the fill model or by a venue; the closing part of the order stays as it is.

    Args:
        account: Record of `ledger.ACCOUNT`.
        position: Record of `position_dtype`, not flat.
        lots: Lots per base coin.
        t: Step of the fill.
        s: Symbol.
        size: Signed coins, opposite to the position and at most as many; whole lots, or all of the position.
        price: Price of the fill.
        fee: USD.
        settles: True if the venue settles the position with the account before the fill.
        settled: USD that the venue then takes, or bears if negative.
        first: 1 for the first fill of its order, else 0.
        reason: Reason of the close, as in `book.REASONS`.
        moment: Moment of the fill, as in `book.MOMENTS`.
        log: [N] as in `book.Book`.
    """
    if settles:
        settle_with_venue(account, position, t, s, settled, price, moment, log)
    fill_close(account, position, lots, t, s, size, price, fee, first, reason, moment, log)
    if account.open_positions == 0.0:
        account.liquidations += 1.0 if settles | (reason == LIQUIDATED) else 0.0
        # Settlements add up to all of the cash; the rounding of the sums would leave a remainder.
        account.cash = 0.0 if settles else account.cash


@rare
def close(turn, s, coins, price, reason, moment):
    """Close `coins` of symbol `s` at `price` with slippage, and clear the closing part of its order.

    A close that leaves a flat account below zero is a bankruptcy: the venue bears the loss below zero.
    """
    account = turn.account
    position = turn.positions[s]
    if coins > 0.0:
        side = 1.0 if position.size > 0.0 else -1.0
        fill_price = price * (1.0 - side * turn.model.exit_slip)
        fee = fee_of(coins, fill_price, turn.model.fee)
        left = account.cash + (side * coins * (fill_price - position.entry) - fee)
        broke = (account.open_positions == 1.0) & (coins == abs(position.size)) & (left < 0.0)
        apply_closing(
            account,
            position,
            turn.symbols[s].lots,
            turn.t,
            s,
            -side * coins,
            fill_price,
            fee,
            broke,
            left,
            1.0,
            reason,
            moment,
            turn.log,
        )
    clear_closing(position)


@device
def fill_level(turn, s, kind):
    """Close the position if the bar touches its level of `kind`, `STOPPED` or `TARGETED`; a gap fills at the open."""
    position = turn.positions[s]
    bar = turn.bars[s]
    if touched(position.size, position.stop, position.target, bar.low, bar.high) == kind:
        side = 1.0 if position.size > 0.0 else -1.0
        level = position.stop if kind == STOPPED else position.target
        beyond = side * (bar.open - level)
        gapped = (beyond < 0.0) if kind == STOPPED else (beyond > 0.0)
        close(turn, s, abs(position.size), bar.open if gapped else level, kind, INSIDE)


@device
def pay_funding(turn, s):
    """Settle the funding that is due in the step on a position at its close."""
    account = turn.account
    position = turn.positions[s]
    price = turn.bars[s].last_price
    fees = account.fees
    cash = account.cash
    payment = position.size * price * turn.bars[s].funding
    fund(account, position, payment)
    log_row(account, turn.log, position, turn.t, s, FUNDED, AT_CLOSE, 0.0, price, payment, fees, cash, 0.0)


@device
def delist(turn, s):
    """Close the position of a symbol whose last bar is the step, at its close, and drop its waiting orders."""
    if turn.symbols[s].last == turn.t:
        clear_opening(turn.positions[s])
        held = turn.positions[s].size
        if held != 0.0:
            close(turn, s, abs(held), turn.bars[s].last_price, DELISTED, AT_CLOSE)


@device
def fast_forward(account, position, symbol, model, bars, s, first, last):
    """Move a book with a single position, of symbol `s`, and no order through idle steps of a tile.

    It stops before a bar that is missing, touches a level, settles funding or is near liquidation; `simulate.take_step`
    takes that step. All other steps only mark the position to market, with the same operations in the same order.

    Returns:
        The first step that was not taken.
    """
    held = position.size
    entry = position.entry
    stop = position.stop
    target = position.target
    cash = account.cash
    peak = account.peak
    drawdown = account.drawdown
    drawdown_frac = account.drawdown_frac
    value = account.equity
    maintenance = symbol.maintenance_frac + CUSHION
    intrabar = model.intrabar != 0.0
    reached = first
    for i in range(first, last):
        bar = bars[np.uint64(i), s]
        worst = bar.low if held > 0.0 else bar.high
        levels = intrabar & (touched(held, stop, target, bar.low, bar.high) != NO_EXIT)
        thin = cash + (held * (worst - entry) - abs(held) * worst * maintenance) < 0.0
        if levels | thin | (bar.funding != 0.0) | (bar.age < 0.0):
            break
        value = cash + held * (bar.last_price - entry)
        peak, drawdown, drawdown_frac = extend_curve(peak, drawdown, drawdown_frac, value)
        reached = i + 1
    account.equity = value
    account.peak = peak
    account.drawdown = drawdown
    account.drawdown_frac = drawdown_frac
    account.bars_held += reached - first
    return reached


@device
def fit_order(size, price, leverage, room, shrinks, symbol, model, params):
    """Fit an opening order to whole lots, the free USD `room` and the minimum notional.

    Returns:
        Coins, or 0 if the order does not fit; the USD that it uses; and the verdict for 0 coins.
    """
    coins = whole_lots(size, symbol.lots)
    cost = margin_needed(coins, price, leverage, model.fee)
    if shrinks & (cost > room) & (room > 0.0):
        coins = whole_lots(size * (room / margin_needed(size, price, leverage, model.fee)), symbol.lots)
        cost = margin_needed(coins, price, leverage, model.fee)
    venue = symbol.min_notional_usd
    minimum = venue if venue > params.min_notional_usd else params.min_notional_usd
    if (size > 0.0) & (coins * price < minimum) & (params.bump_to_min_notional != 0.0):
        coins = lots_up(minimum / price, symbol.lots)
        # Rounding of the division may leave the notional just below the minimum; one lot more is above it.
        coins = coins if coins * price >= minimum else lots_up(coins + 0.5 / symbol.lots, symbol.lots)
        cost = margin_needed(coins, price, leverage, model.fee)
    valid = (coins > 0.0) & (coins < np.inf) & (coins * price >= minimum)
    return (coins if valid & (cost <= room) else 0.0), cost, (NO_MARGIN if valid else TOO_SMALL)


@device
def order_open(position, model, size_signed, leverage, adds, code):
    """Order to open a position or to add to one."""
    position.open_size = size_signed
    position.open_filled = 0.0
    position.open_wait = wait_of(model)
    position.open_leverage = leverage
    position.open_adds = adds
    position.open_code = code


@device
def reserved_of(turn, s):
    """Return the margin in USD and the places that the waiting opening order of symbol `s` reserves."""
    position = turn.positions[s]
    extra = margin_needed(position.open_size, turn.bars[s].last_price, position.open_leverage, turn.model.fee)
    extra -= position.margin if position.open_adds == 0.0 else 0.0
    return (extra if extra > 0.0 else 0.0), (1.0 if position.size == 0.0 else 0.0)


@device
def reserved_by_orders(turn):
    """Return the margin in USD and the places that waiting opening orders reserve."""
    margin = 0.0
    places = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.positions[s].open_size != 0.0:
            own_margin, own_places = reserved_of(turn, s)
            margin += own_margin
            places += own_places
    return margin, places


@device
def set_verdict(verdicts, s, verdict):
    """Set the verdict of a symbol at this step."""
    verdicts[s] = verdict
