"""Dagster's SQLite storage with open files, for a process that writes hundreds of events.

Dagster opens a file for each statement and closes it afterwards. The last connection that closes a file in WAL mode
writes the log back into the file and syncs both. Each of the 200 events of a nightly run then takes 20 to 30 ms, mostly
waiting for the disk. The files and their content are the same: `mei ui` reads them with Dagster's class.
"""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from dagster._core.instance import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event


def kept_open(reference: InstanceRef) -> InstanceRef:
    """Return the reference with this module's storage instead of Dagster's SQLite storage; other storages stay."""
    data = reference.storage_data
    if data is None or data.class_name != DagsterSqliteStorage.__name__:
        return reference
    ours = ConfigurableClassData(__name__, OpenStorage.__name__, data.config_yaml)
    return reference._replace(storage_data=ours)


class OpenEventLog(SqliteEventLogStorage):
    """Event log with one open connection for the index and one for the current run.

    Attributes:
        held: A connection to the file of runs; it is closed with those of the log.
    """

    def __init__(self, base_dir: str, held: sqlite3.Connection) -> None:
        self.held = held
        self._open: dict[str, Engine] = {}
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Generator[Connection]:
        with self._db_lock:
            with self._engine(shard).connect() as connection, connection.begin():
                yield connection
            if shard != INDEX_SHARD_NAME:
                # `mei ui` follows a run by the time of this file, which SQLite changes only when the log is full.
                os.utime(self.path_for_shard(shard))

    def _engine(self, shard: str) -> Engine:
        if shard not in self._open:
            for other in {*self._open} - {INDEX_SHARD_NAME, shard} if shard != INDEX_SHARD_NAME else ():
                self._open.pop(other).dispose()  # closing dead runs reads hundreds of files
            engine = create_engine(
                self.conn_string_for_shard(shard),
                pool_size=1,
                max_overflow=1,  # Dagster opens a second connection while it creates the tables of a file
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            event.listen(engine, "connect", _sync_less)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._open[shard] = engine
        return self._open[shard]

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        while self._open:
            self._open.popitem()[1].dispose()
        self.held.close()


class OpenStorage(DagsterSqliteStorage):
    """Storage of runs, events and schedules in Dagster's files."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        held = _hold(self._run_storage._conn_string.removeprefix("sqlite:///"))  # noqa: SLF001 - set by the parent
        self._event_log_storage = OpenEventLog(self._event_log_storage._base_dir, held)  # noqa: SLF001 - as above

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "OpenStorage":
        """Return the storage for its part of dagster.yaml."""
        return cls.from_local(inst_data=inst_data, **config_value)


def _hold(path: str) -> sqlite3.Connection:
    """Return an idle connection: while it is open, closing another one does not write the log back."""
    held = sqlite3.connect(path, check_same_thread=False)
    held.execute("SELECT count(*) FROM sqlite_schema").close()
    return held


def _sync_less(handle: sqlite3.Connection, _record: object) -> None:
    """Sync when the log is written back, not at each commit: a power failure may lose events but damages no file."""
    handle.execute("PRAGMA synchronous = NORMAL").close()
