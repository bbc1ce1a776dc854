"""Out-of-sample segments: one config on the days of one fold, from flat to flat, and segments stitched together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.book import REASONS
from kernels.market import FillModel, Floats, Ints, fill_model
from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.params.identity import Resolved
from mei_pipeline.replay.run import stage_of
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.market import Bars, Window, window
from mei_pipeline.simulation.run import Record, record_combo

_FUNDING = REASONS.index("funding")
_OPENS = (REASONS.index("entry"), REASONS.index("add"))


@dataclass(frozen=True)
class MarketData:
    """Bars and features that configs are run on.

    Attributes:
        settings: Settings with the place of compiled kernels.
        bars: Bars of the symbols of the book.
        features: Columns over the bars that hold every window of the search.
    """

    settings: Settings
    bars: Bars
    features: FeatureSet


@dataclass(frozen=True)
class Segment:
    """The result of a config on some days that begin and end flat, or of several segments that were stitched.

    Attributes:
        days_ms: [D] first millisecond of each day.
        returns: [D] return of equity of each day, fractions. Positions that are open at the end are closed on the last
            day at their last prices, at the cost of a fill.
        held: [D] True if a position was open at the close of a step of the day, or an order was filled.
        curve: [T] equity at the close of each step over equity at the start; the last one after the closing.
        trade_symbols: [N] symbol of each trade, by number.
        trade_profits: [N] net profit of each trade over equity at the start of its own segment.
        trade_days_ms: [N] day of each exit.
    """

    days_ms: Ints
    returns: Floats
    held: NDArray[np.bool_]
    curve: Floats
    trade_symbols: Ints
    trade_profits: Floats
    trade_days_ms: Ints

    @property
    def return_frac(self) -> float:
        """Net return."""
        return float(self.curve[-1] - 1.0) if len(self.curve) else 0.0

    @property
    def max_drawdown_frac(self) -> float:
        """Maximum drawdown, a fraction of the peak."""
        equity = np.concatenate(([1.0], self.curve))
        return float((1.0 - equity / np.maximum.accumulate(equity)).max())

    @property
    def profit_factor(self) -> float | None:
        """Profits of winning trades over losses of the others; None without a loss."""
        profits = self.trade_profits
        lost = float(-profits[profits <= 0.0].sum())
        return float(profits[profits > 0.0].sum()) / lost if lost > 0.0 else None


def run_segment(
    data: MarketData, resolved: Resolved, days_ms: tuple[int, int], market: Mapping[str, Value] | None = None
) -> Segment:
    """Run a config over the UTC days [from, to), from flat to flat.

    Args:
        data: Bars and columns; the config's symbols are those of the bars.
        resolved: The config.
        days_ms: First day and one past the last.
        market: Market parameters that differ from the config's own.

    Raises:
        ConfigError: The days do not lie in the bars.
        DataError: No symbol can be traded on them.
    """
    cut = window(data.bars, *days_ms, least_days=1)
    stage = stage_of(data.bars, cut, data.features, resolved)
    model = fill_model({**resolved.market, **(market or {})}, resolved.initial_balance_usd)
    record = record_combo(data.settings, cut, model, stage.features, stage.combos)
    return _segment_of(data.bars, cut, model, record)


def flat_segment(days_ms: tuple[int, int]) -> Segment:
    """Return a segment without trades over the UTC days [from, to)."""
    days = np.arange(*days_ms, DAY_MS, dtype=np.int64)
    no_trades = np.empty(0, dtype=np.int64)
    return Segment(
        days_ms=days,
        returns=np.zeros(len(days)),
        held=np.zeros(len(days), dtype=bool),
        curve=np.ones(len(days)),
        trade_symbols=no_trades,
        trade_profits=np.empty(0),
        trade_days_ms=no_trades,
    )


def stitch(segments: Sequence[Segment]) -> Segment:
    """Join segments, oldest first: each begins with the equity that the segment before ended with."""
    curves: list[Floats] = [np.empty(0)]
    level = 1.0
    for segment in segments:
        curves.append(level * segment.curve)
        level *= float(segment.curve[-1])
    joined = {
        name: np.concatenate([getattr(segment, name) for segment in segments])
        for name in ("days_ms", "returns", "held", "trade_symbols", "trade_profits", "trade_days_ms")
    }
    return Segment(**joined, curve=np.concatenate(curves))


def on_symbols(resolved: Resolved, symbols: tuple[str, ...]) -> Resolved:
    """Return the same config for other symbols."""
    return replace(resolved, symbols=symbols, symbol_params={})


def _segment_of(bars: Bars, cut: Window, model: FillModel, record: Record) -> Segment:
    """Return a recorded run as a segment, with open positions closed at their last prices."""
    close_ms = bars.steps.close_ms[cut.first : cut.last]
    trades = _trades_of(record, cut, model)
    equity = record.equity.copy()
    equity[-1] -= trades.closing_usd
    ends = equity[close_ms % DAY_MS == 0]
    before = np.concatenate(([model.initial_usd], ends))[:-1]
    # A liquidated book has no equity to compute a return of.
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.where(before > 0.0, ends / before - 1.0, 0.0)
    days = np.arange(cut.from_ms, cut.to_ms, DAY_MS, dtype=np.int64)
    return Segment(
        days_ms=days,
        returns=returns,
        held=_held(record, cut, bars, len(days)),
        curve=np.maximum(equity, 0.0) / model.initial_usd,
        trade_symbols=trades.symbols,
        trade_profits=trades.profits_usd / model.initial_usd,
        trade_days_ms=(bars.steps.open_ms[trades.steps] // DAY_MS * DAY_MS).astype(np.int64),
    )


@dataclass(frozen=True)
class _Trades:
    """Symbol, profit and step of the last fill of each trade, and the cost of closing positions at the end."""

    symbols: Ints
    profits_usd: Floats
    steps: Ints
    closing_usd: float


def _trades_of(record: Record, cut: Window, model: FillModel) -> _Trades:
    log = record.log
    symbol, size, held = log["symbol"].astype(np.int64), log["size"], log["held"]
    last_price = cut.market.mark[cut.last - 1]
    found: list[tuple[int, float, int]] = []
    closing = 0.0
    for s in np.unique(symbol):
        rows = np.flatnonzero(symbol == s)
        after = held[rows]
        # Funding has a row without a size; it belongs to the trade that holds the position.
        closes = (after == 0.0) & (size[rows] != 0.0)
        trade = np.concatenate(([0], np.cumsum(closes)[:-1]))
        profits = np.bincount(trade, log["cash"][rows])
        last = np.zeros(len(profits), dtype=np.int64)
        np.maximum.at(last, trade, log["step"][rows].astype(np.int64))
        if after[-1] != 0.0:
            cost = abs(after[-1]) * last_price[s] * (model.fee + model.exit_slip)
            profits[-1] += after[-1] * (last_price[s] - _entry_price(log[rows[trade == trade[-1]]])) - cost
            last[-1] = cut.last - 1
            closing += cost
        found += zip([int(s)] * len(profits), profits.tolist(), last.tolist(), strict=True)
    found.sort(key=lambda each: (each[2], each[0]))
    return _Trades(
        np.array([each[0] for each in found], dtype=np.int64),
        np.array([each[1] for each in found], dtype=np.float64),
        np.array([each[2] for each in found], dtype=np.int64),
        closing,
    )


def _entry_price(rows: NDArray[np.record]) -> float:
    """Return the average entry price of a position from the fills of its trade, computed as the ledger does."""
    held = entry = 0.0
    columns = (rows[name].tolist() for name in ("size", "price", "reason", "held"))
    for size, price, reason, after in zip(*columns, strict=True):
        if reason in _OPENS:
            entry = (entry * held + price * size) / after
        held = after
    return entry


def _held(record: Record, cut: Window, bars: Bars, days: int) -> NDArray[np.bool_]:
    """Return for each day if it has a position or a fill: [days]."""
    first_day = cut.from_ms // DAY_MS
    day = np.clip(bars.steps.open_ms[record.log["step"].astype(np.int64)] // DAY_MS - first_day, 0, days - 1)
    symbol = record.log["symbol"].astype(np.int64)
    spans = np.zeros(days + 1, dtype=np.int64)  # spans that begin on a day, less those that ended the day before
    for s in np.unique(symbol):
        rows = np.flatnonzero((symbol == s) & (record.log["reason"] != _FUNDING))
        after = record.log["held"][rows]
        # A span lasts from each fill to the next one while a position is held.
        starts = day[rows]
        ends = np.concatenate((day[rows][1:], [days - 1]))
        np.add.at(spans, starts, 1)
        np.subtract.at(spans, np.where(after != 0.0, ends, starts) + 1, 1)
    return np.asarray(spans.cumsum()[:days] > 0)
