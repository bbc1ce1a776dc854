"""What watches the lanes and the runs."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from asset_kit import AS_OF_MS, DAY_MS, PROFILE, World, graph, write_config

from assets.alerts import resume_command
from assets.run import new_run_id, run_job
from assets.schedules import schedules
from assets.sensors import hand_over, hand_over_run, lane_acks, run_failed
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.files import write_json
from mei_pipeline.night.store import read_night_plan
from mei_pipeline.promotion.promote import PromotionRequest, promote
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.lanes import drift, pointer_path
from mei_pipeline.registry.records import AuditContext, Lane
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import Settings

HOUR_MS = DAY_MS // 24
EXECUTE = "DAGSTER_HOME=/h/dagster dagster job execute -m mei_pipeline.definitions"
RANGE = '{"dagster/asset_partition_range_start": "1h|2025-01"}'
STARTED = dg.DagsterRunStatus.STARTED
LANE = Lane("paper1", "paper", "synthetic", "primary")


def look(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One evaluation of a sensor."""
    found = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(found, dg.SensorResult)
    return found


def status_of(world: World, *, generation: int = 1, hour: int = 0, health: str = "ok") -> dict[str, object]:
    pointer = lane_pointer(open_registry(world.settings.registry), "paper1")
    assert pointer is not None
    return {
        "schema_version": 2,
        "lane": "paper1",
        "equity_usd": 10_017.123,
        "config_id": pointer.config_id,
        "generation": generation,
        "since_bar_ms": AS_OF_MS,
        "written_ms": AS_OF_MS + hour * HOUR_MS,
        "health": health,
        "positions": {"AAA": -0.5},
    }


def told(result: dg.SensorResult) -> list[tuple[str, str, bool | None]]:
    """Asset, kind of event and, of a check, whether it passed."""
    return [
        (
            event.asset_key.to_user_string(),
            type(event).__name__,
            event.passed if isinstance(event, dg.AssetCheckEvaluation) else None,
        )
        for event in result.asset_events
    ]


def test_a_pointer_that_nobody_acknowledged_warns_once(world: World) -> None:
    with graph(world) as (_, instance):
        first = look(lane_acks, instance)
        again = look(lane_acks, instance, first.cursor)
    assert told(first) == [
        ("lane/paper1", "AssetCheckEvaluation", False),
        ("lane/paper2", "AssetCheckEvaluation", False),
    ]
    assert told(again) == []


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ({}, {}, []),
        ({}, {"hour": 1}, ["AssetMaterialization", "AssetCheckEvaluation"]),
        ({}, {"health": "halted"}, ["AssetMaterialization", "AssetCheckEvaluation"]),
    ],
)
def test_an_acknowledgement_is_reported_once(
    world: World, before: dict[str, int], after: dict[str, int], events: list[str]
) -> None:
    path = world.settings.lanes / "paper1" / "status.json"
    with graph(world) as (_, instance):
        silence = look(lane_acks, instance)
        write_json(path, status_of(world, **before))
        first = look(lane_acks, instance, silence.cursor)
        write_json(path, status_of(world, **after))
        second = look(lane_acks, instance, first.cursor)
    assert told(first) == [
        ("lane/paper1", "AssetMaterialization", None),
        ("lane/paper1", "AssetCheckEvaluation", True),
    ]
    assert [kind for _, kind, _ in told(second)] == events


def test_what_an_executor_says_is_short(world: World) -> None:
    said = status_of(world) | {"positions": {"AAA": -0.123456789012345, "BBB": 2.0}}
    write_json(world.settings.lanes / "paper1" / "status.json", said)
    with graph(world) as (_, instance):
        event = look(lane_acks, instance).asset_events[0]
    assert event.metadata["config"].value == str(said["config_id"])[:12]
    assert event.metadata["equity_usd"].value == 10_017.12
    assert event.metadata["positions"].value == "| symbol | size |\n| --- | --- |\n| AAA | -0.1235 |\n| BBB | 2 |"


def test_an_executor_on_another_generation_has_not_acknowledged(world: World) -> None:
    write_json(world.settings.lanes / "paper1" / "status.json", status_of(world, generation=7))
    with graph(world) as (_, instance):
        assert ("lane/paper1", "AssetCheckEvaluation", False) in told(look(lane_acks, instance))


