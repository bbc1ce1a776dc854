"""Replays of the configs that hold lanes, on the test days of the candidates and since they took their lanes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels.cache import source_hash
from mei_pipeline.candles.findings import symbols_with_spikes
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.load import Configuration
from mei_pipeline.config.models import Roles
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.plan import NightPlan, anchor_of
from mei_pipeline.night.universe import spike_bounds
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.assign import Incumbent, failure
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.lanes import RenderedFiles
from mei_pipeline.registry.records import finite_or_none
from mei_pipeline.registry.store import get_config, history
from mei_pipeline.replay.run import columns_for
from mei_pipeline.selection.folds import Fold
from mei_pipeline.selection.segments import MarketData, Segment, run_segment, stitch
from mei_pipeline.selection.statistics.sharpe import return_statistics
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.loading import load_bars


@dataclass(frozen=True)
class IncumbentReplay:
    """Figures of the config that holds a lane, as a nightly run stores them.

    Attributes:
        lane: The lane.
        config_id: The config.
        since_ms: Time at which it took the lane, UTC milliseconds.
        sharpe: Annual Sharpe ratio on the test days of the candidates; None if it can't be replayed.
        drawdown_pct: Maximum drawdown since it took the lane; None before its first complete day.
        profit_factor: Profit factor since then; None without a loss.
        trades: Closed trades since then.
        failed: Reason that it has failed; empty if it has not.
        unfit: Reason that it can't be replayed, which is no failure; empty if it was replayed.
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


def replay_incumbent(
    settings: Settings,
    config: Configuration,
    plan: NightPlan,
    registry: Registry,
    now: RenderedFiles,
    folds: Sequence[Fold],
) -> Incumbent:
    """Replay the config that holds a lane on the test days of the folds, and since it took the lane."""
    pointer = now.pointer
    moves = history(registry, lane=pointer.lane)
    since_ms = next(move.at_ms for move in moves if move.transition_id == pointer.transition_id)
    other_kernels = now.file.provenance.kernel_hash != source_hash()
    resolved = get_config(registry, pointer.config_id).resolved
    try:
        anchor_ms = anchor_of(config.pipeline, resolved.interval)
        resolved = _without_marked(settings, config, resolved, (anchor_ms, plan.to_ms), plan.as_of_ms)
        data = _market_data(settings, resolved, anchor_ms, plan.to_ms)
        stitched = stitch([run_segment(data, resolved, fold.test_ms) for fold in folds])
        since = _since(data, resolved, -(-since_ms // DAY_MS) * DAY_MS, plan.to_ms)
    except (ConfigError, DataError) as error:
        days = sum(fold.days for fold in folds)
        unfit = f"can't be replayed: {error}"
        return Incumbent(pointer.config_id, since_ms, 0.0, np.zeros(days), None, None, 0, unfit, other_kernels)
    return Incumbent(
        config_id=pointer.config_id,
        since_ms=since_ms,
        sharpe=finite_or_none(float(return_statistics(stitched.returns).annual)) or 0.0,
        returns=stitched.returns,
        drawdown_pct=None if since is None else 100.0 * since.max_drawdown_frac,
        profit_factor=None if since is None else since.profit_factor,
        trades=0 if since is None else len(since.trade_profits),
        other_kernels=other_kernels,
    )


def incumbent_figures(lane: str, incumbent: Incumbent, policy: Roles) -> IncumbentReplay:
    """Return the figures of an incumbent that a nightly run stores."""
    return IncumbentReplay(
        lane=lane,
        config_id=incumbent.config_id,
        since_ms=incumbent.since_ms,
        sharpe=None if incumbent.unfit else incumbent.sharpe,
        drawdown_pct=incumbent.drawdown_pct,
        profit_factor=incumbent.profit_factor,
        trades=incumbent.trades,
        failed=failure(incumbent, policy),
        unfit=incumbent.unfit,
    )


def _without_marked(
    settings: Settings, config: Configuration, resolved: ResolvedConfig, window: tuple[int, int], as_of_ms: int
) -> ResolvedConfig:
    """Leave out the symbols with a marked bar, so that an error of the data is no failure of a config."""
    lake, bounds = Lake(settings.lake), spike_bounds(config)
    marked = symbols_with_spikes(
        lake, resolved.venue, resolved.intervals.read, resolved.symbols, window, bounds, as_of_ms
    )
    kept = tuple(name for name in resolved.symbols if name not in marked)
    if not kept:
        raise DataError("; ".join(f"{name}: {why}" for name, why in marked.items()))
    params = {name: values for name, values in resolved.symbol_params.items() if name in kept}
    return replace(resolved, symbols=kept, symbol_params=params)


def _market_data(settings: Settings, resolved: ResolvedConfig, anchor_ms: int, to_ms: int) -> MarketData:
    bars = load_bars(Lake(settings.lake), resolved.venue, resolved.intervals, resolved.symbols, anchor_ms, to_ms)
    use_kernels(settings)
    return MarketData(settings, bars, build_features(bars, columns_for(resolved), settings.features))


def _since(data: MarketData, resolved: ResolvedConfig, from_ms: int, to_ms: int) -> Segment | None:
    """Run a config from a day on; None before its first complete day."""
    return run_segment(data, resolved, (from_ms, to_ms)) if from_ms < to_ms else None
