"""Round trips: from flat to flat, whatever was added and closed in between."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.replay.signals import decoder
from mei_pipeline.simulation.bars import Bars

SCHEMA: dict[str, Any] = {
    "symbol": pl.String,
    "side": pl.String,
    "tier": pl.String,
    "mode": pl.String,
    "entry_ms": pl.Int64,
    "exit_ms": pl.Int64,
    "entry_price": pl.Float64,
    "exit_price": pl.Float64,
    "size": pl.Float64,
    "total_size": pl.Float64,
    "adds": pl.Int64,
    "partials": pl.Int64,
    "reason": pl.String,
    "bars": pl.Int64,
    "minutes": pl.Float64,
    "fees_usd": pl.Float64,
    "funding_usd": pl.Float64,
    "pnl_usd": pl.Float64,
    "return_pct": pl.Float64,
    "mae_pct": pl.Float64,
    "mfe_pct": pl.Float64,
}
"""Columns of the trades.

    size: the most that was held, base coin. total_size: everything that was opened.
    entry_price, exit_price: averages of all opening and of all closing fills, weighted by their sizes.
    adds, partials: how often it was added to, and closed in part.
    reason: why the last part was closed. tier, mode: of the signal that opened it.
    bars, minutes: from entry_ms to exit_ms; bars are steps.
    pnl_usd: net of fees and funding, and of what a backstop took or bore.
    return_pct: pnl_usd, in percent of the notional that was opened.
    mae_pct, mfe_pct: furthest that the price went against the position (0 or below) and for it (0 or above), in percent
        of the average entry in force at that time.
"""

_OPEN = ("symbol", "side", "tier", "mode", "entry_ms", "entry_price", "size", "adds", "partials")
_CLOSES = "close"
_OPENS = frozenset({"entry", "add"})
_PAYMENTS = frozenset({"funding", "backstop"})
"""Reasons of rows that move cash and no size."""


@dataclass
class _Trip:
    """A round trip under way."""

    number: int
    symbol: str
    column: int
    first: Mapping[str, Any]
    side: float
    held: float = 0.0
    average: float = 0.0
    most: float = 0.0
    opened: Decimal = Decimal(0)
    paid: float = 0.0
    closed: float = 0.0
    got: float = 0.0
    adds: int = 0
    closes: int = 0
    fees: float = 0.0
    funding: float = 0.0
    pnl: float = 0.0
    worst: float = 0.0
    best: float = 0.0
    last: Mapping[str, Any] = field(default_factory=dict)

    def book(self, fill: Mapping[str, Any]) -> None:
        """Take in one fill or payment."""
        self.fees += fill["fee_usd"]
        self.pnl += fill["cash_usd"]
        if fill["reason"] in _PAYMENTS:
            self.funding -= fill["cash_usd"] if fill["reason"] == "funding" else 0.0
            return
        size, price = abs(fill["size"]), fill["price"]
        if fill["reason"] in _OPENS:
            self.average = (self.average * abs(self.held) + price * size) / abs(fill["held"])
            self.opened += Decimal(repr(size))  # decimals, since sums of binary fractions leave the grid of lots
            self.paid += size * price
            self.adds += fill["reason"] == "add"
        else:
            self.closed += size
            self.got += size * price
            self.closes += 1
        self.held = fill["held"]
        self.most = max(self.most, abs(self.held))
        self.last = fill

    def reach(self, price: float) -> None:
        """Take in a price that the position has seen."""
        if math.isfinite(price):
            moved = 100.0 * self.side * (price - self.average) / self.average
            self.worst, self.best = min(self.worst, moved), max(self.best, moved)


def round_trips(fills: pl.DataFrame, bars: Bars, strategy: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split the fills of a replay into round trips; `marked` says what the open ones are worth.

    Excursions (mae, mfe) are those of J. Sweeney, Maximum Adverse Excursion (1996), from the highs and lows of the
    steps at which the position was held: after a fill at a close from the next step on, after one at an open with that
    step. A step at whose close it ended counts whole; of a step at whose open or inside which it ended only the price
    of that fill counts, as nobody knows what the bar did before it.

    Args:
        fills: As in `Replay.fills`, without `trip`.
        bars: The bars that they were made on.
        strategy: Says what signals mean.

    Returns:
        The fills with `trip`, the number of the round trip that each belongs to, and `held`, the signed size after it;
        the closed trips, with the columns of `SCHEMA`, by time of exit; and the open ones: symbol, side, tier, mode,
        entry_ms, entry_price (average in force), size (held), adds, partials, realised_usd (booked so far: parts that
        were closed, fees, funding).
    """
    column = {name: s for s, name in enumerate(bars.symbols)}
    high, low = bars.steps.prices[1], bars.steps.prices[2]
    under_way: dict[str, _Trip] = {}
    closed: list[_Trip] = []
    numbers = []
    count = 0
    for fill in fills.iter_rows(named=True):
        name = fill["symbol"]
        trip = under_way.get(name)
        if trip is None:
            trip = _Trip(count, name, column[name], fill, 1.0 if fill["size"] > 0.0 else -1.0)
            under_way[name] = trip
            count += 1
        elif fill["reason"] not in _PAYMENTS:
            for price in _seen(trip, fill, high, low):
                trip.reach(price)
        trip.book(fill)
        numbers.append(trip.number)
        if trip.held == 0.0:
            closed.append(under_way.pop(name))
    told = fills.select(pl.exclude("held"), trip=pl.Series(numbers, dtype=pl.Int64), held="held")
    meaning = decoder(strategy)
    rows = [{**_common(trip, meaning), **_row(trip, bars.steps.step_ms)} for trip in closed]
    trades = pl.DataFrame(rows, schema=SCHEMA).sort("exit_ms", "symbol", maintain_order=True)
    return told, trades, _open(list(under_way.values()), meaning)


