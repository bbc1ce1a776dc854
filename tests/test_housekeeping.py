"""What is forgotten, and what never is."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from market_kit import START_MS, SYMBOLS, VENUE, fill_lake, spec, write_config

from mei_pipeline import files
from mei_pipeline.config.models import Retention
from mei_pipeline.errors import DataError
from mei_pipeline.housekeeping import PruneReport, prune, retention_decisions
from mei_pipeline.night.data import build_night_features, load_night_bars
from mei_pipeline.night.plan import plan_night
from mei_pipeline.night.store import write_night_plan
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.records import AuditContext, Basis, Gate, GateVerdict
from mei_pipeline.registry.store import add_config, add_evidence, add_verdict
from mei_pipeline.selection.walk_forward import own_searches
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.results import chunk_path, sweep_folder, write_plan

DAY_MS = 86_400_000
NOW_MS = 1_735_689_600_000 + 400 * DAY_MS


def sweep(settings: Settings, number: int, days_ago: float) -> Path:
    """A sweep's folder with a result, written some days ago; its data is named by its number."""
    folder = settings.sweeps / f"{number:016x}"
    files.write_json(folder / "plan.json", {"data_hash": f"data {number}", "kernels": "rules"})
    files.write_bytes(folder / "chunks" / "000000.parquet", b"x" * 100)
    return aged(folder, days_ago)


def columns(settings: Settings, number: int, days_ago: float) -> Path:
    """Feature columns over the data of that number."""
    folder = settings.features / f"{number:016x}"
    files.write_json(folder / "features.json", {"data": f"data {number}", "kernels": "rules"})
    files.write_bytes(folder / "columns.npy", b"x" * 100)
    return aged(folder, days_ago)


def aged(folder: Path, days_ago: float) -> Path:
    seconds = (NOW_MS - days_ago * DAY_MS) / 1000
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (seconds, seconds))
    return folder


def resolved(balance_usd: float = 1000.0) -> ResolvedConfig:
    return resolve_config(
        read_catalog(),
        strategy="ema_cross",
        venue="test",
        interval="1h",
        symbols=["AAA"],
        initial_balance_usd=balance_usd,
        params={},
        market={},
    )


def remember(settings: Settings, number: int, *verdicts: GateVerdict, balance_usd: float = 1000.0) -> str:
    """Store a config whose evidence names the sweep and the data of that number, and verdicts on it, oldest first."""
    return judged(settings, f"{number:016x}" + "0" * 48, f"data {number}", verdicts, balance_usd)


def judged(
    settings: Settings, sweep_id: str, data: str, verdicts: Sequence[GateVerdict], balance_usd: float = 1000.0
) -> str:
    registry = open_registry(settings.registry)
    audit = AuditContext(NOW_MS, "a test", "why not", "test")
    config_id = add_config(registry, resolved(balance_usd), audit)
    found = add_evidence(registry, config_id, Basis("rules", {}, "test", data, 0), {"sweep_id": sweep_id}, audit)
    for night_id, verdict in enumerate(verdicts):
        gates = [Gate("luck", 1.0, 0.0, "pass", "more"), Gate("skill", 1.0, 2.0, verdict, "some")]
        add_verdict(registry, config_id, found, "policy", gates, night_id=str(night_id), audit=audit)
    return config_id


def names(root: Path) -> list[int]:
    return sorted(int(path.name, 16) for path in root.iterdir())


def test_the_newest_stay(mei_settings: Settings) -> None:
    for number in range(6):
        sweep(mei_settings, number, days_ago=10 + number)
        columns(mei_settings, number, days_ago=10 + number)
    done = prune(mei_settings, Retention(sweeps_keep=2), NOW_MS)
    assert names(mei_settings.sweeps) == names(mei_settings.features) == [0, 1]
    assert (len(done.sweeps), len(done.features)) == (4, 4)
    assert done.bytes > 8 * 100


