"""Create and open the journal of a lane, and take it over in another home or on another machine."""

import json
import secrets
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.errors import Busy, DataError, Refused
from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.meta import BUSY_WAIT_S, JournalMeta, check_exists, folder_of, read_meta
from mei_pipeline.execution.journal.schema import SCHEMA_VERSION, upgrade
from mei_pipeline.execution.journal.writer import Journal
from mei_pipeline.registry.lanes import JOURNAL_NAME, LOCK_NAME, STATUS_NAME, lane_folder, read_status
from mei_pipeline.registry.render import FaultHook, no_fault

_MODE = 0o600  # positions and orders concern only the user that trades
_OTHERS = 0o077


def journal_path(lanes_folder: Path, lane: str) -> Path:
    """Return the path of a lane's journal.

    Raises:
        ConfigError: No lane can have this name.
    """
    return lane_folder(lanes_folder, lane) / JOURNAL_NAME


def lock_path(lanes_folder: Path, lane: str) -> Path:
    """Return the path of the lock that the user of a lane's journal holds.

    Raises:
        ConfigError: No lane can have this name.
    """
    return lane_folder(lanes_folder, lane) / LOCK_NAME


def check_no_lane_runs(lanes_folder: Path) -> None:
    """Raise if a lane is running, before its folder is replaced.

    An executor would go on in files that were moved or removed, beside another one in the new folder.

    Raises:
        Busy: A process of this machine holds the lock of a lane.
    """
    for lock in sorted(lanes_folder.glob(f"*/{LOCK_NAME}")):
        if holder := files.lock_holder(lock):
            raise Busy(f"{lock}: {holder}; stop it, and try again")


