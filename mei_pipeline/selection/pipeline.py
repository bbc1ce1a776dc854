"""Stages of the selection of a nightly run, from the rows of its search to verdicts.

Each stage reads the files of the stages before it and writes its own, so a stage can be run again separately.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from kernels.blocks import BLOCKS
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import Compute
from mei_pipeline.night.data import build_night_features, load_holdout_bars, load_night_bars
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.params.identity import config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry import trials as stored_trials
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.records import finite_or_none
from mei_pipeline.replay.record import PeriodResult
from mei_pipeline.selection.evaluation import EvaluationInputs
from mei_pipeline.selection.folds import train_before
from mei_pipeline.selection.io import (
    Candidate,
    CandidateSet,
    GateResults,
    candidates_of,
    read_walk_forward,
    write_candidates,
    write_gate_results,
    write_walk_forward,
)
from mei_pipeline.selection.ranking import COLUMNS
from mei_pipeline.selection.search_statistics import TrialReturns, own_trials
from mei_pipeline.selection.segments import MarketData, Segment, run_segment
from mei_pipeline.selection.selection_bias import estimate_selection_bias
from mei_pipeline.selection.statistics.sharpe import return_statistics
from mei_pipeline.selection.verdicts import judge_ranks
from mei_pipeline.selection.walk_forward import WalkForwardResult, least_trades, run_ranks, select_combos
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.window import block_starts_ms, cut_window
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo
from mei_pipeline.sweep.results import open_results, sweep_folder
from mei_pipeline.sweep.run import run_sweep

_BINS = 40


def run_walk_forward(
    settings: Settings, plan: NightPlan, compute: Compute | None = None, progress: Progress = silent
) -> tuple[WalkForwardResult, tuple[Segment, ...]]:
    """Select combos in every fold, run them on its test days, and write both.

    Folds that need a search of their own run it first; an interrupted search resumes.

    Args:
        settings: Settings.
        plan: Plan of the nightly run.
        compute: `compute` of pipeline.yaml: where searches run; this machine by default.
        progress: Called with combos, then with segments.

    Raises:
        ConfigError: The policy leaves a fold no test day.
        DataError: The sweep is incomplete, or the lake has changed.
        Busy, Retryable: See `run_sweep`.
    """
    data = _market_data(settings, plan)

    def rows(search: SweepPlan) -> Iterator[pl.DataFrame]:
        if search.id != plan.sweep.id:
            cut = cut_window(data.bars, search.from_ms, search.to_ms)
            run_sweep(settings, search, cut, data.features, compute=compute, progress=progress)
        return _rows(settings, search)

    policy = plan.selection
    walk = select_combos(plan.sweep, rows, policy.walk_forward, policy.candidates, policy.gates.min_trades)
    stitched_by_rank = run_ranks(data, plan.sweep, walk, progress)
    write_walk_forward(settings, plan, walk, stitched_by_rank)
    return walk, stitched_by_rank


def select_candidates(settings: Settings, plan: NightPlan) -> CandidateSet:
    """Replay the config of each rank on the holdout, count the combos that were not selected, and write both.

    Raises:
        DataError: `run_walk_forward` has not run for this nightly run, or the lake has changed.
    """
    walk, stitched_by_rank = read_walk_forward(settings, plan)
    data = _market_data(settings, plan)
    candidates = []
    replays: dict[str, Segment] = {}
    train_days, holdout_days = selection_days(plan), (plan.holdout_ms, plan.to_ms)
    for rank, stitched in zip(walk.ranks, stitched_by_rank, strict=True):
        params = plan.sweep.combo(rank.final.combo)
        resolved = resolved_combo(plan.sweep, params)
        inside, holdout = (run_segment(data, resolved, days) for days in (train_days, holdout_days))
        replays |= {f"in sample {rank.number}": inside, f"holdout {rank.number}": holdout}
        candidates.append(
            Candidate(
                rank=rank.number,
                combo=rank.final.combo,
                config_id=config_id(resolved),
                params=params,
                in_sample_sharpe=rank.final.sharpe,
                selected=tuple(best.combo if best else None for best in rank.selected),
                out_of_sample=_headline(stitched),
                holdout=_headline(holdout),
            )
        )
    candidate_set = CandidateSet(
        plan.id,
        plan.sweep.combos,
        _rejected(settings, plan, walk, [each.combo for each in candidates]),
        tuple(candidates),
    )
    write_candidates(settings, plan, candidate_set, replays)
    return candidate_set


def judge_candidates(
    settings: Settings, plan: NightPlan, registry: Registry, now_ms: int, progress: Progress = silent
) -> GateResults:
    """Measure and judge every candidate, and write the verdicts.

    Trials are stored before their verdicts are known, so that a run that is stopped can't try again for free.

    Raises:
        DataError: An earlier stage has not run, or has run again since, or the lake has changed.
        Busy: Another process holds the registry.
    """
    walk, stitched_by_rank = read_walk_forward(settings, plan)
    candidates_of(settings, plan, walk)  # raises if they are of another walk-forward
    if not stitched_by_rank:
        results = GateResults(plan.id, None, ((), ()), None, ())
    else:
        trials = _store_trials(plan, own_trials(plan.sweep, walk, stitched_by_rank), registry, now_ms)
        data, holdout_symbols_data = _market_data(settings, plan), _holdout_symbols_data(settings, plan)
        inputs = EvaluationInputs(data, holdout_symbols_data, plan.sweep, walk, plan.selection, plan.to_ms)
        judged = judge_ranks(inputs, stitched_by_rank, _rows(settings, plan.sweep), trials, progress)
        logit = judged.overfitting.logits
        finite = logit[np.isfinite(logit)]
        counts, edges = np.histogram(finite, _BINS) if len(finite) else (np.empty(0), np.empty(0))
        logits = (tuple(map(float, edges)), tuple(map(int, counts)))
        selection_bias = estimate_selection_bias(judged.sums, plan.sweep.combos)
        results = GateResults(plan.id, judged.search, logits, selection_bias, judged.judgements)
    write_gate_results(settings, plan, results)
    return results


def selection_days(plan: NightPlan) -> tuple[int, int]:
    """Return the days that candidates are selected on, first and one past the last, UTC milliseconds."""
    first, _ = train_before(BLOCKS, plan.selection.walk_forward)
    return block_starts_ms(plan.sweep.from_ms, plan.sweep.to_ms)[first], plan.sweep.to_ms


def _market_data(settings: Settings, plan: NightPlan) -> MarketData:
    bars = load_night_bars(settings, plan)
    return MarketData(settings, bars, build_night_features(settings, plan, bars))


def _holdout_symbols_data(settings: Settings, plan: NightPlan) -> MarketData | None:
    bars = load_holdout_bars(settings, plan)
    return None if bars is None else MarketData(settings, bars, build_night_features(settings, plan, bars))


def _rows(settings: Settings, search: SweepPlan) -> Iterator[pl.DataFrame]:
    """Return the columns that the ranking reads of the rows of a search, chunk by chunk."""
    return open_results(sweep_folder(settings.sweeps, search), search).frames(COLUMNS)


def _rejected(settings: Settings, plan: NightPlan, walk: WalkForwardResult, selected: Sequence[int]) -> dict[str, int]:
    """Return the number of combos that were not selected, by reason."""
    few = losers = others = 0
    least = least_trades(plan.sweep, walk.folds, plan.selection.gates.min_trades)
    # A candidate that was selected on the last train days may have lost on all days of the search.
    for rows in open_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep).frames(
        ("combo", "trades", "net_pnl_usd")
    ):
        free = rows.filter(~pl.col("combo").is_in(list(selected)))
        earned = free.filter(pl.col("net_pnl_usd") > 0.0)
        rare = int((earned["trades"] < least).sum())
        losers, few, others = losers + free.height - earned.height, few + rare, others + earned.height - rare
    return {
        "no profit on the days of the search": losers,
        f"fewer than {np.ceil(least):.0f} trades on the days of the search, too few for `min_trades`": few,
        "not among the best on the days of the search, or the same as one of them": others,
    }


def _headline(segment: Segment) -> PeriodResult:
    return PeriodResult(
        days=len(segment.returns),
        return_pct=100.0 * segment.return_frac,
        sharpe=finite_or_none(float(return_statistics(segment.returns).annual)),
        max_drawdown_pct=100.0 * segment.max_drawdown_frac,
        trades=len(segment.trade_profits),
    )


def _store_trials(plan: NightPlan, own: Sequence[TrialReturns], registry: Registry, now_ms: int) -> list[TrialReturns]:
    """Store the trials of this nightly run, and return all trials on its days, oldest first and its own last."""
    first, last = (_day(own[0].days_ms[place]) for place in (0, -1))
    for rank, trial in enumerate(own):
        days = (trial.days_ms - trial.days_ms[0]) // DAY_MS
        returns = np.zeros(int(days[-1]) + 1)
        returns[days] = trial.returns
        stored = stored_trials.Trial(
            night_id=plan.id,
            rank=f"rank {rank}",
            config_ids=(trial.config_id,),
            venue=plan.sweep.venue,
            first_day=first,
            last_day=last,
            returns=tuple(returns.tolist()),
            data_hash=plan.sweep.data_hash,
            policy_id=plan.selection.id,
        )
        stored_trials.add_trial(registry, stored, now_ms)
    return [*map(_series, stored_trials.trials_between(registry, plan.sweep.venue, first, last)), *own]


def _series(trial: stored_trials.Trial) -> TrialReturns:
    first = (trial.first_day - date(1970, 1, 1)).days
    days_ms = DAY_MS * (first + np.arange(len(trial.returns), dtype=np.int64))
    return TrialReturns(trial.config_ids[0], days_ms, np.array(trial.returns))


def _day(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
