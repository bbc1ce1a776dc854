"""Backups that can be restored, and archives and homes that can not."""

import errno
import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from contextlib import closing

import pytest
import registry_kit as kit
from candle_kit import NOW, bars, contents
from disk_kit import refusing
from plain_user import as_plain_user

from mei_pipeline import files
from mei_pipeline.backup.run import backup, restore
from mei_pipeline.candles.lake import Lake, merge_candles, verify
from mei_pipeline.errors import Busy, DataError, Refused
from mei_pipeline.registry.database import schema_version
from mei_pipeline.registry.lanes import LOCK_NAME, pointer_path
from mei_pipeline.registry.store import list_configs

PARTS = ["config", "lake", "lanes", "nights", "registry-resets.json", "registry.db"]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """A home with a lake, a lane with its journal, a registry, a configuration, a night, and a sweep."""
    home = tmp_path_factory.mktemp("pattern") / "home"
    merge_candles(Lake(home / "lake"), bars(), now_ms=NOW)
    registry = kit.fresh(home)
    kit.promote(registry, home / "lanes", kit.PAPER1, kit.judged(registry), kit.POLICY, 0, kit.at())
    with closing(sqlite3.connect(home / "lanes/paper1/journal.db")) as database, database:
        database.execute("create table t (x)")
        database.execute("insert into t values (1)")
    for name, text in {
        "config/pipeline.yaml": "venue: synthetic\n",
        "nights/0a/gates.json": "{}",
        "nights/0a/report.html": "<p>a night</p>",
        "nights/lock": "",
        "registry-resets.json": "[]",
        "sweeps/big.parquet": "made again",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home


@pytest.fixture
def full(pattern, tmp_path):
    shutil.copytree(pattern, tmp_path / "full")
    return tmp_path / "full"


@pytest.fixture(scope="module")
def packed(pattern, tmp_path_factory):
    archive = tmp_path_factory.mktemp("packed") / "b.tar"
    backup(pattern, archive)
    return archive


def rows(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("select x from t order by x").fetchall()


def config_of(home):
    [path] = (home / "lanes" / "paper1" / "configs").iterdir()
    return path


def test_a_restore_gives_back_what_can_not_be_made_again(full, tmp_path):
    report = backup(full, tmp_path / "b.tar")
    new = tmp_path / "new"
    assert restore(tmp_path / "b.tar", new).files == report.files
    assert sorted(path.name for path in new.iterdir()) == PARTS
    assert contents(new / "lake") == contents(full / "lake")
    assert verify(Lake(new / "lake")) == []
    for part in ("config", "lanes/paper1/configs"):
        assert contents(new / part) == contents(full / part)
    assert sorted(path.name for path in (new / "nights").rglob("*")) == ["0a", "gates.json", "report.html"]
    assert rows(new / "lanes/paper1/journal.db") == [(1,)]
    assert list_configs(kit.opened(new)) == list_configs(kit.opened(full))


def test_a_database_in_use_is_copied_as_of_one_instant(full, tmp_path):
    with closing(sqlite3.connect(full / "lanes/paper1/journal.db", isolation_level=None)) as busy:
        busy.execute("pragma journal_mode=wal")
        busy.execute("insert into t values (2)")
        busy.execute("begin")
        busy.execute("insert into t values (3)")
        backup(full, tmp_path / "b.tar")
        busy.execute("rollback")
    restore(tmp_path / "b.tar", tmp_path / "new")
    assert rows(tmp_path / "new/lanes/paper1/journal.db") == [(1,), (2,)]


def test_a_home_that_holds_something_is_left_alone_unless_told(full, packed):
    before = contents(full)
    with pytest.raises(Refused, match=r"already has lake, lanes, config, nights, registry\.db, registry-resets\.json"):
        restore(packed, full)
    assert contents(full) == before
    (full / "config/pipeline.yaml").write_text("venue: other\n")
    report = restore(packed, full, force=True)
    assert (full / "config/pipeline.yaml").read_text() == "venue: synthetic\n"
    assert (report.aside / "config/pipeline.yaml").read_text() == "venue: other\n"
    kept = restore(packed, full, force=True).aside
    shutil.rmtree(report.aside)
    again = [restore(packed, full, force=True).aside for _ in range(2)]
    assert len({kept, *again}) == 3


def test_the_log_of_the_old_registry_does_not_meet_the_new_one(full, packed):
    with closing(sqlite3.connect(full / "registry.db", isolation_level=None)) as old:
        old.execute("pragma journal_mode=wal")
        old.execute("create table stray (x)")
        assert (full / "registry.db-wal").stat().st_size
        restore(packed, full, force=True)
    with closing(sqlite3.connect(full / "registry.db")) as new:
        assert new.execute("select count(*) from sqlite_master where name = 'stray'").fetchone() == (0,)


def test_a_backup_without_configuration_or_nights_leaves_those_of_the_home(full, packed, tmp_path):
    for part in ("config", "nights"):
        shutil.rmtree(full / part)
    backup(full, tmp_path / "b.tar")
    target = tmp_path / "target"
    restore(packed, target)
    before = contents(target / "config")
    restore(tmp_path / "b.tar", target, force=True)
    assert contents(target / "config") == before
    assert (target / "nights/0a/report.html").exists()


def test_a_backup_of_the_first_format_is_read(full, tmp_path):
    for part in ("config", "nights"):
        shutil.rmtree(full / part)
    backup(full, tmp_path / "b.tar")
    forged(tmp_path / "b.tar", form=1)
    restore(tmp_path / "b.tar", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        *("lake", "lanes", "registry-resets.json", "registry.db")
    ]


def test_a_home_whose_registry_was_given_up_is_backed_up(full, tmp_path):
    (full / "registry.db").write_bytes(kit.empty_file())
    pointer_path(full / "lanes", "paper1").rename(full / "lanes" / "paper1" / "promoted.lost.yaml")
    backup(full, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    assert (tmp_path / "new" / "registry-resets.json").read_text() == "[]"
    assert len(list((tmp_path / "new" / "lanes" / "paper1" / "configs").iterdir())) == 1


def test_a_registry_of_the_version_before_is_packed_and_restored_as_it_is(tmp_path):
    home = tmp_path / "home"
    kit.make_version(home, version=2)
    backup(home, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    for folder in (home, tmp_path / "new"):
        assert schema_version(kit.url(folder)) == 2
    histories = list_configs(kit.opened(tmp_path / "new"))
    assert [story.config.config_id for story in histories] == [row["config_id"] for row in kit.rows_of(2)["configs"]]


def test_a_restore_waits_for_no_one_silently(full, packed):
    with files.locked(full / "lake" / ".lock", "an ingest"), pytest.raises(Busy, match="an ingest"):
        restore(packed, full, force=True)


def test_a_restore_leaves_a_running_lane_alone(full, packed):
    lock = full / "lanes" / "paper1" / LOCK_NAME
    lock.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(lock, "running lane paper1"):
        before = contents(full)
        with pytest.raises(Busy, match="running lane paper1, process"):
            restore(packed, full, force=True)
        assert contents(full) == before
    assert restore(packed, full, force=True).aside


def test_a_restore_that_can_not_finish_moves_everything_back(full, packed):
    before = contents(full)

    def nights_stay(path, writes):
        return errno.EIO if writes and path == full / "nights" else 0

    with refusing(nights_stay), pytest.raises(DataError, match=r"not restored: .*the disk fails"):
        restore(packed, full, force=True)
    assert contents(full) == before


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    data = bytearray(path.read_bytes())
    place = data.index(b"generation: 1")
    data[place] ^= 0xFF
    path.write_bytes(data)


def emptied(path):
    path.write_bytes(b"")


def deleted(path):
    path.unlink()


def forged(path, add=(), drop="", form=2, kind=None, manifest=None):
    """Write an archive anew whose hashes are right: what a person with a text editor could make."""
    with tarfile.open(path) as tar:
        held = {member.name: tar.extractfile(member).read() for member in tar}
    held.pop("manifest.json")
    held = {name: data for name, data in held.items() if not drop or not name.startswith(drop)} | dict(add)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in held.items():
            member = tarfile.TarInfo(name)
            if kind is not None and name in dict(add):
                member.type, member.linkname = kind, "registry.db"
                tar.addfile(member)
                continue
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        listing = {name: [hashlib.sha256(data).hexdigest(), len(data)] for name, data in held.items()}
        text = json.dumps({"format": form, "files": listing}).encode() if manifest is None else manifest
        member = tarfile.TarInfo("manifest.json")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))


def adding(name, data=b"x", **more):
    return lambda path: forged(path, [(name, data)], **more)


DAMAGED = {
    "cut off": (truncated, "not a complete backup"),
    "one byte changed": (flipped, r"promoted\.yaml differs from its hash"),
    "empty": (emptied, "not a complete backup"),
    "missing": (deleted, "not found; name a tar file"),
    "of the future": (lambda path: forged(path, form=9), "format 9"),
    "manifest garbled": (lambda path: forged(path, manifest=b"{]"), r"manifest\.json is damaged"),
    "manifest of another kind": (lambda path: forged(path, manifest=b"[]"), r"manifest\.json is damaged"),
    "files of another kind": (
        lambda path: forged(path, manifest=b'{"format": 2, "files": []}'),
        r"manifest\.json is damaged",
    ),
    "lake as a file": (lambda path: forged(path, [("lake", b"x")], drop="lake/"), "'lake' that no backup has"),
    "config as a file": (lambda path: forged(path, [("config", b"x")], drop="config/"), "'config' that no backup has"),
    "below the registry": (adding("registry.db/x"), "that no backup has"),
    "below a file": (adding("lanes/paper1/promoted.yaml/x"), "that no backup has"),
    "out of the home": (adding("lake/../../evil"), "that no backup has"),
    "absolute": (adding("/lake/evil"), "that no backup has"),
    "with a dot": (adding("lanes/./x"), "that no backup has"),
    "with nothing": (adding("lanes//x"), "that no backup has"),
    "another part": (adding("dagster/dagster.yaml"), "that no backup has"),
    "a transaction to be finished": (adding("lake/.pending/commit.json"), "that no backup has"),
    "a journal to be rolled back": (adding("lanes/paper1/journal.db-journal"), "that no backup has"),
    "a control character": (adding("lanes/\x1b[2J"), "that no backup has"),
    "a symbolic link": (adding("lanes/paper1/x", kind=tarfile.SYMTYPE), "lanes/paper1/x is a link"),
    "a hard link": (adding("lanes/paper1/x", kind=tarfile.LNKTYPE), "lanes/paper1/x is a link"),
    "a device": (adding("lanes/paper1/x", kind=tarfile.FIFOTYPE), "lanes/paper1/x is a link or a device"),
    "registry of garbage": (adding("registry.db", b"garbage"), r"registry\.db: not an SQLite database"),
    "registry cut off": (
        adding("registry.db", b"SQLite format 3\x00" + b"x" * 4096),
        r"can't be restored, nothing was changed: registry\.db: damaged",
    ),
    "registry empty": (adding("registry.db", kit.empty_file()), "has generation 1, but .* does not know the lane"),
    "registry of another program": (
        lambda path: forged(path, [("registry.db", journal(path))]),
        "not a registry of MEI",
    ),
    "no registry": (lambda path: forged(path, drop="registry.db"), r"registry\.db: missing, though lane paper1 holds"),
    "a file of the lake missing": (lambda path: forged(path, drop="lake/candles/binance/1h/2025-05"), "is missing"),
    "a file of the lake of another": (
        adding("lake/candles/binance/1h/2025-05.parquet", b"PAR1"),
        "differs from its hash",
    ),
}


def journal(path):
    with tarfile.open(path) as tar:
        return tar.extractfile("lanes/paper1/journal.db").read()


@pytest.mark.parametrize("case", DAMAGED)
def test_an_archive_of_no_use_changes_nothing(pattern, packed, tmp_path, case):
    harm, message = DAMAGED[case]
    archive = tmp_path / "b.tar"
    shutil.copyfile(packed, archive)
    harm(archive)
    before = contents(pattern)
    with pytest.raises(DataError, match=message):
        restore(archive, pattern, force=True)
    assert contents(pattern) == before
    assert not (tmp_path / "evil").exists()


def registry_of(data):
    def harm(home):
        (home / "registry.db").write_bytes(data)

    return harm


def registry_gone(home):
    (home / "registry.db").unlink()


def registry_a_folder(home):
    registry_gone(home)
    (home / "registry.db").mkdir()


def pages_damaged(home):
    path = home / "lanes/paper1/journal.db"
    data = bytearray(path.read_bytes())
    data[4096:4200] = b"\xff" * 104
    path.write_bytes(data)


def pointer_ahead(home):
    path = pointer_path(home / "lanes", "paper1")
    path.write_text(path.read_text().replace("generation: 1", "generation: 2"))


def byte_of_parameters(home):
    path = config_of(home)
    path.write_text(path.read_text().replace("leverage: 2.0", "leverage: 3.0"))


def byte_of_evidence(home):
    path = config_of(home)
    path.write_text(path.read_text().replace("sharpe: 1.5", "sharpe: 9.5"))


def pointer_damaged(home):
    pointer_path(home / "lanes", "paper1").write_text("generation: [")


def bar_changed(home):
    path = next((home / "lake/candles").rglob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def bars_gone(home):
    next((home / "lake/candles").rglob("*.parquet")).unlink()


def manifest_damaged(home):
    next((home / "lake/candles").rglob("manifest.json")).write_text("{")


USELESS = {
    "registry of garbage": (registry_of(b"garbage" * 999), r"registry\.db: not an SQLite database"),
    "registry damaged": (registry_of(b"SQLite format 3\x00" + b"x" * 9000), r"registry\.db: database not copied"),
    "registry of no bytes": (registry_of(b""), r"registry\.db: not an SQLite database"),
    "registry empty": (registry_of(kit.empty_file()), "has generation 1, but .* does not know the lane"),
    "registry missing": (registry_gone, r"registry\.db: missing, though lane paper1 holds a config"),
    "registry a folder": (registry_a_folder, r"registry\.db: not a file"),
    "another database damaged": (pages_damaged, r"journal\.db"),
    "pointer ahead of the registry": (pointer_ahead, "has generation 2, but .* knows generation 1"),
    "pointer damaged": (pointer_damaged, r"promoted\.yaml: damaged"),
    "one value of a config": (byte_of_parameters, "damaged; the next hand-over writes it again"),
    "one value of its evidence": (byte_of_evidence, "differs from the registry"),
    "one byte of a bar": (bar_changed, "differs from its hash in the lake's record"),
    "bars missing": (bars_gone, "is missing in the lake's record"),
    "manifest damaged": (manifest_damaged, r"manifest\.json"),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_damaged_home_leaves_the_last_good_backup(full, packed, tmp_path, case):
    harm, message = USELESS[case]
    out = tmp_path / "out" / "b.tar"
    out.parent.mkdir()
    shutil.copyfile(packed, out)
    before = contents(out.parent)
    harm(full)
    with pytest.raises(DataError, match=message) as said:
        backup(full, out)
    assert contents(out.parent) == before
    assert "mei-backup-" not in str(said.value)


def test_nights_without_their_registry_are_no_backup(full, tmp_path):
    registry_gone(full)
    shutil.rmtree(full / "lanes")
    with pytest.raises(DataError, match="missing, though nightly runs judged configs"):
        backup(full, tmp_path / "b.tar")


def test_a_registry_on_a_server_is_not_missed(full, tmp_path):
    registry_gone(full)
    backup(full, tmp_path / "b.tar", on_server=True)
    restore(tmp_path / "b.tar", tmp_path / "new", on_server=True)
    assert (tmp_path / "new/lanes/paper1/promoted.yaml").exists()
    byte_of_parameters(full)
    with pytest.raises(DataError, match="damaged"):
        backup(full, tmp_path / "b.tar", on_server=True)


@pytest.mark.parametrize("part", PARTS)
def test_a_backup_is_not_replaced_by_one_with_less(full, packed, tmp_path, part):
    out = tmp_path / "b.tar"
    shutil.copyfile(packed, out)
    for gone in [part] if part not in {"registry.db", "lanes", "nights"} else ["registry.db", "lanes", "nights"]:
        shutil.rmtree(full / gone) if (full / gone).is_dir() else (full / gone).unlink()
    with pytest.raises(Refused, match=f"the backup has .*{part}.*, which this home lacks"):
        backup(full, out)
    assert out.read_bytes() == packed.read_bytes()


def test_a_backup_does_not_hold_itself(full):
    before = contents(full)
    with pytest.raises(Refused, match="inside a part of the home"):
        backup(full, full / "lake" / "b.tar")
    assert contents(full) == before


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
