"""The graph as it loads, against the table of what it is meant to be."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest
from asset_kit import write_config

from assets.graph import definitions
from mei_pipeline.candles.quality import RULES
from mei_pipeline.definitions import defs
from mei_pipeline.selection.gates import gate_names
from mei_pipeline.settings import CHECKOUT


class Row(NamedTuple):
    """What one asset is meant to be; of its checks, those named in upper case block."""

    group: str
    upstream: str
    blocking: str = ""
    warning: str = ""
    kernels: bool = False
    pool: str | None = None


TABLE = {
    "candles": Row("ingest", "", "readable"),
    "funding": Row("ingest", "", "schema", "cadence"),
    "coverage": Row("ingest", "candles funding", "", "fresh gaps"),
    "night_plan": Row("research", "candles funding coverage", "tradable_universe", " ".join(RULES)),
    "features": Row("research", "night_plan", "finite_after_warmup", kernels=True),
    "sweep_results": Row("research", "night_plan features", "complete replay_equal", kernels=True, pool="gpu"),
    "walk_forward": Row(
        "selection", "night_plan features sweep_results", "holdout_untouched", kernels=True, pool="gpu"
    ),
    "candidates": Row("selection", "sweep_results walk_forward", "unique_ids"),
    "gate_results": Row("selection", "candidates", "all_computed", " ".join(gate_names())),
    "role_assignments": Row("selection", "gate_results", "distinct_configs"),
    "deployments": Row("deploy", "role_assignments", "config_valid gates_passed"),
    "promoted": Row("deploy", "deployments"),
    "night_report": Row("deploy", "promoted", "", "names_all"),
    "lane/paper1": Row("lanes", "promoted", "", "acknowledged"),
    "lane/paper2": Row("lanes", "promoted", "", "acknowledged"),
    "lane_day": Row("lanes", "candles lane/paper1 lane/paper2", "", "replay_equivalence"),
}
JOBS = {
    "ingest": {"candles", "funding", "coverage"},
    "nightly": set(TABLE) - {"candles", "funding", "coverage", "lane/paper1", "lane/paper2", "lane_day"},
    "hand_over": {"promoted"},
    "replay_daily": {"lane_day"},
}


@pytest.fixture
def loaded(tmp_path: Path) -> dg.Definitions:
    return definitions(write_config(tmp_path / "config"), kernels="rules of today")


def words(keys: object) -> set[str]:
    return {key.to_user_string() for key in keys}


def checks_of(loaded: dg.Definitions, asset: str) -> Iterator[dg.AssetCheckSpec]:
    graph = loaded.resolve_asset_graph()
    for key in graph.asset_check_keys:
        if key.asset_key.to_user_string() == asset:
            yield graph.get_check_spec(key)


def test_these_assets_and_no_others(loaded: dg.Definitions) -> None:
    assert words(loaded.resolve_asset_graph().get_all_asset_keys()) == set(TABLE)


@pytest.mark.parametrize("asset", TABLE)
def test_an_asset_is_what_the_table_says(loaded: dg.Definitions, asset: str) -> None:
    row = TABLE[asset]
    node = loaded.resolve_asset_graph().get(dg.AssetKey(asset.split("/")))
    assert node.group_name == row.group
    assert words(node.parent_keys) == set(row.upstream.split())
    assert (node.pools or set()) == ({row.pool} if row.pool else set())
    assert node.code_version == ("rules of today" if row.kernels else None)
    assert node.is_materializable is not asset.startswith("lane/")
    checks = list(checks_of(loaded, asset))
    assert {check.name for check in checks if check.blocking} == set(row.blocking.split())
    assert {check.name for check in checks if not check.blocking} == set(row.warning.split())


@pytest.mark.parametrize("asset", TABLE)
def test_an_asset_explains_itself(loaded: dg.Definitions, asset: str) -> None:
    node = loaded.resolve_asset_graph().get(dg.AssetKey(asset.split("/")))
    assert len(node.description or "") > 150
    assert node.owners
    assert node.kinds
    columns = node.metadata["dagster/column_schema"].columns
    assert columns
    assert all(column.description for column in columns)
    assert all(check.description for check in checks_of(loaded, asset))


def test_candles_and_lane_days_have_partitions(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned} == {
        "candles",
        "lane_day",
    }
    node = graph.get(dg.AssetKey("candles"))
    assert isinstance(node.partitions_def, dg.MultiPartitionsDefinition)
    dimensions = {item.name: item.partitions_def for item in node.partitions_def.partitions_defs}
    months = dimensions["month"].get_partition_keys()
    assert dimensions["interval"].get_partition_keys() == ["1h"]
    assert months[0] == "2025-01"
    assert isinstance(dimensions["month"], dg.TimeWindowPartitionsDefinition)
    assert dimensions["month"].end_offset == 1
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_a_lane_has_a_freshness_policy(loaded: dg.Definitions) -> None:
    assert loaded.resolve_asset_graph().get(dg.AssetKey(["lane", "paper1"])).freshness_policy is not None


@pytest.mark.parametrize("job", JOBS)
def test_a_job_selects(loaded: dg.Definitions, job: str) -> None:
    assert words(loaded.resolve_job_def(job).asset_layer.selected_asset_keys) == JOBS[job]


@pytest.mark.parametrize("automation", ["on", "off"])
def test_schedules_run_by_themselves_only_with_automation(tmp_path: Path, automation: str) -> None:
    loaded = definitions(write_config(tmp_path / "config", automation=automation))
    found = {schedule.name: schedule for schedule in loaded.schedules or ()}
    assert {name: (item.cron_schedule, item.execution_timezone) for name, item in found.items()} == {
        "ingest_schedule": ("5 * * * *", "UTC"),
        "nightly_schedule": ("50 0 * * *", "UTC"),
        "replay_schedule": ("20 0 * * *", "UTC"),
    }
    expected = dg.DefaultScheduleStatus.RUNNING if automation == "on" else dg.DefaultScheduleStatus.STOPPED
    assert {item.default_status for item in found.values()} == {expected}


def test_every_sensor_watches_from_the_start(loaded: dg.Definitions) -> None:
    assert {(item.name, item.default_status) for item in loaded.sensors or ()} == {
        ("lane_acks", dg.DefaultSensorStatus.RUNNING),
        ("hand_over", dg.DefaultSensorStatus.RUNNING),
        ("run_failed", dg.DefaultSensorStatus.RUNNING),
        ("gone_runs", dg.DefaultSensorStatus.RUNNING),
    }


def test_the_code_location_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEI_CONFIG", str(CHECKOUT / "config"))
    dg.Definitions.validate_loadable(defs())
