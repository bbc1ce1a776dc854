"""Two nights and two replays over a small made market, as one tree of plain values, to be compared with a baseline."""

import io
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from market_kit import DAY_MS, HOUR_MS, START_MS, VENUE, quarters, walk
from policy_kit import policy_text
from result_kit import read_results

from mei_pipeline import files
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments
from mei_pipeline.config.load import Configuration, load_config
from mei_pipeline.night.data import build_night_features, load_night_bars, search_window
from mei_pipeline.night.plan import NightPlan, plan_night
from mei_pipeline.night.store import night_folder, write_night_plan
from mei_pipeline.promotion.pipeline import assign_lanes, propose_configs
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.export import export_rows
from mei_pipeline.registry.lanes import configured_lanes
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.replay.report import decisions_of, report_of
from mei_pipeline.replay.run import make_replay_inputs, replay
from mei_pipeline.selection.pipeline import judge_candidates, run_walk_forward, select_candidates
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo
from mei_pipeline.sweep.results import sweep_folder
from mei_pipeline.sweep.run import run_sweep

DAYS = 64
SYMBOLS = ("AAA", "BBB", "BTC", "CCC")
NIGHTS = {"cross": 54, "alpha": 64}
"""Nights by the name of their sweep, and the day as of which each is planned."""
REPLAYED = 20
"""Days of a replay."""
FILES = (
    "walk_forward.json",
    "candidates.json",
    "gates.json",
    "roles.json",
    "incumbents.json",
    "stitched.npz",
    "replays.npz",
)
"""Files of a night that are compared."""
POLICY: dict[str, Any] = {
    "candidates": 2,
    "holdout_symbols": 1,
    "walk_forward": {"window": "anchored", "train_blocks": 8, "test_blocks": 4, "embargo_days": 1},
    "crises": {"drop": {"from": "2025-02-01", "to": "2025-02-08"}},
    "min_profit_factor": 1,
    "min_sharpe_without_best_symbol": -20,
    "min_recent_probability": 1e-6,
    "min_holdout_probability": 1e-6,
    "min_holdout_symbols_sharpe": -20,
    "max_crisis_drawdown_pct": 100,
}
_PIPELINE = f"""\
venue: {VENUE}
start: 2025-01
intervals: [1h, 15m]
anchors: {{1h: 2025-01-01T00:00:00Z, 15m: 2025-01-01T00:00:00Z}}
universe: all
sources: []
window: {{days: 44, holdout_days: 10}}
profiles: {{cross: {{sweep: cross}}, alpha: {{sweep: alpha}}}}
"""
_SWEEPS = {
    "cross": """\
strategy: ema_cross
interval: 1h
market: {entry_slippage_bps: 3, exit_slippage_bps: 3}
params: {entry.warmup_bars: 50}
chunk_combos: 10
axes:
  indicators.ema_fast_window: [5, 9, 13]
  indicators.ema_slow_window: [21, 34]
  trade.sl_atr_mult: [1.5, 3.0]
  trade.tp_atr_mult: [2, 4]
""",
    "alpha": """\
strategy: mei_alpha
interval: 1h
exit_interval: 15m
method: tpe
budget: 40
batch: 4
min_trades: 5
chunk_combos: 4
market: {exit_slippage_bps: 3}
params:
  entry.warmup_bars: 60
  thresholds.entry.enable_pullback_entries: true
  trade.entry_min_confidence: low
  trade.add_cooldown_minutes: 0
  trade.add_min_profit_atr: 0.1
  trade.tp_partial_atr_mult: 1
axes:
  indicators.ema_fast_window: [8, 15]
  indicators.ema_slow_window: [40, 70]
  thresholds.entry.min_adx: [8, 12, 18]
  filters.require_btc_alignment: [false, true]
  trade.sl_atr_mult: [1.5, 3]
  trade.tp_atr_mult: [3, 6]
""",
}


class PinnedPlan(SweepPlan):
    """A sweep whose id depends on its days alone.

    `tpe` draws from the id, and the id holds the hash of the kernels: new kernels with the same rules would draw other
    combos.
    """

    @property
    def id(self) -> str:
        """Hash of the strategy and the days."""
        return files.sha256_json([self.strategy, self.from_ms, self.to_ms])


def run_all(settings: Settings, folder: Path) -> dict[str, Any]:
    """Run everything in an empty home and return what came of it.

    Args:
        settings: Names the home.
        folder: Receives the configuration.

    Returns:
        `sweeps`, `nights` (by file) and `replays` by name, and every table of the `registry`; columns as numpy arrays.
    """
    _fill_lake(Lake(settings.lake))
    config = _write_config(folder)
    plans = {name: _run_night(settings, config, name, day) for name, day in NIGHTS.items()}
    registry: dict[str, list[dict[str, Any]]] = {}
    for table, row in export_rows(open_registry(settings.registry)):
        registry.setdefault(table, []).append(row)
    return {
        "sweeps": {
            name: _columns(read_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep))
            for name, plan in plans.items()
        },
        "nights": {name: dict(_night(night_folder(settings, plan))) for name, plan in plans.items()},
        "registry": registry,
        "replays": {name: _replay(settings, plan) for name, plan in plans.items()},
    }


