"""Gates: each compares a measurement with a threshold and gives a verdict. No evidence never passes."""

from collections.abc import Callable, Iterator
from typing import Any

from mei_pipeline.config.models import Gates
from mei_pipeline.registry.records import Gate
from mei_pipeline.selection.evaluation import Measurements
from mei_pipeline.selection.thresholds import at_least, at_most

GateFunction = Callable[[Measurements, Any], Gate]


def min_trades(measured: Measurements, threshold: float) -> Gate:
    """Require enough closed trades for any conclusion."""
    return at_least("min_trades", float(measured.trades), threshold, "closed trades out of sample")


def min_sharpe(measured: Measurements, threshold: float) -> Gate:
    """Require a Sharpe ratio of the stitched out-of-sample days."""
    return at_least(
        "min_sharpe", measured.sharpe, threshold, "annual Sharpe ratio out of sample", "daily returns do not vary"
    )


def min_median_day_pct(measured: Measurements, threshold: float) -> Gate:
    """Require that the median day does not lose much, so that the profit does not depend on a few days."""
    return at_least(
        "min_median_day_pct",
        measured.median_day_pct,
        threshold,
        "median day with a position, percent,",
        "no day has a position",
    )


def max_drawdown_pct(measured: Measurements, threshold: float) -> Gate:
    """Limit the maximum drawdown."""
    return at_most("max_drawdown_pct", measured.max_drawdown_pct, threshold, "drawdown out of sample, percent,")


def min_profit_factor(measured: Measurements, threshold: float) -> Gate:
    """Require that winning trades pay for losing ones, costs included."""
    return at_least(
        "min_profit_factor", measured.profit_factor, threshold, "profit factor out of sample", "no losing trade"
    )


def max_symbol_share(measured: Measurements, threshold: float) -> Gate:
    """Limit the share of one symbol in the profit."""
    return at_most(
        "max_symbol_share", measured.symbol_share, threshold, "share of the best symbol", "no symbol made a profit"
    )


def max_trade_share(measured: Measurements, threshold: float) -> Gate:
    """Limit the share of one trade in the profit."""
    return at_most(
        "max_trade_share", measured.trade_share, threshold, "share of the best trade", "no trade made a profit"
    )


def max_day_share(measured: Measurements, threshold: float) -> Gate:
    """Limit the share of one day in the profit."""
    return at_most("max_day_share", measured.day_share, threshold, "share of the best day", "no day made a profit")


def min_plateau_frac(measured: Measurements, threshold: float) -> Gate:
    """Require a parameter plateau instead of an isolated peak."""
    return at_least(
        "min_plateau_frac",
        measured.plateau_frac,
        threshold,
        "share of neighbours that keep half of its Sharpe ratio",
        "no axis varies around it",
    )


def max_bootstrap_p(measured: Measurements, threshold: float) -> Gate:
    """Require that resampled days seldom lose."""
    return at_most(
        "max_bootstrap_p",
        measured.bootstrap_p,
        threshold,
        "bootstrap probability that the mean is not above zero",
        "daily returns do not vary",
    )


def max_monte_carlo_drawdown_pct(measured: Measurements, threshold: float) -> Gate:
    """Limit the drawdown of the same trades in another order."""
    return at_most(
        "max_monte_carlo_drawdown_pct",
        measured.monte_carlo_drawdown_pct,
        threshold,
        "drawdown that 95 of 100 orders of the trades stay within, percent,",
        "no trade",
    )


def min_sharpe_without_best_symbol(measured: Measurements, threshold: float) -> Gate:
    """Require that the other symbols earn without the best one."""
    return at_least(
        "min_sharpe_without_best_symbol",
        measured.sharpe_without_best_symbol,
        threshold,
        "annual Sharpe ratio out of sample without the best symbol",
        "only one symbol traded, or its daily profits do not vary",
    )


def min_recent_probability(measured: Measurements, threshold: float) -> Gate:
    """Require that the later half of the days still earns, to reject an edge that has ended."""
    return at_least(
        "min_recent_probability",
        measured.recent_probability,
        threshold,
        "probability that the later half of the days out of sample has an edge",
        "its daily returns do not vary",
    )


def min_holdout_probability(measured: Measurements, threshold: float) -> Gate:
    """Require that the config does not lose significantly on the holdout."""
    return at_least(
        "min_holdout_probability",
        measured.holdout_probability,
        threshold,
        "probability that the holdout has an edge",
        "its daily returns do not vary",
    )


