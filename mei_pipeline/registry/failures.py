"""Translate errors of databases: to MEI's error classes, with advice for the operator.

Servers write their messages in their own language, so only codes are compared: SQLSTATE of PostgreSQL, result codes of
SQLite. The server's words are shown, never compared.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError, OutcomeUnknown, Refused, Retryable

if TYPE_CHECKING:  # its import takes 0.2 s, and the journal of a lane has errors of SQLite only
    from sqlalchemy.exc import DBAPIError

_Cause = tuple[type[MeiError], str, str]
"""Class of the error, words before those of the database, and advice."""

_LOCKED: _Cause = (Busy, "", "another process writes to it; wait for it to end and try again")
_DAMAGED: _Cause = (DataError, "damaged: ", "restore it from a backup")
_UNWRITABLE: _Cause = (DataError, "", "make it writable for this user")
_FULL: _Cause = (Retryable, "the disk is full, nothing was written: ", "free space on it and try again")
_DISK_FAILS: _Cause = (
    Retryable,
    "its disk fails, nothing was written: ",
    "check the disk and try again; if `mei doctor` then reports damage, restore it from a backup",
)
_WRONG_URL: _Cause = (ConfigError, "", "correct MEI_REGISTRY_URL, or create the database and user that it names")
_AWAY: _Cause = (Retryable, "nothing was written: ", "check that the server runs and try again")
_OTHER: _Cause = (Retryable, "nothing was written: ", "try again")
_REFUSED: _Cause = (Refused, "", "a constraint of the database failed, nothing was written; report a defect of MEI")

_SQLITE: dict[int, _Cause] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_ERROR: _DAMAGED,  # the SQL is MEI's own and correct, so a table or column is missing
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _DISK_FAILS,
    sqlite3.SQLITE_CONSTRAINT: _REFUSED,
}
"""Causes by primary result code."""

_NEEDS_SPACE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
"""Codes that SQLite also returns if a full disk has no room for a file beside the database."""
_LEAST_FREE = 1 << 16  # the index of a write-ahead log grows by 32 KiB at a time

_POSTGRES: dict[str, _Cause] = {
    "08": _AWAY,
    "22": _REFUSED,
    "23": _REFUSED,
    "25006": _UNWRITABLE,  # read-only transaction: a setting, or a standby
    "28": _WRONG_URL,
    "3D": _WRONG_URL,
    "3F": _DAMAGED,
    "40": _LOCKED,
    "42": _DAMAGED,
    "42501": _UNWRITABLE,
    "53": _AWAY,
    "53100": _FULL,
    "55": _LOCKED,
    "57": _AWAY,
    "57014": _OTHER,
    "58": _DISK_FAILS,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
"""Causes by SQLSTATE or its class; the longest match counts."""

_LOST_AT_COMMIT = ("08", "40003", "57P")
"""First characters of each SQLSTATE that ends a session before it answers, so that a commit may have taken effect."""


def explain_error(
    shown: str,
    error: "DBAPIError | sqlite3.Error",
    *,
    file: Path | None = None,
    answers: Callable[[], bool] = lambda: False,
) -> MeiError:
    """Return MEI's error for an error of a database that wrote nothing.

    Args:
        shown: Name of the database, for the message.
        error: The driver's error.
        file: File of the database; None for a server.
        answers: Returns True if the server answers; called if no session exists, because drivers then give no code.
    """
    first = _first(error)
    origin = _origin(first)
    words = _words(origin)
    if isinstance(origin, sqlite3.Error):
        kind, before, advice = _sqlite(origin, file)
    elif state := sqlstate(origin):
        kind, before, advice = _server(state)
    else:
        ended = not isinstance(first, sqlite3.Error) and first.connection_invalidated
        kind, before, advice = _AWAY if ended or not answers() else _WRONG_URL
    return kind(f"{shown}: {before}{words}; {advice}")


def is_disk_full(path: Path) -> bool:
    """Return True if the disk of a path has no room for a write."""
    try:
        space = os.statvfs(next(folder for folder in path.absolute().parents if folder.is_dir()))
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < _LEAST_FREE or (space.f_files > 0 and space.f_favail == 0)


def lost_at_commit(error: "DBAPIError") -> bool:
    """Return True if a commit that raised this error may have taken effect.

    An error that the database itself reports means that it did not. SQLite always reports: a failed COMMIT rolls back.
    """
    if isinstance(_origin(error), sqlite3.Error):
        return False
    state = sqlstate(error.orig)
    return not state or state.startswith(_LOST_AT_COMMIT)


def unknown_outcome(shown: str, error: "DBAPIError") -> OutcomeUnknown:
    """Return MEI's error for a commit whose outcome could not be read back."""
    return OutcomeUnknown(
        f"{shown}: the connection was lost at the commit, which may have taken effect: {_words(error.orig)}; "
        f"when the server runs again, check with `mei registry history` before you repeat the command"
    )


def sqlstate(origin: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error; empty if it has none."""
    return str(getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None) or "")


def _first(error: "DBAPIError | sqlite3.Error") -> "DBAPIError | sqlite3.Error":
    """Return the first error of a chain: after some errors SQLite rolls back by itself, and a second rollback fails."""
    first, earlier = error, error.__context__
    while earlier is not None:
        # Only SQLAlchemy's errors of drivers have the attribute.
        if isinstance(earlier, sqlite3.Error) or hasattr(earlier, "connection_invalidated"):
            first = cast("DBAPIError | sqlite3.Error", earlier)
        earlier = earlier.__context__
    return first


def _origin(error: "DBAPIError | sqlite3.Error") -> BaseException | None:
    return error if isinstance(error, sqlite3.Error) else error.orig


def _words(origin: BaseException | None) -> str:
    return next(iter(str(origin).strip().splitlines()), "no reason given")


def _sqlite(origin: sqlite3.Error, file: Path | None) -> _Cause:
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF  # an extended code holds its primary one in the low byte
    if code in _NEEDS_SPACE and file is not None and is_disk_full(file):
        return _FULL
    return _SQLITE.get(code, _OTHER)


def _server(state: str) -> _Cause:
    matches = [begin for begin in _POSTGRES if state.startswith(begin)]
    return _POSTGRES[max(matches, key=len)] if matches else _OTHER
