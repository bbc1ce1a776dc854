"""From verdicts to proposals: who holds the lanes, who may take them, and what the registry is told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kernels.cache import source_hash
from mei_pipeline import files
from mei_pipeline.candles.findings import symbols_with_spikes
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.load import Config
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.plan import NightPlan, anchor_of
from mei_pipeline.night.store import night_folder
from mei_pipeline.night.universe import spike_bounds
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.assign import AcceptedConfig, Incumbent, assign, failure
from mei_pipeline.promotion.propose import (
    Assignment,
    CandidateRecord,
    LaneProposal,
    StoredCandidate,
    propose_assignments,
    reason_not_to_move,
    store_candidates,
)
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import LaneFiles, configured_lanes, lane_files
from mei_pipeline.registry.lifecycle import PAPER, PAUSED
from mei_pipeline.registry.records import AuditContext, Basis
from mei_pipeline.registry.store import get_config, history
from mei_pipeline.replay.run import columns_for
from mei_pipeline.selection.evaluation import number_or_none
from mei_pipeline.selection.folds import folds_of
from mei_pipeline.selection.io import Candidate, read_file, read_verdicts
from mei_pipeline.selection.segments import MarketData, Segment, run_segment, stitch
from mei_pipeline.selection.statistics.sharpe import return_statistics
from mei_pipeline.selection.verdicts import Judgement
from mei_pipeline.selection.walk_forward import WalkForwardResult
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.sweep.plan import resolved_combo

_ASSIGNED = TypeAdapter(tuple[Assignment, ...])


@dataclass(frozen=True)
class IncumbentReplay:
    """What a night found of the config that holds a lane.

    Attributes:
        lane: The lane.
        config_id: The config.
        since_ms: When it took the lane.
        sharpe: Annual Sharpe ratio on the days on which the night's candidates were judged; None where it can't be
            replayed on them.
        drawdown_pct: Deepest fall since it took the lane; None before its first whole day.
        profit_factor: Since then; None without a loss or a round trip.
        trades: Since then.
        failed: Why it has failed; empty where it has not.
        unfit: Why it can't be replayed, which is no failure; empty if it was replayed.
    """

    lane: str
    config_id: str
    since_ms: int
    sharpe: float | None
    drawdown_pct: float | None
    profit_factor: float | None
    trades: int
    failed: str
    unfit: str = ""


_COMPARED = TypeAdapter(tuple[IncumbentReplay, ...])


@dataclass(frozen=True)
class ProposalResult:
    """What a night stored and proposed."""

    judged: tuple[StoredCandidate, ...]
    lanes: tuple[LaneProposal, ...]


def assign_lanes(settings: Settings, config: Config, plan: NightPlan, now_ms: int) -> tuple[Assignment, ...]:
    """Decide what each lane shall run, incumbents replayed on the same days as the candidates; write it down.

    A config that a person put into a paper lane, or paused there, has its lane.

    Raises:
        DataError: An earlier station has not run, or has run again since.
        Busy: Another process holds the registry.
    """
    registry = open_home_registry(settings)
    walk, verdicts = read_verdicts(settings, plan)
    passed = _passed(verdicts)
    rejected = (
        "what passed holds a lane that no night moves" if passed else _why_none([each for _, each, _ in verdicts])
    )
    found: dict[str, Assignment] = {}
    incumbents: dict[str, Incumbent] = {}
    free = []
    for lane in configured_lanes(config.lanes):
        now = lane_files(registry, lane.name)
        reason = reason_not_to_move(lane, None if now is None else now.pointer)
        if not reason and lane.venue != plan.sweep.venue:
            reason = f"nothing, because no config of {lane.venue} was judged"
        if reason:
            found[lane.name] = Assignment(lane.name, None, reason)
            if now is not None and now.pointer.state in {PAPER, PAUSED}:
                passed = [each for each in passed if each.config_id != now.pointer.config_id]
            continue
        free.append(lane)
        if now is not None:
            incumbents[lane.name] = _incumbent(settings, config, plan, registry, now, walk)
    for each in assign(free, passed, incumbents, plan.selection.roles, now_ms, rejected):
        found[each.lane] = each
    assigned = tuple(found[name] for name in sorted(found))
    compared = tuple(_compared(name, each, plan) for name, each in sorted(incumbents.items()))
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "incumbents.json", _COMPARED.dump_json(compared, indent=2) + b"\n")
    files.write_bytes(folder / "roles.json", _ASSIGNED.dump_json(assigned, indent=2) + b"\n")
    return assigned


def read_assignments(settings: Settings, plan: NightPlan) -> tuple[Assignment, ...]:
    """What `assign_lanes` decided.

    Raises:
        DataError: It has not run for this night, or the file is damaged.
    """
    found: tuple[Assignment, ...] = read_file(
        night_folder(settings, plan) / "roles.json", _ASSIGNED, "role_assignments"
    )
    return found


def read_incumbents(settings: Settings, plan: NightPlan) -> tuple[IncumbentReplay, ...]:
    """What `assign_lanes` found of the configs that held the lanes it could move, by lane.

    Raises:
        DataError: It has not run for this night, or the file is damaged.
    """
    found: tuple[IncumbentReplay, ...] = read_file(
        night_folder(settings, plan) / "incumbents.json", _COMPARED, "role_assignments"
    )
    return found


def propose(settings: Settings, config: Config, plan: NightPlan, audit: AuditContext) -> ProposalResult:
    """Store every finalist with its evidence and verdict, and propose what the lanes were assigned. No pointer moves.

    Raises:
        Busy, DataError, Fatal, Refused: See `registry.deploy.propose_assignments`.
    """
    registry = open_home_registry(settings)
    _, verdicts = read_verdicts(settings, plan)
    judged = store_candidates(
        registry,
        [_record_of(plan, candidate, judgement) for candidate, judgement, _ in verdicts],
        night_id=plan.id,
        policy_id=plan.selection.id,
        audit=audit,
    )
    proposals = propose_assignments(
        registry,
        settings.lanes,
        configured_lanes(config.lanes),
        read_assignments(settings, plan),
        night_id=plan.id,
        policy_id=plan.selection.id,
        audit=audit,
    )
    return ProposalResult(judged, proposals)


def _passed(verdicts: Sequence[tuple[Candidate, Judgement, Segment]]) -> list[AcceptedConfig]:
    """Configs that passed, each once: of equal ids the better slot counts."""
    found: dict[str, AcceptedConfig] = {}
    for _, judgement, series in verdicts:
        measured = judgement.measured
        if judgement.passed and measured.sharpe is not None and judgement.config_id not in found:
            found[judgement.config_id] = AcceptedConfig(
                judgement.config_id, measured.sharpe, measured.max_drawdown_pct, series.returns
            )
    return list(found.values())


def _why_none(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return "no combo of the search with enough trades made money on all of its days"
    parts = [f"none of {len(judgements)} passed"]
    for words, names in (
        ("most fell at", [name for each in judgements for name in each.rejected_at]),
        ("no evidence for", [name for each in judgements for name in each.without_evidence]),
    ):
        if names:
            most = max(sorted(set(names)), key=names.count)
            parts.append(f"{words} {most} ({names.count(most)})")
    return "; ".join(parts)


def _incumbent(
    settings: Settings, config: Config, plan: NightPlan, registry: Registry, now: LaneFiles, walk: WalkForwardResult
) -> Incumbent:
    """The config that holds a lane, replayed on the days of the folds and since it took the lane."""
    pointer = now.pointer
    moves = history(registry, lane=pointer.lane)
    since_ms = next(move.at_ms for move in moves if move.transition_id == pointer.transition_id)
    other_kernels = now.file.provenance.kernel_hash != source_hash()
    resolved = get_config(registry, pointer.config_id).resolved
    days = sum(fold.days for fold in walk.folds)
    try:
        anchor_ms = anchor_of(config.pipeline, resolved.interval)
        resolved = _without_marked(settings, config, resolved, (anchor_ms, plan.to_ms), plan.as_of_ms)
        data = _market_data(settings, resolved, anchor_ms, plan.to_ms)
        judged = stitch([run_segment(data, resolved, fold.test_ms) for fold in walk.folds])
        since = _since(data, resolved, -(-since_ms // DAY_MS) * DAY_MS, plan.to_ms)
    except (ConfigError, DataError) as error:
        unfit = f"can't be replayed: {error}"
        return Incumbent(pointer.config_id, since_ms, 0.0, np.zeros(days), None, None, 0, unfit, other_kernels)
    return Incumbent(
        config_id=pointer.config_id,
        since_ms=since_ms,
        sharpe=number_or_none(return_statistics(judged.returns).annual) or 0.0,
        returns=judged.returns,
        drawdown_pct=since["drawdown_pct"],
        profit_factor=since["profit_factor"],
        trades=int(since["trades"] or 0),
        other_kernels=other_kernels,
    )


def _without_marked(
    settings: Settings, config: Config, resolved: ResolvedConfig, window: tuple[int, int], as_of_ms: int
) -> ResolvedConfig:
    """Leave out the symbols with a bar that no market makes, so that an error of the data is no failure of a config."""
    lake, bounds = Lake(settings.lake), spike_bounds(config)
    marked = symbols_with_spikes(
        lake, resolved.venue, resolved.intervals.read, resolved.symbols, window, bounds, as_of_ms
    )
    kept = tuple(name for name in resolved.symbols if name not in marked)
    if not kept:
        raise DataError("; ".join(f"{name}: {why}" for name, why in marked.items()))
    params = {name: values for name, values in resolved.symbol_params.items() if name in kept}
    return replace(resolved, symbols=kept, symbol_params=params)


def _compared(lane: str, incumbent: Incumbent, plan: NightPlan) -> IncumbentReplay:
    return IncumbentReplay(
        lane=lane,
        config_id=incumbent.config_id,
        since_ms=incumbent.since_ms,
        sharpe=None if incumbent.unfit else incumbent.sharpe,
        drawdown_pct=incumbent.drawdown_pct,
        profit_factor=incumbent.profit_factor,
        trades=incumbent.trades,
        failed=failure(incumbent, plan.selection.roles),
        unfit=incumbent.unfit,
    )


def _market_data(settings: Settings, resolved: ResolvedConfig, anchor_ms: int, to_ms: int) -> MarketData:
    bars = load_bars(Lake(settings.lake), resolved.venue, resolved.intervals, resolved.symbols, anchor_ms, to_ms)
    use_kernels(settings)
    return MarketData(settings, bars, build_features(bars, columns_for(resolved), settings.features))


def _since(data: MarketData, resolved: ResolvedConfig, from_ms: int, to_ms: int) -> dict[str, float | None]:
    """Fall, profit factor and round trips from a day on; None before the first whole day."""
    if from_ms >= to_ms:
        return {"drawdown_pct": None, "profit_factor": None, "trades": None}
    segment = run_segment(data, resolved, (from_ms, to_ms))
    lost = float(-segment.trade_profits[segment.trade_profits <= 0.0].sum())
    won = float(segment.trade_profits[segment.trade_profits > 0.0].sum())
    return {
        "drawdown_pct": 100.0 * segment.max_drawdown_frac,
        "profit_factor": won / lost if lost > 0.0 else None,
        "trades": float(len(segment.trade_profits)),
    }


def _record_of(plan: NightPlan, candidate: Candidate, judgement: Judgement) -> CandidateRecord:
    sweep = plan.sweep
    basis = Basis(
        kernel_hash=source_hash(),
        fill_model=dict(sweep.market),
        venue=sweep.venue,
        data_hash=sweep.data_hash,
        anchor_ms=sweep.anchor_ms,
    )
    folds = folds_of(sweep.from_ms, sweep.to_ms, plan.selection.walk_forward)
    measured: dict[str, Any] = {
        "sweep_id": sweep.id,
        "combo": candidate.combo,
        "combos": sweep.combos,
        "selected": list(candidate.selected),
        "from_ms": sweep.from_ms,
        "holdout_ms": plan.holdout_ms,
        "to_ms": plan.to_ms,
        "folds_ms": [list(fold.test_ms) for fold in folds],
        "in_sample_sharpe": candidate.in_sample_sharpe,
        "out_of_sample": vars(candidate.out_of_sample),
        "holdout": vars(candidate.holdout),
    }
    score = judgement.measured.sharpe
    return CandidateRecord(
        resolved=resolved_combo(sweep, candidate.params),
        basis=basis,
        metrics=measured,
        gates=judgement.gates,
        score=float("nan") if score is None else score,
    )
