"""Likely causes of an ingest of which every row was refused, with the remedy."""

from typing import Any

from mei_pipeline.candles.ingest import IngestReport
from mei_pipeline.candles.intervals import MINUTE_MS, SECOND_MS, interval_ms
from mei_pipeline.candles.lake import Counts
from mei_pipeline.candles.quality import Findings, QualityFinding
from mei_pipeline.candles.schema import CANDLES, FUNDING
from mei_pipeline.candles.sources.columns import CLOSE, CONSTANT
from mei_pipeline.candles.sources.files import FileSource


def refused_tables(source: Any, report: IngestReport, *, allow_open_bars: bool) -> list[str]:
    """Return a message for each table of an ingest of which every row was refused.

    Args:
        source: Source of the rows.
        report: Report of the ingest.
        allow_open_bars: Accept a table in which every bar is still open. A venue that is queried often returns such
            tables.

    Returns:
        A message with the likeliest cause for each table of candles or funding of which every row was refused.
    """
    messages = []
    for series, table in (*report.candles.items(), ("funding", report.funding)):
        total = sum(table.values(), Counts())
        findings = report.findings.get(series, Findings())
        if not total.refused or total.added + total.revised + total.unchanged:
            continue
        if allow_open_bars and findings.counts("refuse").keys() <= {"still_open", "unsorted"}:
            continue
        cause = likely_cause(source, series, findings)
        messages.append(f"{report.source}: all {total.refused:,} rows of {series} were refused; {cause}")
    return messages


def likely_cause(source: Any, series: str, findings: Findings) -> str:
    """Return the likeliest reason why every row was refused.

    Args:
        source: Source of the rows.
        series: The interval of candles, or `funding`.
        findings: Rules that the rows broke, with samples.

    Returns:
        One sentence: the rule that most rows broke, and the remedy.
    """
    refused = [item for item in findings.items if item.severity == "refuse"]
    if not refused:
        return "see the rules in docs/reference/lake.md"
    rule = max(refused, key=lambda item: item.count).rule
    broken = [item for item in refused if item.rule == rule]
    if rule == "off_grid" and series != "funding":
        return _off_grid(_time_column(source), series, broken)
    if rule == "other_interval":
        return (
            f"the files state other intervals than {series}, in a column or in their names; omit --interval, or state "
            f"the right one for all rows with --columns interval=={series}"
        )
    sentences = {
        "future": f"their times ({_time_column(source, series)}) are later than now; correct their time zone or clock",
        "still_open": "no bar has closed yet; ingest again after they close",
        "conflict": "the files hold several values for the same symbol and time; ingest one series at a time",
        "null": "cells are empty; name the columns that hold the values with --columns",
        "inconsistent": "open, high, low and close are in other columns; name them with --columns",
        "non_positive": "prices are zero or negative; name the columns of prices with --columns",
        "non_finite": "prices are not numbers; name the columns of prices with --columns",
    }
    return f"{rule}: {sentences.get(rule, 'see the rules in docs/reference/lake.md')}"


def _off_grid(column: str, interval: str, broken: list[QualityFinding]) -> str:
    """Return the likely cause of times off the grid of the interval."""
    step = interval_ms(interval)
    # Venues stamp a close within the last second of its bar; so such times are those of closes, not of opens.
    times = [row["open_ms"] for item in broken for row in item.sample if row.get("open_ms") is not None]
    if times and all(step - time % step <= SECOND_MS for time in times):
        return (
            f"off_grid: column {column!r} has the times at which bars close; state that with --columns {CLOSE}={column}"
        )
    offsets = {time % step for time in times}
    if len(offsets) == 1:
        minutes = offsets.pop() / MINUTE_MS
        return (
            f"off_grid: the times in column {column!r} are {minutes:g} minutes after the open of a bar of {interval}; "
            "correct their time zone, or state another --interval"
        )
    return f"off_grid: the times in column {column!r} are not multiples of {interval}; state the right --interval"


def _time_column(source: Any, series: str = "") -> str:
    """Return the file's name of its time column."""
    if not isinstance(source, FileSource):
        return "open_ms"
    table, name = (FUNDING, "time_ms") if series == "funding" else (CANDLES, "open_ms")
    columns = (plan.mapping.columns[name] for plan in source.plans if plan.mapping.table is table)
    return next((column for column in columns if not column.startswith(CONSTANT)), name)
