"""Schedules of jobs. They start stopped unless pipeline.yaml has `automation: on`."""

import dagster as dg

from assets import run_context
from assets.jobs import INGEST, NIGHTLY, ingest_request
from assets.partitions import touched_months
from mei_pipeline.candles.lake import Lake


def schedules(*, automation: bool) -> list[dg.ScheduleDefinition]:
    """Return every schedule.

    Args:
        automation: True to start them at once.
    """
    status = dg.DefaultScheduleStatus.RUNNING if automation else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="ingest_schedule",
        job_name=INGEST,
        cron_schedule="5 * * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Five minutes past each hour: fetch the months from the newest stored bar to now, in one run.",
    )
    def ingest_schedule() -> dg.RunRequest | dg.SkipReason:
        settings, config = run_context.read_all()
        months = touched_months(Lake(settings.lake), config.pipeline, run_context.now_ms())
        if months is None:
            return dg.SkipReason("pipeline.yaml: no sources; `mei ingest --path` fills the lake by hand")
        return ingest_request(config.pipeline, months)

    nightly = dg.ScheduleDefinition(
        name="nightly_schedule",
        job_name=NIGHTLY,
        cron_schedule="50 0 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="00:50 UTC: a nightly run of the profile `nightly` as of now; it fails if the lake is stale. A "
        "missed run is not repeated later, because every run adds trials on the same out-of-sample days.",
    )
    return [ingest_schedule, nightly]
