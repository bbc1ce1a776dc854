"""`ema_cross`: a cross of two exponential means, with a stop and a target in units of ATR. The least a strategy has.

At the close of a bar with at least `entry.warmup_bars` bars before it, the fast mean lies above the slow one or it does
not; when that differs from the bar before, the strategy wants to be long or short. Stop and target are fixed when the
order is filled, at multiples of the ATR at the decision.
"""

from typing import NamedTuple

from kernels.features import Use
from kernels.jit import device
from kernels.params import Parameter

NAME = "ema_cross"

PARAMETERS = (
    Parameter("indicators.ema_fast_window", "int", 12, 1, 5000, "bars", "feature", "Window of the fast mean."),
    Parameter("indicators.ema_slow_window", "int", 50, 1, 5000, "bars", "feature", "Window of the slow mean."),
    Parameter("indicators.atr_window", "int", 14, 1, 5000, "bars", "feature", "Window of the average true range."),
    Parameter("entry.warmup_bars", "int", 200, 1, 100_000, "bars", "entry",
              "Bars that a symbol must have before its first signal."),
    Parameter("trade.sl_atr_mult", "float", 2.0, 0.01, 100, "atr", "exit", "Distance of the stop from the entry."),
    Parameter("trade.tp_atr_mult", "float", 3.0, 0.01, 100, "atr", "exit", "Distance of the target from the entry."),
    Parameter("trade.size_mode", "choice", "equity", 0, 0, "", "sizing",
              "Whether a position's notional is a fraction of equity or its size a number of coins.",
              ("equity", "units")),
    Parameter("trade.size_frac", "float", 0.1, 0.0001, 10, "frac", "sizing",
              "Notional of a new position as a fraction of equity, when size_mode is equity."),
    Parameter("trade.size_units", "float", 1.0, 1e-8, 1e9, "coins", "sizing",
              "Size of a new position, when size_mode is units."),
    Parameter("trade.leverage", "float", 3.0, 1, 50, "x", "sizing",
              "Notional per unit of initial margin; the venue's maximum applies where it is lower."),
    Parameter("trade.max_open_positions", "int", 20, 1, 256, "positions", "sizing",
              "Open positions that the book may hold."),
)  # fmt: skip

FEATURES = (
    Use("fast", "ema", "indicators.ema_fast_window"),
    Use("slow", "ema", "indicators.ema_slow_window"),
    Use("atr", "atr", "indicators.atr_window"),
)


class Params(NamedTuple):
    """Encoded parameters of one combo, in the order of `PARAMETERS`."""

    ema_fast_window: float
    ema_slow_window: float
    atr_window: float
    warmup_bars: float
    sl_atr_mult: float
    tp_atr_mult: float
    size_mode: float
    size_frac: float
    size_units: float
    leverage: float
    max_open_positions: float


class Features(NamedTuple):
    """Feature values of one symbol at one bar, in the order of `FEATURES`."""

    fast: float
    slow: float
    atr: float


@device
def load_params(values, k):
    """Combo `k` of `values` [len(PARAMETERS), K]."""
    return Params(
        values[0, k],
        values[1, k],
        values[2, k],
        values[3, k],
        values[4, k],
        values[5, k],
        values[6, k],
        values[7, k],
        values[8, k],
        values[9, k],
        values[10, k],
    )


@device
def load_features(columns, rows, k, t, s):
    """Features of combo `k`: row `rows[i, k]` of `columns` [C, T, S] for feature i."""
    return Features(columns[rows[0, k], t, s], columns[rows[1, k], t, s], columns[rows[2, k], t, s])


@device
def signal(age, now, before, params):
    """Wanted side (1 long, -1 short, 0 no opinion) and rank among the symbols of this bar (higher goes first)."""
    up = now.fast > now.slow
    was_up = before.fast > before.slow
    crossed = (up != was_up) & (age >= params.warmup_bars)
    side = 1.0 if up else -1.0
    return (side if crossed else 0.0), 0.0


@device
def protect(now, params):
    """Distances of stop and target from the entry price, both positive, in price units."""
    return params.sl_atr_mult * now.atr, params.tp_atr_mult * now.atr
