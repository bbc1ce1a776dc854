"""One night at a time, whoever starts it: a command of its own process, the schedule or a person in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assets import surroundings
from assets.jobs import NIGHTLY
from assets.running import UNFINISHED, close_gone
from mei_pipeline import files
from mei_pipeline.errors import Busy
from mei_pipeline.settings import Settings


@contextmanager
def holding_night(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
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
    close_gone(settings, instance, surroundings.now_ms(), retry=False)
    records = instance.get_run_records(dg.RunsFilter(job_name=NIGHTLY, statuses=UNFINISHED), ascending=True)
    if records and records[0].dagster_run.run_id != run_id:
        first = records[0].dagster_run.run_id
        raise Busy(f"a night is running, run {first}; wait for it to end, or cancel it in `mei ui`")
