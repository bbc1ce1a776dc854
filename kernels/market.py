"""The market as the kernels see it: arrays of bars, and the model of how an order becomes a fill."""

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
              "When an order decided at the close of a bar is filled.", ("close", "next_open")),
    Parameter("market.stops", "choice", "intrabar", 0, 0, "", "market",
              "Whether stops and targets are tested against a bar's close or against its high and low.",
              ("close", "intrabar")),
    Parameter("market.delay_bars", "int", 0, 0, 100, "bars", "market",
              "Bars that an order waits beyond its fill time."),
    Parameter("market.taker_fee_bps", "float", 4.5, 0, 100, "bps", "market", "Fee of every fill, of its notional."),
    Parameter("market.entry_slippage_bps", "float", 0.0, 0, 1000, "bps", "market",
              "How much worse than the model's price an opening fill is."),
    Parameter("market.exit_slippage_bps", "float", 0.0, 0, 1000, "bps", "market",
              "How much worse than the model's price a closing fill is."),
)  # fmt: skip


class Market(NamedTuple):
    """Bars of S symbols on one time grid of T steps, oldest first.

    A step is a bar of the finest interval in use; with one interval, a main bar. Features live on main bars, which have
    a grid of their own: at the close of step t those of main row `row[t]` are known.

    Attributes:
        open: [T, S] price of the first trade; NaN where the symbol has no bar, as in the next three.
        high: [T, S] highest price.
        low: [T, S] lowest price.
        close: [T, S] price of the last trade.
        last_price: [T, S] last close up to and including the step's; NaN before the first (`last_prices_of`).
        age: [T, S] how many main bars of the symbol have closed since the anchor, up to the close of the step, less
            one; -1 where it has no bar at this step or no main bar of it has closed.
        funding: [T, S] sum of the funding rates (fraction of notional) due in (open, close] of the step.
        since: [V] first step at which each version of the venue's terms holds, 0 for the first; V is 1 where nothing
            changes.
        lots: [V, S] lots per base coin: 10 ** size decimals.
        min_notional_usd: [V, S] least notional of an opening order.
        max_leverage: [V, S] greatest leverage the venue allows.
        maintenance_frac: [V, S] maintenance margin as a fraction of notional.
        last: [V, S] step of the symbol's last bar before its delisting; -1 while it is listed.
        day_end: [T] 1 where the step is the last of its UTC day, else 0.
        block: [T] number of the time block that the step's day belongs to.
        row: [T] last main row that has closed at the close of the step; -1 before the first.
        before: [T] main row to compare with: where a main bar closes, the one before `row` (0 at row 0); inside a main
            bar, `row` itself; -1 where `row` is -1.
        enters: [T] 1 where entries are decided, at each close of the entry interval, else 0.
        exits: [T] 1 where exits are decided, at each close of the exit interval, else 0.
        ends: [T] 1 where the last bar of a symbol before its delisting closes, else 0.
        symbol_group: [S] parameter group that the symbol belongs to; 0 is the base.
        benchmark: [1] index of the benchmark symbol; -1 where the strategy reads none.
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
    before: Ints
    enters: Ints
    exits: Ints
    ends: Ints
    symbol_group: Ints
    benchmark: Ints
    minutes: Floats


class FillModel(NamedTuple):
    """How orders become fills; part of the evidence of every result.

    Attributes:
        next_open: 1 when an order fills at the open after its decision, 0 at the close of its decision.
        intrabar: 1 when stops and targets see high and low, 0 when they see the close.
        delay_bars: Further bars that an order waits.
        fee: Fee of a fill, fraction of notional.
        entry_slip: Slippage of an opening fill, fraction of price.
        exit_slip: Slippage of a closing fill, fraction of price.
        initial_usd: Cash at the start.
        size_mult: Scales the equity that sizes and the cap of margin see.
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
"""The fill model with the length of a step in minutes, the index of the lead, and what is added to numbers of steps."""

SYMBOL = record(("lots", "min_notional_usd", "max_leverage", "maintenance_frac"), ("symbol_group", "last"))
"""What the kernels must know of a symbol; the fields are those of `Market`."""


def model_record(model: FillModel, market: Market, origin: int = 0) -> NDArray[Any]:
    """[1] record of `MODEL`; `origin` is the number of the first step of an array that holds only the latest ones."""
    return np.array([(*model, market.minutes[0], market.benchmark[0], origin)], MODEL)


def symbol_records(market: Market) -> NDArray[Any]:
    """[V, S] records of `SYMBOL`, one row for each version of the venue's terms."""
    found = np.zeros(market.lots.shape, SYMBOL)
    for name in SYMBOL.names or ():
        found[name] = getattr(market, name)
    return found


def last_prices_of(close: Floats) -> Floats:
    """The last close that is known at each step, per symbol.

    Args:
        close: [T, S] with NaN where there is no bar.
    """
    known = np.where(np.isnan(close), 0, np.arange(len(close))[:, None])
    return np.asarray(np.take_along_axis(close, np.maximum.accumulate(known, axis=0), axis=0))


def fill_model(values: Mapping[str, Value], initial_usd: float) -> FillModel:
    """The fill model that market parameters describe.

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
