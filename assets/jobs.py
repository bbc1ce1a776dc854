"""Jobs. Ingest and the nightly run are separate jobs, because only ingest has partitions."""

from typing import TYPE_CHECKING

import dagster as dg

from assets.partitions import box_tags
from mei_pipeline.config.models import PipelineConfig

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

INGEST, NIGHTLY, HAND_OVER, REPLAY = "ingest", "nightly", "hand_over", "replay_daily"
INGESTED = ("candles", "funding", "coverage")
NIGHT = (
    "night_plan",
    "features",
    "sweep_results",
    "walk_forward",
    "candidates",
    "gate_results",
    "role_assignments",
    "deployments",
    "promoted",
    "night_report",
)
MAX_RETRIES = "dagster/max_retries"


def jobs(*, lanes: bool) -> "list[UnresolvedAssetJobDefinition]":
    """Return every job.

    Args:
        lanes: False if no lane is configured, so that there is no day of one to repeat.
    """
    replays = dg.define_asset_job(
        REPLAY,
        dg.AssetSelection.assets("lane_day"),
        description="Repeat a day of a lane, and name the cause of each difference.",
    )
    return [
        *([replays] if lanes else []),
        dg.define_asset_job(
            INGEST,
            dg.AssetSelection.assets(*INGESTED),
            description="Fetch partitions from the sources of pipeline.yaml, then measure coverage.",
            tags={MAX_RETRIES: "3"},
        ),
        dg.define_asset_job(
            NIGHTLY,
            dg.AssetSelection.assets(*NIGHT),
            description="One nightly run: plan, features, sweep, walk-forward, gates, roles, promotion, report.",
            tags={MAX_RETRIES: "1"},
        ),
        dg.define_asset_job(
            HAND_OVER,
            dg.AssetSelection.assets("promoted"),
            description="Write the lanes' files from the registry, and apply proposals that are still valid.",
        ),
    ]


def ingest_request(pipeline: PipelineConfig, months: tuple[str, str], run_key: str | None = None) -> dg.RunRequest:
    """Return the request for a run of `ingest` over every interval and the months from first to last."""
    return dg.RunRequest(run_key=run_key, tags=box_tags(pipeline, *months))
