"""Statistics of an equity curve: daily returns, ratios, drawdowns, and the distribution of daily returns."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE, YEAR_DAYS, sharpe

ROLLING_DAYS = 90
"""Days of a window of the rolling Sharpe ratio in a backtest that is long enough; see `rolling_window`."""
TAIL = 0.05
"""Share of the worst days that value at risk and expected shortfall describe."""
WORST = 5
"""Number of drawdowns in a report."""


@dataclass(frozen=True)
class Drawdown:
    """A decline of equity from a peak until equity reaches that peak again; times are UTC milliseconds.

    Attributes:
        peak_ms: Last time at which equity was at the peak.
        trough_ms: Time of the lowest equity, the first one of several.
        recovery_ms: Time at which equity reached the peak again; None if it did not.
        depth_pct: Decline in percent of the peak; above 100 if equity is below zero.
        days: Days from the peak to the recovery, or to the end of the curve.
    """

    peak_ms: int
    trough_ms: int
    recovery_ms: int | None
    depth_pct: float
    days: float


@dataclass(frozen=True)
class Distribution:
    """Distribution of finite daily returns; None stands for a figure without a value.

    Attributes:
        days: Number of returns.
        mean_pct: Mean.
        deviation_pct: Sample standard deviation; None for less than two returns.
        skewness: Third standardised moment; None for less than two returns or for returns that do not vary.
        excess_kurtosis: Fourth standardised moment less 3, which is that of the normal distribution; None as above.
        best_pct: Greatest return.
        worst_pct: Least return.
        positive_pct: Share of returns above zero.
        value_at_risk_pct: Loss at the 5 % quantile of the returns, above zero for a loss; see `distribution`.
        expected_shortfall_pct: Mean loss of the returns at or below that quantile, above zero for a loss.
    """

    days: int
    mean_pct: float | None = None
    deviation_pct: float | None = None
    skewness: float | None = None
    excess_kurtosis: float | None = None
    best_pct: float | None = None
    worst_pct: float | None = None
    positive_pct: float | None = None
    value_at_risk_pct: float | None = None
    expected_shortfall_pct: float | None = None


def daily_returns(equity: pl.DataFrame, initial_usd: float) -> Floats:
    """Return the returns between the last closes of successive UTC days; 0 for a day that starts without equity.

    The kernels sum the same returns for the Sharpe ratio.
    """
    ends = equity.filter(pl.col("close_ms") % DAY_MS == 0)["equity_usd"].to_numpy()
    before = np.concatenate(([initial_usd], ends))[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0.0, ends / before - 1.0, 0.0)


def cagr_pct(initial_usd: float, final_usd: float, days: int) -> float | None:
    """Return the compound annual growth rate in percent: ((final / initial) ^ (365 / days) - 1) · 100.

    The rate is None for less than a year and for an account without equity. The Global Investment Performance Standards
    (CFA Institute, 2020) forbid to annualise less than a year.
    """
    if days < YEAR_DAYS or final_usd <= 0.0:
        return None
    return 100.0 * (math.pow(final_usd / initial_usd, YEAR_DAYS / days) - 1.0)


def sortino(returns: Floats) -> float | None:
    """Return the annual Sortino ratio of daily returns: mean / √(mean of min(r, 0)²) · √365.

    The target is 0, and every day counts in the mean under the root. The ratio is None without a losing day.

    Source: Sortino and Price, Performance Measurement in a Downside Risk Framework, Journal of Investing 3 (1994).
    """
    if not len(returns):
        return None
    below = float((np.minimum(returns, 0.0) ** 2).mean())
    return float(returns.mean()) / math.sqrt(below) * math.sqrt(YEAR_DAYS) if below > NO_VARIANCE else None


def calmar(growth_pct: float | None, drawdown_pct: float) -> float | None:
    """Return the Calmar ratio: compound annual growth over the maximum drawdown, both in percent.

    It covers the complete window instead of three years. Source: Young, Calmar Ratio: A Smoother Tool, Futures 20
    (1991).
    """
    return growth_pct / drawdown_pct if growth_pct is not None and drawdown_pct > 0.0 else None


def annual_sharpe(returns: Floats) -> float:
    """Return the annual Sharpe ratio of daily returns as in a sweep row; 0 without variation or with fewer than two."""
    sums = (np.array([value]) for value in (float(len(returns)), returns.sum(), (returns**2).sum()))
    return float(sharpe(*sums)[0])


def rolling_window(days: int) -> int:
    """Return the days of a window of the rolling Sharpe ratio: 90, or half of the backtest if that is less."""
    return min(ROLLING_DAYS, days // 2)


def rolling_sharpe(returns: Floats, window: int) -> Floats:
    """Return the annual Sharpe ratio of each `window` successive daily returns, as in a sweep row.

    Args:
        returns: [D] daily returns.
        window: Days of a window, W.

    Returns:
        [D - W + 1] ratios, the first of the first W days; 0 for a window that does not vary, NaN for one with a return
        that is not finite. Empty for less than W days or a window of less than two.
    """
    if window < FEWEST_DAYS or len(returns) < window:
        return np.empty(0)
    parts = np.lib.stride_tricks.sliding_window_view(returns, window)
    total = parts.sum(axis=1)
    ratio = sharpe(np.full(len(parts), float(window)), total, np.einsum("ij,ij->i", parts, parts))
    return np.where(np.isfinite(total), ratio, np.nan)


def max_drawdown_pct(equity: Floats, initial_usd: float) -> float:
    """Return the maximum drawdown of equity in percent of the peak; 0 without one.

    Args:
        equity: [T] equity in USD.
        initial_usd: Equity before the first point, above zero.
    """
    curve = np.concatenate(([initial_usd], equity))
    return 100.0 * float((1.0 - curve / np.maximum.accumulate(curve)).max())


def worst_drawdowns(
    close_ms: Ints, equity: Floats, from_ms: int, initial_usd: float, count: int = WORST
) -> tuple[Drawdown, ...]:
    """Return the `count` deepest drawdowns, the deepest first; of equally deep ones the earlier comes first.

    Args:
        close_ms: [T] time of each point.
        equity: [T] equity in USD; points that are not finite are ignored.
        from_ms: Start of the window, where equity is `initial_usd`.
        initial_usd: Equity at the start, above zero.
        count: Most drawdowns to return.
    """
    times, values = _curve(close_ms, equity, from_ms, initial_usd)
    peaks, ends = _declines(values)
    if not len(peaks):
        return ()
    # A minimum from one decline to the next also covers the days above the peak, which are never the lowest.
    depths = 1.0 - np.minimum.reduceat(values, peaks) / values[peaks]
    drawdowns = []
    for index in np.argsort(-depths, kind="stable")[:count].tolist():
        peak, end = int(peaks[index]), int(ends[index])
        recovered = end < len(values)
        last_ms = int(times[end] if recovered else times[-1])
        drawdowns.append(
            Drawdown(
                peak_ms=int(times[peak]),
                trough_ms=int(times[peak + int(values[peak:end].argmin())]),
                recovery_ms=last_ms if recovered else None,
                depth_pct=100.0 * float(depths[index]),
                days=(last_ms - int(times[peak])) / DAY_MS,
            )
        )
    return tuple(drawdowns)


def longest_drawdown_days(close_ms: Ints, equity: Floats, from_ms: int, initial_usd: float) -> float:
    """Return the length in days of the longest drawdown; 0 without one. See `worst_drawdowns` for arguments."""
    times, values = _curve(close_ms, equity, from_ms, initial_usd)
    peaks, ends = _declines(values)
    return float((np.append(times, times[-1])[ends] - times[peaks]).max(initial=0) / DAY_MS)


def distribution(returns: Floats) -> Distribution:
    """Return the distribution of daily returns.

    Skewness and kurtosis are moments of the sample without correction for its size. Value at risk is historical: the
    quantile is interpolated linearly between the two nearest returns, and no distribution is assumed. Expected
    shortfall is the mean of the returns at or below that quantile.

    Source: Acerbi and Tasche, On the Coherence of Expected Shortfall, Journal of Banking & Finance 26 (2002).

    Args:
        returns: [D] daily returns as fractions.
    """
    finite = returns[np.isfinite(returns)]
    if not len(finite):
        return Distribution(0)
    centred = finite - finite.mean()
    second = float((centred**2).mean())
    varies = len(finite) >= FEWEST_DAYS and second > NO_VARIANCE
    quantile = float(np.quantile(finite, TAIL))
    # Rounding errors of the interpolation may give a quantile just below the least return.
    tail = finite[finite <= max(quantile, float(finite.min()))]
    return Distribution(
        days=len(finite),
        mean_pct=100.0 * float(finite.mean()),
        deviation_pct=100.0 * float(finite.std(ddof=1)) if len(finite) >= FEWEST_DAYS else None,
        skewness=float((centred**3).mean()) / second**1.5 if varies else None,
        excess_kurtosis=float((centred**4).mean()) / second**2 - 3.0 if varies else None,
        best_pct=100.0 * float(finite.max()),
        worst_pct=100.0 * float(finite.min()),
        positive_pct=100.0 * float((finite > 0.0).mean()),
        value_at_risk_pct=-100.0 * quantile,
        expected_shortfall_pct=-100.0 * float(tail.mean()),
    )


def _curve(close_ms: Ints, equity: Floats, from_ms: int, initial_usd: float) -> tuple[Ints, Floats]:
    """Return times and values of the finite points of a curve, including its start."""
    finite = np.isfinite(equity)
    return np.concatenate(([from_ms], close_ms[finite])), np.concatenate(([initial_usd], equity[finite]))


def _declines(values: Floats) -> tuple[Ints, Ints]:
    """Return the index of the peak and of the recovery of each decline; one past the last value without a recovery."""
    at_peak = np.flatnonzero(values >= np.maximum.accumulate(values))
    following = np.append(at_peak[1:], len(values))
    below = following - at_peak > 1
    return at_peak[below], following[below]
