import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import registry_kit as kit
from plain_user import as_plain_user
from sqlalchemy import event, insert

from mei_pipeline.errors import Busy, ConfigError, DataError, Refused, Retryable
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import open_registry, read_transaction, write_transaction
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.rows import move_pointer


def url(path):
    return f"sqlite:///{path}"


def execute(path, *statements):
    handle = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        handle.execute(statement)
    return handle


def test_the_tables_are_made_once_and_stay(tmp_path):
    config_id = kit.judged(kit.opened(tmp_path / "new" / "folder"))
    assert store.get_config(kit.opened(tmp_path / "new" / "folder"), config_id).config_id == config_id


def test_many_open_a_new_registry_at_once(tmp_path):
    barrier = Barrier(6)

    def enter(number):
        barrier.wait()
        return kit.judged(kit.opened(tmp_path), number % 2)

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(enter, range(6)))
    registry = kit.opened(tmp_path)
    assert {story.config.config_id for story in store.list_configs(registry)} == ids
    assert len(store.history(registry)) == 4


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.long)])
def test_of_many_that_open_a_new_file_none_finds_it_locked(tmp_path, rounds):
    barrier = Barrier(8)

    def enter(number):
        barrier.wait()
        with read_transaction(kit.opened(tmp_path / str(number // 8))) as connection:
            return connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(enter, range(8 * rounds))) == {"wal"}


def test_every_commit_is_synced_in_wal_mode(tmp_path):
    with read_transaction(kit.opened(tmp_path)) as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("registry.db", "not an SQLAlchemy URL"),
        ("nosuchbase://host/x", "not an SQLAlchemy URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("oracle+cx_oracle://scott:tiger@host/x", "driver cx_Oracle is not installed"),
    ],
)
def test_a_wrong_url_says_what_is_allowed(address, words):
    with pytest.raises(ConfigError, match=words) as caught:
        open_registry(address)
    assert "tiger" not in str(caught.value)


def test_a_newer_schema_is_refused(tmp_path):
    kit.opened(tmp_path)
    execute(tmp_path / "registry.db", "UPDATE alembic_version SET version_num = 99").close()
    with pytest.raises(Refused, match=r"schema version 99, this one knows 3\); update MEI"):
        kit.opened(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM alembic_version",
        "UPDATE alembic_version SET version_num = 0",
        "UPDATE alembic_version SET version_num = 'ab12'",
        "DROP TABLE alembic_version; DELETE FROM schema_version",
    ],
)
def test_an_unknown_schema_is_refused(tmp_path, statement):
    kit.opened(tmp_path)
    execute(tmp_path / "registry.db", *statement.split("; ")).close()
    with pytest.raises(DataError, match="restore it from a backup"):
        kit.opened(tmp_path)


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "registry.db"
    execute(path, "CREATE TABLE cakes (flour)").close()
    with pytest.raises(DataError, match="it has cakes"):
        kit.opened(tmp_path)


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "registry.db"
    path.write_bytes(b"candles, not tables" * 500)
    with pytest.raises(DataError, match="damaged"):
        kit.opened(tmp_path)
    assert path.read_bytes() == b"candles, not tables" * 500


def test_a_damaged_page_is_reported(tmp_path):
    registry = kit.opened(tmp_path)
    for number in range(40):
        kit.judged(registry, number)
    path = tmp_path / "registry.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(DataError, match="damaged"):
        store.list_configs(registry)


def test_a_lost_table_is_reported(tmp_path):
    registry = kit.opened(tmp_path)
    execute(tmp_path / "registry.db", "DROP TABLE lanes").close()
    with pytest.raises(DataError, match="damaged: no such table: lanes"):
        store.lane_pointers(registry)


