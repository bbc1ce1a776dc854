"""The fill model: a book at one step before its decisions (`settle_open`), and after them (`settle_close`).

`kernels.bind` loads this file once per strategy, after `apply.py`, whose functions it puts into its globals.
"""

from typing import TYPE_CHECKING

import numpy as np

from kernels.book import AT_CLOSE, AT_OPEN, STOPPED, TARGETED, clear_opening, closing_coins
from kernels.book_rules import close, delist, fill_level, pay_funding
from kernels.jit import device, rare
from kernels.ledger import fee_of, mark_to_market
from kernels.liquidation import liquidates_at_open, walk_path
from kernels.path import profit_of, survey

if TYPE_CHECKING:
    from kernels.apply import apply_opening  # noqa: TC004 - `kernels.bind` sets it before it runs this module


@rare
def fill_opening(turn, s, price, moment):
    """Fill the opening part of the order of symbol `s`.

    An addition lapses if the position is gone; an entry lapses if the account has no money left.
    """
    account = turn.account
    position = turn.positions[s]
    size = position.open_size
    adds = position.open_adds != 0.0
    # The fill of the last closing order may have used up the cash.
    ruined = (account.open_positions == 0.0) & (account.cash <= 0.0)
    if (position.size != 0.0) | (not (adds | ruined)):
        side = 1.0 if size > 0.0 else -1.0
        fill_price = price * (1.0 + side * turn.model.entry_slip)
        fee = fee_of(size, fill_price, turn.model.fee)
        lots = turn.symbols[s].lots
        apply_opening(account, position, lots, turn.t, s, size, fill_price, fee, moment, turn.log)
    else:
        clear_opening(position)


@device
def fill_waiting(turn, s, price, moment):
    """Fill the parts of the order of symbol `s` that are due.

    The closing part is at least as old as the opening part, so a reversal is flat when its opening part is filled.
    """
    position = turn.positions[s]
    if position.close_frac != 0.0:
        if position.close_wait > 0.0:
            position.close_wait -= 1.0
        else:
            coins = closing_coins(position, turn.symbols[s].lots)
            close(turn, s, coins, price, int(position.close_reason), moment)
    if position.open_size != 0.0:
        if position.open_wait > 0.0:
            position.open_wait -= 1.0
        else:
            fill_opening(turn, s, price, moment)


@rare
def fill_at_close(turn):
    """Fill the orders that are due at the close of the step, symbol by symbol.

    Returns:
        Unrealised profit of the positions held then, at last prices, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.bars[s].age >= 0.0:
            fill_waiting(turn, s, turn.bars[s].close, AT_CLOSE)
        if turn.positions[s].size != 0.0:
            unrealised += profit_of(turn, s)
    return unrealised


@rare
def fill_at_open(turn):
    """Fill the orders that are due at the open of the step, symbol by symbol."""
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.bars[s].age >= 0.0:
            fill_waiting(turn, s, turn.bars[s].open, AT_OPEN)


@device
def fill_levels(turn, kind):
    """Fill the levels of `kind` (`STOPPED` or `TARGETED`) that the step touches, symbol by symbol."""
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if (turn.positions[s].size != 0.0) & (turn.bars[s].age >= 0.0):
            fill_level(turn, s, kind)


@device
def pay_fundings(turn):
    """Settle the funding that is due in the step on the positions at its close, symbol by symbol.

    Returns:
        Unrealised profit of the positions, at last prices, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.positions[s].size != 0.0:
            if turn.bars[s].funding != 0.0:
                pay_funding(turn, s)
            unrealised += profit_of(turn, s)
    return unrealised


@rare
def delist_all(turn):
    """Close the positions of symbols whose last bar is the step, and drop their waiting orders.

    Returns:
        Unrealised profit of the positions held then, at last prices, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        delist(turn, s)
        if turn.positions[s].size != 0.0:
            unrealised += profit_of(turn, s)
    return unrealised


@rare
def process_bar(turn, orders, stops, targets, room):
    """Move a book up to its decisions, if orders wait, levels are touched or liquidation is near.

    Returns:
        Unrealised profit of the positions held then, at last prices, summed in symbol order.
    """
    if orders > 0:
        # Liquidation at the opens comes before orders. An order must not close a position whose account the opens have
        # already taken below maintenance.
        if (room < 0.0) & liquidates_at_open(turn):
            return 0.0
        fill_at_open(turn)
        _, stops, targets, payments, room, unrealised = survey(turn)
        if (room >= 0.0) & (stops + targets + payments == 0):
            return unrealised
    if (room < 0.0) | (stops > 1):
        if walk_path(turn):
            return 0.0
    elif stops > 0:
        fill_levels(turn, STOPPED)
    if targets > 0:
        fill_levels(turn, TARGETED)
    if turn.account.open_positions == 0.0:
        return 0.0
    return pay_fundings(turn)


@device
def move_to_close(turn):
    """Move a book through a step up to the orders at its close.

    Most steps change nothing but last prices, so a cheap survey decides first if any more is needed.

    Returns:
        Unrealised profit of the positions held then, at last prices, summed in symbol order.
    """
    orders, stops, targets, payments, room, unrealised = survey(turn)
    if (room < 0.0) | (orders + stops + targets > 0):
        return process_bar(turn, orders, stops, targets, room)
    if payments > 0:
        return pay_fundings(turn)
    return unrealised


@device
def settle_open(turn):
    """Move a book through a step up to its decisions.

    Orders of earlier steps fill before the decisions of this step; orders of this step wait at least one more bar.

    Returns:
        Unrealised profit of the positions held then, at last prices, summed in symbol order.
    """
    unrealised = move_to_close(turn)
    if (turn.model.next_open == 0.0) & (turn.model.delay_bars != 0.0):
        unrealised = fill_at_close(turn)
    return unrealised


@device
def settle_close(turn, value, ordered, ends):
    """Move a book from its decisions to the end of the step: fills at the same close, delistings, mark-to-market.

    Args:
        turn: `turn.Turn`.
        value: Equity before the decisions.
        ordered: True if the decisions may have made orders.
        ends: True if a symbol has its last bar at the step.
    """
    account = turn.account
    if ordered & (turn.model.next_open == 0.0) & (turn.model.delay_bars == 0.0):
        unrealised = fill_at_close(turn)
        value = account.cash + unrealised
    if ends:
        unrealised = delist_all(turn)
        value = account.cash + unrealised
    mark_to_market(account, value)
