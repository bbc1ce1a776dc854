"""Figures of a replay beyond the metrics of a sweep row: risk, trades and costs, in total and in groups."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from mei_pipeline.notes import book_notes, data_notes
from mei_pipeline.replay.risk import cagr_pct, calmar, daily_returns, distribution, longest_drawdown_days, sortino
from mei_pipeline.replay.run import Replay, ReplayInputs
from mei_pipeline.sweep.metrics import YEAR_DAYS

DOCS = {
    "initial_balance_usd": "Initial equity.",
    "final_balance_usd": "Final equity; open positions are valued at the last price.",
    "days": "Days of the window.",
    "cagr_pct": "Compound annual growth; null for a window of less than a year.",
    "sortino": "Annual Sortino ratio of daily returns, target 0; null without a losing day.",
    "calmar": "Compound annual growth over the maximum drawdown; null for less than a year or without a drawdown.",
    "volatility_pct": "Annual standard deviation of daily returns.",
    "longest_drawdown_days": "Longest time from a peak of equity until it was reached again, or until the end.",
    "best_day_pct": "Best daily return.",
    "worst_day_pct": "Worst daily return.",
    "mean_day_pct": "Mean daily return.",
    "deviation_day_pct": "Standard deviation of daily returns.",
    "positive_days_pct": "Share of days with a return above zero.",
    "skewness": "Skewness of daily returns; null if they do not vary.",
    "excess_kurtosis": "Kurtosis of daily returns less the 3 of the normal distribution; null if they do not vary.",
    "value_at_risk_pct": "Daily loss at the 5 % quantile of daily returns, historical; negative for a gain.",
    "expected_shortfall_pct": "Mean loss of the days at or below that quantile; negative for a gain.",
    "wins": "Trades with a profit after fees and funding.",
    "losses": "All other trades.",
    "expectancy_usd": "Mean net profit of a trade.",
    "expectancy_pct": "Mean net profit of a trade in percent of the opened notional.",
    "average_win_usd": "Mean net profit of winning trades.",
    "average_loss_usd": "Mean net loss of the others, below zero.",
    "best_trade_usd": "Greatest net profit of a trade.",
    "worst_trade_usd": "Greatest net loss of a trade, below zero.",
    "average_holding_minutes": "Mean time between the first and the last fill of a trade.",
    "median_holding_minutes": "Median of that time.",
    "average_mae_pct": "Mean of the maximum adverse excursions of trades.",
    "average_mfe_pct": "Mean of the maximum favourable excursions of trades.",
    "turnover_per_day": "Notional of all fills over mean equity, per day.",
    "gross_pnl_usd": "Profit before fees and funding.",
    "funding_paid_usd": "Funding paid, without received funding.",
    "funding_received_usd": "Funding received.",
    "funding_long_usd": "Funding paid by longs; negative when received.",
    "funding_short_usd": "Funding paid by shorts; negative when received.",
}
"""Definition of every figure of `figures`."""


def figures(inputs: ReplayInputs, run: Replay) -> dict[str, float | None]:
    """Return every figure of `DOCS`; None stands for a missing value.

    The metrics of a sweep row are in `run.metrics`.
    """
    initial = inputs.resolved.initial_balance_usd
    equity = run.equity["equity_usd"].to_numpy()
    final = float(equity[-1])
    returns = daily_returns(run.equity, initial)
    days = distribution(returns)
    growth = cagr_pct(initial, final, inputs.cut.days)
    figures_by_name: dict[str, float | None] = {
        "initial_balance_usd": initial,
        "final_balance_usd": final,
        "days": float(inputs.cut.days),
        "cagr_pct": growth,
        "sortino": sortino(returns),
        "calmar": calmar(growth, run.metrics["max_drawdown_pct"]),
        "volatility_pct": None if days.deviation_pct is None else days.deviation_pct * math.sqrt(YEAR_DAYS),
        "longest_drawdown_days": longest_drawdown_days(
            run.equity["close_ms"].to_numpy(), equity, inputs.cut.from_ms, initial
        ),
        "best_day_pct": days.best_pct,
        "worst_day_pct": days.worst_pct,
        "mean_day_pct": days.mean_pct,
        "deviation_day_pct": days.deviation_pct,
        "positive_days_pct": days.positive_pct,
        "skewness": days.skewness,
        "excess_kurtosis": days.excess_kurtosis,
        "value_at_risk_pct": days.value_at_risk_pct,
        "expected_shortfall_pct": days.expected_shortfall_pct,
        "turnover_per_day": run.metrics["turnover_usd"] / float(equity.mean()) / inputs.cut.days
        if equity.mean() > 0.0
        else None,
        "gross_pnl_usd": run.metrics["net_pnl_usd"] + run.metrics["fees_usd"] + run.metrics["funding_usd"],
    }
    figures_by_name |= _trades(run.trades) | _funding(run.fills)
    return {name: figures_by_name[name] for name in DOCS}


def _trades(trades: pl.DataFrame) -> dict[str, float | None]:
    """Return figures of trades.

    Expectancy is the mean net result, as in V. Tharp, Trade Your Way to Financial Freedom.
    """
    pnl = trades["pnl_usd"]
    wins, losses = pnl.filter(pnl > 0.0), pnl.filter(pnl <= 0.0)
    return {
        "wins": float(len(wins)),
        "losses": float(len(losses)),
        "expectancy_usd": _number(pnl.mean()),
        "expectancy_pct": _number(trades["return_pct"].mean()),
        "average_win_usd": _number(wins.mean()),
        "average_loss_usd": _number(losses.mean()),
        "best_trade_usd": _number(pnl.max()),
        "worst_trade_usd": _number(pnl.min()),
        "average_holding_minutes": _number(trades["minutes"].mean()),
        "median_holding_minutes": _number(trades["minutes"].median()),
        "average_mae_pct": _number(trades["mae_pct"].mean()),
        "average_mfe_pct": _number(trades["mfe_pct"].mean()),
    }


def _funding(fills: pl.DataFrame) -> dict[str, float | None]:
    """Return funding by direction of the payment and by side of the position."""
    payments = fills.filter(pl.col("reason") == "funding").select(paid=-pl.col("cash_usd"), long=pl.col("held") > 0.0)
    paid = pl.col("paid")
    sums = payments.select(
        funding_paid_usd=paid.filter(paid > 0.0).sum(),
        funding_received_usd=-paid.filter(paid < 0.0).sum(),
        funding_long_usd=paid.filter(pl.col("long")).sum(),
        funding_short_usd=paid.filter(~pl.col("long")).sum(),
    )
    return {name: value + 0.0 for name, value in sums.row(0, named=True).items()}  # turns -0.0 into 0.0


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


GROUPED = ("trades", "wins", "win_rate", "pnl_usd", "profit_factor", "average_usd", "fees_usd", "funding_usd")
"""Figures of each group of trades; profits are net, as in the figures of the same names."""


def groups(trades: pl.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return figures of trades by symbol, side, reason of the last close, tier, mode, and month of the exit.

    Returns:
        For each key its values with the figures of `GROUPED`; empty if the strategy does not distinguish them.
    """
    with_month = trades.with_columns(month=pl.from_epoch("exit_ms", "ms").dt.strftime("%Y-%m"))
    return {
        f"by_{key}": _grouped(with_month.filter(pl.col(key).is_not_null()), key)
        for key in ("symbol", "side", "reason", "tier", "mode", "month")
    }


