"""Legs: one config on the days of one fold, from flat to flat, and chains of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.book import REASONS
from kernels.market import FillModel, Floats, Ints, fill_model
from kernels.params import Value
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.replay.run import encode_replay_inputs
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.market import DAY_MS, Bars, Window, window
from mei_pipeline.simulation.run import ComboRecord, record_combo

_FUNDING = REASONS.index("funding")
_OPENS = (REASONS.index("entry"), REASONS.index("add"))


@dataclass(frozen=True)
class Ground:
    """What configs are judged on.

    Attributes:
        settings: Says where compiled kernels are.
        bars: Bars of the symbols of the book.
        features: Columns over them that hold every window of the search.
    """

    settings: Settings
    bars: Bars
    features: FeatureSet


@dataclass(frozen=True)
class Leg:
    """What a config did on some days, beginning and ending flat; or several did, one after the other (`chain`).

    Attributes:
        days_ms: [D] first millisecond of each day.
        returns: [D] return of equity of each day, fractions; positions left at the end are closed at their marks, at
            the cost of a fill, on the last day.
        held: [D] whether a position was open at the close of any step of the day, or any fill was made.
        curve: [T] equity at the close of each step over equity at the start; the last one after the closing.
        trip_symbols: [N] symbol of each round trip, by number.
        trip_profits: [N] its net profit over equity at the start of the leg; of its own leg in a chain.
        trip_days_ms: [N] day of its end.
    """

    days_ms: Ints
    returns: Floats
    held: NDArray[np.bool_]
    curve: Floats
    trip_symbols: Ints
    trip_profits: Floats
    trip_days_ms: Ints

    @property
    def return_frac(self) -> float:
        """Net return."""
        return float(self.curve[-1] - 1.0) if len(self.curve) else 0.0

    @property
    def max_drawdown_frac(self) -> float:
        """Deepest fall from a peak as a fraction of the peak."""
        return deepest_fall_frac(self.curve)


def deepest_fall_frac(curve: Floats) -> float:
    """Deepest fall from a peak, as a fraction of the peak, of equity that starts at 1 and goes on along `curve` [T]."""
    whole = np.concatenate(([1.0], curve))
    return float((1.0 - whole / np.maximum.accumulate(whole)).max())


def run_leg(
    ground: Ground, resolved: ResolvedConfig, days_ms: tuple[int, int], market: Mapping[str, Value] | None = None
) -> Leg:
    """Run a config over the UTC days [from, to), from flat to flat.

    Args:
        ground: Bars and columns; the config's symbols are those of the bars.
        resolved: The config.
        days_ms: First day and one past the last.
        market: Market parameters that differ from the config's own.

    Raises:
        ConfigError: The days do not lie in the bars.
        DataError: No symbol can be traded on them.
    """
    cut = window(ground.bars, *days_ms, least_days=1)
    inputs = encode_replay_inputs(ground.bars, cut, ground.features, resolved)
    model = fill_model({**resolved.market, **(market or {})}, resolved.initial_balance_usd)
    record = record_combo(ground.settings, cut, model, inputs.features, inputs.combos)
    return _leg(ground.bars, cut, model, record)


def flat_leg(days_ms: tuple[int, int]) -> Leg:
    """Days on which nothing was traded."""
    days = np.arange(*days_ms, DAY_MS, dtype=np.int64)
    nothing = np.empty(0, dtype=np.int64)
    return Leg(
        days_ms=days,
        returns=np.zeros(len(days)),
        held=np.zeros(len(days), dtype=bool),
        curve=np.ones(len(days)),
        trip_symbols=nothing,
        trip_profits=np.empty(0),
        trip_days_ms=nothing,
    )


def chain(legs: Sequence[Leg]) -> Leg:
    """Join legs, oldest first: each begins with the equity that the one before ended with."""
    curves: list[Floats] = [np.empty(0)]
    level = 1.0
    for leg in legs:
        curves.append(level * leg.curve)
        level *= float(leg.curve[-1])
    joined = {
        name: np.concatenate([getattr(leg, name) for leg in legs])
        for name in ("days_ms", "returns", "held", "trip_symbols", "trip_profits", "trip_days_ms")
    }
    return Leg(**joined, curve=np.concatenate(curves))


def _leg(bars: Bars, cut: Window, model: FillModel, record: ComboRecord) -> Leg:
    """A recorded run as a leg: what is still held is closed at its marks."""
    close_ms = bars.steps.close_ms[cut.first : cut.last]
    trips = _trips(record, cut, model)
    equity = record.equity.copy()
    equity[-1] -= trips.closing_usd
    ends = equity[close_ms % DAY_MS == 0]
    before = np.concatenate(([model.initial_usd], ends))[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.where(before > 0.0, ends / before - 1.0, 0.0)
    days = np.arange(cut.from_ms, cut.to_ms, DAY_MS, dtype=np.int64)
    return Leg(
        days_ms=days,
        returns=returns,
        held=_held(record, cut, bars, len(days)),
        curve=np.maximum(equity, 0.0) / model.initial_usd,
        trip_symbols=trips.symbols,
        trip_profits=trips.profits_usd / model.initial_usd,
        trip_days_ms=(bars.steps.open_ms[trips.steps] // DAY_MS * DAY_MS).astype(np.int64),
    )


@dataclass(frozen=True)
class _Trips:
    """Round trips, those closed at the end included: symbol, profit, step of the last fill; and what closing cost."""

    symbols: Ints
    profits_usd: Floats
    steps: Ints
    closing_usd: float


def _trips(record: ComboRecord, cut: Window, model: FillModel) -> _Trips:
    log = record.log
    symbol, size, held = log["symbol"].astype(np.int64), log["size"], log["held"]
    mark = cut.market.last_price[cut.last - 1]
    found: list[tuple[int, float, int]] = []
    closing = 0.0
    for s in np.unique(symbol):
        rows = np.flatnonzero(symbol == s)
        after = held[rows]
        closes = (after == 0.0) & (size[rows] != 0.0)
        trip = np.concatenate(([0], np.cumsum(closes)[:-1]))
        profits = np.bincount(trip, log["cash"][rows])
        last = np.zeros(len(profits), dtype=np.int64)
        np.maximum.at(last, trip, log["step"][rows].astype(np.int64))
        if after[-1] != 0.0:
            cost = abs(after[-1]) * mark[s] * (model.fee + model.exit_slip)
            profits[-1] += after[-1] * (mark[s] - _entry(log[rows[trip == trip[-1]]])) - cost
            last[-1] = cut.last - 1
            closing += cost
        found += zip([int(s)] * len(profits), profits.tolist(), last.tolist(), strict=True)
    found.sort(key=lambda each: (each[2], each[0]))
    return _Trips(
        np.array([each[0] for each in found], dtype=np.int64),
        np.array([each[1] for each in found], dtype=np.float64),
        np.array([each[2] for each in found], dtype=np.int64),
        closing,
    )


def _entry(rows: NDArray[np.record]) -> float:
    """Average entry price of a position from the fills of its round trip, as the ledger has it."""
    held = entry = 0.0
    columns = (rows[name].tolist() for name in ("size", "price", "reason", "held"))
    for size, price, reason, after in zip(*columns, strict=True):
        if reason in _OPENS:
            entry = (entry * held + price * size) / after
        held = after
    return entry


def _held(record: ComboRecord, cut: Window, bars: Bars, days: int) -> NDArray[np.bool_]:
    """Days with a position or a fill: those from each fill to the next one while something is held."""
    first_day = cut.from_ms // DAY_MS
    day = np.clip(bars.steps.open_ms[record.log["step"].astype(np.int64)] // DAY_MS - first_day, 0, days - 1)
    symbol = record.log["symbol"].astype(np.int64)
    spans = np.zeros(days + 1, dtype=np.int64)  # how many begin on a day, less those that ended the day before
    for s in np.unique(symbol):
        rows = np.flatnonzero((symbol == s) & (record.log["reason"] != _FUNDING))
        after = record.log["held"][rows]
        starts = day[rows]
        ends = np.concatenate((day[rows][1:], [days - 1]))
        np.add.at(spans, starts, 1)
        np.subtract.at(spans, np.where(after != 0.0, ends, starts) + 1, 1)
    return np.asarray(spans.cumsum()[:days] > 0)


def on_symbols(resolved: ResolvedConfig, symbols: tuple[str, ...]) -> ResolvedConfig:
    """The same config for other symbols."""
    return replace(resolved, symbols=symbols, symbol_params={})
