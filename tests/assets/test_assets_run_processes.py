"""A run whose process is gone is closed, and a run whose process lives is left alone, whoever launched it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from asset_kit import DAY_MS

from assets import run_processes
from assets.executor import run_executor
from assets.jobs import MAX_RETRIES
from assets.run_context import now_ms
from assets.run_processes import close_dead_runs, lock_path
from assets.sensors import gone_runs
from mei_pipeline.settings import Settings, read_settings

HOLD = (
    "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); sys.stdin.read()"
)
STARTED, STARTING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING
LATER_MS = DAY_MS


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def add(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, job: str = "nightly") -> str:
    return instance.add_run(dg.DagsterRun(job, status=status)).run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize("status", run_processes.UNFINISHED)
def test_a_killed_process_ends_its_run_with_an_alert(
    instance: dg.DagsterInstance, mei_settings: Settings, status: dg.DagsterRunStatus
) -> None:
    run_id = add(instance, status, "ingest")
    path = lock_path(mei_settings, run_id)
    path.parent.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert close_dead_runs(mei_settings, instance, now_ms() + LATER_MS, launcher_gone=True) == ()
        assert status_of(instance, run_id) == status
        process.kill()
    assert close_dead_runs(mei_settings, instance, now_ms()) == (run_id,)
    assert status_of(instance, run_id) == dg.DagsterRunStatus.FAILURE
    alert = json.loads((mei_settings.logs / "alerts" / f"{run_id}.json").read_text())
    assert (alert["run_id"], alert["job"], alert["step"]) == (run_id, "ingest", "")
    assert "process of the run ended" in alert["error"]
    assert not path.exists()
    assert close_dead_runs(mei_settings, instance, now_ms()) == ()


def test_a_run_that_is_yet_to_begin_has_three_minutes(instance: dg.DagsterInstance, mei_settings: Settings) -> None:
    runs = [add(instance, status) for status in run_processes.UNFINISHED]
    assert close_dead_runs(mei_settings, instance, now_ms()) == ()
    assert set(close_dead_runs(mei_settings, instance, now_ms() + LATER_MS)) == set(runs)


def test_a_launch_ends_with_its_launcher(instance: dg.DagsterInstance, mei_settings: Settings) -> None:
    starting, _ = add(instance, STARTING), add(instance, STARTED)
    assert close_dead_runs(mei_settings, instance, now_ms(), launcher_gone=True) == (starting,)


def test_finished_runs_stay_as_they_are(instance: dg.DagsterInstance, mei_settings: Settings) -> None:
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        add(instance, status)
    assert close_dead_runs(mei_settings, instance, now_ms() + LATER_MS, launcher_gone=True) == ()


@pytest.mark.parametrize(("retry", "tag"), [(True, None), (False, "0")])
def test_a_run_that_was_stopped_is_not_retried(
    instance: dg.DagsterInstance, mei_settings: Settings, retry: bool, tag: str | None
) -> None:
    run_id = add(instance, STARTED)
    close_dead_runs(mei_settings, instance, now_ms() + LATER_MS, retry=retry)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.tags.get(MAX_RETRIES) == tag


def test_the_sensor_closes_what_is_gone(instance: dg.DagsterInstance, mei_settings: Settings) -> None:
    run_id = add(instance, STARTED)
    path = lock_path(mei_settings, run_id)
    path.parent.mkdir(parents=True)
    path.touch()
    told = gone_runs(dg.build_sensor_context(instance=instance))
    assert isinstance(told, dg.SkipReason)
    assert told.skip_message == f"closed {run_id}"


@dg.op
def probe(context: dg.OpExecutionContext) -> None:
    """Look, as another process would, whether this run has a process."""
    closed = close_dead_runs(read_settings(), context.instance, now_ms() + LATER_MS)
    context.log.info("closed %s", closed)
    assert closed == ()


@dg.job(executor_def=run_executor)
def probing() -> None:
    probe()


def test_every_run_of_the_code_location_holds_its_lock(mei_settings: Settings) -> None:
    with dg.instance_for_test() as instance:
        result = dg.execute_job(dg.reconstructable(probing), instance)
        assert result.success
        held = run_processes.HELD_LOCKS.pop()
        assert held.lock_file == str(lock_path(mei_settings, result.run_id))
        held.release()
        # Its process has ended: the file goes, the run stays as it is.
        assert close_dead_runs(mei_settings, instance, now_ms() + LATER_MS) == ()
        assert not lock_path(mei_settings, result.run_id).exists()
