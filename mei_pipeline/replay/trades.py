"""Split fills into trades: from flat to flat, with additions and partial closes in between."""

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
"""Columns of trades.

   size: largest size that was held, base coin. total_size: sum of all opened sizes.
   entry_price, exit_price: averages of all opening and of all closing fills, weighted by size.
   adds, partials: number of additions and of partial closes.
   reason: reason of the last close. tier, mode: of the signal that opened the trade.
   bars, minutes: from entry_ms to exit_ms; bars are steps.
   pnl_usd: net of fees, funding and settlements with a backstop.
   return_pct: pnl_usd in percent of the opened notional.
   mae_pct, mfe_pct: maximum adverse excursion (0 or below) and maximum favourable excursion (0 or above), in percent
       of the average entry price at that time.
"""

_OPEN = ("symbol", "side", "tier", "mode", "entry_ms", "entry_price", "size", "adds", "partials")
_CLOSES = "close"
_OPENS = frozenset({"entry", "add"})
_PAYMENTS = frozenset({"funding", "backstop"})
"""Reasons of rows that change cash and no size."""


@dataclass
class _OpenTrade:
    """A trade that is not closed yet.

    Prices are weighted by size, money is in USD, and excursions are in percent of the average entry price.
    """

    symbol: str
    column: int
    first: Mapping[str, Any]
    side: float
    held: float = 0.0
    average: float = 0.0
    largest: float = 0.0
    opened: Decimal = Decimal(0)
    opened_usd: float = 0.0
    closed: float = 0.0
    closed_usd: float = 0.0
    adds: int = 0
    closes: int = 0
    fees: float = 0.0
    funding: float = 0.0
    pnl: float = 0.0
    worst: float = 0.0
    best: float = 0.0
    last: Mapping[str, Any] = field(default_factory=dict)

    def book(self, fill: Mapping[str, Any]) -> None:
        """Add one fill or payment."""
        self.fees += fill["fee_usd"]
        self.pnl += fill["cash_usd"]
        if fill["reason"] in _PAYMENTS:
            self.funding -= fill["cash_usd"] if fill["reason"] == "funding" else 0.0
            return
        size, price = abs(fill["size"]), fill["price"]
        if fill["reason"] in _OPENS:
            self.average = (self.average * abs(self.held) + price * size) / abs(fill["held"])
            self.opened += Decimal(repr(size))  # sums of binary fractions would not be a multiple of the lot
            self.opened_usd += size * price
            self.adds += fill["reason"] == "add"
        else:
            self.closed += size
            self.closed_usd += size * price
            self.closes += 1
        self.held = fill["held"]
        self.largest = max(self.largest, abs(self.held))
        self.last = fill

    def reach(self, price: float) -> None:
        """Extend the excursions to a price at which the position was held."""
        if math.isfinite(price):
            moved = 100.0 * self.side * (price - self.average) / self.average
            self.worst, self.best = min(self.worst, moved), max(self.best, moved)


def trade_numbers(symbol: Ints, size: Floats, held: Floats) -> Ints:
    """Return the number of the trade of each row of a log; trades are numbered in the order in which they were opened.

    Everything that counts trades after a run uses this function. The ledger counts them while it books.

    Args:
        symbol: [N] number of the symbol of each row, oldest row first.
        size: [N] signed size of the fill; 0 in a row that changes only cash.
        held: [N] signed size of the position after the row.

    Returns:
        [N] number of the trade.
    """
    # Sorted by symbol, a trade starts at the first row of a symbol and after each row that closes one.
    order = np.argsort(symbol, kind="stable")
    closes = (size[order] != 0.0) & (held[order] == 0.0)
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = closes[:-1] | (np.diff(symbol[order]) != 0)
    by_symbol = np.empty(len(order), dtype=np.int64)
    by_symbol[order] = opens.cumsum() - 1
    _, first, number = np.unique(by_symbol, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.reshape(-1)]


