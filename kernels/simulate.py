"""The simulation: move the books of combos through time, step by step.

A step is a bar of the finest interval in use. Steps are processed in tiles. For each tile, `compute_signals` computes
the signals of a signal group from features alone, and `advance_book` moves the book of each combo through the tile.

`kernels.bind` loads this file once per strategy, after `signals.py`, `apply.py`, `settle.py` and `decide.py`, and puts
the functions of the strategy and of those files into its globals.

Order of events in a step:

1. Liquidation at the opens (`settle_open` until 6).
2. Orders that wait for the open.
3. Stops and liquidation along the path from the opens to the worst prices.
4. Targets.
5. Funding.
6. Orders of earlier steps that fill at the close.
7. Exits (`decide` until 8).
8. Signals: closes, then additions, then entries by rank.
9. Orders of this step that fill at its close (`settle_close` until 11).
10. Delistings.
11. Mark-to-market.
"""

from typing import TYPE_CHECKING

import numpy as np

from kernels.book import NO_SIGNAL, deactivate, reset_position
from kernels.book_rules import fast_forward
from kernels.jit import device, driver
from kernels.ledger import end_day, open_account
from kernels.turn import OutsideLimits, StepDecision, Turn

if TYPE_CHECKING:
    # `kernels.bind` sets these globals before it runs this module.
    from kernels.bind import reader
    from kernels.decide import decide, has_exits  # noqa: TC004 - as above
    from kernels.defaults import context, trace  # noqa: TC004 - as above
    from kernels.settle import settle_close, settle_open  # noqa: TC004 - as above
    from kernels.signals import compute_signals, gather  # noqa: TC004 - as above
    from kernels.strategies.ema_cross import signal  # noqa: TC004 - as above

    read = reader(())


@driver
def open_books(book, initial_usd):
    """Reset every combo of the book: no positions, `initial_usd` of cash."""
    for k in range(book.accounts.shape[0]):
        open_account(book.accounts[k], initial_usd)
        for block in range(book.days.shape[0]):
            for i in range(book.days.shape[1]):
                book.days[block, i, k] = 0.0
        for s in range(book.positions.shape[1]):
            reset_position(book.positions[k, s])


@device
def take_step(book, account, positions, active, i, step, symbols, model, columns, column_of, params, t):
    """Move one book through step `i` of a tile, which is step `t` of the market; see `advance_book` for the rest."""
    turn = Turn(account, positions, active, book.bars[np.uint64(i)], symbols, model, t, book.log)
    decision = StepDecision(
        step,
        columns,
        column_of,
        params,
        book.codes[i],
        book.signal_symbols[i],
        book.candidates,
        book.ranks,
        book.verdict,
        OutsideLimits(0.0, 0.0, 0.0, 0, book.verdict[:0]),
    )
    fills = account.fills
    unrealised = settle_open(turn)
    value = account.cash + unrealised  # after it has changed the cash
    ordered = decide(turn, decision, value)
    ends = step.ends != 0
    settle_close(turn, value, ordered, ends)
    if (step.signal_count != 0) | ends | (account.fills != fills):
        deactivate(account, positions, active)