def test_an_executor_without_a_config_has_not_acknowledged(world: World) -> None:
    said = status_of(world) | dict.fromkeys(("config_id", "generation", "since_bar_ms", "equity_usd"))
    write_json(world.settings.lanes / "paper1" / "status.json", said)
    with graph(world) as (_, instance):
        state, check = look(lane_acks, instance).asset_events[:2]
    assert (state.metadata["config"].value, state.metadata["in_force_since_bar"].value) == (None, None)
    assert (check.passed, "the executor has no config in force" in str(check.description)) == (False, True)


def test_a_damaged_status_hides_no_other_lane(world: World) -> None:
    (world.settings.lanes / "paper1" / "status.json").write_text("{")
    with graph(world) as (_, instance):
        assert told(look(lane_acks, instance)) == [("lane/paper2", "AssetCheckEvaluation", False)]


def test_the_check_of_a_lane_says_what_the_sensor_says(world: World) -> None:
    write_json(world.settings.lanes / "paper1" / "status.json", status_of(world))
    with graph(world) as (loaded, instance):
        keys = [dg.AssetCheckKey(dg.AssetKey(["lane", name]), "acknowledged") for name in ("paper1", "paper2")]
        job = dg.define_asset_job("asked", dg.AssetSelection.checks(*keys))
        defs = dg.Definitions.merge(loaded, dg.Definitions(jobs=[job]))
        result = defs.resolve_job_def("asked").execute_in_process(instance=instance)
        found = {item.asset_key.to_user_string(): item.passed for item in result.get_asset_check_evaluations()}
    assert found == {"lane/paper1": True, "lane/paper2": False}


def test_lanes_in_line_with_the_registry_ask_for_nothing(world: World) -> None:
    with graph(world) as (_, instance):
        assert isinstance(hand_over(dg.build_sensor_context(instance=instance)), dg.SkipReason)


def test_a_rollback_is_a_hand_over_of_its_own(world: World) -> None:
    """A → B → A: a run key of the config alone would swallow the third."""
    registry = open_registry(world.settings.registry)
    other = lane_pointer(registry, "paper2")
    first = lane_pointer(registry, "paper1")
    assert other is not None
    assert first is not None
    policy_id = read_night_plan(world.settings).selection.id
    keys = []
    with graph(world) as (_, instance):
        for step, config_id in enumerate((None, other.config_id, first.config_id)):
            if config_id:
                audit = AuditContext(AS_OF_MS + step, "a person", "looked at it", "command")
                promote(registry, world.settings.lanes, PromotionRequest(LANE, config_id, step, audit), policy_id)
            pointer_path(world.settings.lanes, "paper1").unlink()
            requests = look(hand_over, instance).run_requests or []
            keys += [request.run_key for request in requests]
            run_job("hand_over", world.settings, world.config, instance)
            assert drift(registry, world.settings.lanes, "paper1").differences == ()
    assert len(keys) == len(set(keys)) == 3
    assert all(str(key).startswith("paper1:") for key in keys)


def test_a_hand_over_that_failed_is_tried_again_after_a_while() -> None:
    keys, at_s = set(), time.time()
    with dg.DagsterInstance.ephemeral() as instance:
        for wait_s in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600):
            request = hand_over_run(instance, "paper1", "7", at_s)
            assert request is not None
            assert request.run_key not in keys, "Dagster skips a key that was used"
            keys.add(request.run_key)
            begun = instance.add_run(dg.DagsterRun("hand_over", tags=dict(request.tags), status=STARTED))
            assert hand_over_run(instance, "paper1", "7", at_s + DAY_MS) is None, "it has not ended"
            instance.report_run_failed(begun)
            ended_s = instance.get_run_records()[0].end_time
            assert ended_s is not None
            assert hand_over_run(instance, "paper1", "7", ended_s + wait_s - 1) is None
            at_s = ended_s + wait_s + 1
        assert hand_over_run(instance, "paper1", "8", time.time()) is not None, "another transition is tried at once"
        assert hand_over_run(instance, "paper2", "7", time.time()) is not None


def test_the_sensor_waits_for_the_hand_over_in_progress(world: World) -> None:
    pointer_path(world.settings.lanes, "paper1").unlink()
    with graph(world) as (_, instance):
        (request,) = look(hand_over, instance).run_requests or []
        instance.add_run(dg.DagsterRun("hand_over", tags=dict(request.tags), status=STARTED))
        told = hand_over(dg.build_sensor_context(instance=instance))
        assert isinstance(told, dg.SkipReason)
        assert "paper1 has outdated files" in str(told.skip_message)


