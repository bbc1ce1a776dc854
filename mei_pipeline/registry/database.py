"""The connection to the registry: the one module that knows which database it is.

A writer takes the registry's one write lock when its transaction begins, so that what it read is true until it commits:
SQLite's own, in WAL mode with every commit synced to disk; an advisory lock of PostgreSQL.
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
"""How long a writer waits for another one before it gives up."""

_WRITES = "mei_writes"
_WRITE_LOCK = 0x4D4549  # "MEI"; any number will do that all who write to the database agree on
_TRY_EVERY_S = 0.5
_CONTENT = (configs.name, trials.name, "looks")  # the last is the name in version 2


@dataclass(frozen=True)
class Registry:
    """An open registry.

    Attributes:
        url: Where it is, without a password, for messages.
        database: SQLAlchemy's engine; it keeps no connection open between two uses.
        reader: The same for reads, each of which sees one state.
        file: The file, where the database is one.
        wait_s: How long a writer waits for another one, and for a server that went away at a commit, in seconds.
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
    registry = _connect(url, busy_timeout_s)
    with read_transaction(registry) as connection:
        found = version_in(connection, registry.url)
    if found != SCHEMA_VERSION:
        with write_transaction(registry) as connection:
            upgrade(connection, registry.url)
    return registry


def schema_version(url: str) -> int:
    """The version of the tables of the registry at an SQLAlchemy URL, which is left as it is; 0 where it has none yet.

    Raises:
        MeiError: As `open_registry`.
    """
    registry = _connect(url, BUSY_TIMEOUT_S)
    with read_transaction(registry) as connection:
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
    registry = _connect(url, BUSY_TIMEOUT_S)
    with read_transaction(registry) as connection:
        if not version_in(connection, registry.url):
            return True
        known = set(inspect(connection).get_table_names())
        filled = (exists().select_from(table(name)) for name in _CONTENT if name in known)
        return not connection.execute(select(or_(false(), *filled))).scalar()


def shown_url(url: str) -> str:
    """Return an SQLAlchemy URL without its password, for messages.

    Raises:
        ConfigError: It is not a URL of a registry.
    """
    return _address(url).render_as_string(hide_password=True)


@contextmanager
def read_transaction(registry: Registry) -> Generator[Connection]:
    """Give a connection whose reads see one state of the registry.

    Raises:
        MeiError: The database said no; the message names it and what to do.
    """
    with _translate_errors(registry), registry.reader.connect() as connection, connection.begin():
        yield connection


@contextmanager
def write_transaction(registry: Registry) -> Generator[Connection]:
    """Give a connection in a transaction that is committed whole at the end, or not at all.

    If a server is lost at the commit, the outcome is read back from it.

    Raises:
        OutcomeUnknown: The connection was lost at the commit, and the server doesn't say whether it took effect.
        MeiError: The database said no, and nothing was written; the message names it and what to do.
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
    """Return if a transaction was committed whose session ended at the commit.

    Raises:
        OutcomeUnknown: The server does not say, or does not come back in time.
        Retryable: It was not committed.
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
    """`committed`, `aborted` or `in progress`; None if the server is away or has forgotten the transaction."""
    try:
        with registry.database.connect() as connection:
            found: str | None = connection.execute(select(func.txid_status(number))).scalar()
            return found
    except DBAPIError:
        return None


def insert_once(connection: Connection, target: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its identity is there; say whether it was inserted.

    Another writer that inserts the same row at the same instant is waited for and counts as having been first.
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
            "MEI_REGISTRY_URL: not an SQLAlchemy URL; allowed: sqlite:///<file>, postgresql+<driver>://<user>@<host>/<name>"
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
    wait_ms = max(1, round(busy_timeout_s * 1000))  # 0 would be to wait for ever
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
    """An engine for a file beside which nothing can be written, as on a disk that is mounted read-only."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(files.sqlite_uri(path), uri=True)

    database = create_engine("sqlite://", poolclass=NullPool, creator=connect)
    _set_begin_statements(database, to_read=("BEGIN",), to_write=("BEGIN IMMEDIATE",))
    event.listen(database, "connect", _prepare_sqlite)
    return database


def _enable_wal(path: Path, busy_timeout_s: float) -> None:
    """Put the file into WAL mode, which it keeps.

    SQLite waits for no one when it changes the mode: of two that open a new file at once, one would be told that it is
    locked. So they take turns, before either has a connection that could be in the other's way. Most commands find a
    file that is in WAL mode, and take no lock.
    """
    if _is_wal(path):
        return
    with (
        files.locked(path.with_name(f"{path.name}.lock"), "opening the registry", wait_s=busy_timeout_s),
        closing(sqlite3.connect(path, timeout=busy_timeout_s)) as handle,
    ):
        handle.execute("PRAGMA journal_mode = WAL").close()


def _is_wal(path: Path) -> bool:
    """Return True if the header of a file says WAL mode: its write and read versions are 2."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError:  # SQLite says what is wrong with it
        return False


def _prepare_sqlite(handle: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions late and by its own rules; `_set_begin_statements` begins them.
    handle.isolation_level = None
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        handle.execute(f"PRAGMA {pragma}").close()


def _set_begin_statements(database: Engine, *, to_read: Sequence[str], to_write: Sequence[str]) -> None:
    """Begin each transaction of an engine with these statements."""

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
    """Whether a server accepts connections, as PostgreSQL's own library finds out without logging in."""
    if database.dialect.driver != "psycopg":
        return False
    driver: Any = database.dialect.dbapi
    known = {option.keyword.decode() for option in driver.pq.Conninfo.get_defaults()}
    _, parts = database.dialect.create_connect_args(database.url)
    address = driver.conninfo.make_conninfo(**{name: value for name, value in parts.items() if name in known})
    return bool(driver.pq.PGconn.ping(address.encode()) == driver.pq.Ping.OK)
