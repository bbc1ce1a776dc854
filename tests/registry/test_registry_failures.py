"""The meaning of databases' errors: by their codes, in whatever language their words are."""

import sqlite3
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import registry_kit as kit
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from mei_pipeline.errors import Busy, ConfigError, DataError, OutcomeUnknown, Refused, Retryable
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.failures import explain_error, is_disk_full, lost_at_commit
from mei_pipeline.settings import CHECKOUT

WORDS = "Verbindung wurde unerwartet geschlossen: locked malformed readonly no such table"


class ServerError(Exception):
    """An error of a driver for a server, with the server's code; without one if no answer came."""

    def __init__(self, sqlstate: str = "") -> None:
        super().__init__(f"{WORDS}\nZEILE 2")
        self.sqlstate = sqlstate or None


def wrapped(origin: BaseException, *, ended: bool = False) -> OperationalError:
    return OperationalError("SELECT 1", {}, origin, connection_invalidated=ended)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(WORDS)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (sqlite3.SQLITE_BUSY, Busy, "wait for it to end"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Busy, "wait for it to end"),
        (sqlite3.SQLITE_LOCKED, Busy, "wait for it to end"),
        (sqlite3.SQLITE_CORRUPT, DataError, "restore it from a backup"),
        (sqlite3.SQLITE_NOTADB, DataError, "restore it from a backup"),
        (sqlite3.SQLITE_READONLY_DBMOVED, DataError, "writable"),
        (sqlite3.SQLITE_CANTOPEN, DataError, "writable"),
        (sqlite3.SQLITE_FULL, Retryable, "free space"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, Retryable, "check the disk"),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, Refused, "nothing was written"),
        (sqlite3.SQLITE_NOMEM, Retryable, "nothing was written"),
        (0, Retryable, "nothing was written"),
    ],
)
def test_errors_of_sqlite_are_told_apart_by_their_codes(tmp_path, code, kind, advice):
    for error in (sqlite_error(code), wrapped(sqlite_error(code))):
        found = explain_error("there", error, file=tmp_path / "registry.db")
        assert type(found) is kind
        assert advice in str(found)
        assert WORDS in str(found)


@pytest.mark.parametrize(
    ("state", "kind", "advice"),
    [
        ("55P03", Busy, "wait for it to end"),
        ("40001", Busy, "wait for it to end"),
        ("42P01", DataError, "restore it from a backup"),
        ("XX001", DataError, "restore it from a backup"),
        ("42501", DataError, "writable"),
        ("25006", DataError, "writable"),
        ("3D000", ConfigError, "MEI_REGISTRY_URL"),
        ("28P01", ConfigError, "MEI_REGISTRY_URL"),
        ("53100", Retryable, "free space"),
        ("53300", Retryable, "nothing was written"),
        ("57P01", Retryable, "nothing was written"),
        ("08006", Retryable, "nothing was written"),
        ("23505", Refused, "nothing was written"),
        ("ZZ999", Retryable, "nothing was written"),
    ],
)
def test_errors_of_a_server_are_told_apart_by_their_sqlstate(state, kind, advice):
    found = explain_error("there", wrapped(ServerError(state)), answers=lambda: True)
    assert type(found) is kind
    assert advice in str(found)
    assert str(found).startswith("there: ")
    assert "ZEILE 2" not in str(found)


@pytest.mark.parametrize(
    ("ended", "answers", "kind"), [(False, True, ConfigError), (False, False, Retryable), (True, True, Retryable)]
)
def test_a_session_that_was_never_made_is_the_fault_of_the_url_if_the_server_answers(ended, answers, kind):
    assert type(explain_error("there", wrapped(ServerError(), ended=ended), answers=lambda: answers)) is kind


def test_the_first_error_counts_and_not_that_of_rolling_back_after_it(tmp_path):
    def roll_back() -> None:
        try:
            raise sqlite_error(sqlite3.SQLITE_FULL)
        except sqlite3.Error:
            raise wrapped(sqlite_error(sqlite3.SQLITE_ERROR))  # noqa: B904 - as a failing roll-back does

    with pytest.raises(OperationalError) as caught:
        roll_back()
    assert "the disk is full" in str(explain_error("there", caught.value, file=tmp_path / "x"))


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_CANTOPEN])
def test_an_error_beside_a_full_disk_is_one_of_the_disk(code):
    full = next((path for path in ("/sys", "/proc") if is_disk_full(Path(path) / "x")), None)
    if full is None:
        pytest.skip("no file system without free space is mounted here")
    found = explain_error("there", sqlite_error(code), file=Path(full) / "registry.db")
    assert (type(found), "the disk is full" in str(found)) == (Retryable, True)


def test_a_disk_with_room_is_not_full(tmp_path):
    assert not is_disk_full(tmp_path / "not" / "there")
    assert not is_disk_full(tmp_path / ("too long" * 100) / "there")  # its disk can't be asked


@pytest.mark.parametrize(
    ("origin", "lost"),
    [
        (ServerError(), True),
        (ServerError("57P01"), True),
        (ServerError("08007"), True),
        (ServerError("40003"), True),
        (ServerError("40001"), False),
        (ServerError("23503"), False),
        (ServerError("53100"), False),
        (sqlite_error(sqlite3.SQLITE_BUSY), False),
        (sqlite_error(sqlite3.SQLITE_IOERR), False),
    ],
)
def test_a_commit_is_lost_if_no_answer_came(origin, lost):
    assert lost_at_commit(wrapped(origin)) == lost


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        (["committed"], None),
        ([None, "committed"], None),
        (["aborted"], Retryable),
        (["in progress"], OutcomeUnknown),
        ([None], OutcomeUnknown),
        ([], OutcomeUnknown),
    ],
)
def test_a_lost_commit_is_read_back_or_said_to_be_unknown(tmp_path, outcomes, error):
    """A file stands for the server: the session ends at the commit, and a new one is asked for the outcome."""
    registry = replace(kit.fresh(tmp_path), wait_s=0.3 if len(outcomes) > 1 else 0.0, transaction_id_sql="SELECT 7")
    asked = []

    def end(_connection) -> None:
        raise wrapped(ServerError(), ended=True)

    def answer(number):
        asked.append(number)
        return outcomes[min(len(asked), len(outcomes)) - 1]

    event.listen(registry.database, "commit", end)
    if outcomes:  # else the new session fails as well
        event.listen(registry.database, "connect", lambda handle, _: handle.create_function("txid_status", 1, answer))
    with nullcontext() if error is None else pytest.raises(error) as caught, write_transaction(registry) as connection:
        connection.execute(tables.schema_version.insert().values(version=7))
    if error is not None:
        assert ("nothing was written" in str(caught.value)) == (outcomes == ["aborted"])
    assert set(asked) <= {7}


@pytest.mark.parametrize("at", ["begin", "commit"])
def test_a_commit_that_the_database_refuses_is_not_read_back(tmp_path, at):
    registry = kit.fresh(tmp_path)

    def refuse(_connection) -> None:
        raise wrapped(sqlite_error(sqlite3.SQLITE_FULL) if at == "commit" else ServerError())

    event.listen(registry.database, at, refuse, once=True)
    with pytest.raises(Retryable, match="nothing was written"):
        kit.judged(registry)
    assert store.list_configs(registry) == ()


def test_errors_of_a_journal_need_no_sqlalchemy():
    code = "import sys, mei_pipeline.execution.journal.failures; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0
