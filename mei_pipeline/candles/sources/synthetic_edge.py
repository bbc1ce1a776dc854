"""The planted edge: from a stated Sharpe ratio to the drift that earns it."""

import numpy as np

from mei_pipeline.errors import ConfigError

# What the best `ema_cross` earned on 120 years of each process: annualised Sharpe ratio of daily profit, 4.5 bps a fill, no
# slippage, no funding, equal weights over the first so many symbols of `INSTRUMENTS`. One standard error is 0.1. Made by
# `python -m mei_pipeline.candles.sources.stylised --edge`.
SYMBOLS = (1, 2, 5, 10, 14)
SHARPE_BY_DRIFT: dict[float, tuple[float, ...]] = {
    0.0: (0.0, 0.0, 0.0, 0.0, 0.0),
    0.3: (7.0, 8.4, 10.4, 11.6, 11.9),
}


def drift_for(edge_sharpe: float, symbols: int) -> float:
    """Return the drift in a trend, in hourly standard deviations per hour, that earns `edge_sharpe` on so many symbols.

    The table is interpolated, linearly in the ratio and in the logarithm of the number of symbols; above its last number
    of symbols the ratio is taken as constant.

    Raises:
        ConfigError: The ratio is higher than any in the table.
    """
    if edge_sharpe == 0.0:
        return 0.0
    places = np.log(SYMBOLS)
    earned = [float(np.interp(np.log(symbols), places, row)) for row in SHARPE_BY_DRIFT.values()]
    if edge_sharpe > earned[-1]:
        raise ConfigError(
            f"synthetic market: edge_sharpe is {edge_sharpe:g}; with {symbols} symbols it can be at most {earned[-1]:.1f}"
        )
    return float(np.interp(edge_sharpe, earned, list(SHARPE_BY_DRIFT)))
