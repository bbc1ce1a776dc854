"""Standard output whose failures differ from those of files that a command works on."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mei_pipeline.errors import Retryable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ReaderGone(Exception):
    """The process that reads standard output has closed it, as `| head` does."""


class _Raw(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self.drop()
            raise ReaderGone from None
        except OSError as error:
            self.drop()
            raise Retryable(
                f"standard output: {error.strerror}: the command ran, but its output is cut off; run it again"
            ) from None

    def drop(self) -> None:
        """Discard the rest: the interpreter flushes once more when it exits."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def watch() -> None:
    """Replace `sys.stdout` by a stream that raises `Retryable` or `ReaderGone` instead of `OSError`."""
    if sys.stdout is None:  # closed by the caller, as with `>&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        return
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return  # somebody else's stream, which has no file beneath it
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Raw(sys.stdout.fileno(), "wb", closefd=False)),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=sys.stdout.line_buffering,
        write_through=sys.stdout.write_through,
    )
