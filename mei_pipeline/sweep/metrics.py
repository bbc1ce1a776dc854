"""Metrics of a combo, computed from the outcome of the kernels."""

import numpy as np

from kernels.blocks import BLOCKS
from kernels.market import Floats
from mei_pipeline.simulation.run import ComboOutcomes

YEAR_DAYS = 365.0
FEWEST_DAYS = 2.0  # a standard deviation needs two values
NO_VARIANCE = 1e-16  # rounding errors leave a variance of about 1e-17 in constant returns

DOCS = {
    "net_pnl_usd": "Final equity less the initial balance; open positions are valued at the last price.",
    "return_pct": "Net profit in percent of the initial balance.",
    "sharpe": "Annual Sharpe ratio of daily mark-to-market returns without a risk-free rate; 0 if they do not vary.",
    "max_drawdown_usd": "Maximum drawdown of mark-to-market equity.",
    "max_drawdown_pct": "Maximum drawdown of mark-to-market equity in percent of the peak.",
    "trades": "Closed trades.",
    "win_rate": "Share of trades with a profit after fees and funding.",
    "profit_factor": "Profits of winning trades over losses of the others, both net; null without a loss.",
    "fees_usd": "Fees paid.",
    "funding_usd": "Funding paid; negative when received.",
    "turnover_usd": "Notional of all fills.",
    "fills": "Number of fills.",
    "exposure_frac": "Share of steps at whose close a position was open.",
    "open_positions": "Positions open at the end.",
    "liquidations": "Liquidations of the account.",
    "refused": "Entries refused for lack of margin, places or size.",
}
"""Definition of every metric."""

UNITS = {
    **{name: "USD" for name in DOCS if name.endswith("_usd")},
    "return_pct": "% of the initial balance",
    "max_drawdown_pct": "% of the peak",
    "sharpe": "annual",
    "win_rate": "share of trades",
    "exposure_frac": "share of steps",
}
"""Unit of each metric that has one."""

LEAST_IS_BEST = frozenset(
    ("max_drawdown_usd", "max_drawdown_pct", "fees_usd", "funding_usd", "turnover_usd", "liquidations", "refused")
)
"""Metrics of risk and cost: less is better. Of all other metrics more is better."""


def sharpe(n: Floats, total: Floats, squares: Floats) -> Floats:
    """Return the annual Sharpe ratio of daily returns: mean / sample standard deviation · √365.

    The arguments are the number, the sum and the sum of squares of the returns. The ratio is 0 without variation or
    with fewer than two days.

    Source: Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        variance = (squares - n * mean * mean) / (n - 1.0)
        ratio = mean / np.sqrt(variance) * np.sqrt(YEAR_DAYS)
    return np.where((n >= FEWEST_DAYS) & (variance > NO_VARIANCE), ratio, 0.0)


def metrics(outcome: ComboOutcomes, initial_usd: float, bars: int) -> dict[str, Floats]:
    """Return all metrics of K combos.

    Args:
        outcome: Outcome of the kernels.
        initial_usd: Initial equity.
        bars: Steps of the window.

    Returns:
        Each metric of `DOCS`, [K]; NaN stands for a metric without a value.
    """
    raw = outcome.results
    n, total, squares = outcome.days.sum(axis=0)
    pnl = raw["equity_usd"] - initial_usd
    with np.errstate(divide="ignore", invalid="ignore"):
        profit_factor = np.where(raw["gross_loss_usd"] > 0.0, raw["gross_profit_usd"] / raw["gross_loss_usd"], np.nan)
        win_rate = np.where(raw["trades"] > 0.0, raw["wins"] / raw["trades"], np.nan)
    return {
        "net_pnl_usd": pnl,
        "return_pct": 100.0 * pnl / initial_usd,
        "sharpe": sharpe(n, total, squares),
        "max_drawdown_usd": raw["max_drawdown_usd"],
        "max_drawdown_pct": 100.0 * raw["max_drawdown_frac"],
        "trades": raw["trades"],
        "win_rate": win_rate,
        "profit_factor": profit_factor,
        "fees_usd": raw["fees_usd"],
        "funding_usd": raw["funding_usd"],
        "turnover_usd": raw["turnover_usd"],
        "fills": raw["fills"],
        "exposure_frac": raw["bars_held"] / bars,
        "open_positions": raw["open_positions"],
        "liquidations": raw["liquidations"],
        "refused": raw["refused"],
    }


def blocks(outcome: ComboOutcomes) -> dict[str, Floats]:
    """Return the daily returns of each time block: `day_count`, `day_sum`, `day_sum_sq`, each [K, BLOCKS]."""
    n, total, squares = (np.ascontiguousarray(outcome.days[:, i, :].T) for i in range(3))
    if n.shape[1] != BLOCKS:
        raise ValueError(f"{n.shape[1]} time blocks, expected {BLOCKS}")
    return {"day_count": n, "day_sum": total, "day_sum_sq": squares}
