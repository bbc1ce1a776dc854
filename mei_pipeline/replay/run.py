"""Replay one config over a window of the lake, fill by fill."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kernels.book import MOMENTS, REASONS
from kernels.cache import use_cache
from kernels.features import Column
from kernels.market import fill_model
from kernels.strategies import load
from mei_pipeline.features import FeatureSet, build_features, columns_of
from mei_pipeline.market import Bars, Window, window
from mei_pipeline.params.identity import Resolved
from mei_pipeline.settings import Settings
from mei_pipeline.simulation import Outcome, Record, encode_combos, record_combo
from mei_pipeline.sweep.metrics import metrics


@dataclass(frozen=True)
class Replay:
    """What a config did in a window.

    Attributes:
        metrics: Every metric of a sweep row; NaN stands for a metric without a value.
        fills: One row per fill or funding payment, oldest first: time_ms, symbol, reason, moment, size, price, fee_usd,
            cash_usd (change of cash).
        trades: One row per closed round trip: symbol, side, entry_ms, exit_ms, entry_price, exit_price, size, reason,
            bars, fees_usd, funding_usd, pnl_usd (net).
        equity: One row per bar of the window: close_ms, equity_usd (marked to market).
        outcome: The raw numbers, to compare with a sweep's.
    """

    metrics: Mapping[str, float]
    fills: pl.DataFrame
    trades: pl.DataFrame
    equity: pl.DataFrame
    outcome: Outcome


def replay_config(settings: Settings, bars: Bars, resolved: Resolved, from_ms: int, to_ms: int) -> Replay:
    """Replay `resolved` over the UTC days [from_ms, to_ms), starting flat.

    Raises:
        ConfigError: The window does not fit the bars, or a feature window is longer than they are.
    """
    cut = window(bars, from_ms, to_ms)
    use_cache(settings.kernel_cache)
    return replay_window(settings, bars, cut, build_features(bars, columns_for(resolved), settings.features), resolved)


def columns_for(resolved: Resolved) -> tuple[Column, ...]:
    """Feature columns that a config reads, for all its symbols."""
    found: set[Column] = set()
    for values in (resolved.params, *map(resolved.params_of, resolved.symbol_params)):
        found |= set(columns_of(resolved.strategy, {path: (value,) for path, value in values.items()}))
    return tuple(sorted(found))


def replay_window(settings: Settings, bars: Bars, cut: Window, features: FeatureSet, resolved: Resolved) -> Replay:
    """Replay `resolved` over `cut`, from columns that are already computed."""
    model = fill_model(resolved.market, resolved.initial_balance_usd)
    combos = encode_combos(resolved.strategy, features, resolved.params, 1, bars.symbols, resolved.symbol_params)
    record = record_combo(settings, cut, model, features, combos)
    fills = _fills(record, bars, resolved.strategy)
    found = metrics(record.outcome, resolved.initial_balance_usd, cut.last - cut.first)
    return Replay(
        metrics={name: float(value[0]) for name, value in found.items()},
        fills=fills,
        trades=_trades(fills),
        equity=pl.DataFrame({"close_ms": bars.steps.close_ms[cut.first : cut.last], "equity_usd": record.equity}),
        outcome=record.outcome,
    )


def _fills(record: Record, bars: Bars, strategy: str) -> pl.DataFrame:
    log = record.log
    reasons = (*REASONS, *getattr(load(strategy), "EXITS", ()))
    index = log["step"].astype(int)
    # What happens inside a bar is stamped with its open: the order of prices within a bar is not known.
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


def _trades(fills: pl.DataFrame) -> pl.DataFrame:
    """Round trips: an entry opens one, the next fill that is not an entry closes it."""
    entry = pl.col("reason") == "entry"
    trip = fills.with_columns(trip=entry.cum_sum().over("symbol"), funding=pl.col("reason") == "funding")
    closing = ~entry & ~pl.col("funding")
    return (
        trip.group_by("symbol", "trip", maintain_order=True)
        .agg(
            side=pl.when(pl.col("size").first() > 0).then(pl.lit("long")).otherwise(pl.lit("short")),
            entry_ms=pl.col("time_ms").first(),
            exit_ms=pl.col("time_ms").filter(closing).last(),
            entry_price=pl.col("price").first(),
            exit_price=pl.col("price").filter(closing).last(),
            size=pl.col("size").first().abs(),
            reason=pl.col("reason").filter(closing).last(),
            bars=pl.col("bar").filter(closing).last() - pl.col("bar").first(),
            fees_usd=pl.col("fee_usd").sum(),
            funding_usd=-pl.col("cash_usd").filter("funding").sum(),
            pnl_usd=pl.col("cash_usd").sum(),
        )
        .filter(pl.col("exit_ms").is_not_null())
        .drop("trip")
        .sort("exit_ms", "symbol", maintain_order=True)
    )
