"""What is measured of a slot, for its gates to judge."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import Selection
from mei_pipeline.selection.segments import MarketData, Segment, run_segment
from mei_pipeline.selection.statistics.bootstrap import stationary_bootstrap
from mei_pipeline.selection.statistics.concentration import concentration
from mei_pipeline.selection.statistics.drawdowns import monte_carlo_drawdowns
from mei_pipeline.selection.statistics.sharpe import deflated_sharpe, probabilistic_sharpe, return_statistics
from mei_pipeline.selection.stress import crisis_drawdowns, plateau, stressed
from mei_pipeline.selection.walk_forward import Rank, WalkForwardResult, rank_config, run_rank
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.sweep.metrics import FEWEST_DAYS
from mei_pipeline.sweep.plan import SweepPlan

_ORDERS_WITHIN = 0.95
_ORDERS = 2_000  # leave the 95th percentile uncertain by half a percentile
_SEED = 20_260_101
"""Of every draw: the same results give the same verdict."""


@dataclass(frozen=True)
class SearchStatistics:
    """What all slots of a night have in common.

    Attributes:
        overfitting_probability: Of the search, by CSCV; None where too few trials vary.
        loss_probability: Share of its splits in which the best of one half loses on the other.
        trials: How many distinct configs were ever judged on days of these, this night's included.
        effective_trials: How many independent ones have the same expected best; 0 where no look varies.
        spa_cash_p: p-value of the best slot against doing nothing; None where no slot varies.
        spa_buy_and_hold_p: The same against holding the basket.
    """

    overfitting_probability: float | None
    loss_probability: float | None
    trials: int
    effective_trials: float
    spa_cash_p: float | None
    spa_buy_and_hold_p: float | None


@dataclass(frozen=True)
class Measurements:
    """Everything that the gates of one slot look at; None is no evidence.

    Attributes:
        search: What all slots have in common.
        trades: Closed round trips out of sample.
        return_pct: Net return out of sample.
        sharpe: Annual Sharpe ratio of daily returns out of sample.
        median_day_pct: Median daily return of the days with a position.
        max_drawdown_pct: Deepest fall from a peak.
        profit_factor: Profits of winning trips over losses of the others; None without a loss or without a trip.
        symbol_share: Share of the profits of all symbols that made one, of the best one.
        trade_share: The same of round trips.
        day_share: The same of days.
        plateau_frac: Share of neighbours that keep half of the Sharpe ratio.
        bootstrap_p: Bootstrapped probability that the mean day is not above zero.
        monte_carlo_drawdown_pct: 95th percentile of the drawdown of shuffled round trips.
        holdout_symbols_sharpe: Annual Sharpe ratio on symbols that the search never saw.
        deflated_sharpe: Probability that the true Sharpe ratio is above zero, given the looks.
        stress: Return in percent in each worse market.
        crises: Drawdown in percent in each crisis.
        sharpe_without_best_symbol: Annual Sharpe ratio of the round trips of all symbols but the best one, by day of
            their ends.
        recent_probability: Probability that the true Sharpe ratio is above zero, by the later half of the days.
        holdout_probability: The same by the holdout, run with the config that the slot stands for.
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
    sharpe_without_best_symbol: float | None = None  # earlier versions did not measure this and what follows
    recent_probability: float | None = None
    holdout_probability: float | None = None


@dataclass(frozen=True)
class EvaluationInputs:
    """What a slot is measured on.

    Attributes:
        data: The bars of the search's symbols.
        others: Those of symbols that the search never saw; None where there are none.
        plan: The search.
        walk: Its folds and choices.
        policy: What is asked for.
        to_ms: End of the night's days.
    """

    data: MarketData
    others: MarketData | None
    plan: SweepPlan
    walk: WalkForwardResult
    policy: Selection
    to_ms: int