@pytest.mark.parametrize("verdicts", [("pass",), ("fail", "pass"), ("pass", "fail")])
def test_what_the_evidence_of_a_config_names_that_ever_passed_stays(
    mei_settings: Settings, verdicts: tuple[GateVerdict, ...]
) -> None:
    for number in range(5):
        sweep(mei_settings, number, days_ago=10 + number)
        columns(mei_settings, number, days_ago=10 + number)
    remember(mei_settings, 4, *verdicts)
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert names(mei_settings.sweeps) == names(mei_settings.features) == [0, 4]


@pytest.mark.parametrize("verdicts", [(), ("fail",), ("no evidence", "fail")])
def test_a_candidate_that_never_passed_keeps_nothing(mei_settings: Settings, verdicts: tuple[GateVerdict, ...]) -> None:
    for number in range(5):
        sweep(mei_settings, number, days_ago=10 + number)
        columns(mei_settings, number, days_ago=10 + number)
        remember(mei_settings, number, *verdicts)
    told = {
        decision.sweep.folder.name: decision
        for decision in retention_decisions(mei_settings, Retention(sweeps_keep=2), NOW_MS)
    }
    assert [bool(told[f"{number:016x}"].kept) for number in range(5)] == [True, True, False, False, False]
    assert {len(decision.configs) for decision in told.values()} == {1}
    prune(mei_settings, Retention(sweeps_keep=2), NOW_MS)
    assert names(mei_settings.sweeps) == names(mei_settings.features) == [0, 1]


def test_one_of_two_that_passed_is_enough(mei_settings: Settings) -> None:
    for number in range(3):
        sweep(mei_settings, number, days_ago=10 + number)
    passed = remember(mei_settings, 2, "pass")
    failed = remember(mei_settings, 2, "fail", balance_usd=2000.0)
    [decision] = [
        decision for decision in retention_decisions(mei_settings, Retention(sweeps_keep=1), NOW_MS) if decision.configs
    ]
    assert (decision.kept, set(decision.configs)) == ("evidence of 1 config that passed", {passed, failed})


def test_the_current_night_stays(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    as_of_ms = 1_735_689_600_000 + 60 * DAY_MS
    plan = plan_night(mei_settings, write_config(tmp_path / "config"), "smoke", as_of_ms)
    write_night_plan(mei_settings, plan)
    bars = load_night_bars(mei_settings, plan)
    built = aged(build_night_features(mei_settings, plan, bars).folder, 90)
    current = mei_settings.sweeps / plan.sweep.id[:16]
    files.write_json(current / "plan.json", {"data_hash": plan.sweep.data_hash, "kernels": plan.sweep.kernels})
    aged(current, 90)
    sweep(mei_settings, 1, days_ago=10)
    sweep(mei_settings, 2, days_ago=11)
    done = prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert current.exists()
    assert built.exists()
    assert done.sweeps == (f"{2:016x}",)
    plan_path = mei_settings.nights / plan.id[:16] / "plan.json"
    stored = plan_path.read_bytes()
    plan_path.write_text('{"format": 2}')  # damaged: nothing tells which sweep is needed
    with pytest.raises(DataError, match="damaged plan of a nightly run"):
        prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert current.exists()
    plan_path.write_bytes(stored.replace(b'"format": 2', b'"format": 1'))  # of a version whose sweeps nobody can resume
    assert current.name in prune(mei_settings, Retention(sweeps_keep=1), NOW_MS).sweeps


def test_results_outside_the_home_stay_with_their_columns(mei_settings: Settings, tmp_path: Path) -> None:
    shared = mei_settings.model_copy(update={"sweeps_at": str(tmp_path / "shared")})
    for number in range(3):
        sweep(shared, number, days_ago=10 + number)
        columns(shared, number, days_ago=10 + number)
    assert prune(shared, Retention(sweeps_keep=1), NOW_MS) == PruneReport((), (), 0)
    assert names(shared.sweeps) == names(shared.features) == [0, 1, 2]


def test_what_was_written_today_stays(mei_settings: Settings) -> None:
    for number in range(3):
        sweep(mei_settings, number, days_ago=0.1 * number)
        columns(mei_settings, number + 10, days_ago=0.1)
    assert prune(mei_settings, Retention(sweeps_keep=1), NOW_MS) == PruneReport((), (), 0)


def test_a_sweep_that_is_running_stays(mei_settings: Settings) -> None:
    sweep(mei_settings, 0, days_ago=10)
    old = sweep(mei_settings, 1, days_ago=11)
    with files.locked(old / "lock", "a sweep is running"):
        aged(old, 11)
        assert prune(mei_settings, Retention(sweeps_keep=1), NOW_MS).sweeps == ()
    aged(old, 11)
    assert prune(mei_settings, Retention(sweeps_keep=1), NOW_MS).sweeps == (old.name,)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_columns_that_nobody_can_name_go(mei_settings: Settings, content: str) -> None:
    folder = columns(mei_settings, 3, days_ago=5)
    (folder / "features.json").write_text(content)
    aged(folder, 5)
    assert prune(mei_settings, Retention(sweeps_keep=5), NOW_MS).features == (folder.name,)


def test_a_removal_that_was_cut_off_is_finished(mei_settings: Settings) -> None:
    sweep(mei_settings, 0, days_ago=10)
    half = mei_settings.sweeps / f".{1:016x}.removed"
    (half / "chunks").mkdir(parents=True)
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert not half.exists()
    assert names(mei_settings.sweeps) == [0]


def test_nothing_to_do_in_an_empty_home(mei_settings: Settings) -> None:
    assert prune(mei_settings, Retention(sweeps_keep=1), NOW_MS) == PruneReport((), (), 0)


@pytest.fixture
def bars(mei_settings: Settings) -> Bars:
    return load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)


