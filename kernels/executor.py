"""Drivers of the executor: a book of one lane, one step at a time.

The fill model is split from the decisions, so that a broker can run it on a book of its own: `settle_open_step`, then
the lane's `decide_step` (or another's), then `settle_close_step`. What the fills were reaches the lane's book through
`apply_fill_step` and its siblings, row by row of the broker's log. Both books then equal, bit for bit, the book that
`simulate.run` moves through the same bars.

A book has one combo and a tile of one step. Its market has one step, whose number is `origin` of the model, and one
version of the terms. All scalars must have the same Python type at each call, or numba compiles the driver again.

`kernels.bind` loads this file once per strategy and puts the functions of its simulation into the globals.
"""

from typing import TYPE_CHECKING

import numpy as np

from kernels.book import NO_SIGNAL, deactivate
from kernels.jit import driver, rare
from kernels.ledger import end_day, fund, mark_to_market, transfer
from kernels.path import profit_of
from kernels.turn import StepDecision, Turn

if TYPE_CHECKING:
    # `kernels.bind` sets these globals before it runs this module.
    from kernels.apply import apply_fill, end_order  # noqa: TC004 - as above
    from kernels.decide import decide  # noqa: TC004 - as above
    from kernels.settle import settle_close, settle_open  # noqa: TC004 - as above
    from kernels.signals import compute_signals, gather  # noqa: TC004 - as above


@rare
def equity_of(turn):
    """Return the cash plus the unrealised profit at last prices, summed in symbol order."""
    unrealised = 0.0
    for i in range(turn.account.active):
        s = np.uint64(turn.active[i])
        if turn.positions[s].size != 0.0:
            unrealised += profit_of(turn, s)
    return turn.account.cash + unrealised


@driver
def settle_open_step(market, models, symbols, book):
    """Move a broker's book through a step up to its decisions: orders at the open, levels, funding, liquidation.

    Args:
        market: `kernels.market.Market` of one step; it is copied into the book for `settle_close_step`.
        models: [1] record of `market.MODEL`; `origin` is the number of the step.
        symbols: [1, S] records of `market.SYMBOL`.
        book: `kernels.book.Book`; its log receives the fills, fundings and settlements.
    """
    gather(market, 0, 1, book.bars, book.steps)
    bars, model = book.bars[0], models[0]
    turn = Turn(book.accounts[0], book.positions[0], book.active[0], bars, symbols[0], model, model.origin, book.log)
    settle_open(turn)


@driver
def settle_close_step(models, symbols, book):
    """Move a broker's book from the decisions to the end of the step: fills at the same close, delistings, equity.

    Args:
        models: As in `settle_open_step`, which comes first in each step.
        symbols: As in `settle_open_step`.
        book: As in `settle_open_step`.
    """
    bars, model = book.bars[0], models[0]
    turn = Turn(book.accounts[0], book.positions[0], book.active[0], bars, symbols[0], model, model.origin, book.log)
    step = book.steps[0]
    settle_close(turn, equity_of(turn), True, step.ends != 0)
    deactivate(turn.account, turn.positions, turn.active)
    if step.day_end != 0:
        end_day(turn.account, book.days, step.block, 0)


@driver
def decide_step(market, models, symbols, columns, column_of, signal_params, params, limits, book):
    """Decide a step: leave orders in the positions of a lane's book, and the verdicts in `book.verdict`.

    Args:
        market: `kernels.market.Market` of one step.
        models: As in `settle_open_step`.
        symbols: As in `settle_open_step`.
        columns: [C, 2, S] feature columns at the main bars that `row` and `previous_row` of the market name.
        column_of: [1, G, F] column number of each feature, by symbol group.
        signal_params: [1, G] records of the parameters that shape signals.
        params: [1, G] records of all parameters, by symbol group.
        limits: `kernels.turn.OutsideLimits` (`limits_of`).
        book: `kernels.book.Book` after all fills of the step so far; `codes[0]` receives the signals.
    """
    gather(market, 0, 1, book.bars, book.steps)
    compute_signals(market, columns, column_of, signal_params, 0, 0, 1, book.codes, book.signal_symbols, book.steps)
    for s in range(book.verdict.shape[0]):
        book.verdict[s] = NO_SIGNAL
        if book.steps[0].signal_count == 0:
            book.codes[0, s] = 0  # `compute_signals` leaves them where no entries are decided
    bars, model = book.bars[0], models[0]
    turn = Turn(book.accounts[0], book.positions[0], book.active[0], bars, symbols[0], model, model.origin, book.log)
    decision = StepDecision(
        book.steps[0],
        columns,
        column_of[0],
        params[0],
        book.codes[0],
        book.signal_symbols[0],
        book.candidates,
        book.ranks,
        book.verdict,
        limits,
    )
    decide(turn, decision, equity_of(turn))


@driver
def apply_fill_step(symbols, book, s, size, price, fee_usd, settled_usd, reason, moment, t):
    """Apply a fill to the book of a lane; see `apply.apply_fill`.

    Args:
        symbols: [1, S] records of `market.SYMBOL`.
        book: `kernels.book.Book`.
        s: Symbol.
        size: Signed coins; whole lots.
        price: Price of the fill.
        fee_usd: Fee in USD.
        settled_usd: USD that the venue takes in a settlement before the fill, negative if it bears a loss; NaN for a
            fill without a settlement.
        reason: Reason of a close, as in `book.REASONS`.
        moment: Moment of the fill, as in `book.MOMENTS`.
        t: Step at which the fill model would have filled the order.

    Returns:
        Signed coins that are not the book's: they neither reduce the position nor fill an order.
    """
    account = book.accounts[0]
    position = book.positions[0, s]
    each = np.uint64(s)  # as in the fill model, so that both share the machine code
    settles = not np.isnan(settled_usd)
    settled = settled_usd if settles else 0.0
    return apply_fill(
        account, position, symbols[0, s].lots, t, each, size, price, fee_usd, settles, settled, reason, moment, book.log
    )


@driver
def end_order_step(book, s, opening, closing):
    """Drop what is left of the opening or closing part of the order of symbol `s`; see `apply.end_order`.

    Args:
        book: `kernels.book.Book`.
        s: Symbol.
        opening: True to drop the opening part.
        closing: True to drop the closing part.
    """
    end_order(book.positions[0, s], opening, closing)


@driver
def apply_funding_step(book, s, usd):
    """Pay `usd` of funding, negative if received, for the position in symbol `s`."""
    fund(book.accounts[0], book.positions[0, s], usd)


@driver
def apply_transfer_step(book, usd):
    """Add `usd` of cash to the book, or withdraw it if negative; see `ledger.transfer`."""
    transfer(book.accounts[0], usd)


@driver
def finish_step(book, last_price, day_end, block):
    """End a step of a lane's book: mark it to market and drop symbols without position and order from `active`.

    Args:
        book: `kernels.book.Book`.
        last_price: [S] last known closes.
        day_end: 1 if the step is the last of a UTC day, else 0.
        block: Time block of the day.
    """
    account = book.accounts[0]
    positions = book.positions[0]
    active = book.active[0]
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        if position.size != 0.0:
            unrealised += position.size * (last_price[s] - position.entry)
    mark_to_market(account, account.cash + unrealised)
    deactivate(account, positions, active)
    if day_end != 0:
        end_day(account, book.days, block, 0)
