"""What one thread of a CUDA device does. The rules are the engine's: here is only who works on what.

Loaded once per strategy and target by `kernels.cuda.build.bind`, which puts the strategy's engine, its records and the
module `cuda` of numba into this module's globals. A tile of steps is two questions and one walk: `look` asks for the
signals of each entry set at each step, `calm` counts the quiet steps of each set, `move` takes each combo through.

Combos are in order of their entry set, so the threads of a warp read the same signals and feature columns.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.book import LOG, Book
from kernels.cuda.layout import OpenedBook
from kernels.jit import device
from kernels.ledger import ACCOUNT

if TYPE_CHECKING:
    # `kernels.cuda.build.bind` sets these globals when it loads the module.
    from kernels.ledger import ACCOUNT as PARAMS  # noqa: TC004 - a record, as a strategy's parameters are
    from kernels.simulate import advance_book, compute_signals, count_idle_steps, gather, open_books  # noqa: TC004 - as above

    cuda: Any = None


# A thread's own records are made of numbers, whose alignment they then have; numba would let a record lie anywhere.
ACCOUNT_WORDS, LOG_WORDS, PARAMS_WORDS = (int(record.itemsize) // 8 for record in (ACCOUNT, LOG, PARAMS))


@device
def open_one(k, usd, accounts, positions, days):
    """Make combo k flat, with `usd` of cash."""
    open_books(OpenedBook(accounts[k : k + 1], positions[k : k + 1], days[:, :, k : k + 1]), usd)


@device
def signals_at(e, i, first, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols):
    """Ask entry set e for its signals at step i of the tile that begins at `first`; set 0 gathers the bars, too."""
    t = first + i
    symbols = bars.shape[1] if e == 0 else 0
    gather(market, t, t + 1, bars[i : i + 1, :symbols], steps[e, i : i + 1])
    compute_signals(
        market,
        columns,
        column_of,
        signal_params,
        e,
        t,
        t + 1,
        codes[e, i : i + 1],
        signal_symbols[e, i : i + 1],
        steps[e, i : i + 1],
    )


@device
def advance_one(
    k,
    first,
    count,
    symbols,
    models,
    columns,
    column_of,
    signal_group_of,
    own,
    bars,
    steps,
    codes,
    signal_symbols,
    account,
    positions,
    active,
    days,
    candidates,
    ranks,
    verdict,
    log,
):
    """Move combo k, with parameters `own` [G] and `account` [1], through the tile; nothing is recorded."""
    e = signal_group_of[k]
    book = Book(
        account,
        positions[k : k + 1],
        active[k : k + 1],
        days[:, :, k : k + 1],
        candidates[k],
        ranks[k],
        bars,
        codes[e],
        signal_symbols[e],
        steps[e],
        log,
        ranks[k, :0],
        verdict[k],
        codes[e, :0],
    )
    advance_book(book, symbols, models[0], columns, column_of[e], own, 0, first, count)


def start(usd, accounts, positions, days):
    """A thread for each combo."""
    k = cuda.grid(1)
    if k < accounts.shape[0]:
        open_one(k, usd, accounts, positions, days)


def signals(first, count, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols):
    """A thread for each step of each entry set; neighbours have neighbouring steps."""
    n = cuda.grid(1)
    if n < signal_params.shape[0] * count:
        signals_at(
            n // count, n % count, first, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols
        )


def idle(count, steps):
    """A thread for each entry set."""
    e = cuda.grid(1)
    if e < steps.shape[0]:
        count_idle_steps(steps[e], count)


def advance(
    first,
    count,
    version,
    symbols,
    models,
    columns,
    column_of,
    signal_group_of,
    params,
    bars,
    steps,
    codes,
    signal_symbols,
    accounts,
    positions,
    active,
    days,
    candidates,
    ranks,
    verdict,
):
    """A thread for each combo.

    The account is a thread's own during the tile, so its fields stay in registers. Parameters are copied to a thread's
    local memory where there is one group of them: the device interleaves that by thread, so a warp that reads one
    parameter reads one stretch of memory, not 32 records.
    """
    k = cuda.grid(1)
    if k < signal_group_of.shape[0]:
        account = cuda.local.array(ACCOUNT_WORDS, np.float64).view(ACCOUNT)
        base = cuda.local.array(PARAMS_WORDS, np.float64).view(PARAMS)
        none = cuda.local.array(LOG_WORDS, np.float64).view(LOG)[:0]
        account[0] = accounts[k]
        own = params[k]
        if params.shape[1] == 1:
            base[0] = params[k, 0]
            own = base
        advance_one(
            k,
            first,
            count,
            symbols[version],
            models,
            columns,
            column_of,
            signal_group_of,
            own,
            bars,
            steps,
            codes,
            signal_symbols,
            account,
            positions,
            active,
            days,
            candidates,
            ranks,
            verdict,
            none,
        )
        accounts[k] = account[0]


KERNELS = (start, signals, idle, advance)
