"""The commands `mei coverage`, `mei lake`, `mei backup` and `mei restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.findings import HEADERS, IMPORTANT, bounds, confirm, finding_rows, spikes
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.ingest import ingest
from mei_pipeline.cli.options import JSON, result_options
from mei_pipeline.cli.places import check_place
from mei_pipeline.cli.symbols import check_option

if TYPE_CHECKING:
    from mei_pipeline.candles.quality import Findings
    from mei_pipeline.candles.store import Lake
    from mei_pipeline.settings import Settings

_LATEST = 15  # ingests that `lake show` lists


@click.command("coverage")
@click.option("--venue", help="Only this venue.")
@click.option("--interval", multiple=True, help="Only this interval; may be repeated.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write the heat map to this file.")
@result_options
def coverage(venue: str | None, interval: tuple[str, ...], svg: Path | None, as_json: bool) -> None:
    """Show stored and missing bars of the lake by symbol and interval."""
    import polars as pl

    from mei_pipeline.candles import coverage as cover
    from mei_pipeline.candles.lake import venues
    from mei_pipeline.files import write_bytes

    lake = _lake()
    check_place(lake, venue, interval)
    frames = [cover.coverage(lake, name, interval or None) for name in ([venue] if venue else venues(lake))]
    frame = pl.concat([pl.DataFrame(schema=cover.SCHEMA), *frames])
    if svg is not None:
        write_bytes(svg, cover.coverage_svg(frame).encode())
        output.note(f"heat map written to {svg}")
    if as_json:
        output.print_json({"coverage": frame.to_dicts()})
        return
    rows = frame.group_by("venue", "interval", "symbol", maintain_order=True).agg(
        pl.col("month").min().alias("from"),
        pl.col("month").max().alias("to"),
        pl.col("bars", "expected", "no_trade", "unknown").sum(),
    )
    output.table(
        "Coverage",
        ("venue", "interval", "symbol", "from", "to", "bars", "expected", "no trade", "unknown", "known, %"),
        [(*row, _percent(row[5] + row[7], row[6])) for row in rows.iter_rows()],
        important=("symbol", "interval", "venue", "known, %", "bars", "from", "to", "expected", "unknown"),
    )


@click.group("lake", cls=Group)
def lake_group() -> None:
    """Inspect and verify the lake, list revisions, take an ingest back, confirm implausible bars."""


@lake_group.command("show")
@click.option("--all", "every", is_flag=True, help=f"List every ingest and finding, not only {_LATEST} of each.")
@result_options
def show(every: bool, as_json: bool) -> None:
    """Show the content of the lake, its quality findings and its ingests."""
    from mei_pipeline.candles import store

    lake = _lake()
    store.finish_transaction(lake)
    findings = _findings(lake)
    parts = _parts(lake, findings)
    records = store.ingests(lake)
    if as_json:
        ingests = [record.model_dump(exclude={"changes", "answered"}) for record in records]
        output.print_json({"lake": str(lake.root), "parts": parts, "ingests": ingests})
        return
    output.table(
        str(lake.root),
        ("table", "venue", "interval", "symbols", "rows", "first", "last", "files", "MB", "warnings"),
        [
            (
                part["table"],
                part["venue"],
                part["interval"],
                part["symbols"],
                part["rows"],
                _utc(part["first_ms"]) if part["first_ms"] else None,
                _utc(part["last_ms"]) if part["last_ms"] else None,
                part["files"],
                round(part["bytes"] / 1e6, 2),
                part["warnings"],
            )
            for part in parts
        ],
        important=("table", "venue", "interval", "last", "rows", "warnings", "symbols", "first"),
    )
    rows = [(venue, *row) for (venue, interval), each in findings.items() for row in finding_rows(interval, each)]
    listed = rows if every else rows[:_LATEST]
    title = "Findings" if len(listed) == len(rows) else f"Findings: {_LATEST} of {len(rows):,}; --all shows the others"
    if listed:
        output.table(title, ("venue", *HEADERS), listed, important=IMPORTANT)
    output.table(
        "Ingests",
        ("ingest", "when", "venue", "added", "revised", "source", "undone"),
        [
            (
                record.id,
                _utc(record.when_ms),
                record.venue,
                sum(record.added.values()),
                sum(record.revised.values()),
                record.source,
                _utc(record.undone_ms) if record.undone_ms else None,
            )
            for record in (records if every else records[-_LATEST:])
        ],
        important=("ingest", "when", "added", "revised", "undone", "source"),
    )


@lake_group.command("verify")
@click.option("--set-aside", "aside", is_flag=True, help="Move damaged data files away, so that an ingest can refill.")
@result_options
def verify(aside: bool, as_json: bool) -> None:
    """Hash every file of the lake and compare; exit code 3 if anything is damaged."""
    from mei_pipeline.candles import lake as candles_lake
    from mei_pipeline.errors import DataError

    lake = _lake()
    with output.bar() as progress:
        damages = candles_lake.verify(lake, progress)
    moved = candles_lake.set_aside(lake, damages) if aside and damages else []
    if as_json:
        output.print_json({"damaged": [vars(damage) for damage in damages], "set_aside": moved})
    elif damages:
        output.table(
            "Damaged",
            ("file", "problem", "repair"),
            [(damage.path, damage.problem, damage.repair) for damage in damages],
        )
    else:
        output.note(f"{lake.root}: every file is as it was written")
    if moved:
        output.note(f"moved {len(moved)} files to {lake.root / 'damaged'}; `mei ingest` can bring their rows again")
    elif damages:
        raise DataError(f"{lake.root}: {len(damages)} files are damaged; the table says what to do")


@lake_group.command("revisions")
@click.option("--venue", help="Only this venue.")
@click.option("--interval", help="Only this interval.")
@click.option("--symbol", multiple=True, callback=check_option, help="Only this symbol; may be repeated.")
@click.option("--ingest", "ingest_id", help="Only what this ingest changed.")
@click.option("--funding", is_flag=True, help="Revisions of funding instead of candles.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows of the table.")
@result_options
def revisions(
    venue: str | None,
    interval: str | None,
    symbol: tuple[str, ...],
    ingest_id: str | None,
    funding: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List bars whose values a later ingest changed, newest change last."""
    from mei_pipeline.candles import lake as candles_lake
    from mei_pipeline.candles import store
    from mei_pipeline.candles.schema import CANDLES, FUNDING

    table, lake = FUNDING if funding else CANDLES, _lake()
    check_place(lake, venue, filter(None, (interval,)), symbol)
    if ingest_id is not None:
        store.read_ingest(lake, ingest_id)
    frame = candles_lake.revisions(lake, venue, interval, symbol or None, ingest_id, table)
    if as_json:
        output.print_json({"revisions": frame.to_dicts()})
        return
    listed = frame.tail(limit)
    output.table(
        f"Revisions: {listed.height:,} of {frame.height:,}",
        ("ingest", "when", "venue", "interval", "symbol", "bar", "old → new"),
        [
            (
                row["ingest"],
                _utc(row["when_ms"]),
                row["venue"],
                row["interval"] or None,
                row["symbol"],
                _utc(row[table.key[1]]),
                ", ".join(
                    f"{name} {row[f'old_{name}']:g} → {row[f'new_{name}']:g}"
                    for name in table.values
                    if row[f"old_{name}"] != row[f"new_{name}"] and None not in (row[f"old_{name}"], row[f"new_{name}"])
                )
                + (" (undone)" if row["undone"] else ""),
            )
            for row in listed.iter_rows(named=True)
        ],
        important=("symbol", "bar", "old → new", "interval", "when", "ingest"),
    )


