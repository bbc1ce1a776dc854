"""Tables that several commands write: .csv and .parquet files, and the membership of a book."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mei_pipeline.cli import output

if TYPE_CHECKING:
    import polars as pl


def check_suffix(path: Path | None, *allowed: str) -> None:
    """Refuse a file name of another format before any work is done.

    Raises:
        ConfigError: The name has a suffix that is not in `allowed`, by default .csv and .parquet.
    """
    from mei_pipeline.errors import ConfigError

    endings = allowed or (".csv", ".parquet")
    if path is not None and path.suffix not in endings:
        raise ConfigError(f"{path}: the name must end in {' or '.join(endings)}")


def write_frame(path: Path | None, frame: "pl.DataFrame") -> None:
    """Write a table in the format of the suffix; do nothing without a path."""
    from mei_pipeline import files

    if path is None:
        return
    with files.replacing(path) as temporary:
        if path.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)


def show_members(members: Sequence[Mapping[str, Any]], start: str, end: str) -> None:
    """Print the first and last bar of symbols that lack part of the window; see `member_dicts`."""
    from mei_pipeline.simulation.members import MEMBER_HEADING

    partial = [
        each for each in members if each["missing_pct"] or each["ended"] or (each["from"], each["to"]) != (start, end)
    ]
    if not partial:
        output.note(f"all {len(members)} symbols have every bar from {start} to {end}")
        return
    rows = [(each["symbol"], each["from"], each["to"], each["missing_pct"], each["ended"]) for each in partial]
    complete = len(members) - len(partial)
    title = f"Symbols that lack bars between {start} and {end}" + (f"; {complete} more lack none" if complete else "")
    output.table(title, MEMBER_HEADING, rows)
