"""Defaults for optional parts of a strategy: no own exits, no additions, equal ranks."""

import numpy as np

from kernels.jit import device

MEMORY: tuple[str, ...] = ()
EXITS: tuple[str, ...] = ()
GATES: tuple[str, ...] = ()


@device
def context(columns, column_of, now, benchmark, params):
    """Return the context of the market at main row `now`, as `market_context` of `signal` and `trace`."""
    return 0.0


@device
def manage(position, price, lots, now, before, params):
    """Return the exit of a position at `price`: an index into `EXITS` or -1, and the fraction to close."""
    return -1, 1.0


@device
def admits(position, code, leaving, minutes, now, params):
    """Return whether signal `code` may open a position.

    Args:
        position: Record of the symbol.
        code: Signal code.
        leaving: True if an exit other than a signal is already ordered.
        minutes: Minutes since the last exit on the signal's side, closes by signals excluded; NaN before the first.
        now: Features.
        params: Parameters.
    """
    return True


@device
def rank(code, now, params):
    """Return the rank of a candidate among those of its step; higher ranks go first."""
    return 0.0


@device
def add(position, code, value, price, minutes, now, params):
    """Return the coins to add to a position on the side of signal `code`; 0 for none.

    Args:
        position: Record of the symbol.
        code: Signal code.
        value: Equity in USD that sizes are based on.
        price: Close of the step.
        minutes: Minutes since the opening or the last addition.
        now: Features.
        params: Parameters.
    """
    return 0.0


@device
def trace(price, age, is_benchmark, now, before, market_context, params, out):
    """Write value, threshold and verdict of each gate in `GATES` into `out` [len(GATES), 3]."""
    for i in range(out.shape[0]):
        out[i, 0] = np.nan
        out[i, 1] = np.nan
        out[i, 2] = np.nan
