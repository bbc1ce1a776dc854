"""Nightly runs on many markets, in parallel: the sweep in memory, then the selection of every nightly run."""

from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import polars as pl

from kernels.market import Ints, fill_model
from mei_pipeline.candles.intervals import DAY_MS, Intervals, interval_ms
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.models import Selection, SweepSpec, WalkForward
from mei_pipeline.errors import ConfigError
from mei_pipeline.experiment.markets import INTERVAL, ShuffledMarkets, SyntheticMarkets
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.selection.evaluation import EvaluationInputs
from mei_pipeline.selection.folds import Fold, folds_of
from mei_pipeline.selection.search_statistics import TrialReturns, own_trials
from mei_pipeline.selection.segments import MarketData
from mei_pipeline.selection.verdicts import Judgement, judge_ranks
from mei_pipeline.selection.walk_forward import run_ranks, select_combos, test_days
from mei_pipeline.settings import Settings, one_thread_for_children
from mei_pipeline.simulation.bars import Bars, context_only
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import ComboOutcomes, run_combos
from mei_pipeline.simulation.threads import thread_count
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.results import chunk_frame
from mei_pipeline.sweep.search.methods import make_method
from mei_pipeline.workers import end_with_parent

DAYS_OUT_OF_SAMPLE = 280
"""Test days of all folds of a nightly run: 40 weeks."""
WARMUP_DAYS = 12
"""Days before the first day of the search, in which features settle."""
HOLDOUT_DAYS = 42
"""Days after the last day of the search, which select nothing."""


@dataclass(frozen=True)
class Experiment:
    """An experiment: the same nightly runs on every market.

    Attributes:
        settings: Settings with the place of compiled kernels.
        spec: The search.
        policy: The thresholds. Crises are left out: they are days of the calendar, which these markets do not have.
        source: Source of the markets.
        nights: Number of nightly runs; the days of each are one day later than those of the run before.
        days_out_of_sample: Least number of test days of a nightly run.
    """

    settings: Settings
    spec: SweepSpec
    policy: Selection
    source: SyntheticMarkets | ShuffledMarkets
    nights: int = 1
    days_out_of_sample: int = DAYS_OUT_OF_SAMPLE

    @property
    def search_days(self) -> int:
        """Days of a search whose folds have `days_out_of_sample` test days."""
        return _search_days(self.policy.walk_forward, self.days_out_of_sample)

    @property
    def market_days(self) -> int:
        """Days of a market."""
        return WARMUP_DAYS + self.search_days + HOLDOUT_DAYS + self.nights - 1