@lake_group.command("undo")
@click.argument("ingest_id", metavar="INGEST")
@click.option("--yes", is_flag=True, help="Do not ask.")
@result_options
def undo(ingest_id: str, yes: bool, as_json: bool) -> None:
    """Take back one ingest: remove the bars that it added, restore the values that it revised."""
    from mei_pipeline.candles import lake as candles_lake
    from mei_pipeline.candles import store

    lake = _lake()
    record = store.read_ingest(lake, ingest_id)
    if not yes:
        added, revised = sum(record.added.values()), sum(record.revised.values())
        click.confirm(f"Remove {added:,} rows and restore {revised:,}, of {record.source}?", abort=True, err=True)
    report = candles_lake.undo(lake, ingest_id)
    if as_json:
        output.print_json({"ingest": ingest_id, "files": report})
        return
    output.table(
        f"Undone: {ingest_id}",
        ("file", "removed", "restored"),
        [(path, row["removed"], row["restored"]) for path, row in sorted(report.items())],
    )
    output.note(f"what was taken out is kept in {lake.root / 'undone'}")


lake_group.add_command(spikes)
lake_group.add_command(confirm)


@click.command("backup")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@JSON
def backup(out: Path, as_json: bool) -> None:
    """Write lake, registry, lanes, config/ and nights of the home to the tar file OUT.

    The new file is read back and checked before it replaces OUT, so a damaged home keeps the last good backup.
    """
    from mei_pipeline.backup.run import backup as write_backup

    with output.bar() as progress:
        report = write_backup(_home(), out, progress, on_server=bool(_settings().registry_url))
    if as_json:
        output.print_json({"archive": str(out), "files": report.files, "bytes": report.bytes})
    else:
        output.note(f"{out}: {report.files:,} files, {report.bytes / 1e6:,.1f} MB")
    if _settings().registry_url:
        output.warn("the registry that MEI_REGISTRY_URL names is not in the backup; back it up with its own tools")