def _fill_lake(lake: Lake) -> None:
    """Write bars of both intervals, funding and instruments; rounded prices do not depend on the last bit of `exp`."""
    now_ms = START_MS + (DAYS + 1) * DAY_MS
    hourly = pl.concat([walk(name, DAYS, 1, drift=0.0015) for name in SYMBOLS])
    for candles in (hourly, quarters(hourly)):
        rounded = candles.with_columns(pl.col("open", "high", "low", "close", "volume").round(4))
        merge_candles(lake, rounded, now_ms=now_ms)
    times = START_MS + 8 * HOUR_MS * np.arange(1, DAYS * 3, dtype=np.int64)
    rates = np.where(np.arange(len(times)) % 3 == 0, -0.0002, 0.0001)
    funding = pl.DataFrame({"venue": VENUE, "time_ms": times, "rate": rates, "source": "walk"}).with_columns(
        premium=pl.lit(None, dtype=pl.Float64)
    )
    merge_funding(
        lake,
        pl.concat(
            [
                funding.select("venue", pl.lit(name).alias("symbol"), "time_ms", "rate", "premium", "source")
                for name in SYMBOLS
            ]
        ),
        now_ms=now_ms,
    )
    merge_instruments(lake, default_instruments(VENUE, dict.fromkeys(SYMBOLS, 100.0)), now_ms=now_ms)


def _write_config(folder: Path) -> Configuration:
    (folder / "sweeps").mkdir(parents=True)
    (folder / "lanes").mkdir()
    (folder / "pipeline.yaml").write_text(_PIPELINE)
    (folder / "policy.yaml").write_text(policy_text(**POLICY))
    for name, text in _SWEEPS.items():
        (folder / "sweeps" / f"{name}.yaml").write_text(text)
    for lane, role in (("paper1", "primary"), ("paper2", "fallback"), ("paper3", "conservative")):
        (folder / "lanes" / f"{lane}.yaml").write_text(f"mode: paper\nvenue: {VENUE}\nrole: {role}\n")
    return load_config(folder)


def _run_night(settings: Settings, config: Configuration, name: str, day: int) -> NightPlan:
    """Run every stage of a nightly run once, and promote."""
    now_ms = START_MS + day * DAY_MS
    plan = plan_night(settings, config, name, now_ms)
    values = {field.name: getattr(plan.sweep, field.name) for field in fields(plan.sweep)}
    plan = replace(plan, sweep=PinnedPlan(**values))
    write_night_plan(settings, plan)
    bars = load_night_bars(settings, plan)
    features = build_night_features(settings, plan, bars)
    run_sweep(settings, plan.sweep, search_window(plan, bars), features, device="cpu")
    registry = open_registry(settings.registry)
    run_walk_forward(settings, plan)
    select_candidates(settings, plan)
    judge_candidates(settings, plan, registry, now_ms)
    assign_lanes(settings, config, plan, now_ms)
    audit = AuditContext(now_ms, "test", "a night", name)
    propose_configs(settings, config, plan, audit)
    promote_proposals(
        registry, settings.lanes, configured_lanes(config.lanes), policy_id=plan.selection.id, audit=audit
    )
    return plan


def _night(folder: Path) -> Iterator[tuple[str, Any]]:
    """Content of the files of a night; of its segments by name and column."""
    for name in FILES:
        content = (folder / name).read_bytes()
        if name.endswith(".json"):
            yield name, json.loads(content)
            continue
        found: dict[str, dict[str, Any]] = {}
        with np.load(io.BytesIO(content)) as stored:
            for key in stored:
                segment, column = key.rsplit(" ", 1)
                found.setdefault(segment, {})[column] = stored[key]
        yield name, found


def _replay(settings: Settings, plan: NightPlan) -> dict[str, Any]:
    """The report of the first combo of a night's sweep over its last days, with its tables."""
    bars = load_night_bars(settings, plan)
    resolved = resolved_combo(plan.sweep, plan.sweep.combo(0))
    inputs = make_replay_inputs(settings, bars, resolved, plan.holdout_ms - REPLAYED * DAY_MS, plan.holdout_ms)
    run = replay(settings, inputs)
    report = report_of(inputs, run) | decisions_of(settings, inputs, run)
    report["signals"]["verdicts"] = list(report["signals"]["verdicts"].values())  # its keys are prose
    return {
        "report": report,
        **{name: _columns(getattr(run, name)) for name in ("fills", "trades", "equity", "holding")},
        "verdicts": run.verdicts,
    }


def _columns(frame: pl.DataFrame) -> dict[str, Any]:
    """Columns of a table; words as lists, the rest as arrays, null as NaN."""
    return {
        column.name: column.to_list() if column.dtype in {pl.String, pl.Enum, pl.Categorical} else column.to_numpy()
        for column in frame
    }
