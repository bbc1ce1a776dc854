"""`ema_cross`: a cross of two exponential means, with stop and target as multiples of the ATR; a minimal strategy.

The signal is long when the fast mean crosses above the slow mean, and short when it crosses below. Before the first
signal, a symbol needs `entry.warmup_bars` earlier bars. Stop and target are fixed when the order is filled, at
multiples of the ATR at the decision.
"""

from kernels.features import Use
from kernels.jit import device
from kernels.limits import limits
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
              "Size of a position: a fraction of equity, or a number of coins.",
              ("equity", "units")),
    Parameter("trade.size_frac", "float", 0.1, 0.0001, 10, "frac", "sizing",
              "Notional of a new position as a fraction of equity, when size_mode is equity."),
    Parameter("trade.size_units", "float", 1.0, 1e-8, 1e9, "coins", "sizing",
              "Size of a new position, when size_mode is units."),
    Parameter("trade.leverage", "float", 3.0, 1, 50, "x", "sizing",
              "Notional per unit of initial margin; the venue's maximum applies where it is lower."),
    *limits(),
)  # fmt: skip

FEATURES = (
    Use("fast", "ema", ("indicators.ema_fast_window",)),
    Use("slow", "ema", ("indicators.ema_slow_window",)),
    Use("atr", "atr", ("indicators.atr_window",)),
)

GATES = ("warm-up", "fast mean above slow", "crossed")

_EQUITY_MODE = 0.0


@device
def signal(price, age, is_benchmark, now, before, market_context, params):
    """Return the signal: 1 long, -1 short, 0 none."""
    up = now.fast > now.slow
    was_up = before.fast > before.slow
    crossed = (up != was_up) & (age >= params.warmup_bars)
    side = 1 if up else -1
    return side if crossed else 0


@device
def size(code, value, price, most_leverage, now, params):
    """Return the coins of a new position before rounding, and its leverage."""
    leverage = params.leverage if params.leverage < most_leverage else most_leverage
    coins = value * params.size_frac / price if params.size_mode == _EQUITY_MODE else params.size_units
    return coins, leverage


@device
def plan(code, price, now, params):
    """Return the values to keep until the fill: distances of stop and target in price units."""
    return params.sl_atr_mult * now.atr, params.tp_atr_mult * now.atr, 0.0


@device
def begin(position, side, fill_price):
    """Set stop and target of a position that was just opened at `fill_price`."""
    position.stop = fill_price - side * position.note_a
    position.target = fill_price + side * position.note_b


@device
def trace(price, age, is_benchmark, now, before, market_context, params, out):
    """Write value, threshold and verdict of each gate in `GATES`."""
    up = now.fast > now.slow
    was_up = before.fast > before.slow
    out[0, 0] = age
    out[0, 1] = params.warmup_bars
    out[0, 2] = 1.0 if age >= params.warmup_bars else 0.0
    out[1, 0] = now.fast
    out[1, 1] = now.slow
    out[1, 2] = 1.0 if up else 0.0
    out[2, 0] = 1.0 if up else 0.0
    out[2, 1] = 1.0 if was_up else 0.0
    out[2, 2] = 1.0 if up != was_up else 0.0
