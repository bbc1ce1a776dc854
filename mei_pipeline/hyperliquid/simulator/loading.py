"""Load the market of the exchange simulator from a lake or from a synthetic market."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from mei_pipeline.candles import funding as funding_table
from mei_pipeline.candles.instruments import drop_replaced_defaults
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, interval_ms, iso
from mei_pipeline.candles.lake import Lake, read_candles, read_funding, read_instruments
from mei_pipeline.candles.lake import intervals as stored_intervals
from mei_pipeline.candles.lake import symbols as stored_symbols
from mei_pipeline.candles.lake import venues as stored_venues
from mei_pipeline.candles.reading import extent_ms
from mei_pipeline.candles.sources.synthetic import SyntheticMarket, SyntheticSource
from mei_pipeline.candles.sources.synthetic_config import BASE_INTERVALS
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.hyperliquid.simulator.market import (
    CoinTerms,
    FundingStamps,
    SimulatedCoin,
    SimulatedMarket,
    StoredBars,
    coin_seed,
)

HISTORY_BARS = 5_000
"""Bars of each coin and interval that the venue has."""

DEFAULT_LEAD_MS = 2 * DAY_MS
"""Time between the default start of the clock and the end of the bars."""

SYNTHETIC_DAYS = 90
MIN_NOTIONAL_USD = 10.0
_VALUES = ("open", "high", "low", "close", "volume")


class LoadedMarket(NamedTuple):
    """A market, and the time at which its clock starts, UTC milliseconds."""

    market: SimulatedMarket
    start_ms: int


def load_lake(
    lake: Lake,
    venue: str | None = None,
    symbols: Sequence[str] | None = None,
    intervals: Sequence[str] | None = None,
    from_ms: int | None = None,
    seed: int = 0,
) -> LoadedMarket:
    """Load a market from a lake.

    Args:
        lake: The lake.
        venue: Venue of the lake; by default its only one.
        symbols: Symbols; all by default.
        intervals: Intervals; all that are stored by default.
        from_ms: Start of the clock, UTC milliseconds; by default two days before the end of the bars.
        seed: Seed of the quotes.

    Raises:
        ConfigError: The venue, a symbol or an interval is unknown, or the start lies outside the bars.
        DataError: The lake is empty, or has no instrument of a symbol.
    """
    name = _venue_of(lake, venue)
    known = stored_intervals(lake, name)
    if not known:
        raise DataError(f"lake {lake.root}: no candles of {name}; run `mei ingest` for it")
    chosen = _chosen("interval", intervals, known)
    extents = {each: extent for each in chosen if (extent := extent_ms(lake, name, each)) is not None}
    first_ms = min((first for first, _ in extents.values()), default=0)
    end_ms = max((last + interval_ms(each) for each, (_, last) in extents.items()), default=0)
    start_ms = _start_ms(f"lake {lake.root}, {name}", from_ms, first_ms, end_ms)
    coins = _chosen(
        "symbol", symbols, sorted({symbol for each in chosen for symbol in stored_symbols(lake, name, each)})
    )
    candles = {
        each: read_candles(lake, name, each, coins, start_ms - (HISTORY_BARS + 1) * interval_ms(each))
        for each in chosen
    }
    rates = read_funding(lake, name, coins)
    source = f"{name} of {lake.root}"
    return LoadedMarket(_market(source, candles, rates, read_instruments(lake, name, coins), seed), start_ms)


def load_synthetic(
    synthetic_seed: int,
    symbols: Sequence[str] | None = None,
    intervals: Sequence[str] | None = None,
    from_ms: int | None = None,
    seed: int = 0,
) -> LoadedMarket:
    """Load a synthetic market of `SYNTHETIC_DAYS` days.

    Args:
        synthetic_seed: Seed of the bars.
        symbols: Symbols; those of the default synthetic market by default.
        intervals: Intervals; 15m and 1h by default.
        from_ms: Start of the clock, UTC milliseconds; by default two days before the end of the bars.
        seed: Seed of the quotes.

    Raises:
        ConfigError: A symbol is named twice, an interval is unknown, or the start lies outside the bars.
    """
    chosen = sorted(set(intervals or ("15m", "1h")), key=interval_ms)
    base = chosen[0] if chosen[0] in BASE_INTERVALS else "1h"
    plain = SyntheticMarket(seed=synthetic_seed, interval=base)
    first_ms = plain.from_ms
    end_ms = first_ms + SYNTHETIC_DAYS * DAY_MS
    market = SyntheticMarket(
        seed=synthetic_seed, symbols=tuple(symbols or plain.symbols), interval=base, from_ms=first_ms, to_ms=end_ms
    )
    source = SyntheticSource(market)
    start_ms = _start_ms(source.name, from_ms, first_ms, end_ms)
    candles = {each: pl.concat(source.candles(each, first_ms, end_ms)) for each in chosen}
    # The end of the market is a payment too, and a market without end has it.
    endless = SyntheticSource(SyntheticMarket(seed=synthetic_seed, symbols=market.symbols, interval=base))
    rates = pl.concat(endless.funding(first_ms, end_ms + HOUR_MS))
    return LoadedMarket(_market(source.name, candles, rates, source.instruments(), seed), start_ms)


def _venue_of(lake: Lake, venue: str | None) -> str:
    known = stored_venues(lake)
    if not known:
        raise DataError(f"lake {lake.root}: it is empty; run `mei ingest`, or use --synthetic SEED")
    if venue is None and len(known) == 1:
        return known[0]
    if venue not in known:
        problem = "several venues; name one with --venue" if venue is None else f"unknown venue {venue!r}"
        raise ConfigError(f"lake {lake.root}: {problem}; allowed: {', '.join(known)}")
    return venue


def _chosen(what: str, wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the known names that are wanted, all by default."""
    if wanted is None:
        return list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"--{what}s: no bars of {what} {unknown[0]!r}; allowed: {', '.join(known)}")
    if not wanted:
        raise ConfigError(f"--{what}s: the list is empty; name at least one {what}")
    return [name for name in known if name in wanted]


