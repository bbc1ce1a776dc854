"""The connection to the registry: the one module that knows which database it is.

A writer takes the registry's one write lock when its transaction begins, so that what it read is true until it commits:
SQLite's own, in WAL mode with every commit synced to disk; an advisory lock of PostgreSQL.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    NullPool,
    Table,
    create_engine,
    event,
    exists,
    false,
    insert,
    inspect,
    or_,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from mei_pipeline import files
from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError, Refused, Retryable
from mei_pipeline.registry.migrate import upgrade, version_in
from mei_pipeline.registry.tables import SCHEMA_VERSION, configs, looks

BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for another one before it gives up."""

_WRITES = "mei_writes"
_WRITE_LOCK = 0x4D4549  # "MEI"; any number will do that all who write to the database agree on
_BACKUP = "restore it from a backup"
_CAUSES: tuple[tuple[tuple[str, ...], type[MeiError], str, str], ...] = (
    (("locked", "lock timeout"), Busy, "", "another process writes to it; wait for it to end and try again"),
    (("malformed", "not a database", "disk i/o error"), DataError, "damaged: ", _BACKUP),
    (("no such table", "no such column", "undefinedtable", "undefinedcolumn"), DataError, "damaged: ", _BACKUP),
    (("already exists",), DataError, "damaged: ", _BACKUP),
    (("readonly", "read-only"), DataError, "", "make it writable for this user"),
    (("unable to open", "permission denied"), DataError, "", "make it writable for this user"),
    (
        ("does not exist", "authentication failed", "no password"),
        ConfigError,
        "",
        "make it, or correct MEI_REGISTRY_URL",
    ),
)
"""What a driver's words mean, the first that fit: the error, what comes before the words, and what to do."""


@dataclass(frozen=True)
class Registry:
    """An open registry.

    Attributes:
        url: Where it is, without a password, for messages.
        engine: SQLAlchemy's engine; it keeps no connection open between two uses.
        reader: The same for reads, each of which sees one state.
    """

    url: str
    engine: Engine
    reader: Engine


def open_registry(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Registry:
    """Open the registry at an SQLAlchemy URL; an empty database gets its tables, an older one is brought forward.

    Args:
        url: `sqlite:///<path of a file>` or `postgresql+<driver>://…`.
        busy_timeout_s: How long to wait for another writer, in seconds.

    Raises:
        ConfigError: The URL is wrong, or its driver is not installed.
        DataError: The database is damaged, can't be opened, or belongs to something else.
        Refused: A newer MEI wrote it.
        Retryable: The server does not answer, or another process holds the database.
    """
    registry = _connected(url, busy_timeout_s)
    with reading(registry) as connection:
        found = version_in(connection, registry.url)
    if found != SCHEMA_VERSION:
        with writing(registry) as connection:
            upgrade(connection, registry.url)
    return registry


def schema_version(url: str) -> int:
    """The version of the tables of the registry at an SQLAlchemy URL, which is left as it is; 0 where it has none yet.

    Raises:
        MeiError: As `open_registry`.
    """
    registry = _connected(url, BUSY_TIMEOUT_S)
    with reading(registry) as connection:
        return version_in(connection, registry.url)


def registry_is_empty(url: str) -> bool:
    """Return whether the registry at an SQLAlchemy URL is missing or holds neither a config nor a look.

    A file that is missing is not created.

    Raises:
        MeiError: As `open_registry`.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        return True
    registry = _connected(url, BUSY_TIMEOUT_S)
    with reading(registry) as connection:
        if not version_in(connection, registry.url):
            return True
        known = set(inspect(connection).get_table_names())
        filled = (exists().select_from(table) for table in (configs, looks) if table.name in known)
        return not connection.execute(select(or_(false(), *filled))).scalar()


def shown_url(url: str) -> str:
    """Return an SQLAlchemy URL without its password, for messages.

    Raises:
        ConfigError: It is not a URL of a registry.
    """
    return _address(url).render_as_string(hide_password=True)


@contextmanager
def reading(registry: Registry) -> Iterator[Connection]:
    """Give a connection whose reads see one state of the registry.

    Raises:
        MeiError: The database said no; the message names it and what to do.
    """
    with _translated(registry.url), registry.reader.connect() as connection, connection.begin():
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


def _connected(url: str, busy_timeout_s: float) -> Registry:
    address = _address(url)
    shown = address.render_as_string(hide_password=True)
    if address.get_backend_name() == "sqlite":
        engine = _sqlite(address, busy_timeout_s)
        return Registry(shown, engine, engine)
    engine = _server(address, shown, busy_timeout_s)
    return Registry(shown, engine, engine.execution_options(isolation_level="REPEATABLE READ"))


def _server(address: URL, shown: str, busy_timeout_s: float) -> Engine:
    try:
        engine = create_engine(address, poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{shown}: the driver {error.name} is not installed; uv sync --extra postgres") from error
    wait_ms = max(1, round(busy_timeout_s * 1000))  # 0 would be to wait for ever
    lock = (f"SET LOCAL lock_timeout = {wait_ms}", f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
    _begin_by(engine, to_read=(), to_write=lock)
    return engine


def _sqlite(address: URL, busy_timeout_s: float) -> Engine:
    if not address.database or address.database == ":memory:":
        raise ConfigError(f"{address}: a registry needs a file; write sqlite:///<path>")
    path = Path(address.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: folder not made: {error.strerror}; make it writable") from error
    try:
        with _translated(str(address)):
            _log_ahead(path, busy_timeout_s)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; make the file and its folder writable for this user") from error
    engine = create_engine(address, poolclass=NullPool, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    _begin_by(engine, to_read=("BEGIN",), to_write=("BEGIN IMMEDIATE",))
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
    # The driver would begin transactions late and by its own rules; `_begin_by` begins them.
    handle.isolation_level = None
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        handle.execute(f"PRAGMA {pragma}").close()


def _begin_by(engine: Engine, *, to_read: Sequence[str], to_write: Sequence[str]) -> None:
    """Begin each transaction of an engine with these statements."""

    def begin(connection: Connection) -> None:
        for statement in to_write if connection.get_execution_options().get(_WRITES) else to_read:
            connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


@contextmanager
def _translated(shown: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise _explained(shown, error) from error


def _explained(shown: str, error: DBAPIError | sqlite3.Error) -> MeiError:
    origin = error.orig if isinstance(error, DBAPIError) else error
    cause = next(iter(str(origin).strip().splitlines()), "no reason given")
    words = f"{type(origin).__name__} {cause}".lower()
    for known, kind, before, advice in _CAUSES:
        if any(word in words for word in known):
            return kind(f"{shown}: {before}{cause}; {advice}")
    if isinstance(error, IntegrityError):
        return Refused(f"{shown}: {cause}")
    return Retryable(f"{shown}: nothing was written: {cause}")
