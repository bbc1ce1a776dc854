"""Findings about the bars of a lake and their neighbours, across its files: jumps, gaps, spikes.

Nothing of this is stored. Findings follow from the stored bars, the bounds and the confirmations, so they are the same
however the bars came: in one ingest or in many, in one file or in several.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.confirm import confirmed_bars
from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.candles.quality import Findings, Limits, collect, neighbours
from mei_pipeline.candles.reading import read_bars
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.candles.store import FileEntry, Lake
from mei_pipeline.errors import DataError

CHUNK_ROWS = 4_000_000
"""Bars that are held in memory at a time."""

Span = tuple[int, int]
"""Open times of the first and the last bar of a symbol that is looked at."""
_EVER: Span = (0, 2**62)


def findings(
    lake: Lake, venue: str, interval: str, bounds: SpikeBounds, spans: Mapping[str, Span] | None = None
) -> Findings:
    """Hold the bars of a venue and interval to the rules about neighbours.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        bounds: Bounds of spikes.
        spans: Symbols and times to look at, with the bars of the lake on either side; everything when None.

    Raises:
        DataError: A file of the lake is absent or damaged.
        Busy: Other processes changed the lake again and again while it was read.
    """
    return Findings() + Findings(
        tuple(
            finding
            for broken in _broken(lake, venue, interval, bounds, spans)
            for rule, rows in broken.items()
            for finding in collect(rows, rule)
        )
    )


def marked_bars(
    lake: Lake, venue: str, interval: str, bounds: SpikeBounds, symbols: Iterable[str] | None = None
) -> pl.DataFrame:
    """Find the spikes of a venue and interval that nobody confirmed.

    Returns:
        Columns symbol, open_ms, open, high, low, close, and the open times of the bars that each was compared with:
        `_from_ms`, `_to_ms`.

    Raises:
        DataError, Busy: As `findings`.
    """
    spans = None if symbols is None else dict.fromkeys(symbols, _EVER)
    frames = [broken["spike"] for broken in _broken(lake, venue, interval, bounds, spans)]
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    none = CANDLES.empty().select(columns).with_columns(_from_ms=pl.lit(0, pl.Int64), _to_ms=pl.lit(0, pl.Int64))
    return pl.concat([none, *(frame.select(none.columns) for frame in frames)])


def marked_within(
    lake: Lake,
    venue: str,
    interval: str,
    bars: pl.DataFrame,
    window: Span,
    bounds: SpikeBounds,
    known_ms: int | None = None,
) -> pl.DataFrame:
    """Find the unconfirmed spikes of a window, each judged with the bars of the lake on both sides of the window.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        bars: Symbol, open time and prices of all bars in the window, sorted by symbol and open_ms.
        window: Open times of the bars: [from, to).
        bounds: Bounds of spikes.
        known_ms: Bars that close after this time are not looked at; None looks at all.

    Returns:
        The rows of `bars` that are spikes, with `_from_ms` and `_to_ms` as in `marked_bars`.

    Raises:
        DataError, Busy: As `findings`.
    """
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    names = sorted(bars["symbol"].unique())
    before, after = _beside(lake, venue, interval, names, window, bounds.max_bars + 1, known_ms)
    frame = bars.select(columns)
    if before.height or after.height:
        # The parts are in the order of time, so a stable sort by symbol keeps the times of each symbol sorted.
        order = pl.col("symbol").cast(pl.Enum(names))
        frame = pl.concat([before, frame, after]).sort(order, maintain_order=True)
    marked = neighbours(frame, interval, Limits(spikes=bounds), confirmed_bars(lake, venue, interval))["spike"]
    return marked.filter((pl.col("open_ms") >= window[0]) & (pl.col("open_ms") < window[1]))


def marked_symbols(
    lake: Lake,
    venue: str,
    intervals: Sequence[str],
    symbols: Iterable[str],
    window: Span,
    bounds: SpikeBounds,
    known_ms: int | None = None,
) -> dict[str, str]:
    """Tell which symbols must sit out of a window that is to be traded, and why.

    Args:
        lake: The lake.
        venue: The venue.
        intervals: Every interval that is read.
        symbols: The symbols that would be traded.
        window: The slice that is read: bars that open in [from, to).
        bounds: Bounds of spikes.
        known_ms: Bars that close after this time are not looked at; None looks at all.

    Raises:
        DataError, Busy: As `findings`.
    """
    found: dict[str, str] = {}
    names = sorted(set(symbols))
    for interval in intervals:
        bars = read_bars(lake, venue, interval, names, bounds=window)
        marked = marked_within(lake, venue, interval, bars, window, bounds, known_ms)
        found = reasons(Findings(tuple(collect(marked, "spike"))), interval) | found
    return dict(sorted(found.items()))


def refuse_marked(
    lake: Lake, venue: str, intervals: Sequence[str], symbols: Iterable[str], window: Span, bounds: SpikeBounds
) -> None:
    """Refuse a window that is to be traded if a symbol must sit out of it; see `marked_symbols`.

    Raises:
        DataError: A symbol has a marked bar; or as `findings`.
        Busy: As `findings`.
    """
    found = marked_symbols(lake, venue, intervals, symbols, window, bounds)
    if found:
        lines = "; ".join(f"{symbol}: {why}" for symbol, why in found.items())
        raise DataError(
            f"lake {lake.root}: bars of {venue} that no market makes: {lines}. Ingest them again with the right "
            "prices, leave the symbol out, choose other days, or confirm the bars with `mei lake confirm`"
        )


def reasons(found: Findings, interval: str) -> dict[str, str]:
    """Tell by symbol why it sits out, from findings that may include spikes."""
    return {
        item.symbol: f"spike: {item.count} {interval} {'bar' if item.count == 1 else 'bars'} that no market makes, the "
        f"first at {iso(item.sample[0]['open_ms'])} with high {item.sample[0]['high']:g} and low "
        f"{item.sample[0]['low']:g}; `mei lake spikes` lists them"
        for item in found.of("spike")
    }


def _beside(
    lake: Lake, venue: str, interval: str, names: Sequence[str], window: Span, count: int, known_ms: int | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the last `count` bars of each symbol before a window, and the first `count` after it."""
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files
    from_ms, to_ms = window
    end_ms = None if known_ms is None else known_ms - interval_ms(interval) + 1

    def bars(at_ms: int, bounds: tuple[int | None, int | None]) -> pl.DataFrame:
        files = _files(entries, dict.fromkeys(names, (at_ms, at_ms)), count) if names else ()
        return read_bars(lake, venue, interval, names, files=files, bounds=bounds)

    before, after = bars(from_ms - 1, (None, from_ms)), bars(to_ms, (to_ms, end_ms))
    sides = [frame.group_by("symbol", maintain_order=True) for frame in (before, after)]
    return sides[0].tail(count).select(before.columns), sides[1].head(count).select(after.columns)


