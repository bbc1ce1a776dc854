"""The report of a replay: config, data, kernels and results."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kernels.cache import source_hash
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.params.identity import as_dict, config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.records import Basis, evidence_id
from mei_pipeline.replay.benchmark import benchmark_dict, benchmark_on
from mei_pipeline.replay.decisions import (
    GateCounts,
    count_gates,
    gate_summary,
    parameter_effects,
    signal_codes,
    signal_summary,
)
from mei_pipeline.replay.record import PromotionRecord, record_dict
from mei_pipeline.replay.risk import daily_returns, rolling_sharpe, rolling_window, worst_drawdowns
from mei_pipeline.replay.run import Replay, ReplayInputs
from mei_pipeline.replay.summary import figures, groups, monthly_returns, notes
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.members import member_dicts, members_of

DRAWDOWN_HEADING = ("peak", "trough", "recovery", "depth, %", "length, days")


def report_of(
    inputs: ReplayInputs, run: Replay, record: PromotionRecord | None = None, benchmark: str = ""
) -> dict[str, Any]:
    """Return the report as JSON values.

    Args:
        inputs: Inputs of the replay.
        run: The replay.
        record: The record that a promoted config was accepted on.
        benchmark: Symbol to compare with; empty for the one that `benchmark_on` chooses.

    Returns:
        `config_id` and `evidence_id`; the resolved `config`; its `basis`, window and `bars`; `metrics` as in a sweep
        row; `figures`, all others (null without a value); `notes` on them; `members`, the bars of each symbol; trades
        `by_symbol`, `by_side`, `by_reason`, `by_tier`, `by_mode` and `by_month`; the result of the `benchmark` or null;
        the `rolling_sharpe` ratio by day; the worst `drawdowns`; `monthly_return_pct`; the `open_positions` at the end;
        and the `record` of a promoted config, null for others.
    """
    bars, cut = inputs.bars, inputs.cut
    identity = config_id(inputs.resolved)
    basis = Basis(source_hash(), dict(inputs.resolved.market), bars.venue, bars.data_hash, bars.anchor_ms)
    all_figures = figures(inputs, run)
    return {
        "config_id": identity,
        "evidence_id": evidence_id(identity, basis),
        "config": as_dict(inputs.resolved),
        "basis": basis.as_dict(),
        "from": iso(cut.from_ms),
        "to": iso(cut.to_ms),
        "bars": int((bars.age[(bars.open_ms >= cut.from_ms) & (bars.open_ms < cut.to_ms)] >= 0).sum()),
        "metrics": {name: None if math.isnan(value) else value for name, value in run.metrics.items()},
        "figures": all_figures,
        "notes": notes(inputs, run, all_figures),
        "members": member_dicts(members_of(bars, cut.from_ms, cut.to_ms)),
        **groups(run.trades),
        "benchmark": benchmark_dict(benchmark_on(inputs, benchmark), inputs),
        "rolling_sharpe": _rolling(inputs, run),
        "drawdowns": _drawdowns(inputs, run),
        "monthly_return_pct": monthly_returns(run.equity, inputs.resolved.initial_balance_usd),
        "open_positions": run.holding.to_dicts(),
        "record": record_dict(record, inputs, run),
    }


def decisions_of(
    settings: Settings, inputs: ReplayInputs, run: Replay, counts: GateCounts | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Return the part of the report about decisions. It evaluates every gate at every step again.

    Args:
        settings: Where compiled kernels are kept.
        inputs: Inputs of the replay.
        run: The replay.
        counts: Counts of the gates, if they are known already.
        progress: Receives the progress of the work.

    Returns:
        `signals`: counts of signals and their verdicts; `gates`: counts of the results of each gate;
        `parameter_effects`: parameters that alone rejected signals.
    """
    codes = signal_codes(settings, inputs)
    return {
        "signals": signal_summary(inputs, run, codes),
        "gates": gate_summary(settings, inputs, counts or count_gates(settings, inputs, progress)),
        "parameter_effects": parameter_effects(settings, inputs, codes, progress),
    }


def drawdown_rows(drawdowns: Sequence[Mapping[str, Any]]) -> tuple[tuple[object, ...], ...]:
    """Return one row under `DRAWDOWN_HEADING` for each of the `drawdowns` of a report."""
    return tuple(
        (each["peak"], each["trough"], each["recovery"] or "not recovered", each["depth_pct"], each["days"])
        for each in drawdowns
    )


def _rolling(inputs: ReplayInputs, run: Replay) -> dict[str, Any]:
    """Return the rolling Sharpe ratio: `window_days`, and `by_day`, the ratio by the last day of each window."""
    returns = daily_returns(run.equity, inputs.resolved.initial_balance_usd)
    window = rolling_window(len(returns))
    ratios = rolling_sharpe(returns, window).tolist()
    first_ms = inputs.cut.from_ms + (window - 1) * DAY_MS
    return {
        "window_days": window,
        "by_day": {iso(first_ms + index * DAY_MS)[:10]: ratio for index, ratio in enumerate(ratios)},
    }


def _drawdowns(inputs: ReplayInputs, run: Replay) -> list[dict[str, Any]]:
    close_ms, equity = (run.equity[name].to_numpy() for name in ("close_ms", "equity_usd"))
    return [
        {
            "peak": iso(each.peak_ms),
            "trough": iso(each.trough_ms),
            "recovery": None if each.recovery_ms is None else iso(each.recovery_ms),
            "depth_pct": each.depth_pct,
            "days": each.days,
        }
        for each in worst_drawdowns(close_ms, equity, inputs.cut.from_ms, inputs.resolved.initial_balance_usd)
    ]