def measure(inputs: EvaluationInputs, rank: Rank, stitched: Segment, search: SearchStatistics) -> Measurements:
    """Measure a slot whose legs have been run."""
    profits = stitched.trade_profits
    lost = float(-profits[profits <= 0.0].sum())
    held = stitched.returns[stitched.held]
    shuffled = monte_carlo_drawdowns(profits, 1.0, draws=_ORDERS, seed=_SEED)
    orders = float(np.quantile(shuffled.shuffled, _ORDERS_WITHIN)) if len(shuffled.shuffled) else np.nan
    record = return_statistics(stitched.returns)
    others = inputs.others
    elsewhere = None if others is None else run_rank(others, inputs.plan, inputs.walk, rank)
    return Measurements(
        search=search,
        trades=len(profits),
        return_pct=100.0 * stitched.return_frac,
        sharpe=number_or_none(record.annual),
        median_day_pct=100.0 * float(np.median(held)) if len(held) else None,
        max_drawdown_pct=100.0 * stitched.max_drawdown_frac,
        profit_factor=float(profits[profits > 0.0].sum()) / lost if lost > 0.0 else None,
        symbol_share=number_or_none(concentration(profits, stitched.trade_symbols.tolist()).share),
        trade_share=number_or_none(concentration(profits).share),
        day_share=number_or_none(concentration(stitched.returns).share),
        plateau_frac=plateau(inputs.data, inputs.plan, rank),
        bootstrap_p=number_or_none(stationary_bootstrap(stitched.returns, seed=_SEED).loss_probability),
        monte_carlo_drawdown_pct=number_or_none(100.0 * orders),
        holdout_symbols_sharpe=None
        if elsewhere is None
        else number_or_none(return_statistics(elsewhere.returns).annual),
        deflated_sharpe=number_or_none(deflated_sharpe(record, search.effective_trials)),
        stress=stressed(inputs.data, inputs.plan, inputs.walk, rank, inputs.policy.gates.stress),
        crises=crisis_drawdowns(inputs.data, inputs.plan, rank, inputs.policy, inputs.to_ms),
        sharpe_without_best_symbol=sharpe_without_best_symbol(stitched),
        recent_probability=recent_probability(stitched.returns),
        holdout_probability=veto_probability(_holdout_returns(inputs, rank)),
    )


def sharpe_without_best_symbol(stitched: Segment) -> float | None:
    """Annual Sharpe ratio of the round trips of all symbols but the best one, by day of their ends.

    None if only one symbol traded, or the days do not vary.
    """
    best = concentration(stitched.trade_profits, stitched.trade_symbols.tolist()).best
    others = stitched.trade_symbols != best
    days = np.searchsorted(stitched.days_ms, stitched.trade_days_ms[others])
    daily = np.bincount(days, stitched.trade_profits[others], minlength=len(stitched.days_ms)).astype(np.float64)
    return number_or_none(return_statistics(daily).annual)


def recent_probability(returns: Floats) -> float | None:
    """Probability that the true Sharpe ratio is above zero, by the later half of daily returns [D]; None if constant.

    At the same loss of records whose edge lasts, it finds an edge that ended by the middle more often than the later
    third or quarter, a comparison of a later with an earlier part, or a CUSUM. A later end is found less often by all.
    """
    return number_or_none(probabilistic_sharpe(return_statistics(returns[len(returns) // 2 :])))


def veto_probability(returns: Floats) -> float | None:
    """Probability that the true Sharpe ratio is above zero, by daily returns [D]; 0.5 if they say nothing.

    A config that did not trade on these days, or has fewer than two of them, has not lost significantly there. None if
    the returns are constant and not zero.
    """
    if len(returns) < FEWEST_DAYS or not returns.any():
        return 0.5
    return number_or_none(probabilistic_sharpe(return_statistics(returns)))


def _holdout_returns(inputs: EvaluationInputs, rank: Rank) -> Floats:
    """Daily returns of the slot's config on the days after the search."""
    days_ms = inputs.plan.to_ms, inputs.to_ms
    if days_ms[0] >= days_ms[1]:
        return np.empty(0)
    return run_segment(inputs.data, rank_config(inputs.plan, rank), days_ms).returns


def number_or_none(value: Floats | float) -> float | None:
    """The number, or None for NaN and infinities."""
    number = float(value)
    return number if np.isfinite(number) else None


def buy_and_hold_returns(bars: Bars, days_ms: Ints) -> Floats:
    """Daily returns of holding all symbols in equal parts, [D], each day from the last close before it to its own.

    A symbol without a close on either side is left out of the day's mean; a day without any has 0.
    """
    ends = bars.steps.close_ms
    last = np.searchsorted(ends, days_ms + DAY_MS, side="right") - 1
    before = np.searchsorted(ends, days_ms, side="right") - 1
    close = bars.steps.prices[3]
    with np.errstate(invalid="ignore"):
        moves = np.where((before >= 0)[:, None], close[last] / close[np.maximum(before, 0)] - 1.0, np.nan)
    there = ~np.isnan(moves)
    total = np.where(there, moves, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(there.sum(axis=1), 1))
