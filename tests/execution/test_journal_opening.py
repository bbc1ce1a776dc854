"""A journal is created whole, and opened only by its own lane on its own machine with its own market data."""

import errno
import re
import shutil
import sqlite3
from contextlib import closing, suppress

import journal_kit as kit
import pytest
from disk_kit import refusing
from plain_user import as_plain_user

from mei_pipeline.errors import Busy, ConfigError, DataError, Refused, Retryable
from mei_pipeline.execution.journal import opening, reader, schema
from mei_pipeline.execution.journal.machine import machine_id


@pytest.fixture
def path(tmp_path):
    """A journal with a hundred committed events, which no process uses."""
    with closing(kit.create(tmp_path)) as journal:
        for number in range(100):
            journal.append(kit.timer(number), kit.NOW)
        journal.append(kit.fill(), kit.NOW, kit.every_row())
        journal.commit()
    return tmp_path / "journal.db"


def test_a_new_journal_knows_its_lane(tmp_path):
    with closing(kit.create(tmp_path)) as first, closing(kit.create(tmp_path / "other")) as second:
        meta = first.meta
        assert (meta.lane, meta.venue, meta.feed, meta.machine_id) == tuple(kit.LANE[key] for key in kit.LANE)
        assert (meta.kernel_hash, meta.created_ms, meta.anchor_ms) == ("k1", kit.NOW, None)
        assert (meta.former_book_ids, meta.folder) == ((), str(tmp_path))
        assert re.fullmatch("[0-9a-f]{8}", meta.book_id)
        assert meta.book_id != second.meta.book_id
        assert kit.select(first, "PRAGMA journal_mode") == [("wal",)]
        assert reader.read_meta(first.connection, first.path) == meta
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["journal.db"]
    assert first.path.stat().st_mode & 0o777 == 0o600


def test_a_journal_is_never_created_over_another(path):
    before = path.read_bytes()
    with pytest.raises(Refused, match=r"journal\.db: exists already"):
        kit.create(path.parent)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "kind", "word"), [(errno.ENOSPC, Retryable, "free space"), (errno.EACCES, DataError, "writable")]
)
def test_a_journal_that_can_not_be_created_leaves_nothing(number, kind, word, tmp_path):
    with refusing(lambda _path, writes: number if writes else 0), pytest.raises(kind, match=word):
        kit.create(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_while_a_journal_is_created_leaves_nothing(tmp_path):
    failed = 0
    for limit in range(512, 1 << 20, 9 * 4096):
        try:
            with kit.file_size(limit):
                kit.create(tmp_path).close()
        except Retryable:
            failed += 1
            assert list(tmp_path.iterdir()) == []
        else:
            break
    assert failed >= 2
    with closing(kit.reopen(tmp_path / "journal.db")) as journal:
        assert journal.last_seq == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lane": "paper2"}, "the journal of lane paper1, not paper2"),
        ({"machine_id": "b" * 32}, f"another machine (id {'a' * 32}, this one has {'b' * 32})"),
        ({"venue": "hyperliquid"}, "the journal of venue synthetic, but the lane has venue hyperliquid"),
        ({"feed": "simulator"}, "the journal of feed replay, but the lane has feed simulator"),
        ({"lane": "paper2", "machine_id": "b", "feed": "x"}, "the journal of lane paper1"),
        ({"machine_id": "b", "venue": "x"}, "another machine"),
    ],
)
def test_the_journal_of_something_else_is_refused_and_unchanged(change, words, path):
    before = path.read_bytes()
    with pytest.raises(Refused, match=re.escape(words)) as caught:
        kit.reopen(path, **change)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before


def test_a_missing_journal_is_reported(tmp_path):
    for open_it in (kit.reopen, reader.connect_read_only, lambda path: opening.adopt_journal(path, "b")):
        with pytest.raises(DataError, match="no journal; the lane never ran in this home"):
            open_it(tmp_path / "journal.db")
    assert list(tmp_path.iterdir()) == []


def edit(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql)


OTHER_PROGRAM = "another program (application_id"
# SQLite cites a byte that is no text: CREATE TABLE a \xc5.
NO_TEXT = """PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = CAST(x'435245415445205441424C45206120C5' AS TEXT) WHERE name = 'equity'"""
OPENERS = (kit.reopen, reader.connect_read_only, lambda path: opening.adopt_journal(path, "b" * 32))