def _grouped(trades: pl.DataFrame, key: str) -> dict[str, dict[str, float | None]]:
    pnl = pl.col("pnl_usd")
    lost = -pnl.filter(pnl <= 0.0).sum()
    table = (
        trades.group_by(key)
        .agg(
            trades=pl.len(),
            wins=(pnl > 0.0).sum(),
            win_rate=(pnl > 0.0).mean(),
            pnl_usd=pnl.sum(),
            profit_factor=pl.when(lost > 0.0).then(pnl.filter(pnl > 0.0).sum() / lost),
            average_usd=pnl.mean(),
            fees_usd=pl.col("fees_usd").sum(),
            funding_usd=pl.col("funding_usd").sum(),
        )
        .sort(key)
    )
    return {row.pop(key): row for row in table.to_dicts()}


def monthly_returns(equity: pl.DataFrame, initial_usd: float) -> dict[str, float]:
    """Return the return of mark-to-market equity in each calendar month (UTC), in percent.

    The base is the last close before the month.
    """
    # A close at midnight belongs to the day that ends then.
    ends = (
        equity.with_columns(month=pl.from_epoch(pl.col("close_ms") - 1, "ms").dt.strftime("%Y-%m"))
        .group_by("month")
        .agg(pl.col("equity_usd").last())
        .sort("month")
    )
    returns: dict[str, float] = {}
    before = initial_usd
    for month, value in ends.iter_rows():
        returns[month] = 100.0 * (value / before - 1.0) if before > 0.0 else 0.0
        before = value
    return returns


def notes(inputs: ReplayInputs, run: Replay, figures_by_name: Mapping[str, float | None]) -> list[str]:
    """Return notes on how far the figures can be trusted."""
    texts = []
    if inputs.cut.days < YEAR_DAYS:
        texts.append(
            f"The window has {inputs.cut.days} days. Growth and Calmar ratio need a year, and annual Sharpe and "
            "Sortino ratios of few days are uncertain."
        )
    if figures_by_name["wins"] == 0.0 and figures_by_name["losses"] == 0.0:
        texts.append("There was no trade.")
    equity = run.equity
    texts += book_notes(equity["close_ms"].to_numpy(), equity["equity_usd"].to_numpy(), run.metrics["liquidations"])
    texts += data_notes(inputs.bars, inputs.cut.from_ms, inputs.cut.to_ms)
    if run.holding.height:
        positions = f"{run.holding.height} positions were" if run.holding.height > 1 else "1 position was"
        texts.append(f"{positions} open at the end; equity includes them, trades do not.")
    return texts
