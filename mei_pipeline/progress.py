"""How a station reports long work without knowing who watches: a bar in a terminal, a log line, nobody in a test."""

from typing import Protocol


class Progress(Protocol):
    """Called as work advances."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report that `done` of `total` units of the work called `what` are finished."""


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""
