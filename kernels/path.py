"""The assumed path of prices through a bar, and the value of the account along it.

All symbols move together in a straight line, from their opens (place 0) to their worst prices (place 1): lows for
longs, highs for shorts. A symbol without a bar stays at its last price. A position whose stop is reached leaves the
path at the stop, or at the open if the bar opens beyond the stop.
"""

import numpy as np

from kernels.book import NO_EXIT, STOPPED, TARGETED, touched
from kernels.jit import device

CUSHION = 1e-9
"""Fraction of notional by which an account must be above maintenance to skip the exact walk along the path.

It is far above rounding errors, so the shortcut never decides a case that depends on rounding.
"""

NEVER = 2.0
"""Place of a stop that the bar does not reach."""


@device
def adverse_price(bar, size):
    """Return the worst price of a bar for a position; the last close if there is no bar."""
    worst = bar.low if size > 0.0 else bar.high
    return worst if bar.age >= 0.0 else bar.last_price


@device
def place_of_stop(position, bar, model):
    """Return the place on the path where the stop of a position is reached: 0 to 1, or `NEVER`."""
    tested = (model.intrabar != 0.0) & (bar.age >= 0.0)
    if tested & (touched(position.size, position.stop, position.target, bar.low, bar.high) == STOPPED):
        side = 1.0 if position.size > 0.0 else -1.0
        ahead = bar.open - position.stop
        return ahead / (bar.open - adverse_price(bar, position.size)) if side * ahead > 0.0 else 0.0
    return NEVER


@device
def price_at(position, bar, model, place):
    """Return the price of a position at a place on the path; after its stop, the price of the stop's fill."""
    worst = adverse_price(bar, position.size)
    price = worst
    if (place < 1.0) & (bar.age >= 0.0):
        price = bar.open + place * (worst - bar.open)
    if place_of_stop(position, bar, model) <= place:
        side = 1.0 if position.size > 0.0 else -1.0
        price = bar.open if side * (bar.open - position.stop) < 0.0 else position.stop
    return price


@device
def room_of(turn, s, place):
    """Return the unrealised profit minus the maintenance margin of a position at a place on the path, in USD."""
    position = turn.positions[s]
    price = price_at(position, turn.bars[s], turn.model, place)
    return position.size * (price - position.entry) - abs(position.size) * price * turn.symbols[s].maintenance_frac


@device
def room_at(turn, place):
    """Return account value minus maintenance margin at a place on the path, in USD, summed in symbol order."""
    room = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.positions[s].size != 0.0:
            room += room_of(turn, s, place)
    return turn.account.cash + room


@device
def has_order(turn, s):
    """Return whether an order of symbol `s` waits for an open and the symbol has one."""
    position = turn.positions[s]
    return (turn.bars[s].age >= 0.0) & ((position.close_frac != 0.0) | (position.open_size != 0.0))


@device
def survey_of(turn, s):
    """Return the level that a position reaches in the step (`STOPPED`, `TARGETED` or `NO_EXIT`), and its least room.

    The room is a lower bound of its unrealised profit minus its maintenance margin along the path, in USD:

    - It falls as the price gets worse, because maintenance fractions are below 1.
    - A position without a reached stop is counted at its worst price.
    - A position with a reached stop is counted at the fill of the stop, minus all costs of that fill and minus the
      maintenance that a stopped position no longer needs.
    """
    position = turn.positions[s]
    bar = turn.bars[s]
    model = turn.model
    held = position.size
    price = adverse_price(bar, held)
    share = turn.symbols[s].maintenance_frac + CUSHION
    reason = NO_EXIT
    if (bar.age >= 0.0) & (model.intrabar != 0.0):
        reason = touched(held, position.stop, position.target, bar.low, bar.high)
        if reason == STOPPED:
            gapped = (bar.open < position.stop) if held > 0.0 else (bar.open > position.stop)
            price = bar.open if gapped else position.stop
            share += model.exit_slip + model.fee * (1.0 + model.exit_slip)
    return reason, held * (price - position.entry) - abs(held) * price * share


@device
def profit_of(turn, s):
    """Return the unrealised profit of a position at the last price, in USD."""
    position = turn.positions[s]
    return position.size * (turn.bars[s].last_price - position.entry)


@device
def survey(turn):
    """Count the events of a step, before anything in it changes the book.

    If the room is at least zero, the book is not liquidated anywhere on the path (`survey_of`).

    Returns:
        Numbers of waiting orders, reached stops, reached targets and funding payments; the room in USD; and the
        unrealised profit at last prices, summed in symbol order.
    """
    next_open = turn.model.next_open != 0.0
    orders = 0
    stops = 0
    targets = 0
    payments = 0
    room = 0.0
    unrealised = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if next_open:
            orders += 1 if has_order(turn, s) else 0
        if turn.positions[s].size != 0.0:
            reason, least = survey_of(turn, s)
            stops += 1 if reason == STOPPED else 0
            targets += 1 if reason == TARGETED else 0
            room += least
            payments += 1 if turn.bars[s].funding != 0.0 else 0
            unrealised += profit_of(turn, s)
    return orders, stops, targets, payments, turn.account.cash + room, unrealised
