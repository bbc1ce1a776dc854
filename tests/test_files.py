"""Files and locks on disks that are full, read-only or failing, and beside processes that remove things."""

import errno
import os
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from disk_kit import refusing
from plain_user import as_plain_user

from mei_pipeline import files
from mei_pipeline.candles.transaction import open_transaction
from mei_pipeline.errors import Busy, DataError, OutcomeUnknown, Retryable


def test_a_folder_that_can_not_be_synced_holds_the_new_file_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("old")
    folder.chmod(0o300)  # names can be changed, but the folder can't be opened
    with pytest.raises(
        OutcomeUnknown, match=r"file: the new file is in place, but a power failure may undo it"
    ) as said:
        as_plain_user(lambda: files.write_bytes(folder / "file", b"new"))
    folder.chmod(0o700)
    assert (folder / "file").read_text() == "new"
    assert "intact" not in str(said.value)


def test_a_change_of_many_files_is_taken_back_where_its_plan_can_not_be_synced(tmp_path: Path) -> None:
    def change(text: str) -> None:
        with open_transaction(tmp_path) as stage:
            stage.write_json("a.json", text)
            stage.write_json("b.json", text)

    def folder_fails(path: Path, writes: bool) -> int:
        return errno.EIO if path.name == ".pending" and not writes else 0

    change("old")
    with refusing(folder_fails), pytest.raises(DataError, match=r"nothing was changed: .*the disk fails"):
        change("new")
    assert [(tmp_path / name).read_text() for name in ("a.json", "b.json")] == ['"old"\n'] * 2
    change("newer")
    assert [(tmp_path / name).read_text() for name in ("a.json", "b.json")] == ['"newer"\n'] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_file_that_is_not_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))
    try:
        with pytest.raises(Retryable, match=r"previous file is intact: .*free space on the disk"):
            files.write_bytes(tmp_path / "file", b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_lock_needs_no_note(tmp_path: Path) -> None:
    (tmp_path / "lock.holder").mkdir()  # no note can be written here
    path = tmp_path / "lock"
    with files.locked(path, "an ingest"), pytest.raises(Busy, match="another process; wait"), files.locked(path):
        pass
    assert files.lock_holder(tmp_path / "lock") == ""


def test_a_lock_without_a_purpose_writes_no_note(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock"):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def in_a_file(path: Path) -> Path:
    path.write_text("a file")
    return path / "lock"


def in_a_closed_folder(path: Path) -> Path:
    path.mkdir(mode=0o500)
    return path / "lock"


def to_be_made_in_a_closed_folder(path: Path) -> Path:
    return in_a_closed_folder(path).with_name("new") / "lock"


def a_folder(path: Path) -> Path:
    (path / "lock").mkdir(parents=True)
    return path / "lock"


@pytest.mark.parametrize("place", [in_a_file, in_a_closed_folder, to_be_made_in_a_closed_folder, a_folder])
def test_a_lock_that_can_not_be_made_names_its_file_and_what_to_do(tmp_path: Path, place) -> None:
    path = place(tmp_path / "place")

    def take() -> None:
        with files.locked(path, "an ingest"):
            pass

    with pytest.raises(DataError, match=rf"{path}: lock not taken: .*(make it writable|move it away)"):
        as_plain_user(take)


def take_often(path: Path) -> None:
    for _ in range(300):
        with suppress(Busy), files.locked(path, "a sweep"):
            path.unlink(missing_ok=True)  # as housekeeping does with the folder of a sweep


def test_a_lock_file_that_vanishes_is_busy_or_free_but_never_a_defect(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(take_often, [tmp_path / "place" / "lock"] * 3))


def test_the_holder_is_told_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "lock.holder").write_text("a sweep, process 1")
    folder.chmod(0o500)
    assert as_plain_user(lambda: files.lock_holder(folder / "lock")) == ""


def full_database(path: Path) -> sqlite3.Error:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table t (x)")
        database.execute("pragma max_page_count = 2")
        try:
            database.execute("insert into t values (zeroblob(100000))")
        except sqlite3.Error as error:
            return error
    raise AssertionError


def caused(error: Exception) -> Exception:
    outer = RuntimeError("a library failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("number", "name", "advice"),
    [
        (errno.ENOSPC, None, "free space on the disk"),
        (errno.EDQUOT, "/home/x", "/home/x: .*free space on the disk"),
        (errno.EROFS, "/home/x", "/home/x: .*mount the disk writable"),
        (errno.EACCES, "/home/x", "/home/x: .*make it writable for this user"),
        (errno.EIO, None, "read the system's log"),
    ],
)
def test_errors_that_an_operator_can_end_say_how(number, name, advice) -> None:
    error = OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))
    for each in (error, caused(error)):
        with pytest.raises(Retryable if advice.endswith("free space on the disk") else DataError, match=advice):
            raise files.storage_error(each)


def test_full_disks_are_known_in_databases_and_in_libraries(tmp_path: Path) -> None:
    assert "free space on the disk" in str(files.storage_error(caused(full_database(tmp_path / "t.db"))))
    unread = sqlite3.OperationalError("disk I/O error")
    unread.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    assert "free space on the disk" in str(files.storage_error(unread))
    unread.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    assert "the disk fails" in str(files.storage_error(unread))
    assert "free space on the disk" in str(files.storage_error(ValueError("No space left on device (os error 28)")))


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), PermissionError(errno.EPERM, "kill"), FileNotFoundError(2, "gone", "x"), sqlite3.Error("no")],
)
def test_other_errors_are_left_alone(error) -> None:
    assert files.storage_error(error) is None


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, Retryable), (errno.EDQUOT, Retryable), (errno.EACCES, DataError)]
)
def test_want_of_room_passes_and_want_of_rights_does_not(number: int, kind: type[Exception]) -> None:
    assert type(files.refused(OSError(number, "no"), "f: not written")) is kind
