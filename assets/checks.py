"""Functions that compute the results of checks for the assets."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.metadata import records
from mei_pipeline.candles.quality import RULES
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.progress import Progress
from mei_pipeline.replay.run import encode_replay_inputs, replay_figures
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import ComboOutcomes
from mei_pipeline.simulation.window import Window
from mei_pipeline.sweep.metrics import blocks
from mei_pipeline.sweep.plan import resolved_combo
from mei_pipeline.sweep.results import metric_columns

WARN = dg.AssetCheckSeverity.WARN


def quality_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Return one check per quality rule of the lake."""
    return [
        dg.AssetCheckSpec(rule.name, asset=asset, description=f"No bar in the window breaks the rule: {rule.doc}.")
        for rule in RULES.values()
    ]


def quality_results(plan: NightPlan) -> list[dg.AssetCheckResult]:
    """Return the result of each quality rule in the run's window, with offending rows and excluded symbols."""
    results = []
    for name in RULES:
        found = [finding for finding in plan.findings if finding.rule == name]
        rows = [
            {
                "symbol": finding.symbol,
                "rows": finding.count,
                "excluded": plan.dropped.get(finding.symbol, "").startswith(f"{name}:"),
            }
            for finding in found
        ]
        sample = [row for finding in found for row in finding.sample]
        results.append(
            dg.AssetCheckResult(
                check_name=name,
                passed=not found,
                severity=WARN,
                description=", ".join(f"{row['symbol']} {row['rows']:,}" for row in rows) or "nothing found",
                metadata={"symbols": records(rows), "offending_rows": records(sample)},
            )
        )
    return results


def non_finite_values(bars: Bars, features: FeatureSet) -> list[dict[str, Any]]:
    """Return the number of bars with a value that is not finite, per column and symbol.

    A recursive column has a value from a symbol's first bar on. A strategy ignores its first values by its own warm-up,
    a parameter.
    """
    present = bars.age >= 0
    found = []
    for column, values in zip(features.columns, features.values, strict=True):
        bad = present & ~np.isfinite(values)
        for symbol in np.flatnonzero(bad.any(axis=0)):
            count = int(bad[:, symbol].sum())
            found.append({"column": column.label, "symbol": bars.symbols[int(symbol)], "bars": count})
    return found


def replay_differences(
    settings: Settings,
    plan: NightPlan,
    bars: Bars,
    cut: Window,
    features: FeatureSet,
    rows: pl.DataFrame,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Replay combos of the run's sweep, and compare every figure with its row bit by bit.

    Args:
        settings: Location of compiled kernels.
        plan: The plan of the run.
        bars: Its bars.
        cut: The window of its search.
        features: Its feature columns.
        rows: Rows of its sweep.
        progress: Called for each replayed combo.

    Returns:
        One record per different figure: combo, name of the figure, value in the sweep, value in the replay.
    """
    sweep = plan.sweep
    found = []
    for done, row in enumerate(rows.iter_rows(named=True), 1):
        inputs = encode_replay_inputs(bars, cut, features, resolved_combo(sweep, sweep.combo(row["combo"])))
        for name, value in _figures(*replay_figures(settings, inputs)).items():
            if _bits(row[name]) != _bits(value):
                # Text with every digit: values may differ only in the last bit.
                found.append({"combo": row["combo"], "figure": name, "sweep": str(row[name]), "replay": str(value)})
        progress(done, rows.height, "replayed combos")
    return found


def _figures(metrics: Mapping[str, float], outcome: ComboOutcomes) -> Mapping[str, Any]:
    days = {name: array[0].tolist() for name, array in blocks(outcome).items()}
    return {name: metrics[name] for name in metric_columns()} | days


def _bits(value: Any) -> bytes:
    """Return the bytes of a value as float64. A missing metric is NaN in a replay and null in a row; both are equal."""
    array = np.atleast_1d(np.array(np.nan if value is None else value, dtype=np.float64))
    return np.where(np.isnan(array), np.nan, array).tobytes()
