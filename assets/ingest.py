"""Assets of the lake: candles, funding and coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from assets import run_context
from assets.metadata import Metadata, Result, artefact_metadata, declared, entries, materialized, records, table
from assets.partitions import INTERVAL, MONTH, candle_partitions, newest_open_ms, span_ms
from mei_pipeline import files
from mei_pipeline.candles.coverage import SCHEMA, coverage_svg
from mei_pipeline.candles.coverage import coverage as measure
from mei_pipeline.candles.funding import cadence_changes
from mei_pipeline.candles.ingest import IngestReport, ingest
from mei_pipeline.candles.intervals import HOUR_MS, interval_ms, iso
from mei_pipeline.candles.lake import Counts, Lake, read_candles, read_funding
from mei_pipeline.candles.schema import CANDLES, FUNDING
from mei_pipeline.candles.sources import build_source
from mei_pipeline.candles.sources.causes import refused_tables
from mei_pipeline.config.models import PipelineConfig
from mei_pipeline.errors import DataError
from mei_pipeline.night.universe import spike_bounds
from mei_pipeline.progress import Progress

GROUP = "ingest"
OWNERS = ("team:data",)
CANDLE_DOCS = {
    "venue": "Venue of the prices; one series never mixes venues.",
    "symbol": "Base coin, as the venue names it.",
    "interval": "Length of the bar.",
    "open_ms": "Open time, UTC milliseconds: the bar covers [open_ms, open_ms + interval).",
    "open": "First price.",
    "high": "Highest price.",
    "low": "Lowest price.",
    "close": "Last price.",
    "volume": "Traded base coin.",
    "trades": "Number of trades; null if the source does not state it.",
    "source": "Source of the bar.",
}
FUNDING_DOCS = {
    "venue": CANDLE_DOCS["venue"],
    "symbol": CANDLE_DOCS["symbol"],
    "time_ms": "Time stamp of the venue, UTC milliseconds; the payment is due at the full hour before.",
    "rate": "Fraction of notional paid by longs to shorts at that time.",
    "premium": "Premium of the perpetual over its index; null if the source does not state it.",
    "source": "Source of the payment.",
}
COVERAGE_DOCS = {
    "venue": CANDLE_DOCS["venue"],
    "symbol": CANDLE_DOCS["symbol"],
    "interval": CANDLE_DOCS["interval"],
    "month": "Calendar month, UTC.",
    "bars": "Bars that the lake has.",
    "expected": "Bars between the symbol's listing, or its first bar, and the end of the lake.",
    "no_trade": "Missing bars that the venue does not have either.",
    "unknown": "Missing bars for an unknown reason.",
}
ProgressResource = dg.ResourceParam[Progress]


def candles_asset(pipeline: PipelineConfig) -> dg.AssetsDefinition:
    """Return the asset `candles`, with the partitions of pipeline.yaml."""

    @dg.asset(
        group_name=GROUP,
        owners=OWNERS,
        kinds={"parquet", "polars"},
        partitions_def=candle_partitions(pipeline),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                "readable",
                asset="candles",
                blocking=True,
                description="Every bar of this run's partitions can be read back.",
            )
        ],
        metadata=declared(CANDLES.columns, CANDLE_DOCS),
    )
    def candles(context: dg.AssetExecutionContext, progress: ProgressResource) -> Result:
        """Closed bars of every symbol, one row per venue, symbol, interval and open time.

        Bars come from the sources of pipeline.yaml and are merged by key into the lake's Parquet files. A restated bar
        is kept as a revision; a missing bar is never invented. One partition is one interval in one month with all
        symbols, because a run per symbol and day would cost more than the work. One run fetches many partitions.
        Dagster's metadata is the same for all partitions of a run; the lake's manifest has the result per file.
        """
        settings, config = run_context.read_all()
        lake, now = Lake(settings.lake), run_context.now_ms()
        keys = [key.keys_by_dimension for key in _multi_keys(context)]
        months = sorted(key[MONTH] for key in keys)
        intervals = [name for name in config.pipeline.intervals if name in {key[INTERVAL] for key in keys}]
        from_ms, to_ms = span_ms(months[0], months[-1], now)
        reports: list[IngestReport] = []
        refused: list[str] = []
        with run_context.retried():
            for entry in config.pipeline.sources:
                source = build_source(entry, config.folder)
                report = ingest(
                    lake,
                    source,
                    intervals,
                    from_ms,
                    to_ms,
                    now_ms=now,
                    progress=progress,
                    funding=False,
                    bounds=spike_bounds(config),
                )
                reports.append(report)
                refused += refused_tables(source, report, allow_open_bars=True)
                for reason in report.left_out:
                    context.log.warning(reason)
        _refuse(refused)
        readable = _readable(lake, config.pipeline, intervals, from_ms, to_ms)
        return materialized(metadata=_ingest_metadata(lake, reports), check_results=[readable])

    return candles


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "polars"},
    check_specs=[
        dg.AssetCheckSpec(
            "schema", asset="funding", blocking=True, description="Columns and types are those of the table funding."
        ),
        dg.AssetCheckSpec(
            "cadence", asset="funding", description="The hours between a symbol's payments stay the same."
        ),
    ],
    metadata=declared(FUNDING.columns, FUNDING_DOCS),
)
def funding(progress: ProgressResource) -> Result:
    """Funding payments, one row per venue, symbol and hour of the payment.

    Payments come from the sources of pipeline.yaml. `rate` is the fraction of notional that was paid at that time, at
    any cadence of the venue. `time_ms` is the venue's own time stamp, some milliseconds late. The asset has no
    partitions, because a year of one symbol is a small file.
    """
    settings, config = run_context.read_all()
    lake, now = Lake(settings.lake), run_context.now_ms()
    start, _ = span_ms(config.pipeline.start, config.pipeline.start, now)
    reports: list[IngestReport] = []
    refused: list[str] = []
    with run_context.retried():
        for entry in config.pipeline.sources:
            source = build_source(entry, config.folder)
            reports.append(ingest(lake, source, (), start, now, now_ms=now, progress=progress))
            refused += refused_tables(source, reports[-1], allow_open_bars=True)
    _refuse(refused)
    frame = pl.concat([FUNDING.empty(), *(read_funding(lake, venue) for venue in config.pipeline.venues)])
    changes = cadence_changes(frame)
    found = _summed([report.funding for report in reports])
    metadata = artefact_metadata(
        settings.lake / "funding",
        digest=files.sha256_json(sorted(entry for report in reports for entry in report.files.items())),
        frame=frame,
        docs=FUNDING_DOCS,
        preview=frame.group_by("venue", "symbol").agg(pl.len(), pl.col("rate").mean()).sort("venue", "symbol"),
    )
    return materialized(
        metadata={
            **metadata,
            **entries(
                rows=frame.height,
                rows_added=found["all"].added,
                cadence_changes=table(changes) if changes.height else dg.MetadataValue.md("none"),
            ),
        },
        check_results=[_schema(frame), _cadence(changes)],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "polars"},
    deps=["candles", funding],
    check_specs=[
        dg.AssetCheckSpec("fresh", asset="coverage", description="The newest bars are recent enough for the search."),
        dg.AssetCheckSpec("gaps", asset="coverage", description="No bar is missing for an unknown reason."),
    ],
    metadata=declared(SCHEMA, COVERAGE_DOCS),
)
def coverage() -> Result:
    """Stored and expected bars of the lake, one row per venue, symbol, interval and month.

    A missing bar is *no trade* if the venue has none either, else *unknown*. Coverage is measured over the whole lake,
    so that gaps in history show here and not first in the results of a search.
    """
    settings, config = run_context.read_all()
    lake = Lake(settings.lake)
    measured = {venue: measure(lake, venue) for venue in config.pipeline.venues}
    frame = pl.concat(measured.values())
    path = settings.home / "coverage" / "coverage.parquet"
    with files.replacing(path) as temporary:
        frame.write_parquet(temporary)
    no_trade, unknown = (int(frame[name].sum()) for name in ("no_trade", "unknown"))
    gaps = frame.filter(pl.col("unknown") > 0)
    return materialized(
        metadata={
            **artefact_metadata(
                path,
                frame=frame,
                docs=COVERAGE_DOCS,
                plots={"heat_map": [coverage_svg(found) for found in measured.values()]},
            ),
            **entries(no_trade=no_trade, unknown=unknown),
        },
        check_results=[
            _fresh(lake, config.pipeline),
            dg.AssetCheckResult(
                check_name="gaps",
                passed=gaps.is_empty(),
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{unknown:,} bars missing for an unknown reason" if unknown else "none",
                metadata={"gaps": table(gaps.sort("unknown", descending=True))},
            ),
        ],
    )


def _refuse(messages: Sequence[str]) -> None:
    """Raise if a source's table was refused; the other sources are merged by then.

    Raises:
        DataError: There are messages.
    """
    if messages:
        raise DataError("; ".join(messages))


def _multi_keys(context: dg.AssetExecutionContext) -> list[dg.MultiPartitionKey]:
    return [key for key in context.partition_keys if isinstance(key, dg.MultiPartitionKey)]


def _summed(tables: Sequence[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Return counts per symbol over several reports, and of `all` symbols."""
    total: dict[str, Counts] = {}
    for counts in tables:
        for name, count in counts.items():
            total[name] = total.get(name, Counts()) + count
    return {"all": sum(total.values(), Counts()), **total}


