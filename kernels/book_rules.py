"""Rules of a book that do not depend on its strategy: closes, stops, idle steps, and limits of orders."""

import numpy as np

from kernels.book import (
    AT_CLOSE,
    BACKSTOP,
    DELISTED,
    INSIDE,
    LIQUIDATED,
    NO_EXIT,
    NO_MARGIN,
    SIGNAL,
    STOPPED,
    TOO_SMALL,
    closing_size,
    log_row,
    lots_up,
    margin_needed,
    time_of,
    touched,
    wait_of,
    whole_lots,
)
from kernels.jit import device, rare
from kernels.ledger import decrease, extend_curve, settle
from kernels.path import CUSHION


@device
def fill_close(account, position, symbol, t, s, size, fill_price, fee_rate, reason, moment, log):
    """Apply a closing fill of signed `size` at `fill_price`, slippage included; a signal is no exit of its side."""
    is_long = position.size > 0.0
    fees = account.fees
    cash = account.cash
    decrease(account, position, symbol.lots, size, fill_price, fee_rate)
    if reason != SIGNAL:
        when = time_of(t, moment)
        position.exited_long = when if is_long else position.exited_long
        position.exited_short = position.exited_short if is_long else when
    log_row(account, log, position, t, s, reason, moment, size, fill_price, fees, cash, 0.0)


@device
def settle_with_venue(account, position, t, s, usd, price, moment, log):
    """Settle a position with the venue, which takes `usd`, or bears a loss if `usd` is below zero."""
    fees = account.fees
    cash = account.cash
    settle(account, position, usd)
    log_row(account, log, position, t, s, BACKSTOP, moment, 0.0, price, fees, cash, 0.0)


@rare
def close(account, position, symbol, model, t, s, frac, price, reason, moment, log):
    """Close a fraction of symbol `s` at `price` with slippage, and clear the closing part of its order.

    A close that leaves a flat account below zero is a bankruptcy: the venue bears the loss below zero.
    """
    side = 1.0 if position.size > 0.0 else -1.0
    part = closing_size(position.size, frac, symbol.lots)
    position.close_frac = 0.0
    if part > 0.0:
        fill_price = price * (1.0 - side * model.exit_slip)
        left = account.cash + (side * part * (fill_price - position.entry) - part * fill_price * model.fee)
        broke = (account.open_positions == 1.0) & (part == abs(position.size)) & (left < 0.0)
        if broke:
            account.liquidations += 0.0 if reason == LIQUIDATED else 1.0
            settle_with_venue(account, position, t, s, left, fill_price, moment, log)
        fill_close(account, position, symbol, t, s, -side * part, fill_price, model.fee, reason, moment, log)
        account.cash = 0.0 if broke else account.cash


@device
def fill_level(account, position, bar, symbol, model, t, s, kind, log):
    """Close the position if the bar touches its level of `kind`, `STOPPED` or `TARGETED`; a gap fills at the open."""
    if touched(position.size, position.stop, position.target, bar.low, bar.high) == kind:
        side = 1.0 if position.size > 0.0 else -1.0
        level = position.stop if kind == STOPPED else position.target
        beyond = side * (bar.open - level)
        gapped = (beyond < 0.0) if kind == STOPPED else (beyond > 0.0)
        close(account, position, symbol, model, t, s, 1.0, bar.open if gapped else level, kind, INSIDE, log)


@rare
def delist(account, positions, active, bars, symbols, model, t, log):
    """Close the positions of symbols whose last bar is step t, at its close, and drop their waiting orders.

    Returns:
        Unrealised profit of the positions held then, at the last prices of t, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        if symbols[s].last == t:
            position.open_size = 0.0
            if position.size != 0.0:
                close(account, position, symbols[s], model, t, s, 1.0, bars[s].last_price, DELISTED, AT_CLOSE, log)
        if position.size != 0.0:
            unrealised += position.size * (bars[s].last_price - position.entry)
    return unrealised


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
    position.open_wait = wait_of(model)
    position.open_leverage = leverage
    position.open_adds = adds
    position.open_code = code


@device
def reserved_by_orders(account, positions, active, bars, model):
    """Return the margin in USD and the places that waiting opening orders reserve."""
    margin = 0.0
    places = 0.0
    for i in range(account.active):
        position = positions[np.uint64(active[i])]
        if position.open_size != 0.0:
            extra = margin_needed(
                position.open_size, bars[np.uint64(active[i])].last_price, position.open_leverage, model.fee
            )
            extra -= position.margin if position.open_adds == 0.0 else 0.0
            margin += extra if extra > 0.0 else 0.0
            places += 1.0 if position.size == 0.0 else 0.0
    return margin, places


@device
def set_verdict(verdicts, s, verdict):
    """Set the verdict of a symbol at this step."""
    verdicts[s] = verdict
