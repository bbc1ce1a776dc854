"""Standard output and standard error that are closed or full."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

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
            _discard(self)
            raise ReaderGone from None
        except OSError as error:
            _discard(self)
            raise Retryable(
                f"standard output: {error.strerror}: the command ran, but its output is cut off; run it again"
            ) from None


class _Lossy(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except BrokenPipeError:
            _discard(self)
        except OSError:
            pass  # a full disk may have room again
        return size


def watch_stdout() -> None:
    """Replace `sys.stdout` by a stream that raises `Retryable` or `ReaderGone` instead of `OSError`."""
    sys.stdout = _replaced(sys.stdout, _Raw)


def forgive_stderr() -> None:
    """Replace `sys.stderr` by a stream that loses what can't be written: messages must not end a process that trades.

    After the reader of a pipe has gone, all further messages are lost.
    """
    sys.stderr = _replaced(sys.stderr, _Lossy)


def _replaced(stream: TextIO | None, kind: type[io.FileIO]) -> TextIO:
    if stream is None:  # closed by the caller, as with `>&-`
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # somebody else's stream, which has no file beneath it
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _discard(file: io.FileIO) -> None:
    """Send the rest to nowhere: the interpreter flushes once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
