"""Sensors: acknowledgements of lanes, lanes with outdated files, failed runs, and runs without a process."""

import json

import dagster as dg

from assets import run_context
from assets.alerts import write_alert
from assets.jobs import HAND_OVER
from assets.lane_reports import check_event, fingerprint, read_curve, report_event
from assets.lanes import CHECK, check_acknowledgement
from assets.run_processes import close_dead_runs
from mei_pipeline.config.load import LaneConfigs
from mei_pipeline.errors import DataError, MeiError
from mei_pipeline.execution.journal.curve import EquityCurve
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import drift, read_status
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import Settings, read_settings

LANE, TRANSITION = "mei/lane", "mei/transition"
_LOOK_EVERY_S = 30
_LONGEST_WAIT_S = 3_600
RUNNING = dg.DefaultSensorStatus.RUNNING
Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


@dg.sensor(
    name="lane_acks",
    minimum_interval_seconds=_LOOK_EVERY_S,
    default_status=RUNNING,
    description="Reports config, health, positions and equity of each lane: once per change, and once an hour while "
    "its executor runs.",
)
def lane_acks(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Report each changed status file as an event on the lane's asset; the cursor has the last reported states."""
    settings, config = _read_lanes(context)
    registry = open_home_registry(settings)
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    events: list[Event] = []
    for name in sorted(config.lanes):
        try:
            status = read_status(settings.lanes, name)
        except DataError as error:
            context.log.warning(str(error))
            continue
        pointer = lane_pointer(registry, name)
        present, before = fingerprint(status), seen.get(name, "")
        if status is not None and present != before:
            events.append(report_event(name, status, _curve_or_warning(context, settings, name)))
        passed, words = check_acknowledgement(pointer, status, run_context.now_ms())
        # A status that gets old changes only the words of the check: a report would say that the executor runs.
        checked = words if pointer is not None or status is not None else ""
        if checked and (checked != seen.get(f"{name}/{CHECK}") or present != before):
            events.append(check_event(name, words, passed=passed))
        seen |= {name: present, f"{name}/{CHECK}": checked}
    return dg.SensorResult(asset_events=events, cursor=json.dumps(seen, sort_keys=True))


@dg.sensor(
    name="hand_over",
    job_name=HAND_OVER,
    minimum_interval_seconds=_LOOK_EVERY_S,
    default_status=RUNNING,
    description="Launches the job hand_over if a lane's files differ from the registry, for example after a promotion "
    "or rollback while Dagster was down.",
)
def hand_over(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Launch one run per lane with outdated files, and further runs while they stay outdated."""
    settings, config = _read_lanes(context)
    registry = open_home_registry(settings)
    requests: list[dg.RunRequest] = []
    waiting: list[str] = []
    for name in sorted(config.lanes):
        found = drift(registry, settings.lanes, name)
        for difference in found.differences:
            context.log.info(difference)
        if found.differences and found.pointer is not None:
            request = hand_over_run(context.instance, name, found.pointer.transition_id, run_context.now_ms() / 1000)
            if request is None:
                waiting.append(f"{name} has outdated files: its last hand-over is in progress, or too recent to retry")
            else:
                requests.append(request)
    if requests:
        return dg.SensorResult(run_requests=requests)
    return dg.SkipReason("; ".join(waiting) or "the files of every lane match the registry")


def _read_lanes(context: dg.SensorEvaluationContext) -> tuple[Settings, LaneConfigs]:
    """Return settings and lanes, and log the lanes whose files are invalid; the others go on."""
    settings, config = run_context.read_lanes()
    for problem in config.unusable.values():
        context.log.warning(problem)
    return settings, config


def hand_over_run(instance: dg.DagsterInstance, lane: str, transition: str, now_s: float) -> dg.RunRequest | None:
    """Return the next run that brings a lane to a transition, or None if it is too early for one.

    Each attempt has its own run key, because Dagster skips a key that was ever used, also after a failed run. The
    second attempt starts 30 s after the end of the first; each wait is twice the one before, up to an hour.
    """
    tags = {LANE: lane, TRANSITION: transition}
    runs = instance.get_run_records(dg.RunsFilter(job_name=HAND_OVER, tags=tags))
    if any(not record.dagster_run.is_finished for record in runs):
        return None
    ends = [record.end_time or record.update_timestamp.timestamp() for record in runs]
    wait_s = min(_LOOK_EVERY_S * 2 ** (len(runs) - 1), _LONGEST_WAIT_S)
    if ends and now_s < max(ends) + wait_s:
        return None
    return dg.RunRequest(run_key=f"{lane}:{transition}:{len(runs)}", tags=tags)


@dg.run_failure_sensor(
    name="run_failed",
    monitor_all_code_locations=True,  # runs of `mei nightly` belong to none
    default_status=RUNNING,
    description="Writes logs/alerts/<run>.json for every run that failed: step, first cause and the command to resume.",
)
def run_failed(context: dg.RunFailureSensorContext) -> None:
    """Write the alert of a failed run."""
    settings = read_settings()
    failures = list(context.get_step_failure_events())
    message = context.failure_event.message or "the run failed without a message"
    path = write_alert(settings, context.dagster_run, failures, message, run_context.now_ms())
    context.log.info("alert: %s", path)


@dg.sensor(
    name="gone_runs",
    minimum_interval_seconds=_LOOK_EVERY_S,
    default_status=RUNNING,
    description="Fails runs whose process ended before them, and writes their alerts.",
)
def gone_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Close runs that would stay in progress without end and block later nightly runs."""
    settings = read_settings()
    closed = close_dead_runs(settings, context.instance, run_context.now_ms())
    return dg.SkipReason(f"closed {', '.join(closed)}" if closed else "every run in progress has a process")


def sensors() -> list[dg.SensorDefinition]:
    """Return every sensor."""
    return [lane_acks, hand_over, run_failed, gone_runs]


def _curve_or_warning(context: dg.SensorEvaluationContext, settings: Settings, lane: str) -> EquityCurve | None:
    """Return the equity of a lane; a journal that can't be read is a warning, because the status is worth a report."""
    try:
        return read_curve(settings.lanes, lane)
    except MeiError as error:
        context.log.warning(str(error))
        return None
