"""Liquidation of a cross account whose value falls below its maintenance margin.

The venue closes all positions with market orders, and the rest of the cash stays with the account. The
backstop of the venue takes over the positions and all cash below two thirds of the maintenance margin, or if market
orders would leave the account below zero. The account then ends at zero.
"""

import numpy as np

from kernels.book import AT_OPEN, INSIDE, LIQUIDATED, STOPPED, clear_closing, clear_opening
from kernels.book_rules import apply_closing, close, fill_level
from kernels.jit import device, rare
from kernels.path import NEVER, place_of_stop, price_at, room_at


@device
def proceeds_of(turn, s, place):
    """Return what closing a position at a place on the path brings.

    Returns:
        In USD: unrealised profit there; profit of a market order, slippage and fee deducted; notional; maintenance.
    """
    position = turn.positions[s]
    model = turn.model
    price = price_at(position, turn.bars[s], model, place)
    side = 1.0 if position.size > 0.0 else -1.0
    coins = abs(position.size)
    fill_price = price * (1.0 - side * model.exit_slip)
    return (
        position.size * (price - position.entry),
        position.size * (fill_price - position.entry) - coins * fill_price * model.fee,
        coins * price,
        coins * price * turn.symbols[s].maintenance_frac,
    )


@device
def take_over(turn, s, settled, place, moment):
    """Let the venue take over a position at a place on the path, with `settled` USD of the account's cash."""
    position = turn.positions[s]
    price = price_at(position, turn.bars[s], turn.model, place)
    apply_closing(
        turn.account,
        position,
        turn.symbols[s].lots,
        turn.t,
        s,
        -position.size,
        price,
        0.0,
        True,
        settled,
        1.0,
        LIQUIDATED,
        moment,
        turn.log,
    )
    clear_closing(position)


@rare
def liquidate(turn, place, moment):
    """Close every position at its price at a place on the path, and drop every waiting opening order.

    A backstop splits the cash that it takes, or the loss that it bears, by notional.
    """
    account = turn.account
    worth = 0.0
    proceeds = 0.0
    maintenance = 0.0
    notional = 0.0
    for i in range(account.active):
        s = np.uint64(turn.active[i])
        if turn.positions[s].size != 0.0:
            own_worth, own_proceeds, own_notional, own_maintenance = proceeds_of(turn, s, place)
            worth += own_worth
            proceeds += own_proceeds
            notional += own_notional
            maintenance += own_maintenance
    value = account.cash + worth
    backstop = (3.0 * value < 2.0 * maintenance) | (account.cash + proceeds < 0.0)
    for i in range(account.active):
        s = np.uint64(turn.active[i])
        position = turn.positions[s]
        clear_opening(position)
        if position.size != 0.0:
            price = price_at(position, turn.bars[s], turn.model, place)
            if backstop:
                part = abs(position.size) * price
                settlement = value if part >= notional else value * (part / notional)
                value -= settlement
                notional -= part
                take_over(turn, s, settlement, place, moment)
            else:
                close(turn, s, abs(position.size), price, LIQUIDATED, moment)


@rare
def liquidates_at_open(turn):
    """Liquidate the book if the opens of the step take it below maintenance; return True if so."""
    if (turn.account.open_positions > 0.0) & (room_at(turn, 0.0) < 0.0):
        liquidate(turn, 0.0, AT_OPEN)
        return True
    return False


@rare
def walk_path(turn):
    """Move the book along the path of the step: fill stops in the order in which they are reached, and liquidate.

    Between two stops, value minus maintenance is linear in the place, so a division gives the place where it is zero.

    Returns:
        True if the book was liquidated.
    """
    if liquidates_at_open(turn):
        return True
    place = 0.0
    room = room_at(turn, 0.0)
    while turn.account.open_positions > 0.0:
        if room < 0.0:
            liquidate(turn, place, INSIDE)
            return True
        ahead = NEVER
        s = np.uint64(0)
        for i in range(turn.account.active):
            each = np.uint64(turn.active[i])
            if turn.positions[each].size != 0.0:
                stop_place = place_of_stop(turn.positions[each], turn.bars[each], turn.model)
                s = each if stop_place < ahead else s
                ahead = stop_place if stop_place < ahead else ahead
        end = ahead if ahead < 1.0 else 1.0
        after = room_at(turn, end)
        if after < 0.0:
            crossed = place + (end - place) * (room / (room - after))
            liquidate(turn, crossed, INSIDE)
            return True
        if ahead > 1.0:
            return False
        fill_level(turn, s, STOPPED)
        place = ahead
        room = room_at(turn, place)
    return False
