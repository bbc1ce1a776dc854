"""Input of the kernels: the market as arrays, the fill model, and their records."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.params import Parameter, Value
from kernels.records import record

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARAMETERS = (
    Parameter("market.fill", "choice", "next_open", 0, 0, "", "market",
              "Time of the fill of an order decided at the close of a bar.", ("close", "next_open")),
    Parameter("market.stops", "choice", "intrabar", 0, 0, "", "market",
              "Prices against which stops and targets are tested: the close of a bar, or its high and low.",
              ("close", "intrabar")),
    Parameter("market.delay_bars", "int", 0, 0, 100, "bars", "market",
              "Number of further bars that an order waits."),
    Parameter("market.taker_fee_bps", "float", 4.5, 0, 100, "bps", "market", "Fee of every fill, of its notional."),
    Parameter("market.entry_slippage_bps", "float", 0.0, 0, 1000, "bps", "market",
              "Slippage of opening fills: how much worse the fill is than the price of the model."),
    Parameter("market.exit_slippage_bps", "float", 0.0, 0, 1000, "bps", "market",
              "Slippage of closing fills: how much worse the fill is than the price of the model."),
)  # fmt: skip


class Market(NamedTuple):
    """Bars of S symbols on a time grid of T steps, oldest first.

    A step is a bar of the finest interval in use. Features are computed on main bars, on a grid of their own: at the
    close of step t, the features of main row `row[t]` are known.

    Attributes:
        open: [T, S] price of the first trade; NaN where the symbol has no bar, as for high, low and close.
        high: [T, S] highest price.
        low: [T, S] lowest price.
        close: [T, S] price of the last trade.
        last_price: [T, S] last known close at the step; NaN before the first bar (`last_prices_of`).
        age: [T, S] number of main bars of the symbol that have closed since the anchor, at the close of the step, minus
            one; -1 where the symbol has no bar at the step or no closed main bar.
        funding: [T, S] sum of the funding rates (fraction of notional) due in (open, close] of the step.
        since: [V] first step of each version of the venue's terms; 0 for the first version.
        lots: [V, S] lots per base coin: 10 ** size decimals.
        min_notional_usd: [V, S] minimum notional of an opening order.
        max_leverage: [V, S] maximum leverage of the venue.
        maintenance_frac: [V, S] maintenance margin as a fraction of notional.
        last: [V, S] step of the symbol's last bar before its delisting; -1 while it is listed.
        day_end: [T] 1 at the last step of a UTC day, else 0.
        block: [T] time block of the step's day.
        row: [T] last main row that has closed at the close of the step; -1 before the first.
        previous_row: [T] main row to compare `row` with. At the close of a main bar: `row` - 1, at least 0. At other
            steps: `row`.
        enters: [T] 1 where entries are decided, at each close of the entry interval, else 0.
        exits: [T] 1 where exits are decided, at each close of the exit interval, else 0.
        ends: [T] 1 where the last bar of a symbol before its delisting closes, else 0.
        symbol_group: [S] symbol group of each symbol: the set of symbols with the same parameters; 0 is the base.
        benchmark: [1] index of the benchmark symbol; -1 if the strategy reads none.
        minutes: [1] length of a step in minutes.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    last_price: Floats
    age: Ints
    funding: Floats
    since: Ints
    lots: Floats
    min_notional_usd: Floats
    max_leverage: Floats
    maintenance_frac: Floats
    last: Ints
    day_end: Ints
    block: Ints
    row: Ints
    previous_row: Ints
    enters: Ints
    exits: Ints
    ends: Ints
    symbol_group: Ints
    benchmark: Ints
    minutes: Floats


class FillModel(NamedTuple):
    """Rules for the fill of an order; part of the evidence of every result.

    Attributes:
        next_open: 1 to fill an order at the open after its decision, 0 to fill it at the close of its decision.
        intrabar: 1 to test stops and targets against high and low, 0 to test them against the close.
        delay_bars: Number of further bars that an order waits.
        fee: Fee of a fill, fraction of notional.
        entry_slip: Slippage of an opening fill, fraction of price.
        exit_slip: Slippage of a closing fill, fraction of price.
        initial_usd: Cash at the start.
        size_mult: Factor of the equity that position sizes and the margin limit are based on.
    """

    next_open: int
    intrabar: int
    delay_bars: int
    fee: float
    entry_slip: float
    exit_slip: float
    initial_usd: float
    size_mult: float = 1.0


MODEL = record((*FillModel._fields, "minutes", "benchmark"), ("origin",))
"""The fill model, the length of a step in minutes, the index of the benchmark, and the number of the first step."""

SYMBOL = record(("lots", "min_notional_usd", "max_leverage", "maintenance_frac"), ("symbol_group", "last"))
"""Terms of a symbol; the fields are those of `Market`."""


def model_record(model: FillModel, market: Market, origin: int = 0) -> NDArray[Any]:
    """Return the [1] record of `MODEL`; `origin` is the number of the first step in the arrays of the market."""
    return np.array([(*model, market.minutes[0], market.benchmark[0], origin)], MODEL)


def symbol_records(market: Market) -> NDArray[Any]:
    """Return the [V, S] records of `SYMBOL`, one row per version of the venue's terms."""
    records = np.zeros(market.lots.shape, SYMBOL)
    for name in SYMBOL.names or ():
        records[name] = getattr(market, name)
    return records


def last_prices_of(close: Floats) -> Floats:
    """Return the last known close of each symbol at each step, [T, S]; NaN before its first bar.

    Args:
        close: [T, S] closes; NaN where there is no bar.
    """
    last_bar = np.where(np.isnan(close), 0, np.arange(len(close))[:, None])
    return np.asarray(np.take_along_axis(close, np.maximum.accumulate(last_bar, axis=0), axis=0))


def fill_model(values: Mapping[str, Value], initial_usd: float) -> FillModel:
    """Return the fill model of market parameters.

    Args:
        values: Value of every path of `PARAMETERS`, already validated.
        initial_usd: Cash at the start.
    """
    basis_point = 10_000.0
    return FillModel(
        next_open=int(values["market.fill"] == "next_open"),
        intrabar=int(values["market.stops"] == "intrabar"),
        delay_bars=int(values["market.delay_bars"]),
        fee=float(values["market.taker_fee_bps"]) / basis_point,
        entry_slip=float(values["market.entry_slippage_bps"]) / basis_point,
        exit_slip=float(values["market.exit_slippage_bps"]) / basis_point,
        initial_usd=float(initial_usd),
    )
