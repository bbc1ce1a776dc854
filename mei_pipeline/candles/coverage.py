"""Which bars the lake has, per symbol, interval and month, and what is known about those that it lacks.

A symbol's bars are expected from its listing where that is known, else from its first bar, and never before the first
bar of the venue and interval; up to its delisting, else up to the last bar of any symbol (or a given time). So a symbol
whose data ends before the others' lacks bars. A bar it lacks is *no trade* where the venue was asked and has none, and
*unknown* otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.answered import Ranges, read_asked
from mei_pipeline.candles.heatmap import coverage_svg
from mei_pipeline.candles.intervals import interval_ms, month_range, months_between
from mei_pipeline.candles.reading import intervals as known_intervals
from mei_pipeline.candles.reading import read_candles, read_instruments
from mei_pipeline.candles.store import Lake, Manifest

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
    """Where bars of one symbol are expected: [start, end), on the grid."""

    start: int
    end: int


def coverage(
    lake: Lake, venue: str, intervals: Sequence[str] | None = None, as_of_ms: int | None = None
) -> pl.DataFrame:
    """Count the bars that the lake has and lacks.

    Args:
        lake: The lake.
        venue: The venue.
        intervals: Which intervals; all that the lake has when None.
        as_of_ms: Expect bars up to this time too; up to the last bar of any symbol when None.

    Returns:
        Columns venue, symbol, interval, month (YYYY-MM), bars, expected, no_trade, unknown; one row per month in which
        bars of the symbol are expected, so that expected = bars + no_trade + unknown.

    Raises:
        DataError: A file of the lake is absent or damaged.
    """
    store.settle(lake)
    rows = []
    for interval in known_intervals(lake, venue) if intervals is None else intervals:
        manifest = store.read_manifest(lake, f"candles/{venue}/{interval}")
        if not manifest.files:
            continue
        asked = read_asked(lake, venue).get(interval, {})
        for symbol, span in _spans(lake, venue, interval, manifest, as_of_ms).items():
            for month in months_between(span.start, span.end):
                entry = manifest.files.get(f"{month}.parquet")
                bars = entry.symbols.get(symbol, 0) if entry else 0
                inside = _clip(span, month)
                expected = max(bars, len(range(inside.start, inside.end, interval_ms(interval))))
                no_trade = 0
                if bars < expected and symbol in asked:
                    have = read_candles(lake, venue, interval, [symbol], inside.start, inside.end)["open_ms"].to_list()
                    no_trade = _asked_without_bar(set(have), asked[symbol], inside, interval_ms(interval))
                rows.append((venue, symbol, interval, month, bars, expected, no_trade, expected - bars - no_trade))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _spans(lake: Lake, venue: str, interval: str, manifest: Manifest, as_of_ms: int | None) -> dict[str, _Span]:
    step = interval_ms(interval)
    begin = min(entry.first_ms for entry in manifest.files.values())
    end = max(entry.last_ms for entry in manifest.files.values()) + step
    if as_of_ms is not None:
        end = max(end, as_of_ms // step * step)
    firsts = _first_bars(lake, venue, interval, manifest)
    known = {
        row["symbol"]: (row["listed_ms"], row["delisted_ms"])
        for row in read_instruments(lake, venue).iter_rows(named=True)
    }
    spans = {}
    for symbol, first in sorted(firsts.items()):
        listed, delisted = known.get(symbol, (None, None))
        start = first if listed is None else min(first, max(begin, -(-listed // step) * step))
        spans[symbol] = _Span(start, end if delisted is None else min(end, delisted // step * step))
    return spans


def _first_bars(lake: Lake, venue: str, interval: str, manifest: Manifest) -> dict[str, int]:
    # The file names are months, so the first file that names a symbol holds its first bar.
    seen: dict[str, str] = {}
    for file, entry in sorted(manifest.files.items()):
        for symbol in entry.symbols:
            seen.setdefault(symbol, file)
    firsts: dict[str, int] = {}
    for file in sorted(set(seen.values())):
        start, end = month_range(file.removesuffix(".parquet"))
        wanted = [symbol for symbol, first in seen.items() if first == file]
        frame = read_candles(lake, venue, interval, wanted, start, end)
        opens = frame.group_by("symbol").agg(pl.col("open_ms").min())
        firsts |= dict(zip(opens["symbol"].to_list(), opens["open_ms"].to_list(), strict=True))
    return firsts


def _clip(span: _Span, month: str) -> _Span:
    start, end = month_range(month)
    return _Span(max(span.start, start), max(span.start, start, min(span.end, end)))


def _asked_without_bar(have: set[int], ranges: Ranges, inside: _Span, step: int) -> int:
    slots = (
        slot
        for start, end in ranges
        for slot in range(max(inside.start, -(-start // step) * step), min(inside.end, end), step)
    )
    return sum(slot not in have for slot in slots)
