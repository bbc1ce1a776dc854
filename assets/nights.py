"""One night at a time, whoever starts it: a command of its own process, the schedule or a person in the UI."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import dagster as dg

from assets.jobs import NIGHTLY
from mei_pipeline import files
from mei_pipeline.errors import Busy
from mei_pipeline.settings import Settings

UNDER_LOCK = "mei/under_lock"
"""Tag of the runs that live in a process which holds the night's lock."""
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@contextmanager
def holding_night(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold the lock of nights, after closing what a killed holder left unfinished.

    Args:
        settings: Where nights are.
        instance: Where runs are recorded.
        run_id: The night's run, for the message that others get.

    Raises:
        Busy: Another night is running.
    """
    with _locked(settings, run_id):
        _close_dead(instance)
        _refuse_other(instance, run_id)
        yield


def refuse_second_night(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> None:
    """Let one night run at a time, so that no two plans take turns at being the current one.

    Raises:
        Busy: Another run is a night in progress.
    """
    with suppress(Busy), _locked(settings, run_id):
        # Nobody holds the lock, so whoever ran under it is dead.
        _close_dead(instance)
    _refuse_other(instance, run_id)


def _locked(settings: Settings, run_id: str) -> AbstractContextManager[None]:
    return files.locked(settings.nights / "lock", f"a night is running, run {run_id}")


def _close_dead(instance: dg.DagsterInstance) -> None:
    for run in instance.get_runs(dg.RunsFilter(tags={UNDER_LOCK: "yes"}, statuses=_UNFINISHED)):
        instance.report_run_failed(run, "its process died: closed by the next night")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _refuse_other(instance: dg.DagsterInstance, run_id: str) -> None:
    """Of two nights in progress the one that was asked for first goes on; one that is yet to begin comes last."""
    records = instance.get_run_records(dg.RunsFilter(job_name=NIGHTLY, statuses=_UNFINISHED), ascending=True)
    if records and records[0].dagster_run.run_id != run_id:
        first = records[0].dagster_run.run_id
        raise Busy(f"a night is running, run {first}; wait for it to end, or cancel it in `mei ui`")
