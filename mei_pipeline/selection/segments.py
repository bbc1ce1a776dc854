"""Out-of-sample segments: one config on the days of one fold, from flat to flat, and segments stitched together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.book import REASONS
from kernels.market import FillModel, Floats, Ints, fill_model
from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.replay.run import encode_replay_inputs
from mei_pipeline.replay.trades import trade_numbers
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import ComboRecord, record_combo
from mei_pipeline.simulation.window import Window, closed_at_end, cut_window

_FUNDING = REASONS.index("funding")


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
        returns: [D] return of equity of each day, fractions. A fill at the close of the last step closes positions that
            are still open.
        held: [D] True if a position was open at the close of a step of the day, or an order was filled.
        curve: [T] equity at the close of each step over equity at the start; the last one after that fill.
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
    data: MarketData, resolved: ResolvedConfig, days_ms: tuple[int, int], market: Mapping[str, Value] | None = None
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
    cut = closed_at_end(cut_window(data.bars, *days_ms, least_days=1))
    inputs = encode_replay_inputs(data.bars, cut, data.features, resolved)
    model = fill_model({**resolved.market, **(market or {})}, resolved.initial_balance_usd)
    record = record_combo(data.settings, cut, model, inputs.features, inputs.combos)
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


def on_symbols(resolved: ResolvedConfig, symbols: tuple[str, ...]) -> ResolvedConfig:
    """Return the same config for other symbols."""
    return replace(resolved, symbols=symbols, symbol_params={})


def _segment_of(bars: Bars, cut: Window, model: FillModel, record: ComboRecord) -> Segment:
    """Return a recorded run, flat at its end, as a segment."""
    close_ms = bars.steps.close_ms[cut.first : cut.last]
    ends = record.equity[close_ms % DAY_MS == 0]
    before = np.concatenate(([model.initial_usd], ends))[:-1]
    # A book whose equity is used up has no return.
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.where(before > 0.0, ends / before - 1.0, 0.0)
    days = np.arange(cut.from_ms, cut.to_ms, DAY_MS, dtype=np.int64)
    symbols, profits_usd, steps = _trades_of(record)
    return Segment(
        days_ms=days,
        returns=returns,
        held=_held(record, cut, bars, len(days)),
        curve=np.maximum(record.equity, 0.0) / model.initial_usd,
        trade_symbols=symbols,
        trade_profits=profits_usd / model.initial_usd,
        trade_days_ms=(bars.steps.open_ms[steps] // DAY_MS * DAY_MS).astype(np.int64),
    )


def _trades_of(record: ComboRecord) -> tuple[Ints, Floats, Ints]:
    """Return symbol, profit in USD and step of the last fill of each trade, by that step and symbol."""
    # The log ends flat, so every trade of it is closed.
    log = record.log
    symbol = log["symbol"].astype(np.int64)
    number = trade_numbers(symbol, log["size"], log["held"])
    profits: Floats = np.bincount(number, log["cash"]).astype(np.float64)
    last = np.zeros(len(profits), dtype=np.int64)
    last[number] = np.arange(len(log))  # the last of several assignments to one trade stays
    steps = log["step"][last].astype(np.int64)
    order = np.lexsort((symbol[last], steps))
    return symbol[last][order], profits[order], steps[order]


def _held(record: ComboRecord, cut: Window, bars: Bars, days: int) -> NDArray[np.bool_]:
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