def _ingest_metadata(lake: Lake, reports: Sequence[IngestReport]) -> Metadata:
    counts = _summed([row for report in reports for row in report.candles.values()])
    changed = dict(sorted(entry for report in reports for entry in report.files.items()))
    total = counts["all"]
    return {
        **artefact_metadata(lake.root / "candles", digest=files.sha256_json(changed)),
        **entries(rows_added=total.added, rows_revised=total.revised, rows_refused=total.refused),
        "symbols": records([{"symbol": name, **vars(count)} for name, count in counts.items()]),
        "findings": records(
            [
                {"interval": interval, "rule": item.rule, "symbol": item.symbol, "count": item.count}
                for report in reports
                for interval, findings in report.findings.items()
                for item in findings.items
            ]
        ),
        "left_out": dg.MetadataValue.json([reason for report in reports for reason in report.left_out]),
        "files": records([{"file": path, "sha256": digest} for path, digest in changed.items()]),
    }


def _readable(
    lake: Lake, pipeline: PipelineConfig, intervals: Sequence[str], from_ms: int, to_ms: int
) -> dg.AssetCheckResult:
    rows = 0
    problem = ""
    try:
        for venue in pipeline.venues:
            for interval in intervals:
                rows += CANDLES.validate(read_candles(lake, venue, interval, None, from_ms, to_ms)).height
    except DataError as error:
        problem = str(error)
    return dg.AssetCheckResult(
        check_name="readable", passed=not problem, description=problem or f"{rows:,} bars", metadata={"rows": rows}
    )


