"""Time as an option of a command: an ISO text, read as UTC milliseconds."""

from datetime import UTC, datetime

import click

from mei_pipeline.candles.intervals import iso


class Time(click.ParamType[int]):
    """An ISO time as UTC milliseconds; UTC if it names no zone."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text of an option."""
        try:
            when = datetime.fromisoformat(value)
            time_ms = round(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)
            iso(time_ms)  # an offset can lead out of the years that have a text
        except ValueError:
            self.fail(f"{value!r}: write an ISO time such as 2026-11-01T00:00Z", param, ctx)
        return time_ms