def _seen(trip: _Trip, fill: Mapping[str, Any], high: Floats, low: Floats) -> Iterator[float]:
    """Prices that a position has seen from its last fill to this one."""
    start = trip.last["bar"] + (trip.last["moment"] == _CLOSES)
    ends_at_close = fill["moment"] == _CLOSES
    stop = fill["bar"] + ends_at_close
    if stop > start:
        yield float(np.fmax.reduce(high[start:stop, trip.column]))
        yield float(np.fmin.reduce(low[start:stop, trip.column]))
    if not ends_at_close:
        yield fill["price"]


def _common(trip: _Trip, meaning: Any) -> dict[str, Any]:
    told = meaning(trip.first["signal"])
    return {
        "symbol": trip.symbol,
        "side": "long" if trip.side > 0.0 else "short",
        "tier": told.tier,
        "mode": told.mode,
        "entry_ms": trip.first["time_ms"],
        "adds": trip.adds,
    }


def _row(trip: _Trip, step_ms: int) -> dict[str, Any]:
    lasted_ms = trip.last["time_ms"] - trip.first["time_ms"]
    return {
        "exit_ms": trip.last["time_ms"],
        "entry_price": trip.paid / float(trip.opened),
        "exit_price": trip.got / trip.closed,
        "size": trip.most,
        "total_size": float(trip.opened),
        "partials": trip.closes - 1,
        "reason": trip.last["reason"],
        "bars": lasted_ms // step_ms,
        "minutes": lasted_ms / MINUTE_MS,
        "fees_usd": trip.fees,
        "funding_usd": trip.funding,
        "pnl_usd": trip.pnl,
        "return_pct": 100.0 * trip.pnl / trip.paid,
        "mae_pct": trip.worst,
        "mfe_pct": trip.best,
    }


def _open(trips: list[_Trip], meaning: Any) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                **_common(trip, meaning),
                "realised_usd": trip.pnl,
                "entry_price": trip.average,
                "size": abs(trip.held),
                "partials": trip.closes,
            }
            for trip in trips
        ],
        schema={
            **{name: SCHEMA[name] for name in _OPEN},
            "realised_usd": pl.Float64,
        },
    ).sort("symbol")


def marked(holding: pl.DataFrame, last_prices: Mapping[str, float]) -> pl.DataFrame:
    """Add to open positions what they are worth: last_price, unrealised_usd there, and pnl_usd, the sum of both.

    Args:
        holding: Open positions, as `round_trips` returns them.
        last_prices: Last known close of each symbol, at the end of the window.
    """
    side = pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0)
    price = pl.col("symbol").replace_strict(dict(last_prices), return_dtype=pl.Float64)
    moved = side * pl.col("size") * (pl.col("last_price") - pl.col("entry_price"))
    return (
        holding.with_columns(last_price=price)
        .with_columns(unrealised_usd=moved)
        .with_columns(pnl_usd=pl.col("realised_usd") + pl.col("unrealised_usd"))
    )
