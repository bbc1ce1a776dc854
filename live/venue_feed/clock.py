"""Clock of a venue, as the machine's monotonic clock shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VenueClock:
    """Relation of the venue's clock to the machine's monotonic one.

    Attributes:
        at_s: Time of the machine at which the venue's clock was read, in seconds.
        at_ms: Time of the venue then, UTC milliseconds.
        speed: Seconds of the venue per second of the machine; 1 unless an exchange simulator runs faster.
    """

    at_s: float
    at_ms: float
    speed: float = 1.0

    def now_ms(self, now_s: float) -> int:
        """Return the time of the venue at a time of the machine."""
        return int(self.at_ms + self.span_ms(now_s - self.at_s))

    def when_s(self, time_ms: float) -> float:
        """Return the time of the machine at a time of the venue."""
        return self.at_s + (time_ms - self.at_ms) / self.speed / 1000.0

    def span_ms(self, seconds: float) -> float:
        """Return the milliseconds of the venue in a number of seconds of the machine."""
        return seconds * 1000.0 * self.speed
