"""The report of a replay: what was run, on what, by which rules, and what came of it."""

import math
from typing import Any

import polars as pl

from kernels.cache import source_hash
from mei_pipeline.candles.intervals import iso
from mei_pipeline.market import Bars
from mei_pipeline.params.identity import Resolved, as_dict, config_id
from mei_pipeline.registry.records import Basis, evidence_id
from mei_pipeline.replay.run import Replay


def report_of(resolved: Resolved, bars: Bars, from_ms: int, to_ms: int, run: Replay) -> dict[str, Any]:
    """The report as JSON values.

    Returns:
        `config_id` and `evidence_id`, the resolved `config`, what it was run on, every metric (null where it has no
        value), and net profit, trades, fees and funding per symbol and per reason of exit.
    """
    identity = config_id(resolved)
    basis = Basis(source_hash(), dict(resolved.market), bars.venue, bars.data_hash, bars.anchor_ms)
    return {
        "config_id": identity,
        "evidence_id": evidence_id(identity, basis),
        "config": as_dict(resolved),
        "basis": basis.as_dict(),
        "from": iso(from_ms),
        "to": iso(to_ms),
        "bars": int((bars.age[(bars.open_ms >= from_ms) & (bars.open_ms < to_ms)] >= 0).sum()),
        "metrics": {name: None if math.isnan(value) else value for name, value in run.metrics.items()},
        "by_symbol": _grouped(run.trades, "symbol"),
        "by_reason": _grouped(run.trades, "reason"),
        "by_side": _grouped(run.trades, "side"),
    }


def _grouped(trades: pl.DataFrame, key: str) -> dict[str, dict[str, float]]:
    table = (
        trades.group_by(key)
        .agg(
            trades=pl.len(),
            wins=(pl.col("pnl_usd") > 0).sum(),
            pnl_usd=pl.col("pnl_usd").sum(),
            fees_usd=pl.col("fees_usd").sum(),
            funding_usd=pl.col("funding_usd").sum(),
        )
        .sort(key)
    )
    return {row.pop(key): row for row in table.to_dicts()}
