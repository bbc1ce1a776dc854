"""The registry's database connection. No other module depends on the kind of database.

A writer takes the registry's only write lock at the start of its transaction, so that what it reads stays true until it
commits. SQLite has such a lock; WAL mode with a sync of every commit is used. PostgreSQL uses an advisory lock.
"""

import sqlite3
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
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
    func,
    insert,
    inspect,
    or_,
    select,
    table,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from mei_pipeline import files
from mei_pipeline.errors import ConfigError, Retryable
from mei_pipeline.registry.failures import explain_error, lost_at_commit, unknown_outcome
from mei_pipeline.registry.migrate import upgrade, version_in
from mei_pipeline.registry.tables import SCHEMA_VERSION, configs, trials

BUSY_TIMEOUT_S = 10.0
"""Longest wait of a writer for another writer, in seconds."""

_WRITES = "mei_writes"
_WRITE_LOCK = 0x4D4549  # "MEI" in ASCII; every writer must use the same number
_TRY_EVERY_S = 0.5
_CONTENT = (configs.name, trials.name, "looks")  # the last is the name in version 2


@dataclass(frozen=True)
class Registry:
    """An open registry.

    Attributes:
        url: Its URL without the password, for messages.
        database: SQLAlchemy's connection factory; no connection stays open between two uses.
        reader: The same for reads; each transaction sees one state of the database.
        file: File of the database; None for a server.
        wait_s: Longest wait for another writer, and for a server that was lost at a commit, in seconds.
        transaction_id_sql: Statement that returns the number by which the server remembers a transaction's outcome;
            empty for a file, whose commit always answers.
    """

    url: str
    database: Engine
    reader: Engine
    file: Path | None = None
    wait_s: float = BUSY_TIMEOUT_S
    transaction_id_sql: str = ""


