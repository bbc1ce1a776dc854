"""Bars and features of a nightly run, as the lake had them when the run was planned."""

from collections.abc import Callable
from dataclasses import replace

from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import DataError
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.universe import LakeSlice, read_holdout_bars
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import Window, cut_window


def load_night_bars(settings: Settings, plan: NightPlan) -> Bars:
    """Return the bars that the plan was made for; a later ingest does not change them.

    Raises:
        DataError: An ingest before the plan was undone since, or files were set aside; plan a new run.
    """
    sweep = plan.sweep

    def load(lake: Lake) -> Bars:
        return load_bars(lake, sweep.venue, sweep.intervals, sweep.symbols, sweep.anchor_ms, plan.to_ms)

    return _load_planned(settings, plan, load, sweep.data_hash)


def load_holdout_bars(settings: Settings, plan: NightPlan) -> Bars | None:
    """Return the bars of the symbols that the search never sees; None without such symbols.

    Raises:
        DataError: As `load_night_bars`.
    """
    if not plan.holdout_symbols:
        return None
    sweep = plan.sweep

    def load(lake: Lake) -> Bars:
        part = LakeSlice(lake, sweep.venue, sweep.anchor_ms, sweep.from_ms, plan.as_of_ms)
        return read_holdout_bars(part, sweep.intervals, plan.holdout_symbols, sweep.benchmark, plan.to_ms)

    return _load_planned(settings, plan, load, plan.holdout_symbols_hash)


def build_night_features(settings: Settings, plan: NightPlan, bars: Bars, progress: Progress = silent) -> FeatureSet:
    """Return the feature columns that the run's combos read, computed or memory-mapped."""
    use_kernels(settings)
    return build_features(bars, plan.sweep.columns(), settings.features, progress)


def search_window(plan: NightPlan, bars: Bars) -> Window:
    """Return the days of the search, which end before the holdout."""
    return cut_window(bars, plan.sweep.from_ms, plan.sweep.to_ms)


def _load_planned(settings: Settings, plan: NightPlan, load: Callable[[Lake], Bars], data_hash: str) -> Bars:
    """Return the bars with a content hash: from the lake as it is, or as it was when the run was planned."""
    lake = Lake(settings.lake)
    # The present lake is tried first: most ingests change nothing in the slice, and older states take longer to read.
    for state in (lake, replace(lake, before=plan.edition)):
        bars = load(state)
        if bars.data_hash == data_hash:
            return bars
    raise DataError(
        f"nightly run {plan.id[:16]}: its bars of {plan.sweep.venue} are no longer in lake {lake.root}: an ingest was "
        f"undone or files were set aside since it was planned; run `mei nightly --profile {plan.profile}` for a new one"
    )
