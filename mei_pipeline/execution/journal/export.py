"""Write the views of a journal to files of Parquet or CSV."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from mei_pipeline import files
from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.frames import view_chunks
from mei_pipeline.execution.journal.reader import connect_read_only
from mei_pipeline.execution.journal.schema import VIEWS


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export.

    Attributes:
        path: The file.
        rows: Number of its rows.
    """

    path: Path
    rows: int


def export_journal(path: Path, folder: Path, form: str) -> tuple[ExportedFile, ...]:
    """Write each view of a journal to a file of its own, all as of one moment; a lane may be running.

    Args:
        path: The journal.
        folder: Folder of the files `<view>.<form>`; earlier ones are replaced, each as a whole.
        form: `parquet` or `csv`. Both keep every value exactly.

    Raises:
        DataError: The journal is missing, damaged or not a journal, or the folder can't be written.
        Retryable: The disk is full.
    """
    write = _FORMS[form]
    with closing(connect_read_only(path)) as connection, translated(path):
        connection.execute("BEGIN")  # the first view that is read fixes the moment
        return tuple(_export(connection, name, folder / f"{name}.{form}", write) for name in VIEWS)


def _export(
    connection: sqlite3.Connection, name: str, target: Path, write: Callable[[Path, Iterator[pl.DataFrame]], int]
) -> ExportedFile:
    with files.replacing(target) as temporary:
        return ExportedFile(target, write(temporary, view_chunks(connection, name)))


def _write_csv(path: Path, frames: Iterator[pl.DataFrame]) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for frame in frames:
            file.write(frame.write_csv(include_header=file.tell() == 0))
            rows += frame.height
    return rows


def _write_parquet(path: Path, frames: Iterator[pl.DataFrame]) -> int:
    rows = 0
    first = next(frames)
    with pq.ParquetWriter(path, first.to_arrow(compat_level=pl.CompatLevel.oldest()).schema, compression="zstd") as out:
        for frame in chain((first,), frames):
            out.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
            rows += frame.height
    return rows


_FORMS = {"parquet": _write_parquet, "csv": _write_csv}
FORMS = tuple(_FORMS)
"""Formats of an export."""
