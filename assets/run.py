"""Run jobs in this process on Dagster's persistent instance, so that runs of commands show in the UI too."""

import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef  # no public function opens an instance with other settings than its file

from assets import run_context
from assets.alerts import write_alert
from assets.graph import definitions
from assets.jobs import MAX_RETRIES
from assets.open_storage import kept_open
from assets.run_processes import running
from mei_pipeline import dagster_home
from mei_pipeline.config.load import Configuration
from mei_pipeline.errors import MeiError
from mei_pipeline.progress import Progress
from mei_pipeline.settings import Settings

# Dagster's compute logs redirect stderr, which would hide the progress bar. Stages print nothing else.
_OVERRIDES: Any = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@contextmanager
def open_instance(settings: Settings, config: Configuration) -> Generator[dg.DagsterInstance]:
    """Yield the instance whose runs the UI shows; DAGSTER_HOME is created if it does not exist."""
    dagster_home.make(settings.dagster, ticks_days=config.pipeline.retention.ticks_days)
    dagster_home.enter(settings.dagster, settings.dagster_home)
    reference = InstanceRef.from_dir(str(settings.dagster_home), overrides=_OVERRIDES)
    with dg.DagsterInstance.from_ref(kept_open(reference)) as instance:
        yield instance


def new_run_id() -> str:
    """Return an id for a new run."""
    return str(uuid.uuid4())


def run_job(  # noqa: PLR0913 - all but four have a default
    name: str,
    settings: Settings,
    config: Configuration,
    instance: dg.DagsterInstance,
    *,
    run_id: str = "",
    run_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    partition: str | None = None,
    progress: Progress | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job to its end, in this process.

    Args:
        name: The job.
        settings: Settings from this process's environment, which the assets read as well.
        config: The configuration.
        instance: Dagster's instance for the run.
        run_id: Its id; a new one by default.
        run_config: Configuration of its assets.
        tags: Its tags.
        partition: Its partition; None for a job without partitions.
        progress: Called as the work advances; by default the run's log.

    Raises:
        MeiError: A stage or a blocking check failed; an alert is written first.
    """
    identity = run_id or new_run_id()
    job = definitions(config, progress=progress).resolve_job_def(name)
    try:
        with running(settings, identity):
            return job.execute_in_process(
                run_config={**_QUIET, **(run_config or {})},
                instance=instance,
                run_id=identity,
                partition_key=partition,
                # The user repeats a failed command; the daemon must not retry it as well.
                tags={MAX_RETRIES: "0", **(tags or {})},
            )
    except dg.DagsterError as error:
        raise MeiError(f"run {identity} of {name}: {error}; `mei ui` shows it") from error
    finally:
        _alert_if_failed(settings, instance, identity)


def _alert_if_failed(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is None or run.status != dg.DagsterRunStatus.FAILURE:
        return
    entries = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE})
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    failures = [event for event in events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    message = events[-1].message if events else None
    write_alert(settings, run, failures, message or "the run failed without a message", run_context.now_ms())