def min_holdout_symbols_sharpe(measured: Measurements, threshold: float) -> Gate:
    """Require that the same combos do not lose on symbols that the search never sees."""
    return at_least(
        "min_holdout_symbols_sharpe",
        measured.holdout_symbols_sharpe,
        threshold,
        "annual Sharpe ratio on holdout symbols",
        "no holdout symbols, or no trade in them",
    )


def max_overfitting_probability(measured: Measurements, threshold: float) -> Gate:
    """Require that the best combo of some blocks is seldom below the median on the other blocks."""
    return at_most(
        "max_overfitting_probability",
        measured.search.overfitting_probability,
        threshold,
        "probability of backtest overfitting",
        "too few trials whose returns vary",
    )


def max_search_loss_probability(measured: Measurements, threshold: float) -> Gate:
    """Require that the best combo of some blocks seldom loses money on the other blocks."""
    return at_most(
        "max_search_loss_probability",
        measured.search.loss_probability,
        threshold,
        "share of splits in which the best combo of one half loses on the other",
        "too few trials whose returns vary",
    )


def min_deflated_sharpe(measured: Measurements, threshold: float) -> Gate:
    """Require a Sharpe ratio above the expected best of as many trials without edge."""
    search = measured.search
    return at_least(
        "min_deflated_sharpe",
        measured.deflated_sharpe,
        threshold,
        f"deflated Sharpe ratio after {search.trials} trials, {search.effective_trials:.1f} independent,",
        "daily returns do not vary",
    )


def max_spa_cash_p(measured: Measurements, threshold: float) -> Gate:
    """Require that the best candidate beats cash significantly."""
    return at_most(
        "max_spa_cash_p", measured.search.spa_cash_p, threshold, "SPA p-value against cash", "returns do not vary"
    )


def max_spa_buy_and_hold_p(measured: Measurements, threshold: float) -> Gate:
    """Require that the best candidate beats buying and holding all symbols significantly."""
    return at_most(
        "max_spa_buy_and_hold_p",
        measured.search.spa_buy_and_hold_p,
        threshold,
        "SPA p-value against buy and hold",
        "returns do not vary",
    )


GATES: tuple[GateFunction, ...] = (
    min_trades,
    min_sharpe,
    min_median_day_pct,
    max_drawdown_pct,
    min_profit_factor,
    max_symbol_share,
    max_trade_share,
    max_day_share,
    min_plateau_frac,
    max_bootstrap_p,
    max_monte_carlo_drawdown_pct,
    min_sharpe_without_best_symbol,
    min_recent_probability,
    min_holdout_probability,
    min_holdout_symbols_sharpe,
    max_overfitting_probability,
    max_search_loss_probability,
    min_deflated_sharpe,
    max_spa_cash_p,
    max_spa_buy_and_hold_p,
)
"""Gates with one threshold, in policy.yaml under the name of the gate. Gates of worse markets and crises follow."""


def gate_names() -> tuple[str, ...]:
    """Return the names of the gates that every policy has."""
    return tuple(each.__name__ for each in GATES)


def stress_gates(measured: Measurements, threshold: float) -> Iterator[Gate]:
    """Yield one gate for each worse market."""
    for name, return_pct in measured.stress.items():
        yield at_least(f"stress_{name}", return_pct, threshold, "return out of sample in that market, percent,")


def crisis_gates(measured: Measurements, threshold: float) -> Iterator[Gate]:
    """Yield one gate for each crisis in the days of the nightly run."""
    for name, drawdown_pct in measured.crises.items():
        yield at_most(f"crisis_{name}", drawdown_pct, threshold, "drawdown in it, percent,")


def apply_gates(measured: Measurements, policy: Gates) -> tuple[Gate, ...]:
    """Return the verdict of every gate that the policy turns on."""
    thresholds = [(each, getattr(policy, each.__name__)) for each in GATES]
    gates = [each(measured, threshold) for each, threshold in thresholds if threshold is not None]
    gates += stress_gates(measured, policy.stress.min_return_pct)
    if policy.max_crisis_drawdown_pct is not None:
        gates += crisis_gates(measured, policy.max_crisis_drawdown_pct)
    return tuple(gates)
