"""The identity of a journal, and the checks that nothing uses the journal of something else."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline.errors import DataError
from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.schema import APPLICATION_ID, SCHEMA_VERSION

BUSY_WAIT_S = 5.0
"""Longest wait for another writer, in seconds."""

_WITH_FOLDER = 2  # version of the tables

_RESTORE = "restore it from a backup"


@dataclass(frozen=True)
class JournalMeta:
    """Identity of a journal.

    Attributes:
        schema_version: Version of its tables.
        lane: The lane.
        venue: Venue of its market data.
        feed: Kind of its feed.
        book_id: 8 hexadecimal digits in the client order id of every order.
        former_book_ids: Earlier book ids, oldest first; orders with one of them are the lane's own.
        machine_id: The machine that may use it (`machine.machine_id`).
        kernel_hash: Kernels of the last process.
        anchor_ms: First bar of the features of the first config, UTC milliseconds; None before.
        created_ms: Time of its creation by the clock of the machine, UTC milliseconds.
        folder: Folder in which it may be used (`folder_of`); empty for a journal of version 1, before it is opened.
    """

    schema_version: int
    lane: str
    venue: str
    feed: str
    book_id: str
    former_book_ids: tuple[str, ...]
    machine_id: str
    kernel_hash: str
    anchor_ms: int | None
    created_ms: int
    folder: str


def folder_of(path: Path) -> str:
    """Return the folder of a journal, without links: a copy of the journal has another one."""
    return str(path.resolve().parent)


def check_exists(path: Path) -> None:
    """Raise if there is no journal.

    Only SQLite opens the file: a process that closes any other handle of it loses its locks on it.

    Raises:
        DataError: There is no file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no journal; the lane never ran in this home, or {_RESTORE}")


def read_meta(connection: sqlite3.Connection, path: Path) -> JournalMeta:
    """Return the identity of a journal.

    Raises:
        DataError: The file is damaged, not a journal, or of a newer MEI.
    """
    with translated(path):
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise DataError(
                f"{path}: a database of another program (application_id {application}, {APPLICATION_ID} allowed); move"
                f" it away, or {_RESTORE}"
            )
        if version > SCHEMA_VERSION:
            raise DataError(
                f"{path}: a newer MEI wrote it (schema version {version}, this one knows {SCHEMA_VERSION}); update MEI"
            )
        found = connection.execute(
            "SELECT lane, venue, feed, book_id, former_book_ids, machine_id, kernel_hash, anchor_ms, created_ms"
            " FROM meta"
        ).fetchall()
        folder = connection.execute("SELECT max(folder) FROM meta").fetchone()[0] if version >= _WITH_FOLDER else ""
    try:
        [(lane, venue, feed, book_id, former, machine, kernels, anchor_ms, created_ms)] = found
        former_ids = tuple(str(book) for book in json.loads(former))
    except ValueError as error:
        raise DataError(f"{path}: damaged: table meta: {error}; {_RESTORE}") from error
    return JournalMeta(version, lane, venue, feed, book_id, former_ids, machine, kernels, anchor_ms, created_ms, folder)
