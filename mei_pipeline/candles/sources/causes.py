"""Why an ingest stored no bar of a file source: the likeliest cause, and what fixes it."""

from typing import Any

from mei_pipeline.candles.ingest import IngestReport
from mei_pipeline.candles.intervals import MINUTE_MS, interval_ms
from mei_pipeline.candles.lake import Counts
from mei_pipeline.candles.quality import Finding, Findings
from mei_pipeline.candles.schema import CANDLES, FUNDING
from mei_pipeline.candles.sources.columns import CLOSE, CONSTANT
from mei_pipeline.candles.sources.files import FileSource
from mei_pipeline.candles.sources.units import SECOND_MS


def refused_tables(source: Any, report: IngestReport, *, open_is_normal: bool) -> list[str]:
    """Explain which tables of an ingest were refused whole.

    Args:
        source: Where the rows came from.
        report: What the ingest did.
        open_is_normal: Whether a table that holds nothing but bars that have not closed is no fault: the newest bar of
            a venue that is asked again and again.

    Returns:
        A message for each table of candles or funding of which every row was refused, with the likeliest cause.
    """
    messages = []
    for what, table in (*report.candles.items(), ("funding", report.funding)):
        total = sum(table.values(), Counts())
        findings = report.findings.get(what, Findings())
        if not total.refused or total.added + total.revised + total.unchanged:
            continue
        if open_is_normal and findings.counts("refuse").keys() <= {"still_open", "unsorted"}:
            continue
        cause = likely_cause(source, what, findings)
        messages.append(f"{report.source}: all {total.refused:,} rows of {what} were refused; {cause}")
    return messages


def likely_cause(source: Any, what: str, findings: Findings) -> str:
    """Explain why every row was refused.

    Args:
        source: Where the rows came from.
        what: The interval of candles, or `funding`.
        findings: Rules that the rows broke, with samples.

    Returns:
        One sentence: the rule that most rows broke, and what to do.
    """
    refused = [item for item in findings.items if item.severity == "refuse"]
    if not refused:
        return "see the rules in docs/reference/lake.md"
    rule = max(refused, key=lambda item: item.count).rule
    broken = [item for item in refused if item.rule == rule]
    if rule == "off_grid" and what != "funding":
        return _off_grid(_time_column(source), what, broken)
    if rule == "other_interval":
        return (
            f"the files say other intervals than {what}, in a column or in their names; leave --interval out, or state "
            f"the right one for all rows with --columns interval=={what}"
        )
    sentences = {
        "future": f"their times ({_time_column(source, what)}) are later than now: their time zone or clock is wrong",
        "still_open": "none of them has closed yet; run it again after they have",
        "conflict": "the files hold several values for the same symbol and time: ingest their series one by one",
        "null": "cells are empty; name the columns that hold the values with --columns",
        "inconsistent": "open, high, low and close are not in their columns; name them with --columns",
        "non_positive": "prices are zero or negative; name the columns of prices with --columns",
        "non_finite": "prices are no numbers; name the columns of prices with --columns",
    }
    return f"{rule}: {sentences.get(rule, 'see the rules in docs/reference/lake.md')}"


def _off_grid(column: str, interval: str, broken: list[Finding]) -> str:
    """Tell a close from an open that is off: venues stamp a close with the last second or less of its bar."""
    step = interval_ms(interval)
    times = [row["open_ms"] for item in broken for row in item.sample if row.get("open_ms") is not None]
    if times and all(step - time % step <= SECOND_MS for time in times):
        return (
            f"off_grid: the times in column {column!r} are those at which bars close; read them so with "
            f"--columns {CLOSE}={column}"
        )
    offsets = {time % step for time in times}
    if len(offsets) == 1:
        minutes = offsets.pop() / MINUTE_MS
        return (
            f"off_grid: the times in column {column!r} are {minutes:g} minutes after the begin of a bar of {interval}: "
            "their time zone or interval is another"
        )
    return f"off_grid: the times in column {column!r} are not multiples of {interval}; state the right --interval"


def _time_column(source: Any, what: str = "") -> str:
    if not isinstance(source, FileSource):
        return "open_ms"
    table, name = (FUNDING, "time_ms") if what == "funding" else (CANDLES, "open_ms")
    columns = (plan.mapped.columns[name] for plan in source.plans if plan.mapped.table is table)
    return next((column for column in columns if not column.startswith(CONSTANT)), name)