def test_a_locked_registry_is_busy(tmp_path):
    kit.opened(tmp_path)
    registry = open_registry(url(tmp_path / "registry.db"), busy_timeout_s=0.0)
    holder = execute(tmp_path / "registry.db", "BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="another process writes"):
        kit.judged(registry)
    assert store.list_configs(registry) == ()
    holder.close()
    kit.judged(registry)


def test_a_folder_in_place_of_the_file_is_reported(tmp_path):
    (tmp_path / "registry.db").mkdir()
    with pytest.raises(DataError, match="writable"):
        kit.opened(tmp_path)


def test_a_file_in_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"not opened: .*a file is in the place of a folder"):
        open_registry(url(tmp_path / "file" / "registry.db"))


def test_a_full_disk_writes_nothing(tmp_path):
    registry = kit.opened(tmp_path)
    row = {"config_id": "c" * 64, "resolved": "x" * 100_000, "created_ms": 1}
    event.listen(registry.database, "begin", lambda made: made.exec_driver_sql("PRAGMA max_page_count = 1"))
    with pytest.raises(Retryable, match="nothing was written"), write_transaction(registry) as connection:
        connection.execute(insert(tables.configs).values(**row))
    assert store.list_configs(registry) == ()


def test_a_row_that_names_nothing_is_refused(tmp_path):
    registry = kit.opened(tmp_path)
    row = {"name": "paper1", "config_id": "c" * 64, "generation": 1, "size_multiplier": 1.0, "transition_id": ""}
    row["state"] = "paper"
    with pytest.raises(Refused), write_transaction(registry) as connection:
        connection.execute(insert(tables.lanes).values(**row))
    assert store.lane_pointer(registry, "paper1") is None


def test_a_server_that_does_not_answer_is_tried_again_later(tmp_path):
    with pytest.raises(Retryable, match="nothing was written") as caught:
        open_registry(f"postgresql+psycopg://mei:secret@/mei?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_a_lock_that_can_not_be_made_is_reported_and_a_note_is_not_needed(tmp_path):
    (tmp_path / "registry.db.lock.holder").mkdir()
    kit.opened(tmp_path)
    (tmp_path / "registry.db.lock").unlink()
    (tmp_path / "registry.db.lock").mkdir()
    kit.opened(tmp_path)  # a file in WAL mode is opened without the lock
    (tmp_path / "registry.db").unlink()
    with pytest.raises(DataError, match=r"registry\.db\.lock: lock not taken"):
        kit.opened(tmp_path)


def test_a_registry_in_a_folder_that_is_read_only_is_read_and_not_written(tmp_path):
    folder = tmp_path / "folder"
    config_id = kit.judged(kit.fresh(folder))
    folder.chmod(0o500)

    def work():
        registry = kit.opened(folder)
        assert store.get_config(registry, config_id).config_id == config_id
        with pytest.raises(DataError, match="make it writable for this user"):
            kit.judged(registry, 1)

    as_plain_user(work)
    assert {path.name for path in folder.iterdir()} == {"registry.db"}
    folder.chmod(0o700)


def test_a_read_only_file_is_read_and_not_written(tmp_path):
    registry = kit.opened(tmp_path)
    config_id = kit.judged(registry)
    event.listen(registry.database, "connect", lambda handle, _: handle.execute("PRAGMA query_only = ON").close())
    assert store.get_config(registry, config_id).config_id == config_id
    with pytest.raises(DataError, match="readonly database; make it writable for this user"):
        kit.judged(registry, 1)


def test_moves_of_an_outdated_generation_are_refused_by_the_row_itself(tmp_path):
    registry = kit.opened(tmp_path)
    config_id = kit.judged(registry)
    for generation, words in ((3, "at generation 0 .no config., not 2: another process moved it"), (1, "")):
        pointer = Pointer("paper1", config_id, generation, 1.0, "t" * 64, "paper")
        with (
            contextlib.nullcontext() if not words else pytest.raises(Refused, match=words),
            write_transaction(registry) as made,
        ):
            move_pointer(made, pointer)
    assert store.lane_pointer(registry, "paper1").generation == 1
