"""Replay one config over a window of the lake, fill by fill."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.book import MOMENTS, REASONS
from kernels.features import Column
from kernels.market import FillModel, Market, fill_model
from kernels.strategies import load
from mei_pipeline.params.identity import ResolvedConfig, benchmark_of
from mei_pipeline.params.table import read_catalog
from mei_pipeline.replay.trades import mark_to_market, split_trades
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.combos import Combos, encode_combos
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features, columns_of
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.run import ComboOutcomes, ComboRecord, record_combo
from mei_pipeline.simulation.window import Window, cut_window
from mei_pipeline.sweep.metrics import metrics


@dataclass(frozen=True)
class ReplayInputs:
    """Inputs of the replay of a config.

    Attributes:
        bars: The bars.
        cut: The window.
        features: Feature columns of the bars.
        resolved: The config.
        combos: The config, encoded as a single combo.
        model: Fill model of its orders.
    """

    bars: Bars
    cut: Window
    features: FeatureSet
    resolved: ResolvedConfig
    combos: Combos
    model: FillModel

    @property
    def market(self) -> Market:
        """The market as the config sees it."""
        return self.combos.apply_to(self.cut.market)


@dataclass(frozen=True)
class Replay:
    """Everything that a config did in a window.

    Attributes:
        metrics: Every metric of a sweep row; NaN stands for a metric without a value.
        fills: One row per fill, funding payment or settlement with a backstop, oldest first: time_ms, bar (number of
            the step), symbol, reason, moment, size, price, fee_usd, cash_usd (change of cash), signal, trade (number of
            the trade), held (signed size after it).
        trades: One row per closed trade, with the columns of `trades.SCHEMA`.
        holding: One row per position that was open at the end, with realised, unrealised and total profit; see
            `trades.split_trades` and `trades.mark_to_market`.
        equity: One row per step of the window: close_ms, equity_usd (mark-to-market).
        verdicts: [T, S] verdict on each symbol at each step of the window, an index of `kernels.book.VERDICTS`.
        outcome: Raw outcome of the kernels, to compare with a sweep.
    """

    metrics: Mapping[str, float]
    fills: pl.DataFrame
    trades: pl.DataFrame
    holding: pl.DataFrame
    equity: pl.DataFrame
    verdicts: NDArray[np.int8]
    outcome: ComboOutcomes


def replay_figures(settings: Settings, inputs: ReplayInputs) -> tuple[Mapping[str, float], ComboOutcomes]:
    """Run the config from flat; return the metrics and the outcome of `Replay` without its tables."""
    record = record_combo(settings, inputs.cut, inputs.model, inputs.features, inputs.combos)
    return _metrics(inputs, record), record.outcome


def make_replay_inputs(
    settings: Settings, bars: Bars, resolved: ResolvedConfig, from_ms: int, to_ms: int
) -> ReplayInputs:
    """Compute the inputs of a replay of `resolved` over the UTC days [from_ms, to_ms).

    Raises:
        ConfigError: The window does not fit the bars, or a feature window is longer than they are.
    """
    cut = cut_window(bars, from_ms, to_ms)
    use_kernels(settings)
    return encode_replay_inputs(bars, cut, build_features(bars, columns_for(resolved), settings.features), resolved)


def encode_replay_inputs(bars: Bars, cut: Window, features: FeatureSet, resolved: ResolvedConfig) -> ReplayInputs:
    """Encode `resolved` for feature columns that are already computed.

    Raises:
        ConfigError: The config reads a benchmark symbol and the bars have none.
    """
    combos = encode_combos(
        resolved.strategy,
        features,
        resolved.params,
        1,
        bars.symbols,
        resolved.symbol_params,
        benchmark=benchmark_of(read_catalog(), resolved, bars.symbols),
    )
    model = fill_model(resolved.market, resolved.initial_balance_usd)
    return ReplayInputs(bars, cut, features, resolved, combos, model)


def columns_for(resolved: ResolvedConfig) -> tuple[Column, ...]:
    """Return the feature columns that a config reads, for all its symbols."""
    columns: set[Column] = set()
    for values in (resolved.params, *map(resolved.params_of, resolved.symbol_params)):
        columns |= set(columns_of(resolved.strategy, {path: (value,) for path, value in values.items()}))
    return tuple(sorted(columns))


def replay(settings: Settings, inputs: ReplayInputs) -> Replay:
    """Run the config from flat, and return everything that it did."""
    bars, cut, resolved = inputs.bars, inputs.cut, inputs.resolved
    record = record_combo(settings, cut, inputs.model, inputs.features, inputs.combos)
    fills, trades, holding = split_trades(fills_of(record, bars, resolved.strategy), bars, resolved.strategy)
    last_prices = dict(zip(bars.symbols, bars.steps.last_prices[cut.last - 1].tolist(), strict=True))
    return Replay(
        metrics=_metrics(inputs, record),
        fills=fills,
        trades=trades,
        holding=mark_to_market(holding, last_prices),
        equity=pl.DataFrame({"close_ms": bars.steps.close_ms[cut.first : cut.last], "equity_usd": record.equity}),
        verdicts=record.verdicts,
        outcome=record.outcome,
    )


def _metrics(inputs: ReplayInputs, record: ComboRecord) -> dict[str, float]:
    values = metrics(record.outcome, inputs.resolved.initial_balance_usd, inputs.cut.last - inputs.cut.first)
    return {name: float(value[0]) for name, value in values.items()}


def fills_of(record: ComboRecord, bars: Bars, strategy: str) -> pl.DataFrame:
    """Return the log of a run as a table; see `Replay.fills`, without `trade`."""
    log = record.log
    reasons = (*REASONS, *getattr(load(strategy), "EXITS", ()))
    index = log["step"].astype(int)
    # A fill inside a bar has the time of its open, because the order of prices within a bar is unknown.
    at_close = (log["moment"] == MOMENTS.index("close")) * bars.steps.step_ms
    return pl.DataFrame(
        {
            "time_ms": bars.steps.open_ms[index] + at_close,
            "bar": index,
            "symbol": [bars.symbols[int(s)] for s in log["symbol"]],
            "reason": [reasons[int(r)] for r in log["reason"]],
            "moment": [MOMENTS[int(m)] for m in log["moment"]],
            "size": log["size"].copy(),
            "price": log["price"].copy(),
            "fee_usd": log["fee"].copy(),
            "cash_usd": log["cash"].copy(),
            "held": log["held"].copy(),
            "signal": log["code"].astype(int),
        },
        schema_overrides={
            "time_ms": pl.Int64,
            "bar": pl.Int64,
            "symbol": pl.String,
            "reason": pl.String,
            "moment": pl.String,
            "signal": pl.Int64,
        },
    )
