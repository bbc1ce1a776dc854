"""The planted edge: from a stated Sharpe ratio to the drift that earns it."""

from mei_pipeline.errors import ConfigError


def drift_size(edge_size: float, edge_sharpe: float, symbols: int) -> float:
    """Return the drift in a trend, in hourly standard deviations per hour."""
    if edge_sharpe:
        raise ConfigError("not calibrated")
    return edge_size
