"""Bar intervals and calendar months, in UTC milliseconds."""

from datetime import UTC, datetime

from mei_pipeline.errors import ConfigError

MINUTE_MS = 60_000
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


def interval_ms(name: str) -> int:
    """Length of the interval called `name` in milliseconds.

    Raises:
        ConfigError: There is no such interval.
    """
    try:
        return INTERVALS[name]
    except KeyError:
        raise ConfigError(f"interval {name!r} is not known; allowed: {', '.join(INTERVALS)}") from None


def month_of(time_ms: int) -> str:
    """Calendar month that `time_ms` falls in, as `YYYY-MM`."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m")


def month_range(month: str) -> tuple[int, int]:
    """First millisecond of `month` (`YYYY-MM`) and of the month after it.

    Raises:
        ConfigError: `month` is not of that form.
    """
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"month {month!r} is not allowed; write it as YYYY-MM, such as 2025-05") from None
    year, number = divmod(start.year * 12 + start.month, 12)
    end = datetime(year, number + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def months_between(from_ms: int, to_ms: int) -> list[str]:
    """Every month that touches [from_ms, to_ms), oldest first."""
    months = []
    while from_ms < to_ms:
        months.append(month_of(from_ms))
        from_ms = month_range(months[-1])[1]
    return months


def iso(time_ms: int) -> str:
    """`time_ms` for people: `2025-05-01 00:00Z`, with seconds only where there are any."""
    when = datetime.fromtimestamp(time_ms / 1000, UTC)
    return when.strftime("%Y-%m-%d %H:%MZ" if time_ms % MINUTE_MS == 0 else "%Y-%m-%d %H:%M:%SZ")
