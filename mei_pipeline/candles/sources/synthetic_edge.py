"""The planted edge: from a stated Sharpe ratio to the drift that earns it."""

import numpy as np

from mei_pipeline.errors import ConfigError

# What the best `ema_cross` earned on 120 years of each process: annualised Sharpe ratio of daily profit, 4.5 bps a
# fill, no slippage, no funding, equal weights over the first so many symbols of `INSTRUMENTS`. One standard error is
# 0.1. Made by `python -m mei_pipeline.candles.sources.stylised --edge`.
SYMBOLS = (1, 2, 5, 10, 14)
SHARPE_BY_DRIFT: dict[float, tuple[float, ...]] = {
    0.0: (-0.09, -0.08, -0.09, -0.09, -0.07),
    0.03: (-0.03, 0.06, 0.04, 0.07, 0.10),
    0.06: (0.32, 0.37, 0.47, 0.55, 0.59),
    0.09: (0.84, 0.95, 1.23, 1.37, 1.45),
    0.12: (1.51, 1.82, 2.23, 2.47, 2.59),
    0.16: (2.63, 3.22, 3.89, 4.28, 4.49),
    0.2: (3.85, 4.71, 5.74, 6.36, 6.64),
    0.25: (5.38, 6.69, 8.18, 9.11, 9.45),
    0.3: (6.74, 8.51, 10.45, 11.65, 12.02),
}


def drift_for(edge_sharpe: float, symbols: int) -> float:
    """Return the drift in a trend, in hourly standard deviations per hour, that earns `edge_sharpe` on so many symbols.

    The table is interpolated, linearly in the ratio and in the logarithm of the number of symbols; above its last
    number of symbols the ratio is taken as constant.

    Raises:
        ConfigError: The ratio is higher than any in the table.
    """
    if edge_sharpe == 0.0:
        return 0.0
    places = np.log(SYMBOLS)
    earned = [float(np.interp(np.log(symbols), places, row)) for row in SHARPE_BY_DRIFT.values()]
    if edge_sharpe > earned[-1]:
        raise ConfigError(
            f"synthetic market: edge_sharpe is {edge_sharpe:g}; at most {earned[-1]:.1f} with {symbols} symbols"
        )
    return float(np.interp(edge_sharpe, earned, list(SHARPE_BY_DRIFT)))