def planned(settings: Settings, bars: Bars, days: int, days_ago: float, *, chunks: int) -> tuple[SweepPlan, Path]:
    """A sweep over that many days, of whose three chunks some are there."""
    plan = make_plan(spec(), bars, START_MS, START_MS + days * DAY_MS)
    folder = sweep_folder(settings.sweeps, plan)
    write_plan(folder, plan)
    for index in range(chunks):
        files.write_bytes(chunk_path(folder, plan, index), b"x" * 100)
    return plan, aged(folder, days_ago)


def test_an_unfinished_sweep_stays_as_long_as_it_may_be_resumed(mei_settings: Settings, bars: Bars) -> None:
    _, young = planned(mei_settings, bars, 20, 13, chunks=2)
    _, old = planned(mei_settings, bars, 21, 15, chunks=2)
    _, done = planned(mei_settings, bars, 22, 13, chunks=3)
    _, newer = planned(mei_settings, bars, 23, 12, chunks=3)
    retention = Retention(sweeps_keep=1, unfinished_days=14)
    told = {decision.sweep.folder: decision.kept for decision in retention_decisions(mei_settings, retention, NOW_MS)}
    assert told == {
        newer: "among the newest 1",
        young: "may be resumed until 2026-02-06 00:00Z",
        done: "",
        old: "",
    }
    assert set(prune(mei_settings, retention, NOW_MS).sweeps) == {done.name, old.name}
    assert {path.name for path in mei_settings.sweeps.iterdir()} == {newer.name, young.name}


def test_an_unfinished_sweep_takes_no_place_of_a_finished_one(mei_settings: Settings, bars: Bars) -> None:
    planned(mei_settings, bars, 20, 2, chunks=1)
    planned(mei_settings, bars, 21, 3, chunks=0)
    _, done = planned(mei_settings, bars, 22, 20, chunks=3)
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert done.exists()


