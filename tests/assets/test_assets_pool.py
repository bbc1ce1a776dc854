"""The pool `gpu`: two sweeps at once, on the real instance."""

import threading
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from asset_kit import World, graph

from assets.graph import definitions
from assets.run import new_run_id
from mei_pipeline.progress import Progress, silent

SWEEP = dg.AssetKey("sweep_results")
FIRST, SECOND = new_run_id(), new_run_id()
PATIENCE_S = 30.0


def sweep(world: World, run_id: str, progress: Progress) -> bool:
    job = definitions(world.config, progress=progress).resolve_job_def("nightly")
    with graph(world) as (_, instance):
        return job.execute_in_process(instance=instance, run_id=run_id, asset_selection=[SWEEP]).success


def span(instance: dg.DagsterInstance, run_id: str) -> tuple[float, float]:
    """When the step of a run began and ended, in seconds."""
    entries = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS})
    begun, ended = (entry.timestamp for entry in entries)
    return begun, ended


@pytest.mark.long
def test_two_sweeps_take_turns(world: World) -> None:
    inside, waiting = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        # The first sweep stays in its step until the second one has asked for the slot and did not get it.
        if not inside.is_set():
            inside.set()
            assert waiting.wait(PATIENCE_S)

    with graph(world) as (_, instance), ThreadPoolExecutor(2) as threads:
        first = threads.submit(sweep, world, FIRST, hold)
        first.add_done_callback(lambda _: inside.set())
        assert inside.wait(PATIENCE_S)
        second = threads.submit(sweep, world, SECOND, silent)
        for _ in range(1000):
            if instance.event_log_storage.get_concurrency_info("gpu").pending_run_ids == {SECOND}:
                break
            threading.Event().wait(PATIENCE_S / 1000)
        held = instance.event_log_storage.get_concurrency_info("gpu")
        waiting.set()
        assert first.result(PATIENCE_S)
        assert second.result(PATIENCE_S)
        assert (held.slot_count, held.active_run_ids, held.pending_run_ids) == (1, {FIRST}, {SECOND})
        assert span(instance, FIRST)[1] <= span(instance, SECOND)[0]
