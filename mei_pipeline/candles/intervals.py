"""Bar intervals and calendar months, in UTC milliseconds."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mei_pipeline.errors import ConfigError

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

INTERVALS: dict[str, int] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
}

_UNITS = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "t", "T"), MINUTE_MS),
    **dict.fromkeys(("h", "H", "hour", "hours", "hr"), HOUR_MS),
    **dict.fromkeys(("d", "D", "day", "days"), DAY_MS),
}


def _spellings(length_ms: int) -> tuple[str, ...]:
    numbered = [f"{length_ms // size}{unit}" for unit, size in _UNITS.items() if length_ms % size == 0]
    words = (
        ("D", "d", "day", "daily") if length_ms == DAY_MS else ("h", "hour", "hourly") if length_ms == HOUR_MS else ()
    )
    return (*numbered, str(length_ms // MINUTE_MS), *words)


LABELS: dict[str, tuple[str, ...]] = {name: _spellings(length) for name, length in INTERVALS.items()}
"""Spellings of each interval by venues and libraries: `1h`, `60m`, `1H`, and minutes without a unit (`60`)."""
_NAMES = {label: name for name, labels in LABELS.items() for label in labels}


def parse_interval(label: str) -> str | None:
    """Return the interval that a venue writes as `label`; None if MEI has no such interval.

    Case matters: `1M` is a month, `1m` a minute.
    """
    return _NAMES.get(label)


def interval_ms(name: str) -> int:
    """Return the length of interval `name` in milliseconds.

    Raises:
        ConfigError: There is no such interval.
    """
    try:
        return INTERVALS[name]
    except KeyError:
        raise ConfigError(f"interval {name!r} is not known; allowed: {', '.join(INTERVALS)}") from None


def interval_problems(main: str, entry: str, exits: str) -> dict[str, str]:
    """Return the problems of a strategy's intervals, by configuration key; empty if there are none.

    Args:
        main: Interval of the bars that features are computed from.
        entry: Interval at whose closes entries are decided; empty for `main`.
        exits: Interval at whose closes exits are decided; empty for `main`.

    Raises:
        ConfigError: There is no such interval.
    """
    length = interval_ms(main)
    problems = {}
    for key, name in (("entry_interval", entry), ("exit_interval", exits)):
        if name and length % interval_ms(name):
            allowed = ", ".join(other for other, short in INTERVALS.items() if length % short == 0)
            problems[key] = f"{name!r} does not divide the interval {main}; allowed: {allowed}"
    if entry and exits and not problems:
        shorter, longer = sorted((entry, exits), key=interval_ms)
        if interval_ms(longer) % interval_ms(shorter):
            problems["exit_interval"] = (
                f"{exits!r} beside the entry interval {entry}: {shorter} does not divide {longer}"
            )
    return problems


@dataclass(frozen=True)
class Intervals:
    """Intervals at which a strategy decides; an empty name means `main`.

    A name that equals `main` is stored as empty, so that equal intervals compare equal.

    Attributes:
        main: Interval of the bars that features are computed from.
        entry: Interval at whose closes entries are decided.
        exit: Interval at whose closes exits are decided.

    Raises:
        ConfigError: An interval is unknown, does not divide `main`, or the shorter of entry and exit does not divide
            the other.
    """

    main: str
    entry: str = ""
    exit: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigError if intervals do not divide each other; replace names that equal `main` by empty ones."""
        problems = interval_problems(self.main, self.entry, self.exit)
        if problems:
            raise ConfigError("; ".join(f"{key}: {text}" for key, text in problems.items()))
        for field in ("entry", "exit"):
            if getattr(self, field) == self.main:
                object.__setattr__(self, field, "")  # the dataclass is frozen

    @property
    def step(self) -> str:
        """Finest of the three intervals: the step of a simulation."""
        return min((self.main, self.entry or self.main, self.exit or self.main), key=interval_ms)

    @property
    def read(self) -> tuple[str, ...]:
        """Intervals whose bars are read, the main one first; an interval between main and step needs no bars."""
        return (self.main,) if self.step == self.main else (self.main, self.step)

    @property
    def main_ms(self) -> int:
        """Length of a main bar in milliseconds."""
        return interval_ms(self.main)

    @property
    def entry_ms(self) -> int:
        """Milliseconds between two decisions about entries."""
        return interval_ms(self.entry or self.main)

    @property
    def exit_ms(self) -> int:
        """Milliseconds between two decisions about exits."""
        return interval_ms(self.exit or self.main)

    @property
    def step_ms(self) -> int:
        """Length of a step in milliseconds."""
        return interval_ms(self.step)


def month_of(time_ms: int) -> str:
    """Return the calendar month of `time_ms`, as `YYYY-MM`."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m")


def month_range(month: str) -> tuple[int, int]:
    """Return the first millisecond of `month` (`YYYY-MM`) and of the month after it.

    Raises:
        ConfigError: `month` is not written as YYYY-MM.
    """
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"month {month!r} is not allowed; write it as YYYY-MM, such as 2025-05") from None
    year, number = divmod(start.year * 12 + start.month, 12)
    end = datetime(year, number + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def months_between(from_ms: int, to_ms: int) -> list[str]:
    """Return every month that overlaps [from_ms, to_ms), oldest first."""
    months = []
    while from_ms < to_ms:
        months.append(month_of(from_ms))
        from_ms = month_range(months[-1])[1]
    return months


def iso(time_ms: int) -> str:
    """Return `time_ms` as text: `2025-05-01 00:00Z`; seconds are shown only if they are not zero."""
    when = datetime.fromtimestamp(time_ms / 1000, UTC)
    return when.strftime("%Y-%m-%d %H:%MZ" if time_ms % MINUTE_MS == 0 else "%Y-%m-%d %H:%M:%SZ")
