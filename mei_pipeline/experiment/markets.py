"""Markets of an experiment: synthetic ones, and real hours in another order."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.candles.instruments import in_force
from mei_pipeline.candles.intervals import DAY_MS, Intervals
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS, INSTRUMENTS, SyntheticMarket
from mei_pipeline.candles.sources.synthetic_edge import drift_for
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.table import read_catalog
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.extents import common_symbols, stored_extent_ms
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.memory import bars_of, synthetic_bars

INTERVAL = "1h"
"""Bars of every market: the planted edge is calibrated for them, and whole days of them are shuffled."""
SEARCHED = 10
"""Number of symbols of a search; a lake may have fewer."""
BLOCK_HOURS = 24
"""Length of the blocks of real hours: UTC days, so that each hour keeps its time of day."""

MOST_RATIO = 1.9
"""Ratio of an hour's high to the close before it at which its day is left out."""

_LEAST_BLOCKS = 60
_LEAST_PRESENT = 0.9  # least share of the lake's days of a symbol: a day that one symbol lacks is lost for all symbols


@dataclass(frozen=True)
class SyntheticMarkets:
    """Synthetic markets: random walks with clusters of volatility and fat tails, with or without a planted edge.

    Attributes:
        searched: Symbols of the search, sorted.
        holdout_symbols: Symbols that the search does not see, sorted.
        edge_size: The planted drift; see `SyntheticMarket`.
        alive_frac: Share of the market's days, from the first on, that have the edge.
        one_symbol: True if only one symbol of the search has the edge; the seed decides which.
    """

    searched: tuple[str, ...]
    holdout_symbols: tuple[str, ...]
    edge_size: float
    alive_frac: float = 1.0
    one_symbol: bool = False

    def bars(self, seed: int, symbols: tuple[str, ...], days: int) -> Bars:
        """Return the bars of some symbols of the market `seed`; those of a symbol do not depend on other symbols."""
        only = self.searched[seed % len(self.searched)]
        market = SyntheticMarket(
            seed=seed,
            symbols=symbols,
            interval=INTERVAL,
            to_ms=DEFAULT_FROM_MS + days * DAY_MS,
            edge_size=self.edge_size if not self.one_symbol or only in symbols else 0.0,
            edge_symbols=(only,) if self.one_symbol and only in symbols else (),
            edge_to_ms=DEFAULT_FROM_MS + int(self.alive_frac * days) * DAY_MS if self.alive_frac < 1.0 else None,
        )
        return synthetic_bars(market, Intervals(INTERVAL))


def synthetic_markets(
    edge_sharpe: float,
    holdout_symbols: int,
    *,
    strategy: str = "ema_cross",
    alive_frac: float = 1.0,
    one_symbol: bool = False,
) -> SyntheticMarkets:
    """Return markets in which the best parameters earn `edge_sharpe` on the symbols that have the edge.

    Args:
        edge_sharpe: Net annual Sharpe ratio in the long run, while the edge lasts; 0 plants no edge.
        holdout_symbols: Number of symbols to hold out; they have the same drift, unless one symbol alone has it.
        strategy: Strategy whose calibration table gives the drift.
        alive_frac: Share of the market's days, from the first on, after which the edge ends.
        one_symbol: Plant the edge in one symbol of the search; `edge_sharpe` is then that of this symbol alone.

    Raises:
        ConfigError: The strategy has no table, the ratio is higher than any in it, or the share is not above 0 and at
            most 1.
    """
    if not 0.0 < alive_frac <= 1.0:
        raise ConfigError(f"experiment: alive_frac is {alive_frac:g}; allowed: above 0 and at most 1")
    names = [*INSTRUMENTS, *(f"EXTRA{number}" for number in range(holdout_symbols))]
    searched, held_out = names[:SEARCHED], names[SEARCHED : SEARCHED + holdout_symbols]
    drift = drift_for(edge_sharpe, 1 if one_symbol else SEARCHED, strategy)
    return SyntheticMarkets(tuple(sorted(searched)), tuple(sorted(held_out)), drift, alive_frac, one_symbol)


@dataclass(frozen=True)
class ShuffledMarkets:
    """Markets of real hours in random order and with random sign: days are drawn with replacement, for all symbols.

    Days are not permuted: a permutation would bring every price back to its start, at the cost of trend followers.
    Prices are multiplied by each hour's ratios to the close before it. Half of the hours are mirrored at random, for
    all symbols together: a rise becomes a fall of the same share. So every price is a martingale. Without the mirror,
    train and test days would be the same few hundred days, and any pattern inside them would be an edge in all markets.
    The mean funding rate of each symbol is subtracted.

    Volatility, its clusters and season inside a day, fat tails and common crashes are kept. The direction of hours and
    all relations between days are lost.

    Attributes:
        searched: Symbols of the search, sorted.
        holdout_symbols: Symbols that the search does not see, sorted.
        venue: Venue of the candles.
        ratios: [4, days, 24, S] open, high, low and close over the close before, for `instruments`' symbols; below 2.
        volume: [days, 24, S] in base coin.
        funding: [days, 24, S] rates due in each hour, less their mean.
        start: [S] price before the first hour.
        instruments: One row per symbol.
    """

    searched: tuple[str, ...]
    holdout_symbols: tuple[str, ...]
    venue: str
    ratios: Floats
    volume: Floats
    funding: Floats
    start: Floats
    instruments: pl.DataFrame

    def bars(self, seed: int, symbols: tuple[str, ...], days: int) -> Bars:
        """Return the bars of some symbols of the market `seed`; the same days are drawn for all symbols."""
        generator = np.random.default_rng(seed)
        drawn = generator.integers(self.ratios.shape[1], size=days)
        mirrored = generator.integers(2, size=(days * BLOCK_HOURS, 1)) == 1
        names = self.instruments["symbol"].to_list()
        columns = [names.index(symbol) for symbol in symbols]
        straight = self.ratios[..., columns][:, drawn].reshape(4, -1, len(columns))
        open_, high, low, close = np.where(mirrored, 2.0 - straight[[0, 2, 1, 3]], straight)
        level = self.start[columns] * np.cumprod(close, axis=0)
        before = np.concatenate((self.start[columns][None], level[:-1]))
        prices = {
            "open": before * open_,
            "high": before * high,
            "low": before * low,
            "close": level,
            "volume": self.volume[..., columns][drawn].reshape(level.shape),
        }
        funding = self.funding[..., columns][drawn].reshape(level.shape)
        return bars_of(self.venue, Intervals(INTERVAL), DEFAULT_FROM_MS, prices, funding, self.instruments[columns])


