"""Gates: one test each, from what was measured and a threshold to a verdict in words. No evidence never passes."""

from collections.abc import Callable, Iterator
from typing import Any

from mei_pipeline.config.models import Gates
from mei_pipeline.registry.records import Gate
from mei_pipeline.selection.evaluation import Measurements
from mei_pipeline.selection.thresholds import at_least, at_most

GateFunction = Callable[[Measurements, Any], Gate]


def min_trades(found: Measurements, threshold: float) -> Gate:
    """Whether there are enough round trips to say anything."""
    return at_least("min_trades", float(found.trades), threshold, "closed round trips out of sample")


def min_sharpe(found: Measurements, threshold: float) -> Gate:
    """Whether the chained days out of sample earn enough for their risk."""
    return at_least(
        "min_sharpe", found.sharpe, threshold, "annual Sharpe ratio out of sample", "daily returns do not vary"
    )


def min_median_day_pct(found: Measurements, threshold: float) -> Gate:
    """Whether the usual day is not a losing one, so that profit does not hang on a few days."""
    return at_least(
        "min_median_day_pct", found.median_day_pct, threshold, "median day with a position, percent,", "no such day"
    )


def max_drawdown_pct(found: Measurements, threshold: float) -> Gate:
    """Whether equity never fell too far from a peak."""
    return at_most("max_drawdown_pct", found.max_drawdown_pct, threshold, "drawdown out of sample, percent,")


def min_profit_factor(found: Measurements, threshold: float) -> Gate:
    """Whether winners pay for losers, costs included."""
    return at_least(
        "min_profit_factor", found.profit_factor, threshold, "profit factor out of sample", "no losing trip"
    )


def max_symbol_share(found: Measurements, threshold: float) -> Gate:
    """Whether the profit does not come from one symbol."""
    return at_most("max_symbol_share", found.symbol_share, threshold, "share of the best symbol", "none made a profit")


def max_trade_share(found: Measurements, threshold: float) -> Gate:
    """Whether the profit does not come from one round trip."""
    return at_most(
        "max_trade_share", found.trade_share, threshold, "share of the best round trip", "none made a profit"
    )


def max_day_share(found: Measurements, threshold: float) -> Gate:
    """Whether the profit does not come from one day."""
    return at_most("max_day_share", found.day_share, threshold, "share of the best day", "none made a profit")


def min_plateau_frac(found: Measurements, threshold: float) -> Gate:
    """Whether the candidate stands on a plateau and not on a lonely peak."""
    return at_least(
        "min_plateau_frac",
        found.plateau_frac,
        threshold,
        "share of neighbours that keep half of its Sharpe ratio",
        "no axis varies around it",
    )


def max_bootstrap_p(found: Measurements, threshold: float) -> Gate:
    """Whether resampled days seldom lose."""
    return at_most(
        "max_bootstrap_p",
        found.bootstrap_p,
        threshold,
        "bootstrapped probability of a mean not above zero",
        "daily returns do not vary",
    )


def max_monte_carlo_drawdown_pct(found: Measurements, threshold: float) -> Gate:
    """Whether another order of the same round trips would not have been ruinous."""
    return at_most(
        "max_monte_carlo_drawdown_pct",
        found.monte_carlo_drawdown_pct,
        threshold,
        "drawdown that 95 of 100 orders of the trips stay within, percent,",
        "no round trip",
    )


def min_sharpe_without_best_symbol(found: Measurements, threshold: float) -> Gate:
    """Whether the other symbols earn without the best one."""
    return at_least(
        "min_sharpe_without_best_symbol",
        found.sharpe_without_best_symbol,
        threshold,
        "annual Sharpe ratio out of sample without the best symbol",
        "only one symbol traded, or its daily profits do not vary",
    )


