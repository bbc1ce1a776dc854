import io
import json
import sqlite3
import tarfile
from contextlib import closing

import pytest
from candle_kit import NOW, bars, contents
from plain_user import as_plain_user

from mei_pipeline import files
from mei_pipeline.candles.backup import backup, restore
from mei_pipeline.candles.lake import Lake, merge_candles, verify
from mei_pipeline.errors import Busy, DataError, Refused


@pytest.fixture
def full(tmp_path):
    """A home with a lake, a lane with its journal, a registry, and things that can be made again."""
    home = tmp_path / "full"
    merge_candles(Lake(home / "lake"), bars(), now_ms=NOW)
    (home / "lanes" / "paper1" / "configs").mkdir(parents=True)
    (home / "lanes" / "paper1" / "promoted.yaml").write_text("generation: 1\n")
    for name in ("registry.db", "lanes/paper1/journal.db"):
        with closing(sqlite3.connect(home / name)) as database, database:
            database.execute("create table t (x)")
            database.execute("insert into t values (1)")
    (home / "sweeps").mkdir()
    (home / "sweeps" / "big.parquet").write_text("made again")
    return home


def rows(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("select x from t").fetchall()


def test_a_restore_gives_back_what_can_not_be_made_again(full, tmp_path):
    report = backup(full, tmp_path / "b.tar")
    new = tmp_path / "new"
    assert restore(tmp_path / "b.tar", new).files == report.files
    assert contents(new / "lake") == contents(full / "lake")
    assert verify(Lake(new / "lake")) == []
    assert (new / "lanes/paper1/promoted.yaml").read_text() == "generation: 1\n"
    assert rows(new / "registry.db") == rows(new / "lanes/paper1/journal.db") == [(1,)]
    assert not (new / "sweeps").exists()
    assert sorted(path.name for path in new.iterdir()) == ["lake", "lanes", "registry.db"]


def test_a_database_in_use_is_copied_as_of_one_instant(full, tmp_path):
    with closing(sqlite3.connect(full / "registry.db", isolation_level=None)) as busy:
        busy.execute("pragma journal_mode=wal")
        busy.execute("insert into t values (2)")
        busy.execute("begin")
        busy.execute("insert into t values (3)")
        backup(full, tmp_path / "b.tar")
        busy.execute("rollback")
    restore(tmp_path / "b.tar", tmp_path / "new")
    assert rows(tmp_path / "new" / "registry.db") == [(1,), (2,)]


def test_a_home_that_holds_something_is_left_alone_unless_told(full, tmp_path):
    backup(full, tmp_path / "b.tar")
    before = contents(full)
    with pytest.raises(Refused, match=r"already has lake, lanes, registry\.db"):
        restore(tmp_path / "b.tar", full)
    assert contents(full) == before
    (full / "lanes/paper1/promoted.yaml").write_text("generation: 2\n")
    report = restore(tmp_path / "b.tar", full, force=True)
    assert (full / "lanes/paper1/promoted.yaml").read_text() == "generation: 1\n"
    assert (report.aside / "lanes/paper1/promoted.yaml").read_text() == "generation: 2\n"
    assert restore(tmp_path / "b.tar", full, force=True).aside != report.aside


def test_a_backup_waits_for_no_one_silently(full, tmp_path):
    backup(full, tmp_path / "b.tar")
    with files.locked(full / "lake" / ".lock", "an ingest"), pytest.raises(Busy, match="an ingest"):
        restore(tmp_path / "b.tar", full, force=True)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    data = bytearray(path.read_bytes())
    place = data.index(b"generation: 1")
    data[place] ^= 0xFF
    path.write_bytes(data)


def emptied(path):
    path.write_bytes(b"")


def other_tar(path):
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("lake/a"), io.BytesIO())


def escaping(path):
    listing = json.dumps({"format": 1, "files": {"lake/../../evil": ["0" * 64, 0]}}).encode()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(listing)
        tar.addfile(member, io.BytesIO(listing))


def of_the_future(path):
    listing = json.dumps({"format": 9, "files": {}}).encode()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(listing)
        tar.addfile(member, io.BytesIO(listing))


def garbled(path):
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{]"))


def deleted(path):
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncated, "is not a whole backup"),
        (flipped, r"promoted\.yaml differs from its hash"),
        (emptied, "is not a whole backup"),
        (other_tar, "is not a whole backup"),
        (escaping, "no part of a backup"),
        (of_the_future, "format 9"),
        (garbled, r"manifest\.json is damaged"),
        (deleted, "no such file"),
    ],
)
def test_a_damaged_backup_changes_nothing(full, tmp_path, harm, message):
    archive = tmp_path / "b.tar"
    backup(full, archive)
    harm(archive)
    before = contents(full)
    with pytest.raises(DataError, match=message):
        restore(archive, full, force=True)
    assert contents(full) == before
    with pytest.raises(DataError, match=message):
        restore(archive, tmp_path / "new")
    assert contents(tmp_path / "new") == {}


def test_a_backup_that_can_not_be_written_leaves_the_old_one(full, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    backup(full, folder / "b.tar")
    before = contents(folder)
    folder.chmod(0o500)
    with pytest.raises(DataError, match="the previous file is intact"):
        as_plain_user(lambda: backup(full, folder / "b.tar"))
    folder.chmod(0o700)
    assert contents(folder) == before


def test_a_home_without_anything_has_nothing_to_back_up(tmp_path):
    with pytest.raises(DataError, match="set MEI_HOME"):
        backup(tmp_path / "none", tmp_path / "b.tar")


def test_a_registry_that_is_no_database_is_named(full, tmp_path):
    (full / "registry.db").write_bytes(b"SQLite format 3\x00" + b"x" * 200)
    with pytest.raises(DataError, match=r"registry\.db: database can't be copied"):
        backup(full, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
