"""One ingest: everything a source has in a range, merged into the lake under one id."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

import polars as pl

from mei_pipeline.candles.answered import Asked
from mei_pipeline.candles.excluded_rows import split_marked
from mei_pipeline.candles.findings import Span, findings
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.candles.lake import (
    Counts,
    Lake,
    MergeReport,
    merge_candles,
    merge_funding,
    merge_instruments,
    read_candles,
    read_instruments,
    symbols,
)
from mei_pipeline.candles.quality import Findings
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.candles.sources import Complete, Source
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.progress import Progress, silent

FLUSH_ROWS = 1_000_000
FOREVER_MS = 253_402_300_800_000  # the year 10000


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did.

    Attributes:
        ingest_id: Its id, for `mei lake undo`; None if nothing changed.
        source: The source's name.
        venue: The venue.
        candles: Per interval, counts per symbol.
        funding: Counts per symbol.
        files: Path in the lake to hash, of each data file that changed.
        findings: Per interval, and `funding`: rules broken, with sample rows. Rules about neighbours are applied to the
            bars of this ingest and those on either side of them in the lake.
        instruments: Rows of instruments added or revised.
        left_out: Files of the source that were not read, each with the reason.
    """

    ingest_id: str | None
    source: str
    venue: str
    candles: dict[str, dict[str, Counts]] = field(default_factory=dict)
    funding: dict[str, Counts] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    findings: dict[str, Findings] = field(default_factory=dict)
    instruments: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def total(self) -> Counts:
        """Counts of candles over all symbols and intervals."""
        return sum((row for table in self.candles.values() for row in table.values()), Counts())

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self) | {"total": asdict(self.total)}


def ingest(  # noqa: PLR0913 - a source, a lake, and how to go about it
    lake: Lake,
    source: Source,
    intervals: Sequence[str],
    from_ms: int = 0,
    to_ms: int = FOREVER_MS,
    *,
    now_ms: int,
    progress: Progress = silent,
    funding: bool = True,
    bounds: SpikeBounds | None = None,
) -> IngestReport:
    """Fetch what `source` has in [from_ms, to_ms) and merge it into the lake.

    Rows are merged in batches of about a million, each all or nothing. An ingest that dies in between is completed by
    running it again: what was merged is found unchanged. Rows of one batch that contradict each other are refused; a
    row that contradicts an earlier batch is a revision.

    Args:
        lake: The lake.
        source: Where the rows come from.
        intervals: Which intervals of candles; may be empty.
        from_ms: Start of the range, inclusive.
        to_ms: End of the range, exclusive.
        now_ms: The present; bars that are not closed by then are refused.
        progress: Told of the work.
        funding: Whether to fetch funding too.
        bounds: Bounds between a crash and an error; the usual ones when None.

    Raises:
        DataError: A file of the source or of the lake is missing, damaged or of another schema.
        Retryable: The disk is full.
        Busy: Another process writes to the lake.

    What earlier batches merged stays.
    """
    for interval in intervals:
        interval_ms(interval)
    report = IngestReport(None, source.name, source.venue, left_out=tuple(getattr(source, "skipped", ())))
    known = source.instruments()
    if known.height:
        merged = merge_instruments(lake, known, now_ms=now_ms, source=source.name)
        report = _with(report, "instruments", merged)
    for interval in intervals:
        spans: dict[str, Span] = {}
        # The empty frame lets a venue that was asked and has nothing at all be recorded as asked.
        frames = chain([CANDLES.empty()], source.candles(interval, from_ms, to_ms))
        for batch in _batches(frames):
            split = split_marked(batch)
            marked = {symbol: Counts(refused=count) for symbol, count in split.refused.items()}
            report = _with(report, interval, MergeReport(None, marked, findings=split.findings))
            merged = merge_candles(
                lake,
                split.rest,
                now_ms=now_ms,
                progress=progress,
                source=source.name,
                ingest_id=report.ingest_id,
                asked=_asked(source, interval, (from_ms, min(to_ms, now_ms)), batch, known),
            )
            report = _with(report, interval, merged)
            spans = _united(spans, merged.spans)
        if spans:
            found = findings(lake, source.venue, interval, bounds or SpikeBounds(), spans)
            report = _with_findings(report, interval, found)
    for batch in _batches(source.funding(from_ms, to_ms)) if funding else ():
        merged = merge_funding(
            lake, batch, now_ms=now_ms, progress=progress, source=source.name, ingest_id=report.ingest_id
        )
        report = _with(report, "funding", merged)
    return _with_defaults(lake, report, intervals, now_ms)


