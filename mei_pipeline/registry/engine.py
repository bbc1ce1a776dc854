"""The connection to the registry: the one module that knows which database it is.

SQLite runs in WAL mode with every commit synced to disk; a writer takes the write lock when its transaction begins, so
that two writers never see each other's half. PostgreSQL needs a URL and its driver, nothing else.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, Table, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from mei_pipeline import files
from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError, Refused, Retryable
from mei_pipeline.registry.tables import METADATA, SCHEMA_VERSION, schema_version

BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for another one before it gives up."""

_WRITES = "mei_writes"
_DAMAGED = ("malformed", "not a database", "disk i/o error", "no such table", "no such column")


@dataclass(frozen=True)
class Registry:
    """An open registry.

    Attributes:
        url: Where it is, without a password, for messages.
        engine: SQLAlchemy's engine; it keeps no connection open between two uses.
    """

    url: str
    engine: Engine


def open_registry(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Registry:
    """Open the registry at an SQLAlchemy URL; an empty database gets its tables.

    Args:
        url: `sqlite:///<path of a file>` or `postgresql+<driver>://…`.
        busy_timeout_s: How long to wait for another writer of an SQLite file, in seconds.

    Raises:
        ConfigError: The URL is wrong, or its driver is not installed.
        DataError: The database is damaged, can't be opened, or belongs to something else.
        Refused: A newer MEI wrote it.
        Retryable: The server does not answer, or another process holds the database.
    """
    address = _address(url)
    shown = address.render_as_string(hide_password=True)
    is_file = address.get_backend_name() == "sqlite"
    registry = Registry(shown, _sqlite(address, busy_timeout_s) if is_file else _server(address, shown))
    with reading(registry) as connection:
        known = _check_schema(connection, shown)
    if not known:
        with writing(registry) as connection:
            if not _check_schema(connection, shown):
                METADATA.create_all(connection)
                connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
    return registry


@contextmanager
def reading(registry: Registry) -> Iterator[Connection]:
    """Give a connection whose reads see one state of the registry.

    Raises:
        MeiError: The database said no; the message names it and what to do.
    """
    with _translated(registry.url), registry.engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(registry: Registry) -> Iterator[Connection]:
    """Give a connection in a transaction that is committed whole at the end, or not at all.

    Raises:
        MeiError: The database said no, and nothing was written; the message names it and what to do.
    """
    with (
        _translated(registry.url),
        registry.engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin(),
    ):
        yield connection


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its identity is there; say whether it was inserted.

    Another writer that inserts the same row at the same instant is waited for and counts as having been first.
    """
    try:
        with connection.begin_nested():
            connection.execute(insert(table).values(**row))
    except IntegrityError:
        return False
    return True


def _address(url: str) -> URL:
    try:
        address = make_url(url)
        address.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            "MEI_REGISTRY_URL: not an SQLAlchemy URL; allowed: sqlite:///<file>, postgresql+<driver>://<user>@<host>/<name>"
        ) from error
    return address


def _server(address: URL, shown: str) -> Engine:
    try:
        return create_engine(address, poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{shown}: the driver {error.name} is not installed; install it beside MEI") from error


def _sqlite(address: URL, busy_timeout_s: float) -> Engine:
    if not address.database or address.database == ":memory:":
        raise ConfigError(f"{address}: a registry needs a file; write sqlite:///<path>")
    try:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{address.database}: folder not made: {error.strerror}; make it writable") from error
    with _translated(str(address)):
        _log_ahead(Path(address.database), busy_timeout_s)
    engine = create_engine(address, poolclass=NullPool, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _log_ahead(path: Path, busy_timeout_s: float) -> None:
    """Put the file into WAL mode, which it keeps.

    SQLite waits for no one when it changes the mode: of two that open a new file at once, one would be told that it is
    locked. So they take turns, before either has a connection that could be in the other's way.
    """
    with (
        files.locked(path.with_name(f"{path.name}.lock"), "opening the registry", wait_s=busy_timeout_s),
        closing(sqlite3.connect(path, timeout=busy_timeout_s)) as handle,
    ):
        handle.execute("PRAGMA journal_mode = WAL").close()


def _prepare_sqlite(handle: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions late and by its own rules; `_begin_sqlite` begins them.
    handle.isolation_level = None
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        handle.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_schema(connection: Connection, shown: str) -> bool:
    """Whether the tables are there, of the version that this MEI knows."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return False
    if schema_version.name not in tables:
        raise DataError(f"{shown}: no registry of MEI, it holds {', '.join(sorted(tables)[:3])}; name another database")
    versions = list(connection.execute(select(schema_version.c.version)).scalars())
    if len(versions) == 1 and versions[0] > SCHEMA_VERSION:
        raise Refused(
            f"{shown}: a newer MEI wrote it (schema version {versions[0]}, this one knows {SCHEMA_VERSION}); update MEI"
        )
    if versions != [SCHEMA_VERSION]:
        raise DataError(f"{shown}: schema version is {versions}, {SCHEMA_VERSION} expected; restore it from a backup")
    return True


@contextmanager
def _translated(shown: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise _explained(shown, error) from error


def _explained(shown: str, error: DBAPIError | sqlite3.Error) -> MeiError:
    cause = str(error.orig if isinstance(error, DBAPIError) else error).strip()
    words = cause.lower()
    if "locked" in words:
        return Busy(f"{shown}: another process writes to it; wait for it to end and try again")
    if any(word in words for word in _DAMAGED):
        return DataError(f"{shown}: damaged: {cause}; restore it from a backup")
    if "readonly" in words or "unable to open" in words:
        return DataError(f"{shown}: {cause}; make the file and its folder writable for this user")
    if isinstance(error, IntegrityError):
        return Refused(f"{shown}: {cause}")
    return Retryable(f"{shown}: nothing was written: {cause}")
