"""External assets of the lanes. The acknowledgement of an executor ends the lineage from candles to trading."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg
import polars as pl

from assets import run_context
from assets.deploy import promoted
from assets.metadata import declared
from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import ExecutorStatus, is_acknowledged, read_status
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import read_settings

GROUP = "lanes"
OWNERS = ("team:trading",)
CHECK = "acknowledged"
WARN_AFTER, FAIL_AFTER = timedelta(hours=3), timedelta(hours=6)
SILENT_AFTER_MIN = 5
"""Age of a status, in minutes, from which on the check names it: an executor that runs writes it more often."""
HOUR_MIN, DAY_MIN = 60, 24 * 60
STATUS = {
    "config_id": pl.String(),
    "generation": pl.Int64(),
    "since_bar_ms": pl.Int64(),
    "health": pl.String(),
    "equity_usd": pl.Float64(),
    "pnl_usd": pl.Float64(),
    "pnl_today_usd": pl.Float64(),
    "positions": pl.Struct({"symbol": pl.Float64()}),
}
STATUS_DOCS = {
    "config_id": "Id of the config in force.",
    "generation": "Generation of the pointer that the executor follows.",
    "since_bar_ms": "Open time of the first bar that the config decided, UTC milliseconds.",
    "health": "Health that the executor states.",
    "equity_usd": "Equity at last prices, USD.",
    "pnl_usd": "Profit since the start of the lane, USD.",
    "pnl_today_usd": "Profit since the beginning of the UTC day on the clock of the lane, USD.",
    "positions": "Coins held by symbol, below 0 for a short.",
}


def lane_key(name: str) -> dg.AssetKey:
    """Return the asset key of a lane."""
    return dg.AssetKey(["lane", name])


def lane_spec(name: str, lane: LaneConfig) -> dg.AssetSpec:
    """Return the external asset of a lane."""
    return dg.AssetSpec(
        lane_key(name),
        deps=[promoted],
        group_name=GROUP,
        owners=OWNERS,
        kinds={"executor", lane.mode},
        description=(
            f"Config in force in lane {name} ({lane.mode}, {lane.venue}, {lane.role}), from the status file and the "
            "journal of its executor: first bar, health, holds, positions, profit and equity.\n\n"
            "The executor is a separate process that polls its pointer, so it also runs while Dagster is down. A "
            "sensor reports each change as an event here; the lane is stale after some hours without a report."
        ),
        metadata=declared(STATUS, STATUS_DOCS),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FAIL_AFTER, warn_window=WARN_AFTER),
    )


def lane_check(name: str) -> dg.AssetChecksDefinition:
    """Return the check that a lane runs the config of its pointer. The sensor reports it; a person may run it."""

    @dg.asset_check(
        asset=lane_key(name),
        name=CHECK,
        description="The executor has the config and generation of the registry's pointer in force.",
    )
    def check() -> dg.AssetCheckResult:
        settings = read_settings()
        pointer = lane_pointer(open_home_registry(settings), name)
        status = read_status(settings.lanes, name)
        passed, words = check_acknowledgement(pointer, status, run_context.now_ms())
        return dg.AssetCheckResult(passed=passed, severity=dg.AssetCheckSeverity.WARN, description=words)

    return check


def check_acknowledgement(pointer: Pointer | None, status: ExecutorStatus | None, now_ms: int) -> tuple[bool, str]:
    """Return True if a lane runs the config of its pointer, and the result in words.

    Args:
        pointer: The lane's pointer in the registry; None for a lane without a config.
        status: The status that its executor wrote last; None before the first.
        now_ms: Present time, UTC milliseconds. An old status is named as such, because its executor may be down.
    """
    if pointer is None:
        return status is None or status.config_id is None, "no config holds the lane"
    expected = f"generation {pointer.generation} of {pointer.config_id[:12]}"
    if status is None:
        return False, f"{expected} is not acknowledged: the executor has not written its status yet"
    silence = _silence(status, now_ms)
    if status.config_id is None:
        return False, f"{expected} is not acknowledged: the executor has no config in force{silence}"
    running = f"generation {status.generation} of {status.config_id[:12]}"
    if not is_acknowledged(pointer, status):
        return False, f"{expected} is not acknowledged: the executor runs {running}{silence}"
    return True, f"{running} is in force{silence}"


def _silence(status: ExecutorStatus, now_ms: int) -> str:
    """Return the age of a status in words; empty for a status of an executor that runs."""
    minutes = (now_ms - status.written_ms) // MINUTE_MS
    if minutes < SILENT_AFTER_MIN:
        return ""
    # The words change once an hour, then once a day, because a sensor reports each change.
    if minutes < HOUR_MIN:
        age = f"{SILENT_AFTER_MIN} min"
    elif minutes < 2 * DAY_MIN:
        age = f"{minutes // HOUR_MIN} h"
    else:
        age = f"{minutes // DAY_MIN} d"
    return f"; the executor last wrote its status more than {age} ago"


def lane_assets(lanes: Mapping[str, LaneConfig]) -> Iterable[dg.AssetSpec | dg.AssetChecksDefinition]:
    """Yield the external asset and the check of every configured lane, in the order of their names."""
    for name, lane in sorted(lanes.items()):
        yield lane_spec(name, lane)
        yield lane_check(name)