def _with_defaults(lake: Lake, report: IngestReport, intervals: Sequence[str], now_ms: int) -> IngestReport:
    present = set(read_instruments(lake, report.venue)["symbol"].to_list())
    for interval in intervals:
        missing = sorted(set(symbols(lake, report.venue, interval)) - present)
        if missing:
            bars = read_candles(lake, report.venue, interval, missing)
            first = bars.group_by("symbol").agg(pl.col("close").first())
            prices = dict(zip(first["symbol"].to_list(), first["close"].to_list(), strict=True))
            merged = merge_instruments(
                lake,
                default_instruments(report.venue, prices),
                now_ms=now_ms,
                source=report.source,
                ingest_id=report.ingest_id,
            )
            report = _with(report, "instruments", merged)
            present |= set(missing)
    return report


def _batches(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames joined to batches of `FLUSH_ROWS` rows or a little more; at least one, if any frame came."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(part.height for part in waiting) >= FLUSH_ROWS:
            yield pl.concat(waiting, how="diagonal")
            waiting = []
    if waiting:
        yield pl.concat(waiting, how="diagonal")


def _asked(
    source: Source, interval: str, bounds: tuple[int, int], batch: pl.DataFrame, known: pl.DataFrame
) -> Asked | None:
    if not (isinstance(source, Complete) and source.complete):
        return None
    step = interval_ms(interval)
    start, end = -(-bounds[0] // step) * step, bounds[1] // step * step
    ranges = dict.fromkeys(sorted(set(batch["symbol"].drop_nulls().to_list())), (start, end))
    for row in known.iter_rows(named=True):
        listed, delisted = row["listed_ms"], row["delisted_ms"]
        ranges[row["symbol"]] = (
            start if listed is None else max(start, -(-listed // step) * step),
            end if delisted is None else min(end, delisted // step * step),
        )
    return Asked(source.venue, interval, {name: span for name, span in ranges.items() if span[0] < span[1]})


def _with(report: IngestReport, what: str, merged: MergeReport) -> IngestReport:
    report = replace(
        _with_findings(report, what, merged.findings),
        ingest_id=report.ingest_id or merged.ingest_id,
        files=report.files | merged.files,
    )
    if what == "instruments":
        changed = merged.total.added + merged.total.revised
        return replace(report, instruments=report.instruments + changed)
    if what == "funding":
        return replace(report, funding=_sum(report.funding, merged.symbols))
    candles = report.candles | {what: _sum(report.candles.get(what, {}), merged.symbols)}
    return replace(report, candles=candles)


def _with_findings(report: IngestReport, what: str, found: Findings) -> IngestReport:
    if not found.items:
        return report
    return replace(report, findings=report.findings | {what: report.findings.get(what, Findings()) + found})


def _united(one: dict[str, Span], other: dict[str, Span]) -> dict[str, Span]:
    both = {name: (min(one[name][0], other[name][0]), max(one[name][1], other[name][1])) for name in one.keys() & other}
    return one | other | both


def _sum(one: dict[str, Counts], other: dict[str, Counts]) -> dict[str, Counts]:
    return {name: one.get(name, Counts()) + other.get(name, Counts()) for name in sorted(one.keys() | other.keys())}
