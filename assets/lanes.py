"""The lanes: executors outside Dagster, whose acknowledgement ends the lineage from a candle to what trades."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg
import polars as pl

from assets import run_context
from assets.deploy import promoted
from assets.metadata import declared
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import ExecutorStatus, is_acknowledged, read_status
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.store import lane_pointer

GROUP = "lanes"
OWNERS = ("team:trading",)
CHECK = "acknowledged"
WARN_AFTER, FAIL_AFTER = timedelta(hours=3), timedelta(hours=6)
STATUS = {
    "config_id": pl.String(),
    "generation": pl.Int64(),
    "since_bar_ms": pl.Int64(),
    "health": pl.String(),
    "positions": pl.Struct({"symbol": pl.Float64()}),
}
STATUS_DOCS = {
    "config_id": "Id of the config in force.",
    "generation": "Generation of the pointer that the executor follows.",
    "since_bar_ms": "Open time of the first bar that the config decided, UTC milliseconds.",
    "health": "Health that the executor states.",
    "positions": "Coins held by symbol, below 0 for a short.",
}


def lane_key(name: str) -> dg.AssetKey:
    """Asset key of a lane."""
    return dg.AssetKey(["lane", name])


def lane_spec(name: str, lane: LaneConfig) -> dg.AssetSpec:
    """The external asset of one lane."""
    return dg.AssetSpec(
        lane_key(name),
        deps=[promoted],
        group_name=GROUP,
        owners=OWNERS,
        kinds={"executor", lane.mode},
        description=(
            f"The config that the executor of lane {name} has in force ({lane.mode}, {lane.venue}, {lane.role}), as it "
            "says itself in its status file: since which bar, in what health, with which positions.\n\n"
            "The executor is a process of its own that polls its pointer, so Dagster being down never stops it. A "
            "sensor turns each acknowledgement into an event here; without one for some hours the lane is not fresh."
        ),
        metadata=declared(STATUS, STATUS_DOCS),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FAIL_AFTER, warn_window=WARN_AFTER),
    )


def lane_check(name: str) -> dg.AssetChecksDefinition:
    """The check that a lane runs what its pointer names; the sensor reports its result, a person may ask again."""

    @dg.asset_check(
        asset=lane_key(name),
        name=CHECK,
        description="The executor has the config and generation in force that the registry's pointer names.",
    )
    def check() -> dg.AssetCheckResult:
        settings, _ = run_context.read_all()
        pointer = lane_pointer(open_home_registry(settings), name)
        status = read_status(settings.lanes, name)
        passed, words = check_acknowledgement(pointer, status)
        return dg.AssetCheckResult(passed=passed, severity=dg.AssetCheckSeverity.WARN, description=words)

    return check


def check_acknowledgement(pointer: Pointer | None, status: ExecutorStatus | None) -> tuple[bool, str]:
    """Whether a lane runs what its pointer names, and that in words."""
    if pointer is None:
        return status is None, "no config holds the lane"
    asked = f"generation {pointer.generation} of {pointer.config_id[:12]}"
    if status is None:
        return False, f"{asked} is not acknowledged: the executor has not said anything yet"
    said = f"generation {status.generation} of {status.config_id[:12]}"
    if not is_acknowledged(pointer, status):
        return False, f"{asked} is not acknowledged: the executor runs {said}"
    return True, f"{said} is in force"


def lane_assets(lanes: Mapping[str, LaneConfig]) -> Iterable[dg.AssetSpec | dg.AssetChecksDefinition]:
    """The external asset and the check of every configured lane, by name."""
    for name, lane in sorted(lanes.items()):
        yield lane_spec(name, lane)
        yield lane_check(name)
