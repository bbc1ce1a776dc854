"""Ingest: fetch the rows that a source has in a range, and merge them into the lake under one id."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

import polars as pl

from mei_pipeline.candles.answered import AnsweredRanges
from mei_pipeline.candles.excluded_rows import split_excluded
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
    """Result of one ingest.

    Attributes:
        ingest_id: Id for `mei lake undo`; None if nothing changed.
        source: The source's name.
        venue: The venue.
        candles: Per interval, counts per symbol.
        funding: Counts per symbol.
        files: Path in the lake to hash, of each data file that changed.
        findings: Per interval, and for `funding`: broken rules, with sample rows. Rules about neighbours are applied to
            the bars of this ingest and to the bars next to them in the lake.
        instruments: Number of rows of instruments added or revised.
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
        """Return the report as plain values, for JSON."""
        return asdict(self) | {"total": asdict(self.total)}


def ingest(  # noqa: PLR0913 - a lake, a source, a range and options
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
    """Fetch the rows of `source` in [from_ms, to_ms) and merge them into the lake.

    Rows are merged in batches of about a million; each batch is merged completely or not at all. A killed ingest is
    completed by running it again: rows that were merged count as unchanged. Rows of one batch that contradict each
    other are refused. A row that contradicts an earlier batch is a revision.

    Args:
        lake: The lake.
        source: Source of the rows.
        intervals: Intervals of candles to fetch; may be empty.
        from_ms: Start of the range, inclusive.
        to_ms: End of the range, exclusive.
        now_ms: The present; bars that are not closed by then are refused.
        progress: Called for each batch and each file.
        funding: Fetch funding too.
        bounds: Bounds of spikes; the default bounds when None.

    Raises:
        DataError: A file of the source or of the lake is missing, damaged or has another schema.
        Retryable: The disk is full.
        Busy: Another process writes to the lake.

    After an error the batches merged before it stay in the lake.
    """
    for interval in intervals:
        interval_ms(interval)
    report = IngestReport(None, source.name, source.venue, left_out=tuple(getattr(source, "skipped", ())))
    instruments = source.instruments()
    if instruments.height:
        merged = merge_instruments(lake, instruments, now_ms=now_ms, source=source.name)
        report = _add_merge(report, "instruments", merged)
    for interval in intervals:
        spans: dict[str, Span] = {}
        # With the empty frame there is a batch even if the venue has no bar, so its answer is recorded.
        frames = chain([CANDLES.empty()], source.candles(interval, from_ms, to_ms))
        for batch in _batches(frames):
            split = split_excluded(batch)
            excluded = {symbol: Counts(refused=count) for symbol, count in split.refused.items()}
            report = _add_merge(report, interval, MergeReport(None, excluded, findings=split.findings))
            merged = merge_candles(
                lake,
                split.kept,
                now_ms=now_ms,
                progress=progress,
                source=source.name,
                ingest_id=report.ingest_id,
                answered=_answered_ranges(source, interval, (from_ms, min(to_ms, now_ms)), batch, instruments),
            )
            report = _add_merge(report, interval, merged)
            spans = _join_spans(spans, merged.spans)
        # After the last batch: before it, bars that a later batch brings would count as missing.
        if spans:
            items = findings(lake, source.venue, interval, bounds or SpikeBounds(), spans)
            report = _add_findings(report, interval, items)
    for batch in _batches(source.funding(from_ms, to_ms)) if funding else ():
        merged = merge_funding(
            lake, batch, now_ms=now_ms, progress=progress, source=source.name, ingest_id=report.ingest_id
        )
        report = _add_merge(report, "funding", merged)
    return _add_default_instruments(lake, report, intervals, now_ms)


def _add_default_instruments(lake: Lake, report: IngestReport, intervals: Sequence[str], now_ms: int) -> IngestReport:
    """Merge default instruments for the symbols of the venue that have none."""
    stored = set(read_instruments(lake, report.venue)["symbol"].to_list())
    for interval in intervals:
        missing = sorted(set(symbols(lake, report.venue, interval)) - stored)
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
            report = _add_merge(report, "instruments", merged)
            stored |= set(missing)
    return report


def _batches(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join frames to batches of at least `FLUSH_ROWS` rows; only the last batch may be smaller."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(part.height for part in waiting) >= FLUSH_ROWS:
            yield pl.concat(waiting, how="diagonal")
            waiting = []
    if waiting:
        yield pl.concat(waiting, how="diagonal")


def _answered_ranges(
    source: Source, interval: str, bounds: tuple[int, int], batch: pl.DataFrame, instruments: pl.DataFrame
) -> AnsweredRanges | None:
    """Return the ranges for which the venue answered, None if the source does not speak for its venue.

    The range of a symbol starts at its listing and ends at its delisting.
    """
    if not (isinstance(source, Complete) and source.complete):
        return None
    step = interval_ms(interval)
    start, end = -(-bounds[0] // step) * step, bounds[1] // step * step
    ranges = dict.fromkeys(sorted(set(batch["symbol"].drop_nulls().to_list())), (start, end))
    for row in instruments.iter_rows(named=True):
        listed, delisted = row["listed_ms"], row["delisted_ms"]
        ranges[row["symbol"]] = (
            start if listed is None else max(start, -(-listed // step) * step),
            end if delisted is None else min(end, delisted // step * step),
        )
    return AnsweredRanges(source.venue, interval, {name: span for name, span in ranges.items() if span[0] < span[1]})


def _add_merge(report: IngestReport, series: str, merged: MergeReport) -> IngestReport:
    """Return `report` with one merge added; `series` is an interval of candles, `funding` or `instruments`."""
    report = replace(
        _add_findings(report, series, merged.findings),
        ingest_id=report.ingest_id or merged.ingest_id,
        files=report.files | merged.files,
    )
    if series == "instruments":
        changed = merged.total.added + merged.total.revised
        return replace(report, instruments=report.instruments + changed)
    if series == "funding":
        return replace(report, funding=_sum(report.funding, merged.symbols))
    candles = report.candles | {series: _sum(report.candles.get(series, {}), merged.symbols)}
    return replace(report, candles=candles)


def _add_findings(report: IngestReport, series: str, items: Findings) -> IngestReport:
    if not items.items:
        return report
    return replace(report, findings=report.findings | {series: report.findings.get(series, Findings()) + items})


def _join_spans(one: dict[str, Span], other: dict[str, Span]) -> dict[str, Span]:
    both = {name: (min(one[name][0], other[name][0]), max(one[name][1], other[name][1])) for name in one.keys() & other}
    return one | other | both


def _sum(one: dict[str, Counts], other: dict[str, Counts]) -> dict[str, Counts]:
    return {name: one.get(name, Counts()) + other.get(name, Counts()) for name in sorted(one.keys() | other.keys())}
