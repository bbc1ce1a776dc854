"""Round trips: from flat to flat, whatever was added and closed in between."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.replay.signals import signal_decoder
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
class _OpenTrade:
    """A round trip under way."""

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


def trade_numbers(symbol: Ints, size: Floats, held: Floats) -> Ints:
    """Number the round trips of a log in the order in which they were opened.

    Everything that counts trades after a run reads them from here: the ledger itself counts while it books.

    Args:
        symbol: [N] number of the symbol of each row, oldest row first.
        size: [N] signed size of the fill; 0 in a row that moves only cash.
        held: [N] signed size of the position after the row.

    Returns:
        [N] number of the round trip that each row belongs to.
    """
    order = np.argsort(symbol, kind="stable")
    ends = (size[order] != 0.0) & (held[order] == 0.0)
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = ends[:-1] | (np.diff(symbol[order]) != 0)
    by_symbol = np.empty(len(order), dtype=np.int64)
    by_symbol[order] = begins.cumsum() - 1
    _, first, number = np.unique(by_symbol, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.reshape(-1)]


def split_trades(fills: pl.DataFrame, bars: Bars, strategy: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split the fills of a replay into round trips; `mark_to_market` says what the open ones are worth.

    Excursions (mae, mfe) are those of J. Sweeney, Maximum Adverse Excursion (1996), from the highs and lows of the
    steps at which the position was held: after a fill at a close from the next step on, after one at an open with that
    step. A step at whose close it ended counts whole; of a step at whose open or inside which it ended only the price
    of that fill counts, as nobody knows what the bar did before it.

    Args:
        fills: As in `Replay.fills`, without `trade`.
        bars: The bars that they were made on.
        strategy: Says what signals mean.

    Returns:
        The fills with `trade`, the number of the round trip that each belongs to, and `held`, the signed size after it;
        the closed trips, with the columns of `SCHEMA`, by time of exit; and the open ones: symbol, side, tier, mode,
        entry_ms, entry_price (average in force), size (held), adds, partials, realised_usd (booked so far: parts that
        were closed, fees, funding).
    """
    column = {name: s for s, name in enumerate(bars.symbols)}
    high, low = bars.steps.prices[1], bars.steps.prices[2]
    under_way: dict[str, _OpenTrade] = {}
    closed: list[_OpenTrade] = []
    columns = fills["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    numbers = trade_numbers(columns, fills["size"].to_numpy(), fills["held"].to_numpy())
    for fill in fills.iter_rows(named=True):
        name = fill["symbol"]
        trade = under_way.get(name)
        if trade is None:
            trade = _OpenTrade(name, column[name], fill, 1.0 if fill["size"] > 0.0 else -1.0)
            under_way[name] = trade
        elif fill["reason"] not in _PAYMENTS:
            for price in _seen(trade, fill, high, low):
                trade.reach(price)
        trade.book(fill)
        if trade.held == 0.0:
            closed.append(under_way.pop(name))
    told = fills.select(pl.exclude("held"), trade=pl.Series(numbers), held="held")
    meaning = signal_decoder(strategy)
    rows = [{**_common(trade, meaning), **_row(trade, bars.steps.step_ms)} for trade in closed]
    trades = pl.DataFrame(rows, schema=SCHEMA).sort("exit_ms", "symbol", maintain_order=True)
    return told, trades, _open(list(under_way.values()), meaning)


def _seen(trade: _OpenTrade, fill: Mapping[str, Any], high: Floats, low: Floats) -> Iterator[float]:
    """Prices that a position has seen from its last fill to this one."""
    start = trade.last["bar"] + (trade.last["moment"] == _CLOSES)
    ends_at_close = fill["moment"] == _CLOSES
    stop = fill["bar"] + ends_at_close
    if stop > start:
        yield float(np.fmax.reduce(high[start:stop, trade.column]))
        yield float(np.fmin.reduce(low[start:stop, trade.column]))
    if not ends_at_close:
        yield fill["price"]


def _common(trade: _OpenTrade, meaning: Any) -> dict[str, Any]:
    told = meaning(trade.first["signal"])
    return {
        "symbol": trade.symbol,
        "side": "long" if trade.side > 0.0 else "short",
        "tier": told.tier,
        "mode": told.mode,
        "entry_ms": trade.first["time_ms"],
        "adds": trade.adds,
    }


def _row(trade: _OpenTrade, step_ms: int) -> dict[str, Any]:
    lasted_ms = trade.last["time_ms"] - trade.first["time_ms"]
    return {
        "exit_ms": trade.last["time_ms"],
        "entry_price": trade.paid / float(trade.opened),
        "exit_price": trade.got / trade.closed,
        "size": trade.most,
        "total_size": float(trade.opened),
        "partials": trade.closes - 1,
        "reason": trade.last["reason"],
        "bars": lasted_ms // step_ms,
        "minutes": lasted_ms / MINUTE_MS,
        "fees_usd": trade.fees,
        "funding_usd": trade.funding,
        "pnl_usd": trade.pnl,
        "return_pct": 100.0 * trade.pnl / trade.paid,
        "mae_pct": trade.worst,
        "mfe_pct": trade.best,
    }


def _open(trades: list[_OpenTrade], meaning: Any) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                **_common(trade, meaning),
                "realised_usd": trade.pnl,
                "entry_price": trade.average,
                "size": abs(trade.held),
                "partials": trade.closes,
            }
            for trade in trades
        ],
        schema={
            **{name: SCHEMA[name] for name in _OPEN},
            "realised_usd": pl.Float64,
        },
    ).sort("symbol")


def mark_to_market(holding: pl.DataFrame, last_prices: Mapping[str, float]) -> pl.DataFrame:
    """Add to open positions what they are worth: last_price, unrealised_usd there, and pnl_usd, the sum of both.

    Args:
        holding: Open positions, as `split_trades` returns them.
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
