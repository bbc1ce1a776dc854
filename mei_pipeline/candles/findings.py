"""Findings about the bars of a lake and their neighbours, across its files: jumps, gaps, spikes.

Findings are not stored. They follow from the stored bars, the bounds and the confirmations. So they do not depend on
the number of ingests and files that the bars came in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.confirm import confirmed_bars
from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.candles.quality import Findings, Limits, check_neighbours, group_findings
from mei_pipeline.candles.reading import read_bars
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.candles.store import FileEntry, Lake
from mei_pipeline.errors import DataError

CHUNK_ROWS = 4_000_000
"""Number of bars that are held in memory at a time."""

Span = tuple[int, int]
"""Open times of the first and the last bar of a symbol to check."""
_ALL_TIME: Span = (0, 2**62)


def findings(
    lake: Lake, venue: str, interval: str, bounds: SpikeBounds, spans: Mapping[str, Span] | None = None
) -> Findings:
    """Apply the rules about neighbours to the bars of a venue and interval.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        bounds: Bounds of spikes.
        spans: Symbols and times to check, together with the bars of the lake on either side; everything when None.

    Raises:
        DataError: A file of the lake is absent or damaged.
        Busy: Other processes changed the lake again and again while it was read.
    """
    return Findings() + Findings(
        tuple(
            finding
            for broken in _broken(lake, venue, interval, bounds, spans)
            for rule, rows in broken.items()
            for finding in group_findings(rows, rule)
        )
    )


def unconfirmed_spikes(
    lake: Lake, venue: str, interval: str, bounds: SpikeBounds, symbols: Iterable[str] | None = None
) -> pl.DataFrame:
    """Return the spikes of a venue and interval that nobody confirmed.

    Returns:
        Columns symbol, open_ms, open, high, low, close, and the open times of the bars that each was compared with:
        `_from_ms`, `_to_ms`.

    Raises:
        DataError, Busy: As `findings`.
    """
    spans = None if symbols is None else dict.fromkeys(symbols, _ALL_TIME)
    frames = [broken["spike"] for broken in _broken(lake, venue, interval, bounds, spans)]
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    none = CANDLES.empty().select(columns).with_columns(_from_ms=pl.lit(0, pl.Int64), _to_ms=pl.lit(0, pl.Int64))
    return pl.concat([none, *(frame.select(none.columns) for frame in frames)])


def spikes_in_window(
    lake: Lake,
    venue: str,
    interval: str,
    bars: pl.DataFrame,
    window: Span,
    bounds: SpikeBounds,
    known_ms: int | None = None,
) -> pl.DataFrame:
    """Return the unconfirmed spikes of a window, tested together with the bars on both sides of the window.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        bars: Symbol, open time and prices of all bars in the window, sorted by symbol and open_ms.
        window: Open times of the bars: [from, to).
        bounds: Bounds of spikes.
        known_ms: Bars that close after this time are not read; all bars are read when None.

    Returns:
        The rows of `bars` that are spikes, with `_from_ms` and `_to_ms` as in `unconfirmed_spikes`.

    Raises:
        DataError, Busy: As `findings`.
    """
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    names = sorted(bars["symbol"].unique())
    before, after = _beside(lake, venue, interval, names, window, bounds.max_bars + 1, known_ms)
    frame = bars.select(columns)
    if before.height or after.height:
        # The three frames follow each other in time, so a stable sort by symbol keeps each symbol sorted by time.
        order = pl.col("symbol").cast(pl.Enum(names))
        frame = pl.concat([before, frame, after]).sort(order, maintain_order=True)
    confirmed = confirmed_bars(lake, venue, interval)
    rows = check_neighbours(frame, interval, Limits(spikes=bounds), confirmed)["spike"]
    return rows.filter((pl.col("open_ms") >= window[0]) & (pl.col("open_ms") < window[1]))


def symbols_with_spikes(
    lake: Lake,
    venue: str,
    intervals: Sequence[str],
    symbols: Iterable[str],
    window: Span,
    bounds: SpikeBounds,
    known_ms: int | None = None,
) -> dict[str, str]:
    """Return the symbols that must not be traded in a window because of spikes, each with the reason.

    Args:
        lake: The lake.
        venue: The venue.
        intervals: Every interval that is read.
        symbols: The symbols to be traded.
        window: The slice that is read: bars that open in [from, to).
        bounds: Bounds of spikes.
        known_ms: Bars that close after this time are not read; all bars are read when None.

    Raises:
        DataError, Busy: As `findings`.
    """
    excluded: dict[str, str] = {}
    names = sorted(set(symbols))
    for interval in intervals:
        bars = read_bars(lake, venue, interval, names, bounds=window)
        rows = spikes_in_window(lake, venue, interval, bars, window, bounds, known_ms)
        # A symbol with spikes in several intervals keeps the reason from the first of them.
        excluded = reasons(Findings(tuple(group_findings(rows, "spike"))), interval) | excluded
    return dict(sorted(excluded.items()))


def refuse_spikes(
    lake: Lake, venue: str, intervals: Sequence[str], symbols: Iterable[str], window: Span, bounds: SpikeBounds
) -> None:
    """Raise DataError if a symbol must not be traded in a window; see `symbols_with_spikes`.

    Raises:
        DataError: A symbol has an unconfirmed spike; or as `findings`.
        Busy: As `findings`.
    """
    excluded = symbols_with_spikes(lake, venue, intervals, symbols, window, bounds)
    if excluded:
        lines = "; ".join(f"{symbol}: {reason}" for symbol, reason in excluded.items())
        raise DataError(
            f"lake {lake.root}: implausible bars of {venue}: {lines}. Ingest them again with the right prices, "
            "leave the symbol out, choose other days, or confirm the bars with `mei lake confirm`"
        )


def reasons(items: Findings, interval: str) -> dict[str, str]:
    """Return the reason why a symbol is not traded, by symbol, from the spikes among some findings."""
    return {
        item.symbol: f"spike: {item.count} implausible {interval} {'bar' if item.count == 1 else 'bars'}, the "
        f"first at {iso(item.sample[0]['open_ms'])} with high {item.sample[0]['high']:g} and low "
        f"{item.sample[0]['low']:g}; `mei lake spikes` lists them"
        for item in items.of("spike")
    }


def _beside(
    lake: Lake, venue: str, interval: str, names: Sequence[str], window: Span, count: int, known_ms: int | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the last `count` bars of each symbol before a window, and the first `count` after it."""
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files
    from_ms, to_ms = window
    # A bar that opens before `end_ms` has closed by `known_ms`.
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
    """Yield rule to the bars that break it, for as many symbols at a time as fit in `CHUNK_ROWS`."""
    store.finish_transaction(lake)
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files
    stored = {symbol for entry in entries.values() for symbol in entry.symbols}
    names = sorted(stored if spans is None else stored & spans.keys())
    confirmed = confirmed_bars(lake, venue, interval)
    limits = Limits(spikes=bounds)
    # A spike of `max_bars` bars and its neighbour: no rule reads further from a bar.
    context = bounds.max_bars + 1
    for chunk in _chunks(entries, names):
        files = entries.keys() if spans is None else _files(entries, {name: spans[name] for name in chunk}, context)
        broken = check_neighbours(read_bars(lake, venue, interval, chunk, files=files), interval, limits, confirmed)
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
    """Return the files with the bars of the spans and, for each symbol, `context` bars on either side."""
    start, end = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    order = sorted(entries)
    selected = {file for file in order if entries[file].last_ms >= start and entries[file].first_ms <= end}
    earlier = [file for file in reversed(order) if entries[file].last_ms < start]
    later = [file for file in order if entries[file].first_ms > end]
    for symbol in spans:
        for side in (earlier, later):
            bars = 0
            for file in side:
                if bars >= context:
                    break
                if symbol in entries[file].symbols:
                    selected.add(file)
                    bars += entries[file].symbols[symbol]
    return selected


def _within(rows: pl.DataFrame, spans: Mapping[str, Span]) -> pl.DataFrame:
    """Return the rows whose neighbours reach into the span of their symbol."""
    if rows.is_empty():
        return rows
    table = pl.DataFrame(
        [(symbol, *span) for symbol, span in spans.items()],
        schema={"symbol": pl.String(), "_first_ms": pl.Int64(), "_last_ms": pl.Int64()},
        orient="row",
    )
    inside = (pl.col("_to_ms") >= pl.col("_first_ms")) & (pl.col("_from_ms") <= pl.col("_last_ms"))
    return rows.join(table, on="symbol", maintain_order="left").filter(inside)
