"""Append events and rows to a journal.

An event and its rows are in one transaction, which `commit` ends. SQLite's constraints are the proof that no order and
no fill exists twice: a row that breaks one ends the transaction with `Fatal`.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from mei_pipeline import files
from mei_pipeline.errors import Fatal, OutcomeUnknown
from mei_pipeline.execution import rows
from mei_pipeline.execution.events import EVENTS, AnyEvent, Checkpoint, Event, Started, Warmed
from mei_pipeline.execution.journal.failures import journal_error
from mei_pipeline.execution.journal.meta import JournalMeta
from mei_pipeline.registry.render import FaultHook, no_fault

CHECKPOINTS_KEPT = 2

TABLES: dict[type, str] = {
    rows.OrderRow: "orders",
    rows.FillRow: "fills",
    rows.FundingRow: "funding",
    rows.PositionRow: "positions",
    rows.TradeRow: "trades",
    rows.DecisionRow: "decisions",
    rows.EquityRow: "equity",
    rows.ConfigChangeRow: "config_changes",
    rows.HoldRow: "holds",
}
"""Table of each class of rows."""

INSERTED = frozenset({rows.FillRow, rows.FundingRow})
"""Classes whose rows are never replaced; their tables also have `seq` of the event and `part`, the place in it."""

_EVENT = "INSERT INTO events (seq, event, step_ms, venue_ms, seen_ms, body) VALUES (?, ?, ?, ?, ?, ?)"
# A second order with the same intent, or a second intent with the same order, breaks a unique constraint.
_INTENT = """INSERT INTO intents (origin, symbol, purpose, attempt, cloid) SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
SELECT 1 FROM intents WHERE origin = ?1 AND symbol = ?2 AND purpose = ?3 AND attempt = ?4 AND cloid = ?5)"""
_NO_POSITION = "DELETE FROM positions WHERE config_id = ? AND symbol = ?"
_OLD_CHECKPOINTS = "DELETE FROM checkpoints WHERE seq NOT IN (SELECT seq FROM checkpoints ORDER BY seq DESC LIMIT ?)"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyEvent).decode
_values = msgspec.structs.astuple


def _upsert(kind: type) -> str:
    """Return the SQL that writes a row of a class."""
    names, keys = kind.__struct_fields__, rows.KEYS[kind]
    if kind in INSERTED:
        names = ("seq", "part", *names)
    values = ", ".join("?" * len(names))
    sql = f"INSERT INTO {TABLES[kind]} ({', '.join(names)}) VALUES ({values})"  # noqa: S608 - names of our own tables
    if kind in INSERTED:
        return sql
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return f"{sql} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


_SQL = {kind: _upsert(kind) for kind in TABLES}
_intent_of = attrgetter("origin", "symbol", "purpose", "attempt", "cloid")
_KEY: dict[type, Callable[[Any], Any]] = {
    **{kind: attrgetter(*rows.KEYS[kind]) for kind in TABLES if kind not in INSERTED},
    rows.OrderRow: _intent_of,  # an order with another intent must reach the constraints of both tables
}
_OF_STEPS = frozenset(kind for kind in EVENTS if "step_ms" in kind.__struct_fields__)
_MORE = frozenset({Checkpoint, Started, Warmed})  # events that change more than the table of events


class CheckpointFact(msgspec.Struct, frozen=True, kw_only=True):
    """The event of a checkpoint, whose state is in the table `checkpoints` while it is one of the last two.

    Attributes:
        event: `Checkpoint`.
        venue_ms: Time of the event, UTC milliseconds.
        sha256: Hash of the state.
        bytes: Size of the state.
    """

    event: str
    venue_ms: int | None
    sha256: str
    bytes: int


class Journal:
    """An open journal, with at most one transaction in progress.

    After an error the transaction is rolled back, and the journal is as after the last commit.

    Attributes:
        path: The file.
        meta: The journal's identity when it was opened.
        connection: Its connection, for the functions of `reader` and `frames`.
        last_seq: Number of the last event, uncommitted ones included; 0 if there is none.
        committed_seq: Number of the last committed event.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, meta: JournalMeta, fault_hook: FaultHook = no_fault
    ) -> None:
        """Take over an open connection; see `opening.open_journal`."""
        self.path = path
        self.meta = meta
        self.connection = connection
        self.last_seq: int = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
        self.committed_seq = self.last_seq
        self._fault_hook = fault_hook
        # Appended, not written yet. Of several rows with the same key only the last one is kept.
        self._events: list[tuple[Any, ...]] = []
        self._inserted: dict[type, list[tuple[int, int, Any]]] = {kind: [] for kind in INSERTED}
        self._rows: dict[type, dict[Any, Any]] = {kind: {} for kind in _KEY}
        self._row: msgspec.Struct | None = None  # in progress, for messages
        self._durable = True  # as `opening` leaves PRAGMA synchronous
        self._unsynced = False

    def append(self, event: Event, seen_ms: int, rows: Iterable[msgspec.Struct] = ()) -> int:
        """Append an event and the rows that it changes to the transaction, and return the number of the event.

        After a commit that was not durable, rows wait for the next commit, which then raises the errors of their
        values: a batch of steps writes each row once, however often it changes.

        Args:
            event: The event.
            seen_ms: Time at which the process saw it, UTC milliseconds.
            rows: Rows of projections (`rows.Row`). A row replaces the one with its key. A position of size 0 removes
                it. Rows of fills and funding are never replaced.

        Raises:
            Fatal: A fill, funding payment, intent or order exists already, or a value is missing, impossible or, in
                the event, not finite.
            Busy: Another process writes to the journal.
            Retryable: The disk is full or fails.
            DataError: The file is damaged or can't be written.
        """
        return self.append_all((event,), seen_ms, rows)

    def append_all(self, events: Sequence[Event], seen_ms: int, rows: Iterable[msgspec.Struct] = ()) -> int:
        """Append events, and the rows that the last one changes; see `append`. Return the number of the last event."""
        seq = self.last_seq
        try:
            if not self.connection.in_transaction:
                self.connection.execute("BEGIN IMMEDIATE")
            for event in events:
                seq += 1
                self._append_event(seq, event, seen_ms)
            if rows:
                self._keep_rows(seq, rows)
                if self._durable:
                    self._flush()
        except BaseException as error:
            self._undo(error, type(events[-1]).__name__)
            raise
        self.last_seq = seq
        return seq

    def commit(self, *, durable: bool = True) -> None:
        """End the transaction.

        Args:
            durable: Return when the disk has it. Otherwise a power failure can undo the last commits, whole
                transactions from the end; the death of the process can't.

        Raises:
            Retryable: The disk is full or fails; the transaction is rolled back.
            OutcomeUnknown: The transaction ended, and the disk may not have it.
        """
        if durable:
            self._fault_hook("journal commit")
        try:
            if self.connection.in_transaction:
                self._flush()
                self.connection.execute("COMMIT")
                self.committed_seq = self.last_seq
                self._unsynced = not self._durable
            if durable and self._unsynced:
                self._sync()
            if durable != self._durable:
                # SQLite changes the level only between transactions, so it holds from the next one on.
                self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
        except BaseException as error:
            self._undo(error, "commit")
            raise
        if durable:
            self._fault_hook("journal committed")

    def rollback(self) -> None:
        """Discard the transaction."""
        for waiting in (self._events, *self._inserted.values(), *self._rows.values()):
            waiting.clear()
        with suppress(sqlite3.Error):  # after some errors SQLite has rolled back itself
            self.connection.execute("ROLLBACK")
        self.last_seq = self.committed_seq

    def close(self) -> None:
        """Discard the transaction in progress and close the file."""
        self.rollback()
        self.connection.close()

    def _undo(self, error: BaseException, doing: str) -> None:
        """Roll the transaction back after an error, and raise MEI's error for one of SQLite.

        Args:
            error: The error.
            doing: What was being written, for the message.
        """
        row = self._row
        self.rollback()
        if isinstance(error, sqlite3.Error):
            raise journal_error(self.path, error, doing if row is None else f"{doing}, {_named(row)}") from error

    def _append_event(self, seq: int, event: Event, seen_ms: int) -> None:
        name, body = type(event).__name__, _encode(event)
        if b"null" in body:
            self._check_readable(event, body)
        step_ms: int | None = getattr(event, "step_ms") if type(event) in _OF_STEPS else None  # noqa: B009 - a class that has it
        stored = (seq, name, step_ms, event.venue_ms, seen_ms)
        if type(event) in _MORE:
            self._append_more(stored, event, body)
        else:
            self._events.append((*stored, body.decode()))

    def _append_more(self, stored: tuple[Any, ...], event: Event, body: bytes) -> None:
        """Append an event that changes more than the table of events, and write that."""
        execute = self.connection.execute
        if not isinstance(event, Checkpoint):
            self._events.append((*stored, body.decode()))
            if isinstance(event, Started):
                execute("UPDATE meta SET kernel_hash = ?", (event.kernel_hash,))
            if isinstance(event, Warmed):
                execute("UPDATE meta SET anchor_ms = coalesce(anchor_ms, ?)", (event.anchor_ms,))
            return
        digest = hashlib.sha256(body).hexdigest()
        fact = CheckpointFact(event="Checkpoint", venue_ms=event.venue_ms, sha256=digest, bytes=len(body))
        self._events.append((*stored, _encode(fact).decode()))
        self._flush()
        execute("INSERT INTO checkpoints (seq, body) VALUES (?, ?)", (stored[0], body))
        execute(_OLD_CHECKPOINTS, (CHECKPOINTS_KEPT,))

    def _keep_rows(self, seq: int, rows: Iterable[msgspec.Struct]) -> None:
        for part, row in enumerate(rows):
            kind = type(row)
            if kind in INSERTED:
                self._inserted[kind].append((seq, part, row))
            else:
                self._rows[kind][_KEY[kind](row)] = row

    def _flush(self) -> None:
        """Write what was appended since the last time; many rows at once cost half as much as one by one."""
        write = self.connection.executemany
        if self._events:
            write(_EVENT, self._events)
            self._events.clear()
        for kind, added in self._inserted.items():
            if added:
                write(_SQL[kind], self._each_inserted(added))
                added.clear()
        for kind, kept in self._rows.items():
            if kept:
                self._replace_rows(kind, kept.values())
                kept.clear()
        self._row = None

    def _replace_rows(self, kind: type, kept: Iterable[Any]) -> None:
        """Write the rows of a class whose rows are replaced."""
        write = self.connection.executemany
        if kind is rows.OrderRow:
            write(_INTENT, (_intent_of(row) for row in self._each(kept)))
        elif kind is rows.PositionRow:
            write(_NO_POSITION, [(row.config_id, row.symbol) for row in kept if row.size == 0.0])
            kept = [row for row in kept if row.size != 0.0]
        write(_SQL[kind], (_values(row) for row in self._each(kept)))

    def _each(self, kept: Iterable[Any]) -> Iterator[Any]:
        """Yield rows, and remember the one that is being written."""
        for row in kept:
            self._row = row
            yield row

    def _each_inserted(self, added: Iterable[tuple[int, int, Any]]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of rows with their places, and remember the row that is being written."""
        for seq, part, row in added:
            self._row = row
            yield (seq, part, *_values(row))

    def _check_readable(self, event: Event, body: bytes) -> None:
        """Raise if recovery could not read an event: JSON has no NaN and no infinity, and null stands for both."""
        try:
            _decode(body)
        except msgspec.DecodeError as error:
            raise Fatal(
                f"{self.path}: {type(event).__name__} has NaN or infinity where a number must be: {error}; nothing was"
                " written. Stop the lane and report a defect of MEI"
            ) from error

    def _sync(self) -> None:
        """Make commits durable that did not wait for the disk: all of them are in the log beside the file."""
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            handle = os.open(log, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise OutcomeUnknown(
                f"{log}: the last commits may not be on the disk: {files.explain(error, log)}; stop the lane and start"
                " it again, which reads what the disk has"
            ) from error
        self._unsynced = False


def _named(row: msgspec.Struct) -> str:
    """Return a row's class and key, for messages."""
    keys = rows.KEYS.get(type(row), ())
    return f"{type(row).__name__} " + ", ".join(f"{key} {getattr(row, key)}" for key in keys)
