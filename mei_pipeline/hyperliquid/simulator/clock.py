"""The clock of the exchange simulator."""

import time
from collections.abc import Callable

from mei_pipeline.candles.intervals import SECOND_MS


class VirtualClock:
    """A clock that starts at a time of the market and runs at a multiple of the real speed.

    Attributes:
        start_ms: Time of the market at the beginning, UTC milliseconds.
        speed: Seconds of the market per second.
    """

    def __init__(self, start_ms: int, speed: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            start_ms: First time, UTC milliseconds.
            speed: Seconds of the market per second, above zero.
            clock: Monotonic clock of the machine, in seconds.
        """
        self.start_ms = start_ms
        self.speed = speed
        self._clock = clock
        self._started_s = clock()

    def now_ms(self) -> int:
        """Return the present time of the market, UTC milliseconds."""
        return self.start_ms + int((self._clock() - self._started_s) * self.speed * SECOND_MS)

    def seconds_until(self, time_ms: float) -> float:
        """Return the seconds of the machine until a time of the market; zero if it has passed."""
        due_s = self._started_s + (time_ms - self.start_ms) / self.speed / SECOND_MS
        return max(0.0, due_s - self._clock())

    def machine_s(self) -> float:
        """Return the present time of the machine's monotonic clock, seconds."""
        return self._clock()
