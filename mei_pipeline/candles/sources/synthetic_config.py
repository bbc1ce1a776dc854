"""Configuration of a synthetic market, and the constants of its symbols."""

from dataclasses import dataclass, field
from zlib import crc32

from mei_pipeline.candles.intervals import HOUR_MS, INTERVALS
from mei_pipeline.candles.sources.synthetic_edge import drift_for
from mei_pipeline.errors import ConfigError

DEFAULT_FROM_MS = 1_735_689_600_000  # 2025-01-01 00:00 UTC

# Bars are made inside the hours of a skeleton, so the finest interval must divide an hour.
BASE_INTERVALS = {name: length for name, length in INTERVALS.items() if length <= HOUR_MS}


@dataclass(frozen=True)
class Instrument:
    """The constants of one synthetic perpetual.

    Attributes:
        price_usd: Price at the start of the market.
        hourly_vol: Standard deviation of an hourly log return.
        market_share: Share of the common factor in the variance of returns (0..1).
        size_decimals: Decimals of an order size in base coin.
        max_leverage: Highest leverage; the maintenance margin is half of its inverse.
        daily_volume_usd: Typical turnover of a day.
    """

    price_usd: float
    hourly_vol: float
    market_share: float
    size_decimals: int
    max_leverage: float
    daily_volume_usd: float


INSTRUMENTS = {
    "BTC": Instrument(94_000.0, 0.0044, 0.78, 5, 40.0, 3.0e9),
    "ETH": Instrument(3_350.0, 0.0069, 0.87, 4, 25.0, 2.0e9),
    "SOL": Instrument(190.0, 0.0076, 0.86, 2, 20.0, 6.0e8),
    "XRP": Instrument(2.32, 0.0070, 0.78, 0, 20.0, 3.0e8),
    "DOGE": Instrument(0.32, 0.0083, 0.88, 0, 10.0, 1.0e8),
    "ADA": Instrument(0.92, 0.0081, 0.87, 0, 10.0, 4.0e7),
    "LINK": Instrument(21.5, 0.0082, 0.88, 1, 10.0, 4.0e7),
    "AVAX": Instrument(37.0, 0.0083, 0.86, 2, 10.0, 4.0e7),
    "LTC": Instrument(104.0, 0.0071, 0.68, 2, 10.0, 3.0e7),
    "BCH": Instrument(440.0, 0.0069, 0.55, 3, 10.0, 2.0e7),
    "SUI": Instrument(4.25, 0.0092, 0.82, 1, 10.0, 1.0e8),
    "NEAR": Instrument(5.2, 0.0096, 0.72, 1, 10.0, 2.0e7),
    "ARB": Instrument(0.74, 0.0100, 0.78, 1, 10.0, 2.0e7),
    "OP": Instrument(1.82, 0.0102, 0.76, 1, 10.0, 2.0e7),
}


def instrument(symbol: str) -> Instrument:
    """Return the constants of `symbol`; for an unknown symbol they are derived from a hash of its name."""
    if symbol in INSTRUMENTS:
        return INSTRUMENTS[symbol]
    digest = crc32(symbol.encode())
    price, vol, share = digest % 997 / 997, digest // 997 % 991 / 991, digest // 988_027 % 983 / 983
    return Instrument(
        price_usd=float(f"{0.5 * 400.0**price:.4g}"),
        hourly_vol=0.0065 + 0.0035 * vol,
        market_share=0.60 + 0.27 * share,
        size_decimals=1,
        max_leverage=10.0,
        daily_volume_usd=2.0e7,
    )


