"""Tables of a journal: they follow the rows, hold what the rows promise, and are upgraded."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import journal_kit as kit
import msgspec
import pytest

from mei_pipeline.execution import rows
from mei_pipeline.execution.journal import schema, writer
from mei_pipeline.execution.journal.frames import COLUMNS, view_frame

STORED = Path(__file__).with_name("journal_v1.sql")
SQL_TYPES = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT"}


@pytest.fixture
def journal(tmp_path):
    with closing(kit.create(tmp_path)) as created:
        yield created


@pytest.fixture
def empty():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize("kind", rows.KEYS, ids=lambda kind: kind.__name__)
def test_a_table_has_the_fields_of_its_rows_with_their_types_and_key(kind, journal):
    table = kit.select(journal, f"PRAGMA table_info({writer.TABLES[kind]})")
    fields = [
        (field.name, SQL_TYPES[kit.first(field.type)], type(None) not in getattr(field.type, "__args__", ()))
        for field in msgspec.structs.fields(kind)
    ]
    numbers = [("seq", "INTEGER", True), ("part", "INTEGER", True)] if kind in writer.INSERTED else []
    # A primary key of one column is NOT NULL by itself.
    found = [(name, sql_type, bool(required or key)) for _, name, sql_type, required, _, key in table]
    assert found == [*numbers, *fields]
    unique = [
        {column for _, _, column in kit.select(journal, f"PRAGMA index_info({index})")}
        for _, index, is_unique, *_ in kit.select(journal, f"PRAGMA index_list({writer.TABLES[kind]})")
        if is_unique
    ]
    assert set(rows.KEYS[kind]) in [*unique, {name for _, name, *_, key in table if key}]


def test_every_class_of_rows_has_a_table_and_every_table_a_view(journal):
    assert set(writer.TABLES) == set(rows.KEYS) == set(rows.Row.__args__)
    assert {*writer.TABLES.values(), "events", "meta"} == set(schema.VIEWS)
    views = {name for (name,) in kit.select(journal, "SELECT name FROM sqlite_schema WHERE type = 'view'")}
    assert views == {f"v_{table}" for table in schema.VIEWS}


def test_a_column_has_one_type_in_all_views(journal):
    types: dict[str, object] = {}
    for kind in writer.TABLES:
        for field in msgspec.structs.fields(kind):
            assert types.setdefault(field.name, kit.first(field.type)) is kit.first(field.type), field.name
    for table in schema.VIEWS:
        for column in schema.columns(journal.connection, f"v_{table}"):
            assert column in COLUMNS or column.endswith("_utc"), (table, column)


@pytest.mark.parametrize("milliseconds", [0, 1, 999, kit.NOW, 1_767_311_999_999, 4_102_444_800_001])
def test_views_show_times_to_the_millisecond_and_sizes_in_coins(milliseconds, journal):
    row = kit.filled_row(rows.OrderRow, created_ms=milliseconds, lots=-123, filled_lots=7, lot_decimals=2)
    journal.append(kit.timer(), kit.NOW, [row])
    [shown] = view_frame(journal.connection, "orders").to_dicts()
    instant = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert shown["created_utc"] == f"{instant}.{milliseconds % 1000:03d}Z"
    assert (shown["size"], shown["filled_size"]) == (-1.23, 0.07)


@pytest.mark.parametrize("table", schema.APPEND_ONLY)
@pytest.mark.parametrize("change", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}"])
def test_rows_of_append_only_tables_can_not_be_changed(table, change, journal):
    journal.append(kit.timer(), kit.NOW, kit.every_row())
    journal.commit()
    column = schema.columns(journal.connection, table)[-1]
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        journal.connection.execute(change.format(table, column))


def test_a_file_of_version_1_is_opened_with_all_that_it_holds(tmp_path):
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(STORED.read_text())
    with closing(kit.reopen(path)) as journal, closing(kit.create(tmp_path / "new")) as new:
        assert journal.meta.schema_version == schema.SCHEMA_VERSION
        assert journal.meta.book_id == "0123abcd"
        assert (journal.last_seq, kit.select(journal, "SELECT key FROM fills")) == (2, [("f1",)])
        assert kit.select(journal, "SELECT folder FROM v_meta") == [(str(tmp_path),)]
        for table in ("meta", "checkpoints", "intents", *schema.VIEWS):
            assert schema.columns(journal.connection, table) == schema.columns(new.connection, table)
            rows_of = kit.select(journal, f"SELECT count(*) FROM {table}")  # noqa: S608 - names of our own tables
            assert rows_of == [(2 if table == "events" else 1,)], table
        journal.append(kit.timer(), kit.NOW)
        journal.commit()


def test_an_upgrade_keeps_rows_and_renews_views(empty):
    schema.upgrade(empty, 0)
    empty.execute("INSERT INTO equity VALUES (1, 2.0, 3.0, 4.0, 5, 6.0)")
    added = "ALTER TABLE equity ADD COLUMN exposure_ms INTEGER;\nCREATE TABLE more (a);"
    empty.execute("BEGIN")
    schema.upgrade(empty, schema.SCHEMA_VERSION, (*schema.MIGRATIONS, added))
    empty.execute("COMMIT")
    assert empty.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION + 1,)
    assert schema.columns(empty, "v_equity")[-2:] == ("exposure_ms", "exposure_utc")
    assert empty.execute("SELECT equity_usd, exposure_ms FROM v_equity").fetchall() == [(2.0, None)]


def test_an_upgrade_that_fails_changes_nothing(empty):
    schema.upgrade(empty, 0)
    before = list(empty.iterdump())
    empty.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError):
        schema.upgrade(empty, schema.SCHEMA_VERSION, (*schema.MIGRATIONS, "CREATE TABLE more (a);\nDROP TABLE none;"))
    empty.execute("ROLLBACK")
    assert list(empty.iterdump()) == before


def test_an_upgrade_of_the_last_version_does_nothing(empty):
    schema.upgrade(empty, schema.SCHEMA_VERSION)
    assert list(empty.iterdump()) == ["BEGIN TRANSACTION;", "COMMIT;"]