@pytest.mark.parametrize("open_it", OPENERS, ids=["writer", "reader", "take-over"])
@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("PRAGMA application_id = 7", f"{OTHER_PROGRAM} 7, {schema.APPLICATION_ID} allowed)"),
        (
            f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}",
            f"a newer MEI wrote it (schema version {schema.SCHEMA_VERSION + 1}, this one knows ",
        ),
        ("DELETE FROM meta", "damaged: table meta"),
        ("UPDATE meta SET former_book_ids = '['", "damaged: table meta"),
        ("DROP VIEW v_meta; DROP TABLE meta", "damaged: no such table"),
        (NO_TEXT, "damaged: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_is_no_journal_of_this_version_is_refused_and_unchanged(sql, words, open_it, path):
    edit(path, sql)
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(DataError, match=re.escape(words)):
        open_it(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("open_it", OPENERS, ids=["writer", "reader", "take-over"])
@pytest.mark.parametrize("content", [b"", b"x", b"lane: paper1\n" * 500, b"SQLite format 3\x00" + b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_unchanged(content, open_it, tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"journal\.db: "):
        open_it(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_keeps_its_way_of_writing(tmp_path):
    path = tmp_path / "journal.db"
    edit(path, "CREATE TABLE notes (a)")
    before = path.read_bytes()
    with pytest.raises(DataError, match=re.escape(f"{OTHER_PROGRAM} 0")):
        kit.reopen(path)
    assert path.read_bytes() == before


def read_all(path):
    """Open a journal and read all of it."""
    with closing(kit.reopen(path)) as journal:
        events = list(reader.events_after(journal.connection, 0))
        reader.last_checkpoint(journal.connection)
        return len(events)


def test_a_journal_that_was_cut_is_never_taken_for_a_shorter_one(path):
    content = path.read_bytes()
    for kept in range(0, len(content), 4096):
        path.write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"journal\.db: "):
            read_all(path)


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_flipped_bits_are_an_error_or_another_text_never_a_defect(bit, path):
    content = path.read_bytes()
    for place in range(0, len(content), 2999):
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        with suppress(DataError, Refused):
            assert read_all(path) == 101


@pytest.mark.parametrize("durable", [True, False])
def test_a_killed_process_loses_no_commit_but_a_lost_log_does(durable, tmp_path):
    """A lost log is not damage: whole transactions from the end are missing."""
    journal = kit.create(tmp_path)
    with closing(journal):
        for number in range(3):
            journal.append(kit.timer(number), kit.NOW)
            journal.commit(durable=durable)
        journal.append(kit.timer(), kit.NOW)
        killed, cut = tmp_path / "killed" / "journal.db", tmp_path / "cut" / "journal.db"
        for copy in (killed, cut):
            copy.parent.mkdir()
            shutil.copy(journal.path, copy)
        shutil.copy(f"{journal.path}-wal", f"{killed}-wal")
    for copy in (killed, cut):
        opening.adopt_journal(copy, kit.LANE["machine_id"])
    assert read_all(killed) == 3
    assert read_all(cut) == 0


@pytest.mark.parametrize("cut", [1, 100, 4096, 5000, 9000])
def test_a_log_that_was_cut_loses_whole_transactions_from_the_end(cut, tmp_path):
    with closing(kit.create(tmp_path)) as journal:
        for number in range(9):
            journal.append(kit.timer(number), kit.NOW, [kit.filled_row(kit.rows.FillRow, key=str(number))])
            journal.commit()
        copy = tmp_path / "copy" / "journal.db"
        copy.parent.mkdir()
        shutil.copy(journal.path, copy)
        log = journal.path.with_name("journal.db-wal").read_bytes()
    copy.with_name("journal.db-wal").write_bytes(log[:-cut])
    opening.adopt_journal(copy, kit.LANE["machine_id"])
    with closing(kit.reopen(copy)) as again:
        assert 0 < again.last_seq < 9
        assert [key for (key,) in kit.select(again, "SELECT key FROM fills ORDER BY seq")] == [
            str(number) for number in range(again.last_seq)
        ]


def test_a_journal_in_a_folder_that_can_not_be_written_is_read_only(path):
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(DataError, match="make it writable"):
            as_plain_user(lambda: kit.reopen(path))
        with pytest.raises(DataError, match="make it writable"):
            as_plain_user(lambda: opening.adopt_journal(path, "b" * 32))

        def read():
            with closing(reader.connect_read_only(path)) as connection:
                return len(list(reader.events_after(connection, 0)))

        assert as_plain_user(read) == 101
    finally:
        path.parent.chmod(0o700)


def test_the_mode_of_a_restored_journal_is_narrowed(path):
    path.chmod(0o644)
    kit.reopen(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_journal_of_another_user_is_not_opened(path, monkeypatch):
    path.chmod(0o644)

    def refuse(_self, _mode):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(type(path), "chmod", refuse)
    with pytest.raises(DataError, match=r"journal\.db: not opened: Operation not permitted: make it writable"):
        kit.reopen(path)


def test_a_journal_in_use_is_not_taken_over(path):
    with closing(kit.reopen(path)) as journal:
        journal.append(kit.timer(), kit.NOW)
        with pytest.raises(Busy, match="another process writes to it"):
            opening.adopt_journal(path, "b" * 32, wait_s=0.0)
        with pytest.raises(Busy, match="another process writes to it"):
            kit.reopen(path, wait_s=0.0)


def test_a_journal_that_is_taken_over_keeps_its_former_book_ids(path):
    with closing(kit.reopen(path)) as journal:
        before = journal.meta
    taken = opening.adopt_journal(path, "b" * 32)
    assert taken.former_book_ids == (before.book_id,)
    assert taken.book_id != before.book_id
    with pytest.raises(Refused, match="another machine"):
        kit.reopen(path)
    assert opening.adopt_journal(path, "b" * 32) == taken
    again = opening.adopt_journal(path, "a" * 32)
    assert again.former_book_ids == (before.book_id, taken.book_id)
    with closing(kit.reopen(path)) as journal:
        assert journal.meta == again
        assert journal.last_seq == 101


def test_a_copy_in_another_folder_is_refused_until_it_is_taken_over(path, tmp_path):
    copy, link = tmp_path / "copy" / "journal.db", tmp_path / "link"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    link.symlink_to(path.parent)
    kit.reopen(link / "journal.db").close()  # the same folder under another name
    before = copy.read_bytes()
    with pytest.raises(Refused, match="the journal of another home") as caught:
        kit.reopen(copy)
    for word in (str(copy), f"from {path.parent}, this is {copy.parent}", "mei lane take-over paper1"):
        assert word in str(caught.value)
    assert copy.read_bytes() == before
    taken = opening.adopt_journal(copy, kit.LANE["machine_id"])
    assert len(taken.former_book_ids) == 1
    for own in (path, copy):
        kit.reopen(own).close()


def test_a_moved_journal_is_taken_over(path):
    folder = path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(Refused, match="If the home was moved"):
        kit.reopen(folder / "journal.db")
    opening.adopt_journal(folder / "journal.db", kit.LANE["machine_id"])
    kit.reopen(folder / "journal.db").close()
    folder.rename(path.parent)


def test_paths_are_in_the_folder_of_the_lane(tmp_path):
    assert opening.journal_path(tmp_path, "paper1") == tmp_path / "paper1" / "journal.db"
    assert opening.lock_path(tmp_path, "paper1").parent == tmp_path / "paper1"
    for place in (opening.journal_path, opening.lock_path):
        with pytest.raises(ConfigError, match="not allowed"):
            place(tmp_path, "../paper1")


def test_the_id_of_a_machine_is_that_of_its_system(tmp_path):
    system = tmp_path / "system"
    system.write_text(f"{'0123456789abcdef' * 2}\n")
    first = machine_id(tmp_path / "cache", system)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first == machine_id(tmp_path / "another cache", system)
    assert "0123456789abcdef" not in first
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [None, b"", b"uninitialized\n", b"\xff\xfe"])
def test_a_machine_without_an_id_keeps_one_of_its_own(content, tmp_path):
    system = tmp_path / "system"
    if content is not None:
        system.write_bytes(content)
    first = machine_id(tmp_path / "cache", system)
    assert first == machine_id(tmp_path / "cache", system)
    assert first != machine_id(tmp_path / "another cache", system)


def test_an_id_that_can_not_be_kept_is_an_error(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="machine-id: not written"):
        machine_id(tmp_path / "cache", tmp_path / "none")


def test_this_machine_has_an_id(tmp_path):
    assert machine_id(tmp_path) == machine_id(tmp_path)