def min_recent_probability(found: Measurements, threshold: float) -> Gate:
    """Whether the later half of the record still earns, so that an edge that has died is left out."""
    return at_least(
        "min_recent_probability",
        found.recent_probability,
        threshold,
        "probability that the later half of the days out of sample has an edge",
        "its daily returns do not vary",
    )


def min_holdout_probability(found: Measurements, threshold: float) -> Gate:
    """Whether the config does not lose significantly on the holdout."""
    return at_least(
        "min_holdout_probability",
        found.holdout_probability,
        threshold,
        "probability that the holdout has an edge",
        "its daily returns do not vary",
    )


def min_holdout_symbols_sharpe(found: Measurements, threshold: float) -> Gate:
    """Whether the same choices do not lose on symbols that the search never saw."""
    return at_least(
        "min_holdout_symbols_sharpe",
        found.holdout_symbols_sharpe,
        threshold,
        "annual Sharpe ratio on other symbols",
        "no other symbols, or no trade in them",
    )


def max_overfitting_probability(found: Measurements, threshold: float) -> Gate:
    """Whether what is best on some blocks of the search is seldom below the median on the others."""
    return at_most(
        "max_overfitting_probability",
        found.search.overfitting_probability,
        threshold,
        "probability of backtest overfitting",
        "too few trials whose returns vary",
    )


def max_search_loss_probability(found: Measurements, threshold: float) -> Gate:
    """Whether what is best on some blocks of the search seldom loses money on the others."""
    return at_most(
        "max_search_loss_probability",
        found.search.loss_probability,
        threshold,
        "share of splits in which the best of one half loses on the other",
        "too few trials whose returns vary",
    )


def min_deflated_sharpe(found: Measurements, threshold: float) -> Gate:
    """Whether the Sharpe ratio is more than the best of as many worthless looks at these days would have."""
    return at_least(
        "min_deflated_sharpe",
        found.deflated_sharpe,
        threshold,
        f"deflated Sharpe ratio after {found.search.trials} looks, {found.search.effective_trials:.1f} independent,",
        "daily returns do not vary",
    )


def max_spa_cash_p(found: Measurements, threshold: float) -> Gate:
    """Whether the best of the finalists is better than doing nothing by more than luck."""
    return at_most(
        "max_spa_cash_p", found.search.spa_cash_p, threshold, "p-value against doing nothing", "returns do not vary"
    )


def max_spa_buy_and_hold_p(found: Measurements, threshold: float) -> Gate:
    """Whether the best of the finalists is better than holding the basket by more than luck."""
    return at_most(
        "max_spa_buy_and_hold_p",
        found.search.spa_buy_and_hold_p,
        threshold,
        "p-value against holding the basket",
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
"""Gates with one threshold each: the key of policy.yaml that is named like them. Worse markets and crises follow."""


def gate_names() -> tuple[str, ...]:
    """Names of the gates that do not depend on the numbers in the policy."""
    return tuple(each.__name__ for each in GATES)


def stress_gates(found: Measurements, threshold: float) -> Iterator[Gate]:
    """One gate for each worse market: whether the loss in it can be borne."""
    for name, return_pct in found.stress.items():
        yield at_least(f"stress_{name}", return_pct, threshold, "return out of sample in that market, percent,")


def crisis_gates(found: Measurements, threshold: float) -> Iterator[Gate]:
    """One gate for each crisis that lies in the night's days."""
    for name, fall_pct in found.crises.items():
        yield at_most(f"crisis_{name}", fall_pct, threshold, "drawdown in it, percent,")


def judge(found: Measurements, policy: Gates) -> tuple[Gate, ...]:
    """The verdict of every gate that the policy asks for."""
    asked = [(each, getattr(policy, each.__name__)) for each in GATES]
    gates = [each(found, threshold) for each, threshold in asked if threshold is not None]
    gates += stress_gates(found, policy.stress.min_return_pct)
    if policy.max_crisis_drawdown_pct is not None:
        gates += crisis_gates(found, policy.max_crisis_drawdown_pct)
    return tuple(gates)
