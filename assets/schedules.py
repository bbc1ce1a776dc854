"""Schedules of jobs. They start stopped unless pipeline.yaml has `automation: on`."""

import dagster as dg

from assets import run_context
from assets.jobs import INGEST, NIGHTLY, REPLAY, ingest_request
from assets.lane_days import partitions_to_repeat
from assets.partitions import touched_months
from mei_pipeline.candles.lake import Lake

DAYS_PER_TICK = 3
"""Days of each lane that one tick of `replay_schedule` repeats, the newest ones."""


def schedules(*, automation: bool, lanes: bool) -> list[dg.ScheduleDefinition]:
    """Return every schedule.

    Args:
        automation: True to start them at once.
        lanes: False if no lane is configured.
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

    @dg.schedule(
        name="replay_schedule",
        job_name=REPLAY,
        cron_schedule="20 0 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="00:20 UTC: repeat the newest complete days of each lane that no run has repeated yet.",
    )
    def replay_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        settings, config = run_context.read_all()
        found = partitions_to_repeat(settings, config)
        chosen = [key for keys in found.values() for key in keys[-DAYS_PER_TICK:]]
        if not chosen:
            return dg.SkipReason("every complete day of each lane has been repeated")
        # Dagster skips a run key that it knows, also after a run that failed.
        tick = f"{context.scheduled_execution_time:%Y-%m-%d}"
        return [dg.RunRequest(run_key=f"{key}@{tick}", partition_key=key) for key in chosen]

    return [ingest_schedule, nightly, *([replay_schedule] if lanes else [])]