def open_registry(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Registry:
    """Open the registry at an SQLAlchemy URL; create the tables of an empty database, upgrade those of an older one.

    Args:
        url: `sqlite:///<path of a file>` or `postgresql+<driver>://…`.
        busy_timeout_s: Longest wait for another writer, in seconds.

    Raises:
        ConfigError: The URL is wrong, or its driver is not installed.
        DataError: The database is damaged, can't be opened, or belongs to another program.
        Refused: A newer MEI wrote it.
        Retryable: The server does not answer, or another process holds the database.
    """
    registry = _connect(url, busy_timeout_s)
    with read_transaction(registry) as connection:
        found = version_in(connection, registry.url)
    if found != SCHEMA_VERSION:
        with write_transaction(registry) as connection:
            upgrade(connection, registry.url)
    return registry


def schema_version(url: str) -> int:
    """Return the version of the tables of a registry without changing it; 0 if it has no tables yet.

    Raises:
        MeiError: As `open_registry`.
    """
    registry = _connect(url, BUSY_TIMEOUT_S)
    with read_transaction(registry) as connection:
        return version_in(connection, registry.url)


def registry_is_empty(url: str) -> bool:
    """Return True if the registry at an SQLAlchemy URL is missing or has neither a config nor a trial.

    A missing file is not created, and an older database is not upgraded.

    Raises:
        MeiError: As `open_registry`.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        return True
    registry = _connect(url, BUSY_TIMEOUT_S)
    with read_transaction(registry) as connection:
        if not version_in(connection, registry.url):
            return True
        names = set(inspect(connection).get_table_names())
        filled = (exists().select_from(table(name)) for name in _CONTENT if name in names)
        return not connection.execute(select(or_(false(), *filled))).scalar()


def shown_url(url: str) -> str:
    """Return an SQLAlchemy URL without its password, for messages.

    Raises:
        ConfigError: It is not a URL of a registry.
    """
    return _address(url).render_as_string(hide_password=True)


@contextmanager
def read_transaction(registry: Registry) -> Generator[Connection]:
    """Yield a connection whose reads see one state of the registry.

    Raises:
        MeiError: The database reported an error; the message names the database and what to do.
    """
    with _translate_errors(registry), registry.reader.connect() as connection, connection.begin():
        yield connection


@contextmanager
def write_transaction(registry: Registry) -> Generator[Connection]:
    """Yield a connection in a transaction that is committed at the end, or rolled back on an error.

    If the connection to a server is lost at the commit, the outcome is read from the server afterwards.

    Raises:
        OutcomeUnknown: The connection was lost at the commit, and the server does not know the outcome.
        MeiError: The database reported an error, and nothing was written; the message says what to do.
    """
    with (
        _translate_errors(registry),
        registry.database.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin() as transaction,
    ):
        number = (
            connection.exec_driver_sql(registry.transaction_id_sql).scalar() if registry.transaction_id_sql else None
        )
        yield connection
        try:
            transaction.commit()
        except DBAPIError as error:
            if not lost_at_commit(error):
                raise
            _read_back(registry, number, error)


def _read_back(registry: Registry, number: int | None, error: DBAPIError) -> None:
    """Return if the server committed a transaction whose session was lost at the commit.

    Raises:
        OutcomeUnknown: The server does not know, or does not answer in time.
        Retryable: The transaction was not committed.
    """
    until = time.monotonic() + registry.wait_s
    while True:
        outcome = _outcome(registry, number)
        if outcome == "committed":
            return
        if outcome == "aborted":
            raise Retryable(
                f"{registry.url}: the connection was lost at the commit, and nothing was written; try again"
            ) from error
        left_s = until - time.monotonic()
        if left_s <= 0.0:
            raise unknown_outcome(registry.url, error) from error
        time.sleep(min(_TRY_EVERY_S, left_s))


def _outcome(registry: Registry, number: int | None) -> str | None:
    """Return `committed`, `aborted` or `in progress`; None if the server is away or has forgotten the transaction."""
    try:
        with registry.database.connect() as connection:
            found: str | None = connection.execute(select(func.txid_status(number))).scalar()
            return found
    except DBAPIError:
        return None


def insert_once(connection: Connection, target: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless a row with the same id exists, and return True if it was inserted.

    If another writer inserts the same row at the same time, this call waits for it and returns False.
    """
    try:
        with connection.begin_nested():
            connection.execute(insert(target).values(**row))
    except IntegrityError:
        return False
    return True


def _address(url: str) -> URL:
    try:
        address = make_url(url)
        address.get_dialect()
    except ArgumentError as error:
        raise ConfigError(
            "MEI_REGISTRY_URL: not an SQLAlchemy URL; write sqlite:///<file> or postgresql+<driver>://<user>@<host>/<name>"
        ) from error
    return address


def _connect(url: str, busy_timeout_s: float) -> Registry:
    address = _address(url)
    shown = address.render_as_string(hide_password=True)
    if address.get_backend_name() == "sqlite":
        path, database = _open_sqlite(address, busy_timeout_s)
        return Registry(shown, database, database, path, busy_timeout_s)
    database = _open_server(address, shown, busy_timeout_s)
    reader = database.execution_options(isolation_level="REPEATABLE READ")
    return Registry(shown, database, reader, None, busy_timeout_s, "SELECT txid_current()")


def _open_server(address: URL, shown: str, busy_timeout_s: float) -> Engine:
    try:
        database = create_engine(address, poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{shown}: the driver {error.name} is not installed; uv sync --extra postgres") from error
    wait_ms = max(1, round(busy_timeout_s * 1000))  # PostgreSQL waits without limit at 0
    lock = (f"SET LOCAL lock_timeout = {wait_ms}", f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
    _set_begin_statements(database, to_read=(), to_write=lock)
    return database


def _open_sqlite(address: URL, busy_timeout_s: float) -> tuple[Path, Engine]:
    if not address.database or address.database == ":memory:":
        raise ConfigError(f"{address}: a registry needs a file; write sqlite:///<path>")
    path = Path(address.database)
    if path.is_file() and not files.writable(path.parent):
        return path, _open_read_only(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _enable_wal(path, busy_timeout_s)
    except sqlite3.Error as error:
        raise explain_error(str(address), error, file=path) from error
    except OSError as error:
        raise files.refused(error, f"{path}: not opened: {files.explain(error, path)}") from error
    database = create_engine(address, poolclass=NullPool, connect_args={"timeout": busy_timeout_s})
    event.listen(database, "connect", _prepare_sqlite)
    _set_begin_statements(database, to_read=("BEGIN",), to_write=("BEGIN IMMEDIATE",))
    return path, database


def _open_read_only(path: Path) -> Engine:
    """Return the connection factory for a file in a folder that can't be written, as on a read-only disk."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(files.sqlite_uri(path), uri=True)

    database = create_engine("sqlite://", poolclass=NullPool, creator=connect)
    _set_begin_statements(database, to_read=("BEGIN",), to_write=("BEGIN IMMEDIATE",))
    event.listen(database, "connect", _prepare_sqlite)
    return database


def _enable_wal(path: Path, busy_timeout_s: float) -> None:
    """Put a file into WAL mode, which it keeps.

    SQLite does not wait for other connections when it changes the mode: if two processes open a new file at once, one
    of them fails with "locked". A lock file therefore lets one process at a time change the mode. A file that is in
    WAL mode already needs no lock.
    """
    if _is_wal(path):
        return
    with (
        files.locked(path.with_name(f"{path.name}.lock"), "opening the registry", wait_s=busy_timeout_s),
        closing(sqlite3.connect(path, timeout=busy_timeout_s)) as handle,
    ):
        handle.execute("PRAGMA journal_mode = WAL").close()


def _is_wal(path: Path) -> bool:
    """Return True if the header of a file has the read and write versions of WAL mode, 2."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError:  # SQLite reports the problem when it opens the file
        return False


def _prepare_sqlite(handle: sqlite3.Connection, _record: object) -> None:
    # The driver would begin a transaction only at its first write, so reads before it could see an older state.
    handle.isolation_level = None
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        handle.execute(f"PRAGMA {pragma}").close()


def _set_begin_statements(database: Engine, *, to_read: Sequence[str], to_write: Sequence[str]) -> None:
    """Begin each transaction of a database with statements for reading or for writing."""

    def begin(connection: Connection) -> None:
        for statement in to_write if connection.get_execution_options().get(_WRITES) else to_read:
            connection.exec_driver_sql(statement)

    event.listen(database, "begin", begin)


@contextmanager
def _translate_errors(registry: Registry) -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        raise explain_error(
            registry.url, error, file=registry.file, answers=partial(_server_answers, registry.database)
        ) from error


def _server_answers(database: Engine) -> bool:
    """Return True if a server accepts connections, by the ping of PostgreSQL's library, which needs no login."""
    if database.dialect.driver != "psycopg":
        return False
    driver: Any = database.dialect.dbapi
    keywords = {option.keyword.decode() for option in driver.pq.Conninfo.get_defaults()}
    _, parts = database.dialect.create_connect_args(database.url)
    address = driver.conninfo.make_conninfo(**{name: value for name, value in parts.items() if name in keywords})
    return bool(driver.pq.PGconn.ping(address.encode()) == driver.pq.Ping.OK)
