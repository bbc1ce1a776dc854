"""A night that really ran: what each asset tells, what each check says, and what doing it again does."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from asset_kit import AS_OF, AS_OF_MS, PROFILE, World, check_results, graph, metadata_of, write_config
from result_kit import read_results

from assets.run import run_job
from assets.run_lock import hold_night_lock, refuse_second_night
from assets.run_processes import lock_path
from mei_pipeline.cli.nightly import NightSummary, run_night
from mei_pipeline.config.promoted import read_promoted
from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError, Refused
from mei_pipeline.night.store import read_night_plan
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.home import reset_registry
from mei_pipeline.registry.records import AuditContext, Gate
from mei_pipeline.registry.store import add_verdict, config_history, history, lane_pointers, latest_proposals
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.results import chunk_path, sweep_folder, top, write_chunk

ARTEFACT = "path hash"
TABLE = f"{ARTEFACT} dagster/row_count dagster/column_schema preview"
METADATA = {
    "candles": f"{ARTEFACT} rows_added rows_revised rows_refused symbols findings left_out files",
    "funding": f"{TABLE} rows rows_added cadence_changes",
    "coverage": f"heat_map {TABLE} no_trade unknown",
    "night_plan": f"{TABLE} night profile as_of window holdout_start symbols_kept symbols_dropped "
    "candles combos_planned notes",
    "features": f"sample_plot {TABLE} columns windows bytes",
    "sweep_results": f"distribution axes heat_map pareto_plot {TABLE} sweep_id plan combos "
    "combos_per_s bar_steps_per_s device lost_money_pct without_trades pareto_front top_20",
    "walk_forward": f"equity_out_of_sample fold_plan {ARTEFACT} dagster/row_count folds ranks",
    "candidates": f"equity {TABLE} candidates rejected_before candidate_count",
    "gate_results": f"overfitting selection_bias {TABLE} gates passed trials effective_trials",
    "role_assignments": TABLE,
    "deployments": f"{TABLE} diff judged proposed outcome",
    "promoted": f"{TABLE} moved transition_ids lanes files_written",
    "night_report": f"{ARTEFACT} page report",
}
FIGURE = re.compile(r"(?<![\w.])-?\d[\d,]*\.?\d*(?:e-?\d+)?(?![\w.])")
DIGITS = 9
"""Most digits of a rounded figure: 1,234,567.89."""


def contents(settings: Settings) -> dict[str, str]:
    """Hash of every file that a night leaves."""
    found = {}
    for root in (settings.nights, settings.features, settings.sweeps, settings.lanes):
        for path in sorted(root.rglob("*")):
            if path.is_file() and "lock" not in path.name:
                found[str(path.relative_to(settings.home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def forget_lanes(settings: Settings) -> None:
    """Begin with an empty registry and empty lanes."""
    settings.home.joinpath("registry.db").unlink()
    shutil.rmtree(settings.lanes)
    reset_registry(settings, AuditContext(AS_OF_MS, "a person", "begin anew", "test"))


def test_a_lost_registry_stops_a_night_before_its_search(world: World) -> None:
    world.settings.home.joinpath("registry.db").unlink()
    before = contents(world.settings)
    with pytest.raises(DataError, match="the registry is lost"):
        run_night(world.settings, PROFILE, AS_OF)
    with graph(world) as (loaded, instance):
        planned = loaded.resolve_job_def("nightly").execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("night_plan")], raise_on_error=False
        )
    assert not planned.success
    assert contents(world.settings) == before
    assert not world.settings.home.joinpath("registry.db").exists()


@pytest.mark.parametrize("asset", METADATA)
def test_an_asset_tells_its_story(world: World, asset: str) -> None:
    with graph(world) as (_, instance):
        assert list(metadata_of(instance, asset)) == METADATA[asset].split()


def is_plot(value: dg.MetadataValue[Any]) -> bool:
    """Whether a person sees a picture."""
    return isinstance(value, dg.MarkdownMetadataValue) and "data:image" in (value.value or "")


def words_of(metadata: Mapping[str, dg.MetadataValue[Any]]) -> Iterator[tuple[str, str]]:
    """Label and text of everything that a person reads, without plots, schemas, times and paths, which are copied.

    The report is left out too: it is a file, shown word for word.
    """
    for label, value in metadata.items():
        match value:
            case dg.MarkdownMetadataValue() if label == "report" or is_plot(value):
                continue
            case dg.PathMetadataValue() | dg.TableSchemaMetadataValue() | dg.TimestampMetadataValue():
                continue
            case dg.JsonMetadataValue():
                yield label, json.dumps(value.value)
            case _:
                yield label, str(value.value)


def events_of(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, Mapping[str, dg.MetadataValue[Any]]]]:
    """Asset, or asset and check, and metadata of everything that a run told."""
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            yield event.asset_key.to_user_string(), event.step_materialization_data.materialization.metadata
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            data = event.asset_check_evaluation_data
            yield f"{data.asset_key.to_user_string()}: {data.check_name}", data.metadata


def unrounded(text: str) -> list[str]:
    """Figures with a point and more digits than a person reads."""
    figures = [found[0] for found in FIGURE.finditer(text) if "." in found[0]]
    return [each for each in figures if sum(map(str.isdigit, each.partition("e")[0])) > DIGITS]


def test_what_a_run_tells_can_be_read(world: World) -> None:
    """Plots come first, figures are rounded, ids are short, columns are described."""
    assets = set()
    with graph(world) as (_, instance):
        runs = (world.summary.ingested.run_id, world.summary.run_id)
        told = [found for run in runs for found in events_of(instance, run)]
    for where, metadata in told:
        assets.add(where.partition(":")[0])
        plots = [is_plot(value) for value in metadata.values()]
        assert plots == sorted(plots, reverse=True), where
        for label, text in words_of(metadata):
            assert not re.search(r"[0-9a-f]{17,}", text), f"{where}: {label}: {text}"
            assert not unrounded(text), f"{where}: {label}: {unrounded(text)}"
        for value in metadata.values():
            if isinstance(value, dg.TableSchemaMetadataValue):
                assert all(column.description for column in value.schema.columns), where
    assert assets == set(METADATA)


def test_every_check_of_a_night_has_a_result(world: World) -> None:
    with graph(world) as (loaded, instance):
        found = check_results(instance, world.summary.ingested.run_id) | check_results(instance, world.summary.run_id)
        meant = {(key.asset_key.to_user_string(), key.name) for key in loaded.resolve_asset_graph().asset_check_keys}
    assert set(found) == {key for key in meant if not key[0].startswith("lane")}
    # The market ended long ago; everything else about it is as it should be.
    assert [key for key, passed in found.items() if not passed] == [("coverage", "fresh")]


def test_one_run_fills_every_partition_up_to_the_current_month(world: World) -> None:
    with graph(world) as (loaded, instance):
        filled = instance.get_materialized_partitions(dg.AssetKey("candles"))
        partitions = loaded.resolve_asset_graph().get(dg.AssetKey("candles")).partitions_def
        runs = instance.get_runs(dg.RunsFilter(job_name="ingest"))
    assert partitions is not None
    assert filled == set(partitions.get_partition_keys())
    assert len(runs) == 1


def test_the_summary_is_what_the_night_did(world: World) -> None:
    told = world.summary.as_dict()
    assert {name: told[name] for name in ("candles", "symbols", "combos", "candidates", "passed")} == {
        "candles": 90 * 24 * 3,
        "symbols": 3,
        "combos": 12,
        "candidates": 3,
        "passed": 3,
    }
    assert told["ingested"] == {"added": 90 * 24 * 3, "revised": 0, "refused": 0, "left_out": ()}
    held = {pointer.lane: pointer.config_id for pointer in lane_pointers(open_registry(world.settings.registry))}
    assert {item["lane"]: item["config_id"] for item in told["promoted"]} == held
    assert set(held) == {"paper1", "paper2"}


def test_names_of_exchanges_are_deployed_in_a_home_whose_path_is_a_pattern(
    first_night: tuple[Path, NightSummary],
) -> None:
    home, summary = first_night
    assert "[" in home.name
    assert not (home.parent / "person").exists()
    for item in summary.promoted:
        resolved, _ = read_promoted(home / "lanes" / item.lane / "configs" / f"{item.config_id}.yaml")
        assert resolved.symbols == ("AAA/USDT:USDT", "BBB/USDT:USDT", "NO")
    (link,) = (home.parent / "cache" / "homes").iterdir()
    assert link.resolve() == home / "dagster"
    assert (home / "dagster" / "history" / "runs.db").exists()


@pytest.mark.long
def test_the_same_night_again_changes_nothing(world: World) -> None:
    registry = open_registry(world.settings.registry)
    before, moves = contents(world.settings), history(registry)
    again = run_night(world.settings, PROFILE, "last")
    assert again.as_of_ms == AS_OF_MS  # the last bar that all symbols have
    assert again.night == world.summary.night
    assert again.promoted == ()
    assert {lane.reason[:8] for lane in again.lanes} == {"nothing,"}
    assert again.ingested.added == 0
    with graph(world) as (_, instance):
        run = instance.get_run_by_id(again.run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS  # a night that deploys nothing is green
        assert all(check_results(instance, again.run_id).values())
    after = contents(world.settings)
    # The lanes have holders now, which is another decision, and these are replayed on the columns that they read.
    told = ("roles.json", "incumbents.json", "report.md", "report.html")
    decided = {path: digest for path, digest in before.items() if not path.endswith(told)}
    assert len(decided) == len(before) - len(told)
    assert {path: after[path] for path in decided} == decided
    assert {path.split("/")[0] for path in after.keys() - before.keys()} <= {"features"}
    assert history(registry) == moves


@pytest.mark.long
def test_a_night_whose_finalists_all_fall_is_green(world: World) -> None:
    write_config(world.settings.config, min_sharpe=20.0)
    again = run_night(world.settings, PROFILE, AS_OF)
    assert again.promoted == ()
    assert {candidate.passed for candidate in again.candidates} == {False}
    with graph(world) as (_, instance):
        run = instance.get_run_by_id(again.run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert all(check_results(instance, again.run_id).values())


def test_a_failed_night_leaves_the_previous_one_intact(world: World) -> None:
    before = contents(world.settings)
    with pytest.raises(DataError, match=r"Run `mei ingest`"):
        run_night(world.settings, PROFILE, "now")
    assert contents(world.settings) == before
    assert read_night_plan(world.settings).id == world.summary.night
    with graph(world) as (_, instance):
        newest = instance.get_runs(dg.RunsFilter(job_name="nightly"), limit=1)[0]
        assert newest.status == dg.DagsterRunStatus.FAILURE
        assert check_results(instance, newest.run_id) == {("night_plan", "tradable_universe"): False}
    assert (world.settings.logs / "alerts" / f"{newest.run_id}.json").exists()


def test_a_row_that_replay_contradicts_stops_the_night(world: World) -> None:
    plan = read_night_plan(world.settings).sweep
    folder = sweep_folder(world.settings.sweeps, plan)
    best = top(read_results(folder, plan), 1)["combo"][0]
    chunk = best // plan.chunk_combos
    rows = pl.read_parquet(chunk_path(folder, plan, chunk))
    nudged = pl.when(pl.col("combo") == best).then(pl.col("net_pnl_usd") * (1 + 2**-52)).otherwise("net_pnl_usd")
    write_chunk(folder, plan, chunk, rows.with_columns(nudged.alias("net_pnl_usd")))
    with pytest.raises(MeiError, match="replay_equal"):
        run_night(world.settings, PROFILE, AS_OF)
    with graph(world) as (_, instance):
        failed = instance.get_runs(dg.RunsFilter(job_name="nightly"), limit=1)[0]
        results = check_results(instance, failed.run_id)
    assert [key for key, passed in results.items() if not passed] == [("sweep_results", "replay_equal")]
    assert ("candidates", "unique_ids") not in results


def test_a_second_night_is_told_which_one_is_running(world: World) -> None:
    with (
        graph(world) as (_, instance),
        hold_night_lock(world.settings, instance, "0123"),
        pytest.raises(Busy, match="a nightly run is in progress, run 0123"),
    ):
        run_night(world.settings, PROFILE, AS_OF)


def test_a_night_of_the_daemon_is_not_disturbed(world: World) -> None:
    with graph(world) as (_, instance):
        instance.add_run(dg.DagsterRun("nightly", run_id="4567", status=dg.DagsterRunStatus.STARTED))
        with pytest.raises(Busy, match="a nightly run is in progress, run 4567"):
            run_night(world.settings, PROFILE, AS_OF)
        with pytest.raises(Busy, match="a nightly run is in progress, run 4567"):
            refuse_second_night(world.settings, instance, "another")
        refuse_second_night(world.settings, instance, "4567")


def test_of_two_nights_the_first_goes_on(world: World) -> None:
    with graph(world) as (_, instance):
        for run_id in ("older", "younger"):
            instance.add_run(dg.DagsterRun("nightly", run_id=run_id, status=dg.DagsterRunStatus.STARTED))
        refuse_second_night(world.settings, instance, "older")
        with pytest.raises(Busy, match="run older"):
            refuse_second_night(world.settings, instance, "younger")


def test_a_killed_night_is_closed_by_the_next_one(world: World) -> None:
    with graph(world) as (_, instance):
        instance.add_run(dg.DagsterRun("nightly", run_id="89ab", status=dg.DagsterRunStatus.STARTED))
        lock_path(world.settings, "89ab").touch()
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("gpu")
        assert storage.claim_concurrency_slot("gpu", "89ab", "sweep_results").is_claimed
        with hold_night_lock(world.settings, instance, "next"):
            closed = instance.get_run_by_id("89ab")
        assert closed is not None
        assert closed.status == dg.DagsterRunStatus.FAILURE
        assert storage.get_concurrency_info("gpu").active_run_ids == set()


@pytest.mark.long
def test_days_that_can_not_be_cut_into_folds_stop_the_night_before_its_search(world: World) -> None:
    before = contents(world.settings)
    folds = {"window": "anchored", "train_blocks": 4, "test_blocks": 1, "embargo_days": 5}
    write_config(world.settings.config, walk_forward=folds)
    with pytest.raises(ConfigError, match=r"selection\.walk_forward\.embargo_days: 5 days leave none of 4"):
        run_night(world.settings, PROFILE, AS_OF)
    assert contents(world.settings) == before


def test_an_unknown_profile_runs_nothing(world: World) -> None:
    with pytest.raises(ConfigError, match="smoke"):
        run_night(world.settings, "smok", AS_OF)


def test_promoted_refuses_by_itself_after_a_failed_check(world: World) -> None:
    forget_lanes(world.settings)
    registry = open_registry(world.settings.registry)
    plan = read_night_plan(world.settings)
    audit = AuditContext(AS_OF_MS, "a person", "looked again", "test")
    with graph(world) as (loaded, instance):
        nightly = loaded.resolve_job_def("nightly")
        nightly.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("deployments")])
        proposed = {proposal.config_id for proposal in latest_proposals(registry) if proposal.config_id}
        assert len(proposed) == 2
        for config_id in proposed:
            evidence_id = config_history(registry, config_id).evidence[0].evidence_id
            fallen = Gate("min_sharpe", 0.1, 1.0, "fail", "0.1 is below 1")
            add_verdict(registry, config_id, evidence_id, plan.selection.id, [fallen], night_id="later", audit=audit)
        both = [dg.AssetKey("deployments"), dg.AssetKey("promoted")]
        failed = nightly.execute_in_process(instance=instance, asset_selection=both, raise_on_error=False)
        assert not failed.success
        assert check_results(instance, failed.run_id) == {
            ("deployments", "config_valid"): True,
            ("deployments", "gates_passed"): False,
        }
        with pytest.raises(Refused, match="did not pass: min_sharpe"):
            run_job("hand_over", world.settings, world.config, instance)
    assert lane_pointers(registry) == ()
    assert list(world.settings.lanes.rglob("promoted.yaml")) == []


def test_a_proposal_judged_by_another_policy_is_refused(world: World) -> None:
    forget_lanes(world.settings)
    with graph(world) as (loaded, instance):
        nightly = loaded.resolve_job_def("nightly")
        nightly.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("deployments")])
    config = write_config(world.settings.config, min_sharpe=1.0)
    with graph(world) as (_, instance), pytest.raises(Refused, match="no verdict under policy"):
        run_job("hand_over", world.settings, config, instance)
    assert lane_pointers(open_registry(world.settings.registry)) == ()


def test_paths_that_are_told_exist(world: World) -> None:
    with graph(world) as (_, instance):
        told = {asset: Path(str(metadata_of(instance, asset)["path"].value)).name for asset in METADATA}
    assert told == {
        "candles": "candles",
        "funding": "funding",
        "coverage": "coverage.parquet",
        "night_plan": "plan.json",
        "features": "columns.npy",
        "sweep_results": sweep_folder(world.settings.sweeps, read_night_plan(world.settings).sweep).name,
        "walk_forward": "walk_forward.json",
        "candidates": "candidates.json",
        "gate_results": "gates.json",
        "role_assignments": "roles.json",
        "deployments": "lanes",
        "promoted": "lanes",
        "night_report": "report.md",
    }