@click.command("restore")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace what the home has; the old files are moved aside.")
@JSON
def restore(archive: Path, force: bool, as_json: bool) -> None:
    """Restore a backup into the home (MEI_HOME), after checking every hash and the registry."""
    from mei_pipeline.backup.run import restore as restore_backup
    from mei_pipeline.errors import ConfigError

    if not archive.exists():
        raise ConfigError(f"{archive}: no such file; give the path of a tar file that `mei backup` wrote")
    with output.bar() as progress:
        report = restore_backup(
            archive, _home(), force=force, progress=progress, on_server=bool(_settings().registry_url)
        )
    aside = str(report.aside) if report.aside else None
    if as_json:
        output.print_json({"archive": str(archive), "files": report.files, "bytes": report.bytes, "aside": aside})
        return
    output.note(f"{_home()}: {report.files:,} files restored" + (f"; the old ones are in {aside}" if aside else ""))


def _findings(lake: "Lake") -> "dict[tuple[str, str], Findings]":
    """Return the findings of the whole lake by venue and interval; damaged files are left out."""
    from mei_pipeline.candles.findings import findings
    from mei_pipeline.candles.lake import intervals, venues
    from mei_pipeline.errors import DataError

    limits = bounds()
    by_place = {}
    for venue, interval in [(name, each) for name in venues(lake) for each in intervals(lake, name)]:
        try:
            by_place[venue, interval] = findings(lake, venue, interval, limits)
        except DataError as error:
            output.warn(str(error))
    return by_place


def _parts(lake: "Lake", findings: "dict[tuple[str, str], Findings]") -> list[dict[str, Any]]:
    """Return the content of each folder of the lake."""
    from mei_pipeline.candles import store
    from mei_pipeline.candles.quality import Findings
    from mei_pipeline.candles.schema import TABLES

    parts = []
    for folder in (folder for table in TABLES for folder in store.folders(lake, table)):
        entries = store.read_manifest(lake, folder).files
        if entries:
            table, venue, interval = [*folder.split("/"), ""][:3]
            counts = findings.get((venue, interval), Findings()).counts() if table == "candles" else {}
            parts.append(
                {
                    "table": table,
                    "venue": venue,
                    "interval": interval or None,
                    "symbols": len({symbol for entry in entries.values() for symbol in entry.symbols}),
                    "rows": sum(entry.rows for entry in entries.values()),
                    "first_ms": min(entry.first_ms for entry in entries.values()),
                    "last_ms": max(entry.last_ms for entry in entries.values()),
                    "files": len(entries),
                    "bytes": sum(entry.bytes for entry in entries.values()),
                    "warnings": sum(count for row in counts.values() for count in row.values()),
                    "findings": counts,
                }
            )
    return parts


def _lake() -> "Lake":
    from mei_pipeline.candles.store import Lake

    return Lake(_settings().lake)


def _home() -> Path:
    return _settings().home


def _settings() -> "Settings":
    from mei_pipeline.settings import read_settings

    return read_settings()


def _utc(time_ms: int) -> str:
    from mei_pipeline.candles.intervals import iso

    return iso(time_ms)


def _percent(part: int, total: int) -> float:
    return round(100 * part / total, 2) if total else 100.0


COMMANDS: list[click.Command] = [ingest, coverage, lake_group, backup, restore]