def _broken(
    lake: Lake, venue: str, interval: str, bounds: SpikeBounds, spans: Mapping[str, Span] | None
) -> Iterator[dict[str, pl.DataFrame]]:
    """Offending bars by rule, of some symbols at a time."""
    store.settle(lake)
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files
    known = {symbol for entry in entries.values() for symbol in entry.symbols}
    names = sorted(known if spans is None else known & spans.keys())
    confirmed = confirmed_bars(lake, venue, interval)
    limits = Limits(spikes=bounds)
    context = bounds.max_bars + 1
    for chunk in _chunks(entries, names):
        files = entries.keys() if spans is None else _files(entries, {name: spans[name] for name in chunk}, context)
        broken = neighbours(read_bars(lake, venue, interval, chunk, files=files), interval, limits, confirmed)
        yield broken if spans is None else {rule: _within(rows, spans) for rule, rows in broken.items()}


def _chunks(entries: Mapping[str, FileEntry], names: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    rows = 0
    for name in names:
        chunk.append(name)
        rows += sum(entry.symbols.get(name, 0) for entry in entries.values())
        if rows >= CHUNK_ROWS:
            yield chunk
            chunk = []
            rows = 0
    if chunk:
        yield chunk


def _files(entries: Mapping[str, FileEntry], spans: Mapping[str, Span], context: int) -> set[str]:
    """Files with the bars of the spans and, for each symbol, `context` bars on either side."""
    start, end = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    order = sorted(entries)
    wanted = {file for file in order if entries[file].last_ms >= start and entries[file].first_ms <= end}
    earlier = [file for file in reversed(order) if entries[file].last_ms < start]
    later = [file for file in order if entries[file].first_ms > end]
    for symbol in spans:
        for side in (earlier, later):
            bars = 0
            for file in side:
                if bars >= context:
                    break
                if symbol in entries[file].symbols:
                    wanted.add(file)
                    bars += entries[file].symbols[symbol]
    return wanted


def _within(rows: pl.DataFrame, spans: Mapping[str, Span]) -> pl.DataFrame:
    """Rows whose neighbours reach into the span of their symbol."""
    if rows.is_empty():
        return rows
    table = pl.DataFrame(
        [(symbol, *span) for symbol, span in spans.items()],
        schema={"symbol": pl.String(), "_first_ms": pl.Int64(), "_last_ms": pl.Int64()},
        orient="row",
    )
    inside = (pl.col("_to_ms") >= pl.col("_first_ms")) & (pl.col("_from_ms") <= pl.col("_last_ms"))
    return rows.join(table, on="symbol", maintain_order="left").filter(inside)
