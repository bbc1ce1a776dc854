"""The planted edge: from a stated Sharpe ratio to the drift that earns it."""

from dataclasses import dataclass

import numpy as np

from mei_pipeline.errors import ConfigError

FEE_BPS, SLIPPAGE_BPS = 4.5, 3.0
"""Fee and slippage of a fill in the search of `mei experiment`, in basis points of its notional."""
COST_BPS = FEE_BPS + SLIPPAGE_BPS
"""Cost of a fill in basis points; a stated edge is net of this cost."""

# Sharpe ratio of the best `ema_cross` on 120 years of each process, by drift and by number of symbols: annualised, of
# daily profit, net of `COST_BPS` a fill, no funding, equal weights over the first symbols of `INSTRUMENTS`. One
# standard error is 0.1. Made by `python -m mei_pipeline.candles.sources.stylised --edge`.
SYMBOLS = (1, 2, 5, 10, 14)
SHARPE_BY_DRIFT: dict[float, tuple[float, ...]] = {
    0.0: (-0.22, -0.19, -0.21, -0.19, -0.17),
    0.03: (-0.15, -0.05, -0.06, -0.05, -0.01),
    0.06: (0.15, 0.26, 0.29, 0.35, 0.42),
    0.09: (0.59, 0.76, 0.99, 1.13, 1.22),
    0.12: (1.27, 1.56, 1.96, 2.19, 2.33),
    0.16: (2.35, 2.90, 3.56, 3.96, 4.18),
    0.2: (3.47, 4.38, 5.38, 6.00, 6.28),
    0.25: (4.95, 6.28, 7.78, 8.70, 9.06),
    0.3: (6.35, 8.14, 10.08, 11.28, 11.68),
    0.4: (8.79, 11.08, 13.54, 15.21, 15.56),
    0.5: (10.38, 12.92, 15.35, 17.34, 17.36),
}


@dataclass(frozen=True)
class SharpeTable:
    """Sharpe ratios of the best parameters of a strategy, by drift and number of symbols.

    Attributes:
        symbols: Numbers of symbols, ascending.
        sharpe: For each drift, ascending from 0, the net annual Sharpe ratio with each number of symbols.
    """

    symbols: tuple[int, ...]
    sharpe: dict[float, tuple[float, ...]]


# Sharpe ratio of the best combo of the shipped search `nightly` on 60 years of each process, traded by `mei_alpha`: at
# closes, with `COST_BPS` a fill, its own sizing, no funding. One standard error is 0.13. Made by
# `mei experiment calibrate --sweep nightly`.
_MEI_ALPHA = SharpeTable(
    (1, 10),
    {
        0.0: (-0.20, -0.42),
        0.1: (0.30, 0.75),
        0.14: (0.84, 1.94),
        0.16: (1.14, 2.59),
        0.18: (1.58, 3.33),
        0.3: (3.94, 7.59),
    },
)

TABLES: dict[str, SharpeTable] = {"ema_cross": SharpeTable(SYMBOLS, SHARPE_BY_DRIFT), "mei_alpha": _MEI_ALPHA}
"""Table of each calibrated strategy."""


def drift_for(edge_sharpe: float, symbols: int, strategy: str = "ema_cross") -> float:
    """Return the drift in a trend that earns `edge_sharpe` with a number of symbols.

    The table is interpolated linearly in the ratio and in the logarithm of the number of symbols. Above its last number
    of symbols the ratio is taken as constant.

    Args:
        edge_sharpe: Net annual Sharpe ratio.
        symbols: Number of symbols.
        strategy: The strategy that earns the ratio.

    Returns:
        Drift in hourly standard deviations per hour.

    Raises:
        ConfigError: The strategy has no table, or the ratio is not a number or above the table's greatest.
    """
    if edge_sharpe == 0.0:
        return 0.0
    if strategy not in TABLES:
        raise ConfigError(
            f"synthetic market: no planted edge is calibrated for {strategy}; allowed: {', '.join(TABLES)}; measure "
            "another with `mei experiment calibrate`"
        )
    table = TABLES[strategy]
    log_counts = np.log(table.symbols)
    ratios = [float(np.interp(np.log(symbols), log_counts, row)) for row in table.sharpe.values()]
    if not edge_sharpe <= ratios[-1]:  # NaN too
        raise ConfigError(
            f"synthetic market: edge_sharpe is {edge_sharpe:g}; allowed: at most {ratios[-1]:.1f}, which the best "
            f"{strategy} earns with {symbols} symbols at the greatest drift of its table, {max(table.sharpe):g}"
        )
    return float(np.interp(edge_sharpe, ratios, list(table.sharpe)))
