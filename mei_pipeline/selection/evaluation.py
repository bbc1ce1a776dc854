"""Measurements of one rank that its gates test."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats
from mei_pipeline.config.models import Selection
from mei_pipeline.registry.records import finite_or_none
from mei_pipeline.selection.search_statistics import SearchStatistics
from mei_pipeline.selection.segments import MarketData, Segment, run_segment
from mei_pipeline.selection.statistics.bootstrap import stationary_bootstrap
from mei_pipeline.selection.statistics.concentration import concentration
from mei_pipeline.selection.statistics.drawdowns import monte_carlo_drawdowns
from mei_pipeline.selection.statistics.sharpe import deflated_sharpe, probabilistic_sharpe, return_statistics
from mei_pipeline.selection.stress import crisis_drawdowns, plateau_frac, stress_returns
from mei_pipeline.selection.walk_forward import Rank, WalkForwardResult, rank_config, run_rank
from mei_pipeline.sweep.metrics import FEWEST_DAYS
from mei_pipeline.sweep.plan import SweepPlan

_ORDERS_WITHIN = 0.95
_ORDERS = 2_000  # leave the 95th percentile uncertain by half a percentile
_SEED = 20_260_101
"""Seed of every draw: the same results give the same verdict."""


@dataclass(frozen=True)
class Measurements:
    """Measurements of one rank, out of sample if not stated otherwise; None is no evidence.

    Attributes:
        search: Statistics that all ranks share.
        trades: Number of closed trades.
        return_pct: Net return.
        sharpe: Annual Sharpe ratio of daily returns.
        median_day_pct: Median daily return of the days with a position.
        max_drawdown_pct: Maximum drawdown.
        profit_factor: Profits of winning trades over losses of the others; None without a loss.
        symbol_share: Share of the best symbol in the profits of all symbols that made one.
        trade_share: Share of the best trade in the profits of all trades that made one.
        day_share: Share of the best day in the profits of all days that made one.
        plateau_frac: Share of neighbouring combos that keep half of the Sharpe ratio, on the days of the search.
        bootstrap_p: Bootstrapped probability that the mean daily return is not above zero.
        monte_carlo_drawdown_pct: 95th percentile of the drawdown of reshuffled trades.
        holdout_symbols_sharpe: Annual Sharpe ratio on symbols that the search never sees.
        deflated_sharpe: Probability that the true Sharpe ratio is above zero, given the number of trials.
        stress: Return in percent in each worse market.
        crises: Drawdown in percent in each crisis.
        sharpe_without_best_symbol: Annual Sharpe ratio of the trades of all symbols but the best one, by day of exit.
        recent_probability: Probability that the true Sharpe ratio is above zero, by the later half of the days.
        holdout_probability: The same probability of the rank's config by the days of the holdout.
    """

    search: SearchStatistics
    trades: int
    return_pct: float
    sharpe: float | None
    median_day_pct: float | None
    max_drawdown_pct: float
    profit_factor: float | None
    symbol_share: float | None
    trade_share: float | None
    day_share: float | None
    plateau_frac: float | None
    bootstrap_p: float | None
    monte_carlo_drawdown_pct: float | None
    holdout_symbols_sharpe: float | None
    deflated_sharpe: float | None
    stress: Mapping[str, float]
    crises: Mapping[str, float]
    sharpe_without_best_symbol: float | None
    recent_probability: float | None
    holdout_probability: float | None


@dataclass(frozen=True)
class EvaluationInputs:
    """Data, search and policy that a rank is measured with.

    Attributes:
        data: Bars and features of the search's symbols.
        holdout_symbols_data: The same of the holdout symbols; None if there are no such symbols.
        plan: The search.
        walk: Its folds and ranks.
        policy: Thresholds.
        to_ms: End of the days of the nightly run, UTC milliseconds.
    """

    data: MarketData
    holdout_symbols_data: MarketData | None
    plan: SweepPlan
    walk: WalkForwardResult
    policy: Selection
    to_ms: int


def measure(inputs: EvaluationInputs, rank: Rank, stitched: Segment, search: SearchStatistics) -> Measurements:
    """Measure a rank, given its stitched out-of-sample segments."""
    profits = stitched.trade_profits
    held = stitched.returns[stitched.held]
    record = return_statistics(stitched.returns)
    return Measurements(
        search=search,
        trades=len(profits),
        return_pct=100.0 * stitched.return_frac,
        sharpe=finite_or_none(float(record.annual)),
        median_day_pct=100.0 * float(np.median(held)) if len(held) else None,
        max_drawdown_pct=100.0 * stitched.max_drawdown_frac,
        profit_factor=stitched.profit_factor,
        symbol_share=finite_or_none(concentration(profits, stitched.trade_symbols.tolist()).share),
        trade_share=finite_or_none(concentration(profits).share),
        day_share=finite_or_none(concentration(stitched.returns).share),
        plateau_frac=plateau_frac(inputs.data, inputs.plan, rank),
        bootstrap_p=finite_or_none(stationary_bootstrap(stitched.returns, seed=_SEED).loss_probability),
        monte_carlo_drawdown_pct=_monte_carlo_drawdown_pct(profits),
        holdout_symbols_sharpe=_holdout_symbols_sharpe(inputs, rank),
        deflated_sharpe=finite_or_none(float(deflated_sharpe(record, search.effective_trials))),
        stress=stress_returns(inputs.data, inputs.plan, inputs.walk, rank, inputs.policy.gates.stress),
        crises=crisis_drawdowns(inputs.data, inputs.plan, rank, inputs.policy, inputs.to_ms),
        sharpe_without_best_symbol=sharpe_without_best_symbol(stitched),
        recent_probability=recent_probability(stitched.returns),
        holdout_probability=veto_probability(_holdout_returns(inputs, rank)),
    )


def sharpe_without_best_symbol(stitched: Segment) -> float | None:
    """Return the annual Sharpe ratio of the trades of all symbols but the best one, by day of exit.

    None if only one symbol traded, or the days do not vary.
    """
    best = concentration(stitched.trade_profits, stitched.trade_symbols.tolist()).best
    others = stitched.trade_symbols != best
    days = np.searchsorted(stitched.days_ms, stitched.trade_days_ms[others])
    daily = np.bincount(days, stitched.trade_profits[others], minlength=len(stitched.days_ms)).astype(np.float64)
    return finite_or_none(float(return_statistics(daily).annual))


def recent_probability(returns: Floats) -> float | None:
    """Return the probability that the true Sharpe ratio is above zero, by the later half of daily returns [D].

    None if these returns are constant.
    """
    # At the same share of rejected records whose edge lasts, the later half detects an edge that ended by the middle
    # more often than the later third or quarter, a comparison of a later with an earlier part, or a CUSUM. All of them
    # detect a later end less often.
    return finite_or_none(float(probabilistic_sharpe(return_statistics(returns[len(returns) // 2 :]))))


def veto_probability(returns: Floats) -> float | None:
    """Return the probability that the true Sharpe ratio is above zero, by daily returns [D] of the holdout.

    0.5 without a trade or with fewer than two days: the config has not lost significantly there. None if the returns
    are constant and not zero.
    """
    if len(returns) < FEWEST_DAYS or not returns.any():
        return 0.5
    return finite_or_none(float(probabilistic_sharpe(return_statistics(returns))))


def _monte_carlo_drawdown_pct(profits: Floats) -> float | None:
    """Return the 95th percentile of the drawdown of reshuffled trades, percent of the peak; None without a trade."""
    drawdowns = monte_carlo_drawdowns(profits, 1.0, draws=_ORDERS, seed=_SEED).shuffled
    return finite_or_none(100.0 * float(np.quantile(drawdowns, _ORDERS_WITHIN))) if len(drawdowns) else None


def _holdout_symbols_sharpe(inputs: EvaluationInputs, rank: Rank) -> float | None:
    if inputs.holdout_symbols_data is None:
        return None
    stitched = run_rank(inputs.holdout_symbols_data, inputs.plan, inputs.walk, rank)
    return finite_or_none(float(return_statistics(stitched.returns).annual))


def _holdout_returns(inputs: EvaluationInputs, rank: Rank) -> Floats:
    """Return the daily returns of the rank's config on the days after the search, [D]."""
    days_ms = inputs.plan.to_ms, inputs.to_ms
    if days_ms[0] >= days_ms[1]:
        return np.empty(0)
    return run_segment(inputs.data, rank_config(inputs.plan, rank), days_ms).returns
