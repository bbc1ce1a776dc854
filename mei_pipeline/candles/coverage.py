"""Coverage of the lake: bars, expected bars and missing bars per symbol, interval and month.

Bars of a symbol are expected from its listing if that is known, else from its first bar. No bar is expected before the
first bar of the venue and interval. Bars are expected up to the symbol's delisting, else up to the last bar of any
symbol or a given time. So a symbol whose data ends before the others' has missing bars.

A missing bar is *no trade* if the venue answered for its time without it, and *unknown* otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.answered import Ranges, read_answered_ranges
from mei_pipeline.candles.heatmap import coverage_svg
from mei_pipeline.candles.intervals import interval_ms, month_range, months_between
from mei_pipeline.candles.reading import intervals as known_intervals
from mei_pipeline.candles.reading import read_candles, read_instruments
from mei_pipeline.candles.store import Lake, LakeManifest

__all__ = ["SCHEMA", "coverage", "coverage_svg"]

SCHEMA = {
    "venue": pl.String,
    "symbol": pl.String,
    "interval": pl.String,
    "month": pl.String,
    "bars": pl.Int64,
    "expected": pl.Int64,
    "no_trade": pl.Int64,
    "unknown": pl.Int64,
}


@dataclass(frozen=True)
class _Span:
    """Open times [start, end) at which bars of one symbol are expected, multiples of the interval."""

    start: int
    end: int


def coverage(
    lake: Lake, venue: str, intervals: Sequence[str] | None = None, as_of_ms: int | None = None
) -> pl.DataFrame:
    """Count stored and missing bars.

    Args:
        lake: The lake.
        venue: The venue.
        intervals: Intervals to count; all intervals of the lake when None.
        as_of_ms: Time up to which bars are expected at least; the last bar of any symbol when None.

    Returns:
        Columns venue, symbol, interval, month (YYYY-MM), bars, expected, no_trade, unknown; one row per month in which
        bars of the symbol are expected. expected = bars + no_trade + unknown.

    Raises:
        DataError: A file of the lake is absent or damaged.
    """
    store.finish_transaction(lake)
    rows = []
    for interval in known_intervals(lake, venue) if intervals is None else intervals:
        manifest = store.read_manifest(lake, f"candles/{venue}/{interval}")
        if not manifest.files:
            continue
        answered = read_answered_ranges(lake, venue).get(interval, {})
        for symbol, span in _spans(lake, venue, interval, manifest, as_of_ms).items():
            for month in months_between(span.start, span.end):
                entry = manifest.files.get(f"{month}.parquet")
                bars = entry.symbols.get(symbol, 0) if entry else 0
                inside = _clip(span, month)
                expected = max(bars, len(range(inside.start, inside.end, interval_ms(interval))))
                no_trade = 0
                # Counts come from manifests; only a month with missing bars is read.
                if bars < expected and symbol in answered:
                    bars_of_month = read_candles(lake, venue, interval, [symbol], inside.start, inside.end)
                    stored = set(bars_of_month["open_ms"].to_list())
                    no_trade = _count_no_trade(stored, answered[symbol], inside, interval_ms(interval))
                rows.append((venue, symbol, interval, month, bars, expected, no_trade, expected - bars - no_trade))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _spans(lake: Lake, venue: str, interval: str, manifest: LakeManifest, as_of_ms: int | None) -> dict[str, _Span]:
    step = interval_ms(interval)
    begin = min(entry.first_ms for entry in manifest.files.values())
    end = max(entry.last_ms for entry in manifest.files.values()) + step
    if as_of_ms is not None:
        end = max(end, as_of_ms // step * step)
    firsts = _first_bars(lake, venue, interval, manifest)
    listings = {
        row["symbol"]: (row["listed_ms"], row["delisted_ms"])
        for row in read_instruments(lake, venue).iter_rows(named=True)
    }
    spans = {}
    for symbol, first in sorted(firsts.items()):
        listed, delisted = listings.get(symbol, (None, None))
        start = first if listed is None else min(first, max(begin, -(-listed // step) * step))
        spans[symbol] = _Span(start, end if delisted is None else min(end, delisted // step * step))
    return spans


def _first_bars(lake: Lake, venue: str, interval: str, manifest: LakeManifest) -> dict[str, int]:
    """Return the open time of the first bar of each symbol."""
    # File names are months, so the first file in order that lists a symbol has the symbol's first bar.
    first_files: dict[str, str] = {}
    for file, entry in sorted(manifest.files.items()):
        for symbol in entry.symbols:
            first_files.setdefault(symbol, file)
    firsts: dict[str, int] = {}
    for file in sorted(set(first_files.values())):
        start, end = month_range(file.removesuffix(".parquet"))
        names = [symbol for symbol, first in first_files.items() if first == file]
        frame = read_candles(lake, venue, interval, names, start, end)
        opens = frame.group_by("symbol").agg(pl.col("open_ms").min())
        firsts |= dict(zip(opens["symbol"].to_list(), opens["open_ms"].to_list(), strict=True))
    return firsts


def _clip(span: _Span, month: str) -> _Span:
    start, end = month_range(month)
    return _Span(max(span.start, start), max(span.start, start, min(span.end, end)))


def _count_no_trade(stored: set[int], ranges: Ranges, inside: _Span, step: int) -> int:
    """Count the open times inside the answered ranges that have no stored bar."""
    open_times = (
        open_ms
        for start, end in ranges
        for open_ms in range(max(inside.start, -(-start // step) * step), min(inside.end, end), step)
    )
    return sum(open_ms not in stored for open_ms in open_times)
