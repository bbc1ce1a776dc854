"""From the lake to arrays: the bars of some symbols on one time grid, as the kernels read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.ledger import BLOCKS
from kernels.market import Floats, Ints, Market
from mei_pipeline.candles import funding
from mei_pipeline.candles.instruments import in_force
from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.candles.lake import Lake, data_hash, read_candles, read_funding, read_instruments
from mei_pipeline.errors import ConfigError, DataError

DAY_MS = 86_400_000
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Bars:
    """Bars of S symbols from an anchor on, with what the kernels must know of the symbols.

    Attributes:
        venue: Venue of all bars.
        interval: Length of the bars.
        symbols: Names, in the order of the arrays' last axis.
        anchor_ms: Open time of the first bar of the grid.
        data_hash: Content hash of the bars, independent of how the lake stores them.
        open_ms: [T] open time of each bar.
        prices: [4, T, S] open, high, low, close; NaN where there is no bar.
        age: [T, S] bars the symbol had before; -1 where there is no bar.
        funding: [T, S] funding rates due in (open, close] of each bar, summed.
        instruments: One row per symbol, in the order of `symbols`.
    """

    venue: str
    interval: str
    symbols: tuple[str, ...]
    anchor_ms: int
    data_hash: str
    open_ms: Ints
    prices: Floats
    age: Ints
    funding: Floats
    instruments: pl.DataFrame

    @property
    def interval_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return interval_ms(self.interval)

    @property
    def end_ms(self) -> int:
        """End of the last bar of the grid."""
        return self.anchor_ms + len(self.open_ms) * self.interval_ms


@dataclass(frozen=True)
class Window:
    """Whole UTC days of `Bars` that are traded.

    Attributes:
        from_ms: Start of the first day.
        to_ms: End of the last day, exclusive.
        first: Index of the first bar.
        last: One past the index of the last bar.
        market: Arrays of all bars, with the days of this window cut into blocks.
    """

    from_ms: int
    to_ms: int
    first: int
    last: int
    market: Market

    @property
    def days(self) -> int:
        """Number of days."""
        return (self.to_ms - self.from_ms) // DAY_MS


def load_bars(lake: Lake, venue: str, interval: str, symbols: Sequence[str], anchor_ms: int, to_ms: int) -> Bars:
    """Read the bars of `symbols` in [anchor_ms, to_ms) from the lake.

    Args:
        lake: The lake.
        venue: Venue to read.
        interval: Length of the bars.
        symbols: Symbols to read; sorted by name, so that equal sets give equal arrays.
        anchor_ms: Open time of the first bar of the grid, on the interval's grid.
        to_ms: End of the last bar, exclusive, on the interval's grid.

    Raises:
        ConfigError: The anchor is off the interval's grid or not before the end.
        DataError: A symbol has no bar in the slice, or no instrument is known for it.
    """
    step = interval_ms(interval)
    if anchor_ms % step or anchor_ms >= to_ms:
        raise ConfigError(
            f"anchor of {interval} is {anchor_ms} ms; it must lie on the {interval} grid and before the end, {to_ms} ms"
        )
    names = tuple(sorted(symbols))
    length = (to_ms - anchor_ms) // step
    frame = read_candles(lake, venue, interval, names, anchor_ms, to_ms)
    missing = sorted(set(names) - set(frame["symbol"].unique()))
    if missing:
        raise DataError(
            f"lake {lake.root}: no {interval} bar of {missing[0]} at {venue} in the slice; run `mei coverage`"
        )
    column = {name: index for index, name in enumerate(names)}
    t = ((frame["open_ms"] - anchor_ms) // step).to_numpy()
    s = frame["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    prices = np.full((len(_PRICES), length, len(names)), np.nan)
    for index, name in enumerate(_PRICES):
        prices[index, t, s] = frame[name].to_numpy()
    present = ~np.isnan(prices[3])
    age = np.where(present, np.cumsum(present, axis=0) - 1, -1).astype(np.int64)
    return Bars(
        venue=venue,
        interval=interval,
        symbols=names,
        anchor_ms=anchor_ms,
        data_hash=data_hash(lake, venue, interval, names, anchor_ms, to_ms),
        open_ms=anchor_ms + step * np.arange(length, dtype=np.int64),
        prices=prices,
        age=age,
        funding=_funding(lake, venue, column, anchor_ms, length, step),
        instruments=_instruments(lake, venue, names, to_ms),
    )


def _funding(lake: Lake, venue: str, column: dict[str, int], anchor_ms: int, length: int, step: int) -> Floats:
    frame = read_funding(lake, venue, tuple(column), anchor_ms, anchor_ms + (length + 1) * step)
    frame = frame.with_columns(funding.grid().alias("due_ms"))
    # Due at a bar's close belongs to that bar: its open is before, its close is at or after.
    t = ((frame["due_ms"] - anchor_ms + step - 1) // step - 1).to_numpy()
    s = frame["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    inside = (t >= 0) & (t < length)
    rates = np.zeros((length, len(column)))
    np.add.at(rates, (t[inside], s[inside]), frame["rate"].to_numpy()[inside])
    return rates


def _instruments(lake: Lake, venue: str, names: tuple[str, ...], at_ms: int) -> pl.DataFrame:
    latest = in_force(read_instruments(lake, venue), at_ms)
    unknown = sorted(set(names) - set(latest["symbol"]))
    if unknown:
        raise DataError(f"lake {lake.root}: unknown instrument {unknown[0]} at {venue}; run `mei ingest` for it")
    return pl.DataFrame({"symbol": names}).join(latest, on="symbol", how="left", maintain_order="left")


def last_common_ms(lake: Lake, venue: str, interval: str, symbols: Sequence[str]) -> int:
    """End of the last bar that every one of `symbols` has.

    Raises:
        DataError: A symbol has no bars.
    """
    frame = read_candles(lake, venue, interval, symbols)
    last = dict(frame.group_by("symbol").agg(pl.col("open_ms").max()).iter_rows())
    missing = sorted(set(symbols) - set(last))
    if missing:
        raise DataError(f"lake {lake.root}: no {interval} bar of {missing[0]} at {venue}; run `mei ingest`")
    return int(min(last.values())) + interval_ms(interval)


def window(bars: Bars, from_ms: int, to_ms: int) -> Window:
    """Cut whole UTC days [from_ms, to_ms) out of `bars` and split them into `BLOCKS` equal time blocks.

    Raises:
        ConfigError: The bounds are not UTC midnights inside the bars, or leave fewer days than blocks.
    """
    if from_ms % DAY_MS or to_ms % DAY_MS or not bars.anchor_ms <= from_ms < to_ms <= bars.end_ms:
        raise ConfigError(
            f"window {from_ms}..{to_ms} ms: must be UTC midnights between {bars.anchor_ms} and {bars.end_ms} ms"
        )
    days = (to_ms - from_ms) // DAY_MS
    if days < BLOCKS:
        raise ConfigError(f"window of {days} days: at least {BLOCKS} days are needed, one for each time block")
    step = bars.interval_ms
    ends = bars.open_ms + step
    inside = (bars.open_ms >= from_ms) & (ends <= to_ms)
    day = np.clip((bars.open_ms - from_ms) // DAY_MS, 0, days - 1)
    numbers = bars.instruments
    market = Market(
        open=bars.prices[0],
        high=bars.prices[1],
        low=bars.prices[2],
        close=bars.prices[3],
        age=bars.age,
        funding=bars.funding,
        lots=10.0 ** numbers["size_decimals"].cast(pl.Float64).to_numpy(),
        min_notional_usd=numbers["min_notional_usd"].cast(pl.Float64).to_numpy(writable=True),
        max_leverage=numbers["max_leverage"].cast(pl.Float64).to_numpy(writable=True),
        maintenance_frac=numbers["maintenance_margin_frac"].cast(pl.Float64).to_numpy(writable=True),
        day_end=(inside & (ends % DAY_MS == 0)).astype(np.int64),
        block=(day * BLOCKS // days).astype(np.int64),
    )
    first = (from_ms - bars.anchor_ms) // step
    return Window(from_ms, to_ms, first, (to_ms - bars.anchor_ms) // step, market)
