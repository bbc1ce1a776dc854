"""Options for a range of UTC days, and their conversion to milliseconds."""

from typing import Any

import click

_DAY = click.DateTime(["%Y-%m-%d"])
FROM = click.option("--from", "start", type=_DAY, help="First UTC day; default: the day after the anchor.")
TO = click.option("--to", "end", type=_DAY, help="First UTC day after the range; default: after the last bar.")


def days(anchor_ms: int, last_ms: int, start: Any, end: Any) -> tuple[int, int]:
    """Return the range of whole UTC days, by default from the anchor to the last bar of any symbol.

    Raises:
        ConfigError: The lake lacks these days, or the range is empty.
    """
    from mei_pipeline.candles.intervals import DAY_MS, iso
    from mei_pipeline.errors import ConfigError

    from_ms = utc_ms(start) if start else -(-anchor_ms // DAY_MS) * DAY_MS
    to_ms = utc_ms(end) if end else last_ms // DAY_MS * DAY_MS
    if to_ms > last_ms:
        raise ConfigError(f"--to {end:%Y-%m-%d}: the last bar that any symbol has ends {iso(last_ms)}")
    if from_ms < anchor_ms:
        raise ConfigError(f"--from {start:%Y-%m-%d}: before the anchor, {iso(anchor_ms)}, where features start")
    if from_ms >= to_ms:
        raise ConfigError(
            f"no whole UTC day between {iso(from_ms)} and {iso(to_ms)}; choose --from and --to further apart"
        )
    return from_ms, to_ms


def utc_ms(day: Any) -> int:
    """Return a date or time without a zone as UTC milliseconds."""
    from datetime import UTC

    return int(day.replace(tzinfo=UTC).timestamp()) * 1000
