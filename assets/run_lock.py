"""One nightly run at a time, and one plan per run, also if another run is planned at the same time."""

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
"""Tag of a Dagster run: short id of the nightly plan that it uses."""
_READERS = frozenset(NIGHT_ASSETS) - {"night_plan", "promoted"}
"""Assets that read the plan; a run of one of them without `night_plan` uses the plan of an earlier run."""


def tag_planned_night(instance: dg.DagsterInstance, run_id: str, steps: Iterable[str]) -> None:
    """Tag a run that reads a plan and makes none with the latest plan, before its first step.

    A retried run keeps its plan, because Dagster copies the tags.

    Args:
        instance: Dagster's instance.
        run_id: The run.
        steps: Names of the assets that it materialises.
    """
    if _READERS.intersection(steps) and "night_plan" not in steps:
        _night_of(instance, run_id)


def tag_new_night(instance: dg.DagsterInstance, run_id: str, plan: NightPlan) -> None:
    """Tag a run with the plan that it made, for its later steps."""
    instance.add_run_tags(run_id, {NIGHT: plan.id[:16]})


def plan_of(settings: Settings, context: dg.AssetExecutionContext) -> NightPlan:
    """Return the plan of a Dagster run, also if another run was planned since it began.

    Raises:
        DataError: No run was planned yet, or the plan is missing, damaged or of another version.
    """
    return read_night_plan(settings, _night_of(context.instance, context.run.run_id))


def _night_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the plan's id in the tag of a run; tag the run with the latest plan if it has no tag."""
    run = instance.get_run_by_id(run_id)
    if run is not None and NIGHT in run.tags:
        return run.tags[NIGHT]
    event = instance.get_latest_materialization_event(dg.AssetKey("night_plan"))
    latest = event.asset_materialization if event is not None else None
    if latest is None:
        return ""  # Dagster no longer has the event; an empty id means the current plan of the home
    night = str(latest.metadata["night"].value)[:16]  # events of earlier versions have the whole id
    instance.add_run_tags(run_id, {NIGHT: night})
    return night


@contextmanager
def hold_night_lock(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Generator[None]:
    """Hold the lock of nightly runs, after runs without a process are closed.

    Args:
        settings: Location of the lock.
        instance: Dagster's instance.
        run_id: The Dagster run, for the messages of other processes.

    Raises:
        Busy: Another nightly run is in progress.
    """
    with files.locked(settings.nights / "lock", f"a nightly run is in progress, run {run_id}"):
        refuse_second_night(settings, instance, run_id)
        yield


def refuse_second_night(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> None:
    """Raise if an earlier nightly run is in progress; runs without a process are closed first.

    Raises:
        Busy: Another nightly run is in progress.
    """
    # A dead nightly run is not retried: the present one replaces it.
    close_dead_runs(settings, instance, run_context.now_ms(), retry=False)
    records = instance.get_run_records(dg.RunsFilter(job_name=NIGHTLY, statuses=UNFINISHED), ascending=True)
    if records and records[0].dagster_run.run_id != run_id:
        first = records[0].dagster_run.run_id
        raise Busy(f"a nightly run is in progress, run {first}; wait for it to end, or cancel it in `mei ui`")
