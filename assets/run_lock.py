"""One night at a time, whoever starts it, and one plan per run, whatever is planned meanwhile."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import dagster as dg

from assets import run_context
from assets.jobs import NIGHT as NIGHT_ASSETS
from assets.jobs import NIGHTLY
from assets.run_processes import UNFINISHED, close_dead_runs
from mei_pipeline import files
from mei_pipeline.errors import Busy
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import read_night_plan
from mei_pipeline.settings import Settings

NIGHT = "mei/night"
"""Tag of a run: the short id of the night that it works on."""
_READERS = frozenset(NIGHT_ASSETS) - {"night_plan", "promoted"}
"""Assets that read the plan; a run of one of them without `night_plan` works on a plan of an earlier run."""


def tag_planned_night(instance: dg.DagsterInstance, run_id: str, steps: Iterable[str]) -> None:
    """Write the latest plan into the tag of a run that reads a plan and makes none, before its first step.

    A retried run keeps the night that it began with: Dagster copies its tags.

    Args:
        instance: Where runs are recorded.
        run_id: The run.
        steps: Names of the assets that it is to make.
    """
    if _READERS.intersection(steps) and "night_plan" not in steps:
        _night_of(instance, run_id)


def tag_new_night(instance: dg.DagsterInstance, run_id: str, plan: NightPlan) -> None:
    """Let the rest of a run work on `plan`, which it has just made."""
    instance.add_run_tags(run_id, {NIGHT: plan.id[:16]})


def plan_of(settings: Settings, context: dg.AssetExecutionContext) -> NightPlan:
    """Return the plan that the run of `context` works on, also if another run has planned a night since it began.

    Raises:
        DataError: No night was planned yet, or the plan is gone or damaged.
    """
    return read_night_plan(settings, _night_of(context.instance, context.run.run_id))


def _night_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the night in the tag of a run, after writing the latest one into it if there is none."""
    run = instance.get_run_by_id(run_id)
    if run is not None and NIGHT in run.tags:
        return run.tags[NIGHT]
    event = instance.get_latest_materialization_event(dg.AssetKey("night_plan"))
    made = event.asset_materialization if event is not None else None
    if made is None:
        return ""  # Dagster has forgotten it: the plan that the home calls the current one
    night = str(made.metadata["night"].value)[:16]  # events of earlier versions hold the whole id
    instance.add_run_tags(run_id, {NIGHT: night})
    return night


@contextmanager
def hold_night_lock(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Generator[None]:
    """Hold the lock of nights, after closing the runs whose process is gone.

    Args:
        settings: Where nights are.
        instance: Where runs are recorded.
        run_id: The night's run, for the message that others get.

    Raises:
        Busy: Another night is running.
    """
    with files.locked(settings.nights / "lock", f"a night is running, run {run_id}"):
        refuse_second_night(settings, instance, run_id)
        yield


def refuse_second_night(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> None:
    """Let one night run at a time, the first that was asked for; a run whose process is gone is closed.

    Raises:
        Busy: Another run is a night in progress.
    """
    # A dead night is not retried: this one takes its place.
    close_dead_runs(settings, instance, run_context.now_ms(), retry=False)
    records = instance.get_run_records(dg.RunsFilter(job_name=NIGHTLY, statuses=UNFINISHED), ascending=True)
    if records and records[0].dagster_run.run_id != run_id:
        first = records[0].dagster_run.run_id
        raise Busy(f"a night is running, run {first}; wait for it to end, or cancel it in `mei ui`")
