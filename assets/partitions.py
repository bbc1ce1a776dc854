"""Partitions of `candles` by interval and month, and the months that an ingest must fetch."""

import dagster as dg

from mei_pipeline.candles.intervals import month_of, month_range
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.store import read_manifest
from mei_pipeline.config.models import PipelineConfig

INTERVAL = "interval"
MONTH = "month"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def candle_partitions(pipeline: PipelineConfig) -> dg.MultiPartitionsDefinition:
    """Return the partitions of every fetched interval and every month from the first to the current one.

    The end offset adds the current month; without it the newest bars would have no partition.
    """
    return dg.MultiPartitionsDefinition(
        {
            INTERVAL: dg.StaticPartitionsDefinition(list(pipeline.intervals)),
            MONTH: dg.MonthlyPartitionsDefinition(pipeline.start, fmt="%Y-%m", end_offset=1),
        }
    )


def box_tags(pipeline: PipelineConfig, first_month: str, last_month: str) -> dict[str, str]:
    """Return the tags of one run over all intervals and the months from first to last."""
    return {
        RANGE_START: f"{pipeline.intervals[0]}|{first_month}",
        RANGE_END: f"{pipeline.intervals[-1]}|{last_month}",
    }


def touched_months(lake: Lake, pipeline: PipelineConfig, now_ms: int) -> tuple[str, str] | None:
    """Return the first and last month that may have new bars: from the month of the least recent series to now.

    Returns:
        None if there is nothing to fetch: pipeline.yaml has no sources, or its first month has not begun.
    """
    last = month_of(now_ms)
    if not pipeline.sources or pipeline.start > last:
        return None
    newest = [
        newest_open_ms(lake, venue, interval)
        for venue in sorted({source.venue for source in pipeline.sources})
        for interval in pipeline.intervals
    ]
    first = min(pipeline.start if open_ms is None else month_of(open_ms) for open_ms in newest)
    return min(max(first, pipeline.start), last), last


def span_ms(first_month: str, last_month: str, now_ms: int) -> tuple[int, int]:
    """Return the start of the first month, and the earlier one of now and the end of the last month, UTC ms."""
    return month_range(first_month)[0], min(month_range(last_month)[1], now_ms)


def newest_open_ms(lake: Lake, venue: str, interval: str) -> int | None:
    """Return the open time of the newest bar in the lake, UTC milliseconds; None without bars."""
    entries = read_manifest(lake, f"candles/{venue}/{interval}").files.values()
    return max((entry.last_ms for entry in entries), default=None)
