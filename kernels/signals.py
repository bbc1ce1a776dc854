"""Signals of the steps of a tile, from features alone.

`kernels.bind` loads this file once per strategy and puts the functions of the strategy into its globals.
"""

from typing import TYPE_CHECKING

from kernels.jit import device, lanes

if TYPE_CHECKING:
    # `kernels.bind` sets these globals before it runs this module.
    from kernels.bind import reader
    from kernels.defaults import context  # noqa: TC004 - as above
    from kernels.strategies.ema_cross import signal  # noqa: TC004 - as above

    read = reader(())


@device
def count_idle_steps(steps, count):
    """Write into the first `count` steps how many steps, from each one on, a flat book can skip.

    A signal, the end of a day and a delisting stop the count.
    """
    idle = 0
    for i in range(count - 1, -1, -1):
        step = steps[i]
        idle = idle + 1 if (step.signal_count == 0) & (step.day_end == 0) & (step.ends == 0) else 0
        steps[i].idle = idle


@lanes
def compute_signals(market, columns, column_of, signal_params, e, first, last, codes, signal_symbols, steps):
    """Compute the signals of a signal group at the steps [first, last).

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column number of each feature, by signal group and symbol group.
        signal_params: [E, G] records of the parameters that shape signals.
        e: Signal group.
        first: First step.
        last: One past the last step.
        codes: [last - first, S] receives the signal codes; 0 for no signal.
        signal_symbols: [last - first, S] receives the symbols with a signal, in order.
        steps: [last - first] records of `book.STEP`; receive `signal_count` and `idle`.
    """
    benchmark = market.benchmark[0]
    for t in range(first, last):
        i = t - first
        row = market.row[t]
        previous_row = market.previous_row[t]
        count = 0
        if (market.enters[t] != 0) & (row >= 0):
            market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
            # Each symbol is computed with the parameters of every group, and only the value of its own group is kept:
            # LLVM vectorises a loop over symbols without branches.
            for g in range(signal_params.shape[1]):
                params = signal_params[e, g]
                for s in range(codes.shape[1]):
                    code = signal(
                        market.close[t, s],
                        market.age[t, s],
                        s == benchmark,
                        read(columns, column_of[e, g], row, s),
                        read(columns, column_of[e, g], previous_row, s),
                        market_context,
                        params,
                    )
                    valid_code = code if market.age[t, s] >= 0 else 0
                    codes[i, s] = valid_code if market.symbol_group[s] == g else codes[i, s]
            for s in range(codes.shape[1]):
                signal_symbols[i, count] = s
                count += 1 if codes[i, s] != 0 else 0
        steps[i].signal_count = count
    count_idle_steps(steps, last - first)


@device
def gather(market, first, last, bars, steps):
    """Copy the steps [first, last) into `bars` [tile, S] and `steps` [tile], where a bar shares cache lines."""
    for t in range(first, last):
        step = steps[t - first]
        step.row = market.row[t]
        step.previous_row = market.previous_row[t]
        step.exits = market.exits[t]
        step.day_end = market.day_end[t]
        step.block = market.block[t]
        step.ends = market.ends[t]
        for s in range(bars.shape[1]):
            bar = bars[t - first, s]
            bar.open = market.open[t, s]
            bar.high = market.high[t, s]
            bar.low = market.low[t, s]
            bar.close = market.close[t, s]
            bar.last_price = market.last_price[t, s]
            bar.funding = market.funding[t, s]
            bar.age = market.age[t, s]
