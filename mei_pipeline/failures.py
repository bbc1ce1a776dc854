"""The error that ends a command, in words and for programs; defects of MEI leave a traceback in a file."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import click

from mei_pipeline.errors import INTERRUPTED, MeiError


class Failure(NamedTuple):
    """The error that ended a command, for programs: its class, its message and the exit code."""

    kind: str
    message: str
    exit_code: int


def failure_of(error: BaseException, note: Callable[[str], None]) -> Failure:
    """Return an error as the end of a command; called while the error is handled.

    Args:
        error: The error.
        note: Prints the traceback of a defect if no file can be written.
    """
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Failure("Interrupted", "interrupted", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return Failure("UsageError", error.format_message(), error.exit_code)
    known = error if isinstance(error, MeiError) else _storage_error(error)
    message = str(known) if known else f"unexpected {type(error).__name__}: {error}; {_keep_traceback(note)}"
    return Failure(type(known or error).__name__, message, (known or MeiError()).exit_code)


def _storage_error(error: BaseException) -> MeiError | None:
    from mei_pipeline.files import storage_error  # noqa: PLC0415 - most commands end without an error

    return storage_error(error) if isinstance(error, Exception) else None


def _keep_traceback(note: Callable[[str], None]) -> str:
    """Write the current traceback into the log folder, or to `note` where that fails, and say where it is."""
    from mei_pipeline.files import write_bytes  # noqa: PLC0415 - as above
    from mei_pipeline.settings import read_settings  # noqa: PLC0415 - as above

    text = traceback.format_exc()
    try:
        path = read_settings().logs / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.txt"
        write_bytes(path, text.encode())
    except MeiError:
        note(text)
        return "the traceback is above; this is a defect of MEI"
    return f"the traceback is in {path}; this is a defect of MEI"
