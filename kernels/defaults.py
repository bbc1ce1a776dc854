"""What a strategy does where its module does not say: no exits of its own, no additions, all equal in rank."""

import numpy as np

from kernels.jit import device

MEMORY: tuple[str, ...] = ()
EXITS: tuple[str, ...] = ()
GATES: tuple[str, ...] = ()


@device
def context(columns, column_of, now, benchmark, params):
    """What the whole market looks like at main row `now`; whatever the strategy's `signal` and `trace` understand."""
    return 0.0


@device
def manage(position, price, lots, now, before, params):
    """Whether a position is to be closed at `price`: an index into `EXITS` or -1, and the fraction to close."""
    return -1, 1.0


@device
def admits(position, code, leaving, minutes, now, params):
    """Whether signal `code` may open a position.

    Args:
        position: The symbol's record.
        code: The signal.
        leaving: An exit that is no signal is ordered already.
        minutes: Time since the last exit of the signal's side that was no signal; NaN before the first.
        now: Features.
        params: Parameters.
    """
    return True


@device
def rank(code, now, params):
    """Rank of a candidate among those of its step; higher goes first."""
    return 0.0


@device
def add(position, code, value, price, minutes, now, params):
    """Coins to add to a position that signal `code` agrees with; 0 for none.

    Args:
        position: The symbol's record.
        code: The signal.
        value: USD of equity that sizes are taken from.
        price: Close of the step.
        minutes: Time since the opening or the last addition.
        now: Features.
        params: Parameters.
    """
    return 0.0


@device
def trace(price, age, is_benchmark, now, before, market_context, params, out):
    """Write value, threshold and verdict of each of `GATES` into `out` [len(GATES), 3]."""
    for i in range(out.shape[0]):
        out[i, 0] = np.nan
        out[i, 1] = np.nan
        out[i, 2] = np.nan
