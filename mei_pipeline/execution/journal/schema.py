"""Tables and views of a journal, and the upgrade of a journal that an earlier MEI wrote.

The SQL of a version never changes once released; a later version is another entry of `MIGRATIONS`. Views hold no data,
so each upgrade creates them anew from the tables.
"""

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x4D45494A
"""`PRAGMA application_id` of a journal: the letters MEIJ."""

_TABLES_1 = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    lane TEXT NOT NULL,
    venue TEXT NOT NULL,
    feed TEXT NOT NULL,
    book_id TEXT NOT NULL CHECK (length(book_id) = 8),
    former_book_ids TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    kernel_hash TEXT NOT NULL,
    anchor_ms INTEGER,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    step_ms INTEGER,
    venue_ms INTEGER,
    seen_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE checkpoints (
    seq INTEGER PRIMARY KEY REFERENCES events (seq),
    body BLOB NOT NULL
) STRICT;
CREATE TABLE intents (
    origin TEXT NOT NULL,
    symbol TEXT NOT NULL,
    purpose TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    cloid TEXT NOT NULL UNIQUE,
    PRIMARY KEY (origin, symbol, purpose, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE orders (
    cloid TEXT PRIMARY KEY REFERENCES intents (cloid),
    origin TEXT NOT NULL,
    symbol TEXT NOT NULL,
    purpose TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    state TEXT NOT NULL,
    lots INTEGER NOT NULL CHECK (lots <> 0),
    lot_decimals INTEGER NOT NULL,
    limit_price TEXT,
    tif TEXT NOT NULL,
    reduce_only INTEGER NOT NULL CHECK (reduce_only IN (0, 1)),
    expires_ms INTEGER NOT NULL,
    oid TEXT NOT NULL,
    filled_lots INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE fills (
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE,
    cloid TEXT NOT NULL,
    config_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    reason TEXT NOT NULL,
    moment TEXT NOT NULL,
    size REAL NOT NULL,
    price REAL NOT NULL,
    fee_usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    held REAL NOT NULL,
    signal INTEGER NOT NULL,
    trade INTEGER NOT NULL,
    PRIMARY KEY (seq, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE funding (
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE,
    config_id TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    price REAL NOT NULL,
    held REAL NOT NULL,
    trade INTEGER NOT NULL,
    PRIMARY KEY (seq, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    size REAL NOT NULL CHECK (size <> 0.0),
    entry_price REAL NOT NULL,
    stop REAL,
    target REAL,
    margin_usd REAL NOT NULL,
    leverage REAL NOT NULL,
    opened_ms INTEGER NOT NULL,
    trade INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (config_id, symbol)
) STRICT, WITHOUT ROWID;
CREATE TABLE trades (
    trade INTEGER PRIMARY KEY,
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('long', 'short')),
    entry_ms INTEGER NOT NULL,
    exit_ms INTEGER,
    entry_price REAL NOT NULL,
    exit_price REAL,
    size REAL NOT NULL,
    adds INTEGER NOT NULL,
    partials INTEGER NOT NULL,
    reason TEXT,
    fees_usd REAL NOT NULL,
    funding_usd REAL NOT NULL,
    pnl_usd REAL NOT NULL
) STRICT;
CREATE TABLE decisions (
    step_ms INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    verdict TEXT NOT NULL,
    signal INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (step_ms, config_id, symbol)
) STRICT, WITHOUT ROWID;
CREATE TABLE equity (
    step_ms INTEGER PRIMARY KEY,
    equity_usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    margin_usd REAL NOT NULL,
    open_positions INTEGER NOT NULL,
    drawdown_usd REAL NOT NULL
) STRICT;
CREATE TABLE config_changes (
    time_ms INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    size_multiplier REAL NOT NULL,
    change TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (time_ms, generation, change)
) STRICT, WITHOUT ROWID;
CREATE TABLE holds (
    name TEXT NOT NULL,
    symbol TEXT NOT NULL,
    owner TEXT NOT NULL,
    effect TEXT NOT NULL CHECK (effect IN ('close_only', 'halt')),
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    lifted_ms INTEGER,
    PRIMARY KEY (name, since_ms)
) STRICT, WITHOUT ROWID;
"""

APPEND_ONLY = ("events", "intents", "fills", "funding")
"""Tables whose rows never change: triggers refuse any change."""

_TRIGGERS_1 = "".join(
    f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;\n"
    for table in ("events", "intents", "fills", "funding")
    for verb in ("UPDATE", "DELETE")
)

_FOLDER_2 = "ALTER TABLE meta ADD COLUMN folder TEXT NOT NULL DEFAULT '';\n"

MIGRATIONS: tuple[str, ...] = (_TABLES_1 + _TRIGGERS_1, _FOLDER_2)
"""SQL that brings the tables from one version to the next; the first entry makes version 1 of an empty file."""

SCHEMA_VERSION = len(MIGRATIONS)

VIEWS: dict[str, str] = {
    "orders": "created_ms, cloid",
    "fills": "seq, part",
    "trades": "trade",
    "positions": "config_id, symbol",
    "decisions": "step_ms, config_id, symbol",
    "equity": "step_ms",
    "funding": "seq, part",
    "config_changes": "time_ms, generation, instr('waiting opened paused resumed resized draining closed', change)",
    "holds": "since_ms, name",
    "events": "seq",
    "meta": "lane",
}
"""Tables with a view `v_<table>` for readers outside the executor, and the order of its rows, oldest first."""

_LOTS = {"lots": "size", "filled_lots": "filled_size"}
"""Columns in lots, and the name of the column in coins that a view adds."""


def upgrade(connection: sqlite3.Connection, version: int, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the tables of a journal from a version to the last one, within the caller's transaction.

    Args:
        connection: A connection with a transaction for writing.
        version: Version of the tables; 0 for an empty file.
        migrations: SQL of each version.
    """
    if version == len(migrations):
        return
    for script in migrations[version:]:
        _execute_each(connection, script)
    for table in VIEWS:
        connection.execute(f"DROP VIEW IF EXISTS v_{table}")
        connection.execute(_view(connection, table, len(migrations)))
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the names of the columns of a table or view, in order."""
    return tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))


def _view(connection: sqlite3.Connection, table: str, version: int) -> str:
    """Return the SQL of a view: the columns of its table, times also as text, and lots also in coins."""
    parts: list[str] = []
    for name in columns(connection, table):
        if table == "meta" and name == "id":
            parts.append(f"{version} AS schema_version")
            continue
        parts.append(name)
        if name.endswith("_ms"):
            utc = f"{name.removesuffix('_ms')}_utc"
            parts.append(f"strftime('%Y-%m-%dT%H:%M:%fZ', {name} / 1000.0, 'unixepoch') AS {utc}")
        if name in _LOTS:
            # A quotient of two whole numbers is the float64 next to the decimal, as everywhere in MEI.
            parts.append(f"{name} / CAST('1e' || lot_decimals AS REAL) AS {_LOTS[name]}")
    return f"CREATE VIEW v_{table} AS SELECT {', '.join(parts)} FROM {table}"  # noqa: S608 - names of our own tables


def _execute_each(connection: sqlite3.Connection, script: str) -> None:
    """Execute the statements of a script; `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