def break_configuration(world: World) -> None:
    """A sweep and the lane paper2 are wrong; what concerns lane paper1 is right."""
    folder = world.settings.config
    for path in (folder / "sweeps" / "wrong.yaml", folder / "lanes" / "paper2.yaml"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("no: such key\n")


def test_a_wrong_file_stops_no_hand_over_of_another_lane(world: World) -> None:
    pointer_path(world.settings.lanes, "paper1").unlink()
    registry = open_registry(world.settings.registry)
    with graph(world) as (_, instance):
        break_configuration(world)
        (request,) = look(hand_over, instance).run_requests or []
        assert request.tags["mei/lane"] == "paper1"
        with pytest.raises(Refused, match="lane paper2: has a proposal but no file"):
            run_job("hand_over", world.settings, world.config, instance)
        assert drift(registry, world.settings.lanes, "paper1").differences == ()
        check = told(look(lane_acks, instance))
    assert check == [("lane/paper1", "AssetCheckEvaluation", False)]


def failed_run(world: World, instance: dg.DagsterInstance) -> dg.DagsterRun:
    asked = {"ops": {"night_plan": {"config": {"profile": PROFILE, "as_of": "2025-04-11T00:00Z"}}}}
    run_id = new_run_id()
    with pytest.raises(DataError):
        run_job("nightly", world.settings, world.config, instance, run_id=run_id, run_config=asked)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


def test_a_failed_run_leaves_an_alert_that_says_how_to_go_on(world: World) -> None:
    with graph(world) as (_, instance):
        run = failed_run(world, instance)
        break_configuration(world)  # it may be the reason of the failure
        path = world.settings.logs / "alerts" / f"{run.run_id}.json"
        by_command = json.loads(path.read_text())
        path.unlink()
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert events[0].dagster_event is not None
        context = dg.build_run_status_sensor_context(
            "run_failed", events[0].dagster_event, instance, run
        ).for_run_failure()
        run_failed(context)
        by_sensor = json.loads(path.read_text())
    home, config = world.settings.home, world.settings.config
    assert by_sensor | {"at_ms": 0} == by_command | {"at_ms": 0}
    assert (by_sensor["run_id"], by_sensor["job"], by_sensor["step"]) == (run.run_id, "nightly", "night_plan")
    assert "no symbol of synthetic is fit" in by_sensor["first_cause"]
    assert by_sensor["resume"] == (
        f"MEI_HOME={home} MEI_CONFIG={config} mei nightly --profile smoke --as-of 2025-04-11T00:00Z"
    )


@pytest.mark.parametrize(
    ("run", "command"),
    [
        (
            dg.DagsterRun("ingest", tags={"dagster/asset_partition_range_start": "1h|2025-01", "other": "x"}),
            f"{EXECUTE} -j ingest --tags '{RANGE}'",
        ),
        (
            dg.DagsterRun("hand_over"),
            f"{EXECUTE} -j hand_over",
        ),
        (
            dg.DagsterRun("__ASSET_JOB", asset_selection=frozenset({dg.AssetKey("features")})),
            "DAGSTER_HOME=/h/dagster dagster asset materialize -m mei_pipeline.definitions --select features",
        ),
        (dg.DagsterRun("nightly"), "mei nightly --profile nightly"),
    ],
)
def test_the_command_to_resume(run: dg.DagsterRun, command: str) -> None:
    assert resume_command(Settings(home=Path("/h")), run) == f"MEI_HOME=/h {command}"


def test_the_hourly_ingest_asks_for_what_may_have_news(world: World) -> None:
    ingest, *_ = schedules(automation=False, lanes=True)
    now = datetime.now(UTC)
    with graph(world) as (loaded, instance):
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=now, repository_def=loaded.get_repository_def()
        )
        requests = ingest.evaluate_tick(context).run_requests or []
    assert [request.tags["dagster/asset_partition_range_start"] for request in requests] == ["1h|2025-03"]
    assert [request.tags["dagster/asset_partition_range_end"] for request in requests] == [f"1h|{now:%Y-%m}"]


def test_without_sources_there_is_nothing_to_schedule(world: World) -> None:
    write_config(world.settings.config)
    path = world.settings.config / "pipeline.yaml"
    head, _, rest = path.read_text().partition("sources:")
    path.write_text(f"{head}sources: []\nwindow:{rest.partition('window:')[2]}")
    ingest, *_ = schedules(automation=False, lanes=True)
    with graph(world) as (loaded, instance):
        context = dg.build_schedule_context(instance=instance, repository_def=loaded.get_repository_def())
        told = ingest.evaluate_tick(context)
    assert not told.run_requests
    assert "no sources" in (told.skip_message or "")
