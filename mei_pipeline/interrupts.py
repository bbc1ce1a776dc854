"""Handling of Ctrl-C: the first ends a command cleanly, the second at once, without a traceback."""

import os
import signal
from types import FrameType

from mei_pipeline.errors import INTERRUPTED


def take() -> None:
    """Raise `KeyboardInterrupt` at the first SIGINT of this process, and exit at the second.

    A second one may come while the first is unwinding, where an exception would end in a traceback. Exiting at once
    loses nothing: files are written whole or not at all, as after a SIGKILL.
    """
    signal.signal(signal.SIGINT, _raise_then_exit)


def exit_at_next() -> None:
    """Exit at the next SIGINT, for a process that has begun nothing yet, such as one that imports its modules."""
    signal.signal(signal.SIGINT, _exit)


def take_one() -> None:
    """Raise `KeyboardInterrupt` at the next SIGINT or SIGTERM, and ignore later ones.

    For a command that must stop its child processes before it ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_then_ignore)


def ignore() -> None:
    """Ignore SIGINT and SIGTERM from here on: the process is ending already."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _raise_then_exit(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _exit)
    raise KeyboardInterrupt


def _exit(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _raise_then_ignore(_number: int, _frame: FrameType | None) -> None:
    ignore()
    raise KeyboardInterrupt
