"""Alerts of failed runs: the failed step, its cause, and the command that continues the run."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.jobs import NIGHTLY
from mei_pipeline import files
from mei_pipeline.notify import send_alert
from mei_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

_OURS = "mei_pipeline.errors."
_SHOWN = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end", "dagster/partition")
_WHOLE_GRAPH = "__ASSET_JOB"


@dataclass(frozen=True)
class RunAlert:
    """A failed run.

    Attributes:
        run_id: The run.
        job: Its job.
        step: The first failed step; empty if the run failed outside its steps.
        error: Message of MEI's error; of the first cause if no error of MEI was raised.
        first_cause: Message of the innermost error.
        resume: The command that continues the run.
        at_ms: Time of the alert, UTC milliseconds.
    """

    run_id: str
    job: str
    step: str
    error: str
    first_cause: str
    resume: str
    at_ms: int


def write_alert(
    settings: Settings, run: dg.DagsterRun, failures: list[dg.DagsterEvent], message: str, at_ms: int
) -> Path:
    """Write the alert of a failed run into `logs/alerts/`, and send it to the receivers in pipeline.yaml.

    The failed command and the sensor both write the alert; the second write replaces the file and sends nothing.

    Args:
        settings: Location of the logs.
        run: The run.
        failures: Failures of its steps, first one first; may be empty.
        message: Message of the run's own failure event.
        at_ms: The present, UTC milliseconds.
    """
    first = failures[0] if failures else None
    chain = _chain(first.step_failure_data.error) if first else []
    ours = [error for error in chain if error.startswith(_OURS)]
    cause = chain[-1] if chain else message
    alert = RunAlert(
        run_id=run.run_id,
        job=run.job_name,
        step=(first.step_key or "") if first else "",
        error=ours[0].removeprefix(_OURS) if ours else cause,
        first_cause=cause,
        resume=resume_command(settings, run),
        at_ms=at_ms,
    )
    path = settings.logs / "alerts" / f"{run.run_id}.json"
    sent = path.exists()
    files.write_json(path, asdict(alert))
    if not sent:
        text = f"{alert.error}\n\nstep: {alert.step or 'none'}\nrun: {alert.run_id}\nto continue: {alert.resume}"
        send_alert(settings, f"MEI: {alert.job} failed", text)
    return path


def resume_command(settings: Settings, run: dg.DagsterRun) -> str:
    """Return the command that continues a run; finished chunks and merged rows are not computed again."""
    if run.job_name == NIGHTLY:
        return _environment(settings) + _nightly(run)
    tags = {name: run.tags[name] for name in _SHOWN if name in run.tags}
    dagster = f"DAGSTER_HOME={shlex.quote(str(settings.dagster_home))} dagster"
    if run.job_name == _WHOLE_GRAPH:
        chosen = ",".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
        command = f"{dagster} asset materialize -m mei_pipeline.definitions --select {shlex.quote(chosen)}"
        partition = run.tags.get("dagster/partition")
        return _environment(settings) + command + (f" --partition {shlex.quote(partition)}" if partition else "")
    command = f"{dagster} job execute -m mei_pipeline.definitions -j {run.job_name}"
    return _environment(settings) + command + (f" --tags {shlex.quote(json.dumps(tags))}" if tags else "")


def _nightly(run: dg.DagsterRun) -> str:
    ops: Any = run.run_config.get("ops", {})
    options = ops.get("night_plan", {}).get("config", {})
    as_of = str(options.get("as_of", ""))
    command = f"mei nightly --profile {shlex.quote(str(options.get('profile', 'nightly')))}"
    return f"{command} --as-of {shlex.quote(as_of)}" if as_of else command


def _environment(settings: Settings) -> str:
    """Return the variables to set before the command if home or configuration are not those of the checkout."""
    default = Settings()
    variables = {"MEI_HOME": (settings.home, default.home), "MEI_CONFIG": (settings.config, default.config)}
    return "".join(f"{name}={shlex.quote(str(value))} " for name, (value, usual) in variables.items() if value != usual)


def _chain(error: "SerializableErrorInfo | None") -> list[str]:
    """Return the messages from the outermost error to the innermost, without Dagster's wrapper."""
    messages = []
    while error is not None:
        messages.append(error.message.strip())
        error = error.cause
    return messages[1:] if len(messages) > 1 else messages
