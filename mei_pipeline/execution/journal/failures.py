"""Translate errors of a journal's database to MEI's error classes."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mei_pipeline.errors import DataError, Fatal, MeiError
from mei_pipeline.registry.failures import explain_error


def journal_error(path: Path, error: sqlite3.Error, doing: str = "") -> MeiError:
    """Return MEI's error for an error of SQLite that wrote nothing.

    Args:
        path: The journal.
        error: The error.
        doing: The event or row that was to be written, for the message; empty if nothing was.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and isinstance(error, sqlite3.OperationalError):
        # Python itself raises it for a text that is not UTF-8; the executor writes no such text.
        return _damaged(path, error)
    if (code or 0) & 0xFF == sqlite3.SQLITE_CONSTRAINT:
        return Fatal(
            f"{path}: {doing}: {error}; nothing was written. The executor tried to journal something twice, or"
            " something impossible: stop the lane, keep its folder, and report a defect of MEI"
        )
    return explain_error(f"{path}: {doing}" if doing else str(path), error, file=path)


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Raise MEI's error for an error of SQLite within this context."""
    try:
        yield
    except sqlite3.Error as error:
        raise journal_error(path, error) from error
    except UnicodeDecodeError as error:  # of a message of SQLite that cites a damaged table
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: damaged: {error}; stop the lane and restore the journal from a backup")
