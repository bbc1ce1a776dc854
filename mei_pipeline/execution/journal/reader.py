"""Read a journal: the state and facts that recovery needs, and connections for readers outside the executor."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import AnyEvent, Checkpoint
from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.meta import BUSY_WAIT_S, check_exists, read_meta
from mei_pipeline.execution.journal.writer import CheckpointFact

_decode_event = msgspec.json.Decoder(AnyEvent).decode
_decode_checkpoint = msgspec.json.Decoder(Checkpoint).decode
_decode_fact = msgspec.json.Decoder(CheckpointFact).decode


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that can't write, for the functions of this module and `frames`.

    It works while a process writes to the journal. Close it soon: the log beside the file grows while a transaction
    reads.

    Raises:
        DataError: The file is missing, damaged, not a journal, written by a newer MEI, or can't be read.
    """
    check_exists(path)
    with translated(path):
        connection = sqlite3.connect(files.sqlite_uri(path), uri=True, isolation_level=None, timeout=BUSY_WAIT_S)
    try:
        read_meta(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def last_checkpoint(connection: sqlite3.Connection, until_ms: int | None = None) -> tuple[int, Checkpoint] | None:
    """Return the last complete checkpoint and its number; None if there is none.

    Args:
        connection: The journal.
        until_ms: Latest time on the lane's clock of a checkpoint; None for no limit.

    A checkpoint that differs from its hash, or that this MEI can't read, is passed over: the one before it and the
    events since then lead to the same state.

    Raises:
        DataError: The file is damaged.
    """
    with translated(path_of(connection)):
        for seq, body, fact in connection.execute(
            "SELECT seq, checkpoints.body, events.body FROM checkpoints JOIN events USING (seq) "
            "WHERE ?1 IS NULL OR venue_ms <= ?1 ORDER BY seq DESC",
            (until_ms,),
        ):
            try:
                if _decode_fact(fact).sha256 == hashlib.sha256(body).hexdigest():
                    return seq, _decode_checkpoint(body)
            except msgspec.DecodeError:
                continue
    return None


def events_after(connection: sqlite3.Connection, seq: int, last: int | None = None) -> Iterator[tuple[int, AnyEvent]]:
    """Yield the events with a number above `seq` in order, checkpoints left out, as they change nothing.

    Args:
        connection: The journal.
        seq: Number of the event before the first.
        last: Number of the last event; None for all.

    Raises:
        DataError: The file is damaged, or has an event that this MEI can't read.
    """
    path = path_of(connection)
    with translated(path):
        for number, body in connection.execute(
            "SELECT seq, body FROM events WHERE seq > ?1 AND (?2 IS NULL OR seq <= ?2) AND event <> 'Checkpoint' "
            "ORDER BY seq",
            (seq, last),
        ):
            try:
                event = _decode_event(body)
            except msgspec.DecodeError as error:
                raise DataError(
                    f"{path}: event {number} can't be read: {error}; restore the journal from a backup, or update MEI"
                ) from error
            yield number, event


def check_integrity(path: Path) -> None:
    """Raise if a journal is damaged; all of it is read.

    Raises:
        DataError: The file is missing, damaged, not a journal, written by a newer MEI, or can't be read.
    """
    with closing(connect_read_only(path)) as connection, translated(path):
        [problem] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if problem != "ok":
        raise DataError(f"{path}: damaged: {problem}; stop the lane and restore the journal from a backup")


def path_of(connection: sqlite3.Connection) -> Path:
    """Return the file of a connection, for messages."""
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])
