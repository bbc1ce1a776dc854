"""`mei ingest`: from files or the sources of pipeline.yaml into the lake."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.findings import HEADERS, IMPORTANT, bounds, finding_rows
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.candles.ingest import IngestReport
    from mei_pipeline.candles.sources import Source

_DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])


@click.command("ingest")
@click.option("--path", help="File, folder or glob of candle files; default: the sources of pipeline.yaml.")
@click.option("--venue", help="Venue of the prices; without --path: only its sources.")
@click.option("--interval", help="Interval of the bars, if the files do not name it; or the only interval to load.")
@click.option(
    "--columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="MEI's column=the file's column (open_ms=T); NAME==VALUE sets one value for "
    "all rows. Repeat, or separate by commas.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="Tool that wrote the files: binance-vision, bybit, ccxt, freqtrade, hyperliquid, okx, tradingview; default: "
    "detected from the columns.",
)
@click.option("--from", "start", type=_DAY, help="First UTC time; default: everything, or the start in pipeline.yaml.")
@click.option("--to", "end", type=_DAY, help="UTC time to stop before; default: now.")
@result_options
def ingest(
    path: str | None,
    venue: str | None,
    interval: str | None,
    columns: tuple[str, ...],
    preset: str | None,
    start: datetime | None,
    end: datetime | None,
    as_json: bool,
) -> None:
    """Load candles and funding into the lake: merge closed bars, refuse invalid rows, keep revisions.

    Repeating an ingest changes nothing. `mei lake undo` takes an ingest back.
    """
    from mei_pipeline.candles import ingest as candles_ingest
    from mei_pipeline.candles.sources.causes import refused_tables
    from mei_pipeline.candles.store import Lake
    from mei_pipeline.errors import DataError
    from mei_pipeline.settings import read_settings

    begin_ms, end_ms, limits = _ms(start), _ms(end), bounds()
    reports: list[IngestReport] = []
    problems: list[str] = []
    with output.bar() as progress:
        for source, intervals, default_ms in _sources(path, venue, interval, _mapping(columns), preset):
            for reason in getattr(source, "skipped", ()):
                output.warn(reason)
            now_ms = int(time.time() * 1000)
            last_ms = candles_ingest.FOREVER_MS if path else now_ms
            report = candles_ingest.ingest(
                Lake(read_settings().lake),
                source,
                intervals,
                default_ms if begin_ms is None else begin_ms,
                last_ms if end_ms is None else end_ms,
                now_ms=now_ms,
                progress=progress,
                bounds=limits,
            )
            reports.append(report)
            problems += refused_tables(source, report, allow_open_bars=path is None)
    if as_json:
        output.print_json({"ingests": [report.as_dict() for report in reports], "problems": problems})
    else:
        for report in reports:
            _show_ingest(report)
    if problems:
        raise DataError("; ".join(problems))


def _sources(
    path: str | None, venue: str | None, interval: str | None, columns: dict[str, str], preset: str | None
) -> list[tuple["Source", tuple[str, ...], int]]:
    """Return sources, intervals and the earliest time, from the options or from pipeline.yaml."""
    from mei_pipeline.candles.intervals import interval_ms, month_range
    from mei_pipeline.candles.sources import build_source
    from mei_pipeline.candles.sources.files import open_files
    from mei_pipeline.config.load import load_config
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.settings import read_settings

    if interval is not None:
        interval_ms(interval)
    if path is not None:
        files = open_files(path, venue, interval, columns, preset)
        return [(files, files.intervals(), 0)]
    for option, value in (("columns", columns), ("preset", preset)):
        if value:
            raise ConfigError(f"--{option} goes with --path; pipeline.yaml has a key `{option}` for its sources")
    config = load_config(read_settings().config)
    wanted = [entry for entry in config.pipeline.sources if venue in (None, entry.venue)]
    if not wanted:
        known = ", ".join(sorted({entry.venue for entry in config.pipeline.sources})) or "none"
        raise ConfigError(
            f"{config.folder / 'pipeline.yaml'}: no source{f' of venue {venue}' if venue else ''}; its sources are of: "
            f"{known}; add one under `sources`, or name files with --path"
        )
    intervals = tuple(config.pipeline.intervals) if interval is None else (interval,)
    start_ms = month_range(config.pipeline.start)[0]
    sources = [build_source(entry, config.folder) for entry in wanted]
    if interval is None:
        _warn_of_unread_intervals(sources, intervals)
    return [(source, intervals, start_ms) for source in sources]


def _warn_of_unread_intervals(sources: list["Source"], intervals: tuple[str, ...]) -> None:
    from mei_pipeline.candles.sources.files import FileSource

    for source in sources:
        unread = (
            [name for name in source.intervals() if name not in intervals] if isinstance(source, FileSource) else []
        )
        if unread:
            output.warn(
                f"{source.name}: bars of {', '.join(unread)} are not read; `intervals` of pipeline.yaml has "
                f"{', '.join(intervals)}"
            )


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    from mei_pipeline.candles.schema import TABLES
    from mei_pipeline.candles.sources.columns import CLOSE
    from mei_pipeline.errors import ConfigError

    allowed = {*(name for table in TABLES.values() for name in table.columns), CLOSE}
    mapping = {}
    for pair in (pair for option in columns for pair in option.split(",")):
        name, sign, column = pair.strip().partition("=")
        if not sign or not column or name not in allowed:
            raise ConfigError(
                f"--columns {pair!r} is not allowed; write NAME=COLUMN, NAME one of {', '.join(sorted(allowed))}"
            )
        mapping[name] = column
    return mapping


def _show_ingest(report: "IngestReport") -> None:
    rows = [
        (name, symbol, *vars(counts).values())
        for name, table in (*report.candles.items(), ("funding", report.funding))
        for symbol, counts in table.items()
    ]
    output.table(
        f"{report.venue} from {report.source}",
        ("interval", "symbol", "added", "revised", "unchanged", "refused", "repaired"),
        rows,
    )
    finding_lines = [row for name, findings in report.findings.items() for row in finding_rows(name, findings)]
    if finding_lines:
        output.table("Findings", HEADERS, finding_lines, important=IMPORTANT)
    spiked = sorted({item.symbol for findings in report.findings.values() for item in findings.of("spike")})
    if spiked:
        output.warn(
            f"{', '.join(spiked)}: implausible bars; these symbols are excluded from sweeps and nightly runs until "
            "other prices of the bars are ingested, or `mei lake confirm` confirms them; `mei lake spikes` lists them"
        )
    refused = sum(counts.refused for table in (*report.candles.values(), report.funding) for counts in table.values())
    if refused:
        output.warn(f"{refused:,} rows were refused; the table shows the rules")
    for interval, table in report.candles.items():
        revised = {symbol: counts.revised for symbol, counts in table.items() if counts.revised}
        if revised:
            named = ", ".join(f"{symbol} {count:,}" for symbol, count in revised.items())
            output.warn(
                f"{sum(revised.values()):,} bars of {interval} had other values in the lake ({named}); "
                f"`mei lake revisions` shows both"
            )
    done = f"ingest {report.ingest_id}: {len(report.files)} files changed" if report.ingest_id else "nothing new"
    output.note(f"{report.venue}: {done}")


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1000)


COMMANDS: list[click.Command] = [ingest]