def shuffled_markets(lake: Lake, venue: str, holdout_symbols: int, spec: SweepSpec | None = None) -> ShuffledMarkets:
    """Return the markets that the hours of a lake give.

    Symbols have nine tenths of the lake's days without a gap; of more symbols the first by the hash of their name are
    taken. A benchmark symbol of the search is always taken. Days have no gap in any of these symbols, and no hour in
    which one of them nearly doubled.

    Args:
        lake: The lake.
        venue: Venue of the candles.
        holdout_symbols: Number of symbols to hold out.
        spec: The search, for its benchmark.

    Raises:
        ConfigError: The search reads a benchmark symbol and the lake has none.
        DataError: There are no hourly bars, or too few symbols or days without gaps.
    """
    names, _ = common_symbols(lake, venue, Intervals(INTERVAL))
    first_ms, end_ms = stored_extent_ms(lake, venue, INTERVAL)
    # One day is needed before the first, for the close before it.
    anchor_ms = -(-first_ms // DAY_MS) * DAY_MS
    days = (end_ms - anchor_ms) // DAY_MS - 1
    text = f"lake {lake.root}: {INTERVAL} bars of {venue}"
    if days < _LEAST_BLOCKS:
        raise DataError(f"{text}: {max(days, 0)} complete days; a market needs at least {_LEAST_BLOCKS} to draw from")
    read = load_bars(lake, venue, INTERVAL, names, anchor_ms, anchor_ms + (days + 1) * DAY_MS)
    close = read.prices[3]
    complete_hours = ~np.isnan(close[BLOCK_HOURS:]) & ~np.isnan(close[BLOCK_HOURS - 1 : -1])
    complete = complete_hours.reshape(days, BLOCK_HOURS, -1).all(axis=1)
    fit = [name for name, share in zip(read.symbols, complete.mean(axis=0), strict=True) if share >= _LEAST_PRESENT]
    benchmark = sweep_benchmark(spec, fit, read_catalog()) if spec else ""
    searched, held_out = _split_symbols(fit, holdout_symbols, benchmark)
    if not searched:
        raise DataError(
            f"{text}: {len(fit)} symbols without gaps on nine tenths of {days} days; at least {holdout_symbols + 1} "
            f"are needed, {holdout_symbols} of them held out (`holdout_symbols` of policy.yaml)"
        )
    columns = [read.symbols.index(name) for name in sorted((*searched, *held_out))]
    # A price that doubles within an hour has no mirror: it would fall to zero.
    ratios = read.prices[:, BLOCK_HOURS:] / close[BLOCK_HOURS - 1 : -1]
    has_mirror = (ratios[1] < MOST_RATIO).reshape(days, BLOCK_HOURS, -1).all(axis=1)
    kept = np.flatnonzero((complete & has_mirror)[:, columns].all(axis=1))
    if len(kept) < _LEAST_BLOCKS:
        raise DataError(f"{text}: {len(kept)} days without a gap in any symbol; at least {_LEAST_BLOCKS} are needed")

    def days_of(values: Floats) -> Floats:
        """Return hours [..., T, S] from the second day on as the kept days [..., days, 24, S] of the chosen symbols."""
        cut = values[..., columns].reshape(*values.shape[:-2], -1, BLOCK_HOURS, len(columns))
        return np.ascontiguousarray(cut[..., kept, :, :])

    funding = days_of(read.steps.funding[BLOCK_HOURS:])
    return ShuffledMarkets(
        searched=tuple(sorted(searched)),
        holdout_symbols=tuple(sorted(held_out)),
        venue=venue,
        ratios=days_of(ratios),
        volume=days_of(read.volume[BLOCK_HOURS:]),
        funding=funding - funding.mean(axis=(0, 1)),
        start=days_of(close[BLOCK_HOURS - 1 : -1])[0, 0],
        # The drawn days are in another order, so the day of a real delisting has no meaning.
        instruments=in_force(read.instruments, read.end_ms)[columns].with_columns(delisted_ms=pl.lit(None, pl.Int64)),
    )


def _split_symbols(names: list[str], holdout_symbols: int, benchmark: str) -> tuple[list[str], list[str]]:
    """Return symbols to search and to hold out, by the hash of their name; the benchmark comes first."""
    by_hash = sorted(names, key=lambda name: (name != benchmark, sha256(name.encode()).hexdigest()))
    chosen = by_hash[: SEARCHED + holdout_symbols]
    return chosen[: len(chosen) - holdout_symbols], chosen[len(chosen) - holdout_symbols :]
