"""Liquidation of a cross account whose value falls below its maintenance margin.

The venue closes all positions with market orders, and the rest of the cash stays with the account. The
backstop of the venue takes over the positions and all cash below two thirds of the maintenance margin, or if market
orders would leave the account below zero. The account then ends at zero.
"""

import numpy as np

from kernels.book import AT_OPEN, INSIDE, LIQUIDATED, STOPPED
from kernels.book_rules import close, fill_close, fill_level, settle_with_venue
from kernels.jit import rare
from kernels.path import NEVER, place_of_stop, price_at, room_at


@rare
def liquidate(account, positions, active, bars, symbols, model, t, place, moment, log):
    """Close every position at its price at a place on the path of step t, and drop every waiting opening order.

    A backstop splits the cash that it takes, or the loss that it bears, by notional.
    """
    account.liquidations += 1.0
    worth = 0.0
    proceeds = 0.0
    maintenance = 0.0
    notional = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        if position.size != 0.0:
            price = price_at(position, bars[s], model, place)
            side = 1.0 if position.size > 0.0 else -1.0
            coins = abs(position.size)
            fill_price = price * (1.0 - side * model.exit_slip)
            worth += position.size * (price - position.entry)
            proceeds += position.size * (fill_price - position.entry) - coins * fill_price * model.fee
            notional += coins * price
            maintenance += coins * price * symbols[s].maintenance_frac
    value = account.cash + worth
    backstop = (3.0 * value < 2.0 * maintenance) | (account.cash + proceeds < 0.0)
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        position.open_size = 0.0
        if position.size != 0.0:
            price = price_at(position, bars[s], model, place)
            if backstop:
                part = abs(position.size) * price
                settlement = value if part >= notional else value * (part / notional)
                value -= settlement
                notional -= part
                position.close_frac = 0.0
                settle_with_venue(account, position, t, s, settlement, price, moment, log)
                fill_close(account, position, symbols[s], t, s, -position.size, price, 0.0, LIQUIDATED, moment, log)
            else:
                close(account, position, symbols[s], model, t, s, 1.0, price, LIQUIDATED, moment, log)
    account.cash = 0.0 if backstop else account.cash


@rare
def liquidates_at_open(account, positions, active, bars, symbols, model, t, log):
    """Liquidate the book if the opens of step t take it below maintenance; return True if so."""
    if (account.open_positions > 0.0) & (room_at(account, positions, active, bars, symbols, model, 0.0) < 0.0):
        liquidate(account, positions, active, bars, symbols, model, t, 0.0, AT_OPEN, log)
        return True
    return False


@rare
def walk_path(account, positions, active, bars, symbols, model, t, log):
    """Move the book along the path of step t: fill stops in the order in which they are reached, and liquidate.

    Between two stops, value minus maintenance is linear in the place, so a division gives the place where it is zero.

    Returns:
        True if the book was liquidated.
    """
    if liquidates_at_open(account, positions, active, bars, symbols, model, t, log):
        return True
    place = 0.0
    room = room_at(account, positions, active, bars, symbols, model, 0.0)
    while account.open_positions > 0.0:
        if room < 0.0:
            liquidate(account, positions, active, bars, symbols, model, t, place, INSIDE, log)
            return True
        ahead = NEVER
        s = np.uint64(0)
        for i in range(account.active):
            each = np.uint64(active[i])
            if positions[each].size != 0.0:
                stop_place = place_of_stop(positions[each], bars[each], model)
                s = each if stop_place < ahead else s
                ahead = stop_place if stop_place < ahead else ahead
        end = ahead if ahead < 1.0 else 1.0
        after = room_at(account, positions, active, bars, symbols, model, end)
        if after < 0.0:
            crossed = place + (end - place) * (room / (room - after))
            liquidate(account, positions, active, bars, symbols, model, t, crossed, INSIDE, log)
            return True
        if ahead > 1.0:
            return False
        fill_level(account, positions[s], bars[s], symbols[s], model, t, s, STOPPED, log)
        place = ahead
        room = room_at(account, positions, active, bars, symbols, model, place)
    return False