def test_what_evidence_names_stays_unfinished_or_not(mei_settings: Settings, bars: Bars) -> None:
    plan, folder = planned(mei_settings, bars, 20, 300, chunks=1)
    config_id = judged(mei_settings, plan.id, "data", ["pass"])
    [decision] = retention_decisions(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert (decision.kept, decision.configs) == ("evidence of 1 config that passed", (config_id,))
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert folder.exists()


def night_by_tpe(settings: Settings, bars: Bars, seed: int, days_ago: float) -> tuple[SweepPlan, list[Path]]:
    """The search of a night by `tpe` and those of its folds, all done; the search ran last."""
    changes = {"method": "tpe", "budget": 12, "seed": seed, "chunk_combos": 1}
    plan = make_plan(spec(**changes), bars, START_MS, START_MS + 48 * DAY_MS)
    searches = [*own_searches(plan, [(0, 4), (0, 5), (0, 16)])]
    folders = []
    for place, search in enumerate(searches):
        folder = sweep_folder(settings.sweeps, search)
        write_plan(folder, search)
        for index in range(search.chunks):
            files.write_bytes(chunk_path(folder, search, index), b"x")
        folders.append(aged(folder, days_ago - 0.01 * place))
    assert searches[-1] == plan
    return plan, folders


def test_the_searches_of_a_nights_folds_count_as_one(mei_settings: Settings, bars: Bars) -> None:
    nights = [night_by_tpe(mei_settings, bars, seed, 10 + seed)[1] for seed in range(3)]
    _, grid = planned(mei_settings, bars, 20, 12.5, chunks=3)
    done = prune(mei_settings, Retention(sweeps_keep=3), NOW_MS)
    assert set(done.sweeps) == {grid.name}
    done = prune(mei_settings, Retention(sweeps_keep=2), NOW_MS)
    assert set(done.sweeps) == {folder.name for folder in nights[2]}
    assert all(folder.exists() for folder in (*nights[0], *nights[1]))


def test_a_search_that_was_run_again_takes_its_folds_along(mei_settings: Settings, bars: Bars) -> None:
    _, first = night_by_tpe(mei_settings, bars, 1, 20)
    _, second = night_by_tpe(mei_settings, bars, 2, 10)
    aged(first[-1], 5)
    prune(mei_settings, Retention(sweeps_keep=2), NOW_MS)
    assert all(folder.exists() for folder in (*first, *second))
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert [folder.exists() for folder in (*first, *second)] == [True] * 3 + [False] * 3


def test_of_a_night_that_passed_the_folds_go(mei_settings: Settings, bars: Bars) -> None:
    """Evidence names the night's search; the choices of its folds are numbers of combos, whoever searched."""
    plan, folders = night_by_tpe(mei_settings, bars, 1, 20)
    judged(mei_settings, plan.id, "data", ["pass"])
    sweep(mei_settings, 1, days_ago=5)
    prune(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    assert [folder.exists() for folder in folders] == [False, False, True]


def test_the_folds_of_the_current_night_stay(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    config = write_config(tmp_path / "config")
    planned_night = plan_night(mei_settings, config, "smoke", START_MS + 60 * DAY_MS)
    found = planned_night.sweep
    plan, folders = night_by_tpe(mei_settings, load_night_bars(mei_settings, planned_night), 7, 20)
    assert plan.data_hash == found.data_hash
    write_night_plan(mei_settings, replace(planned_night, sweep=plan))
    sweep(mei_settings, 1, days_ago=5)
    told = {
        decision.sweep.folder: decision.kept
        for decision in retention_decisions(mei_settings, Retention(sweeps_keep=1), NOW_MS)
    }
    assert [told[folder] for folder in folders] == ["current nightly run"] * 3


def test_columns_of_a_sweep_that_is_running_stay(mei_settings: Settings) -> None:
    sweep(mei_settings, 0, days_ago=10)
    old, own = sweep(mei_settings, 1, days_ago=40), columns(mei_settings, 1, days_ago=40)
    with files.locked(old / "lock", "a sweep is running"):
        assert prune(mei_settings, Retention(sweeps_keep=1), NOW_MS) == PruneReport((), (), 0)
    assert own.exists()


def test_looking_does_not_make_a_sweep_younger(mei_settings: Settings) -> None:
    old = sweep(mei_settings, 1, days_ago=40)
    (old / "lock.holder").write_text("killed, process 1")
    before = retention_decisions(mei_settings, Retention(), NOW_MS)
    assert (before[0].sweep.holder, before[0].sweep.written_ms) == ("", NOW_MS - 40 * DAY_MS)
    assert retention_decisions(mei_settings, Retention(), NOW_MS) == before
