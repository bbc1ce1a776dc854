"""The asset of repeated days: what a run of `replay_daily` says, and which days the schedule asks for."""

from datetime import UTC, datetime
from math import inf
from pathlib import Path

import dagster as dg
import pytest
from asset_kit import check_results, metadata_of, write_config
from session_kit import CONFIG, MARKET, START_MS, feed_of

from assets.graph import definitions
from assets.jobs import REPLAY
from assets.lane_days import partitions_to_repeat
from assets.partitions import RANGE_END, RANGE_START
from assets.run import open_instance
from live.bench_home import home_settings, make_lane_home
from live.running import LaneOptions, Watch
from live.session import run_lane
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.load import Configuration
from mei_pipeline.settings import Settings

LANE = "paper1"
FIRST, TO_MS = START_MS + 2 * DAY_MS, START_MS + 4 * DAY_MS


@pytest.fixture
def traded(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Configuration]:
    """A home whose lane has traded for two days."""
    settings = home_settings(home, home / "cache")
    make_lane_home(settings, MARKET, CONFIG, lane=LANE)
    config = write_config(settings.config)
    monkeypatch.setenv("MEI_HOME", str(home))
    monkeypatch.setenv("MEI_CONFIG", str(settings.config))
    run_lane(settings, LaneOptions(LANE, speed=inf, from_ms=FIRST), Watch(), feed_of(settings, TO_MS, 1000))
    return settings, config


def requests(loaded: dg.Definitions, instance: dg.DagsterInstance) -> list[str | None]:
    """Partitions that the schedule asks for."""
    context = dg.build_schedule_context(
        instance, scheduled_execution_time=datetime(2026, 12, 1, tzinfo=UTC), repository_def=loaded.get_repository_def()
    )
    asked = loaded.resolve_schedule_def("replay_schedule").evaluate_tick(context).run_requests
    return [request.partition_key for request in asked or ()]


@pytest.mark.filterwarnings("ignore:Non-compliant tag keys")  # Dagster's own tags of partitions of two dimensions
def test_a_day_is_repeated_and_no_day_is_asked_for_twice(traded: tuple[Settings, Configuration]) -> None:
    settings, config = traded
    loaded = definitions(config)
    assert partitions_to_repeat(settings, config) == {LANE: ["2025-01-03|paper1", "2025-01-04|paper1"]}
    with open_instance(settings, config) as instance:
        assert requests(loaded, instance) == ["2025-01-03|paper1", "2025-01-04|paper1"]

        job = loaded.resolve_job_def(REPLAY)
        run = job.execute_in_process(instance=instance, partition_key="2025-01-03|paper1")
        assert check_results(instance, run.run_id) == {("lane_day", "replay_equivalence"): True}
        found = metadata_of(instance, "lane_day")
        assert (found["verdict"].value, found["steps"].value) == ("equal", 24)
        assert (settings.lanes / LANE / "days" / "2025-01-03.json").exists()
        assert requests(loaded, instance) == ["2025-01-04|paper1"]


@pytest.mark.filterwarnings("ignore:Non-compliant tag keys")
def test_a_lane_that_never_ran_is_no_failure(traded: tuple[Settings, Configuration]) -> None:
    settings, config = traded
    with open_instance(settings, config) as instance:
        job = definitions(config).resolve_job_def(REPLAY)
        run = job.execute_in_process(instance=instance, partition_key="2025-01-03|paper2")
        assert check_results(instance, run.run_id) == {("lane_day", "replay_equivalence"): True}
        assert metadata_of(instance, "lane_day")["verdict"].value == "no evidence"


@pytest.mark.filterwarnings("ignore:Non-compliant tag keys")
def test_a_backfill_of_all_days_is_one_run_over_those_with_steps(traded: tuple[Settings, Configuration]) -> None:
    settings, config = traded
    tags = {RANGE_START: "2025-01-01|paper1", RANGE_END: "2025-02-28|paper2"}
    with open_instance(settings, config) as instance:
        run = definitions(config).resolve_job_def(REPLAY).execute_in_process(instance=instance, tags=tags)
        assert check_results(instance, run.run_id) == {("lane_day", "replay_equivalence"): True}
        found = metadata_of(instance, "lane_day")
        assert (found["verdict"].value, found["days"].value, found["steps"].value) == ("equal", 2, 48)
        assert len(instance.get_materialized_partitions(dg.AssetKey("lane_day"))) == 2 * 59


@pytest.mark.parametrize("left", [b"", b'{"steps": 2', b"\xff\x00", b"[]", b"{}", b'{"steps": null, "unchecked": ""}'])
def test_a_day_with_a_damaged_result_is_repeated(traded: tuple[Settings, Configuration], left: bytes) -> None:
    settings, config = traded
    folder = settings.lanes / LANE / "days"
    folder.mkdir()
    (folder / "2025-01-03.json").write_bytes(b'{"steps": 24, "unchecked": []}')
    assert partitions_to_repeat(settings, config) == {LANE: ["2025-01-04|paper1"]}
    (folder / "2025-01-03.json").write_bytes(left)
    (folder / "2025-01-04.json").write_bytes(b'{"steps": 24, "unchecked": []}')
    assert partitions_to_repeat(settings, config) == {LANE: ["2025-01-03|paper1"]}
