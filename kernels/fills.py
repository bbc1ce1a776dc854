"""What happens to a book without asking its strategy: closes, stops, quiet stretches, room for orders."""

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
    lots_up,
    needs,
    note,
    part_of,
    time_of,
    touched,
    wait_of,
    whole_lots,
)
from kernels.jit import device, rare
from kernels.ledger import curve_of, decrease, settle
from kernels.path import CUSHION


@device
def fill_close(account, slot, symbol, t, s, size, paid, fee_rate, reason, moment, log):
    """Book a closing fill of signed `size` at `paid`, slippage included; only an exit is remembered as one."""
    is_long = slot.size > 0.0
    fees = account.fees
    cash = account.cash
    decrease(account, slot, symbol.lots, size, paid, fee_rate)
    if reason != SIGNAL:
        when = time_of(t, moment)
        slot.exited_long = when if is_long else slot.exited_long
        slot.exited_short = slot.exited_short if is_long else when
    note(account, log, slot, t, s, reason, moment, size, paid, fees, cash, 0.0)


@device
def hand_over(account, slot, t, s, usd, price, moment, log):
    """Settle a position with the venue, which takes `usd` for it, or bears a loss where that is below zero."""
    fees = account.fees
    cash = account.cash
    settle(account, slot, usd)
    note(account, log, slot, t, s, BACKSTOP, moment, 0.0, price, fees, cash, 0.0)


@rare
def close(account, slot, symbol, model, t, s, frac, price, reason, moment, log):
    """Close a fraction of symbol `s` at `price`, made worse by slippage; its closing leg is done.

    A close that leaves a flat account below zero is a bankruptcy: the venue bears what is missing.
    """
    side = 1.0 if slot.size > 0.0 else -1.0
    part = part_of(slot.size, frac, symbol.lots)
    slot.close_frac = 0.0
    if part > 0.0:
        paid = price * (1.0 - side * model.exit_slip)
        left = account.cash + (side * part * (paid - slot.entry) - part * paid * model.fee)
        broke = (account.positions == 1.0) & (part == abs(slot.size)) & (left < 0.0)
        if broke:
            account.liquidations += 0.0 if reason == LIQUIDATED else 1.0
            hand_over(account, slot, t, s, left, paid, moment, log)
        fill_close(account, slot, symbol, t, s, -side * part, paid, model.fee, reason, moment, log)
        account.cash = 0.0 if broke else account.cash


@device
def protect_inside(account, slot, bar, symbol, model, t, s, wanted, log):
    """Close the position when `wanted`, stop or target, is what the bar's range touches; a gap fills at the open."""
    if touched(slot.size, slot.stop, slot.target, bar.low, bar.high) == wanted:
        side = 1.0 if slot.size > 0.0 else -1.0
        level = slot.stop if wanted == STOPPED else slot.target
        beyond = side * (bar.open - level)
        gapped = (beyond < 0.0) if wanted == STOPPED else (beyond > 0.0)
        close(account, slot, symbol, model, t, s, 1.0, bar.open if gapped else level, wanted, INSIDE, log)


@rare
def delist(account, slots, active, bars, symbols, model, t, log):
    """Close, at its close, what is held of each symbol whose last bar is step t, and drop what waits for a later bar.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        if symbols[s].last == t:
            slot.open_size = 0.0
            if slot.size != 0.0:
                close(account, slot, symbols[s], model, t, s, 1.0, bars[s].mark, DELISTED, AT_CLOSE, log)
        if slot.size != 0.0:
            unrealised += slot.size * (bars[s].mark - slot.entry)
    return unrealised


@device
def coast(account, slot, symbol, model, bars, s, first, last):
    """Move a book that holds symbol `s` alone, with no order, through steps of a tile until one needs more.

    A bar needs more if it is missing, touches a level, settles funding or nears liquidation: `until_close` takes that
    step. The steps before it only mark the position, by the same sums in the same order.

    Returns:
        The first step that was not taken.
    """
    held = slot.size
    entry = slot.entry
    stop = slot.stop
    target = slot.target
    cash = account.cash
    peak = account.peak
    drawdown = account.drawdown
    drawdown_frac = account.drawdown_frac
    value = account.equity
    maintenance = symbol.maintenance_frac + CUSHION
    intrabar = model.intrabar != 0.0
    taken = first
    for i in range(first, last):
        bar = bars[np.uint64(i), s]
        worst = bar.low if held > 0.0 else bar.high
        levels = intrabar & (touched(held, stop, target, bar.low, bar.high) != NO_EXIT)
        thin = cash + (held * (worst - entry) - abs(held) * worst * maintenance) < 0.0
        if levels | thin | (bar.funding != 0.0) | (bar.age < 0.0):
            break
        value = cash + held * (bar.mark - entry)
        peak, drawdown, drawdown_frac = curve_of(peak, drawdown, drawdown_frac, value)
        taken = i + 1
    account.equity = value
    account.peak = peak
    account.drawdown = drawdown
    account.drawdown_frac = drawdown_frac
    account.bars_held += taken - first
    return taken


@device
def fitted(wanted, price, leverage, room, shrinks, symbol, model, params):
    """Coins of an opening order: whole lots, within what is left, at least the least notional; else 0.

    Returns:
        Size, the USD that it takes, and the verdict when it is 0.
    """
    coins = whole_lots(wanted, symbol.lots)
    need = needs(coins, price, leverage, model.fee)
    if shrinks & (need > room) & (room > 0.0):
        coins = whole_lots(wanted * (room / needs(wanted, price, leverage, model.fee)), symbol.lots)
        need = needs(coins, price, leverage, model.fee)
    venue = symbol.min_notional_usd
    least = venue if venue > params.min_notional_usd else params.min_notional_usd
    if (wanted > 0.0) & (coins * price < least) & (params.bump_to_min_notional != 0.0):
        coins = lots_up(least / price, symbol.lots)
        coins = coins if coins * price >= least else lots_up(coins + 0.5 / symbol.lots, symbol.lots)
        need = needs(coins, price, leverage, model.fee)
    sound = (coins > 0.0) & (coins < np.inf) & (coins * price >= least)
    return (coins if sound & (need <= room) else 0.0), need, (NO_MARGIN if sound else TOO_SMALL)


@device
def order_open(slot, model, size_signed, leverage, adds, code):
    """Order to open, or to add to what is held."""
    slot.open_size = size_signed
    slot.open_wait = wait_of(model)
    slot.open_leverage = leverage
    slot.open_adds = adds
    slot.open_code = code


@device
def reserved(account, slots, active, bars, model):
    """What waiting opening legs hold of money and places.

    Returns:
        USD and places.
    """
    money = 0.0
    places = 0.0
    for i in range(account.active):
        slot = slots[np.uint64(active[i])]
        if slot.open_size != 0.0:
            more = needs(slot.open_size, bars[np.uint64(active[i])].mark, slot.open_leverage, model.fee)
            more -= slot.margin if slot.open_adds == 0.0 else 0.0
            money += more if more > 0.0 else 0.0
            places += 1.0 if slot.size == 0.0 else 0.0
    return money, places


@device
def judge(verdicts, s, verdict):
    """Remember what becomes of a symbol at this step."""
    verdicts[s] = verdict