def create_journal(
    path: Path,
    *,
    lane: str,
    venue: str,
    feed: str,
    kernel_hash: str,
    machine_id: str,
    now_ms: int,
    fault_hook: FaultHook = no_fault,
) -> Journal:
    """Create the journal of a lane and open it. The file appears complete, or not at all.

    Args:
        path: The file, which must not exist.
        lane: The lane.
        venue: Venue of its market data.
        feed: Kind of its feed: replay, simulator or the name of an exchange.
        kernel_hash: Kernels of this process.
        machine_id: This machine (`machine.machine_id`).
        now_ms: Time, UTC milliseconds.
        fault_hook: Called before and after each durable commit; tests end the process there.

    Raises:
        Refused: The file exists.
        Retryable: The disk is full or fails.
        DataError: The folder can't be written.
    """
    if path.exists():
        raise Refused(f"{path}: exists already; open it, or move it away")
    meta = (lane, venue, feed, secrets.token_hex(4), "[]", machine_id, kernel_hash, now_ms, folder_of(path))
    with (
        files.replacing(path) as temporary,
        translated(path),
        closing(sqlite3.connect(temporary, isolation_level=None)) as connection,
    ):
        # The file is not in place yet, so it needs no protection against a crash.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN IMMEDIATE")
        upgrade(connection, 0)
        connection.execute(
            "INSERT INTO meta (id, lane, venue, feed, book_id, former_book_ids, machine_id, kernel_hash, created_ms,"
            " folder)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            meta,
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    return open_journal(path, lane=lane, venue=venue, feed=feed, machine_id=machine_id, fault_hook=fault_hook)


def open_journal(
    path: Path,
    *,
    lane: str,
    venue: str,
    feed: str,
    machine_id: str,
    fault_hook: FaultHook = no_fault,
    wait_s: float = BUSY_WAIT_S,
) -> Journal:
    """Open the journal of a lane for writing, and upgrade its tables to the version of this MEI.

    Args:
        path: The file.
        lane: The lane that it must belong to.
        venue: The venue that it must belong to.
        feed: The kind of feed that it must belong to.
        machine_id: The machine that it must belong to.
        fault_hook: Called before and after each durable commit; tests end the process there.
        wait_s: Longest wait for another writer, in seconds, also of later transactions.

    Raises:
        DataError: The file is missing, damaged, not a journal, written by a newer MEI, or can't be written; or it lacks
            events that were on the disk.
        Refused: It belongs to another lane, machine, folder, venue or kind of feed.
        Busy: Another process writes to it.
        Retryable: The disk is full or fails.
    """
    connection = _connect(path, wait_s)
    try:
        with translated(path):
            meta = read_meta(connection, path)
            _check_owner(path, meta, lane=lane, venue=venue, feed=feed, machine_id=machine_id)
            _check_complete(path, meta, connection)
            _begin(path, connection)
            upgrade(connection, meta.schema_version)
            meta = replace(meta, schema_version=SCHEMA_VERSION, folder=folder_of(path))
            connection.execute("UPDATE meta SET folder = ?1 WHERE folder <> ?1", (meta.folder,))  # of version 1
            connection.execute("COMMIT")
            return Journal(path, connection, meta, fault_hook)
    except BaseException:
        connection.close()
        raise


def adopt_journal(path: Path, machine_id: str, wait_s: float = BUSY_WAIT_S) -> JournalMeta:
    """Give a journal to this machine and folder, with a new book id; orders with the former one stay the lane's own.

    The caller holds the lane's lock and knows that no process trades the lane elsewhere.

    Args:
        path: The journal.
        machine_id: This machine.
        wait_s: Longest wait for another writer, in seconds.

    Returns:
        The identity of the journal. The book id is unchanged if the journal belongs to this machine and folder already.

    Raises:
        DataError: The file is missing, damaged, not a journal, written by a newer MEI, or can't be written; or it lacks
            events that were on the disk.
        Busy: A process writes to it.
        Retryable: The disk is full or fails.
    """
    with closing(_connect(path, wait_s)) as connection, translated(path):
        meta = read_meta(connection, path)
        _check_complete(path, meta, connection)
        _begin(path, connection)
        upgrade(connection, meta.schema_version)
        is_own = meta.machine_id == machine_id and meta.folder in {"", folder_of(path)}
        meta = replace(meta, schema_version=SCHEMA_VERSION, machine_id=machine_id, folder=folder_of(path))
        if not is_own:
            former = (*meta.former_book_ids, meta.book_id)
            meta = replace(meta, book_id=secrets.token_hex(4), former_book_ids=former)
        connection.execute(
            "UPDATE meta SET book_id = ?, former_book_ids = ?, machine_id = ?, folder = ?",
            (meta.book_id, json.dumps(meta.former_book_ids), machine_id, meta.folder),
        )
        connection.execute("COMMIT")
    return meta


def _connect(path: Path, wait_s: float) -> sqlite3.Connection:
    """Return a connection for writing, in which the caller begins and ends transactions."""
    # The file is never opened but by SQLite: closing another handle would drop this process's locks on it.
    check_exists(path)
    with translated(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=wait_s,
            check_same_thread=False,  # an executor may commit in another thread than it reads in, one at a time
        )
        try:
            for setting in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
    return connection


def _begin(path: Path, connection: sqlite3.Connection) -> None:
    """Begin a transaction in a file that proved to be the right journal; nothing changes another file."""
    try:
        if path.stat().st_mode & _OTHERS:
            path.chmod(_MODE)
    except OSError as error:
        raise files.refused(error, f"{path}: not opened: {files.explain(error, path)}") from error
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")


def _check_owner(path: Path, meta: JournalMeta, *, lane: str, venue: str, feed: str, machine_id: str) -> None:
    if meta.lane != lane:
        raise Refused(f"{path}: the journal of lane {meta.lane}, not {lane}; put it back into the folder of its lane")
    advice = f"run `mei lane take-over {lane} --yes`"
    if meta.machine_id != machine_id:
        raise Refused(
            f"{path}: the journal of another machine (id {meta.machine_id}, this one has {machine_id}); two machines"
            f" with one journal would trade one book twice. If lane {lane} is stopped there for good, {advice}"
        )
    if meta.folder not in {"", folder_of(path)}:
        raise Refused(
            f"{path}: the journal of another home (it is from {meta.folder}, this is {folder_of(path)}); a copy beside"
            f" the original would trade one book twice. If the home was moved, or lane {lane} is stopped in the other"
            f" one for good, {advice}"
        )
    for key, has, wanted in (("venue", meta.venue, venue), ("feed", meta.feed, feed)):
        if has != wanted:
            raise Refused(
                f"{path}: the journal of {key} {has}, but the lane has {key} {wanted}; set {key}: {has} again, or start"
                " another lane"
            )


def _check_complete(path: Path, meta: JournalMeta, connection: sqlite3.Connection) -> None:
    """Raise if a journal ends before an event that its executor saw on the disk.

    SQLite takes a journal without the log beside it for a complete one, and only the executor's status knows better.
    """
    try:
        status = read_status(path.parent.parent, meta.lane)
    except DataError:
        return  # it is not synced to the disk, so a power failure may damage it
    if status is None or status.book_id != meta.book_id or status.durable_seq is None:
        return
    last_seq = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
    if last_seq < status.durable_seq:
        status_path = path.with_name(STATUS_NAME)
        raise DataError(
            f"{path}: ends with event {last_seq}, but event {status.durable_seq} was on the disk ({status_path}):"
            f" {path.name}-wal was removed, or an older journal was put here. Put the missing file back, or restore the"
            f" lane from a backup. To go on without the lost events, remove {STATUS_NAME}"
        )
