"""Context of an asset's step: settings, configuration, clock, audit context, retries and progress."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from mei_pipeline.config.load import Configuration, LaneConfigs, load_config, load_lanes
from mei_pipeline.errors import Retryable
from mei_pipeline.progress import Lines, Progress
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.settings import Settings, read_settings

PROGRESS = "progress"
_REPORT_EVERY_S = 10.0
_RETRIES = 3
_RETRY_AFTER_S = 20


def read_all() -> tuple[Settings, Configuration]:
    """Return the present settings and configuration, so that an edit takes effect at the next step.

    Raises:
        ConfigError: An environment variable or a file is wrong.
    """
    settings = read_settings()
    return settings, load_config(settings.config)


def read_lanes() -> tuple[Settings, LaneConfigs]:
    """Return the present settings and the lanes; an error in a sweep or another lane does not hide a lane.

    Raises:
        ConfigError: An environment variable, policy.yaml or pipeline.yaml is wrong.
    """
    settings = read_settings()
    return settings, load_lanes(settings.config)


def now_ms() -> int:
    """Return the present time in UTC milliseconds."""
    return int(time.time() * 1000)


def audit(context: dg.AssetExecutionContext, why: str, trigger: str) -> AuditContext:
    """Return the audit context of a change that a run makes in the registry."""
    return AuditContext(now_ms=now_ms(), who=f"dagster run {context.run.run_id}", why=why, trigger=trigger)


@contextmanager
def retried() -> Generator[None]:
    """Make Dagster retry the step after a `Retryable` error, and after no other error."""
    try:
        yield
    except Retryable as error:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_RETRY_AFTER_S) from error


@dg.resource(description="Progress of long work: a line in the run's log every ten seconds and at the end of the work.")
def log_progress(context: dg.InitResourceContext) -> Progress:
    """Report progress to the log of the run."""

    def write(line: str) -> None:
        if context.log:
            context.log.info(line)

    return Lines(write, _REPORT_EVERY_S)
