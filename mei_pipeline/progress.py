"""Progress reports of long work: the caller draws a bar, logs lines or ignores them."""

import math
import time
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called as work advances."""

    def __call__(self, done: int, total: int, what: str, speed: str = "") -> None:
        """Report that `done` of `total` units of the work named `what` are finished.

        `speed` is text for a speed in another unit, if units of work per second say too little.
        """


def silent(done: int, total: int, what: str, speed: str = "") -> None:
    """Report nothing."""


class Lines:
    """Progress as lines of text: one at the end of the work, and one per period before it."""

    def __init__(
        self,
        write: Callable[[str], None],
        every_s: float,
        *,
        first: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write lines.

        Args:
            write: Takes a line.
            every_s: Seconds between two lines about unfinished work of one kind.
            first: Write the first report of a kind of work at once.
            clock_s: Returns the time, in seconds.
        """
        self._write = write
        self._every_s = every_s
        self._first = first
        self._clock_s = clock_s
        self._began: dict[str, tuple[float, int]] = {}
        self._due_s: dict[str, float] = {}

    def __call__(self, done: int, total: int, what: str, speed: str = "") -> None:
        """Write a line if it is time for one."""
        now_s = self._clock_s()
        self._began.setdefault(what, (now_s, done))
        due_s = self._due_s.setdefault(what, now_s if self._first else now_s + self._every_s)
        if done >= total or now_s >= due_s:
            parts = [f"{what}: {done:,} of {total:,}", speed, self._left(now_s, done, total, what)]
            self._write(", ".join(filter(None, parts)))
            self._due_s[what] = now_s + self._every_s

    def _left(self, now_s: float, done: int, total: int, what: str) -> str:
        """Return the remaining time at the mean speed since the first report of this kind of work."""
        began_s, before = self._began[what]
        if not before < done < total:
            return ""
        left_s = math.ceil((total - done) * (now_s - began_s) / (done - before))
        hours, rest = divmod(left_s, 3600)
        return f"{hours}:{rest // 60:02}:{rest % 60:02} left"