def _start_ms(source: str, from_ms: int | None, first_ms: int, end_ms: int) -> int:
    start_ms = max(first_ms, end_ms - DEFAULT_LEAD_MS) if from_ms is None else from_ms
    if not first_ms <= start_ms < end_ms:
        raise ConfigError(
            f"--from {iso(start_ms)}: {source} has bars from {iso(first_ms)} to {iso(end_ms)}; choose a time in it"
        )
    return start_ms


def _market(
    source: str, candles: dict[str, pl.DataFrame], funding: pl.DataFrame, instruments: pl.DataFrame, seed: int
) -> SimulatedMarket:
    bars: dict[str, dict[str, StoredBars]] = {}
    for interval, frame in candles.items():
        for (symbol,), part in frame.group_by("symbol", maintain_order=True):
            bars.setdefault(str(symbol), {})[interval] = _bars_of(interval, part)
    if not bars:
        raise DataError(f"{source}: no bars at or after the start; choose an earlier --from")
    stamps = _stamps_of(funding)
    warnings: list[str] = []
    terms = _terms_of(instruments, warnings)
    if unknown := sorted(set(bars) - set(terms)):
        raise DataError(
            f"{source}: no instrument of {unknown[0]}; run `mei ingest` for it, or leave it out of --symbols"
        )
    order = sorted(bars, key=lambda name: (min(int(each.open_ms[0]) for each in bars[name].values()), name))
    coins = {
        name: SimulatedCoin(name, coin_seed(seed, name), terms[name], bars[name], stamps.get(name, FundingStamps()))
        for name in order
    }
    end_ms = max(each.end_ms for coin in coins.values() for each in coin.bars.values())
    return SimulatedMarket(source, coins, tuple(candles), end_ms, tuple(warnings))


def _bars_of(interval: str, frame: pl.DataFrame) -> StoredBars:
    return StoredBars(
        interval,
        frame["open_ms"].to_numpy(),
        frame.select(_VALUES).to_numpy(),
        frame["trades"].fill_null(0).to_numpy(),
    )


def _stamps_of(funding: pl.DataFrame) -> dict[str, FundingStamps]:
    due = funding.sort("symbol", "time_ms").with_columns(due_ms=funding_table.hour_of())
    return {
        str(symbol): FundingStamps(*(tuple(part[name].to_list()) for name in ("time_ms", "due_ms", "rate", "premium")))
        for (symbol,), part in due.group_by("symbol", maintain_order=True)
    }


def _terms_of(instruments: pl.DataFrame, warnings: list[str]) -> dict[str, tuple[CoinTerms, ...]]:
    """Return the terms of each symbol, and add what the venue's format can't carry to `warnings`."""
    found: dict[str, list[CoinTerms]] = {}
    columns = ("symbol", "from_ms", "size_decimals", "max_leverage", "maintenance_margin_frac", "delisted_ms")
    rows = drop_replaced_defaults(instruments).sort("symbol", "from_ms")
    for symbol, from_ms, decimals, leverage, fraction, delisted_ms in rows.select(columns).iter_rows():
        tier = max(1, round(0.5 / fraction)) if fraction > 0.0 else 1
        if 0.5 / tier != fraction:
            warnings.append(
                f"{symbol}: maintenance margin {fraction!r} is not half of the inverse of an integer; it goes out as "
                f"{0.5 / tier!r} (leverage {tier})"
            )
        allowed = max(1, int(leverage))
        if allowed != leverage:
            warnings.append(f"{symbol}: maximum leverage {leverage!r} is no integer; it goes out as {allowed}")
        found.setdefault(symbol, []).append(CoinTerms(from_ms, decimals, allowed, tier, delisted_ms))
    warnings += [
        f"{symbol}: minimum notional {least!r} USD is not on the wire; the venue has {MIN_NOTIONAL_USD:g} USD"
        for symbol, least in rows.select("symbol", "min_notional_usd").unique(maintain_order=True).iter_rows()
        if least != MIN_NOTIONAL_USD
    ]
    return {symbol: tuple(terms) for symbol, terms in found.items()}


def warning_lines(market: SimulatedMarket, most: int = 5) -> Iterable[str]:
    """Return the warnings of a market, at most `most` of them and the number of the others."""
    yield from market.warnings[:most]
    if len(market.warnings) > most:
        yield f"{len(market.warnings) - most} further warnings about instruments"