def split_trades(fills: pl.DataFrame, bars: Bars, strategy: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split the fills of a replay into closed and open trades; `mark_to_market` values the open ones.

    Excursions (mae, mfe) are those of J. Sweeney, Maximum Adverse Excursion (1996), from the highs and lows of the
    steps at which the position was held. After a fill at a close the next step is the first one, after a fill at an
    open it is the same step. A step at whose close the position ended counts completely. For a position that ended at
    the open or inside a step only the price of that fill counts, because the prices before it are unknown.

    Args:
        fills: As in `Replay.fills`, without `trade`.
        bars: The bars.
        strategy: Strategy whose signals opened the trades.

    Returns:
        The fills with `trade`, the number of the trade of each, and `held`, the signed size after it; the closed trades
        with the columns of `SCHEMA`, by time of exit; and the open ones: symbol, side, tier, mode, entry_ms,
        entry_price (current average), size (held), adds, partials, realised_usd (closed parts, fees, funding).
    """
    column = {name: s for s, name in enumerate(bars.symbols)}
    high, low = bars.steps.prices[1], bars.steps.prices[2]
    open_trades: dict[str, _OpenTrade] = {}
    closed: list[_OpenTrade] = []
    columns = fills["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    numbers = trade_numbers(columns, fills["size"].to_numpy(), fills["held"].to_numpy())
    for fill in fills.iter_rows(named=True):
        name = fill["symbol"]
        trade = open_trades.get(name)
        if trade is None:
            trade = _OpenTrade(name, column[name], fill, 1.0 if fill["size"] > 0.0 else -1.0)
            open_trades[name] = trade
        # Excursions come before the fill: they are relative to the average entry price that was valid until then.
        elif fill["reason"] not in _PAYMENTS:
            for price in _prices_between(trade, fill, high, low):
                trade.reach(price)
        trade.book(fill)
        if trade.held == 0.0:
            closed.append(open_trades.pop(name))
    numbered = fills.select(pl.exclude("held"), trade=pl.Series(numbers), held="held")
    decode = signal_decoder(strategy)
    rows = [{**_common(trade, decode), **_row(trade, bars.steps.step_ms)} for trade in closed]
    trades = pl.DataFrame(rows, schema=SCHEMA).sort("exit_ms", "symbol", maintain_order=True)
    return numbered, trades, _open(list(open_trades.values()), decode)


def _prices_between(trade: _OpenTrade, fill: Mapping[str, Any], high: Floats, low: Floats) -> Iterator[float]:
    """Yield the prices at which a position was held between its last fill and this one."""
    start = trade.last["bar"] + (trade.last["moment"] == _CLOSES)
    ends_at_close = fill["moment"] == _CLOSES
    stop = fill["bar"] + ends_at_close
    if stop > start:
        yield float(np.fmax.reduce(high[start:stop, trade.column]))
        yield float(np.fmin.reduce(low[start:stop, trade.column]))
    if not ends_at_close:
        yield fill["price"]


def _common(trade: _OpenTrade, decode: Any) -> dict[str, Any]:
    meaning = decode(trade.first["signal"])
    return {
        "symbol": trade.symbol,
        "side": "long" if trade.side > 0.0 else "short",
        "tier": meaning.tier,
        "mode": meaning.mode,
        "entry_ms": trade.first["time_ms"],
        "adds": trade.adds,
    }


def _row(trade: _OpenTrade, step_ms: int) -> dict[str, Any]:
    duration_ms = trade.last["time_ms"] - trade.first["time_ms"]
    return {
        "exit_ms": trade.last["time_ms"],
        "entry_price": trade.opened_usd / float(trade.opened),
        "exit_price": trade.closed_usd / trade.closed,
        "size": trade.largest,
        "total_size": float(trade.opened),
        "partials": trade.closes - 1,
        "reason": trade.last["reason"],
        "bars": duration_ms // step_ms,
        "minutes": duration_ms / MINUTE_MS,
        "fees_usd": trade.fees,
        "funding_usd": trade.funding,
        "pnl_usd": trade.pnl,
        "return_pct": 100.0 * trade.pnl / trade.opened_usd,
        "mae_pct": trade.worst,
        "mfe_pct": trade.best,
    }


def _open(open_trades: list[_OpenTrade], decode: Any) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                **_common(trade, decode),
                "realised_usd": trade.pnl,
                "entry_price": trade.average,
                "size": abs(trade.held),
                "partials": trade.closes,
            }
            for trade in open_trades
        ],
        schema={
            **{name: SCHEMA[name] for name in _OPEN},
            "realised_usd": pl.Float64,
        },
    ).sort("symbol")


def mark_to_market(holding: pl.DataFrame, last_prices: Mapping[str, float]) -> pl.DataFrame:
    """Add last_price, unrealised_usd, and pnl_usd (realised and unrealised) to open positions.

    Args:
        holding: Open positions of `split_trades`.
        last_prices: Last price of each symbol at the end of the window.
    """
    side = pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0)
    price = pl.col("symbol").replace_strict(dict(last_prices), return_dtype=pl.Float64)
    unrealised = side * pl.col("size") * (pl.col("last_price") - pl.col("entry_price"))
    return (
        holding.with_columns(last_price=price)
        .with_columns(unrealised_usd=unrealised)
        .with_columns(pnl_usd=pl.col("realised_usd") + pl.col("unrealised_usd"))
    )
