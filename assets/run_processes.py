"""Processes of runs: lock files show which runs have a process, and runs without one are closed."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from assets.alerts import write_alert
from assets.jobs import MAX_RETRIES
from mei_pipeline.settings import Settings

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_START_WITHIN_MS = 180_000  # from a run's last event to its first step; the process imports its code in between
_PROBED_WITHIN_S = 10.0  # another process may hold the lock for a moment while it probes it
_WHY = "the process of the run ended before the run did: killed, out of memory, or stopped with `mei ui`"

HELD_LOCKS: list[FileLock] = []
"""Locks that this process keeps until it ends."""


def lock_path(settings: Settings, run_id: str) -> Path:
    """Return the path of the lock that the process of a run holds."""
    return settings.dagster / "running" / run_id


@contextmanager
def running(settings: Settings, run_id: str) -> Generator[None]:
    """Hold the lock of a run; the operating system releases it when the process dies."""
    path = lock_path(settings, run_id)
    lock = _acquire(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def hold_until_exit(settings: Settings, run_id: str) -> None:
    """Take the lock of a run and keep it until this process ends.

    Dagster writes the run's last event after all code of MEI has returned.
    """
    HELD_LOCKS.append(_acquire(lock_path(settings, run_id)))


def close_dead_runs(
    settings: Settings,
    instance: dg.DagsterInstance,
    now_ms: int,
    *,
    launcher_gone: bool = False,
    retry: bool = True,
) -> tuple[str, ...]:
    """Fail every unfinished run without a process, write its alert, and free its places in pools.

    A run whose lock is held has a process. A run without a lock file has not begun its first step; it counts as dead
    three minutes after its last event.

    Args:
        settings: Location of locks and alerts.
        instance: Dagster's instance.
        now_ms: The present, UTC milliseconds.
        launcher_gone: True if no webserver or daemon of this home runs, so that no process will start a run.
        retry: True if the daemon may retry closed runs, as often as the job's tag allows.

    Returns:
        Ids of the runs that were closed.
    """
    closed = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED), ascending=True):
        run = record.dagster_run
        idle_ms = now_ms - record.update_timestamp.timestamp() * 1000
        awaited = idle_ms < _START_WITHIN_MS and not (launcher_gone and run.status == dg.DagsterRunStatus.STARTING)
        if not _is_gone(settings, run.run_id, awaited=awaited):
            continue
        # The process may have written its last event since the records were read.
        latest = instance.get_run_by_id(run.run_id)
        if latest is not None and latest.status in UNFINISHED:
            _close(settings, instance, latest, now_ms, retry=retry)
            closed.append(run.run_id)
    _forget_locks(settings, instance)
    return tuple(closed)


def _close(settings: Settings, instance: dg.DagsterInstance, run: dg.DagsterRun, now_ms: int, *, retry: bool) -> None:
    if not retry:
        instance.add_run_tags(run.run_id, {MAX_RETRIES: "0"})
    instance.report_run_failed(run, _WHY)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    write_alert(settings, run, [], _WHY, now_ms)


def _is_gone(settings: Settings, run_id: str, *, awaited: bool) -> bool:
    path = lock_path(settings, run_id)
    if not path.exists():
        return not awaited
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _forget_locks(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Remove the lock files of processes that ended."""
    for path in lock_path(settings, "").glob("*"):
        run = instance.get_run_by_id(path.name)
        if run is not None and run.is_finished and _is_gone(settings, path.name, awaited=True):
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    lock.acquire(timeout=_PROBED_WITHIN_S)
    return lock