@dataclass(frozen=True)
class CandidateOutcome:
    """Result of the judgement of one candidate.

    Attributes:
        failed: Gates that it failed.
        sharpe: Its annual Sharpe ratio out of sample; None if its days do not vary.
        trials: Number of trials on its days, by this nightly run or before.
        no_evidence: Gates without evidence.
    """

    failed: tuple[str, ...]
    sharpe: float | None
    trials: int
    no_evidence: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if it passed every gate."""
        return not self.failed and not self.no_evidence


NightOutcome = tuple[CandidateOutcome, ...]
"""The candidates of one nightly run, best in the search first; empty if no combo made money."""


def promoted(night: NightOutcome) -> bool:
    """Return True if a candidate of a nightly run passed every gate."""
    return any(verdict.passed for verdict in night)


def check(experiment: Experiment) -> None:
    """Check that an experiment can run.

    Raises:
        ConfigError: The sweep's bars are not those of the markets, its method is `tpe`, there is no nightly run, or the
            sweep reads a benchmark symbol that is not searched.
    """
    check_spec(experiment.spec)
    if experiment.nights < 1:
        raise ConfigError(f"experiment: nights is {experiment.nights}; at least 1")
    sweep_benchmark(experiment.spec, experiment.source.searched, read_catalog())


def check_spec(spec: SweepSpec) -> None:
    """Check that a search can run on these markets.

    Raises:
        ConfigError: Its bars are not those of the markets, or its method is `tpe`.
    """
    if spec.intervals != Intervals(INTERVAL):
        stated = ", ".join(filter(None, (spec.interval, spec.entry_interval, spec.exit_interval)))
        raise ConfigError(f"experiment: the sweep's intervals are {stated}; allowed: {INTERVAL}")
    if spec.method == "tpe":
        raise ConfigError("experiment: the sweep's method is tpe; allowed: grid, random")


def run_markets(
    experiment: Experiment, seeds: Sequence[int], workers: int = 0, progress: Progress = silent
) -> list[tuple[NightOutcome, ...]]:
    """Run the nightly runs of each market, and return them in the order of `seeds`.

    The result does not depend on the number of workers.

    Args:
        experiment: The experiment.
        seeds: One for each market.
        workers: Processes, of one thread each; 0 means one per processor.
        progress: Called after each market.

    Raises:
        ConfigError: See `check`; or there is no market.
    """
    check(experiment)
    if not seeds:
        raise ConfigError("experiment: markets is 0; at least 1")
    most = min(thread_count(workers), len(seeds))
    with (
        one_thread_for_children(),
        ProcessPoolExecutor(most, get_context("spawn"), initializer=_start, initargs=(experiment,)) as pool,
    ):
        waiting: list[Future[tuple[NightOutcome, ...]]] = [pool.submit(_work, seed) for seed in seeds]
        try:
            progress(0, len(seeds), "markets")
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                progress(done, len(seeds), "markets")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in waiting]


def run_market(experiment: Experiment, seed: int) -> tuple[NightOutcome, ...]:
    """Run all nightly runs on one market; each counts the trials of those before it."""
    source = experiment.source
    policy = experiment.policy.model_copy(update={"crises": {}})
    bars = source.bars(seed, source.searched, experiment.market_days)
    plans = [_plan(experiment, bars, night) for night in range(experiment.nights)]
    data = _market_data(experiment, bars, plans[0])
    holdout_data = _holdout_data(experiment, seed, plans[0]) if source.holdout_symbols else None
    trials: list[TrialReturns] = []
    nights = []
    for plan in plans:
        rows = _sweep(experiment, bars, data.features, plan)
        least = policy.gates.min_trades
        walk = select_combos(plan, partial(_return_rows, rows), policy.walk_forward, policy.candidates, least)
        stitched_by_rank = run_ranks(data, plan, walk)
        trials += own_trials(plan, walk, stitched_by_rank)
        if stitched_by_rank:
            inputs = EvaluationInputs(data, holdout_data, plan, walk, policy, plan.to_ms + HOLDOUT_DAYS * DAY_MS)
            nights.append(tuple(map(_outcome_of, judge_ranks(inputs, stitched_by_rank, [rows], trials).judgements)))
        else:
            nights.append(())
    return tuple(nights)


def folds(experiment: Experiment) -> tuple[Fold, ...]:
    """Return the folds of the first nightly run."""
    return folds_of(0, experiment.search_days * DAY_MS, experiment.policy.walk_forward)


def _search_days(policy: WalkForward, least: int) -> int:
    days = least
    while test_days(folds_of(0, days * DAY_MS, policy)) < least:
        days += 1
    return days


def _plan(experiment: Experiment, bars: Bars, night: int) -> SweepPlan:
    from_ms = DEFAULT_FROM_MS + (WARMUP_DAYS + night) * DAY_MS
    return make_plan(experiment.spec, bars, from_ms, from_ms + experiment.search_days * DAY_MS)


def _market_data(experiment: Experiment, bars: Bars, plan: SweepPlan) -> MarketData:
    return MarketData(experiment.settings, bars, features_of(bars, plan.columns(), threads=1))


def _holdout_data(experiment: Experiment, seed: int, plan: SweepPlan) -> MarketData:
    """Return the data of the holdout symbols, with the benchmark as context only."""
    source, benchmark = experiment.source, plan.benchmark
    names = tuple(sorted({*source.holdout_symbols, *([benchmark] if benchmark else ())}))
    bars = source.bars(seed, names, experiment.market_days)
    return _market_data(experiment, context_only(bars, benchmark) if benchmark else bars, plan)


def _sweep(experiment: Experiment, bars: Bars, features: FeatureSet, plan: SweepPlan) -> pl.DataFrame:
    """Return the rows of all combos over the days of a nightly run."""
    numbers = all_numbers(experiment.settings, plan)
    outcome = run_numbers(experiment.settings, bars, features, plan, numbers, threads=1)
    return chunk_frame(plan, numbers, outcome, (plan.to_ms - plan.from_ms) // interval_ms(INTERVAL))


def all_numbers(settings: Settings, plan: SweepPlan) -> Ints:
    """Return the numbers [K] of all combos that the search of `plan` runs, by grid or at random."""
    choice = make_method(plan, settings.sweeps)  # grid and random search read no file
    return np.concatenate([choice.numbers(index) for index in range(plan.chunks)])


def run_numbers(
    settings: Settings, bars: Bars, features: FeatureSet, plan: SweepPlan, numbers: Ints, threads: int
) -> ComboOutcomes:
    """Run the combos `numbers` [K] of a plan over its days, in `threads` threads; 0 means one per processor."""
    values = {**plan.params, **plan.axis_values(numbers)}
    combos = encode_combos(
        plan.strategy, features, values, len(numbers), plan.symbols, plan.symbol_params, benchmark=plan.benchmark
    )
    cut = cut_window(bars, plan.from_ms, plan.to_ms)
    model = fill_model(plan.market, plan.initial_balance_usd)
    return run_combos(settings, cut, model, features, combos, threads)


def _return_rows(rows: pl.DataFrame, _: SweepPlan) -> list[pl.DataFrame]:
    return [rows]


def _outcome_of(judgement: Judgement) -> CandidateOutcome:
    measured = judgement.measured
    return CandidateOutcome(judgement.rejected_at, measured.sharpe, measured.search.trials, judgement.without_evidence)


_experiment: list[Experiment] = []


def _start(experiment: Experiment) -> None:
    """Store the experiment once per worker, not with every seed: real hours are large."""
    end_with_parent()
    use_kernels(experiment.settings)
    _experiment[:] = [experiment]


def _work(seed: int) -> tuple[NightOutcome, ...]:
    return run_market(_experiment[0], seed)
