"""Which night a run works on, whatever is planned meanwhile."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
from asset_kit import World, graph, metadata_of

from assets import run_lock
from assets.jobs import NIGHT as NIGHT_ASSETS
from assets.run_lock import NIGHT, tag_planned_night
from mei_pipeline.night.store import read_night_plan, write_night_plan


def planned(instance: dg.DagsterInstance, night: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("night_plan", metadata={"night": night * 64}))


def begin(instance: dg.DagsterInstance, *steps: str, **tags: str) -> str | None:
    """Begin a run of some assets, and return the night in its tag."""
    run_id = instance.add_run(dg.DagsterRun("nightly", tags={NIGHT: tags["night"]} if tags else {})).run_id
    tag_planned_night(instance, run_id, steps)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.tags.get(NIGHT)


def test_a_run_keeps_the_latest_plan_from_its_start() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        planned(instance, "a")
        first = instance.add_run(dg.DagsterRun("nightly")).run_id
        tag_planned_night(instance, first, ["sweep_results"])
        planned(instance, "b")
        tag_planned_night(instance, first, ["sweep_results"])
        run = instance.get_run_by_id(first)
        assert run is not None
        assert run.tags[NIGHT] == "a" * 16
        readers = set(NIGHT_ASSETS) - {"night_plan", "promoted"}
        assert {begin(instance, reader) for reader in readers} == {"b" * 16}
        assert begin(instance, "features", night="c" * 16) == "c" * 16, "a retried run has the night of its parent"
        for others in (["night_plan", "features"], ["promoted"], ["candles"]):
            assert begin(instance, *others) is None


def test_every_asset_asks_its_run_for_the_plan() -> None:
    asking = [
        path.name for path in Path(run_lock.__file__).parent.glob("*.py") if "read_night_plan" in path.read_text()
    ]
    assert asking == ["run_lock.py"]


def test_an_asset_that_is_materialised_alone_works_on_the_latest_night_that_was(world: World) -> None:
    plan = read_night_plan(world.settings)
    other = replace(plan, as_of_ms=plan.as_of_ms + 1)
    write_night_plan(world.settings, other)  # by a run that goes on, or that died before its asset was materialised
    with graph(world) as (loaded, instance):
        nightly = loaded.resolve_job_def("nightly")
        result = nightly.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("candidates")])
        path = Path(str(metadata_of(instance, "candidates")["path"].value))
        run = instance.get_run_by_id(result.run_id)
    assert path.parent == world.settings.nights / plan.id[:16]
    assert run is not None
    assert run.tags[NIGHT] == plan.id[:16]
    assert read_night_plan(world.settings).id == other.id


def test_a_night_leaves_its_name_on_its_run(world: World) -> None:
    with graph(world) as (_, instance):
        run = instance.get_run_by_id(world.summary.run_id)
    assert run is not None
    assert run.tags[NIGHT] == world.summary.night[:16]