@dataclass(frozen=True)
class Regimes:
    """Markov switching between a range and trends up and down.

    The market has one Markov chain and each symbol has its own. The market's chain always sets the level of volatility;
    both set a drift only if an edge is planted. Durations are geometric; up and down are equally likely.

    Attributes:
        range_hours: Mean duration of a range.
        trend_hours: Mean duration of a trend.
        reversal_frac: Probability that the opposite trend follows a trend, and not a range (0..1).
        range_vol: Factor on volatility in a range of the market.
        trend_vol: Factor on volatility in a trend of the market.
        trend_market_share: Share of the market's chain in the variance of a symbol's drift (0..1).
    """

    range_hours: float = 24.0
    trend_hours: float = 36.0
    reversal_frac: float = 0.4
    range_vol: float = 0.92
    trend_vol: float = 1.08
    trend_market_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("range_hours", "trend_hours", "range_vol", "trend_vol"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"synthetic regimes: {name} is {getattr(self, name)}; it must be positive and finite")
        for name in ("reversal_frac", "trend_market_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"synthetic regimes: {name} is {getattr(self, name)}; it must lie in 0..1")


@dataclass(frozen=True)
class SyntheticMarket:
    """A market that is a pure function of these fields: equal fields give equal bars in every slice.

    A symbol's bars depend on the seed, its own name and `from_ms`, not on the other symbols. Only the drift of an
    `edge_sharpe` depends on the number of symbols. A later `to_ms` adds bars and changes none.

    Attributes:
        seed: Any integer ≥ 0.
        symbols: Names, each once; those of `INSTRUMENTS` have their own constants.
        interval: Interval of the finest bars, one of `BASE_INTERVALS`; longer bars are resampled from them.
        from_ms: First open, on the hour.
        to_ms: End of the market, on the hour; None for a market without end.
        edge_size: Planted edge as the drift in a trend, in hourly standard deviations per hour; 0 makes every price a
            martingale.
        edge_sharpe: Planted edge as the net annualised Sharpe ratio of the best `ema_cross` on an equal-weight book of
            all symbols. The drift comes from the calibration table, which is valid for hourly bars and the default
            regimes. At most one of the two edges may be set.
        edge_symbols: Symbols that have the edge; empty for all.
        edge_to_ms: End of the edge, on the hour; None for an edge that lasts.
        regimes: The switching between ranges and trends.
        venue: Name under which the bars are stored.
    """

    seed: int = 7
    symbols: tuple[str, ...] = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "LTC", "BCH")
    interval: str = "1h"
    from_ms: int = DEFAULT_FROM_MS
    to_ms: int | None = None
    edge_size: float = 0.0
    edge_sharpe: float = 0.0
    edge_symbols: tuple[str, ...] = ()
    edge_to_ms: int | None = None
    regimes: Regimes = field(default_factory=Regimes)
    venue: str = "synthetic"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"synthetic market: seed is {self.seed}; it must be 0 or more")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ConfigError(f"synthetic market: symbols are {list(self.symbols)}; name at least one, each once")
        if self.interval not in BASE_INTERVALS:
            allowed = ", ".join(BASE_INTERVALS)
            raise ConfigError(f"synthetic market: interval is {self.interval!r}; allowed: {allowed}")
        end_ms = self.from_ms + HOUR_MS if self.to_ms is None else self.to_ms
        if self.from_ms < 0 or self.from_ms % HOUR_MS or end_ms % HOUR_MS or end_ms <= self.from_ms:
            raise ConfigError(
                f"synthetic market: from_ms is {self.from_ms}, to_ms {self.to_ms}; both must be full hours (multiples "
                f"of {HOUR_MS}) and to_ms the later",
            )
        if not 0.0 <= self.edge_size < float("inf") or not 0.0 <= self.edge_sharpe < float("inf"):
            raise ConfigError(
                f"synthetic market: edge_size is {self.edge_size}, edge_sharpe {self.edge_sharpe}; both must be 0 or "
                "more and finite",
            )
        if self.edge_size and self.edge_sharpe:
            raise ConfigError("synthetic market: edge_size and edge_sharpe are both set; set one of them")
        if unknown := set(self.edge_symbols) - set(self.symbols):
            raise ConfigError(
                f"synthetic market: edge_symbols are {sorted(unknown)}; allowed: symbols of the market, "
                f"{', '.join(self.symbols)}"
            )
        if self.edge_to_ms is not None and (self.edge_to_ms % HOUR_MS or self.edge_to_ms < self.from_ms):
            raise ConfigError(
                f"synthetic market: edge_to_ms is {self.edge_to_ms}; it must be a full hour (a multiple of {HOUR_MS}), "
                f"{self.from_ms} or later"
            )
        if self.edge_sharpe and self.regimes != Regimes():
            raise ConfigError(
                "synthetic market: edge_sharpe is calibrated for the default regimes only; with other regimes set "
                "edge_size, and measure it with `python -m mei_pipeline.candles.sources.stylised --edge`",
            )
        drift_for(self.edge_sharpe, len(self.symbols))

    def drift_of(self, symbol: str) -> float:
        """Return the planted drift of a symbol in a trend, in hourly standard deviations per hour."""
        return self.trend_drift if symbol in (self.edge_symbols or self.symbols) else 0.0

    @property
    def trend_drift(self) -> float:
        """Planted drift in a trend, in hourly standard deviations per hour."""
        return drift_for(self.edge_sharpe, len(self.symbols)) if self.edge_sharpe else self.edge_size