def _schema(frame: pl.DataFrame) -> dg.AssetCheckResult:
    try:
        FUNDING.validate(frame)
    except DataError as error:
        return dg.AssetCheckResult(check_name="schema", passed=False, description=str(error))
    return dg.AssetCheckResult(check_name="schema", passed=True)


def _cadence(changes: pl.DataFrame) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="cadence",
        passed=changes.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{changes.height} changes of cadence",
        metadata={"changes": table(changes)},
    )


def _fresh(lake: Lake, pipeline: PipelineConfig) -> dg.AssetCheckResult:
    """Compare the age of the newest bar of each interval with the limit at which a nightly run excludes symbols."""
    now = run_context.now_ms()
    rows: list[dict[str, Any]] = []
    for interval in pipeline.intervals:
        step = interval_ms(interval)
        newest = newest_open_ms(lake, pipeline.venue, interval)
        age = None if newest is None else (now - newest - step) / HOUR_MS
        end = "none" if newest is None else iso(newest + step)
        rows.append({"interval": interval, "newest bar ends": end, "age in hours": age})
    ages = [row["age in hours"] for row in rows]
    fresh = all(age is not None and age <= pipeline.window.stale_after_hours for age in ages)
    return dg.AssetCheckResult(
        check_name="fresh",
        passed=fresh,
        severity=dg.AssetCheckSeverity.WARN,
        description="" if fresh else f"older than {pipeline.window.stale_after_hours:g} h: run `mei ingest`",
        metadata={"newest": records(rows)},
    )
