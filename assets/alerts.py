"""What is told of a failed run: what failed, why, and the command that goes on where it stopped."""

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
class Alert:
    """A run that failed.

    Attributes:
        run_id: The run.
        job: Its job.
        step: The first step that failed; empty where the run failed outside its steps.
        error: What MEI says of it; the first cause where the error is none of MEI's.
        first_cause: The innermost error.
        resume: The command that goes on where the run stopped.
        at_ms: When the alert was written.
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
    """Write the alert of a failed run into `logs/alerts/`, and send it to the receivers of pipeline.yaml.

    Writing it again replaces it and sends nothing: the command that failed and the sensor both write it.

    Args:
        settings: Where logs are.
        run: The run.
        failures: Its steps' failures, first one first; may be empty.
        message: What the run itself says.
        at_ms: The present.
    """
    first = failures[0] if failures else None
    chain = _chain(first.step_failure_data.error) if first else []
    ours = [error for error in chain if error.startswith(_OURS)]
    cause = chain[-1] if chain else message
    alert = Alert(
        run_id=run.run_id,
        job=run.job_name,
        step=(first.step_key or "") if first else "",
        error=ours[0].removeprefix(_OURS) if ours else cause,
        first_cause=cause,
        resume=resume_command(settings, run),
        at_ms=at_ms,
    )
    path = settings.logs / "alerts" / f"{run.run_id}.json"
    told = path.exists()
    files.write_json(path, asdict(alert))
    if not told:
        text = f"{alert.error}\n\nstep: {alert.step or 'none'}\nrun: {alert.run_id}\nto go on: {alert.resume}"
        send_alert(settings, f"MEI: {alert.job} failed", text)
    return path


def resume_command(settings: Settings, run: dg.DagsterRun) -> str:
    """The command that does what a run did not finish; finished chunks and merged rows are not done again."""
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
    asked = ops.get("night_plan", {}).get("config", {})
    as_of = str(asked.get("as_of", ""))
    command = f"mei nightly --profile {shlex.quote(str(asked.get('profile', 'nightly')))}"
    return f"{command} --as-of {shlex.quote(as_of)}" if as_of else command


def _environment(settings: Settings) -> str:
    """What must be set where this home or configuration is not the checkout's own."""
    own = Settings()
    said = {"MEI_HOME": (settings.home, own.home), "MEI_CONFIG": (settings.config, own.config)}
    return "".join(f"{name}={shlex.quote(str(value))} " for name, (value, usual) in said.items() if value != usual)


def _chain(error: "SerializableErrorInfo | None") -> list[str]:
    """Messages from the outermost error to the innermost, without Dagster's own wrapper."""
    messages = []
    while error is not None:
        messages.append(error.message.strip())
        error = error.cause
    return messages[1:] if len(messages) > 1 else messages
