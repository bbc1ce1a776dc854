"""CUDA kernels: the work of one thread. The rules are those of `kernels.simulate`.

`kernels.cuda.build.bind` loads this file once per strategy and target, and puts the simulation of the strategy, its
records and numba's module `cuda` into the globals. Each tile of steps takes three kernels: `signals` computes the
signals of each signal group at each step, `idle` counts the idle steps of each group, and `advance` moves each combo.

Combos are in order of their signal group, so the threads of a warp read the same signals and feature columns.
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
    from kernels.signals import compute_signals, count_idle_steps, gather  # noqa: TC004 - as above
    from kernels.simulate import advance_book, open_books  # noqa: TC004 - as above

    cuda: Any = None


# A thread's own records are views of arrays of numbers, to get their alignment; numba does not align local records.
ACCOUNT_WORDS, LOG_WORDS, PARAMS_WORDS = (int(record.itemsize) // 8 for record in (ACCOUNT, LOG, PARAMS))


@device
def open_one(k, usd, accounts, positions, days):
    """Reset combo k: no positions, `usd` of cash."""
    open_books(OpenedBook(accounts[k : k + 1], positions[k : k + 1], days[:, :, k : k + 1]), usd)


@device
def signals_at(e, i, first, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols):
    """Compute the signals of group e at step i of the tile that begins at `first`; group 0 also gathers the bars."""
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
    """Move combo k, with parameters `own` [G] and `account` [1], through the tile, without recording."""
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
    """Reset the combos, one thread each."""
    k = cuda.grid(1)
    if k < accounts.shape[0]:
        open_one(k, usd, accounts, positions, days)


def signals(first, count, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols):
    """Compute signals, with one thread per step of each signal group; neighbouring threads have neighbouring steps."""
    n = cuda.grid(1)
    if n < signal_params.shape[0] * count:
        signals_at(
            n // count, n % count, first, market, columns, column_of, signal_params, bars, steps, codes, signal_symbols
        )


def idle(count, steps):
    """Count idle steps, with one thread per signal group."""
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
    """Move the combos, one thread each.

    The account is a local copy during the tile, so its fields stay in registers. If there is a single symbol group,
    parameters are copied to local memory, which the device interleaves by thread: a warp that reads a parameter then
    reads adjacent memory instead of 32 records.
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
