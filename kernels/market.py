"""The market as the kernels see it: arrays of bars, and the model of how an order becomes a fill."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.params import Parameter, Value

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
    """Bars of S symbols on one time grid of T bars, oldest first.

    Attributes:
        open: [T, S] price of the first trade; NaN where the symbol has no bar, as in the next three.
        high: [T, S] highest price.
        low: [T, S] lowest price.
        close: [T, S] price of the last trade.
        age: [T, S] how many bars the symbol had before this one since the anchor; -1 where it has no bar.
        funding: [T, S] sum of the funding rates (fraction of notional) due in (open, close] of the bar.
        lots: [S] lots per base coin: 10 ** size decimals.
        min_notional_usd: [S] least notional of an opening order.
        max_leverage: [S] greatest leverage the venue allows.
        maintenance_frac: [S] maintenance margin as a fraction of notional.
        day_end: [T] 1 where the bar is the last of its UTC day, else 0.
        block: [T] number of the time block that the bar's day belongs to.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    age: Ints
    funding: Floats
    lots: Floats
    min_notional_usd: Floats
    max_leverage: Floats
    maintenance_frac: Floats
    day_end: Ints
    block: Ints


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
    """

    next_open: int
    intrabar: int
    delay_bars: int
    fee: float
    entry_slip: float
    exit_slip: float
    initial_usd: float


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