@device
def advance_book(book, symbols, model, columns, column_of, params, k, first, count):
    """Move the book of combo `k` through the `count` steps of the tile that begins at step `first`.

    Args:
        book: `kernels.book.Book` with the tile's bars, steps and signals.
        symbols: [S] records of `market.SYMBOL`.
        model: Record of `market.MODEL`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [G, F] column number of each feature, by symbol group.
        params: [G] records of all parameters, by symbol group.
        k: Combo.
        first: First step of the tile.
        count: Number of steps in the tile.
    """
    recording = book.equity.shape[0] > 0
    can_fast_forward = (not has_exits(model)) & (not recording)
    account = book.accounts[k]
    positions = book.positions[k]
    active = book.active[k]
    i = 0
    while i < count:
        step = book.steps[np.uint64(i)]
        if (account.active == 0) & (step.idle > 0) & (not recording):
            i += step.idle  # nothing changes a flat book in an idle step
            continue
        if (account.active == 1) & (step.idle > 0) & can_fast_forward:
            s = np.uint64(active[0])
            position = positions[s]
            if (position.size != 0.0) & (position.close_frac == 0.0) & (position.open_size == 0.0):
                reached = fast_forward(account, position, symbols[s], model, book.bars, s, i, i + step.idle)
                if reached > i:
                    i = reached
                    continue
        if (step.signal_count > 0) | (account.active > 0):
            # Steps are numbered from the start of the market; these arrays may begin later, at `origin`.
            t = first + i + model.origin
            take_step(book, account, positions, active, i, step, symbols, model, columns, column_of, params, t)
        if recording:
            book.equity[first + i] = account.equity
            for each in range(book.verdict.shape[0]):
                book.verdicts[first + i, each] = book.verdict[each]
                book.verdict[each] = NO_SIGNAL
        if step.day_end != 0:
            end_day(account, book.days, step.block, k)
        i += 1


@driver
def run(market, models, symbols, columns, column_of, signal_params, signal_group_of, params, first, last, book):
    """Move every combo of the book through the steps [first, last), a tile at a time.

    Args:
        market: `kernels.market.Market`.
        models: [1] record of `market.MODEL`; its `origin` is added to every step number that is stored.
        symbols: [V, S] records of `market.SYMBOL`; a tile ends where the next version begins.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column number of each feature, by signal group and symbol group.
        signal_params: [E, G] records of the parameters that shape signals.
        signal_group_of: [B] signal group of each combo. Combos of a group should be neighbours, since signals are
            computed once per run of neighbours.
        params: [B, G] records of all parameters, by combo and symbol group.
        first: First step.
        last: One past the last step.
        book: `kernels.book.Book` of B combos; the length of its `steps` is that of a tile.
    """
    tile = book.steps.shape[0]
    origin = models[0].origin
    version = 0
    base = first
    while base < last:
        stop = base + tile if base + tile < last else last
        while version + 1 < market.since.shape[0] and market.since[version + 1] <= base + origin:
            version += 1
        if version + 1 < market.since.shape[0] and market.since[version + 1] < stop + origin:
            stop = market.since[version + 1] - origin
        terms = symbols[version]
        gather(market, base, stop, book.bars, book.steps)
        current = -1
        for k in range(signal_group_of.shape[0]):
            e = signal_group_of[k]
            if e != current:
                compute_signals(
                    market,
                    columns,
                    column_of,
                    signal_params,
                    e,
                    base,
                    stop,
                    book.codes,
                    book.signal_symbols,
                    book.steps,
                )
                current = e
            advance_book(book, terms, models[0], columns, column_of[e], params[k], k, base, stop - base)
        base = stop


@driver
def explain(market, columns, column_of, signal_params, e, t, s, out):
    """Write value, threshold and verdict of each gate of the strategy for symbol `s` at step t.

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] as in `run`.
        signal_params: [E, G] as in `run`.
        e: Signal group.
        t: Step.
        s: Symbol.
        out: [len(GATES), 3] receives value, threshold and verdict of each gate: 1 open, 0 closed, NaN not in use.

    Returns:
        The signal code; 0 for no signal.
    """
    benchmark = market.benchmark[0]
    row = market.row[t]
    if (row < 0) | (market.age[t, s] < 0):
        return 0
    previous_row = market.previous_row[t]
    g = market.symbol_group[s]
    market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
    now = read(columns, column_of[e, g], row, s)
    before = read(columns, column_of[e, g], previous_row, s)
    price = market.close[t, s]
    age = market.age[t, s]
    trace(price, age, s == benchmark, now, before, market_context, signal_params[e, g], out)
    return signal(price, age, s == benchmark, now, before, market_context, signal_params[e, g])
